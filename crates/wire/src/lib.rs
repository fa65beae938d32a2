//! What is promised: the serde types of the public HTTP API.
