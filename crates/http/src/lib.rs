//! The HTTP surface: routes, extractors, the error envelope, and the server that carries them.

mod client_address;
mod convert;
mod error;
mod extract;
mod guard;
mod html;
mod limits;
mod openapi;
mod pages;
mod router;
mod routes;
mod server;

pub use client_address::{ClientAddress, TrustedProxies};
pub use error::ApiError;
pub use guard::{Guard, GuardSettings};
pub use limits::HttpLimits;
pub use router::{Api, ApiBody};
pub use server::{Server, tls_config};
