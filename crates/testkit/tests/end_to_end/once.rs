//! Requests that are sent again: done once, answered alike, and of no use to anybody else.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::HashSet;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use testkit::{MODEL, Provider, ServerProcess, TestApp, free_folder, tollgate_binary};
use tokio::task::JoinSet;
use tollgate_client::{Client, KeyFilter, RawAnswer};
use tollgate_domain::key::Powers;
use tollgate_store::Actor;

use crate::contract::json_of;
use crate::crashes::{MANAGEMENT_KEY, environment, write_config};

async fn post(client: &Client, key: &str, path: &str, body: &Value) -> RawAnswer {
    let once = client.once(Some(key.to_owned()));
    once.raw(Method::POST, &format!("/api/v1{path}"), Some(body.to_string().into_bytes())).await.unwrap()
}

async fn names(client: &Client) -> Vec<String> {
    let keys = client.keys(&KeyFilter { all: true, workspace: None }).await.unwrap();
    keys.into_iter().map(|key| key.name).collect()
}

#[tokio::test]
async fn a_request_that_is_sent_again_gets_the_same_answer_and_is_done_once() {
    let app = TestApp::start().await;
    let first = post(&app.manager, "k-1", "/keys", &json!({"name": "ci", "limit": 5})).await;
    let again = post(&app.manager, "k-1", "/keys", &json!({"name": "ci", "limit": 5})).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201));
    assert_eq!(first.body, again.body, "with the same secret");
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert!(!first.headers.contains_key("idempotent-replayed"));
    assert_eq!(names(&app.manager).await, ["ci"]);
    let secret = json_of(&again)["key"].as_str().unwrap().to_owned();
    app.manager.with_key(&secret).current_key().await.unwrap();

    let other = post(&app.manager, "k-1", "/keys", &json!({"name": "ci", "limit": 6})).await;
    assert_eq!(other.status.as_u16(), 409, "another body");
    let elsewhere = post(&app.manager, "k-1", "/keys/bulk", &json!({"name": "ci", "limit": 5})).await;
    assert_eq!(elsewhere.status.as_u16(), 409, "another path");
    let refused = post(&app.manager, "k-2", "/keys", &json!({"name": ""})).await;
    assert_eq!(refused.status.as_u16(), 400);
    let mended = post(&app.manager, "k-2", "/keys", &json!({"name": "mended"})).await;
    assert_eq!(mended.status.as_u16(), 201, "a refusal is not kept: nothing was done");
    for bad in ["", &"x".repeat(256)] {
        let answer = post(&app.manager, bad, "/keys", &json!({"name": "x"})).await;
        assert_eq!(answer.status.as_u16(), 400, "{bad:?}");
    }
    assert_eq!(names(&app.manager).await.len(), 2);
}

#[tokio::test]
async fn every_post_that_changes_something_is_done_once() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    let answer = key.chat(5, json!({})).await;
    let generation = json_of(&answer)["id"].as_str().unwrap().to_owned();
    let guardrail = post(&app.manager, "g", "/guardrails", &json!({"name": "g"})).await;
    let guardrail = json_of(&guardrail)["data"]["id"].as_str().unwrap().to_owned();
    let member = post(&app.manager, "m", "/organization/members", &json!({"email": "ann@example.org"})).await;
    let member = json_of(&member)["data"]["id"].as_str().unwrap().to_owned();
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let callback = "https://app.example.org/";
    let requests = [
        ("/keys", json!({"name": "a"})),
        ("/keys/bulk", json!({"keys": [{"name": "b"}, {"name": "c"}]})),
        (&format!("/keys/{}/rotate", key.hash), json!({"grace_period_seconds": 60})),
        ("/workspaces", json!({"name": "W", "slug": "w"})),
        ("/workspaces/w/members/add", json!({"user_ids": [member]})),
        ("/workspaces/w/members/remove", json!({"user_ids": [member]})),
        ("/organization/members", json!({"email": "bob@example.org"})),
        ("/guardrails", json!({"name": "h"})),
        (&format!("/guardrails/{guardrail}/assignments/keys"), json!({"key_hashes": [key.hash]})),
        (&format!("/guardrails/{guardrail}/assignments/keys/remove"), json!({"key_hashes": [key.hash]})),
        (&format!("/guardrails/{guardrail}/assignments/members"), json!({"member_user_ids": [member]})),
        (&format!("/guardrails/{guardrail}/assignments/members/remove"), json!({"member_user_ids": [member]})),
        ("/credits", json!({"amount_usd": 25})),
        ("/generation/adjust", json!({"id": generation, "amount_usd": -1e-9, "reason": "it was less"})),
        ("/auth/keys/code", json!({"callback_url": callback, "code_challenge": challenge})),
    ];
    for (path, body) in requests {
        let first = post(&app.manager, path, path, &body).await;
        assert!(first.status.is_success(), "{path}: {}", json_of(&first));
        let again = post(&app.manager, path, path, &body).await;
        assert_eq!((first.status, &first.body), (again.status, &again.body), "{path}");
        assert_eq!(again.headers["idempotent-replayed"], "true", "{path}");
    }
    assert_eq!(app.manager.credits().await.unwrap().total_credits.0.to_string(), "25.00000006", "once");
    let entries = app.manager.audit(&tollgate_client::AuditFilter::default(), 500).await.unwrap();
    let count = |action: &str| entries.iter().filter(|entry| entry.action == action).count();
    assert_eq!((count("key.create"), count("key.rotate"), count("generation.adjust")), (4, 1, 1));
}

#[tokio::test]
async fn a_code_is_exchanged_once_and_its_key_shown_again_to_who_knows_the_verifier() {
    let app = TestApp::start().await;
    let request = json!({"callback_url": "https://app.example.org/", "code_challenge_method": "plain",
        "code_challenge": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"});
    let code = json_of(&post(&app.manager, "code", "/auth/keys/code", &request).await);
    let proof = |verifier: &str| json!({"code": code["data"]["id"], "code_verifier": verifier, "code_challenge_method": "plain"});
    let nobody = app.manager.clone();
    let exchange = async |key: &str, verifier: &str| {
        let body = proof(verifier).to_string().into_bytes();
        nobody.once(Some(key.to_owned())).request(Method::POST, "/api/v1/auth/keys", None, Some(body)).await.unwrap()
    };
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let first = exchange("x", verifier).await;
    assert_eq!(first.status.as_u16(), 200);
    assert_eq!(exchange("x", verifier).await.body, first.body);
    let placeholder = nobody.with_key("no-key").once(Some("x".to_owned()));
    let body = proof(verifier).to_string().into_bytes();
    let again = placeholder.raw(Method::POST, "/api/v1/auth/keys", Some(body)).await.unwrap();
    assert_eq!(again.body, first.body, "a key that opens nothing is as good as none here");
    assert_eq!(exchange("y", verifier).await.status.as_u16(), 403, "another request: the code is used");
    assert_eq!(exchange("x", &"z".repeat(43)).await.status.as_u16(), 403, "a guess finds nothing");
}

#[tokio::test]
async fn an_idempotency_key_of_somebody_else_finds_nothing() {
    let app = TestApp::start().await;
    let first = post(&app.manager, "shared", "/keys", &json!({"name": "mine"})).await;
    let (id, other) = app.app.create_management_key("other", Powers::default(), &Actor::Operator).await.unwrap();
    let stranger = app.manager.with_key(other.reveal());
    let theirs = post(&stranger, "shared", "/keys", &json!({"name": "mine"})).await;
    assert_eq!(theirs.status.as_u16(), 201);
    assert_ne!(
        json_of(&first)["key"],
        json_of(&theirs)["key"],
        "a key of their own, and not the one that was made before"
    );

    let caller = app.key().create().await;
    let attempts =
        [(caller.client.clone(), "an inference key"), (app.manager.with_key("sk-or-v1-unknown"), "an unknown key")];
    for (client, who) in attempts {
        let answer = post(&client, "shared", "/keys", &json!({"name": "mine"})).await;
        assert_eq!(answer.status.as_u16(), 401, "{who}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("sk-or-v1"), "{who}");
    }
    app.app.revoke_management_key(id.id, &Actor::Operator).await.unwrap();
    let late = post(&stranger, "shared", "/keys", &json!({"name": "mine"})).await;
    assert_eq!(late.status.as_u16(), 401, "a revoked key is told nothing of what it once was told");

    let database = std::fs::read(&app.database).unwrap();
    let log = std::fs::read(app.database.with_extension("db-wal")).unwrap_or_default();
    for answer in [first, theirs] {
        let secret = json_of(&answer)["key"].as_str().unwrap().as_bytes().to_vec();
        let shown = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!shown(&database) && !shown(&log), "no secret is on disk");
    }
}

#[tokio::test]
async fn one_of_many_who_send_the_same_request_at_once_does_it() {
    let app = TestApp::start().await;
    let mut sending = JoinSet::new();
    for _ in 0..64 {
        let manager = app.manager.clone();
        sending.spawn(async move { post(&manager, "race", "/keys", &json!({"name": "one"})).await });
    }
    let answers = sending.join_all().await;
    let made: HashSet<_> =
        answers.iter().filter(|answer| answer.status.as_u16() == 201).map(|answer| answer.body.clone()).collect();
    assert_eq!(made.len(), 1, "all who were answered got the same");
    assert!(answers.iter().all(|answer| [201, 409].contains(&answer.status.as_u16())));
    assert_eq!(names(&app.manager).await, ["one"]);
}

#[tokio::test]
async fn an_answer_is_kept_for_a_day_and_through_a_restart() {
    let app = TestApp::start().await;
    let body = json!({"name": "kept"});
    let first = post(&app.manager, "k", "/keys", &body).await;
    let app = app.restart().await;
    assert_eq!(post(&app.manager, "k", "/keys", &body).await.body, first.body);
    app.clock.advance(Duration::from_hours(24));
    let later = post(&app.manager, "k", "/keys", &body).await;
    assert_ne!(later.body, first.body, "after a day it is another request");
    assert_eq!(names(&app.manager).await, ["kept", "kept"]);
}

#[tokio::test]
async fn calls_of_models_ignore_the_header() {
    let app = TestApp::start().await;
    let key = app.key().create().await;
    let call = json!({"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]});
    for _ in 0..2 {
        let answer = post(&key.client, "same", "/chat/completions", &call).await;
        assert_eq!(answer.status.as_u16(), 200);
    }
    assert_eq!(app.provider.calls(), 2);
}

/// The client that died with its connection asks again after the crash: the key is there and shown to it, or neither.
#[tokio::test]
async fn after_a_kill_the_key_and_its_answer_are_both_there_or_neither() {
    let folder = free_folder();
    let provider = Provider::start().await;
    let file = write_config(folder.path(), &provider, "process");
    let mut made = 0;
    for round in 0..10 {
        let server = ServerProcess::start(&tollgate_binary(), &file, &environment());
        let manager = server.client(MANAGEMENT_KEY);
        let before = names(&manager).await.len();
        assert_eq!(before, made);
        let mut sending = JoinSet::new();
        for sender in 0..8 {
            let manager = manager.clone();
            sending.spawn(async move {
                let key = format!("round-{round}-{sender}");
                let once = manager.once(Some(key));
                once.raw(Method::POST, "/api/v1/keys", Some(br#"{"name":"k"}"#.to_vec())).await.ok()
            });
        }
        // As soon as one is answered, with the others on their way.
        let first = sending.join_next().await.unwrap().unwrap().unwrap();
        server.kill();
        let mut answers = vec![Some(first)];
        while let Some(answer) = sending.join_next().await {
            answers.push(answer.unwrap());
        }
        let server = ServerProcess::start(&tollgate_binary(), &file, &environment());
        let manager = server.client(MANAGEMENT_KEY);
        let mut bodies = HashSet::new();
        for sender in 0..8 {
            let answer = post(&manager, &format!("round-{round}-{sender}"), "/keys", &json!({"name": "k"})).await;
            assert_eq!(answer.status.as_u16(), 201);
            bodies.insert(answer.body);
        }
        for answer in answers.into_iter().flatten() {
            assert!(bodies.contains(&answer.body), "who was answered before the crash is answered alike after it");
        }
        made += 8;
        assert_eq!(names(&manager).await.len(), made, "nothing was done twice");
        server.kill();
    }
}
