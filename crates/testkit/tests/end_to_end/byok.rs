//! Workspaces' own provider credentials: who may use which, in what order, at whose expense, and what is left of them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use testkit::{MODEL, Provider, Script, TestApp, TestKey, nanos};
use tokio::task::JoinSet;
use tollgate_client::RawAnswer;
use tollgate_gateway::Limits;
use tollgate_wire::ByokKey;

use crate::contract::{Published, ask, json_of};

/// A secret of a provider, told from others by its name.
fn secret(name: &str) -> String {
    format!("sk-upstream-{name}-0123456789")
}

/// Stores a credential for the provider of every server under test, unless `extra` says otherwise.
async fn own(app: &TestApp, name: &str, extra: Value) -> ByokKey {
    let mut body = json!({"provider": "scripted", "key": secret(name), "name": name});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    app.manager.create_byok_key(&serde_json::from_value(body).unwrap()).await.unwrap()
}

async fn change(app: &TestApp, credential: &ByokKey, body: Value) -> ByokKey {
    app.manager.update_byok_key(&credential.id, &serde_json::from_value(body).unwrap()).await.unwrap()
}

/// The credentials that one call was tried under, by name; `shared` is the account's own.
async fn tried(app: &TestApp, key: &TestKey, extra: Value) -> (RawAnswer, Vec<String>) {
    app.provider.take_bearers();
    let answer = key.chat(5, extra).await;
    let name = |bearer: String| {
        if bearer.is_empty() { "shared".to_owned() } else { bearer.split('-').nth(2).unwrap().to_owned() }
    };
    (answer, app.provider.take_bearers().into_iter().map(name).collect())
}

async fn with_fee(percent: &str) -> TestApp {
    TestApp::with(|config| percent.clone_into(&mut config.byok.fee_percent), Limits::default()).await
}

async fn generation(key: &TestKey, answer: &RawAnswer) -> Value {
    let id = answer.headers["x-generation-id"].to_str().unwrap();
    json_of(&ask(&key.client, Method::GET, &format!("/generation?id={id}"), None).await)["data"].clone()
}

#[tokio::test]
async fn own_credentials_come_first_in_order_and_fallbacks_after_the_shared_capacity() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    let first = own(&app, "a", json!({})).await;
    own(&app, "f", json!({"is_fallback": true})).await;
    own(&app, "b", json!({})).await;
    let (answer, order) = tried(&app, &key, json!({})).await;
    assert_eq!((answer.status.as_u16(), order.as_slice()), (200, &["a".to_owned()][..]));

    app.provider.script_for(&secret("a"), Script::Status(401, "{\"error\":\"bad key sk-upstream-a\"}"));
    app.provider.script_for(&secret("b"), Script::Status(429, "{}"));
    app.provider.script(Script::Status(503, "{}"));
    app.provider.script_for(&secret("f"), Script::Answer { prompt: 10, completion: 5 });
    let (answer, order) = tried(&app, &key, json!({})).await;
    assert_eq!(order, ["a", "b", "shared", "f"]);
    let body = json_of(&answer);
    assert_eq!((&body["usage"]["cost"], &body["usage"]["is_byok"]), (&json!(0), &json!(true)), "{body}");
    assert_eq!(nanos(&body["usage"]["cost_details"]["upstream_inference_cost"]), 60);
    let shown = generation(&key, &answer).await;
    let responses: Vec<_> = shown["provider_responses"].as_array().unwrap().iter().collect();
    let told: Vec<_> = responses.iter().map(|it| (it["is_byok"].as_bool().unwrap(), it["status"].as_u64())).collect();
    assert_eq!(told, [(true, Some(401)), (true, Some(429)), (false, Some(503)), (true, Some(200))]);
    assert_eq!((&shown["is_byok"], &shown["total_cost"], &shown["overrun"]), (&json!(true), &json!(0), &json!(0)));
    assert_eq!(nanos(&shown["upstream_inference_cost"]), 60);
    let current = key.client.current_key().await.unwrap();
    assert_eq!((current.usage.0.nanos(), current.byok_usage.0.nanos()), (0, 120));
    assert_eq!(current.limit_held.unwrap().0.nanos(), 0);

    // All fail: the last failure is told, and whose credential it was.
    app.provider.script_for(&secret("f"), Script::Status(403, "the secret of f"));
    let (answer, order) = tried(&app, &key, json!({})).await;
    let body = json_of(&answer);
    assert_eq!((answer.status.as_u16(), order.len()), (502, 4), "{body}");
    assert_eq!((&body["error"]["metadata"]["is_byok"], &body["error"]["metadata"]["raw"]), (&json!(true), &json!("")));
    assert_eq!(key.client.current_key().await.unwrap().byok_usage.0.nanos(), 120, "nothing was charged");

    change(&app, &first, json!({"sort_order": 9})).await;
    let (_, order) = tried(&app, &key, json!({})).await;
    assert_eq!(order, ["b", "a", "shared", "f"]);
    // The caller's own order is of what comes behind.
    let (_, order) = tried(&app, &key, json!({"provider": {"order": ["scripted"]}})).await;
    assert_eq!(order[0], "b");
    assert_eq!(tried(&app, &key, json!({"provider": {"ignore": ["scripted"]}})).await.1, [""; 0]);
}

#[tokio::test]
async fn a_stream_under_an_own_credential_tells_its_list_price_and_its_fee() {
    let app = with_fee("5").await;
    let key = app.key().limit("1").create().await;
    own(&app, "a", json!({})).await;
    let answer = key.chat(5, json!({"stream": true})).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let usage = events.map(|event| event["usage"].clone()).find(Value::is_object).unwrap();
    assert_eq!((nanos(&usage["cost"]), &usage["is_byok"]), (3, &json!(true)));
    assert_eq!(nanos(&usage["cost_details"]["upstream_inference_cost"]), 60);
    let shown = generation(&key, &answer).await;
    assert_eq!((nanos(&shown["total_cost"]), nanos(&shown["usage"])), (3, 3));
    let current = key.client.current_key().await.unwrap();
    assert_eq!((current.usage.0.nanos(), current.byok_usage.0.nanos()), (3, 60));
    assert_eq!(
        current.limit_remaining.unwrap().0.nanos(),
        1_000_000_000 - 3,
        "the list price is no concern of the limit"
    );
    let activity = app.manager.activity(false).await.unwrap();
    assert_eq!((activity[0].usage.0.nanos(), activity[0].byok_usage_inference.0.nanos()), (3, 60));
}

#[tokio::test]
async fn required_and_byok_only_take_the_shared_capacity_away() {
    let app = TestApp::start().await;
    let key = app.key().create().await;
    app.provider.script_for(&secret("a"), Script::Status(429, "{}"));
    let credential = own(&app, "a", json!({"is_byok_only": true, "allowed_models": ["test/cent"]})).await;
    let (answer, order) = tried(&app, &key, json!({})).await;
    assert_eq!((answer.status.as_u16(), order.len()), (404, 0), "no model at the provider runs on shared capacity");
    let (answer, order) = tried(&app, &key, json!({"model": "test/cent"})).await;
    assert_eq!((answer.status.as_u16(), order.as_slice()), (429, &["a".to_owned()][..]));
    let told = json_of(&answer)["error"]["metadata"].clone();
    assert_eq!((&told["is_byok"], &told["limit_source"]), (&json!(true), &Value::Null));
    change(&app, &credential, json!({"is_byok_only": false, "is_required": true})).await;
    assert_eq!(tried(&app, &key, json!({})).await.1, ["shared"], "required is about its own models");
    assert_eq!(tried(&app, &key, json!({"model": "test/cent"})).await.1, ["a"]);
    change(&app, &credential, json!({"disabled": true})).await;
    assert_eq!(tried(&app, &key, json!({"model": "test/cent"})).await.1, ["shared"]);
}

#[tokio::test]
async fn a_credential_is_for_the_models_keys_members_and_workspace_that_it_names() {
    let app = TestApp::start().await;
    let post = async |path: &str, body: Value| json_of(&ask(&app.manager, Method::POST, path, Some(body)).await);
    let member = post("/organization/members", json!({"email": "ann@example.org"})).await;
    let ann = member["data"]["id"].as_str().unwrap();
    let create = async |body: Value| {
        let made = app.manager.create_key(&serde_json::from_value(body).unwrap()).await.unwrap();
        TestKey { hash: made.data.hash, client: app.manager.with_key(&made.key), secret: made.key }
    };
    let (hers, other) =
        (create(json!({"name": "a", "creator_user_id": ann})).await, create(json!({"name": "b"})).await);
    let away = post("/workspaces", json!({"name": "away", "slug": "away"})).await["data"]["id"].clone();
    let far = create(json!({"name": "far", "workspace_id": away})).await;
    let seen = async |extra: Value| {
        let mut seen = Vec::new();
        for key in [&hers, &other, &far] {
            seen.push(tried(&app, key, extra.clone()).await.1.remove(0));
        }
        seen
    };
    let credential = own(&app, "a", json!({"allowed_user_ids": [ann]})).await;
    assert_eq!(seen(json!({})).await, ["a", "shared", "shared"]);
    let keys =
        change(&app, &credential, json!({"allowed_user_ids": null, "allowed_api_key_hashes": [other.hash]})).await;
    assert_eq!((keys.allowed_user_ids, keys.allowed_api_key_hashes), (None, Some(vec![other.hash.clone()])));
    assert_eq!(seen(json!({})).await, ["shared", "a", "shared"]);
    change(&app, &credential, json!({"allowed_api_key_hashes": null, "allowed_models": [MODEL]})).await;
    assert_eq!(seen(json!({})).await, ["a", "a", "shared"]);
    assert_eq!(seen(json!({"model": "test/cent"})).await, ["shared"; 3]);
    own(&app, "everywhere", json!({"workspace_id": null})).await;
    assert_eq!(seen(json!({})).await, ["a", "a", "everywhere"]);
    let listed = async |query: &str| {
        let list = json_of(&ask(&app.manager, Method::GET, &format!("/byok{query}"), None).await);
        let data: Vec<_> = list["data"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
        (data, list["total_count"].as_u64().unwrap())
    };
    assert_eq!(listed("").await, (vec![json!("a"), json!("everywhere")], 2));
    assert_eq!(listed("?offset=1&limit=1").await, (vec![json!("everywhere")], 2));
    assert_eq!(listed("?provider=elsewhere").await, (Vec::new(), 0));
    let id = away.as_str().unwrap();
    assert_eq!(listed(&format!("?workspace_id={id}")).await, (vec![json!("everywhere")], 1));
    // The member's key keeps what is for it alone, after everything it was for is gone.
    let gone = own(&app, "gone", json!({"workspace_id": id})).await;
    app.manager.delete_key(&far.hash).await.unwrap();
    assert_eq!(ask(&app.manager, Method::DELETE, "/workspaces/away", None).await.status, 200);
    assert_eq!(ask(&app.manager, Method::GET, &format!("/byok/{}", gone.id), None).await.status, 404);
}

/// Whether bytes are anywhere in the files of a database.
fn on_disk(app: &TestApp, needle: &[u8]) -> bool {
    ["", "-wal", "-journal"].into_iter().any(|suffix| {
        let mut file = app.database.clone().into_os_string();
        file.push(suffix);
        let bytes = std::fs::read(file).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}

/// The sealed secrets that the database holds.
fn sealed(app: &TestApp) -> Vec<Option<Vec<u8>>> {
    let db = rusqlite::Connection::open(&app.database).unwrap();
    let mut statement = db.prepare("SELECT sealed FROM credentials ORDER BY id").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_secret_is_rotated_in_place_survives_a_restart_and_leaves_nothing_when_it_is_deleted() {
    let app = TestApp::start().await;
    let key = app.key().create().await;
    let credential = own(&app, "old", json!({})).await;
    assert_eq!(credential.label, "sk-...6789");
    assert_eq!(tried(&app, &key, json!({})).await.1, ["old"]);
    let label = "sk-upstream-new-0123456789zzzz";
    let rotated = change(&app, &credential, json!({"key": label})).await;
    assert_eq!((rotated.id.as_str(), rotated.label.as_str()), (credential.id.as_str(), "sk-...zzzz"));
    assert_eq!(tried(&app, &key, json!({})).await.1, ["new"], "from the next call on");
    let (secret_of_key, shown) = (key.secret.clone(), ask(&app.manager, Method::GET, "/byok", None).await);
    assert!(!String::from_utf8_lossy(&shown.body).contains("0123456789"), "a secret is never shown");

    let mut app = app.restart().await;
    let key = TestKey { hash: key.hash, client: app.manager.with_key(&secret_of_key), secret: secret_of_key };
    assert_eq!(tried(&app, &key, json!({})).await.1, ["new"]);
    app.shut_down().await;
    for text in [secret("old"), label.to_owned(), "sk-upstream".to_owned()] {
        assert!(!on_disk(&app, text.as_bytes()), "{text} is on disk");
    }
    let kept = sealed(&app)[0].clone().unwrap();
    assert!(on_disk(&app, &kept));
    let mut app = app.start_again().await;
    app.manager.delete_byok_key(&credential.id).await.unwrap();
    let key = TestKey { client: app.manager.with_key(&key.secret), ..key };
    assert_eq!(tried(&app, &key, json!({})).await.1, ["shared"]);
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        let body = (method == Method::PATCH).then(|| json!({"disabled": true}));
        assert_eq!(ask(&app.manager, method, &format!("/byok/{}", credential.id), body).await.status, 404);
    }
    app.shut_down().await;
    assert_eq!(sealed(&app), [None]);
    assert!(!on_disk(&app, &kept), "what was sealed is gone as well");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_nothing_is_stored() {
    let app = TestApp::start().await;
    let key = app.key().create().await;
    let stranger = "0".repeat(64);
    for (extra, told) in [
        (json!({"provider": "openai"}), "scripted"),
        (json!({"key": ""}), "`key`"),
        (json!({"key": "two\nlines"}), "`key`"),
        (json!({"key": "schlüssel"}), "`key`"),
        (json!({"name": "n".repeat(256)}), "`name`"),
        (json!({"allowed_models": []}), "`allowed_models`"),
        (json!({"allowed_models": vec!["m"; 101]}), "`allowed_models`"),
        (json!({"allowed_user_ids": []}), "`allowed_user_ids`"),
        (json!({"allowed_user_ids": ["user_x"]}), "user_x"),
        (json!({"allowed_api_key_hashes": []}), "`allowed_api_key_hashes`"),
        (json!({"allowed_api_key_hashes": ["x"]}), "hash x"),
        (json!({"allowed_api_key_hashes": [key.hash, stranger]}), &stranger),
        (json!({"is_fallback": true, "is_byok_only": true}), "`is_fallback`"),
        (json!({"is_fallback": true, "is_required": true}), "`is_fallback`"),
        (json!({"workspace_id": "x"}), "`workspace_id`"),
        (json!({"workspace_id": "00000000-0000-4000-8000-000000000000"}), "Workspace"),
        (json!({"declared_region": "moon"}), "`declared_region`"),
        (json!({"sort_order": -1}), "`-1`"),
    ] {
        let mut body = json!({"provider": "scripted", "key": secret("a")});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let refused = ask(&app.manager, Method::POST, "/byok", Some(body)).await;
        let text = String::from_utf8_lossy(&refused.body).into_owned();
        assert!(refused.status == 400 && text.contains(told), "{extra}: {text}");
        assert!(!text.contains("sk-upstream"), "{text}");
    }
    assert_eq!(app.manager.byok_keys().await.unwrap().len(), 0);
    let credential = own(&app, "a", json!({"is_required": true})).await;
    let path = format!("/byok/{}", credential.id);
    for body in [json!({}), json!({"is_fallback": true}), json!({"allowed_models": []}), json!({"key": ""})] {
        assert_eq!(ask(&app.manager, Method::PATCH, &path, Some(body)).await.status, 400);
    }
    assert_eq!(ask(&app.manager, Method::GET, "/byok?workspace_id=x", None).await.status, 400);
    assert_eq!(ask(&app.manager, Method::GET, "/byok/x", None).await.status, 404);
}

#[tokio::test]
async fn every_answer_fits_the_published_schema() {
    let published = Published::load();
    let rename = |config: &mut tollgate::config::Config| {
        // The published list of slugs is closed.
        for slug in config
            .providers
            .iter_mut()
            .map(|it| &mut it.slug)
            .chain(config.models.iter_mut().map(|it| &mut it.provider))
        {
            "openai".clone_into(slug);
        }
        config.providers[0].zero_data_retention = Some(true);
    };
    let app = TestApp::with(rename, Limits::default()).await;
    let body = json!({"provider": "openai", "key": secret("a"), "name": null, "declared_region": "europe"});
    let created = ask(&app.manager, Method::POST, "/byok", Some(body)).await;
    let (path, shown) = (format!("/byok/{}", json_of(&created)["data"]["id"].as_str().unwrap()), json_of(&created));
    assert_eq!((&shown["data"]["declared_region"], &shown["data"]["declared_zdr"]), (&json!("europe"), &json!(true)));
    let stranger = app.manager.with_key("sk-or-v1-stranger");
    for (operation, status, answer) in [
        ("POST /byok", "201", created),
        ("POST /byok", "400", ask(&app.manager, Method::POST, "/byok", Some(json!({"provider": "x"}))).await),
        ("GET /byok", "200", ask(&app.manager, Method::GET, "/byok", None).await),
        ("GET /byok", "401", ask(&stranger, Method::GET, "/byok", None).await),
        ("GET /byok/{id}", "200", ask(&app.manager, Method::GET, &path, None).await),
        ("PATCH /byok/{id}", "200", ask(&app.manager, Method::PATCH, &path, Some(json!({"disabled": true}))).await),
        ("PATCH /byok/{id}", "400", ask(&app.manager, Method::PATCH, &path, Some(json!({}))).await),
        ("DELETE /byok/{id}", "200", ask(&app.manager, Method::DELETE, &path, None).await),
        ("DELETE /byok/{id}", "404", ask(&app.manager, Method::DELETE, &path, None).await),
    ] {
        assert_eq!(answer.status.as_str(), status, "{operation}: {:?}", answer.body);
        published.check(operation, status, &json_of(&answer));
    }
    let log = json_of(&ask(&app.manager, Method::GET, "/audit?action=credential", None).await);
    let actions: Vec<_> = log["data"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions, ["credential.delete", "credential.update", "credential.create"]);
    assert!(!log.to_string().contains("sk-upstream"), "{log}");
}

#[tokio::test]
async fn a_spent_key_goes_on_where_somebody_else_pays() {
    let app = TestApp::start().await;
    let key = app.key().limit("0").create().await;
    assert_eq!(tried(&app, &key, json!({})).await.0.status, 403);
    own(&app, "f", json!({"is_fallback": true})).await;
    let (answer, order) = tried(&app, &key, json!({})).await;
    assert_eq!((answer.status.as_u16(), order.as_slice()), (200, &["f".to_owned()][..]));
    let include = serde_json::from_value(json!({"include_byok_in_limit": true})).unwrap();
    app.manager.update_key(&key.hash, &include).await.unwrap();
    let (answer, order) = tried(&app, &key, json!({})).await;
    assert_eq!((answer.status.as_u16(), order.len()), (403, 0), "now it counts");
}

#[tokio::test]
async fn a_call_moves_to_shared_capacity_with_the_cap_that_fits_there() {
    let app = TestApp::start().await;
    // Room for some hundred tokens of the thousand that the model could do.
    let key = app.key().limit_nanos(4_000).create().await;
    own(&app, "a", json!({})).await;
    app.provider.script_for(&secret("a"), Script::Status(429, "{}"));
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]});
    let answer = key.client.chat(body.to_string().into_bytes()).await.unwrap();
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let caps: Vec<_> = app.provider.bodies().iter().map(|body| body["max_completion_tokens"].clone()).collect();
    assert_eq!(caps, [json!(1_000), json!(256)]);
    assert_eq!(key.usage_nanos().await, 60);
}

#[tokio::test]
async fn what_the_price_list_cannot_bound_stays_where_somebody_else_pays() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    let tier = json!({"service_tier": "priority"});
    assert_eq!(key.chat(5, tier.clone()).await.status, 400, "a limit applies");
    own(&app, "a", json!({})).await;
    assert_eq!(tried(&app, &key, tier.clone()).await.1, ["a"]);
    app.provider.script_for(&secret("a"), Script::Status(429, "{}"));
    let (answer, order) = tried(&app, &key, tier.clone()).await;
    assert_eq!((answer.status.as_u16(), order.as_slice()), (429, &["a".to_owned()][..]));
    let unlimited = app.key().create().await;
    assert_eq!(tried(&app, &unlimited, tier).await.1, ["a", "shared"]);
}

/// Clients that race for a limit under an own credential: what counts there is never over, and nobody is refused who fits.
async fn race(include: bool, per_call: i64, calls: i64) {
    let app = with_fee("5").await;
    own(&app, "a", json!({})).await;
    let key = app.key().limit_nanos(0).create().await;
    // The bound of a call is read off a refusal of its own: what it would hold.
    let probe = app.key().limit("1").create().await;
    app.provider.script(Script::Hold { prompt: 10, completion: 5 });
    let set = async |key: &TestKey, change: Value| {
        app.manager.update_key(&key.hash, &serde_json::from_value(change).unwrap()).await.unwrap();
    };
    set(&probe, json!({"include_byok_in_limit": include})).await;
    let arrived = app.provider.calls() + 1;
    let (_, bound) = tokio::join!(probe.chat(5, json!({})), async {
        app.provider.arrived(arrived).await;
        let held = probe.client.current_key().await.unwrap().limit_held.unwrap().0.nanos();
        app.provider.release();
        held
    });
    app.provider.script(Script::Answer { prompt: 10, completion: 5 });
    let limit = (calls - 1) * per_call + bound;
    let dollars = format!("0.{limit:09}");
    set(&key, json!({"include_byok_in_limit": include, "limit": dollars.parse::<f64>().unwrap()})).await;
    let key = Arc::new(key);
    let mut clients = JoinSet::new();
    for _ in 0..64 {
        let key = Arc::clone(&key);
        clients.spawn(async move {
            let mut granted = 0_i64;
            for _ in 0..6 {
                let status = key.chat(5, json!({})).await.status.as_u16();
                assert!(matches!(status, 200 | 402 | 403), "{status}");
                granted += i64::from(status == 200);
            }
            granted
        });
    }
    let mut granted: i64 = clients.join_all().await.into_iter().sum();
    while key.chat(5, json!({})).await.status == 200 {
        granted += 1;
    }
    let current = key.client.current_key().await.unwrap();
    assert_eq!((current.usage.0.nanos(), current.byok_usage.0.nanos()), (granted * 3, granted * 60));
    assert_eq!(granted, calls, "all that fits and not more");
    assert_eq!(current.limit_remaining.unwrap().0.nanos(), limit - granted * per_call);
    assert_eq!(current.limit_held.unwrap().0.nanos(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_price_counts_in_a_limit_that_includes_it() {
    race(true, 63, 80).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_fee_counts_in_a_limit_that_does_not_include_it() {
    race(false, 3, 80).await;
}

#[tokio::test]
async fn data_goes_only_to_providers_that_declare_what_a_guardrail_asks_for() {
    let second = Provider::start().await;
    let declare = |config: &mut tollgate::config::Config| {
        let mut other = config.providers[0].clone();
        other.slug = "declared".to_owned();
        other.base_url = Some(format!("http://{}/v1", second.address));
        other.region = Some(tollgate::config::RegionConfig::Europe);
        other.zero_data_retention = Some(true);
        config.providers.push(other);
        let mut model = config.models[0].clone();
        model.provider = "declared".to_owned();
        config.models.push(model);
    };
    let app = TestApp::with(declare, Limits::default()).await;
    let key = app.key().create().await;
    let post = async |path: &str, body: Value| json_of(&ask(&app.manager, Method::POST, path, Some(body)).await);
    let guardrail = post("/guardrails", json!({"name": "g", "enforce_zdr": true})).await["data"]["id"].clone();
    let path = format!("/guardrails/{}", guardrail.as_str().unwrap());
    let answered_by = async || {
        let answer = key.chat(5, json!({})).await;
        if answer.status == 200 { json_of(&answer)["provider"].clone() } else { json!(answer.status.as_u16()) }
    };
    assert_eq!(answered_by().await, "scripted");
    post(&format!("{path}/assignments/keys"), json!({"key_hashes": [key.hash]})).await;
    assert_eq!(answered_by().await, "declared");
    for (rules, whose) in [
        (json!({"enforce_zdr": false, "allowed_data_regions": ["europe", "global"]}), json!("declared")),
        (json!({"allowed_data_regions": ["us"]}), json!(404)),
        (json!({"allowed_data_regions": null, "enforce_zdr_google": true}), json!("scripted")),
        (json!({"enforce_zdr_other": true}), json!("declared")),
    ] {
        assert_eq!(ask(&app.manager, Method::PATCH, &path, Some(rules.clone())).await.status, 200);
        assert_eq!(answered_by().await, whose, "{rules}");
        let models = json_of(&ask(&key.client, Method::GET, "/models/user", None).await);
        let listed = models["data"].as_array().unwrap().iter().any(|model| model["id"] == MODEL);
        assert_eq!(listed, whose != 404, "{rules}");
    }
    // What the owner of a credential declares of the account behind it counts for that credential.
    let credential = own(&app, "a", json!({"declared_zdr": true})).await;
    assert_eq!(tried(&app, &key, json!({})).await.1, ["a"]);
    change(&app, &credential, json!({"declared_zdr": false})).await;
    assert_eq!(answered_by().await, "declared");
}
