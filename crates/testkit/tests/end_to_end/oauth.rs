//! Codes for apps, and the keys that apps get for them (OAuth PKCE).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use testkit::{MODEL, TestApp, nanos};
use tokio::task::JoinSet;
use tollgate_client::{Client, KeyFilter};
use tollgate_domain::KeyHash;
use tollgate_gateway::Limits;

use crate::contract::{Published, ask, json_of};

const CODE: &str = "POST /auth/keys/code";
const EXCHANGE: &str = "POST /auth/keys";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// The S256 challenge of [`VERIFIER`] (RFC 7636, appendix B).
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Asks, expects a status, checks the published schema of the operation, and returns the body.
async fn expect(client: &Client, operation: &str, body: Value, status: u16) -> Value {
    let (method, path) = operation.split_once(' ').unwrap();
    let answer = ask(client, method.parse().unwrap(), path, Some(body)).await;
    let json = json_of(&answer);
    assert_eq!(answer.status.as_u16(), status, "{operation}: {json}");
    assert_eq!(answer.headers["cache-control"], "no-store");
    Published::load().check(operation, &status.to_string(), &json);
    json
}

fn message(body: &Value) -> &str {
    body["error"]["message"].as_str().unwrap()
}

/// The body of a request for a code, with more or other members than the usual ones.
fn request(extra: Value) -> Value {
    let mut body = json!({"callback_url": "https://app.example.org/back?x=1", "code_challenge": CHALLENGE});
    let Value::Object(extra) = extra else { return body };
    body.as_object_mut().unwrap().extend(extra);
    body
}

/// A code.
async fn code(app: &TestApp, extra: Value) -> String {
    let made = expect(&app.manager, CODE, request(extra), 200).await;
    made["data"]["id"].as_str().unwrap().to_owned()
}

/// An app: it has no key until it exchanges a code for one.
fn stranger(app: &TestApp) -> Client {
    app.manager.with_key("sk-or-v1-stranger")
}

fn proof(code: &str, verifier: &str) -> Value {
    json!({"code": code, "code_verifier": verifier})
}

/// The key that a code is good for: its secret, and how it is shown to those who manage it.
async fn exchange(app: &TestApp, body: Value) -> (String, Value) {
    let exchanged = expect(&stranger(app), EXCHANGE, body, 200).await;
    assert_eq!(exchanged.as_object().unwrap().keys().collect::<Vec<_>>(), ["key", "user_id"]);
    assert_eq!(exchanged["user_id"], Value::Null);
    let secret = exchanged["key"].as_str().unwrap();
    let path = format!("/keys/{}", KeyHash::of(secret));
    let shown = ask(&app.manager, Method::GET, &path, None).await;
    (secret.to_owned(), json_of(&shown)["data"].take())
}

async fn refused(app: &TestApp, body: Value, status: u16, told: &str) {
    let refused = expect(&stranger(app), EXCHANGE, body, status).await;
    assert_eq!(message(&refused), told);
}

async fn key_count(app: &TestApp) -> usize {
    app.manager.keys(&KeyFilter { all: true, workspace: None }).await.unwrap().len()
}

const INVALID: &str = "Invalid code or code_verifier";
const EXPIRED: &str = "Authorization code expired";

#[tokio::test]
async fn a_code_buys_a_key_with_its_limits() {
    let app = TestApp::start().await;
    let lab = json!({"name": "Lab", "slug": "lab"});
    let lab = json_of(&ask(&app.manager, Method::POST, "/workspaces", Some(lab)).await)["data"]["id"].take();
    let asked = json!({
        "code_challenge_method": "S256",
        "key_label": "My app",
        "limit": 0.000_01,
        "usage_limit_type": "weekly",
        "expires_at": "2026-02-01T00:00:00Z",
        "workspace_id": lab,
        "spawn_agent": "ignored",
    });
    let made = expect(&app.manager, CODE, request(asked), 200).await["data"].take();
    assert_eq!(made["created_at"], "2026-01-15T12:00:00.000Z");
    let code = made["id"].as_str().unwrap();
    assert!(code.starts_with("auth_code_") && code.len() == 74, "{code}");
    let body = json!({"code": code, "code_verifier": VERIFIER, "code_challenge_method": "S256"});
    let (secret, key) = exchange(&app, body).await;
    let client = app.manager.with_key(&secret);
    let facts = json!({
        "name": "My app", "limit": 0.000_01, "limit_reset": "weekly", "expires_at": "2026-02-01T00:00:00.000Z",
        "workspace_id": lab, "creator_user_id": null, "disabled": false, "include_byok_in_limit": false,
    });
    for (name, value) in facts.as_object().unwrap() {
        assert_eq!(&key[name], value, "{name}");
    }
    assert!(key["label"].as_str().unwrap().starts_with("sk-or-v1-"));
    for (max_tokens, status) in [(5, 200), (2_000, 402)] {
        let call = json!({"model": MODEL, "max_tokens": max_tokens, "messages": [{"role": "user", "content": "hi"}]});
        let answer = client.chat(call.to_string().into_bytes()).await.unwrap();
        assert_eq!(answer.status, status, "it is held to its limit: {:?}", answer.body);
    }
    assert_eq!(ask(&client, Method::GET, "/keys", None).await.status, 401, "it manages nothing");
}

#[tokio::test]
async fn a_plain_challenge_is_its_verifier() {
    let app = TestApp::start().await;
    let plain = json!({"code_challenge": "my-verifier", "code_challenge_method": "plain"});
    let (_, key) = exchange(&app, proof(&code(&app, plain.clone()).await, "my-verifier")).await;
    assert_eq!((&key["name"], &key["limit"]), (&json!("app.example.org"), &Value::Null), "named by its host");
    let code = code(&app, plain).await;
    let with = |method: &str| json!({"code": code, "code_verifier": "my-verifier", "code_challenge_method": method});
    for method in ["S256", "S512", ""] {
        refused(&app, with(method), 400, "Invalid code_challenge_method").await;
    }
    exchange(&app, with("plain")).await;
}

#[tokio::test]
async fn a_code_is_good_for_one_key() {
    let app = TestApp::start().await;
    let code = code(&app, json!({})).await;
    for (body, told) in [
        (proof("auth_code_of_nobody", VERIFIER), INVALID),
        (json!({"code": code}), INVALID),
        (proof(&code, ""), INVALID),
        (proof(&code, CHALLENGE), INVALID),
    ] {
        refused(&app, body, 403, told).await;
    }
    assert_eq!(key_count(&app).await, 0);
    exchange(&app, proof(&code, VERIFIER)).await;
    refused(&app, proof(&code, VERIFIER), 403, INVALID).await;
    assert_eq!(key_count(&app).await, 1);
    for body in [json!({}), json!({"code": 5}), json!({"code": null}), json!([])] {
        expect(&stranger(&app), EXCHANGE, body, 400).await;
    }
    for path in ["/auth/keys", "/auth/keys/code"] {
        assert_eq!(ask(&app.manager, Method::GET, path, None).await.status, 405);
    }
}

#[tokio::test]
async fn a_code_dies_of_five_wrong_verifiers() {
    let app = TestApp::start().await;
    let code = code(&app, json!({})).await;
    for guess in 0..5 {
        refused(&app, proof(&code, &format!("guess-{guess}")), 403, INVALID).await;
    }
    refused(&app, proof(&code, VERIFIER), 403, INVALID).await;
    assert_eq!(key_count(&app).await, 0);
}

#[tokio::test]
async fn a_code_lives_ten_minutes_and_no_longer_than_its_key() {
    let app = TestApp::start().await;
    let (on_time, late) = (code(&app, json!({})).await, code(&app, json!({})).await);
    let short = code(&app, json!({"expires_at": "2026-01-15T12:05:00Z"})).await;
    app.clock.advance(Duration::from_secs(599));
    exchange(&app, proof(&on_time, VERIFIER)).await;
    refused(&app, proof(&short, VERIFIER), 403, EXPIRED).await;
    app.clock.advance(Duration::from_secs(1));
    refused(&app, proof(&late, VERIFIER), 403, EXPIRED).await;
    refused(&app, proof(&late, "guess"), 403, EXPIRED).await;
    assert_eq!(key_count(&app).await, 1);
}

#[tokio::test]
async fn only_a_management_key_makes_codes() {
    let app = TestApp::start().await;
    let inference = app.key().create().await;
    let refused = expect(&inference.client, CODE, request(json!({})), 403).await;
    assert_eq!(message(&refused), "Only management keys can perform this operation");
    expect(&stranger(&app), CODE, request(json!({})), 401).await;
    let (bought, _) = exchange(&app, proof(&code(&app, json!({})).await, VERIFIER)).await;
    expect(&app.manager.with_key(&bought), CODE, request(json!({})), 403).await;
}

#[tokio::test]
async fn codes_that_make_no_sense_are_not_made() {
    let app = TestApp::start().await;
    for url in
        ["https://app.example.org:8443/x", "http://localhost:3000/cb", "http://127.0.0.1:1", "http://[::1]:3000/"]
    {
        expect(&app.manager, CODE, request(json!({"callback_url": url})), 200).await;
    }
    for (extra, told) in [
        (json!({"callback_url": "http://app.example.org/"}), "`callback_url` must be https"),
        (json!({"callback_url": "http://localhost@app.example.org/"}), "`callback_url` must not hold a user name"),
        (json!({"callback_url": "myapp://back"}), "`callback_url` must be https"),
        (json!({"callback_url": "app.example.org"}), "`callback_url` must be an absolute URL"),
        (json!({"callback_url": null}), "Invalid request parameters"),
        (json!({"code_challenge": null}), "`code_challenge` is required"),
        (json!({"code_challenge": ""}), "`code_challenge` is required"),
        (json!({"code_challenge": "short"}), "`code_challenge` must be the base64url"),
        (json!({"code_challenge_method": "s256"}), "`code_challenge_method` must be S256 or plain"),
        (json!({"key_label": "x".repeat(101)}), "`key_label` must have 100 characters"),
        (json!({"limit": -1}), "`limit` must not be negative"),
        (json!({"limit": "5"}), "`limit` must be a number"),
        (json!({"usage_limit_type": "yearly"}), "`usage_limit_type` must be"),
        (json!({"expires_at": "2026-01-15T12:00:00Z"}), "`expires_at` must be in the future"),
        (json!({"expires_at": "tomorrow"}), "`expires_at` is not"),
        (json!({"workspace_id": "lab"}), "`workspace_id` must be a UUID"),
        (json!({"workspace_id": "00000000-0000-4000-8000-000000000000"}), "Workspace not found"),
    ] {
        let refused = expect(&app.manager, CODE, request(extra), 400).await;
        assert!(message(&refused).starts_with(told), "{refused}");
    }
    let bare = json!({"callback_url": "https://app.example.org/"});
    let refused = expect(&app.manager, CODE, bare, 400).await;
    assert!(message(&refused).contains("a code is only made for a challenge"), "{refused}");
    expect(&app.manager, CODE, request(json!({"key_label": "\u{e9}".repeat(100)})), 200).await;
}

#[tokio::test]
async fn the_default_limit_is_for_codes_that_ask_for_none() {
    let change = |config: &mut tollgate::config::Config| config.oauth.default_limit_usd = Some("2.50".to_owned());
    let app = TestApp::with(change, Limits::default()).await;
    for (extra, limit, reset) in [
        (json!({}), 2_500_000_000, json!(null)),
        (json!({"limit": null, "usage_limit_type": "daily"}), 2_500_000_000, json!("daily")),
        (json!({"limit": 7}), 7_000_000_000, json!(null)),
        (json!({"limit": 0}), 0, json!(null)),
    ] {
        let (_, key) = exchange(&app, proof(&code(&app, extra).await, VERIFIER)).await;
        assert_eq!((nanos(&key["limit"]), &key["limit_reset"]), (limit, &reset));
    }
}

#[tokio::test]
async fn codes_outlive_a_restart_and_their_text_is_nowhere() {
    let app = TestApp::start().await;
    let (code, guessed) = (code(&app, json!({"limit": 3})).await, code(&app, json!({})).await);
    for _ in 0..4 {
        refused(&app, proof(&guessed, "guess"), 403, INVALID).await;
    }
    let app = app.restart().await;
    refused(&app, proof(&guessed, "guess"), 403, INVALID).await;
    refused(&app, proof(&guessed, VERIFIER), 403, INVALID).await;
    let (secret, key) = exchange(&app, proof(&code, VERIFIER)).await;
    assert_eq!(nanos(&key["limit"]), 3_000_000_000);
    let app = app.restart().await;
    refused(&app, proof(&code, VERIFIER), 403, INVALID).await;
    assert_eq!(ask(&app.manager.with_key(&secret), Method::GET, "/key", None).await.status, 200);
    let folder = std::fs::read_dir(app.database.parent().unwrap()).unwrap();
    let files: Vec<_> = folder.filter_map(|entry| std::fs::read(entry.unwrap().path()).ok()).collect();
    let on_disk =
        |text: &str| files.iter().any(|file| file.windows(text.len()).any(|window| window == text.as_bytes()));
    assert!(on_disk("app.example.org"), "the name of the key is");
    for text in [&code, &guessed, &secret, VERIFIER, CHALLENGE] {
        assert!(!on_disk(text), "{text} is on disk");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_present_a_code_one_gets_a_key() {
    let app = TestApp::start().await;
    for round in 1..=8 {
        let code = code(&app, json!({})).await;
        let mut racers = JoinSet::new();
        for _ in 0..4 {
            let (app, body) = (stranger(&app), proof(&code, VERIFIER));
            racers.spawn(async move { ask(&app, Method::POST, "/auth/keys", Some(body)).await.status.as_u16() });
        }
        let mut statuses = racers.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 403, 403, 403]);
        assert_eq!(key_count(&app).await, round);
    }
}
