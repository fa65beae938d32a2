//! The HTTP surface: routes, extractors, the error envelope, and the server that carries them.

mod convert;
mod error;
mod extract;
mod html;
mod limits;
mod openapi;
mod pages;
mod router;
mod routes;
mod server;

pub use error::ApiError;
pub use limits::HttpLimits;
pub use router::{Api, ApiBody};
pub use server::{Server, tls_config};
