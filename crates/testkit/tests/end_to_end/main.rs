//! The real server against a scripted provider: one test program, so that the server is linked once.

mod activity;
mod audit;
mod authorization;
mod bad_input;
mod byok;
mod chat;
mod cli;
mod consent;
mod contract;
mod crashes;
mod disk;
mod filters;
mod models;
mod nodes;
mod oauth;
mod once;
mod openapi;
mod organization;
mod patience;
mod postgres;
mod races;
mod raises;
mod rates;
mod scenarios;
mod tls;
mod vault;
