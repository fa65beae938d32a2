//! What an app asks of `/auth`: in the query of the page, and again in each of its forms.

use std::fmt::Write as _;

use form_urlencoded::Serializer;
use serde_json::value::RawValue;
use tollgate_app::oauth::CodeRequest;
use tollgate_wire::CreateAuthCode;

use super::oauth::code_request;
use crate::error::ApiError;
use crate::extract::Pairs;
use crate::html::Text;

/// The limit, which a person may type.
pub const LIMIT: &str = "limit";
/// When it resets, which a person may choose.
pub const RESET: &str = "usage_limit_type";

/// All that an app may ask for; the rest of a query is ignored. The names are those of `POST /auth/keys/code`.
const NAMES: [&str; 8] = [
    "callback_url",
    "code_challenge",
    "code_challenge_method",
    "key_label",
    "expires_at",
    "workspace_id",
    LIMIT,
    RESET,
];

/// What the callback is given by us, and must not say by itself: an app could take it for ours.
const OURS: [&str; 2] = ["code", "error"];

/// What an app asks for, word for word and as far as it was understood.
pub struct Ask {
    pairs: Vec<(&'static str, String)>,
    request: CodeRequest,
}

impl Ask {
    /// Reads all of it.
    pub fn read(pairs: &Pairs) -> Result<Self, ApiError> {
        Self::read_all_but(pairs, None)
    }

    /// Reads it, and leaves alone the limit, which a person may have typed.
    pub fn read_untyped(pairs: &Pairs) -> Result<Self, ApiError> {
        Self::read_all_but(pairs, Some(LIMIT))
    }

    fn read_all_but(pairs: &Pairs, left_out: Option<&str>) -> Result<Self, ApiError> {
        let text = |name: &str| pairs.text(name).filter(|_| left_out != Some(name)).map(str::to_owned);
        let number = |text: String| {
            let text = text.trim().trim_start_matches('$').to_owned();
            let raw = RawValue::from_string(text).map_err(|_| ApiError::bad_request("`limit` must be a number"))?;
            Ok::<_, ApiError>(raw.into())
        };
        let request = code_request(&CreateAuthCode {
            callback_url: text("callback_url").unwrap_or_default(),
            code_challenge: text("code_challenge"),
            code_challenge_method: text("code_challenge_method"),
            expires_at: text("expires_at"),
            key_label: text("key_label"),
            limit: text(LIMIT).map(number).transpose()?,
            usage_limit_type: text(RESET),
            workspace_id: text("workspace_id"),
        })?;
        let query = form_urlencoded::parse(request.callback.query().as_bytes());
        if let Some((name, _)) = query.into_iter().find(|(name, _)| OURS.contains(&name.as_ref())) {
            return Err(ApiError::bad_request(format!("`callback_url` must not hold the parameter `{name}`")));
        }
        let pairs = NAMES.into_iter().filter_map(|name| Some((name, pairs.text(name)?.to_owned())));
        Ok(Self { pairs: pairs.collect(), request })
    }

    /// What was understood.
    pub const fn request(&self) -> &CodeRequest {
        &self.request
    }

    /// It as a query.
    pub fn query(&self) -> String {
        Serializer::new(String::new()).extend_pairs(&self.pairs).finish()
    }

    /// It as hidden fields of a form, but for these names.
    pub fn hidden(&self, left_out: &[&str]) -> String {
        let kept = self.pairs.iter().filter(|(name, _)| !left_out.contains(name));
        kept.fold(String::new(), |mut html, (name, text)| {
            // Writing to a string cannot fail.
            let _ = write!(html, "<input type=\"hidden\" name=\"{name}\" value=\"{}\">", Text(text));
            html
        })
    }
}
