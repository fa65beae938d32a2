//! One file a command.

pub mod audit;
pub mod backup;
pub mod config;
pub mod copy;
pub mod credits;
pub mod demo;
pub mod doctor;
pub mod keys;
pub mod management_keys;
pub mod members;
pub mod remote;
pub mod restore;
pub mod serve;
pub mod usage;
