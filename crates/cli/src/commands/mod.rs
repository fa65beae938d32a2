//! One file a command.

pub mod config;
pub mod demo;
pub mod keys;
pub mod management_keys;
pub mod serve;
