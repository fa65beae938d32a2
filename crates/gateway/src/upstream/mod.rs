//! Providers, by kind, and calls to them.

mod http;
mod pool;
#[cfg(feature = "scripted")]
mod scripted;
mod simulated;

#[cfg(feature = "scripted")]
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::{HeaderValue, Uri};
use bytes::Bytes;
use tollgate_domain::guardrail::Declared;

use crate::limits::Limits;

use self::http::HttpProvider;
pub use self::http::{HttpCall, bearer};
#[cfg(feature = "scripted")]
pub use self::scripted::{Connecting, Script, ScriptedCall};
use self::simulated::SimulatedCall;

/// The field in which a provider of kind `openai` takes the output cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputCapField {
    /// OpenAI's present name.
    #[default]
    MaxCompletionTokens,
    /// The older name, which some servers still insist on.
    MaxTokens,
}

impl OutputCapField {
    /// The field's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxTokens => "max_tokens",
        }
    }
}

/// What speaks at the other end.
#[derive(Clone, Debug)]
pub enum ProviderKind {
    /// Anything that speaks OpenAI's API.
    OpenAi {
        /// What comes before `/chat/completions`.
        base_url: String,
        /// The credential, if the provider wants one.
        api_key: Option<String>,
        /// Where the output cap goes.
        cap_field: OutputCapField,
    },
    /// Built in: answers by itself, and costs nothing but what its models are priced at.
    Simulated,
    /// Played by a program.
    #[cfg(feature = "scripted")]
    Scripted(Arc<dyn Script>),
}

/// A provider as it is configured.
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    /// Its name in the configuration, shown as `provider`.
    pub slug: String,
    /// What speaks there.
    pub kind: ProviderKind,
    /// What is declared of how it treats data.
    pub declared: Declared,
}

/// Why a provider cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The URL is no URL, or is neither http nor https.
    #[error("provider `{0}`: base_url is not an http or https URL")]
    BaseUrl(String),
    /// The credential cannot be sent in a header.
    #[error("provider `{0}`: the API key holds characters that no header may")]
    ApiKey(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// A provider, ready to be called.
#[derive(Debug)]
pub struct Provider {
    /// Its name in the configuration.
    pub slug: String,
    /// What is declared of how it treats data.
    pub declared: Declared,
    kind: Ready,
}

#[derive(Debug)]
enum Ready {
    OpenAi {
        http: HttpProvider,
        cap_field: OutputCapField,
    },
    Simulated,
    #[cfg(feature = "scripted")]
    Scripted(Arc<dyn Script>),
}

/// Tokens that a kind adds to a prompt at most, beyond the bytes that were sent.
#[derive(Clone, Copy, Debug)]
pub struct PromptOverhead {
    /// Per request.
    pub request: u64,
    /// Per message.
    pub message: u64,
    /// Per tool.
    pub tool: u64,
}

impl Provider {
    /// A provider from its settings.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub fn new(settings: ProviderSettings, limits: Limits) -> Result<Self, ProviderError> {
        let slug = settings.slug;
        let kind = match settings.kind {
            ProviderKind::Simulated => Ready::Simulated,
            #[cfg(feature = "scripted")]
            ProviderKind::Scripted(script) => Ready::Scripted(script),
            ProviderKind::OpenAi { base_url, api_key, cap_field } => {
                let base: Uri = base_url.parse().map_err(|_| ProviderError::BaseUrl(slug.clone()))?;
                let http = HttpProvider::new(&slug, &base, api_key.as_deref(), limits)?;
                Ready::OpenAi { http, cap_field }
            }
        };
        Ok(Self { slug, kind, declared: settings.declared })
    }

    /// The name of the field in which the output cap goes.
    pub const fn cap_field(&self) -> &'static str {
        match &self.kind {
            Ready::OpenAi { cap_field, .. } => cap_field.as_str(),
            Ready::Simulated => "max_completion_tokens",
            #[cfg(feature = "scripted")]
            Ready::Scripted(_) => "max_completion_tokens",
        }
    }

    /// What the kind adds to a prompt at most: the tokens that frame requests, messages and tools in chat templates.
    pub const fn overhead(&self) -> PromptOverhead {
        match &self.kind {
            Ready::OpenAi { .. } => PromptOverhead { request: 32, message: 8, tool: 32 },
            Ready::Simulated => PromptOverhead { request: 0, message: 0, tool: 0 },
            #[cfg(feature = "scripted")]
            Ready::Scripted(_) => PromptOverhead { request: 0, message: 0, tool: 0 },
        }
    }

    /// Sends a call made at `now`, in unix seconds, with `own` in the place of the provider's configured credential. Connecting
    /// may fail; from then on the provider may bill.
    pub async fn call(&self, body: Bytes, now: i64, own: Option<&HeaderValue>) -> Result<Call, Unreachable> {
        match &self.kind {
            Ready::Simulated => Ok(Call::Simulated(Box::new(SimulatedCall::new(&body, now)))),
            Ready::OpenAi { http, .. } => Ok(Call::Http(Box::new(http.call(body, own).await?))),
            #[cfg(feature = "scripted")]
            Ready::Scripted(script) => Ok(Call::Scripted(script.call(body, own).await?)),
        }
    }
}

/// No connection could be made: nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable;

/// How a call broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Before a byte of it was written: it cannot have been billed.
    Unsent,
    /// Later: nobody knows.
    Unknown,
}

/// The beginning of a provider's answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`.
    pub retry_after: Option<String>,
}

/// A call under way. It is driven by whoever polls it: there is no task behind it.
pub enum Call {
    /// Over HTTP.
    Http(Box<HttpCall>),
    /// By the built-in provider.
    Simulated(Box<SimulatedCall>),
    /// By a program.
    #[cfg(feature = "scripted")]
    Scripted(Box<dyn ScriptedCall>),
}

impl Call {
    /// Waits for the beginning of the answer.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Broken>> {
        match self {
            Self::Http(call) => call.poll_head(cx),
            Self::Simulated(call) => call.poll_head(cx),
            #[cfg(feature = "scripted")]
            Self::Scripted(call) => call.poll_head(cx),
        }
    }

    /// The next bytes of the answer; `None` at its end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        match self {
            Self::Http(call) => call.poll_data(cx),
            Self::Simulated(call) => call.poll_data(cx),
            #[cfg(feature = "scripted")]
            Self::Scripted(call) => call.poll_data(cx),
        }
    }
}
