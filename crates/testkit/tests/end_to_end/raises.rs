//! More than the limit for a while, and the only models that a key may call.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use testkit::{MODEL, TestApp, TestKey, nanos};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::contract::{ask, json_of};

async fn change(app: &TestApp, key: &TestKey, body: Value) -> (u16, Value) {
    let answer = ask(&app.manager, Method::PATCH, &format!("/keys/{}", key.hash), Some(body)).await;
    (answer.status.as_u16(), json_of(&answer))
}

/// As it is shown: with milliseconds.
fn raise_of(raise: &Value) -> Value {
    let until = raise["until"].as_str().unwrap().replace('Z', ".000Z");
    json!({"amount_usd": raise["amount_usd"], "until": until})
}

#[tokio::test]
async fn a_raise_holds_until_its_instant_and_not_a_moment_longer() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").reset("daily").create().await;
    // A call costs 10 + 5 x 10 nano-dollars.
    let call = json_of(&key.chat(5, json!({})).await);
    let correction = json!({"id": call["id"], "amount_usd": 1, "reason": "so that all of it is spent"});
    ask(&app.manager, Method::POST, "/generation/adjust", Some(correction)).await;
    assert_eq!(key.chat(5, json!({})).await.status.as_u16(), 403);
    let raise = json!({"amount_usd": 5, "until": "2026-01-15T13:00:00Z"});
    let (status, raised) = change(&app, &key, json!({"limit_raise": raise})).await;
    assert_eq!(status, 200, "{raised}");
    assert_eq!(raised["data"]["limit"], 1, "the limit itself stays as it is");
    assert_eq!(nanos(&raised["data"]["limit_remaining"]), 4_999_999_940_i64);
    assert_eq!(raised["data"]["limit_raise"], raise_of(&raise));
    let seen = json_of(&ask(&key.client, Method::GET, "/key", None).await);
    assert_eq!(seen["data"]["limit"], 6, "the key sees what is in force");
    assert_eq!(nanos(&seen["data"]["limit_remaining"]), 4_999_999_940_i64);
    assert_eq!(seen["data"]["effective_budget"]["limit_usd"], 6);

    let app = app.restart().await;
    let key = TestKey { client: app.manager.with_key(&key.secret), ..key };
    assert_eq!(key.chat(5, json!({})).await.status.as_u16(), 200, "it survives a restart");
    app.clock.advance(Duration::from_mins(59));
    assert_eq!(key.chat(5, json!({})).await.status.as_u16(), 200);
    app.clock.advance(Duration::from_mins(1));
    let refused = key.chat(1, json!({})).await;
    assert_eq!(refused.status.as_u16(), 403, "it is over: more is spent than the limit");
    let after = app.manager.key(&key.hash).await.unwrap();
    assert_eq!(after.limit_remaining.unwrap().0.nanos(), -180);
    app.clock.advance(Duration::from_hours(12));
    assert_eq!(key.chat(5, json!({})).await.status.as_u16(), 200, "a new day, and the limit as it was");
    assert_eq!(app.manager.key(&key.hash).await.unwrap().limit_remaining.unwrap().0.nanos(), 999_999_940);
}

#[tokio::test]
async fn a_raise_that_makes_no_sense_changes_nothing() {
    let app = TestApp::start().await;
    let (limited, free) = (app.key().limit("1").create().await, app.key().create().await);
    let until = "2026-01-15T13:00:00Z";
    for (key, raise) in [
        (&limited, json!({"amount_usd": 0, "until": until})),
        (&limited, json!({"amount_usd": -1, "until": until})),
        (&limited, json!({"amount_usd": "1", "until": until})),
        (&limited, json!({"amount_usd": 1, "until": "2026-01-15T12:00:00Z"})),
        (&limited, json!({"amount_usd": 1, "until": "tomorrow"})),
        (&limited, json!({"amount_usd": 1})),
        (&limited, json!([1, until])),
        (&free, json!({"amount_usd": 1, "until": until})),
    ] {
        let (status, answer) = change(&app, key, json!({"name": "changed", "limit_raise": raise})).await;
        assert_eq!(status, 400, "{raise}: {answer}");
    }
    let view = app.manager.key(&limited.hash).await.unwrap();
    assert!(view.name != "changed" && view.limit_raise.is_none());
    let (_, both) = change(&app, &free, json!({"limit": 2, "limit_raise": {"amount_usd": 1, "until": until}})).await;
    assert_eq!(nanos(&both["data"]["limit_remaining"]), 3_000_000_000_i64);
    let (_, ended) = change(&app, &free, json!({"limit_raise": null})).await;
    assert_eq!(nanos(&ended["data"]["limit_remaining"]), 2_000_000_000_i64);
}

#[tokio::test]
async fn a_key_calls_the_models_on_its_list_and_no_other() {
    let app = TestApp::start().await;
    let body = json!({"name": "narrow", "allowed_models": ["test/cent"]});
    let made = json_of(&ask(&app.manager, Method::POST, "/keys", Some(body)).await);
    assert_eq!(made["data"]["allowed_models"], json!(["test/cent"]));
    let client = app.manager.with_key(made["key"].as_str().unwrap());
    let key = TestKey { hash: made["data"]["hash"].as_str().unwrap().to_owned(), secret: String::new(), client };
    let call = |model: &str| json!({"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]});
    let asked = async |model: &str| {
        ask(&key.client, Method::POST, "/chat/completions", Some(call(model))).await.status.as_u16()
    };
    assert_eq!((asked(MODEL).await, asked("test/cent").await), (404, 200));
    let models = json_of(&ask(&key.client, Method::GET, "/models/user", None).await);
    assert_eq!((&models["total_count"], &models["data"][0]["id"]), (&json!(1), &json!("test/cent")));
    assert_eq!(change(&app, &key, json!({"allowed_models": []})).await.0, 400);
    assert_eq!(change(&app, &key, json!({"allowed_models": [MODEL]})).await.0, 200);
    assert_eq!((asked(MODEL).await, asked("test/cent").await), (200, 404));
    assert_eq!(change(&app, &key, json!({"allowed_models": null})).await.0, 200);
    assert_eq!((asked(MODEL).await, asked("test/cent").await), (200, 200));
    let none = ask(&app.manager, Method::POST, "/keys", Some(json!({"name": "x", "allowed_models": []}))).await;
    assert_eq!(none.status.as_u16(), 400);
}

#[tokio::test]
async fn what_changes_while_a_body_is_on_its_way_is_in_force_for_its_call() {
    let app = TestApp::start().await;
    let key = app.key().create().await;
    let body = json!({"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let mut connection = TcpStream::connect(app.address).await.unwrap();
    let head = format!(
        "POST /api/v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nexpect: 100-continue\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        key.secret,
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body once it knows the key.
    let mut asked = [0; 25];
    connection.read_exact(&mut asked).await.unwrap();
    assert_eq!(asked, *b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(change(&app, &key, json!({"allowed_models": ["test/cent"]})).await.0, 200);
    connection.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert_eq!(app.provider.calls(), 0);
}
