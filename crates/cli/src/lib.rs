//! The `tollgate` command: the only place where everything meets.

pub mod admin;
pub mod boot;
pub mod cli;
pub mod commands;
pub mod config;
pub mod failure;
pub mod output;
pub mod storage;
mod vault;
