//! Provider credentials.

use tollgate_app::App;
use tollgate_domain::KeyHash;
use tollgate_domain::credential::TermsChange;
use tollgate_domain::guardrail::Region;
use tollgate_store::CredentialView;
use tollgate_wire::{ByokKey, ByokTerms};

use crate::error::ApiError;

/// What a body asks for, but for the secret and the place.
pub fn terms(body: &ByokTerms) -> Result<TermsChange, ApiError> {
    let region = |word: &String| {
        Region::from_word(word)
            .ok_or_else(|| ApiError::bad_request("`declared_region` must be global, europe, us or null"))
    };
    let keys = body.allowed_api_key_hashes.as_ref();
    let region = body.declared_region.as_ref().map(|given| given.as_ref().map(region).transpose()).transpose()?;
    Ok(TermsChange {
        name: body.name.clone(),
        disabled: body.disabled,
        is_fallback: body.is_fallback,
        is_required: body.is_required,
        is_byok_only: body.is_byok_only,
        allowed_keys: keys.map(|given| given.as_deref().map(hashes).transpose()).transpose()?,
        allowed_models: body.allowed_models.clone(),
        allowed_users: body.allowed_user_ids.clone(),
        region,
        zero_data_retention: body.declared_zdr,
    })
}

fn hashes(texts: &[String]) -> Result<Vec<KeyHash>, ApiError> {
    let hash = |text: &String| {
        KeyHash::parse(text).ok_or_else(|| ApiError::bad_request(format!("No key has the hash {text}")))
    };
    texts.iter().map(hash).collect()
}

/// A provider credential.
pub fn credential(app: &App, view: CredentialView) -> ByokKey {
    let CredentialView { credential, workspace } = view;
    let declared = credential.terms.declared.or(app.declared(&credential.provider));
    let terms = credential.terms;
    ByokKey {
        id: credential.uuid.to_string(),
        provider: credential.provider,
        label: credential.label,
        name: terms.name,
        workspace_id: workspace.map(|uuid| uuid.to_string()),
        disabled: terms.disabled,
        is_fallback: terms.is_fallback,
        is_required: terms.is_required,
        is_byok_only: terms.is_byok_only,
        sort_order: credential.sort_order,
        allowed_api_key_hashes: terms.allowed_keys.map(|keys| keys.iter().map(KeyHash::to_string).collect()),
        allowed_models: terms.allowed_models,
        allowed_user_ids: terms.allowed_users,
        declared_region: declared.region.map(|region| region.as_str().to_owned()),
        declared_zdr: declared.zero_data_retention,
        created_at: credential.created_at.to_string(),
    }
}
