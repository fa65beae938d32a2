//! `GET /health` and `GET /ready`.

use serde::{Deserialize, Serialize};

/// How the server is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// `ok`, or `ready`.
    pub status: String,
}
