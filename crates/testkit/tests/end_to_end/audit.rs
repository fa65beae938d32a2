//! The audit log: every act of management, who did it, from what to what; and corrections of charges.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use http::Method;
use serde_json::{Value, json};
use testkit::{TestApp, nanos};
use tollgate_client::{AuditFilter, Client};

use crate::contract::{ask, json_of};

async fn done(client: &Client, method: &str, path: &str, body: Value) -> Value {
    let answer = ask(client, method.parse::<Method>().unwrap(), path, Some(body)).await;
    assert!(answer.status.is_success(), "{method} {path}: {}", json_of(&answer));
    json_of(&answer)
}

async fn log(client: &Client, query: &str) -> Vec<Value> {
    let answer = json_of(&ask(client, Method::GET, &format!("/audit{query}"), None).await);
    answer["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn every_act_is_in_the_log_with_who_and_from_what_to_what() {
    let app = TestApp::start().await;
    let manager = &app.manager;
    let created = done(manager, "POST", "/keys", json!({"name": "ci", "limit": 5})).await;
    let (hash, secret) = (created["data"]["hash"].as_str().unwrap(), created["key"].as_str().unwrap());
    let key = format!("/keys/{hash}");
    done(manager, "PATCH", &key, json!({"limit": 7.5, "limit_reset": "daily", "name": "ci"})).await;
    done(manager, "POST", &format!("{key}/rotate"), json!({"grace_period_seconds": 60})).await;
    let workspace = done(manager, "POST", "/workspaces", json!({"name": "W", "slug": "w"})).await;
    let workspace = workspace["data"]["id"].as_str().unwrap();
    done(manager, "PATCH", "/workspaces/w", json!({"description": "ours"})).await;
    done(manager, "PUT", "/workspaces/w/budgets/monthly", json!({"limit_usd": 100})).await;
    done(manager, "DELETE", "/workspaces/w/budgets/monthly", Value::Null).await;
    let member = done(manager, "POST", "/organization/members", json!({"email": "ann@example.org"})).await;
    let member = member["data"]["id"].as_str().unwrap();
    done(manager, "POST", "/workspaces/w/members/add", json!({"user_ids": [member]})).await;
    done(manager, "POST", "/workspaces/w/members/remove", json!({"user_ids": [member]})).await;
    let guardrail = done(manager, "POST", "/guardrails", json!({"name": "g"})).await;
    let guardrail = format!("/guardrails/{}", guardrail["data"]["id"].as_str().unwrap());
    done(manager, "PATCH", &guardrail, json!({"allowed_models": ["a/b"]})).await;
    done(manager, "POST", &format!("{guardrail}/assignments/keys"), json!({"key_hashes": [hash]})).await;
    done(manager, "POST", &format!("{guardrail}/assignments/keys/remove"), json!({"key_hashes": [hash]})).await;
    done(manager, "DELETE", &guardrail, Value::Null).await;
    done(manager, "POST", "/credits", json!({"amount_usd": 25, "note": "invoice 7"})).await;
    done(manager, "DELETE", &format!("/organization/members/{member}"), Value::Null).await;
    done(manager, "DELETE", "/workspaces/w", Value::Null).await;
    done(manager, "DELETE", &key, Value::Null).await;

    let entries = log(manager, "?limit=100").await;
    let mut actions: Vec<_> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    actions.reverse();
    let expected = [
        "price.publish",
        "price.publish",
        "price.publish",
        "management_key.create",
        "key.create",
        "key.update",
        "key.rotate",
        "workspace.create",
        "workspace.update",
        "workspace_budget.set",
        "workspace_budget.delete",
        "member.create",
        "workspace_member.add",
        "workspace_member.remove",
        "guardrail.create",
        "guardrail.update",
        "guardrail.assign",
        "guardrail.unassign",
        "guardrail.delete",
        "credits.add",
        "member.delete",
        "workspace.delete",
        "key.delete",
    ];
    assert_eq!(actions, expected);
    let text = Value::from(entries.clone()).to_string();
    assert!(!text.contains(secret), "no secret is in the log");
    for entry in &entries {
        let kind = match entry["action"].as_str().unwrap() {
            "price.publish" => "config",
            "management_key.create" => "operator",
            _ => "management_key",
        };
        assert_eq!(entry["actor"]["type"], kind, "{entry}");
        assert!(entry["created_at"].as_str().unwrap().starts_with("2026-01-15T12:00:00"), "{entry}");
    }
    let update = &entries[entries.len() - 6];
    assert_eq!(update["actor"], json!({"type": "management_key", "id": 1, "name": "first"}));
    assert_eq!(update["target"], hash);
    assert_eq!(update["before"], json!({"limit": 5, "limit_reset": null}));
    assert_eq!(update["after"], json!({"limit": 7.5, "limit_reset": "daily"}));
    assert_eq!(log(manager, &format!("?target={hash}&action=key")).await.len(), 4);
    assert_eq!(log(manager, "?action=key.rotate").await.len(), 1);
    assert_eq!(log(manager, &format!("?workspace_id={workspace}")).await.len(), 7);
    assert_eq!(log(manager, "?offset=3&limit=2").await[0], entries[3]);
    let client_side = manager.audit(&AuditFilter { target: Some(hash.to_owned()), action: None }, 3).await.unwrap();
    assert_eq!(client_side.len(), 3);

    let restarted = app.restart().await;
    assert_eq!(log(&restarted.manager, "?limit=100").await, entries, "and it is still there after a restart");
}

#[tokio::test]
async fn a_guardrail_that_takes_the_place_of_another_and_a_key_that_moves_are_told_on_both_sides() {
    let app = TestApp::start().await;
    let manager = &app.manager;
    let key = app.key().create().await;
    let mut guardrails = Vec::new();
    for name in ["first", "second"] {
        let made = done(manager, "POST", "/guardrails", json!({"name": name})).await;
        let id = made["data"]["id"].as_str().unwrap().to_owned();
        let assigned = done(
            manager,
            "POST",
            &format!("/guardrails/{id}/assignments/keys"),
            json!({"key_hashes": [key.hash, key.hash]}),
        )
        .await;
        assert_eq!(assigned["assigned_count"], 1, "once, however often it is named");
        guardrails.push(id);
    }
    done(manager, "DELETE", &format!("/guardrails/{}", guardrails[1]), Value::Null).await;
    let told = log(manager, &format!("?target={}&action=guardrail", key.hash)).await;
    let sides: Vec<_> =
        told.iter().map(|entry| (&entry["before"]["guardrail_id"], &entry["after"]["guardrail_id"])).collect();
    let [first, second] = [json!(guardrails[0]), json!(guardrails[1])];
    assert_eq!(sides, [(&second, &Value::Null), (&first, &second), (&Value::Null, &first)]);

    let made = done(manager, "POST", "/workspaces", json!({"name": "W", "slug": "w"})).await;
    let there = made["data"]["id"].as_str().unwrap();
    done(manager, "PATCH", &format!("/keys/{}", key.hash), json!({"workspace_id": there})).await;
    let moved = log(manager, &format!("?target={}&action=key.update", key.hash)).await;
    let from = &moved[0]["before"]["workspace_id"];
    let places: Vec<_> = moved.iter().map(|entry| &entry["workspace_id"]).collect();
    assert_eq!(places, [&json!(there), from], "the one that it left is told, too");
}

#[tokio::test]
async fn what_was_refused_is_not_in_the_log() {
    let app = TestApp::start().await;
    let before = log(&app.manager, "").await;
    for (path, body) in [("/keys", json!({"name": ""})), ("/workspaces", json!({"name": "x", "slug": "default"}))] {
        assert_eq!(ask(&app.manager, Method::POST, path, Some(body)).await.status.as_u16(), 400, "{path}");
    }
    let key = app.key().create().await;
    app.break_disk(true);
    assert_eq!(key.chat(5, json!({})).await.status.as_u16(), 503, "the ledger found out");
    let failed = ask(&app.manager, Method::POST, "/credits", Some(json!({"amount_usd": 1}))).await;
    assert_eq!(failed.status.as_u16(), 503);
    app.break_disk(false);
    let after = log(&app.manager, "").await;
    assert_eq!((after.len(), &after[0]["action"]), (before.len() + 1, &json!("key.create")));
    assert!(app.manager.credits().await.unwrap().unlimited);
}

#[tokio::test]
async fn a_charge_is_corrected_with_a_reason_and_every_sum_follows() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    let answer = json_of(&key.chat(5, json!({})).await);
    let id = answer["id"].as_str().unwrap();
    let before = key.usage_nanos().await;
    let correct = |amount: Value, reason: &str| json!({"id": id, "amount_usd": amount, "reason": reason});
    let adjusted = done(&app.manager, "POST", "/generation/adjust", correct(json!(-1e-8), "billed twice")).await;
    assert_eq!(nanos(&adjusted["data"]["usage"]), before - 10);
    assert_eq!(key.usage_nanos().await, before - 10);
    let generation = json_of(&ask(&key.client, Method::GET, &format!("/generation?id={id}"), None).await);
    assert_eq!(nanos(&generation["data"]["total_cost"]), before - 10);
    done(&app.manager, "POST", "/generation/adjust", correct(json!(2), "beyond the limit: never refused")).await;
    assert_eq!(key.usage_nanos().await, before - 10 + 2_000_000_000);
    let refused = key.chat(5, json!({})).await;
    assert_eq!(refused.status.as_u16(), 403, "what is spent is spent");
    let entries = log(&app.manager, &format!("?target={id}")).await;
    assert_eq!(entries[1]["after"]["reason"], "billed twice");
    assert_eq!(nanos(&entries[1]["before"]["usage"]), before);

    for (body, status) in [
        (correct(json!(0), "nothing"), 400),
        (correct(json!(1), " "), 400),
        (correct(json!(1e-10), "too fine"), 400),
        (correct(json!(-3), "more than was charged"), 400),
        (correct(json!(1_000_000_001), "too large"), 400),
        (correct(json!("1"), "no number"), 400),
        (json!({"id": id, "reason": "nothing"}), 400),
        (json!({"id": "gen-1-AAAAAAAAAAAAAAAAAAAA", "amount_usd": 1, "reason": "nobody"}), 404),
    ] {
        let answer = ask(&app.manager, Method::POST, "/generation/adjust", Some(body.clone())).await;
        assert_eq!(answer.status.as_u16(), status, "{body}");
    }
    assert_eq!(key.usage_nanos().await, before - 10 + 2_000_000_000);
}
