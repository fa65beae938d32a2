//! Connections to one provider: HTTP/1.1, kept when idle, never reused in doubt.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::noop_waker_ref;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::Unreachable;
use crate::limits::Limits;

/// Bytes that arrive in one read at the most.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// A byte stream, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection and the future that moves its bytes.
pub struct Connection {
    pub sender: SendRequest<Full<Bytes>>,
    pub driver: Driver,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// Where a provider is, and the idle connections to it.
pub struct Pool {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    idle: Mutex<Vec<Idle>>,
    limits: Limits,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({}:{})", self.host, self.port)
    }
}

impl Pool {
    pub fn new(host: String, port: u16, tls: Option<(TlsConnector, ServerName<'static>)>, limits: Limits) -> Arc<Self> {
        Arc::new(Self { host, port, tls, idle: Mutex::new(Vec::new()), limits })
    }

    /// An idle connection that is still good, or a new one.
    pub async fn take(&self) -> Result<Connection, Unreachable> {
        while let Some(idle) = self.pop() {
            if let Some(connection) = self.still_good(idle) {
                return Ok(connection);
            }
        }
        self.connect().await
    }

    /// A new connection, whatever is idle.
    pub async fn connect(&self) -> Result<Connection, Unreachable> {
        let connected = tokio::time::timeout(self.limits.connect_timeout, self.handshake()).await;
        connected.map_err(|_| Unreachable)?.map_err(|error| {
            tracing::warn!(host = self.host, port = self.port, %error, "cannot connect to the provider");
            Unreachable
        })
    }

    /// Keeps a connection whose answer was read to its end.
    pub fn put(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < self.limits.idle_connections_max {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }

    fn pop(&self) -> Option<Idle> {
        self.idle.lock().pop()
    }

    /// One look without waiting: a connection that the provider closed while it was idle says so here.
    fn still_good(&self, idle: Idle) -> Option<Connection> {
        let Idle { mut connection, since } = idle;
        if since.elapsed() > self.limits.idle_connection_age_max {
            return None;
        }
        let mut cx = Context::from_waker(noop_waker_ref());
        if connection.driver.as_mut().poll(&mut cx).is_ready() {
            return None;
        }
        let ready = matches!(connection.sender.poll_ready(&mut cx), Poll::Ready(Ok(())));
        ready.then_some(connection)
    }

    async fn handshake(&self) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.tls {
            Some((connector, name)) => Box::new(connector.connect(name.clone(), tcp).await?),
            None => Box::new(tcp),
        };
        let (sender, driver) =
            http1::Builder::new().max_buf_size(READ_BUFFER_BYTES).handshake(TokioIo::new(stream)).await?;
        Ok(Connection { sender, driver: Box::pin(driver) })
    }
}
