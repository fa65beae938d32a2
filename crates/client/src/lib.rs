//! The Rust client of the management API.
