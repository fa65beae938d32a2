//! One file a command.

pub mod audit;
pub mod config;
pub mod credits;
pub mod demo;
pub mod keys;
pub mod management_keys;
pub mod members;
pub mod remote;
pub mod serve;
pub mod usage;
