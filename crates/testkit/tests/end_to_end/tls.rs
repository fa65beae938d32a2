//! The TLS listener: the same API over HTTP/1.1 and HTTP/2, and nothing for plain text.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::CertifiedKey;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use testkit::{MANAGEMENT_KEY, MODEL, TestApp, free_folder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tollgate::config::TlsConfig;
use tollgate_gateway::Limits;

/// A client that trusts one certificate and speaks one protocol.
struct TlsClient {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    version: Version,
}

impl TlsClient {
    async fn ask(&self, method: &str, path: &str, bearer: &str, body: &Value) -> (StatusCode, Value) {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols =
            vec![if self.version == Version::HTTP_2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol().is_some_and(|alpn| alpn == b"h2"), self.version == Version::HTTP_2);

        let request = Request::builder().method(method).header(AUTHORIZATION, format!("Bearer {bearer}"));
        let request = match self.version {
            Version::HTTP_2 => request.uri(format!("https://localhost{path}")),
            _ => request.uri(path).header(HOST, "localhost"),
        };
        let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
        let mut connections = JoinSet::new();
        let io = TokioIo::new(tls);
        let answer = if self.version == Version::HTTP_2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            connections.spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            connections.spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        assert_eq!(answer.version(), self.version);
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }
}

#[tokio::test]
async fn keys_are_made_and_used_over_tls_by_both_versions_of_http() {
    let folder = free_folder();
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate_file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate_file, cert.pem()).unwrap();
    std::fs::write(&key_file, signing_key.serialize_pem()).unwrap();
    let tls = TlsConfig { certificate_file, key_file };
    let app = TestApp::with(|config| config.server.tls = Some(tls), Limits::default()).await;

    for version in [Version::HTTP_11, Version::HTTP_2] {
        let client = TlsClient { address: app.address, certificate: cert.der().clone(), version };
        let (status, created) =
            client.ask("POST", "/api/v1/keys", MANAGEMENT_KEY, &json!({"name": "tls", "limit": 1})).await;
        assert_eq!(status, StatusCode::CREATED, "{created}");
        let key = created["key"].as_str().unwrap();
        let call = json!({"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
        let (status, answer) = client.ask("POST", "/api/v1/chat/completions", key, &call).await;
        assert_eq!((status, answer["usage"]["total_tokens"].as_u64()), (StatusCode::OK, Some(15)), "{answer}");
        let (status, refused) = client.ask("GET", "/api/v1/key", "nobody", &json!({})).await;
        assert_eq!((status, refused["error"]["code"].as_u64()), (StatusCode::UNAUTHORIZED, Some(401)));
    }

    let mut plain = TcpStream::connect(app.address).await.unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // It may end with a reset, which is an ending too.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
}
