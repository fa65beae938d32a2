//! Against a server of a few lines that plays back answers and keeps what it was asked.

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tollgate_wire::{CreateKey, UpdateKey};

use super::{Client, ClientError, KeyFilter};

const SECRET: &str = "sk-or-v1-secret";

/// A client of a server that gives `answers`, one a connection, and what that server was asked once it gave them all.
async fn playback(answers: Vec<(u16, String)>) -> (Client, impl Future<Output = Vec<String>> + use<>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}/", listener.local_addr().unwrap()), SECRET);
    let server = async move {
        let mut asked = Vec::new();
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !complete(&request) {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "cut request");
            }
            asked.push(String::from_utf8(request).unwrap());
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
        asked
    };
    (client, server)
}

fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(Ok(0), str::parse::<usize>).unwrap_or(usize::MAX)
}

fn key(name: &str) -> Value {
    json!({
        "hash": "0", "name": name, "label": "sk-or-v1-726...f5c", "disabled": false, "limit": 25.5,
        "limit_remaining": -5.79e-6, "limit_reset": null, "include_byok_in_limit": false, "usage": 0,
        "usage_daily": 0, "usage_weekly": 0, "usage_monthly": 0, "byok_usage": 0, "byok_usage_daily": 0,
        "byok_usage_weekly": 0, "byok_usage_monthly": 0, "created_at": "2026-09-08T10:30:00.123Z",
        "updated_at": null, "expires_at": null, "last_used_at": null, "creator_user_id": null,
        "external_user": null, "workspace_id": "0df9e665-d932-5740-b2c7-b52af166bc11",
    })
}

fn page(keys: usize) -> (u16, String) {
    let keys: Vec<Value> = (0..keys).map(|index| key(&index.to_string())).collect();
    (200, json!({ "data": keys }).to_string())
}

#[tokio::test]
async fn a_list_is_paged_until_a_page_is_short() {
    let (client, server) = playback(vec![page(100), page(100), page(3)]).await;
    let filter = KeyFilter { all: true, workspace: None };
    let (keys, asked) = tokio::join!(client.keys(&filter), server);
    assert_eq!(keys.unwrap().len(), 203);
    for (request, offset) in asked.iter().zip([0, 100, 200]) {
        let line = format!("GET /api/v1/keys?offset={offset}&include_disabled=true&include_expired=true HTTP/1.1");
        assert!(request.starts_with(&line), "{request}");
    }
}

#[tokio::test]
async fn a_full_last_page_is_followed_by_an_empty_one() {
    let (client, server) = playback(vec![page(100), page(0)]).await;
    let filter = KeyFilter::default();
    let (keys, asked) = tokio::join!(client.keys(&filter), server);
    assert_eq!((keys.unwrap().len(), asked.len()), (100, 2));
}

#[tokio::test]
async fn a_key_is_created_changed_and_deleted_with_the_credential() {
    let created = json!({ "data": key("ci"), "key": "sk-or-v1-new" }).to_string();
    let changed = json!({ "data": key("ci") }).to_string();
    let deleted = json!({ "deleted": true }).to_string();
    let (client, server) = playback(vec![(201, created), (200, changed), (200, deleted)]).await;
    let calls = async {
        let asked = CreateKey { name: "ci".to_owned(), ..CreateKey::default() };
        let made = client.create_key(&asked).await.unwrap();
        assert_eq!(made.key, "sk-or-v1-new");
        assert_eq!(made.data.limit_remaining.unwrap().0.nanos(), -5_790);
        let unlimited = UpdateKey { limit: Some(None), ..UpdateKey::default() };
        client.update_key("0", &unlimited).await.unwrap();
        client.delete_key("0").await.unwrap();
    };
    let ((), asked) = tokio::join!(calls, server);
    for (request, (start, end)) in asked.iter().zip([
        ("POST /api/v1/keys ", r#"{"name":"ci"}"#),
        ("PATCH /api/v1/keys/0 ", r#"{"limit":null}"#),
        ("DELETE /api/v1/keys/0 ", "\r\n\r\n"),
    ]) {
        assert!(request.starts_with(start) && request.ends_with(end), "{request}");
        assert!(request.contains(&format!("authorization: Bearer {SECRET}\r\n")), "{request}");
    }
}

#[tokio::test]
async fn a_request_can_go_without_a_credential() {
    let (client, server) = playback(vec![(200, "{}".to_owned())]).await;
    let (answer, asked) = tokio::join!(client.request(Method::GET, "/api/v1/key", None, None), server);
    assert_eq!(answer.unwrap().status, 200);
    assert!(!asked[0].contains("authorization"), "{}", asked[0]);
}

#[tokio::test]
async fn a_refusal_carries_the_status_and_the_servers_words() {
    let envelope = json!({ "error": { "message": "API key not found", "code": 404 } }).to_string();
    let (client, server) = playback(vec![(404, envelope), (502, "<html>".to_owned())]).await;
    let calls = async { [client.key("0").await, client.key("0").await] };
    let ([unknown, broken], _) = tokio::join!(calls, server);
    assert!(matches!(
        unknown.unwrap_err(),
        ClientError::Refused { status: 404, message } if message == "API key not found"
    ));
    assert!(matches!(
        broken.unwrap_err(),
        ClientError::Refused { status: 502, message } if message.contains("502")
    ));
}

#[tokio::test]
async fn an_answer_that_is_no_key_is_malformed() {
    let (client, server) = playback(vec![(200, r#"{"data":{}}"#.to_owned())]).await;
    let (answer, _) = tokio::join!(client.current_key(), server);
    assert!(matches!(answer.unwrap_err(), ClientError::Malformed(_)));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable_and_a_bad_url_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let gone = Client::new(&base, SECRET).current_key().await;
    assert!(matches!(gone.unwrap_err(), ClientError::Unreachable { url, .. } if url == base));
    let bad = Client::new("ftp://localhost", SECRET).current_key().await;
    assert!(matches!(bad.unwrap_err(), ClientError::Url(url) if url == "ftp://localhost"));
}

#[tokio::test]
async fn secrets_are_not_in_debug_output() {
    let created = json!({ "data": key("ci"), "key": SECRET }).to_string();
    let (client, server) = playback(vec![(201, created)]).await;
    let (answer, _) = tokio::join!(client.raw(Method::POST, "/api/v1/keys", None), server);
    let answer = answer.unwrap();
    for text in [format!("{client:?}"), format!("{answer:?}"), format!("{:?}", client.with_key(SECRET))] {
        assert!(!text.contains(SECRET), "{text}");
    }
}
