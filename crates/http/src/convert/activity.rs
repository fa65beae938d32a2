//! Activity.

use tollgate_app::activity::{ActivityRequest, GroupBy};
use tollgate_domain::KeyHash;
use tollgate_domain::time::{day_number, day_text};
use tollgate_store::ActivityRow;
use tollgate_wire::{ActivityItem, Amount};
use uuid::Uuid;

use crate::error::ApiError;
use crate::extract::QueryPairs;

/// The name space of endpoints' ids: one is derived from the model and the provider.
const ENDPOINTS: Uuid = Uuid::from_u128(0x746f_6c6c_6761_7465_5f65_6e64_706f_696e);

/// What a query string asks for.
pub fn activity_request(query: &QueryPairs) -> Result<ActivityRequest, ApiError> {
    let day = match query.text("date") {
        None => None,
        Some(text) => Some(day_number(text).ok_or_else(|| ApiError::bad_request("`date` must be YYYY-MM-DD"))?),
    };
    let key = match query.text("api_key_hash") {
        None => None,
        Some(text) => {
            let wrong = || ApiError::bad_request("`api_key_hash` must be 64 lowercase hex digits");
            Some(KeyHash::parse(text).ok_or_else(wrong)?)
        }
    };
    let group_by = match query.text("group_by") {
        None => GroupBy::Nothing,
        Some("workspace") => GroupBy::Workspace,
        Some("key") => GroupBy::Key,
        Some(_) => return Err(ApiError::bad_request("`group_by` must be workspace or key")),
    };
    Ok(ActivityRequest {
        day,
        include_today: query.flag("include_today")?,
        key,
        member: query.text("user_id").map(str::to_owned),
        workspace: query.uuid("workspace_id")?,
        group_by,
    })
}

/// A row.
pub fn activity_item(row: ActivityRow) -> ActivityItem {
    let endpoint = format!("{}\n{}", row.model, row.provider);
    ActivityItem {
        date: day_text(row.day),
        model_permaslug: row.model.clone(),
        endpoint_id: Uuid::new_v5(&ENDPOINTS, endpoint.as_bytes()).to_string(),
        model: row.model,
        provider_name: row.provider,
        usage: Amount(row.activity.credits),
        byok_usage_inference: Amount(row.activity.byok),
        requests: row.activity.requests,
        prompt_tokens: row.activity.prompt,
        cached_tokens: row.activity.cached,
        completion_tokens: row.activity.completion,
        reasoning_tokens: row.activity.reasoning,
        workspace_id: row.workspace.map(|uuid| uuid.to_string()),
        api_key_hash: row.key.map(|hash| hash.to_string()),
    }
}
