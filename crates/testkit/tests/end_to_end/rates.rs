//! Too often: wrong keys, management calls, calls of a key.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use serde_json::{Value, json};
use testkit::{MODEL, Provider, Script, TestApp, TestKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tollgate::config::Config;
use tollgate_client::{Client, RawAnswer};
use tollgate_domain::Timestamp;
use tollgate_domain::key::Powers;
use tollgate_gateway::Limits;
use tollgate_store::Actor;

use crate::contract::{ask, json_of};

const EXCHANGE: &str = "/auth/keys";
const CLIENTS: usize = 64;

async fn failing(failures: u32, trusted: &[&str]) -> TestApp {
    let trusted = trusted.iter().map(|text| (*text).to_owned()).collect();
    let change = |config: &mut Config| {
        config.limits.failed_authentications_per_minute = failures;
        config.server.trusted_proxies = trusted;
    };
    TestApp::with(change, Limits::default()).await
}

fn wrong_code() -> Value {
    json!({"code": "auth_code_wrong", "code_verifier": "v".repeat(43)})
}

fn call(max_tokens: u64) -> Value {
    json!({"model": MODEL, "max_tokens": max_tokens, "messages": [{"role": "user", "content": "hi"}]})
}

/// The status of an answer; of a 429 that it says when to come back, in so many seconds at the most.
fn status(answer: &RawAnswer, seconds_most: u64) -> u16 {
    if answer.status == 429 {
        let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=seconds_most).contains(&seconds), "{seconds}");
        let error = &json_of(answer)["error"];
        assert_eq!((&error["code"], &error["metadata"]["error_type"]), (&json!(429), &json!("rate_limit_exceeded")));
        assert!(error["message"].as_str().unwrap().starts_with("Rate limit exceeded"), "{error}");
    }
    answer.status.as_u16()
}

/// Checks what a 429 says of the limit: in headers, and again in the metadata.
fn told_limit(answer: &RawAnswer, source: &str, limit: &str, app_time: &str, seconds_most: i64) {
    let metadata = &json_of(answer)["error"]["metadata"];
    assert_eq!(metadata["limit_source"], source);
    let said: BTreeMap<&str, &str> = ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]
        .map(|name| (name, answer.headers[name].to_str().unwrap()))
        .into();
    assert_eq!(metadata["headers"], json!(said));
    assert_eq!((said["X-RateLimit-Limit"], said["X-RateLimit-Remaining"]), (limit, "0"));
    let reset: i64 = said["X-RateLimit-Reset"].parse().unwrap();
    let now = Timestamp::parse_utc(app_time).unwrap().micros() / 1_000;
    assert!(reset > now && reset <= now + seconds_most * 1_000, "{}", reset - now);
}

#[tokio::test]
async fn wrong_keys_are_slowed_by_address_and_a_valid_one_never() {
    let app = failing(4, &[]).await;
    let key = app.key().create().await;
    let stranger = app.manager.with_key("sk-or-v1-wrong");
    let ask_all = async |client: &Client, statuses: [u16; 4]| {
        let asked = [
            ask(client, Method::GET, "/key", None).await,
            ask(client, Method::GET, "/keys", None).await,
            ask(client, Method::GET, "/credits", None).await,
            ask(client, Method::POST, "/chat/completions", Some(call(5))).await,
        ];
        assert_eq!(asked.map(|answer| status(&answer, 15)), statuses);
    };
    ask_all(&stranger, [401; 4]).await;
    for _ in 0..10 {
        ask_all(&stranger, [429; 4]).await;
        assert_eq!(status(&ask(&stranger, Method::POST, EXCHANGE, Some(wrong_code())).await, 15), 429);
        // The keys that are valid come from the same address, and so do those of the wrong kind.
        ask_all(&key.client, [200, 401, 403, 200]).await;
        ask_all(&app.manager, [200, 200, 200, 401]).await;
        let nobody = app.manager.request(Method::GET, "/api/v1/key", None, None).await.unwrap();
        assert_eq!(status(&nobody, 0), 401, "no key is no guess");
    }
    assert_eq!(app.provider.calls(), 10);
}

#[tokio::test]
async fn wrong_codes_count_and_a_good_one_is_never_refused() {
    let app = failing(3, &[]).await;
    let stranger = app.manager.with_key("unused");
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let wanted = json!({"callback_url": "https://app.example.org", "code_challenge": verifier, "code_challenge_method": "plain"});
    let made = json_of(&ask(&app.manager, Method::POST, "/auth/keys/code", Some(wanted)).await);
    for expected in [403, 403, 403, 429, 429] {
        assert_eq!(status(&ask(&stranger, Method::POST, EXCHANGE, Some(wrong_code())).await, 20), expected);
    }
    assert_eq!(status(&ask(&stranger, Method::GET, "/key", None).await, 20), 429, "one count for all");
    let malformed = ask(&stranger, Method::POST, EXCHANGE, Some(json!({}))).await;
    assert_eq!(status(&malformed, 0), 400, "nothing was guessed");
    let body = json!({"code": made["data"]["id"], "code_verifier": verifier, "code_challenge_method": "plain"});
    let exchanged = ask(&stranger, Method::POST, EXCHANGE, Some(body)).await;
    assert_eq!(exchanged.status, 200, "{:?}", exchanged.body);
}

/// The status of a wrong key that says it was forwarded for someone.
async fn forwarded(app: &TestApp, lines: &[&str]) -> u16 {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let lines: Vec<String> = lines.iter().map(|line| format!("x-forwarded-for: {line}\r\n")).collect();
    let head = "GET /api/v1/key HTTP/1.1\r\nhost: x\r\nauthorization: Bearer wrong\r\nconnection: close\r\n";
    stream.write_all(format!("{head}{}\r\n", lines.concat()).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_client_cannot_choose_its_address() {
    let app = failing(2, &["10.0.0.0/8"]).await;
    assert_eq!(forwarded(&app, &["1.1.1.1"]).await, 401);
    assert_eq!(forwarded(&app, &["1.1.1.2"]).await, 401);
    assert_eq!(forwarded(&app, &["1.1.1.3"]).await, 429);
    assert_eq!(forwarded(&app, &["1.1.1.4, 10.0.0.1"]).await, 429);
}

#[tokio::test]
async fn a_trusted_proxy_speaks_for_its_clients() {
    let app = failing(1, &["127.0.0.0/8", "10.0.0.0/8"]).await;
    assert_eq!(forwarded(&app, &["1.1.1.1"]).await, 401);
    assert_eq!(forwarded(&app, &["1.1.1.1"]).await, 429);
    assert_eq!(forwarded(&app, &["6.6.6.6, 1.1.1.1"]).await, 429, "what a client wrote before it counts for nothing");
    assert_eq!(forwarded(&app, &["6.6.6.6", "1.1.1.1, 10.0.0.1"]).await, 429);
    assert_eq!(forwarded(&app, &["1.1.1.1, 2.2.2.2"]).await, 401);
    assert_eq!(forwarded(&app, &["2001:db8::1"]).await, 401);
    assert_eq!(forwarded(&app, &["2001:db8::ffff:2"]).await, 429, "the same /64");
    assert_eq!(forwarded(&app, &[]).await, 401, "the proxy itself");
}

#[tokio::test]
async fn a_management_key_may_ask_only_so_often() {
    let app = TestApp::with(|config| config.limits.management_requests_per_minute = 3, Limits::default()).await;
    let (_, other) = app.app.create_management_key("other", Powers::default(), &Actor::Operator).await.unwrap();
    let other = app.manager.with_key(other.reveal());
    let key = app.key().create().await;
    for path in ["/key", "/credits"] {
        assert_eq!(ask(&app.manager, Method::GET, path, None).await.status, 200);
    }
    for path in ["/keys", "/key", "/credits", "/models/user", "/activity"] {
        let refused = ask(&app.manager, Method::GET, path, None).await;
        assert_eq!(status(&refused, 20), 429, "{path}");
        assert_eq!(json_of(&refused)["error"]["message"], "Rate limit exceeded");
        told_limit(&refused, "tollgate_management_requests_per_minute", "3", "2026-01-15T12:00:00Z", 20);
    }
    let body = Some(json!({"name": "late"}));
    assert_eq!(status(&ask(&app.manager, Method::POST, "/keys", body.clone()).await, 20), 429);
    assert_eq!(json_of(&ask(&other, Method::GET, "/keys", None).await)["data"].as_array().unwrap().len(), 1);
    assert_eq!(ask(&other, Method::POST, "/keys", body).await.status, 201);
    for _ in 0..10 {
        assert_eq!(key.chat(5, json!({})).await.status, 200);
        assert_eq!(ask(&key.client, Method::GET, "/key", None).await.status, 200);
    }
}

#[tokio::test]
async fn an_idempotency_key_is_no_way_around() {
    let change = |config: &mut Config| {
        config.limits.management_requests_per_minute = 3;
        config.limits.failed_authentications_per_minute = 3;
    };
    let app = TestApp::with(change, Limits::default()).await;
    let body = Some(json!({"name": "ci"}));
    for (client, first) in [(app.manager.clone(), 201), (app.manager.with_key("sk-or-v1-wrong"), 401)] {
        let client = client.once(Some("k-1".to_owned()));
        for expected in [first, first, first, 429, 429] {
            assert_eq!(status(&ask(&client, Method::POST, "/keys", body.clone()).await, 20), expected);
        }
    }
}

#[tokio::test]
async fn a_key_calls_so_many_times_a_minute() {
    let app = TestApp::start().await;
    let (key, free) = (app.key().limit("1").requests_per_minute(2).create().await, app.key().create().await);
    assert_eq!(key.chat(5, json!({})).await.status, 200);
    assert_eq!(key.chat(5, json!({"model": "no/model"})).await.status, 400, "what makes no sense is no call");
    assert_eq!(key.chat(5, json!({"stream": true})).await.status, 200);
    for _ in 0..3 {
        let refused = key.chat(5, json!({})).await;
        assert_eq!(status(&refused, 30), 429);
        let message = json_of(&refused)["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("2 requests a minute (`requests_per_minute`)"), "{message}");
        told_limit(&refused, "tollgate_requests_per_minute", "2", "2026-01-15T12:00:00Z", 30);
        let exposed = refused.headers["access-control-expose-headers"].to_str().unwrap();
        assert!(exposed.contains("x-ratelimit-reset") && exposed.contains("retry-after"), "{exposed}");
    }
    assert_eq!(app.provider.calls(), 2, "nothing was sent");
    let current = json_of(&ask(&key.client, Method::GET, "/key", None).await)["data"].take();
    assert_eq!((&current["limit_held"], &current["rate_limit"]["requests"]), (&json!(0), &json!(-1)));
    assert_eq!(free.chat(5, json!({})).await.status, 200);
    let rotated = app.manager.rotate_key(&key.hash, 0).await.unwrap();
    let rotated = TestKey { client: app.manager.with_key(&rotated.key), secret: rotated.key, hash: key.hash };
    assert_eq!(status(&rotated.chat(5, json!({})).await, 30), 429, "a new secret is no new key");
    let change = |text: &str| serde_json::from_str(text).unwrap();
    let renamed = app.manager.update_key(&rotated.hash, &change(r#"{"name":"x"}"#)).await.unwrap();
    assert_eq!(renamed.requests_per_minute, Some(2), "absent stays");
    assert_eq!(status(&rotated.chat(5, json!({})).await, 30), 429);
    let cleared = app.manager.update_key(&rotated.hash, &change(r#"{"requests_per_minute":null}"#)).await.unwrap();
    assert_eq!(cleared.requests_per_minute, None);
    for _ in 0..5 {
        assert_eq!(rotated.chat(5, json!({})).await.status, 200);
    }
}

/// Sends a call and leaves it in flight.
fn held(app: &TestApp, calls: &mut JoinSet<u16>, key: &TestKey, extra: Value) {
    let client = app.manager.with_key(&key.secret);
    let key = TestKey { hash: key.hash.clone(), secret: key.secret.clone(), client };
    calls.spawn(async move { key.chat(5, extra).await.status.as_u16() });
}

#[tokio::test]
async fn a_key_has_so_many_calls_in_flight() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").calls_in_flight_max(2).requests_per_minute(100).create().await;
    app.provider.script(Script::Hold { prompt: 10, completion: 5 });
    for round in 1..=3 {
        let mut calls = JoinSet::new();
        held(&app, &mut calls, &key, json!({}));
        held(&app, &mut calls, &key, json!({"stream": true}));
        app.provider.arrived(round * 2).await;
        let before = key.client.current_key().await.unwrap().limit_held.unwrap();
        let refused = key.chat(5, json!({})).await;
        assert_eq!(status(&refused, 1), 429);
        let message = json_of(&refused)["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("2 calls in flight (`calls_in_flight_max`)"), "{message}");
        told_limit(&refused, "tollgate_calls_in_flight_max", "2", "2026-01-15T12:00:00Z", 1);
        assert_eq!(key.client.current_key().await.unwrap().limit_held.unwrap(), before, "nothing more is held");
        assert_eq!(app.provider.calls(), round * 2, "nothing was sent");
        app.provider.release();
        // Whoever has its answer has given its place back.
        assert_eq!(calls.join_all().await, [200, 200]);
    }
}

#[tokio::test]
async fn a_call_that_fails_gives_its_place_back() {
    let app = TestApp::start().await;
    let key = app.key().limit_nanos(100_000).calls_in_flight_max(1).create().await;
    for script in [Script::Status(500, "{}"), Script::Vanish, Script::CutAfter(1), Script::ErrorInStream] {
        for stream in [false, true] {
            app.provider.script(script.clone());
            let answer = key.chat(5, json!({"stream": stream})).await;
            assert_ne!(answer.status, 429, "{script:?}");
        }
    }
    assert_eq!(key.chat(1_000_000, json!({})).await.status, 402, "refused by the budget");
    app.provider.script(Script::Answer { prompt: 10, completion: 5 });
    assert_eq!(key.chat(5, json!({})).await.status, 200);
}

#[tokio::test]
async fn a_call_that_falls_back_keeps_its_place() {
    let second = Provider::start().await;
    let address = second.address;
    let both = move |config: &mut Config| {
        let mut provider = config.providers[0].clone();
        (provider.slug, provider.base_url) = ("second".to_owned(), Some(format!("http://{address}/v1")));
        config.providers.push(provider);
        let mut model = config.models[0].clone();
        model.provider = "second".to_owned();
        config.models.push(model);
    };
    let app = TestApp::with(both, Limits::default()).await;
    let key = app.key().limit("1").calls_in_flight_max(1).create().await;
    app.provider.script(Script::Status(503, "{}"));
    second.script(Script::Hold { prompt: 10, completion: 5 });
    let mut calls = JoinSet::new();
    held(&app, &mut calls, &key, json!({}));
    second.arrived(1).await;
    assert_eq!(status(&key.chat(5, json!({})).await, 1), 429);
    second.release();
    assert_eq!(calls.join_all().await, [200]);
    app.provider.script(Script::Answer { prompt: 10, completion: 5 });
    assert_eq!(key.chat(5, json!({})).await.status, 200);
}

#[tokio::test]
async fn a_client_that_hangs_up_keeps_its_place_until_its_call_is_settled() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").calls_in_flight_max(1).create().await;
    app.provider.script(Script::Trickle);
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let mut body = call(5);
    body["stream"] = json!(true);
    let body = body.to_string();
    let head = format!("authorization: Bearer {}\r\ncontent-length: {}", key.secret, body.len());
    let head = format!("POST /api/v1/chat/completions HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n{body}");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut buffer) = (String::new(), [0; 4096]);
    while !read.contains("word") {
        let count = stream.read(&mut buffer).await.unwrap();
        read.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    drop(stream);
    for _ in 0..50 {
        assert_eq!(status(&key.chat(5, json!({})).await, 1), 429, "the provider still answers");
    }
    app.provider.script(Script::Answer { prompt: 10, completion: 5 });
    app.provider.release();
    while key.client.current_key().await.unwrap().limit_held.unwrap().0.nanos() > 0 {
        tokio::task::yield_now().await;
    }
    // Held until it is on disk, which is a moment after it is booked.
    while key.chat(5, json!({})).await.status == 429 {
        tokio::task::yield_now().await;
    }
    assert_eq!(app.provider.calls(), 2);
    let id = read.split("x-generation-id: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let generation = ask(&key.client, Method::GET, &format!("/generation?id={id}"), None).await;
    assert_eq!(json_of(&generation)["data"]["cancelled"], true, "it was settled without its caller");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_clients_never_have_more_in_flight_than_they_may() {
    const MOST: u64 = 5;
    let app = TestApp::start().await;
    let key = Arc::new(app.key().limit("1").calls_in_flight_max(5).create().await);
    app.provider.script(Script::Hold { prompt: 10, completion: 5 });
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let key = Arc::clone(&key);
        clients.spawn(async move {
            let (mut answered, mut refused) = (0, 0);
            while answered < 3 {
                match key.chat(5, json!({"stream": client % 2 == 0})).await.status.as_u16() {
                    200 => answered += 1,
                    429 => refused += 1,
                    other => return Err(other),
                }
            }
            Ok(refused)
        });
    }
    // All places are taken before the first is free again, and then the provider answers as calls come.
    app.provider.arrived(MOST).await;
    let over = Arc::new(AtomicBool::new(false));
    let releasing = async {
        while !over.load(Ordering::SeqCst) {
            app.provider.release();
            tokio::task::yield_now().await;
        }
    };
    let (refused, ()) = tokio::join!(
        async {
            let refused = clients.join_all().await.into_iter().collect::<Result<Vec<u32>, u16>>();
            over.store(true, Ordering::SeqCst);
            refused.unwrap()
        },
        releasing
    );
    assert_eq!(app.provider.most_held(), MOST);
    assert!(refused.iter().any(|count| *count > 0), "the places were fought for");
    assert_eq!(app.provider.calls(), u64::try_from(CLIENTS).unwrap() * 3, "only what was let in was sent");
}

#[tokio::test]
async fn limits_on_calls_are_set_in_every_way_a_key_is_made_and_shown() {
    let app = TestApp::start().await;
    let shown = |key: &Value| (key["requests_per_minute"].clone(), key["calls_in_flight_max"].clone());
    let made = json!({"name": "a", "requests_per_minute": 60, "calls_in_flight_max": 2});
    let made = json_of(&ask(&app.manager, Method::POST, "/keys", Some(made)).await)["data"].take();
    assert_eq!(shown(&made), (json!(60), json!(2)));
    let path = format!("/keys/{}", made["hash"].as_str().unwrap());
    let patch = async |body: Value| {
        let answer = ask(&app.manager, Method::PATCH, &path, Some(body)).await;
        (answer.status.as_u16(), json_of(&answer))
    };
    let (_, changed) = patch(json!({"calls_in_flight_max": null})).await;
    assert_eq!(shown(&changed["data"]), (json!(60), Value::Null));
    let (_, changed) = patch(json!({"requests_per_minute": 1, "calls_in_flight_max": 4_294_967_295_u32})).await;
    assert_eq!(shown(&changed["data"]), (json!(1), json!(4_294_967_295_u32)));
    for wrong in [json!(0), json!(-1), json!(0.5), json!("1")] {
        let (status, _) = patch(json!({"requests_per_minute": wrong, "calls_in_flight_max": null})).await;
        assert_eq!(status, 400, "{wrong}");
    }
    let read = json_of(&ask(&app.manager, Method::GET, &path, None).await);
    assert_eq!(shown(&read["data"]), (json!(1), json!(4_294_967_295_u32)), "nothing half done");
    let log = json_of(&ask(&app.manager, Method::GET, "/audit?limit=1", None).await);
    assert_eq!(shown(&log["data"][0]["before"]), (json!(60), Value::Null));
    assert_eq!(shown(&log["data"][0]["after"]), (json!(1), json!(4_294_967_295_u32)));
    let many = json!({"keys": [{"name": "b"}, {"name": "c", "requests_per_minute": 7}]});
    let many = json_of(&ask(&app.manager, Method::POST, "/keys/bulk", Some(many)).await);
    assert_eq!(shown(&many["data"][0]["data"]), (Value::Null, Value::Null));
    assert_eq!(shown(&many["data"][1]["data"]), (json!(7), Value::Null));
    let rows = b"name,calls_in_flight_max,requests_per_minute\nd,3,\n".to_vec();
    let rows = app.manager.create_keys("text/csv", rows).await.unwrap();
    assert_eq!((rows[0].data.requests_per_minute, rows[0].data.calls_in_flight_max), (None, Some(3)));
    let app = app.restart().await;
    let read = json_of(&ask(&app.manager, Method::GET, &path, None).await);
    assert_eq!(shown(&read["data"]), (json!(1), json!(4_294_967_295_u32)));
}
