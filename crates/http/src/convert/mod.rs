//! Between what is promised and what is true: wire to domain may fail, domain to wire cannot.

pub mod activity;
pub mod audit;
pub mod byok;
pub mod consent;
pub mod generation;
pub mod guardrails;
pub mod keys;
pub mod models;
pub mod oauth;
pub mod workspaces;
