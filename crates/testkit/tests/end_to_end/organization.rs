//! Workspaces, members, budgets, guardrails and credits through the real server: shapes, rules, and what they refuse.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use http::Method;
use serde_json::{Value, json};
use testkit::{MODEL, Script, TestApp, TestKey, nanos};
use tokio::task::JoinSet;
use tollgate_client::{Client, RawAnswer};
use tollgate_domain::KeyHash;

use crate::contract::{Published, ask, json_of};

/// Asks, expects a status, checks the published schema of the operation, and returns the body.
async fn expect(client: &Client, operation: &str, path: &str, body: Option<Value>, status: u16) -> Value {
    let method: Method = operation.split(' ').next().unwrap().parse().unwrap();
    let answer = ask(client, method, path, body).await;
    let json = json_of(&answer);
    assert_eq!(answer.status.as_u16(), status, "{operation} {path}: {json}");
    Published::load().check(operation, &status.to_string(), &json);
    json
}

fn message(body: &Value) -> &str {
    body["error"]["message"].as_str().unwrap()
}

async fn call(client: &Client, max_tokens: u64) -> RawAnswer {
    let call = json!({"model": MODEL, "max_tokens": max_tokens, "messages": [{"role": "user", "content": "hi"}]});
    client.chat(call.to_string().into_bytes()).await.unwrap()
}

/// A member who is there from now on: their public id.
async fn member(app: &TestApp, email: &str) -> String {
    let body = json!({"email": email, "first_name": "Ann"});
    let answer = ask(&app.manager, Method::POST, "/organization/members", Some(body)).await;
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    json_of(&answer)["data"]["id"].as_str().unwrap().to_owned()
}

/// A key as the body asks for it.
async fn key(app: &TestApp, body: Value) -> TestKey {
    let mut request = json!({"name": "k"});
    request.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    let created = expect(&app.manager, "POST /keys", "/keys", Some(request), 201).await;
    let (hash, secret) = (created["data"]["hash"].as_str().unwrap(), created["key"].as_str().unwrap());
    TestKey { hash: hash.to_owned(), secret: secret.to_owned(), client: app.manager.with_key(secret) }
}

#[tokio::test]
async fn workspaces_are_made_found_changed_and_deleted() {
    let app = TestApp::start().await;
    let m = &app.manager;
    let create = json!({"name": "Research", "slug": "research", "description": "d", "io_logging_sampling_rate": 0.25});
    let created = expect(m, "POST /workspaces", "/workspaces", Some(create.clone()), 201).await;
    assert_eq!(created["data"]["io_logging_sampling_rate"], 0.25);
    let id = created["data"]["id"].as_str().unwrap();
    for name in [id, "research"] {
        let found = expect(m, "GET /workspaces/{id}", &format!("/workspaces/{name}"), None, 200).await;
        assert_eq!(found["data"], created["data"]);
    }
    for (body, told) in [
        (create, "slug"),
        (json!({"name": "x"}), "slug"),
        (json!({"slug": "x"}), "name"),
        (json!({"name": "x", "slug": "No Good"}), "slug"),
        (json!({"name": "", "slug": "x"}), "name"),
        (json!({"name": "x", "slug": "x", "io_logging_sampling_rate": 0}), "io_logging_sampling_rate"),
        (json!({"name": "x", "slug": "0".repeat(32)}), "slug"),
        (json!({"name": "x", "slug": "x", "default_provider_sort": "luck"}), "default_provider_sort"),
    ] {
        let refused = expect(m, "POST /workspaces", "/workspaces", Some(body), 400).await;
        assert!(message(&refused).contains(told), "{refused}");
    }
    let changed = json!({"name": "Lab", "description": null, "default_text_model": MODEL});
    let changed = expect(m, "PATCH /workspaces/{id}", "/workspaces/research", Some(changed), 200).await;
    assert_eq!((&changed["data"]["name"], &changed["data"]["description"]), (&json!("Lab"), &Value::Null));
    assert!(changed["data"]["updated_at"].is_string());
    expect(m, "PATCH /workspaces/{id}", "/workspaces/research", Some(json!({})), 400).await;
    let tools = json!({"disabled_server_tools": ["openrouter:web_search"]});
    let stored = expect(m, "PATCH /workspaces/{id}", "/workspaces/research", Some(tools.clone()), 200).await;
    assert_eq!(stored["data"]["disabled_server_tools"], tools["disabled_server_tools"]);
    let many = expect(m, "GET /workspaces", "/workspaces?limit=1000", None, 200).await;
    assert_eq!(many["total_count"], 2);
    let all = expect(m, "GET /workspaces", "/workspaces?limit=1&offset=1", None, 200).await;
    assert_eq!((all["total_count"].as_u64(), &all["data"][0]["slug"]), (Some(2), &json!("research")));

    let TestKey { hash, .. } = key(&app, json!({"workspace_id": id})).await;
    let refused = expect(m, "DELETE /workspaces/{id}", "/workspaces/research", None, 400).await;
    assert!(message(&refused).contains("active keys (1)"), "{refused}");
    expect(m, "DELETE /workspaces/{id}", "/workspaces/default", None, 403).await;
    let path = format!("/keys/{hash}");
    expect(m, "DELETE /keys/{hash}", &path, None, 200).await;
    expect(m, "DELETE /workspaces/{id}", "/workspaces/research", None, 200).await;
    expect(m, "DELETE /workspaces/{id}", "/workspaces/research", None, 404).await;
    expect(m, "GET /workspaces/{id}", &format!("/workspaces/{id}"), None, 404).await;
    let again = json!({"name": "Research", "slug": "research"});
    expect(m, "POST /workspaces", "/workspaces", Some(again), 201).await;
    let app = app.restart().await;
    let all = expect(&app.manager, "GET /workspaces", "/workspaces", None, 200).await;
    assert_eq!(all["total_count"], 2, "the deleted one stays deleted");
}

#[tokio::test]
async fn members_come_go_and_keep_what_they_made() {
    let app = TestApp::start().await;
    let m = &app.manager;
    let (ann, bob) = (member(&app, "ann@example.org").await, member(&app, "bob@example.org").await);
    assert!(ann.starts_with("user_") && ann.len() == 32, "{ann}");
    for body in
        [json!({"email": "ANN@example.org"}), json!({"email": "nobody"}), json!({"email": "x@y", "role": "king"})]
    {
        assert_eq!(ask(m, Method::POST, "/organization/members", Some(body)).await.status, 400);
    }
    let all = expect(m, "GET /organization/members", "/organization/members", None, 200).await;
    assert_eq!((all["total_count"].as_u64(), &all["data"][1]["id"]), (Some(2), &json!(bob)));
    let lab = json!({"name": "Lab", "slug": "lab"});
    expect(m, "POST /workspaces", "/workspaces", Some(lab), 201).await;
    let both = json!({"user_ids": [ann, bob]});
    let add = "POST /workspaces/{id}/members/add";
    let added = expect(m, add, "/workspaces/lab/members/add", Some(json!({"user_ids": [ann]})), 200).await;
    assert_eq!((added["added_count"].as_u64(), &added["data"][0]["user_id"]), (Some(1), &json!(ann)));
    let added = expect(m, add, "/workspaces/lab/members/add", Some(both.clone()), 200).await;
    assert_eq!(added["added_count"], 1);
    expect(m, add, "/workspaces/lab/members/add", Some(json!({"user_ids": [ann, "user_x"]})), 404).await;
    expect(m, add, "/workspaces/lab/members/add", Some(json!({"user_ids": []})), 400).await;
    let members = "GET /workspaces/{id}/members";
    for (workspace, count) in [("lab", 2), ("default", 2)] {
        let listed = expect(m, members, &format!("/workspaces/{workspace}/members"), None, 200).await;
        assert_eq!(listed["total_count"], count, "{workspace}");
    }

    let lab = expect(m, "GET /workspaces/{id}", "/workspaces/lab", None, 200).await["data"]["id"].clone();
    let TestKey { hash, client, .. } = key(&app, json!({"workspace_id": lab, "creator_user_id": ann})).await;
    let current = expect(&client, "GET /key", "/key", None, 200).await;
    assert_eq!(current["data"]["creator_user_id"], json!(ann));
    let remove = "POST /workspaces/{id}/members/remove";
    let refused = expect(m, remove, "/workspaces/lab/members/remove", Some(both.clone()), 400).await;
    assert!(message(&refused).contains(&ann), "{refused}");
    let leave = format!("/organization/members/{ann}");
    assert_eq!(ask(m, Method::DELETE, &leave, None).await.status, 400, "her key is there");
    expect(m, "DELETE /keys/{hash}", &format!("/keys/{hash}"), None, 200).await;
    let removed = expect(m, remove, "/workspaces/lab/members/remove", Some(both), 200).await;
    assert_eq!(removed["removed_count"], 2);
    assert_eq!(ask(m, Method::DELETE, &leave, None).await.status, 200);
    assert_eq!(ask(m, Method::DELETE, &leave, None).await.status, 404);
    let orphan = json!({"name": "k", "creator_user_id": ann});
    expect(m, "POST /keys", "/keys", Some(orphan), 400).await;
    let app = app.restart().await;
    let all = expect(&app.manager, "GET /organization/members", "/organization/members", None, 200).await;
    assert_eq!(all["total_count"], 1);
}

#[tokio::test]
async fn budgets_of_a_workspace_must_narrow_and_refuse_by_the_broadest() {
    let app = TestApp::start().await;
    let m = &app.manager;
    let (list, one) = ("GET /workspaces/{id}/budgets", "/workspaces/default/budgets");
    let empty = expect(m, list, one, None, 200).await;
    assert_eq!((&empty["data"], &empty["include_byok_in_budgets"]), (&json!([]), &json!(false)));
    let put = |interval: &str, usd: f64, status: u16| {
        let (path, body) = (format!("{one}/{interval}"), json!({"limit_usd": usd}));
        async move { expect(m, "PUT /workspaces/{id}/budgets/{interval}", &path, Some(body), status).await }
    };
    put("monthly", 500.0, 200).await;
    let refused = put("weekly", 600.0, 400).await;
    let told = "Budget limits must be strictly decreasing as scope narrows: the monthly limit ($500) must be greater than \
                the weekly limit ($600).";
    assert_eq!(message(&refused), told);
    for (interval, usd) in [("yearly", 1.0), ("daily", 0.0), ("daily", -1.0)] {
        put(interval, usd, 400).await;
    }
    put("daily", 0.000_000_06, 200).await;
    let get = "GET /workspaces/{id}/budgets/{interval}";
    expect(m, get, &format!("{one}/weekly"), None, 404).await;
    let daily = expect(m, get, &format!("{one}/daily"), None, 200).await;
    assert_eq!(daily["data"]["reset_interval"], "daily");

    let TestKey { client, .. } = key(&app, json!({})).await;
    let never = call(&client, 100).await;
    assert_eq!(never.status, 402, "it can never fit");
    assert_eq!(json_of(&never)["error"]["metadata"]["limit_source"], "openrouter_workspace_budget");
    put("daily", 0.0001, 200).await;
    assert_eq!(call(&client, 100).await.status, 200);
    put("monthly", 0.000_2, 200).await;
    let current = expect(&client, "GET /key", "/key", None, 200).await;
    let scopes: Vec<_> = current["data"]["budgets"].as_array().unwrap().iter().map(|b| &b["reset_interval"]).collect();
    assert_eq!(scopes, ["monthly", "daily"], "the broadest first");
    let first = &current["data"]["budgets"][0];
    assert_eq!((&first["scope"], nanos(&first["spend_usd"])), (&json!("workspace"), 60));
    assert_eq!(current["data"]["effective_budget"]["budget_id"], daily["data"]["id"]);
    put("daily", 0.000_000_05, 200).await;
    put("monthly", 0.000_000_06, 200).await;
    let refused = call(&client, 1).await;
    assert_eq!(refused.status, 403);
    let body = json_of(&refused);
    assert_eq!(message(&body), "Workspace monthly budget of $0.00000006 exceeded. Contact your org admin.");
    assert_eq!(body["error"]["metadata"]["limit_source"], "openrouter_workspace_budget");
    let delete = "DELETE /workspaces/{id}/budgets/{interval}";
    for interval in ["daily", "daily", "monthly"] {
        expect(m, delete, &format!("{one}/{interval}"), None, 200).await;
    }
    assert_eq!(call(&client, 1).await.status, 200);
}

#[tokio::test]
async fn guardrails_hold_the_keys_and_members_they_are_assigned_to() {
    let app = TestApp::start().await;
    let m = &app.manager;
    let ann = member(&app, "ann@example.org").await;
    let TestKey { hash, secret, client: own } = key(&app, json!({"creator_user_id": ann})).await;
    let sister = key(&app, json!({"creator_user_id": ann})).await.client;
    let create = "POST /guardrails";
    for (body, told) in [
        (json!({}), "name"),
        (json!({"name": "g", "limit_usd": 5}), "set together"),
        (json!({"name": "g", "reset_interval": "daily"}), "set together"),
        (json!({"name": "g", "allowed_models": []}), "one at least"),
        (json!({"name": "g", "content_filters": [{"pattern": "x", "action": "shout"}]}), "content_filters"),
        (json!({"name": "g", "workspace_id": "x"}), "workspace_id"),
    ] {
        let refused = expect(m, create, "/guardrails", Some(body), 400).await;
        assert!(message(&refused).contains(told), "{refused}");
    }
    let body =
        json!({"name": "members", "limit_usd": 0.000_001_1, "reset_interval": "monthly", "enforce_zdr_google": true});
    let created = expect(m, create, "/guardrails", Some(body), 201).await;
    assert_eq!(
        (&created["data"]["enforce_zdr_google"], &created["data"]["enforce_zdr_xai"]),
        (&json!(true), &Value::Null)
    );
    let id = created["data"]["id"].as_str().unwrap().to_owned();
    let path = format!("/guardrails/{id}");
    let assign = format!("{path}/assignments/members");
    let whom = json!({"member_user_ids": [ann]});
    let operation = "POST /guardrails/{id}/assignments/members";
    assert_eq!(expect(m, operation, &assign, Some(whom.clone()), 200).await["assigned_count"], 1);
    assert_eq!(expect(m, operation, &assign, Some(whom), 200).await["assigned_count"], 0);
    expect(m, operation, &assign, Some(json!({"member_user_ids": ["user_x"]})), 400).await;

    // Two keys of one member share the member's budget: nine cheap calls fit, and not a tenth.
    let mut granted = 0;
    for client in [&own, &sister].into_iter().cycle().take(40) {
        let answer = call(client, 5).await;
        match answer.status.as_u16() {
            200 => granted += 1,
            status => {
                let body = json_of(&answer);
                assert_eq!(body["error"]["metadata"]["limit_source"], "openrouter_guardrail_budget", "{status} {body}");
                assert_eq!(body["error"]["metadata"]["scope"], "member");
            }
        }
    }
    let current = expect(&own, "GET /key", "/key", None, 200).await;
    let budget = &current["data"]["budgets"][0];
    assert_eq!((&budget["scope"], &budget["guardrail_id"]), (&json!("member"), &json!(id)));
    assert_eq!(nanos(&budget["spend_usd"]), granted * 60);
    assert!(granted * 60 <= 1_100 && nanos(&budget["remaining_usd"]) < 200, "{budget}");

    // The key gets a guardrail of its own, which leaves it nothing to call.
    let models = json!({"name": "models", "allowed_models": ["test/other"], "ignored_providers": ["elsewhere"]});
    let other = expect(m, create, "/guardrails", Some(models), 201).await;
    let other = format!("/guardrails/{}", other["data"]["id"].as_str().unwrap());
    let keys = json!({"key_hashes": [hash]});
    let operation = "POST /guardrails/{id}/assignments/keys";
    assert_eq!(
        expect(m, operation, &format!("{other}/assignments/keys"), Some(keys.clone()), 200).await["assigned_count"],
        1
    );
    let blocked = call(&own, 5).await;
    assert_eq!(blocked.status, 404);
    assert!(message(&json_of(&blocked)).starts_with("No endpoints available matching your guardrail restrictions"));
    for (body, field, stored) in [
        (json!({"content_filters": null}), "content_filters", Value::Null),
        (json!({"allowed_data_regions": ["europe"]}), "allowed_data_regions", json!(["europe"])),
        (json!({"allow_safety_retention_google": false}), "allow_safety_retention_google", json!(false)),
    ] {
        let changed = expect(m, "PATCH /guardrails/{id}", &other, Some(body), 200).await;
        assert_eq!(changed["data"][field], stored);
    }
    expect(m, "PATCH /guardrails/{id}", &other, Some(json!({"allowed_data_regions": ["moon"]})), 400).await;
    let open = json!({"allowed_models": [MODEL], "allowed_data_regions": null, "limit_usd": null, "name": "renamed"});
    let changed = expect(m, "PATCH /guardrails/{id}", &other, Some(open), 200).await;
    assert_eq!((&changed["data"]["name"], &changed["data"]["allowed_models"]), (&json!("renamed"), &json!([MODEL])));
    assert_ne!(call(&own, 5).await.status, 404);

    for (operation, path, count) in [
        ("GET /guardrails/{id}/assignments/keys", format!("{other}/assignments/keys"), 1),
        ("GET /guardrails/{id}/assignments/members", format!("{other}/assignments/members"), 0),
        ("GET /guardrails/assignments/keys", "/guardrails/assignments/keys".to_owned(), 1),
        ("GET /guardrails/assignments/members", "/guardrails/assignments/members".to_owned(), 1),
        ("GET /guardrails", "/guardrails".to_owned(), 2),
        ("GET /guardrails", "/guardrails?limit=500".to_owned(), 2),
    ] {
        assert_eq!(expect(m, operation, &path, None, 200).await["total_count"], count, "{path}");
    }
    let app = app.restart().await;
    let m = &app.manager;
    let after = app.manager.with_key(&secret);
    let current = expect(&after, "GET /key", "/key", None, 200).await;
    assert_eq!(current["data"]["budgets"][0]["spend_usd"], budget["spend_usd"], "what members spent is remembered");
    let remove = "POST /guardrails/{id}/assignments/keys/remove";
    let path = format!("{other}/assignments/keys/remove");
    assert_eq!(expect(m, remove, &path, Some(keys.clone()), 200).await["unassigned_count"], 1);
    assert_eq!(expect(m, remove, &path, Some(keys), 200).await["unassigned_count"], 0);
    let path = format!("/guardrails/{id}");
    expect(m, "DELETE /guardrails/{id}", &path, None, 200).await;
    expect(m, "DELETE /guardrails/{id}", &path, None, 404).await;
    let current = expect(&after, "GET /key", "/key", None, 200).await;
    assert_eq!((&current["data"]["budgets"], &current["data"]["effective_budget"]), (&json!([]), &Value::Null));
}

#[tokio::test]
async fn the_default_guardrail_of_a_workspace_holds_all_its_traffic() {
    let app = TestApp::start().await;
    let m = &app.manager;
    let workspace = expect(m, "GET /workspaces/{id}", "/workspaces/default", None, 200).await;
    let path = format!("/guardrails/{}", workspace["data"]["default_guardrail_id"].as_str().unwrap());
    expect(m, "GET /guardrails/{id}", &path, None, 404).await;
    let patch = "PATCH /guardrails/{id}";
    expect(m, patch, &path, Some(json!({"name": "mine"})), 400).await;
    let limit = json!({"limit_usd": 0.000_000_06, "reset_interval": "daily"});
    let made = expect(m, patch, &path, Some(limit), 200).await;
    let name = format!("Workspace {} Default", workspace["data"]["id"].as_str().unwrap());
    assert_eq!(made["data"]["name"], name);
    let ann = member(&app, "ann@example.org").await;
    let TestKey { client, .. } = key(&app, json!({"creator_user_id": ann})).await;
    let current = expect(&client, "GET /key", "/key", None, 200).await;
    let scopes: Vec<_> = current["data"]["budgets"].as_array().unwrap().iter().map(|b| b["scope"].clone()).collect();
    assert_eq!(scopes, ["workspace_default_member", "workspace_default_key"]);
    let refused = json_of(&call(&client, 100).await);
    assert_eq!(refused["error"]["metadata"]["scope"], "workspace_default_member");
}

#[tokio::test]
async fn credits_begin_with_what_was_spent_and_end_with_a_402() {
    let app = TestApp::start().await;
    let m = &app.manager;
    let TestKey { client, secret, .. } = key(&app, json!({})).await;
    assert_eq!(call(&client, 5).await.status, 200);
    let credits = expect(m, "GET /credits", "/credits", None, 200).await;
    assert_eq!((nanos(&credits["data"]["total_usage"]), &credits["data"]["unlimited"]), (60, &json!(true)));
    expect(&client, "GET /credits", "/credits", None, 403).await;
    expect(&m.with_key("sk-or-v1-x"), "GET /credits", "/credits", None, 401).await;
    for amount in [json!(0), json!(-1), json!(1e-10), json!("5"), json!(1e30)] {
        let body = Some(json!({"amount_usd": amount}));
        assert_eq!(ask(m, Method::POST, "/credits", body).await.status, 400, "{amount}");
    }
    let topped = ask(m, Method::POST, "/credits", Some(json!({"amount_usd": 0.000_000_5, "note": "first"}))).await;
    assert_eq!(topped.status, 201);
    let topped = json_of(&topped);
    assert_eq!((nanos(&topped["data"]["total_credits"]), &topped["data"]["unlimited"]), (560, &json!(false)));
    let beyond = ask(m, Method::POST, "/credits", Some(json!({"amount_usd": 9_223_372_036_u64}))).await;
    assert_eq!(beyond.status, 400, "all top-ups together must fit an amount, or the sum could never be read again");
    let app = app.restart().await;
    let client = app.manager.with_key(&secret);
    let dear = call(&client, 100).await;
    assert_eq!(dear.status, 402);
    assert!(message(&json_of(&dear)).ends_with("/settings/credits and add more credits"));
    let mut spent = 60;
    while spent < 560 {
        app.provider.script(Script::Answer { prompt: 0, completion: if spent == 60 { 50 } else { 1 } });
        let answer = call(&client, 1).await;
        if answer.status != 200 {
            break;
        }
        spent += if spent == 60 { 500 } else { 10 };
    }
    let refused = call(&client, 1).await;
    let body = json_of(&refused);
    assert_eq!(
        (refused.status.as_u16(), &body["error"]["metadata"]["limit_source"]),
        (402, &json!("openrouter_credits"))
    );
    assert!(message(&body).starts_with("Insufficient credits. Add more using "), "{body}");
    let key = expect(&client, "GET /key", "/key", None, 200).await;
    assert_eq!(key["data"]["budgets"], json!([]), "credits are no budget of the key");
    let more = ask(&app.manager, Method::POST, "/credits", Some(json!({"amount_usd": 1}))).await;
    assert_eq!(more.status, 201);
    assert_eq!(call(&client, 5).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_keys_leave_every_layer_within_its_limit() {
    let app = TestApp::start().await;
    let m = &app.manager;
    let ann = member(&app, "ann@example.org").await;
    let guardrail = json!({"name": "g", "limit_usd": 0.000_002_5, "reset_interval": "weekly"});
    let guardrail = expect(m, "POST /guardrails", "/guardrails", Some(guardrail), 201).await;
    let assign = format!("/guardrails/{}/assignments/members", guardrail["data"]["id"].as_str().unwrap());
    expect(m, "POST /guardrails/{id}/assignments/members", &assign, Some(json!({"member_user_ids": [ann]})), 200).await;
    let budget = Some(json!({"limit_usd": 0.000_006}));
    let put = "PUT /workspaces/{id}/budgets/{interval}";
    expect(m, put, "/workspaces/default/budgets/daily", budget, 200).await;
    let top_up = ask(m, Method::POST, "/credits", Some(json!({"amount_usd": 0.000_004_5}))).await;
    assert_eq!(top_up.status, 201);
    let hers = key(&app, json!({"creator_user_id": ann, "limit": 0.000_002, "limit_reset": "monthly"})).await.client;
    let also_hers = key(&app, json!({"creator_user_id": ann})).await.client;
    let free = key(&app, json!({"limit": 0.000_01})).await.client;
    let mut racers = JoinSet::new();
    for racer in 0..24 {
        let client = [&hers, &also_hers, &free][racer % 3].clone();
        racers.spawn(async move {
            let mut told = Vec::new();
            for _ in 0..12 {
                let answer = call(&client, 5).await;
                let body = json_of(&answer);
                match answer.status.as_u16() {
                    200 => {}
                    402 | 403 => told.push(body["error"]["metadata"]["scope"].as_str().unwrap().to_owned()),
                    other => panic!("{other}: {body}"),
                }
                let told_of = |name: &str| match &body["error"]["metadata"][name] {
                    Value::Null => 0,
                    amount => nanos(amount),
                };
                assert!(told_of("limit_usd") - told_of("spend_usd") - told_of("held_usd") >= 0, "{body}");
            }
            told
        });
    }
    let told: Vec<String> = racers.join_all().await.into_iter().flatten().collect();
    let spent = |body: &Value| nanos(&body["data"]["usage"]);
    let (one, two, three) = (
        spent(&expect(&hers, "GET /key", "/key", None, 200).await),
        spent(&expect(&also_hers, "GET /key", "/key", None, 200).await),
        spent(&expect(&free, "GET /key", "/key", None, 200).await),
    );
    assert!(one <= 2_000 && one + two <= 2_500 && one + two + three <= 4_500, "{one} {two} {three}");
    let credits = expect(m, "GET /credits", "/credits", None, 200).await;
    assert_eq!(nanos(&credits["data"]["total_usage"]), one + two + three);
    // Her guardrail is spent before her key's own limit; everybody meets the credits.
    assert!(told.iter().any(|scope| scope == "member") && told.iter().any(|scope| scope == "credits"), "{told:?}");
}

#[tokio::test]
async fn a_rotated_key_is_the_same_key_with_another_secret() {
    let app = TestApp::start().await;
    let m = &app.manager;
    let TestKey { hash, client: first, secret: first_secret } = key(&app, json!({"limit": 0.000_01})).await;
    assert_eq!(call(&first, 5).await.status, 200);
    let rotate = |grace: Value| {
        let path = format!("/keys/{hash}/rotate");
        async move { ask(m, Method::POST, &path, Some(json!({"grace_period_seconds": grace}))).await }
    };
    let rotated = rotate(json!(3_600)).await;
    assert_eq!(rotated.status, 200);
    let rotated = json_of(&rotated);
    assert_eq!((&rotated["data"]["hash"], nanos(&rotated["data"]["usage"])), (&json!(hash), 60));
    let secret = rotated["key"].as_str().unwrap();
    assert_eq!(rotated["data"]["label"].as_str().unwrap()[..12], secret[..12]);
    let second = m.with_key(secret);
    for client in [&first, &second] {
        assert_eq!(call(client, 5).await.status, 200, "both are live, on one budget");
    }
    let newest = KeyHash::of(secret).to_string();
    let found = expect(m, "GET /keys/{hash}", &format!("/keys/{newest}"), None, 200).await;
    assert_eq!((&found["data"]["hash"], nanos(&found["data"]["usage"])), (&json!(hash), 180));
    let app = app.restart().await;
    let m = &app.manager;
    let (first, second) = (m.with_key(&first_secret), m.with_key(secret));
    assert_eq!((call(&first, 5).await.status.as_u16(), call(&second, 5).await.status.as_u16()), (200, 200));
    app.clock.advance(std::time::Duration::from_hours(1));
    assert_eq!((call(&first, 5).await.status.as_u16(), call(&second, 5).await.status.as_u16()), (401, 200));
    let body = Some(json!({"grace_period_seconds": 60}));
    let third = json_of(&ask(m, Method::POST, &format!("/keys/{newest}/rotate"), body).await);
    let third = m.with_key(third["key"].as_str().unwrap());
    assert_eq!((call(&second, 5).await.status.as_u16(), call(&third, 5).await.status.as_u16()), (200, 200));
    let last = json_of(&ask(m, Method::POST, &format!("/keys/{hash}/rotate"), Some(json!({}))).await);
    let last = m.with_key(last["key"].as_str().unwrap());
    for (client, status) in [(&second, 401), (&third, 401), (&last, 200)] {
        assert_eq!(call(client, 5).await.status, status, "without grace the old one is refused at once");
    }
    for (body, status) in
        [(json!({"grace_period_seconds": 2_592_001}), 400), (json!({"grace_period_seconds": -1}), 400)]
    {
        assert_eq!(ask(m, Method::POST, &format!("/keys/{hash}/rotate"), Some(body)).await.status, status);
    }
    expect(m, "DELETE /keys/{hash}", &format!("/keys/{hash}"), None, 200).await;
    assert_eq!(call(&last, 5).await.status, 401);
    let gone = ask(m, Method::POST, &format!("/keys/{hash}/rotate"), Some(json!({}))).await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn many_keys_are_made_at_once_or_none() {
    let app = TestApp::start().await;
    let m = &app.manager;
    let bulk = |body: Value| async move { ask(m, Method::POST, "/keys/bulk", Some(body)).await };
    let made = bulk(json!({"keys": [{"name": "a", "limit": 1}, {"name": "b"}]})).await;
    assert_eq!(made.status, 201);
    let made = json_of(&made);
    let secret = made["data"][0]["key"].as_str().unwrap();
    assert_eq!(call(&m.with_key(secret), 5).await.status, 200);
    for (body, told) in [
        (json!({"keys": []}), "1 to 1000"),
        (json!({"keys": [{"name": "c"}, {"name": ""}]}), "keys[1]: `name`"),
        (json!({"keys": [{"name": "c"}, {"name": "d", "limit": -1}]}), "keys[1]: `limit`"),
        (json!({"keys": [{"name": "c", "workspace_id": uuid_of_nobody()}]}), "keys[0]: Workspace not found"),
        (json!({"keys": vec![json!({"name": "x"}); 1_001]}), "1 to 1000"),
        (json!([]), "Invalid request parameters"),
    ] {
        let refused = bulk(body).await;
        assert_eq!(refused.status, 400);
        let refused = json_of(&refused);
        assert!(message(&refused).contains(told), "{refused}");
    }
    let listed = expect(m, "GET /keys", "/keys", None, 200).await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
}

fn uuid_of_nobody() -> &'static str {
    "00000000-0000-4000-8000-000000000000"
}
