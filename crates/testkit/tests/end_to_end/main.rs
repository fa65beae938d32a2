//! The real server against a scripted provider: one test program, so that the server is linked once.

mod activity;
mod audit;
mod authorization;
mod bad_input;
mod chat;
mod cli;
mod contract;
mod crashes;
mod disk;
mod filters;
mod models;
mod oauth;
mod once;
mod openapi;
mod organization;
mod patience;
mod races;
mod scenarios;
mod tls;
