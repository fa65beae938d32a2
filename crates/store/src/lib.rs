//! What must be remembered: the storage traits, their errors and conformance suite.
