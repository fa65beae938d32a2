//! A provider over HTTP, and one call to it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Uri, Version};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::TrySendError;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::pool::{Connection, Pool};
use super::{Broken, Head, ProviderError, Unreachable};
use crate::limits::Limits;

const CHAT_COMPLETIONS: &str = "/chat/completions";

/// A provider over HTTP.
#[derive(Debug)]
pub struct HttpProvider {
    pool: Arc<Pool>,
    target: Uri,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
}

impl HttpProvider {
    pub fn new(slug: &str, base: &Uri, api_key: Option<&str>, limits: Limits) -> Result<Self, ProviderError> {
        let wrong = || ProviderError::BaseUrl(slug.to_owned());
        let authority = base.authority().ok_or_else(wrong)?;
        let name = authority.host().trim_matches(['[', ']']).to_owned();
        let tls = match base.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => None,
            Some(scheme) if *scheme == Scheme::HTTPS => {
                let server = ServerName::try_from(name.clone()).map_err(|_| wrong())?;
                Some((TlsConnector::from(Arc::new(tls_config()?)), server))
            }
            _ => return Err(wrong()),
        };
        let port = authority.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        // Some servers want a query with every call, as `?api-version=…`.
        let query = base.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = format!("{}{CHAT_COMPLETIONS}{query}", base.path().trim_end_matches('/'));
        let authorization = api_key.map(|key| bearer(key).ok_or_else(|| ProviderError::ApiKey(slug.to_owned())));
        Ok(Self {
            pool: Pool::new(name, port, tls, limits),
            target: path.parse().map_err(|_| wrong())?,
            host: HeaderValue::try_from(authority.as_str().rsplit('@').next().unwrap_or_default())
                .map_err(|_| wrong())?,
            authorization: authorization.transpose()?,
        })
    }

    /// Takes a connection and hands it the call. Nothing is written until the call is polled.
    /// `own` is an authorization in the place of the provider's configured one: it belongs to the call, never to a connection.
    pub async fn call(&self, body: Bytes, own: Option<&HeaderValue>) -> Result<HttpCall, Unreachable> {
        let connection = self.pool.take().await?;
        Ok(HttpCall::start(connection, Arc::clone(&self.pool), self.request(body, own)))
    }

    fn request(&self, body: Bytes, own: Option<&HeaderValue>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        *request.version_mut() = Version::HTTP_11;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION"))));
        if let Some(authorization) = own.or(self.authorization.as_ref()) {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        request
    }
}

/// The header that carries a provider's key, and hides it from whoever prints headers; `None` where none can.
pub fn bearer(key: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {key}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn tls_config() -> Result<ClientConfig, rustls::Error> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

type Sent = Result<http::Response<Incoming>, TrySendError<Request<Full<Bytes>>>>;

enum Phase {
    /// Being sent, or waiting for the answer.
    Sending(Pin<Box<dyn Future<Output = Sent> + Send>>),
    /// The answer is coming.
    Reading(Incoming),
    /// Nothing more is to come.
    Over,
}

/// A call. Polling it moves the connection's bytes; dropping it closes the connection.
pub struct HttpCall {
    connection: Option<Connection>,
    pool: Arc<Pool>,
    phase: Phase,
}

impl HttpCall {
    fn start(mut connection: Connection, pool: Arc<Pool>, request: Request<Full<Bytes>>) -> Self {
        let sent = connection.sender.try_send_request(request);
        Self { connection: Some(connection), pool, phase: Phase::Sending(Box::pin(sent)) }
    }

    /// Moves bytes; whether the connection can move more.
    fn drive(&mut self, cx: &mut Context<'_>) {
        let over = self.connection.as_mut().is_some_and(|connection| connection.driver.as_mut().poll(cx).is_ready());
        if over {
            // What it still delivered waits in the answer's body; it is not to be polled again, nor reused.
            self.connection = None;
        }
    }

    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Broken>> {
        self.drive(cx);
        let Phase::Sending(sent) = &mut self.phase else {
            return Poll::Ready(Err(Broken::Unknown));
        };
        match ready!(sent.as_mut().poll(cx)) {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                self.phase = Phase::Reading(body);
                let retry_after =
                    head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
                Poll::Ready(Ok(Head { status: head.status.as_u16(), retry_after }))
            }
            Err(mut error) => {
                self.phase = Phase::Over;
                // hyper gives the message back exactly if it never began to write it.
                let unsent = error.take_message().is_some();
                Poll::Ready(Err(if unsent { Broken::Unsent } else { Broken::Unknown }))
            }
        }
    }

    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        loop {
            self.drive(cx);
            let Phase::Reading(body) = &mut self.phase else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(_)) => {
                    self.phase = Phase::Over;
                    return Poll::Ready(Some(Err(Broken::Unknown)));
                }
                None => {
                    self.phase = Phase::Over;
                    self.keep(cx);
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// Gives the connection back, if it is idle and stands.
    fn keep(&mut self, cx: &mut Context<'_>) {
        self.drive(cx);
        if let Some(mut connection) = self.connection.take()
            && matches!(connection.sender.poll_ready(cx), Poll::Ready(Ok(())))
        {
            self.pool.put(connection);
        }
    }
}
