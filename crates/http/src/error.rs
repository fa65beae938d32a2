//! The only place that knows status codes and the error envelope (contract sections 1.2, 2.3 and 16).
//!
//! 5xx only for our own faults and the provider's: clients retry them for an hour.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use tollgate_app::activity::ActivityError;
use tollgate_app::credentials::CredentialError;
use tollgate_app::credits::TopUpError;
use tollgate_app::guardrails::GuardrailError;
use tollgate_app::keys::{CreateKeyError, RotateKeyError, UpdateKeyError};
use tollgate_app::members::MemberError;
use tollgate_app::oauth::{CreateCodeError, ExchangeCodeError};
use tollgate_app::sessions::SignInError;
use tollgate_app::workspaces::WorkspaceError;
use tollgate_app::{AdjustError, RandomError};
use tollgate_domain::filter::{Blocked, PatternRefused};
use tollgate_domain::guardrail::IncompleteBudget;
use tollgate_domain::ledger::{Budget, BudgetScope, Refusal, RefusalReason};
use tollgate_domain::oauth::ExchangeRefused;
use tollgate_domain::time::{LimitReset, WindowKind};
use tollgate_domain::workspace::NotDecreasing;
use tollgate_domain::{Timestamp, Usd};
use tollgate_gateway::{CallLimit, ChatError, FailureKind, ProviderFailure, TooSoon};
use tollgate_store::{AdjustRefused, CredentialRefused, GuardrailRefused, MemberRefused, StoreError, WorkspaceRefused};
use tollgate_wire::{Amount, ErrorBody, ErrorEnvelope};

use crate::guard::TooManyRequests;

/// Seconds after which a refused call is worth another try.
const RETRY_AFTER_SECONDS: &str = "1";
/// `metadata.error_type` of a 429.
const RATE_LIMITED: &str = "rate_limit_exceeded";
/// What a limit on requests is, what is left of it, and when there is more: epoch milliseconds.
pub const RATE_LIMIT_HEADERS: [&str; 3] = ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"];

/// An answer that is an error.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    metadata: Option<Value>,
    /// `Retry-After`, and the limit that was met.
    headers: Vec<(&'static str, String)>,
    /// What is logged, once, with the request's id.
    cause: Option<Cause>,
}

/// The chain of errors behind an answer.
#[derive(Clone, Debug)]
pub struct Cause(pub Arc<dyn std::error::Error + Send + Sync>);

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), metadata: None, headers: Vec::new(), cause: None }
    }

    /// 400: the request makes no sense, and why.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 403: the key calls models.
    pub fn only_management_keys() -> Self {
        Self::forbidden("Only management keys can perform this operation")
    }

    /// 409: it cannot be done beside something that was done, or is being done.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 400: a pattern that may not be searched for (contract section 10).
    pub fn invalid_regex_pattern(refused: &PatternRefused) -> Self {
        let metadata = json!({"error_type": "invalid_request", "reason": "invalid_regex_pattern"});
        Self { metadata: Some(metadata), ..Self::bad_request(format!("`pattern`: invalid_regex_pattern: {refused}")) }
    }

    /// What is said of it.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What stands above it on a page.
    pub fn headline(&self) -> &'static str {
        match self.status {
            StatusCode::BAD_REQUEST => "This request cannot be understood",
            StatusCode::FORBIDDEN => "This is not allowed",
            StatusCode::MISDIRECTED_REQUEST => "This is not the address of this page",
            status if status.is_server_error() => "Something is wrong with this server",
            _ => "This cannot be done",
        }
    }

    /// The same, with the place in the request that it is about.
    #[must_use]
    pub fn within(self, place: &str) -> Self {
        Self { message: format!("{place}: {}", self.message), ..self }
    }

    /// The same, worth another try after so many seconds.
    fn after(mut self, seconds: impl Into<String>) -> Self {
        self.headers.push(("Retry-After", seconds.into()));
        self
    }

    /// 401: there is no credential.
    pub fn missing_credential() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Missing Authentication header")
    }

    /// 401: the credential is of no use here; why is nobody's business.
    pub fn unknown_credential() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "User not found.")
    }

    /// 401: a management key is needed.
    pub fn not_a_management_key() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Invalid management key")
    }

    /// 403: not yours.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
    }

    /// 408: the client was too slow.
    pub fn timed_out() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "Operation timed out. Please try again later.")
    }

    /// 413: the body is larger than `limit` bytes.
    pub fn body_too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("Request payload too large: the most is {limit} bytes"))
    }

    /// 415: the body is compressed.
    pub fn encoded_body() -> Self {
        let message = "Bodies with Content-Encoding are not accepted: send plain JSON";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    /// 421: a page was asked for by a name that is not the server's own.
    pub fn misdirected(url: &str) -> Self {
        let message =
            format!("This page is served at {url} and under no other name. The setting is `server.public_url`");
        Self::new(StatusCode::MISDIRECTED_REQUEST, message)
    }

    /// 431: too many headers, or too large.
    pub fn header_flood() -> Self {
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Too many request headers, or too large ones")
    }

    /// 429: too many wrong credentials came from where this one came from.
    pub fn too_many_failures(wait: Duration) -> Self {
        let seconds = seconds(wait);
        let error = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            format!(
                "Rate limit exceeded: too many wrong credentials came from your address. Retry in {seconds} s with a \
                 valid one, which is never refused for its address"
            ),
        );
        let metadata = json!({"error_type": RATE_LIMITED, "limit_source": "tollgate_failed_authentications"});
        Self { metadata: Some(metadata), ..error }.after(seconds.to_string())
    }

    /// 429: a management key asks too often.
    pub fn too_many_requests(refused: TooManyRequests, now: Timestamp) -> Self {
        let TooManyRequests { limit, wait } = refused;
        Self::too_soon("Rate limit exceeded", "tollgate_management_requests_per_minute", limit, wait, now)
    }

    /// 429: a limit on how often something may be asked (contract section 16, line 15). Nothing of it is left; the reset
    /// is when something is again.
    fn too_soon(message: impl Into<String>, source: &str, limit: u32, wait: Duration, now: Timestamp) -> Self {
        let reset = now.plus_micros(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX));
        let values =
            [limit.to_string(), "0".to_owned(), reset.micros().saturating_add(999).div_euclid(1_000).to_string()];
        let headers: Vec<(&str, String)> = RATE_LIMIT_HEADERS.into_iter().zip(values).collect();
        let shown: serde_json::Map<String, Value> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        Self {
            metadata: Some(json!({
                "error_type": RATE_LIMITED,
                "limit_source": source,
                "provider_name": null,
                "headers": shown,
            })),
            headers,
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, message)
        }
        .after(seconds(wait).to_string())
    }

    /// 500: our bug.
    pub fn internal(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        let error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
        Self { cause: Some(Cause(Arc::new(cause))), ..error }
    }

    /// 500 where an answer cannot be written as JSON.
    pub fn unwritten() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    }

    /// 500 after a panic, which was logged where it happened.
    pub fn panicked() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    }

    /// The answer to a call that got none. `public_url` goes into the hints.
    pub fn from_chat(error: ChatError, public_url: &str) -> Self {
        match error {
            ChatError::Invalid(invalid) => Self::bad_request(invalid.to_string()),
            ChatError::UnknownModel(_) => Self::bad_request(error.to_string()),
            ChatError::PriceField(field) => Self::bad_request(format!(
                "`{field}` changes the price of a call in a way that the price list cannot bound, and this key has a \
                 limit; leave it out, or use a key without a limit"
            )),
            ChatError::Unpriced(model) => Self::not_found(format!(
                "No price is known for {model}, so it cannot be called; set `pricing` for it in the configuration"
            )),
            ChatError::NoEndpoint(model) => Self::not_found(format!("No endpoints found for {model}.")),
            ChatError::Guarded => Self::not_found(format!(
                "No endpoints available matching your guardrail restrictions and data policy. Configure: \
                 {public_url}/settings/privacy"
            )),
            ChatError::Blocked(blocked) => Self::blocked(&blocked),
            ChatError::Key(_) => Self::unknown_credential(),
            ChatError::TooSoon { refusal, at } => Self::called_too_soon(refusal, at),
            ChatError::Budget(refusal) => Self::refused(&refusal, public_url),
            ChatError::Store(error) => error.into(),
            ChatError::Provider(failure) => Self::provider_failed(&failure),
        }
    }

    /// A key calls too often.
    fn called_too_soon(refusal: TooSoon, at: Timestamp) -> Self {
        let (message, source, limit) = match refusal.limit {
            CallLimit::RequestsPerMinute(limit) => {
                let wait = seconds(refusal.wait);
                let message =
                    format!("this key may make {limit} requests a minute (`requests_per_minute`). Retry in {wait} s");
                (message, "tollgate_requests_per_minute", limit)
            }
            CallLimit::CallsInFlight(limit) => {
                let message = format!(
                    "this key may have {limit} calls in flight (`calls_in_flight_max`). Retry when one of them has ended"
                );
                (message, "tollgate_calls_in_flight_max", limit)
            }
        };
        Self::too_soon(format!("Rate limit exceeded: {message}"), source, limit, refusal.wait, at)
    }

    /// A content filter refuses (contract section 16, line 5).
    fn blocked(blocked: &Blocked) -> Self {
        let message = match blocked.patterns.first() {
            _ if blocked.injection && !blocked.too_much => {
                "Request blocked: prompt injection patterns detected".to_owned()
            }
            Some(label) if blocked.too_much => {
                format!(
                    "Request blocked by content filter: {label}: too much of the text matches for it to be redacted"
                )
            }
            label => format!("Request blocked by content filter: {}", label.map_or("[BLOCKED]", String::as_str)),
        };
        let metadata = json!({"error_type": "content_policy_violation", "patterns": blocked.patterns});
        Self { metadata: Some(metadata), ..Self::forbidden(message) }
    }

    /// A budget refuses (contract section 16, lines 6 to 11 and 13).
    fn refused(refusal: &Refusal, public_url: &str) -> Self {
        let layer = Layer::of(&refusal.state.budget, public_url);
        let amounts = |source: &str, reason: Option<&str>| {
            json!({
                "error_type": "payment_required",
                "limit_source": source,
                "reason": reason,
                "provider_name": null,
                "scope": refusal.state.budget.scope.as_str(),
                "limit_usd": Amount(refusal.state.budget.limit),
                "spend_usd": Amount(refusal.state.spent),
                "held_usd": Amount(refusal.state.held),
                "resets_at": refusal.state.resets_at.map(|at| at.to_string()),
            })
        };
        match refusal.reason {
            RefusalReason::Spent if refusal.state.budget.scope == BudgetScope::Credits => {
                let mut metadata = amounts(layer.source, None);
                metadata["remedy_hint"] = json!("add_credits");
                Self::payment_required(layer.spent, metadata)
            }
            RefusalReason::Spent => {
                Self { metadata: Some(amounts(layer.source, None)), ..Self::forbidden(layer.spent) }
            }
            RefusalReason::NeverFits { wanted, affordable: Some(affordable), .. } => {
                let message = format!(
                    "This request requires more credits, or fewer max_tokens. You requested up to {wanted} tokens, but \
                     can only afford {affordable}. {}",
                    layer.remedy
                );
                Self::payment_required(message, amounts(layer.source, None))
            }
            RefusalReason::NeverFits { prompt_tokens, affordable_prompt, .. } => {
                let message =
                    format!("Prompt tokens limit exceeded: {prompt_tokens} > {affordable_prompt}. {}", layer.remedy);
                Self::payment_required(message, amounts(layer.source, None))
            }
            // The data path names the field; without it this is all there is to say.
            RefusalReason::Unbounded => Self::bad_request("The call has no bound, and a budget applies"),
            RefusalReason::InFlight => {
                let message = "This request would exceed your available credits given your current in-flight requests. \
                               Retry after in-flight requests settle, or add credits.";
                let metadata = amounts("openrouter_in_flight_budget", Some("in_flight_budget_exhausted"));
                let error = Self::payment_required(message, metadata);
                error.after(RETRY_AFTER_SECONDS)
            }
        }
    }

    fn payment_required(message: impl Into<String>, metadata: Value) -> Self {
        Self { metadata: Some(metadata), ..Self::new(StatusCode::PAYMENT_REQUIRED, message) }
    }

    /// The provider failed (contract section 1.2, "upstream failures").
    fn provider_failed(failure: &ProviderFailure) -> Self {
        let (status, error_type) = match failure.kind {
            FailureKind::Unreachable | FailureKind::Broken => (502, "provider_unavailable"),
            FailureKind::TimedOut => (524, "timeout"),
            FailureKind::Status(status) => match status {
                429 => (429, RATE_LIMITED),
                400 | 404 | 408 | 413 | 422 => (status, "invalid_request"),
                503 => (503, "provider_unavailable"),
                504 | 524 => (524, "timeout"),
                529 => (529, "provider_overloaded"),
                // Ours was the credential that the provider refused, or its answer makes no sense: not the caller's fault.
                _ => (502, "provider_unavailable"),
            },
        };
        let previous: Vec<Value> = failure
            .previous
            .iter()
            .map(|(provider, status)| json!({"provider_name": provider, "code": status}))
            .collect();
        let mut metadata = json!({
            "raw": failure.raw,
            "provider_name": failure.provider,
            "is_byok": failure.is_byok,
            "error_type": error_type,
            "previous_errors": previous,
        });
        if status == 429 && !failure.is_byok {
            metadata["limit_source"] = json!("upstream_provider_shared_pool");
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        let error = Self { metadata: Some(metadata), ..Self::new(status, "Provider returned error") };
        match status.as_u16() {
            429 | 503 => error.after(failure.retry_after.as_deref().unwrap_or(RETRY_AFTER_SECONDS)),
            _ => error,
        }
    }
}

/// A wait in whole seconds, as `Retry-After` has it: never too short, and never none.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// What is said of the layer that a budget belongs to.
struct Layer {
    /// `metadata.limit_source`
    source: &'static str,
    /// That all of it is spent.
    spent: String,
    /// What to do where too little is left.
    remedy: String,
}

impl Layer {
    fn of(budget: &Budget, public_url: &str) -> Self {
        let limit = dollars(budget.limit);
        let interval = budget.reset.map_or("lifetime", LimitReset::as_str);
        match budget.scope {
            BudgetScope::Key => {
                let word = budget.reset.map_or("total", LimitReset::as_str);
                Self {
                    source: "openrouter_key_limit",
                    spent: format!("Key limit exceeded ({word} limit). Manage it using {public_url}/keys"),
                    remedy: format!("To increase, visit {public_url}/keys and create a key with a higher {word} limit"),
                }
            }
            BudgetScope::Workspace => Self {
                source: "openrouter_workspace_budget",
                spent: format!("Workspace {interval} budget of {limit} exceeded. Contact your org admin."),
                remedy: format!(
                    "The workspace's {interval} budget of {limit} has no room for more. Contact your org admin."
                ),
            },
            BudgetScope::Credits => Self {
                source: "openrouter_credits",
                spent: format!("Insufficient credits. Add more using {public_url}/settings/credits"),
                remedy: format!("To increase, visit {public_url}/settings/credits and add more credits"),
            },
            BudgetScope::WorkspaceDefaultMember
            | BudgetScope::WorkspaceDefaultKey
            | BudgetScope::Member
            | BudgetScope::ApiKey => Self {
                source: "openrouter_guardrail_budget",
                spent: format!("Guardrail {interval} budget of {limit} exceeded. Contact your org admin."),
                remedy: format!(
                    "The guardrail's {interval} budget of {limit} has no room for more. Contact your org admin."
                ),
            },
        }
    }
}

/// An amount as people write it: `$500.00`, and more decimals where there are more.
fn dollars(amount: Usd) -> String {
    let text = amount.to_string();
    match text.split_once('.') {
        None => format!("${text}.00"),
        Some((_, fraction)) if fraction.len() < 2 => format!("${text}0"),
        Some(_) => format!("${text}"),
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_)
            | StoreError::Uncertain
            | StoreError::Closed
            | StoreError::ClockJumped { .. } => {
                let answer = Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service temporarily unavailable");
                Self { cause: Some(Cause(Arc::new(error))), ..answer }.after(RETRY_AFTER_SECONDS)
            }
            StoreError::Amount(_) => Self::bad_request("The call could cost more than an amount of money can say"),
            StoreError::Corrupt(_) => Self::internal(error),
        }
    }
}

impl From<RandomError> for ApiError {
    fn from(error: RandomError) -> Self {
        Self::internal(error)
    }
}

impl From<SignInError> for ApiError {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::Random(error) => error.into(),
            SignInError::Store(error) => error.into(),
        }
    }
}

impl From<CreateKeyError> for ApiError {
    fn from(error: CreateKeyError) -> Self {
        match error {
            CreateKeyError::EmptyName
            | CreateKeyError::Expired
            | CreateKeyError::UnknownWorkspace
            | CreateKeyError::UnknownMember
            | CreateKeyError::NoModels
            | CreateKeyError::Count => Self::bad_request(error.to_string()),
            CreateKeyError::At(index, error) => Self::from(*error).within(&format!("keys[{index}]")),
            CreateKeyError::Random(error) => error.into(),
            CreateKeyError::Store(error) => error.into(),
        }
    }
}

impl From<RotateKeyError> for ApiError {
    fn from(error: RotateKeyError) -> Self {
        match error {
            RotateKeyError::Grace => Self::bad_request(error.to_string()),
            RotateKeyError::UnknownKey => Self::not_found(error.to_string()),
            RotateKeyError::Random(error) => error.into(),
            RotateKeyError::Store(error) => error.into(),
        }
    }
}

impl From<UpdateKeyError> for ApiError {
    fn from(error: UpdateKeyError) -> Self {
        match error {
            UpdateKeyError::Nothing
            | UpdateKeyError::EmptyName
            | UpdateKeyError::NoModels
            | UpdateKeyError::Raise
            | UpdateKeyError::NoLimit => Self::bad_request(error.to_string()),
            UpdateKeyError::UnknownKey => Self::not_found(error.to_string()),
            UpdateKeyError::Store(error) => error.into(),
        }
    }
}

impl From<WorkspaceError> for ApiError {
    fn from(error: WorkspaceError) -> Self {
        let refused = match error {
            WorkspaceError::Invalid(message) => return Self::bad_request(message),
            WorkspaceError::Random(error) => return error.into(),
            WorkspaceError::Store(error) => return error.into(),
            WorkspaceError::Refused(refused) => refused,
        };
        match refused {
            WorkspaceRefused::Unknown => Self::not_found("Workspace not found"),
            WorkspaceRefused::SlugTaken => Self::bad_request("Another workspace has this slug"),
            WorkspaceRefused::HasKeys(keys) => Self::bad_request(format!(
                "The workspace has active keys ({keys}); delete them, or move them to another workspace"
            )),
            WorkspaceRefused::IsDefault => Self::forbidden("The default workspace cannot be deleted"),
            WorkspaceRefused::NotDecreasing(NotDecreasing { broad, narrow }) => {
                let word = |window: WindowKind| window.reset().map_or("lifetime", LimitReset::as_str);
                Self::bad_request(format!(
                    "Budget limits must be strictly decreasing as scope narrows: the {} limit (${}) must be greater \
                     than the {} limit (${}).",
                    word(broad.0),
                    broad.1,
                    word(narrow.0),
                    narrow.1
                ))
            }
        }
    }
}

impl From<MemberError> for ApiError {
    fn from(error: MemberError) -> Self {
        match error {
            MemberError::Invalid(message) => Self::bad_request(message),
            MemberError::Random(error) => error.into(),
            MemberError::Store(error) => error.into(),
            MemberError::Refused(refused) => match refused {
                MemberRefused::Unknown(user_id) => Self::not_found(format!("Member not found: {user_id}")),
                MemberRefused::EmailTaken => Self::bad_request("A member with this `email` is there already"),
                MemberRefused::HasKeys(user_id) => Self::bad_request(format!(
                    "{user_id} has active keys; delete them, or move them to another workspace"
                )),
                MemberRefused::UnknownWorkspace => Self::not_found("Workspace not found"),
            },
        }
    }
}

impl From<GuardrailError> for ApiError {
    fn from(error: GuardrailError) -> Self {
        match error {
            GuardrailError::Invalid(message) => Self::bad_request(message),
            GuardrailError::Random(error) => error.into(),
            GuardrailError::Store(error) => error.into(),
            GuardrailError::Refused(refused) => match refused {
                GuardrailRefused::Unknown => Self::not_found("Guardrail not found"),
                GuardrailRefused::FixedName => {
                    Self::bad_request("The name of a workspace's default guardrail is fixed")
                }
                GuardrailRefused::Budget(IncompleteBudget) => {
                    Self::bad_request("`limit_usd` and `reset_interval` must be set together")
                }
                GuardrailRefused::UnknownKey(hash) => Self::bad_request(format!("No key has the hash {hash}")),
                GuardrailRefused::UnknownMember(user_id) => {
                    Self::bad_request(format!("No member has the id {user_id}"))
                }
            },
        }
    }
}

impl From<CredentialError> for ApiError {
    fn from(error: CredentialError) -> Self {
        let refused = match error {
            CredentialError::Invalid(_) | CredentialError::UnknownProvider { .. } | CredentialError::NoVault => {
                return Self::bad_request(error.to_string());
            }
            CredentialError::Random(error) => return error.into(),
            CredentialError::Seal(error) => return Self::internal(error),
            CredentialError::Store(error) => return error.into(),
            CredentialError::Refused(refused) => refused,
        };
        match refused {
            CredentialRefused::Unknown => Self::not_found("Provider credential not found"),
            CredentialRefused::UnknownWorkspace => Self::bad_request("Workspace not found"),
            CredentialRefused::UnknownKey(hash) => Self::bad_request(format!("No key has the hash {hash}")),
            CredentialRefused::UnknownMember(user_id) => Self::bad_request(format!("No member has the id {user_id}")),
            CredentialRefused::Terms(refused) => Self::bad_request(refused.to_string()),
        }
    }
}

impl From<ActivityError> for ApiError {
    fn from(error: ActivityError) -> Self {
        match error {
            ActivityError::Date => Self::bad_request(error.to_string()),
            ActivityError::UnknownKey | ActivityError::UnknownWorkspace => Self::not_found(error.to_string()),
            ActivityError::Store(error) => error.into(),
        }
    }
}

impl From<AdjustError> for ApiError {
    fn from(error: AdjustError) -> Self {
        match error {
            AdjustError::Nothing | AdjustError::Reason => Self::bad_request(error.to_string()),
            AdjustError::Refused(refused) => match refused {
                AdjustRefused::Unknown => Self::not_found("Generation not found"),
                AdjustRefused::BelowZero => Self::bad_request("more would be given back than was charged"),
                AdjustRefused::TooLarge => Self::bad_request("the charge would be too large"),
            },
            AdjustError::Store(error) => error.into(),
        }
    }
}

impl From<TopUpError> for ApiError {
    fn from(error: TopUpError) -> Self {
        match error {
            TopUpError::Zero | TopUpError::TooLarge => Self::bad_request(error.to_string()),
            TopUpError::Store(error) => error.into(),
        }
    }
}

impl From<CreateCodeError> for ApiError {
    fn from(error: CreateCodeError) -> Self {
        match error {
            CreateCodeError::LabelTooLong | CreateCodeError::Expired | CreateCodeError::UnknownWorkspace => {
                Self::bad_request(error.to_string())
            }
            CreateCodeError::Random(error) => error.into(),
            CreateCodeError::Store(error) => error.into(),
        }
    }
}

impl From<ExchangeCodeError> for ApiError {
    fn from(error: ExchangeCodeError) -> Self {
        match error {
            ExchangeCodeError::Refused(refused) => match refused {
                ExchangeRefused::Method => Self::bad_request(refused.to_string()),
                ExchangeRefused::Invalid | ExchangeRefused::Expired => Self::forbidden(refused.to_string()),
            },
            ExchangeCodeError::Random(error) => error.into(),
            ExchangeCodeError::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = ErrorBody { message: self.message, code: self.status.as_u16(), metadata: self.metadata };
        let body = serde_json::to_string(&ErrorEnvelope { error, user_id: None }).unwrap_or_default();
        let mut response = Response::new(body.into());
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().insert(name, value);
            }
        }
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(cause);
        }
        response
    }
}
