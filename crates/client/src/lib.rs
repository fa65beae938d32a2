//! A client of tollgate's API, built on the same types as the server.
#![warn(missing_docs)]

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tollgate_wire::{
    ActivityItem, AuditEntry, ByokKey, CreateByokKey, CreateKey, CreateMember, CreatedKey, Credits, CurrentKey, Data,
    Deleted, ErrorEnvelope, Key, ListPage, OrganizationMember, RotateKey, TopUp, UpdateByokKey, UpdateKey,
};

/// Until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until an answer is complete.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(5);
/// Keys on a page of a list.
const PAGE: usize = 100;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL cannot be used.
    #[error("`{0}` is not an http or https URL")]
    Url(String),
    /// The idempotency key cannot be sent in a header.
    #[error("the idempotency key holds characters that no header may")]
    IdempotencyKey,
    /// No server answers.
    #[error("no server answers at {url} ({why})")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        why: String,
    },
    /// The server answered with an error.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The server's own words.
        message: String,
    },
    /// The answer is not what was expected.
    #[error("the server's answer cannot be read: {0}")]
    Malformed(String),
}

/// An answer as it came.
#[derive(Clone)]
pub struct RawAnswer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl std::fmt::Debug for RawAnswer {
    /// Neither headers nor body: the answer to a creation holds a secret, and a completion is nobody's business.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawAnswer({}, {} bytes)", self.status, self.body.len())
    }
}

/// Which keys to list.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    /// Disabled and expired ones too.
    pub all: bool,
    /// Of this workspace; `None` is the default one.
    pub workspace: Option<String>,
}

/// Which entries of the audit log to list.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only what was done to what has this public id.
    pub target: Option<String>,
    /// Only this action, or all of a kind.
    pub action: Option<String>,
}

/// A client with one credential.
#[derive(Clone)]
pub struct Client {
    base: String,
    bearer: String,
    idempotency_key: Option<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.base)
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Client {
    /// A client of the server at `base` (`http://host:port`) with `bearer` as its key.
    pub fn new(base: &str, bearer: &str) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), bearer: bearer.to_owned(), idempotency_key: None }
    }

    /// The same server, with another key.
    #[must_use]
    pub fn with_key(&self, bearer: &str) -> Self {
        Self::new(&self.base, bearer)
    }

    /// The same, whose request is done once however often it is sent under this key: for one request, and its repeats.
    #[must_use]
    pub fn once(&self, idempotency_key: Option<String>) -> Self {
        Self { idempotency_key, ..self.clone() }
    }

    /// The keys of a workspace, newest first, all pages of them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn keys(&self, filter: &KeyFilter) -> Result<Vec<Key>, ClientError> {
        let mut keys = Vec::new();
        loop {
            let mut path = format!("/api/v1/keys?offset={}", keys.len());
            if filter.all {
                path.push_str("&include_disabled=true&include_expired=true");
            }
            if let Some(workspace) = &filter.workspace {
                path = format!("{path}&workspace_id={workspace}");
            }
            let page: Data<Vec<Key>> = self.json(Method::GET, &path, None::<&()>).await?;
            let last = page.data.len() < PAGE;
            keys.extend(page.data);
            if last {
                return Ok(keys);
            }
        }
    }

    /// Creates a key; the answer holds its secret.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_key(&self, key: &CreateKey) -> Result<CreatedKey, ClientError> {
        self.json(Method::POST, "/api/v1/keys", Some(key)).await
    }

    /// One key by its hash.
    ///
    /// # Errors
    /// [`ClientError`]; an unknown key is `Refused` with 404.
    pub async fn key(&self, hash: &str) -> Result<Key, ClientError> {
        let answer: Data<Key> = self.json(Method::GET, &format!("/api/v1/keys/{hash}"), None::<&()>).await?;
        Ok(answer.data)
    }

    /// Changes a key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn update_key(&self, hash: &str, change: &UpdateKey) -> Result<Key, ClientError> {
        let answer: Data<Key> = self.json(Method::PATCH, &format!("/api/v1/keys/{hash}"), Some(change)).await?;
        Ok(answer.data)
    }

    /// Deletes a key for good.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete_key(&self, hash: &str) -> Result<(), ClientError> {
        let _: Deleted = self.json(Method::DELETE, &format!("/api/v1/keys/{hash}"), None::<&()>).await?;
        Ok(())
    }

    /// Gives a key a new secret; the old one works for `grace_seconds` more. The answer holds the new one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotate_key(&self, hash: &str, grace_seconds: u64) -> Result<CreatedKey, ClientError> {
        let body = RotateKey { grace_period_seconds: Some(grace_seconds) };
        self.json(Method::POST, &format!("/api/v1/keys/{hash}/rotate"), Some(&body)).await
    }

    /// Creates all keys of a file, or none: `text/csv`, or `application/json` as of `POST /keys/bulk`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_keys(&self, content_type: &str, file: Vec<u8>) -> Result<Vec<CreatedKey>, ClientError> {
        let (bearer, path) = (Some(self.bearer.as_str()), "/api/v1/keys/bulk");
        let answer = self.send(Method::POST, path, bearer, content_type, Some(file)).await?;
        let created: Data<Vec<CreatedKey>> = understood(&answer)?;
        Ok(created.data)
    }

    /// The account's credits.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn credits(&self) -> Result<Credits, ClientError> {
        let answer: Data<Credits> = self.json(Method::GET, "/api/v1/credits", None::<&()>).await?;
        Ok(answer.data)
    }

    /// Tops the account up.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn top_up(&self, top_up: &TopUp) -> Result<Credits, ClientError> {
        let answer: Data<Credits> = self.json(Method::POST, "/api/v1/credits", Some(top_up)).await?;
        Ok(answer.data)
    }

    /// What was used in the last 30 days and today, by day, model and provider, and by key if that is asked for.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn activity(&self, by_key: bool) -> Result<Vec<ActivityItem>, ClientError> {
        let group = if by_key { "&group_by=key" } else { "" };
        let path = format!("/api/v1/activity?include_today=true{group}");
        let answer: Data<Vec<ActivityItem>> = self.json(Method::GET, &path, None::<&()>).await?;
        Ok(answer.data)
    }

    /// The newest entries of the audit log, `limit` at the most.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit(&self, filter: &AuditFilter, limit: usize) -> Result<Vec<AuditEntry>, ClientError> {
        let named = |name: &str, value: &Option<String>| {
            value
                .as_ref()
                .map(|value| format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
                .unwrap_or_default()
        };
        let filters = named("target", &filter.target) + &named("action", &filter.action);
        self.pages(|offset| format!("/api/v1/audit?limit={PAGE}&offset={offset}{filters}"), limit).await
    }

    /// The members of the organisation, oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn members(&self) -> Result<Vec<OrganizationMember>, ClientError> {
        let path = |offset| format!("/api/v1/organization/members?limit={PAGE}&offset={offset}");
        self.pages(path, usize::MAX).await
    }

    /// Adds a member.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_member(&self, member: &CreateMember) -> Result<OrganizationMember, ClientError> {
        let answer: Data<OrganizationMember> =
            self.json(Method::POST, "/api/v1/organization/members", Some(member)).await?;
        Ok(answer.data)
    }

    /// Removes a member whose keys are all deleted.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_member(&self, user_id: &str) -> Result<(), ClientError> {
        let path = format!("/api/v1/organization/members/{}", utf8_percent_encode(user_id, NON_ALPHANUMERIC));
        let _: Deleted = self.json(Method::DELETE, &path, None::<&()>).await?;
        Ok(())
    }

    /// The provider credentials that calls in the default workspace may use, in the order in which they are tried.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn byok_keys(&self) -> Result<Vec<ByokKey>, ClientError> {
        let answer: ListPage<ByokKey> = self.json(Method::GET, "/api/v1/byok?limit=100", None::<&()>).await?;
        Ok(answer.data)
    }

    /// Stores a provider credential.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_byok_key(&self, request: &CreateByokKey) -> Result<ByokKey, ClientError> {
        let answer: Data<ByokKey> = self.json(Method::POST, "/api/v1/byok", Some(request)).await?;
        Ok(answer.data)
    }

    /// Changes a provider credential.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn update_byok_key(&self, id: &str, change: &UpdateByokKey) -> Result<ByokKey, ClientError> {
        let answer: Data<ByokKey> = self.json(Method::PATCH, &format!("/api/v1/byok/{id}"), Some(change)).await?;
        Ok(answer.data)
    }

    /// Deletes a provider credential, and its secret with it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete_byok_key(&self, id: &str) -> Result<(), ClientError> {
        let _: Deleted = self.json(Method::DELETE, &format!("/api/v1/byok/{id}"), None::<&()>).await?;
        Ok(())
    }

    /// The key of this client.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn current_key(&self) -> Result<CurrentKey, ClientError> {
        let answer: Data<CurrentKey> = self.json(Method::GET, "/api/v1/key", None::<&()>).await?;
        Ok(answer.data)
    }

    /// A chat completion, whatever its status.
    ///
    /// # Errors
    /// No server answers.
    pub async fn chat(&self, body: Vec<u8>) -> Result<RawAnswer, ClientError> {
        self.raw(Method::POST, "/api/v1/chat/completions", Some(body)).await
    }

    /// The items of a list that says how long it is, page after page, `most` at the most.
    async fn pages<T: DeserializeOwned>(
        &self,
        path: impl Fn(usize) -> String,
        most: usize,
    ) -> Result<Vec<T>, ClientError> {
        let mut all: Vec<T> = Vec::new();
        loop {
            let page: ListPage<T> = self.json(Method::GET, &path(all.len()), None::<&()>).await?;
            let ended = page.data.len() < PAGE;
            all.extend(page.data);
            if ended || all.len() >= most {
                all.truncate(most);
                return Ok(all);
            }
        }
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let malformed = |error: serde_json::Error| ClientError::Malformed(error.to_string());
        let body = body.map(serde_json::to_vec).transpose().map_err(malformed)?;
        understood(&self.raw(method, path, body).await?)
    }

    /// One request with the key of this client, and the answer as it came.
    ///
    /// # Errors
    /// [`ClientError::Url`], [`ClientError::Unreachable`].
    pub async fn raw(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<RawAnswer, ClientError> {
        self.request(method, path, Some(&self.bearer), body).await
    }

    /// One request with any credential, or with none, and the answer as it came.
    ///
    /// # Errors
    /// [`ClientError::Url`], [`ClientError::Unreachable`].
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: Option<Vec<u8>>,
    ) -> Result<RawAnswer, ClientError> {
        self.send(method, path, bearer, "application/json", body).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        content_type: &str,
        body: Option<Vec<u8>>,
    ) -> Result<RawAnswer, ClientError> {
        let unreachable = |why: String| ClientError::Unreachable { url: self.base.clone(), why };
        let base: Uri = self.base.parse().map_err(|_| ClientError::Url(self.base.clone()))?;
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.connect(&base)).await;
        let stream = connecting.map_err(|_| unreachable("timed out".to_owned()))??;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(error.to_string()))?;
        let host = base.authority().map(ToString::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host)
            .header(CONTENT_TYPE, content_type)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("tollgate-cli/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|_| ClientError::Url(format!("{}{path}", self.base)))?;
        if let Some(key) = self.idempotency_key.as_ref().filter(|_| request.method() == Method::POST) {
            let value = HeaderValue::try_from(key).map_err(|_| ClientError::IdempotencyKey)?;
            request.headers_mut().insert("idempotency-key", value);
        }
        if let Some(bearer) = bearer {
            let mut value = HeaderValue::try_from(format!("Bearer {bearer}"))
                .map_err(|_| ClientError::Url(format!("{}{path}", self.base)))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, hyper::Error>(RawAnswer { status: head.status, headers: head.headers, body })
        };
        let driven = async {
            let mut exchange = std::pin::pin!(exchange);
            tokio::select! {
                biased;
                answer = &mut exchange => answer,
                // The connection may end first; what it delivered is still there.
                _ = connection => exchange.await,
            }
        };
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, driven).await;
        answered.map_err(|_| unreachable("timed out".to_owned()))?.map_err(|error| unreachable(error.to_string()))
    }

    async fn connect(&self, base: &Uri) -> Result<Box<dyn Stream>, ClientError> {
        let url = || ClientError::Url(self.base.clone());
        let unreachable = |error: std::io::Error| {
            let why = if error.kind() == std::io::ErrorKind::ConnectionRefused {
                "connection refused".to_owned()
            } else {
                error.to_string()
            };
            ClientError::Unreachable { url: self.base.clone(), why }
        };
        let host = base.host().ok_or_else(url)?.trim_matches(['[', ']']).to_owned();
        let https = match base.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(url()),
        };
        let port = base.port_u16().unwrap_or(if https { 443 } else { 80 });
        let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(unreachable)?;
        if !https {
            return Ok(Box::new(tcp));
        }
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| url())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let name = rustls::pki_types::ServerName::try_from(host).map_err(|_| url())?;
        Ok(Box::new(connector.connect(name, tcp).await.map_err(unreachable)?))
    }
}

/// The body of an answer, or why it refuses.
fn understood<T: DeserializeOwned>(answer: &RawAnswer) -> Result<T, ClientError> {
    if answer.status.is_success() {
        return serde_json::from_slice(&answer.body).map_err(|error| ClientError::Malformed(error.to_string()));
    }
    let message = serde_json::from_slice::<ErrorEnvelope>(&answer.body)
        .map_or_else(|_| format!("the server answered {}", answer.status), |envelope| envelope.error.message);
    Err(ClientError::Refused { status: answer.status.as_u16(), message })
}

#[cfg(test)]
mod tests;
