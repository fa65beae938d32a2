//! Query strings as the OpenAPI document describes them. An empty value is an absent one.

use utoipa::IntoParams;

/// A part of a list that says how long it is.
#[derive(Clone, Copy, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// How many are passed over; default 0.
    pub offset: Option<u64>,
    /// How many are shown at the most; default 50.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u64>,
}

/// `GET /keys`: 100 a page.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct KeyParams {
    /// How many are passed over; default 0.
    pub offset: Option<u64>,
    /// Whether disabled keys are shown too.
    pub include_disabled: Option<bool>,
    /// Whether expired keys are shown too.
    pub include_expired: Option<bool>,
    /// Of which workspace; default is the default one.
    #[param(format = "uuid")]
    pub workspace_id: Option<String>,
}

/// `GET /audit`.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditParams {
    /// Only of this workspace.
    #[param(format = "uuid")]
    pub workspace_id: Option<String>,
    /// Only what was done to what has this public id.
    pub target: Option<String>,
    /// Only this action (`key.update`), or all of a kind (`key`).
    pub action: Option<String>,
    /// How many are passed over; default 0.
    pub offset: Option<u64>,
    /// How many are shown at the most; default 50.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u64>,
}

/// `GET /activity`.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ActivityParams {
    /// `YYYY-MM-DD`, UTC, one of the last 30 completed days; default is all of them.
    #[param(format = "date")]
    pub date: Option<String>,
    /// Only of this key.
    #[param(pattern = "^[0-9a-f]{64}$")]
    pub api_key_hash: Option<String>,
    /// Only of the keys that this member created.
    pub user_id: Option<String>,
    /// Only of this workspace.
    #[param(format = "uuid")]
    pub workspace_id: Option<String>,
    /// `workspace` or, ours, `key`: one row each.
    #[param(pattern = "^(workspace|key)$")]
    pub group_by: Option<String>,
    /// Whether today is shown too. Ours.
    pub include_today: Option<bool>,
}

/// `GET /models` and `GET /models/count`. Lists have commas between.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ModelParams {
    /// Words that the id or name must hold, in any case.
    pub q: Option<String>,
    /// All of these parameters.
    pub supported_parameters: Option<String>,
    /// All of these modalities go in.
    pub input_modalities: Option<String>,
    /// One of these modalities comes out; default `text`; `all` asks nothing.
    pub output_modalities: Option<String>,
    /// At least so many tokens of context.
    pub context: Option<u64>,
    /// At least so many USD per million prompt tokens.
    #[param(minimum = 0)]
    pub min_price: Option<f64>,
    /// At most so many USD per million prompt tokens.
    #[param(minimum = 0)]
    pub max_price: Option<f64>,
    /// At least so many USD per million completion tokens.
    #[param(minimum = 0)]
    pub min_output_price: Option<f64>,
    /// At most so many USD per million completion tokens.
    #[param(minimum = 0)]
    pub max_output_price: Option<f64>,
    /// The id begins with one of these.
    pub model_authors: Option<String>,
    /// One of these providers can be called.
    pub providers: Option<String>,
    /// `newest`, `pricing-low-to-high`, `pricing-high-to-low` or `context-high-to-low`; other ranks are not known.
    #[param(pattern = "^(newest|pricing-low-to-high|pricing-high-to-low|context-high-to-low)$")]
    pub sort: Option<String>,
}

/// A part of the models; all of them where neither is given.
#[derive(Clone, Copy, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ModelPageParams {
    /// How many are passed over.
    pub offset: Option<u64>,
    /// How many are shown at the most, up to 1,000; default 500.
    #[param(minimum = 1)]
    pub limit: Option<u64>,
}

/// `GET /generation`.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct GenerationParams {
    /// `X-Generation-Id` of the answer, and `id` in it.
    #[param(min_length = 1)]
    pub id: String,
}
