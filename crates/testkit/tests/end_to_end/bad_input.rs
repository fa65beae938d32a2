//! Whatever is sent, the answer is the contract's envelope, and nothing is left half done.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use testkit::{MODEL, TestApp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate_client::RawAnswer;
use tollgate_gateway::Limits;

/// Checks the envelope and returns its message.
fn envelope(answer: &RawAnswer, status: u16) -> String {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status.as_u16(), status, "{text}");
    assert_eq!(answer.headers["content-type"], "application/json");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["error"]["code"], status, "{text}");
    body["error"]["message"].as_str().unwrap().to_owned()
}

async fn post_key(app: &TestApp, body: &str) -> RawAnswer {
    app.manager.raw(Method::POST, "/api/v1/keys", Some(body.as_bytes().to_vec())).await.unwrap()
}

async fn key_count(app: &TestApp) -> usize {
    app.manager.keys(&tollgate_client::KeyFilter { all: true, workspace: None }).await.unwrap().len()
}

/// Sends bytes as they are and reads until the server closes or answers.
async fn send_raw(app: &TestApp, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    // A server that refuses early may close before all of it is written.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn keys_that_make_no_sense_are_not_created() {
    let app = TestApp::start().await;
    let cases = [
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("[]", "Invalid request parameters"),
        (r#"["x", 5, "daily"]"#, "expected an object"),
        (r#"{"name":"x","external":["user"]}"#, "expected an object"),
        ("{}", "name"),
        (r#"{"name":""}"#, "`name` must not be empty"),
        (r#"{"name":"  "}"#, "`name` must not be empty"),
        (r#"{"name":5}"#, "Invalid request parameters"),
        (r#"{"name":"x","name":"y"}"#, "duplicate field"),
        (r#"{"name":"x","Limit":5}"#, "`limit` is written in lower case"),
        (r#"{"name":"x"} x"#, "not valid JSON"),
        (r#"{"name":"x","limit":"5"}"#, "`limit` must be a number"),
        (r#"{"name":"x","limit":-1}"#, "`limit` must not be negative"),
        (r#"{"name":"x","limit":1e300}"#, "`limit` is too large"),
        (r#"{"name":"x","limit":NaN}"#, "not valid JSON"),
        (r#"{"name":"x","limit":[1]}"#, "`limit` must be a number"),
        (r#"{"name":"x","limit_reset":"yearly"}"#, "`limit_reset` must be daily, weekly, monthly or null"),
        (r#"{"name":"x","expires_at":"2026-01-15T11:59:59Z"}"#, "`expires_at` must be in the future"),
        (r#"{"name":"x","expires_at":"2027-01-01T00:00:00+02:00"}"#, "`expires_at` must be in UTC"),
        (r#"{"name":"x","expires_at":"2027-01-01T00:00Z"}"#, "`expires_at` is not an ISO 8601"),
        (r#"{"name":"x","workspace_id":"nope"}"#, "`workspace_id` must be a UUID"),
        (r#"{"name":"x","workspace_id":"00000000-0000-4000-8000-000000000000"}"#, "Workspace not found"),
        (r#"{"name":"x","creator_user_id":"user_x"}"#, "creator_user_id"),
        (r#"{"name":"x","requests_per_minute":0}"#, "`requests_per_minute` must be 1 or more, or null"),
        (r#"{"name":"x","calls_in_flight_max":0}"#, "`calls_in_flight_max` must be 1 or more, or null"),
        (r#"{"name":"x","calls_in_flight_max":-1}"#, "Invalid request parameters"),
        (r#"{"name":"x","calls_in_flight_max":1.5}"#, "Invalid request parameters"),
        (r#"{"name":"x","requests_per_minute":4294967296}"#, "Invalid request parameters"),
        (r#"{"name":"x","requests_per_minute":"60"}"#, "Invalid request parameters"),
        (r#"{"name":"x","include_byok_in_limit":"yes"}"#, "Invalid request parameters"),
    ];
    for (body, problem) in cases {
        let message = envelope(&post_key(&app, body).await, 400);
        assert!(message.contains(problem), "{body}: {message}");
    }
    assert_eq!(key_count(&app).await, 0, "nothing half done");
}

#[tokio::test]
async fn a_limit_finer_than_a_nano_dollar_is_rounded_down() {
    let app = TestApp::start().await;
    let created: Value =
        serde_json::from_slice(&post_key(&app, r#"{"name":"x","limit":0.0000000019999}"#).await.body).unwrap();
    assert_eq!(created["data"]["limit"].to_string(), "1e-9");
    let zero: Value = serde_json::from_slice(&post_key(&app, r#"{"name":"x","limit":0}"#).await.body).unwrap();
    assert_eq!(zero["data"]["limit_remaining"], 0);
    let client = app.manager.with_key(zero["key"].as_str().unwrap());
    let call = json!({"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]});
    let refused = client.chat(call.to_string().into_bytes()).await.unwrap();
    assert!(envelope(&refused, 403).starts_with("Key limit exceeded (total limit)"));
}

#[tokio::test]
async fn lists_page_by_a_hundred_and_refuse_odd_queries() {
    let app = TestApp::start().await;
    for number in 0..101 {
        app.manager.create_key(&serde_json::from_value(json!({"name": format!("k{number}")})).unwrap()).await.unwrap();
    }
    let page = async |query: &str| {
        let answer = app.manager.raw(Method::GET, &format!("/api/v1/keys{query}"), None).await.unwrap();
        assert_eq!(answer.status, 200, "{query}");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        body["data"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = page("").await;
    assert_eq!((first.len(), first[0].as_str(), first[99].as_str()), (100, "k100", "k1"));
    assert_eq!(page("?offset=100").await, ["k0"]);
    assert_eq!(page("/?offset=101").await.len(), 0);
    assert_eq!(page("?offset=99999999999999999999999").await.len(), 0);
    assert_eq!(page("?offset=&include_disabled=").await.len(), 100);
    let newest = app.manager.keys(&tollgate_client::KeyFilter::default()).await.unwrap().remove(0);
    app.manager.update_key(&newest.hash, &serde_json::from_str(r#"{"disabled":true}"#).unwrap()).await.unwrap();
    assert_eq!(page("").await[0], "k99");
    assert_eq!(page("?include_disabled=true").await[0], "k100");
    for query in ["?offset=-1", "?offset=x", "?offset=1.5", "?include_disabled=maybe", "?workspace_id=x"] {
        let answer = app.manager.raw(Method::GET, &format!("/api/v1/keys{query}"), None).await.unwrap();
        envelope(&answer, 400);
    }
    let unknown = "/api/v1/keys?workspace_id=00000000-0000-4000-8000-000000000000";
    envelope(&app.manager.raw(Method::GET, unknown, None).await.unwrap(), 404);
}

#[tokio::test]
async fn a_key_that_is_not_there_is_a_404_and_an_empty_change_a_400() {
    let app = TestApp::start().await;
    let key = app.key().create().await;
    let path = format!("/api/v1/keys/{}", key.hash);
    for body in ["{}", r#"{"later":1}"#] {
        let answer = app.manager.raw(Method::PATCH, &path, Some(body.as_bytes().to_vec())).await.unwrap();
        assert_eq!(envelope(&answer, 400), "No update fields provided");
    }
    app.manager.delete_key(&key.hash).await.unwrap();
    let update = Some(br#"{"name":"x"}"#.to_vec());
    for (method, body) in [(Method::GET, None), (Method::DELETE, None), (Method::PATCH, update)] {
        for path in [
            path.clone(),
            "/api/v1/keys/nonsense".to_owned(),
            path.to_uppercase().replace("/API/V1/KEYS", "/api/v1/keys"),
        ] {
            let answer = app.manager.raw(method.clone(), &path, body.clone()).await.unwrap();
            assert_eq!(envelope(&answer, 404), "API key not found");
        }
    }
}

#[tokio::test]
async fn bearers_of_all_kinds_get_the_contracts_words() {
    let app = TestApp::start().await;
    let key = app.key().create().await;
    let list =
        |client: tollgate_client::Client| async move { client.raw(Method::GET, "/api/v1/keys", None).await.unwrap() };
    assert_eq!(envelope(&list(key.client.clone()).await, 401), "Invalid management key");
    assert_eq!(envelope(&list(app.manager.with_key("x")).await, 401), "Invalid management key");
    let current = app.manager.with_key("sk-or-v1-unknown").raw(Method::GET, "/api/v1/auth/key", None).await.unwrap();
    assert_eq!(envelope(&current, 401), "User not found.");
    let own: Value =
        serde_json::from_slice(&app.manager.raw(Method::GET, "/api/v1/key", None).await.unwrap().body).unwrap();
    assert_eq!((&own["data"]["is_management_key"], &own["data"]["is_provisioning_key"]), (&json!(true), &json!(true)));
    for (path, words) in
        [("/api/v1/key", "Missing Authentication header"), ("/api/v1/keys/", "Missing Authentication header")]
    {
        let answer =
            send_raw(&app, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains(words), "{answer}");
    }
    for odd in ["Basic dXNlcjpwYXNz", "Bearer", "Bearer ", "sk-or-v1-x", "Bearer \u{e9}"] {
        let request =
            format!("GET /api/v1/key HTTP/1.1\r\nhost: x\r\nauthorization: {odd}\r\nconnection: close\r\n\r\n");
        let answer = send_raw(&app, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("User not found."), "{odd}: {answer}");
    }
    envelope(&app.manager.raw(Method::GET, "/api/v1/nothing", None).await.unwrap(), 404);
    envelope(&app.manager.raw(Method::PUT, "/api/v1/keys", None).await.unwrap(), 405);
    envelope(&app.manager.raw(Method::GET, "/api/v1/chat/completions", None).await.unwrap(), 405);
}

#[tokio::test]
async fn calls_that_make_no_sense_send_nothing_and_hold_nothing() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    let with = |extra: &str| format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hi"}}]{extra}}}"#);
    let deep = format!("{}{}", "[".repeat(70), "]".repeat(70));
    let cases = [
        ("{".to_owned(), 400, "not acceptable JSON"),
        (with("") + "x", 400, "after the value"),
        (with(r#","model":"a/b""#), 400, "appears twice"),
        (with(r#","Stream":true"#), 400, "only in case"),
        (with(r#","\u017ftream":true"#), 400, "only in case"),
        (with(&format!(",\"deep\":{deep}")), 400, "nesting is deeper"),
        (with(r#","max_tokens":0"#), 400, "`max_tokens` must be at least 1"),
        (with(r#","max_tokens":1.5"#), 400, "`max_tokens` must be a positive whole number"),
        (with(r#","max_tokens":5,"max_completion_tokens":6"#), 400, "differ"),
        (with(r#","max_tokens":9999999999"#), 400, "too large"),
        (with(r#","stream":"yes""#), 400, "`stream` must be true or false"),
        (with(r#","service_tier":"priority""#), 400, "`service_tier` changes the price"),
        (with(r#","plugins":[{"id":"web"}]"#), 400, "`plugins` changes the price"),
        (with(r#","tools":[{"type":"web_search"}]"#), 400, "`tools[0].type` changes the price"),
        (r#"{"messages":[{"role":"user","content":"hi"}]}"#.to_owned(), 400, "`model` is required"),
        (format!(r#"{{"model":"{MODEL}"}}"#), 400, "Input required: specify \"prompt\" or \"messages\""),
        (
            r#"{"model":"no/such","messages":[{"role":"user","content":"hi"}]}"#.to_owned(),
            400,
            "no/such is not a valid model ID",
        ),
        (
            r#"{"model":"test/unpriced","messages":[{"role":"user","content":"hi"}]}"#.to_owned(),
            404,
            "No price is known for test/unpriced",
        ),
        (with(r#","provider":{"only":["other"]}"#), 404, "No endpoints found"),
        (with(r#","max_tokens":2000000000"#), 402, "fewer max_tokens"),
    ];
    for (body, status, problem) in cases {
        let message = envelope(&key.client.chat(body.clone().into_bytes()).await.unwrap(), status);
        assert!(message.contains(problem), "{body}: {message}");
    }
    let invalid = [b"{\"model\":\"".as_slice(), b"\xff\xfe", b"\"}"].concat();
    envelope(&key.client.chat(invalid).await.unwrap(), 400);
    assert_eq!(app.provider.calls(), 0);
    let current = key.client.current_key().await.unwrap();
    assert_eq!((current.usage.0.nanos(), current.limit_held.unwrap().0.nanos()), (0, 0));
}

#[tokio::test]
async fn a_price_field_passes_where_no_budget_applies() {
    let app = TestApp::start().await;
    let key = app.key().create().await;
    assert_eq!(key.chat(10, json!({"service_tier": "priority"})).await.status, 200);
}

#[tokio::test]
async fn bodies_that_are_too_large_or_encoded_are_refused() {
    let app = TestApp::with(|config| config.limits.body_bytes_max = 4_096, Limits::default()).await;
    let key = app.key().limit("1").create().await;
    let large = json!({"model": MODEL, "messages": [{"role": "user", "content": "x".repeat(5_000)}]}).to_string();
    envelope(&key.client.chat(large.clone().into_bytes()).await.unwrap(), 413);
    envelope(&post_key(&app, &large).await, 413);
    for path in ["chat/completions", "keys"] {
        let bearer = if path == "keys" {
            "sk-or-v1-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        } else {
            &key.secret
        };
        let head = format!(
            "POST /api/v1/{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer}\r\nconnection: close\r\n"
        );
        let encoded =
            send_raw(&app, format!("{head}content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{{}}").as_bytes()).await;
        assert!(encoded.starts_with("HTTP/1.1 415") && encoded.contains("Content-Encoding"), "{encoded}");
        let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 5_000, "x".repeat(5_000));
        let chunked = send_raw(&app, format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}").as_bytes()).await;
        assert!(chunked.starts_with("HTTP/1.1 413") && chunked.contains("\"code\":413"), "{chunked}");
    }
    assert_eq!((app.provider.calls(), key_count(&app).await), (0, 1));
}

#[tokio::test]
async fn header_floods_and_slow_clients_are_shed() {
    let change = |config: &mut tollgate::config::Config| {
        config.limits.header_timeout_seconds = 1;
        config.limits.body_timeout_seconds = 1;
    };
    let app = TestApp::with(change, Limits::default()).await;
    let key = app.key().create().await;
    let flood = |count: usize| {
        let many = (0..count).map(|number| format!("x-{number}: 1\r\n")).collect::<Vec<_>>().concat();
        format!("GET /api/v1/key HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{many}\r\n")
    };
    let torrent = send_raw(&app, flood(500).as_bytes()).await;
    assert!(torrent.starts_with("HTTP/1.1 431"), "{torrent}");
    let flooded = send_raw(&app, flood(80).as_bytes()).await;
    assert!(flooded.starts_with("HTTP/1.1 431") && flooded.contains("\"code\":431"), "{flooded}");
    let endless = format!("GET /api/v1/key HTTP/1.1\r\nx: {}", "y".repeat(600_000));
    assert!(!send_raw(&app, endless.as_bytes()).await.contains("200 OK"));

    // Headers that never end: the connection is closed.
    let mut stalled = TcpStream::connect(app.address).await.unwrap();
    stalled.write_all(b"POST /api/v1/chat/completions HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(20), stalled.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "a client that never ends its headers is let go");

    // A body that never ends: the envelope, then the connection is closed.
    let mut slow = TcpStream::connect(app.address).await.unwrap();
    let head = format!(
        "POST /api/v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 50\r\n\r\n{{",
        key.secret
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut buffer = vec![0; 2_048];
    let read = tokio::time::timeout(Duration::from_secs(20), slow.read(&mut buffer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&buffer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("Operation timed out"), "{answer}");
    assert_eq!(key.chat(10, json!({})).await.status, 200, "others are served");
}
