//! Those who keep others waiting: silent providers, callers who do not read, a shutdown that cannot wait.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use testkit::{MODEL, Script, TestApp, TestKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tollgate_client::RawAnswer;
use tollgate_gateway::{Limits, Step, Steps};

const COMMENT: &str = ": OPENROUTER PROCESSING";
const SHORT: Duration = Duration::from_millis(100);

fn body(answer: &RawAnswer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {:?}", answer.body))
}

/// The last event of a stream before its end.
fn last_event(answer: &RawAnswer) -> Value {
    let text = std::str::from_utf8(&answer.body).unwrap();
    let mut data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    serde_json::from_str(data.next_back().unwrap_or_else(|| panic!("{text}"))).unwrap()
}

/// Waits until nothing of the key is held: what it spent, in nano-dollars.
async fn settled(key: &TestKey) -> i64 {
    loop {
        let current = key.client.current_key().await.unwrap();
        if current.limit_held.is_none_or(|held| held.0.nanos() == 0) {
            return current.usage.0.nanos();
        }
        tokio::task::yield_now().await;
    }
}

/// A caller with a connection of its own, who reads only when told to.
async fn call_by_hand(app: &TestApp, key: &TestKey, max_tokens: u64) -> TcpStream {
    let call = json!({"model": MODEL, "max_tokens": max_tokens, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let call = call.to_string();
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let head = format!(
        "POST /api/v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{call}",
        key.secret,
        call.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn read_until(stream: &mut TcpStream, read: &mut String, what: &str) {
    let mut buffer = [0_u8; 4096];
    while !read.contains(what) {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "closed before `{what}`: {read}");
        read.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
}

#[tokio::test]
async fn a_stream_that_waits_for_its_provider_says_so_until_it_goes_on() {
    let app = TestApp::with(|_| {}, Limits { keep_alive: SHORT, ..Limits::default() }).await;
    let key = app.key().limit("1").create().await;
    app.provider.script(Script::Hold { prompt: 10, completion: 5 });
    let mut stream = call_by_hand(&app, &key, 100).await;
    let mut read = String::new();
    read_until(&mut stream, &mut read, &format!("{COMMENT}\n\n")).await;
    assert!(read.starts_with("HTTP/1.1 200"), "{read}");
    read.clear();
    read_until(&mut stream, &mut read, COMMENT).await;
    app.provider.release();
    read_until(&mut stream, &mut read, "data: [DONE]").await;
    assert!(read.contains("\"cost\":0.00000006"), "{read}");
}

#[tokio::test]
async fn comments_of_a_provider_neither_reach_the_caller_nor_buy_time() {
    let limits = Limits { keep_alive: SHORT, ..Limits::default() };
    let app = TestApp::with(|config| config.limits.head_timeout_seconds = 1, limits).await;
    let key = app.key().limit("1").create().await;
    app.provider.script(Script::Comments);
    let answer = key.chat(100, json!({"stream": true})).await;
    let text = std::str::from_utf8(&answer.body).unwrap();
    assert!(text.contains(COMMENT) && !text.contains(": still here"), "{text}");
    assert_eq!(last_event(&answer)["error"]["code"], 524);
    assert!(settled(&key).await > 1_000, "nobody knows what it did: charged at the hold");
}

#[tokio::test]
async fn a_provider_that_never_answers_is_a_524_charged_at_the_hold() {
    let app = TestApp::with(|config| config.limits.head_timeout_seconds = 1, Limits::default()).await;
    let key = app.key().limit("1").create().await;
    app.provider.script(Script::Hold { prompt: 10, completion: 5 });
    let answer = key.chat(100, json!({})).await;
    assert_eq!((answer.status.as_u16(), &body(&answer)["error"]["code"]), (524, &json!(524)));
    assert!((1_000..1_300).contains(&settled(&key).await));
}

#[tokio::test]
async fn a_try_that_was_never_answered_is_recorded_among_the_others() {
    let limits = Limits { keep_alive: SHORT, ..Limits::default() };
    let app = TestApp::with(|config| config.limits.head_timeout_seconds = 1, limits).await;
    let key = app.key().limit("1").create().await;
    app.provider.script(Script::Hold { prompt: 10, completion: 5 });
    let answer = key.chat(100, json!({"stream": true})).await;
    assert_eq!(last_event(&answer)["error"]["code"], 524);
    let path = format!("/api/v1/generation?id={}", answer.headers["x-generation-id"].to_str().unwrap());
    let shown = body(&key.client.raw(http::Method::GET, &path, None).await.unwrap());
    let tried = shown["data"]["provider_responses"].as_array().unwrap();
    assert_eq!(tried.len(), 1, "{shown}");
    assert_eq!((&tried[0]["provider_name"], &tried[0]["status"]), (&json!("scripted"), &Value::Null));
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_ended_and_billed_for_what_was_seen() {
    let app = TestApp::with(|config| config.limits.idle_timeout_seconds = 1, Limits::default()).await;
    let key = app.key().limit("1").create().await;
    app.provider.script(Script::Trickle);
    let begun = tokio::time::Instant::now();
    let answer = key.chat(100, json!({"stream": true})).await;
    assert_eq!(last_event(&answer)["error"]["code"], 524);
    // The comment that a caller hears after fifteen seconds is not what wakes it.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let cost = settled(&key).await;
    assert!(cost > 0 && cost < 1_000, "{cost}");
}

#[tokio::test]
async fn a_call_whose_caller_left_is_not_read_for_ever() {
    let app = TestApp::with(|_| {}, Limits { drain_timeout: SHORT, ..Limits::default() }).await;
    let key = app.key().limit("1").create().await;
    app.provider.script(Script::Trickle);
    let mut stream = call_by_hand(&app, &key, 100).await;
    let mut read = String::new();
    read_until(&mut stream, &mut read, "word").await;
    drop(stream);
    assert!(settled(&key).await > 0);
}

#[tokio::test]
async fn a_caller_who_reads_nothing_does_not_hold_money_for_ever() {
    let app = TestApp::with(|config| config.limits.write_timeout_seconds = 1, Limits::default()).await;
    let key = app.key().limit("1").create().await;
    // More than the buffers of all the sockets on the way.
    app.provider.script(Script::Flood(64 << 20));
    let mut stream = call_by_hand(&app, &key, 100).await;
    app.provider.arrived(1).await;
    assert_eq!(settled(&key).await, 60, "the rest was read for the bill");
    let mut rest = Vec::new();
    // The connection was cut: in the middle of an answer there is no other way to say so.
    let _ = stream.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("[DONE]"));
}

#[tokio::test]
async fn a_shutdown_cuts_off_what_outlasts_its_grace_and_settles_it() {
    let mut app = TestApp::with(|config| config.server.grace_seconds = 1, Limits::default()).await;
    let key = app.key().limit("1").create().await;
    app.provider.script(Script::Trickle);
    let mut stream = call_by_hand(&app, &key, 100).await;
    let mut read = String::new();
    read_until(&mut stream, &mut read, "word").await;
    let id = read.split("x-generation-id: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    app = app.restart().await;
    let client = app.manager.with_key(&key.secret);
    let current = client.current_key().await.unwrap();
    let cost = current.usage.0.nanos();
    assert!(cost > 0 && cost < 1_000, "what was seen, and not the whole hold of a lost call: {cost}");
    let path = format!("/api/v1/generation?id={id}");
    let shown = body(&client.raw(http::Method::GET, &path, None).await.unwrap());
    assert_eq!(shown["data"]["cancelled"], true);
}

#[tokio::test]
async fn a_document_in_the_place_of_a_stream_is_billed_for_what_it_says() {
    const REFUSED: &str = r#"{"error":{"message":"no","code":400}}"#;
    const WHOLE: &str = r#"{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;
    const EVENTS: &str = concat!(
        "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,",
        "\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}}\n\ndata: [DONE]\n\n",
    );
    let app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    let mut spent = 0;
    for (kind, document, cost) in [
        ("application/json", REFUSED, 0),
        ("text/event-stream", REFUSED, 0),
        ("application/json", WHOLE, 60),
        ("text/plain", WHOLE, 60),
    ] {
        app.provider.script(Script::Labelled(kind, document));
        let answer = key.chat(100, json!({"stream": true})).await;
        assert_eq!(last_event(&answer)["error"]["code"], 502);
        spent += cost;
        assert_eq!(settled(&key).await, spent, "{kind} {document}");
    }
    // The other way round: events, whatever they are called.
    app.provider.script(Script::Labelled("application/json", EVENTS));
    let answer = key.chat(100, json!({"stream": true})).await;
    assert_eq!(last_event(&answer)["usage"]["cost"].to_string(), "6e-8");
    assert_eq!(settled(&key).await, spent + 60);
}

/// Panics once a provider has begun to answer.
struct PanicsOnAnswer;

impl Steps for PanicsOnAnswer {
    fn reached(&self, step: Step) {
        assert!(step != Step::Answered, "on purpose");
    }
}

#[tokio::test]
async fn a_panic_is_answered_in_the_envelope_and_leaves_nothing_held() {
    let app = TestApp::watched(Arc::new(PanicsOnAnswer)).await;
    let key = app.key().limit("1").create().await;
    let answer = key.chat(100, json!({})).await;
    assert_eq!((answer.status.as_u16(), &body(&answer)["error"]["code"]), (500, &json!(500)));
    assert_eq!(settled(&key).await, 60, "the rest is read for the bill");
}

#[tokio::test]
async fn a_shutdown_waits_for_streams_over_http2_too() {
    let mut app = TestApp::with(|config| config.server.grace_seconds = 1, Limits::default()).await;
    let key = app.key().limit("1").create().await;
    app.provider.script(Script::Trickle);
    let tcp = TokioIo::new(TcpStream::connect(app.address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), tcp).await.unwrap();
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let call =
        json!({"model": MODEL, "max_tokens": 100, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let request = http::Request::post(format!("{}/api/v1/chat/completions", app.url()))
        .header("authorization", format!("Bearer {}", key.secret))
        .body(Full::new(Bytes::from(call.to_string())))
        .unwrap();
    let mut answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    answer.body_mut().frame().await.unwrap().unwrap();
    app = app.restart().await;
    let current = app.manager.with_key(&key.secret).current_key().await.unwrap();
    let cost = current.usage.0.nanos();
    assert!(cost > 0 && cost < 1_000, "what was seen, and not the whole hold of a lost call: {cost}");
}
