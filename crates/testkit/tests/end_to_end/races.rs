//! Many clients, one key, nothing over.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Script, TestApp, TestKey, nanos};
use tokio::task::JoinSet;
use tollgate_gateway::Limits;

const CLIENTS: usize = 64;
const CALLS: usize = 10;

/// What a call with this cap is held at, in nano-dollars, read off the server itself.
async fn bound_of_a_call(app: &TestApp) -> i64 {
    let key = app.key().limit("1").create().await;
    app.provider.script(Script::Hold { prompt: 10, completion: 5 });
    let calls = app.provider.calls();
    let (_, held) = tokio::join!(key.chat(5, json!({})), async {
        app.provider.arrived(calls + 1).await;
        let held = key.client.current_key().await.unwrap().limit_held.unwrap().0.nanos();
        app.provider.release();
        held
    });
    app.provider.script(Script::Answer { prompt: 10, completion: 5 });
    held
}

fn cost_nanos(answer: &tollgate_client::RawAnswer) -> i64 {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    nanos(&body["usage"]["cost"])
}

/// A 402 while others are in flight: what is left and not held is less than the bound that was refused.
fn truly_full(answer: &tollgate_client::RawAnswer, bound: i64) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let told = &body["error"]["metadata"];
    let free = nanos(&told["limit_usd"]) - nanos(&told["spend_usd"]) - nanos(&told["held_usd"]);
    assert!((0..bound).contains(&free), "refused though it fits, or over: {body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_clients_spend_what_there_is_and_not_a_nano_dollar_more() {
    let app = TestApp::start().await;
    let bound = bound_of_a_call(&app).await;
    let (before_prompt, before_completion) = app.provider.served();
    // Room for 80 calls that cost 60 each, the last of which must still fit with its bound.
    let limit = 79 * 60 + bound;
    let key = Arc::new(app.key().limit_nanos(limit).create().await);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let key = Arc::clone(&key);
        clients.spawn(async move {
            let mut charged = Vec::new();
            for _ in 0..CALLS {
                let answer = key.chat(5, json!({})).await;
                match answer.status.as_u16() {
                    200 => charged.push(cost_nanos(&answer)),
                    402 | 403 => truly_full(&answer, bound),
                    other => panic!("{other}: {:?}", answer.body),
                }
            }
            charged
        });
    }
    let charged: Vec<i64> = clients.join_all().await.into_iter().flatten().collect();
    // Whatever is left when all is quiet is spent one call after another: nobody is refused who fits.
    let mut more = Vec::new();
    loop {
        let current = key.client.current_key().await.unwrap();
        let fits = current.limit_remaining.unwrap().0.nanos() >= bound;
        let answer = key.chat(5, json!({})).await;
        assert_eq!(answer.status == 200, fits, "{current:?}");
        if !fits {
            break;
        }
        more.push(cost_nanos(&answer));
    }
    let current = key.client.current_key().await.unwrap();
    let sum: i64 = charged.iter().chain(&more).sum();
    assert_eq!(current.usage.0.nanos(), sum);
    assert!(sum <= limit, "{sum} of {limit}");
    assert_eq!(sum, 80 * 60);
    let (prompt, completion) = app.provider.served();
    let served = (prompt - before_prompt) + 10 * (completion - before_completion);
    assert_eq!(i64::try_from(served).unwrap(), sum);
    assert_eq!(current.limit_held.unwrap().0.nanos(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sum_of_holds_fills_a_budget_to_the_brim_and_no_further() {
    let app = TestApp::start().await;
    let bound = bound_of_a_call(&app).await;
    let key = Arc::new(app.key().limit_nanos(8 * bound).create().await);
    app.provider.script(Script::Hold { prompt: 10, completion: 5 });
    let calls = app.provider.calls();
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let key = Arc::clone(&key);
        clients.spawn(async move { key.chat(5, json!({})).await.status.as_u16() });
    }
    // All eight fit at once; the ninth is told to come back.
    app.provider.arrived(calls + 8).await;
    let ninth = key.chat(5, json!({})).await;
    assert_eq!(ninth.status, 402);
    assert!(ninth.headers.contains_key("retry-after"));
    let body: Value = serde_json::from_slice(&ninth.body).unwrap();
    assert_eq!(body["error"]["metadata"]["reason"], "in_flight_budget_exhausted");
    app.provider.release();
    assert_eq!(clients.join_all().await, [200; 8]);
    app.provider.script(Script::Answer { prompt: 10, completion: 5 });
    assert_eq!(key.chat(5, json!({})).await.status, 200);
}

/// Clients that call until they are told to stop.
fn hammer(key: &Arc<TestKey>, stop: &Arc<AtomicBool>, spent: &Arc<AtomicI64>) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (key, stop, spent) = (Arc::clone(key), Arc::clone(stop), Arc::clone(spent));
        clients.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let answer = key.chat(5, json!({})).await;
                if answer.status == 200 {
                    spent.fetch_add(cost_nanos(&answer), Ordering::SeqCst);
                }
            }
        });
    }
    clients
}

async fn until(condition: impl AsyncFn() -> bool) {
    while !condition().await {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lowered_limit_holds_from_its_answer_on() {
    let app = TestApp::start().await;
    let key = Arc::new(app.key().limit("1").create().await);
    let (stop, spent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
    let clients = hammer(&key, &stop, &spent);
    until(async || spent.load(Ordering::SeqCst) > 100 * 60).await;
    let lowered =
        app.manager.update_key(&key.hash, &serde_json::from_str(r#"{"limit":0.000001}"#).unwrap()).await.unwrap();
    let ceiling = lowered.usage.0.nanos() + lowered.limit_held.unwrap().0.nanos();
    for _ in 0..20 {
        assert!(matches!(key.chat(5, json!({})).await.status.as_u16(), 402 | 403));
    }
    stop.store(true, Ordering::SeqCst);
    clients.join_all().await;
    let usage = key.usage_nanos().await;
    assert_eq!(usage, spent.load(Ordering::SeqCst));
    assert!(usage <= ceiling, "{usage} > {ceiling}: something was admitted above the lowered limit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_key_admits_nothing_from_its_answer_on() {
    // Its clients call on, from one address.
    let app = TestApp::with(|config| config.limits.failed_authentications_per_minute = 0, Limits::default()).await;
    let key = Arc::new(app.key().limit("1").create().await);
    let (stop, spent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
    let clients = hammer(&key, &stop, &spent);
    until(async || spent.load(Ordering::SeqCst) > 100 * 60).await;
    let disabled =
        app.manager.update_key(&key.hash, &serde_json::from_str(r#"{"disabled":true}"#).unwrap()).await.unwrap();
    let ceiling = disabled.usage.0.nanos() + disabled.limit_held.unwrap().0.nanos();
    assert_eq!(key.chat(5, json!({})).await.status, 401);
    stop.store(true, Ordering::SeqCst);
    clients.join_all().await;
    let usage = app.manager.key(&key.hash).await.unwrap().usage.0.nanos();
    assert_eq!(usage, spent.load(Ordering::SeqCst));
    assert!(usage <= ceiling, "{usage} > {ceiling}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_day_gets_its_own_budget_while_clients_run_across_midnight() {
    let app = TestApp::start().await;
    let bound = bound_of_a_call(&app).await;
    let limit = 19 * 60 + bound;
    let key = Arc::new(app.key().limit_nanos(limit).reset("daily").create().await);
    let (stop, spent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
    let clients = hammer(&key, &stop, &spent);
    for day in 1..=4_i64 {
        until(async || key.usage_nanos().await >= day * 20 * 60).await;
        app.clock.advance(Duration::from_hours(24));
    }
    until(async || key.usage_nanos().await >= 5 * 20 * 60).await;
    stop.store(true, Ordering::SeqCst);
    clients.join_all().await;
    // Each of the five days its own twenty calls, and what was in flight at midnight belongs to the day before.
    assert_eq!(key.usage_nanos().await, 5 * 20 * 60);
    assert_eq!(spent.load(Ordering::SeqCst), 5 * 20 * 60);
}
