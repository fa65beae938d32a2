//! Who may ask what: every endpoint with every kind of credential (contract section 2.3).

use http::Method;
use serde_json::{Value, json};
use testkit::{MODEL, TestApp};
use tollgate_client::Client;
use tollgate_domain::Timestamp;
use tollgate_domain::key::Powers;
use tollgate_gateway::Limits;
use tollgate_store::{Actor, WorkspaceRef};

use crate::contract::{self, json_of};

const NO_KEY: &str = "Missing Authentication header";
const NO_USER: &str = "User not found.";
const NO_MANAGER: &str = "Invalid management key";
const FORBIDDEN: &str = "Only management keys can perform this operation";
const LIMITED: &str = "This management key is limited to a workspace";
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// Who an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    /// Everybody.
    All,
    /// Any key.
    Keys,
    /// Keys that call.
    Callers,
    /// Management keys; others learn that theirs is none.
    Managers,
    /// Management keys; others learn that only those may.
    Accountants,
}

/// Whether a management key that is limited to a workspace may ask; what it may not is its server's, not its workspace's.
fn within_a_workspace(method: &str, path: &str) -> bool {
    let looks =
        ["/workspaces", "/workspaces/nowhere/members", "/workspaces/nowhere", "/guardrails", "/audit", "/activity"];
    let below = ["/workspaces/nowhere/budgets", "/guardrails/0000"];
    let assignments = path.ends_with("/assignments/keys") || path.ends_with("/assignments/members");
    path.starts_with("/keys")
        || path.starts_with("/auth/keys")
        || (method == "GET" && looks.contains(&path))
        || (method == "GET" && below.iter().any(|below| path.starts_with(below)) && !assignments)
}

/// Every endpoint, with a request that changes nothing: what it is asked matters less than who asks.
fn endpoints() -> Vec<(&'static str, String, Value, For)> {
    use For::{Accountants, All, Callers, Keys, Managers};
    let call = json!({"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]});
    let (hash, guardrail) = ("0".repeat(64), format!("/guardrails/{NOBODY}"));
    vec![
        ("GET", "/key".to_owned(), Value::Null, Keys),
        ("GET", "/auth/key".to_owned(), Value::Null, Keys),
        ("GET", "/generation?id=gen-1-AAAAAAAAAAAAAAAAAAAA".to_owned(), Value::Null, Keys),
        ("GET", "/models/user".to_owned(), Value::Null, Keys),
        ("POST", "/generation/adjust".to_owned(), json!({"id": "x", "reason": "x"}), Managers),
        ("GET", "/audit".to_owned(), Value::Null, Managers),
        ("POST", "/chat/completions".to_owned(), call, Callers),
        ("GET", "/models".to_owned(), Value::Null, All),
        ("GET", "/models/count".to_owned(), Value::Null, All),
        ("GET", format!("/model/{MODEL}"), Value::Null, All),
        ("GET", format!("/models/{MODEL}/endpoints"), Value::Null, All),
        ("GET", "/providers".to_owned(), Value::Null, All),
        ("GET", "/keys".to_owned(), Value::Null, Managers),
        ("POST", "/keys".to_owned(), json!({}), Managers),
        ("POST", "/keys/bulk".to_owned(), json!({"keys": []}), Managers),
        ("GET", format!("/keys/{hash}"), Value::Null, Managers),
        ("PATCH", format!("/keys/{hash}"), json!({"name": "x"}), Managers),
        ("DELETE", format!("/keys/{hash}"), Value::Null, Managers),
        ("POST", format!("/keys/{hash}/rotate"), json!({}), Managers),
        ("GET", "/workspaces".to_owned(), Value::Null, Managers),
        ("POST", "/workspaces".to_owned(), json!({}), Managers),
        ("GET", "/workspaces/nowhere".to_owned(), Value::Null, Managers),
        ("PATCH", "/workspaces/nowhere".to_owned(), json!({"name": "x"}), Managers),
        ("DELETE", "/workspaces/nowhere".to_owned(), Value::Null, Managers),
        ("GET", "/workspaces/nowhere/members".to_owned(), Value::Null, Managers),
        ("POST", "/workspaces/nowhere/members/add".to_owned(), json!({"user_ids": ["u"]}), Managers),
        ("POST", "/workspaces/nowhere/members/remove".to_owned(), json!({"user_ids": ["u"]}), Managers),
        ("GET", "/workspaces/nowhere/budgets".to_owned(), Value::Null, Managers),
        ("GET", "/workspaces/nowhere/budgets/daily".to_owned(), Value::Null, Managers),
        ("PUT", "/workspaces/nowhere/budgets/daily".to_owned(), json!({"limit_usd": 1}), Managers),
        ("DELETE", "/workspaces/nowhere/budgets/daily".to_owned(), Value::Null, Managers),
        ("GET", "/organization/members".to_owned(), Value::Null, Managers),
        ("POST", "/organization/members".to_owned(), json!({"email": ""}), Managers),
        ("DELETE", "/organization/members/user_x".to_owned(), Value::Null, Managers),
        ("GET", "/guardrails".to_owned(), Value::Null, Managers),
        ("POST", "/guardrails".to_owned(), json!({}), Managers),
        ("GET", guardrail.clone(), Value::Null, Managers),
        ("PATCH", guardrail.clone(), json!({"name": "x"}), Managers),
        ("DELETE", guardrail.clone(), Value::Null, Managers),
        ("GET", "/guardrails/assignments/keys".to_owned(), Value::Null, Managers),
        ("GET", "/guardrails/assignments/members".to_owned(), Value::Null, Managers),
        ("GET", format!("{guardrail}/assignments/keys"), Value::Null, Managers),
        ("POST", format!("{guardrail}/assignments/keys"), json!({"key_hashes": ["x"]}), Managers),
        ("POST", format!("{guardrail}/assignments/keys/remove"), json!({"key_hashes": ["x"]}), Managers),
        ("GET", format!("{guardrail}/assignments/members"), Value::Null, Managers),
        ("POST", format!("{guardrail}/assignments/members"), json!({"member_user_ids": ["x"]}), Managers),
        ("POST", format!("{guardrail}/assignments/members/remove"), json!({"member_user_ids": ["x"]}), Managers),
        ("GET", "/byok".to_owned(), Value::Null, Managers),
        ("POST", "/byok".to_owned(), json!({}), Managers),
        ("GET", format!("/byok/{NOBODY}"), Value::Null, Managers),
        ("PATCH", format!("/byok/{NOBODY}"), json!({"disabled": true}), Managers),
        ("DELETE", format!("/byok/{NOBODY}"), Value::Null, Managers),
        ("POST", "/auth/keys".to_owned(), json!({}), All),
        ("POST", "/auth/keys/code".to_owned(), json!({}), Accountants),
        ("GET", "/activity".to_owned(), Value::Null, Accountants),
        ("GET", "/credits".to_owned(), Value::Null, Accountants),
        ("POST", "/credits".to_owned(), json!({"amount_usd": 0}), Accountants),
    ]
}

#[tokio::test]
async fn every_endpoint_answers_each_credential_as_the_contract_says() {
    use For::{Accountants, All, Callers, Keys, Managers};
    // Every wrong key comes from one address.
    let app = TestApp::with(|config| config.limits.failed_authentications_per_minute = 0, Limits::default()).await;
    let expired = app.key().expires_at("2026-01-15T12:30:00Z").create().await;
    let (disabled, deleted, alive) = (app.key().create().await, app.key().create().await, app.key().create().await);
    app.manager.update_key(&disabled.hash, &serde_json::from_str(r#"{"disabled":true}"#).unwrap()).await.unwrap();
    app.manager.delete_key(&deleted.hash).await.unwrap();
    let expires_at = Some(Timestamp::parse_utc("2026-01-15T12:30:00Z").unwrap());
    let reading = Powers { read_only: true, ..Powers::default() };
    let (_, reader) = app.app.create_management_key("reader", reading, &Actor::Operator).await.unwrap();
    let workspace = app.app.workspace(&WorkspaceRef::Default).await.unwrap().unwrap().id;
    let limited = Powers { workspace: Some(workspace), ..Powers::default() };
    let (_, limited) = app.app.create_management_key("limited", limited, &Actor::Operator).await.unwrap();
    let (_, late) = app
        .app
        .create_management_key("late", Powers { expires_at, ..Powers::default() }, &Actor::Operator)
        .await
        .unwrap();
    app.clock.advance(std::time::Duration::from_mins(31));
    let endpoints = endpoints();
    let dead = [
        ("unknown", "sk-or-v1-x"),
        ("expired", &expired.secret),
        ("disabled", &disabled.secret),
        ("deleted", &deleted.secret),
    ];
    for (method, path, body, whose) in endpoints {
        let ask = async |bearer: Option<&str>| {
            let body = (!body.is_null()).then(|| body.to_string().into_bytes());
            let (method, path): (Method, String) = (method.parse().unwrap(), format!("/api/v1{path}"));
            let answer = app.manager.request(method, &path, bearer, body).await.unwrap();
            let message = json_of(&answer)["error"]["message"].as_str().unwrap_or_default().to_owned();
            (answer.status.as_u16(), message)
        };
        let told = |status: u16, message: &str| (status, message.to_owned());
        let passes = |answer: &(u16, String)| !matches!(answer.0, 401 | 403 | 405 | 500..);
        let none = ask(None).await;
        if whose == All {
            assert!(passes(&none), "{method} {path} without a key: {none:?}");
            continue;
        }
        assert_eq!(none, told(401, NO_KEY), "{method} {path} without a key");
        for (kind, secret) in dead {
            let refused = if matches!(whose, Keys | Callers) { NO_USER } else { NO_MANAGER };
            assert_eq!(ask(Some(secret)).await, told(401, refused), "{method} {path} with a key that is {kind}");
        }
        let inference = ask(Some(&alive.secret)).await;
        match whose {
            Managers => assert_eq!(inference, told(401, NO_MANAGER), "{method} {path} with an inference key"),
            Accountants => assert_eq!(inference, told(403, FORBIDDEN), "{method} {path} with an inference key"),
            All | Keys | Callers => assert!(passes(&inference), "{method} {path} with an inference key: {inference:?}"),
        }
        let looks = method == "GET" || matches!(whose, Keys | Callers);
        match ask(Some(reader.reveal())).await {
            (403, message) => assert!(!looks && message == "This management key is read-only", "{method} {path}"),
            answer => assert!(looks || whose == Callers, "{method} {path} with a read-only key: {answer:?}"),
        }
        let answer = ask(Some(limited.reveal())).await;
        if matches!(whose, Keys | Callers) || within_a_workspace(method, &path) {
            assert!(passes(&answer) || whose == Callers, "{method} {path} with a limited key: {answer:?}");
        } else {
            assert_eq!(answer, told(403, LIMITED), "{method} {path} with a limited key");
        }
        assert_eq!(ask(Some(late.reveal())).await.0, 401, "{method} {path} with an expired management key");
        let management = ask(Some(testkit::MANAGEMENT_KEY)).await;
        if whose == Callers {
            assert_eq!(management, told(401, NO_USER), "{method} {path} with a management key");
        } else {
            assert!(passes(&management), "{method} {path} with a management key: {management:?}");
        }
    }
}

#[tokio::test]
async fn a_management_key_of_a_workspace_reaches_that_workspace_and_nothing_else() {
    let app = TestApp::start().await;
    let ask = async |client: &Client, method: &str, path: &str, body: Value| {
        let answer = contract::ask(client, method.parse().unwrap(), path, Some(body)).await;
        (answer.status.as_u16(), json_of(&answer))
    };
    let (_, mine) = ask(&app.manager, "POST", "/workspaces", json!({"name": "Mine", "slug": "mine"})).await;
    let mine = mine["data"]["id"].as_str().unwrap();
    let found = app.app.workspace(&WorkspaceRef::Slug("mine".to_owned())).await.unwrap().unwrap();
    let powers = Powers { workspace: Some(found.id), ..Powers::default() };
    let (_, secret) = app.app.create_management_key("mine", powers, &Actor::Operator).await.unwrap();
    let limited = app.manager.with_key(secret.reveal());
    let theirs = app.key().limit("1").create().await;

    let (status, created) = ask(&limited, "POST", "/keys", json!({"name": "ours"})).await;
    assert_eq!((status, created["data"]["workspace_id"].as_str()), (201, Some(mine)), "it makes keys where it is");
    let ours = created["data"]["hash"].as_str().unwrap();
    let (_, listed) = ask(&limited, "GET", "/keys", Value::Null).await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert_eq!(listed["data"][0]["hash"], ours);
    let (_, workspaces) = ask(&limited, "GET", "/workspaces", Value::Null).await;
    assert_eq!((&workspaces["total_count"], workspaces["data"][0]["id"].as_str()), (&json!(1), Some(mine)));
    let (_, itself) = ask(&limited, "GET", "/key", Value::Null).await;
    assert_eq!(itself["data"]["workspace_id"], mine);
    assert_eq!(ask(&limited, "PATCH", &format!("/keys/{ours}"), json!({"limit": 2})).await.0, 200);

    let default = app.app.workspace(&WorkspaceRef::Default).await.unwrap().unwrap();
    let elsewhere = default.uuid.to_string();
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    for (method, path, body, status) in [
        ("GET", format!("/keys/{}", theirs.hash), Value::Null, 404),
        ("PATCH", format!("/keys/{}", theirs.hash), json!({"limit": null}), 404),
        ("DELETE", format!("/keys/{}", theirs.hash), Value::Null, 404),
        ("POST", format!("/keys/{}/rotate", theirs.hash), json!({}), 404),
        ("GET", format!("/keys?workspace_id={elsewhere}"), Value::Null, 403),
        ("POST", "/keys".to_owned(), json!({"name": "x", "workspace_id": elsewhere}), 403),
        ("POST", "/keys/bulk".to_owned(), json!({"keys": [{"name": "x", "workspace_id": elsewhere}]}), 403),
        ("PATCH", format!("/keys/{ours}"), json!({"workspace_id": elsewhere}), 403),
        ("GET", "/workspaces/default".to_owned(), Value::Null, 404),
        ("GET", "/workspaces/default/budgets".to_owned(), Value::Null, 404),
        ("PATCH", "/workspaces/mine".to_owned(), json!({"name": "x"}), 403),
        ("PUT", "/workspaces/mine/budgets/daily".to_owned(), json!({"limit_usd": 9}), 403),
        ("DELETE", "/workspaces/mine".to_owned(), Value::Null, 403),
        ("GET", format!("/activity?workspace_id={elsewhere}"), Value::Null, 403),
        ("GET", format!("/audit?workspace_id={elsewhere}"), Value::Null, 403),
        ("GET", format!("/guardrails?workspace_id={elsewhere}"), Value::Null, 403),
        ("POST", "/credits".to_owned(), json!({"amount_usd": 1}), 403),
        ("POST", "/keys".to_owned(), json!({"name": "x", "creator_user_id": "user_boss"}), 403),
        ("POST", "/keys/bulk".to_owned(), json!({"keys": [{"name": "x", "creator_user_id": "user_boss"}]}), 403),
        ("GET", format!("/activity?api_key_hash={}", theirs.hash), Value::Null, 404),
        ("GET", format!("/activity?api_key_hash={}", "0".repeat(64)), Value::Null, 404),
        (
            "POST",
            "/auth/keys/code".to_owned(),
            json!({"callback_url": "https://a.example/", "code_challenge": challenge, "workspace_id": elsewhere}),
            403,
        ),
    ] {
        let answer = ask(&limited, method, &path, body).await;
        assert_eq!(answer.0, status, "{method} {path}: {}", answer.1);
    }
    assert!(app.manager.key(&theirs.hash).await.unwrap().limit.is_some(), "nothing of theirs changed");
    let call = json_of(&theirs.chat(5, json!({})).await);
    let generation = format!("/generation?id={}", call["id"].as_str().unwrap());
    assert_eq!(ask(&limited, "GET", &generation, Value::Null).await.0, 403);
    let (_, log) = ask(&limited, "GET", "/audit", Value::Null).await;
    assert!(log["data"].as_array().unwrap().iter().all(|entry| entry["workspace_id"] == mine), "{log}");

    assert_eq!(ask(&limited, "DELETE", &format!("/keys/{ours}"), Value::Null).await.0, 200);
    assert_eq!(ask(&app.manager, "DELETE", "/workspaces/mine", Value::Null).await.0, 200);
    assert_eq!(ask(&limited, "GET", "/keys", Value::Null).await.0, 401, "it ended with its workspace");
}
