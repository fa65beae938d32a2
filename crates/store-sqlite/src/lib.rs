//! The embedded engine: SQLite with group commit.
