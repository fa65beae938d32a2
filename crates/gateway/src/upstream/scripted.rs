//! A provider whose every move a program decides: for simulations, and in no release.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderValue;

use super::{Broken, Head, Unreachable};

/// A connection that may come to be.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn ScriptedCall>, Unreachable>> + Send + 'a>>;

/// What plays a provider.
pub trait Script: Debug + Send + Sync {
    /// Takes a call: as [`super::Provider::call`].
    fn call<'a>(&'a self, body: Bytes, own: Option<&'a HeaderValue>) -> Connecting<'a>;
}

/// A call to it: as [`super::Call`].
pub trait ScriptedCall: Send {
    /// Waits for the beginning of the answer.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Broken>>;

    /// The next bytes of the answer; `None` at its end.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>>;
}
