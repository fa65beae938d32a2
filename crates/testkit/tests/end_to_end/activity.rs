//! What was spent, by day, model, key and workspace: from sums that survive a restart, and never counted twice.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use testkit::{MODEL, Script, TestApp, TestKey, nanos};

use crate::contract::{Published, ask, json_of};

async fn activity(app: &TestApp, query: &str) -> Vec<Value> {
    let answer = ask(&app.manager, Method::GET, &format!("/activity{query}"), None).await;
    let body = json_of(&answer);
    assert_eq!(answer.status, 200, "{query}: {body}");
    Published::load().check("GET /activity", "200", &body);
    body["data"].as_array().unwrap().clone()
}

async fn calls(key: &TestKey, count: usize) {
    for _ in 0..count {
        assert_eq!(key.chat(10, json!({})).await.status, 200);
    }
}

#[tokio::test]
async fn completed_days_add_up_by_whatever_is_asked_and_today_is_left_out() {
    let app = TestApp::start().await;
    let (one, two) = (app.key().limit("1").create().await, app.key().limit("1").create().await);
    calls(&one, 3).await;
    calls(&two, 1).await;
    app.provider.script(Script::Status(500, "{}"));
    assert_eq!(one.chat(10, json!({})).await.status, 502, "what cost nothing is no request");
    app.provider.script(Script::Answer { prompt: 10, completion: 5 });
    assert_eq!(activity(&app, "").await, [] as [Value; 0], "today is not over");
    assert_eq!(activity(&app, "?include_today=true").await.len(), 1);
    app.clock.advance(Duration::from_hours(24));
    calls(&two, 2).await;
    let rows = activity(&app, "").await;
    let row = &rows[0];
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&row["date"], &row["model"], &row["provider_name"]),
        (&json!("2026-01-15"), &json!(MODEL), &json!("scripted"))
    );
    let tokens = ["requests", "prompt_tokens", "completion_tokens"].map(|name| row[name].as_u64().unwrap());
    assert_eq!((nanos(&row["usage"]), tokens), (240, [4, 40, 20]));

    let app = app.restart().await;
    app.clock.advance(Duration::from_hours(24));
    let rows = activity(&app, "").await;
    let sums: Vec<_> = rows.iter().map(|row| (row["date"].as_str().unwrap(), nanos(&row["usage"]))).collect();
    assert_eq!(sums, [("2026-01-16", 120), ("2026-01-15", 240)], "the newest day first");
    let by_key = activity(&app, "?group_by=key&date=2026-01-15").await;
    let mut sums: Vec<_> = by_key.iter().map(|row| (row["api_key_hash"].clone(), nanos(&row["usage"]))).collect();
    sums.sort_by_key(|(_, sum)| *sum);
    assert_eq!(sums, [(json!(two.hash), 60), (json!(one.hash), 180)]);
    assert_eq!(nanos(&activity(&app, &format!("?api_key_hash={}", two.hash)).await[0]["usage"]), 120);
    let default = json_of(&ask(&app.manager, Method::GET, "/workspaces/default", None).await);
    let workspace = default["data"]["id"].as_str().unwrap();
    let by_workspace = activity(&app, &format!("?group_by=workspace&workspace_id={workspace}")).await;
    assert_eq!((by_workspace.len(), &by_workspace[0]["workspace_id"]), (2, &json!(workspace)));
    assert_eq!(activity(&app, "?user_id=user_x").await.len(), 0);
    app.manager.delete_key(&one.hash).await.unwrap();
    assert_eq!(activity(&app, "?date=2026-01-15").await.len(), 1, "what a deleted key spent stays");
    app.clock.advance(Duration::from_hours(30 * 24));
    assert_eq!(activity(&app, "").await.len(), 0, "thirty days and no more");
}

#[tokio::test]
async fn odd_questions_get_the_envelope() {
    let app = TestApp::start().await;
    let key = app.key().create().await;
    for (query, status) in [
        ("?date=2026-01-15", 400), // today
        ("?date=2025-12-15", 400), // too long ago
        ("?date=yesterday", 400),
        ("?date=2026-02-30", 400),
        ("?api_key_hash=x", 400),
        ("?workspace_id=x", 400),
        ("?group_by=colour", 400),
        ("?include_today=maybe", 400),
        ("?workspace_id=00000000-0000-4000-8000-000000000000", 404),
        (&format!("?api_key_hash={}", "0".repeat(64)), 404),
    ] {
        let answer = ask(&app.manager, Method::GET, &format!("/activity{query}"), None).await;
        assert_eq!(answer.status, status, "{query}");
        Published::load().check("GET /activity", &status.to_string(), &json_of(&answer));
    }
    assert_eq!(ask(&key.client, Method::GET, "/activity", None).await.status, 403);
}
