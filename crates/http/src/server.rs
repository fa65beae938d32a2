//! Accepts connections and serves the API on them, until it is told to stop.

use std::convert::Infallible;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tollgate_gateway::Tasks;

use crate::limits::HttpLimits;
use crate::router::Api;

/// Bytes of headers beyond which the connection is closed without an envelope.
const HEAD_BYTES_MAX: usize = 256 << 10;
/// The pause after a connection could not be accepted, as when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two pings to a client that speaks HTTP/2.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// A listening server.
pub struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    api: Api,
    tasks: Tasks,
}

impl Server {
    /// A server on a bound listener.
    pub fn new(listener: TcpListener, tls: Option<Arc<ServerConfig>>, api: Api, tasks: Tasks) -> Self {
        Self { listener, tls: tls.map(TlsAcceptor::from), api, tasks }
    }

    /// Serves until `stop` resolves; then accepts nothing more, lets answers under way end within `grace`, and gives
    /// those that are cut off then `last` to be settled. Whether all were.
    pub async fn run(self, stop: impl Future<Output = ()>, grace: Duration, last: Duration) -> bool {
        let http = Arc::new(Protocols::new(&self.tasks, self.api.limits()));
        let router = self.api.router();
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.api.limits().connections_max));
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = &mut stop => break,
                accepted = accepted => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (http, api, router, tls) = (Arc::clone(&http), self.api.clone(), router.clone(), self.tls.clone());
            let (watcher, tasks) = (graceful.watcher(), self.tasks.clone());
            self.tasks.spawn(async move {
                let _place = place;
                // Without it small answers would wait for the client's acknowledgement.
                let _ = stream.set_nodelay(true);
                let limits = *api.limits();
                let ready = tokio::time::timeout(limits.header_timeout, secured(stream, tls));
                let (stream, protocol) = tokio::select! {
                    ready = ready => match ready {
                        Ok(Some(ready)) => ready,
                        // It never said anything, or nothing that could be understood.
                        Ok(None) | Err(_) => return,
                    },
                    () = tasks.hurried() => return,
                };
                let stream = unstalled(stream, limits.write_timeout);
                let service = service_fn(move |request| {
                    let (api, router) = (api.clone(), router.clone());
                    async move { Ok::<_, Infallible>(api.answer(&router, request, peer.ip()).await) }
                });
                let connection = http.of(protocol).serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    // A client that breaks its connection is not our fault, and its call is settled all the same.
                    _ = watcher.watch(connection) => {}
                    () = tasks.hurried() => {}
                }
            });
        }
        drop(self.listener);
        let closing = async {
            graceful.shutdown().await;
            // Calls whose callers left go on behind their connections.
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            ended = self.tasks.finish(grace, last) => ended,
            never = closing => match never {},
        }
    }
}

/// A connection that ends when its client reads nothing for `timeout` while there is something to send: the answer that
/// it does not want would hold money for ever.
fn unstalled<S: AsyncRead + AsyncWrite>(stream: S, timeout: Duration) -> Pin<Box<TimeoutStream<S>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(timeout));
    Box::pin(stream)
}

/// A byte stream, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What a connection speaks.
#[derive(Clone, Copy, Debug)]
enum Protocol {
    /// Its first bytes tell.
    Untold,
    Http1,
    Http2,
}

/// The server's side of each protocol.
struct Protocols {
    untold: auto::Builder<Tasks>,
    http1: auto::Builder<Tasks>,
    http2: auto::Builder<Tasks>,
}

impl Protocols {
    fn new(tasks: &Tasks, limits: &HttpLimits) -> Self {
        let builder = || {
            let mut http = auto::Builder::new(tasks.clone());
            http.http1()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_timeout)
                .max_buf_size(HEAD_BYTES_MAX);
            http.http2()
                .timer(TokioTimer::new())
                // A peer that is gone does not answer; one that reads nothing does, and keeps its connection.
                .keep_alive_interval(PING_INTERVAL)
                .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
            http
        };
        Self { untold: builder(), http1: builder().http1_only(), http2: builder().http2_only() }
    }

    const fn of(&self, protocol: Protocol) -> &auto::Builder<Tasks> {
        match protocol {
            Protocol::Untold => &self.untold,
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        }
    }
}

/// The stream of a client that has begun to speak, and what it speaks.
async fn secured(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<(Box<dyn Stream>, Protocol)> {
    match tls {
        None => {
            stream.peek(&mut [0]).await.ok()?;
            Some((Box::new(stream), Protocol::Untold))
        }
        Some(acceptor) => {
            let stream = acceptor.accept(stream).await.ok()?;
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let protocol = if http2 { Protocol::Http2 } else { Protocol::Http1 };
            Some((Box::new(stream), protocol))
        }
    }
}

/// TLS from a certificate chain and its key, both in PEM files.
///
/// # Errors
/// A file cannot be read, or holds no certificate or key that fit.
pub fn tls_config(
    certificates: &Path,
    key: &Path,
) -> Result<Arc<ServerConfig>, Box<dyn std::error::Error + Send + Sync>> {
    let chain = CertificateDer::pem_file_iter(certificates)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
