//! What is promised: the types of the public HTTP API, and nothing else.
//!
//! Field names, order and null rules are the contract's (sections 4, 5, 12, 13, 17 and 21). Money is in US dollars and goes
//! out as a plain JSON number without float noise.
#![warn(missing_docs)]

mod activity;
mod audit;
mod byok;
#[cfg(feature = "openapi")]
mod chat;
mod current_key;
mod error;
mod generation;
mod guardrails;
mod health;
mod keys;
mod models;
mod money;
mod oauth;
mod object;
#[cfg(feature = "openapi")]
mod query;
mod usage;
mod workspaces;

pub use activity::ActivityItem;
pub use audit::{Adjust, Adjusted, AuditActor, AuditEntry};
pub use byok::{ByokKey, ByokTerms, CreateByokKey, UpdateByokKey};
#[cfg(feature = "openapi")]
pub use chat::{ChatChoice, ChatCompletion, ChatEvent, ChatMessage, ChatRequest, ProviderChoice};
pub use current_key::{CurrentKey, FreeModelDailyRequests, KeyBudget, RateLimit};
pub use error::{ErrorBody, ErrorEnvelope};
pub use generation::{Generation, ProviderResponse};
pub use guardrails::{
    Assigned, BuiltinFilter, ContentFilter, Guardrail, GuardrailRequest, KeyAssignment, KeyHashes, MemberAssignment,
    MemberUserIds, Switches, Unassigned,
};
pub use health::Health;
pub use keys::{CreateKey, CreateKeys, CreatedKey, Data, Deleted, External, Key, LimitRaise, RotateKey, UpdateKey};
pub use models::{
    Architecture, Endpoint, EndpointsArchitecture, Model, ModelEndpoints, ModelLinks, ModelList, ModelsCount,
    PageLinks, Pricing, Provider, ToolChoiceSupport, TopProvider,
};
pub use money::{Amount, RawAmount};
pub use oauth::{AuthCode, CreateAuthCode, ExchangeAuthCode, ExchangedKey};
pub use object::Object;
#[cfg(feature = "openapi")]
pub use query::{ActivityParams, AuditParams, GenerationParams, KeyParams, ModelPageParams, ModelParams, PageParams};
pub use usage::{ChatUsage, CompletionTokensDetails, CostDetails, PromptTokensDetails};
pub use workspaces::{
    AddedMembers, CreateMember, Credits, ListPage, OrganizationMember, PutBudget, RemovedMembers, TopUp, UserIds,
    Workspace, WorkspaceBudget, WorkspaceBudgets, WorkspaceMember, WorkspaceRequest,
};
