//! A disk that refuses: nothing goes upstream, nothing is lost, and admission resumes by itself.

use serde_json::json;
use testkit::{Script, TestApp};
use tollgate_client::KeyFilter;

#[tokio::test]
async fn a_disk_that_refuses_commits_closes_admission_and_opens_it_again() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    assert_eq!(key.chat(100, json!({})).await.status, 200);
    app.break_disk(true);
    for _ in 0..3 {
        let refused = key.chat(100, json!({})).await;
        assert_eq!(refused.status, 503);
        assert!(refused.headers.contains_key("retry-after"));
    }
    assert_eq!(app.provider.calls(), 1, "nothing went upstream");
    let ready = app.manager.raw(http::Method::GET, "/ready", None).await.unwrap();
    assert_eq!(ready.status, 503);
    let create = app.manager.raw(http::Method::POST, "/api/v1/keys", Some(br#"{"name":"x"}"#.to_vec())).await.unwrap();
    assert_eq!(create.status, 503);
    app.break_disk(false);
    while key.chat(100, json!({})).await.status != 200 {
        tokio::task::yield_now().await;
    }
    let current = key.client.current_key().await.unwrap();
    assert_eq!((current.usage.0.nanos(), current.limit_held.unwrap().0.nanos()), (120, 0));
    let keys = app.manager.keys(&KeyFilter::default()).await.unwrap();
    assert_eq!(keys.len(), 1, "the refused key was not created");
}

#[tokio::test]
async fn calls_that_come_together_on_a_broken_disk_are_all_refused() {
    let app = TestApp::start().await;
    let key = std::sync::Arc::new(app.key().limit("1").create().await);
    app.break_disk(true);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let key = std::sync::Arc::clone(&key);
        calls.spawn(async move { key.chat(100, json!({})).await.status });
    }
    assert_eq!(calls.join_all().await, [503; 32]);
    assert_eq!(app.provider.calls(), 0);
}

#[tokio::test]
async fn a_settlement_that_cannot_be_written_delivers_the_answer_without_usage_and_is_written_later() {
    let limits = tollgate_gateway::Limits { settle_wait: std::time::Duration::from_millis(200), ..Default::default() };
    let app = TestApp::with(|_| {}, limits).await;
    let key = app.key().limit("1").create().await;
    app.provider.script(Script::Hold { prompt: 10, completion: 5 });
    let (answer, ()) = tokio::join!(key.chat(100, json!({})), async {
        app.provider.arrived(1).await;
        app.break_disk(true);
        app.provider.release();
    });
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["x-tollgate-settlement"], "pending");
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(body.get("usage").is_none());
    app.break_disk(false);
    app.provider.script(Script::Answer { prompt: 10, completion: 5 });
    while app.manager.raw(http::Method::GET, "/ready", None).await.unwrap().status != 200 {
        tokio::task::yield_now().await;
    }
    let app = app.restart().await;
    let key = app.manager.key(&key.hash).await.unwrap();
    assert_eq!(key.usage.0.nanos(), 60, "written after all, once");
}

#[tokio::test]
async fn a_clock_that_jumps_closes_admission_until_it_is_right_again() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    app.clock.step(3_600_000_000);
    assert_eq!(key.chat(100, json!({})).await.status, 503);
    assert_eq!(app.provider.calls(), 0);
    app.clock.step(-3_600_000_000);
    assert_eq!(key.chat(100, json!({})).await.status, 200);
}

#[tokio::test]
async fn a_restart_answers_as_before() {
    let app = TestApp::start().await;
    let key = app.key().limit("0.5").reset("monthly").create().await;
    for _ in 0..5 {
        assert_eq!(key.chat(100, json!({})).await.status, 200);
    }
    let before = app.manager.raw(http::Method::GET, "/api/v1/keys", None).await.unwrap().body;
    let app = app.restart().await;
    let after = app.manager.raw(http::Method::GET, "/api/v1/keys", None).await.unwrap().body;
    assert_eq!(before, after);
}
