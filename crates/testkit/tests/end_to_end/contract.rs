//! What is answered, against the published schema and against what was answered before.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use http::Method;
use insta::{Settings, assert_json_snapshot};
use serde_json::{Map, Value, json};
use testkit::{MODEL, Script, TestApp, TestKey};
use tollgate_client::{Client, RawAnswer};

/// The published schemas, cut to the operations that are served.
pub struct Published(Value);

impl Published {
    pub fn load() -> Self {
        Self(serde_json::from_str(include_str!("../../data/openapi/schemas.json")).unwrap())
    }

    /// Checks an answer against the schema of its operation and status.
    pub fn check(&self, operation: &str, case: &str, answer: &Value) {
        let mut schema = self.0["operations"][operation][case].as_object().cloned().unwrap_or_else(Map::new);
        assert!(!schema.is_empty(), "{operation} {case} is not in the published schema");
        schema.insert("$defs".to_owned(), self.0["$defs"].clone());
        let validator = jsonschema::validator_for(&Value::Object(schema)).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(answer).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{operation} {case}: {errors:#?}\n{answer:#}");
    }
}

fn json_of(answer: &RawAnswer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

async fn ask(client: &Client, method: Method, path: &str, body: Option<Value>) -> RawAnswer {
    client.raw(method, &format!("/api/v1{path}"), body.map(|body| body.to_string().into_bytes())).await.unwrap()
}

fn call(max_tokens: u64, stream: bool) -> Value {
    json!({"model": MODEL, "max_tokens": max_tokens, "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
}

#[tokio::test]
async fn every_answer_fits_the_published_schema() {
    let published = Published::load();
    let app = TestApp::start().await;
    let (manager, stranger) = (&app.manager, app.manager.with_key("sk-or-v1-stranger"));
    let create = json!({"name": "ci", "limit": 0.5, "limit_reset": "monthly", "expires_at": "2027-01-01T00:00:00Z"});
    let created = json_of(&ask(manager, Method::POST, "/keys", Some(create)).await);
    published.check("POST /keys", "201", &created);
    let hash = created["data"]["hash"].as_str().unwrap();
    let client = manager.with_key(created["key"].as_str().unwrap());
    let key = TestKey { hash: hash.to_owned(), secret: created["key"].as_str().unwrap().to_owned(), client };

    let answer = ask(&key.client, Method::POST, "/chat/completions", Some(call(50, false))).await;
    published.check("POST /chat/completions", "200", &json_of(&answer));
    let stream = ask(&key.client, Method::POST, "/chat/completions", Some(call(50, true))).await;
    let transcript = String::from_utf8(stream.body.to_vec()).unwrap();
    for data in transcript.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]") {
        published.check("POST /chat/completions", "200 chunk", &serde_json::from_str(data).unwrap());
    }
    app.provider.script(Script::ErrorInStream);
    let broken = ask(&key.client, Method::POST, "/chat/completions", Some(call(50, true))).await;
    for data in String::from_utf8(broken.body.to_vec()).unwrap().lines().filter_map(|line| line.strip_prefix("data: "))
    {
        if data != "[DONE]" {
            published.check("POST /chat/completions", "200 chunk", &serde_json::from_str(data).unwrap());
        }
    }
    app.provider.script(Script::Status(500, "{}"));
    let failed = ask(&key.client, Method::POST, "/chat/completions", Some(call(50, false))).await;
    published.check("POST /chat/completions", "502", &json_of(&failed));
    let unpriced = json!({"model": "test/unpriced", "messages": [{"role": "user", "content": "hi"}]});
    let spent = app.key().limit("0").create().await;
    for (client, body, case) in [
        (&key.client, json!({}), "400"),
        (&stranger, call(1, false), "401"),
        (&key.client, call(2_000_000_000, false), "402"),
        (&spent.client, call(1, false), "403"),
        (&key.client, unpriced, "404"),
    ] {
        let refused = ask(client, Method::POST, "/chat/completions", Some(body)).await;
        assert_eq!(refused.status.as_str(), case);
        published.check("POST /chat/completions", case, &json_of(&refused));
    }
    app.provider.script(Script::Status(503, "{}"));
    let down = ask(&key.client, Method::POST, "/chat/completions", Some(call(1, false))).await;
    published.check("POST /chat/completions", "503", &json_of(&down));

    let id = answer.headers["x-generation-id"].to_str().unwrap();
    let mut generation = json_of(&ask(&key.client, Method::GET, &format!("/generation?id={id}"), None).await);
    // The published list of provider names is closed; clients accept any, and ours is the operator's own.
    for response in generation["data"]["provider_responses"].as_array_mut().unwrap() {
        response.as_object_mut().unwrap().remove("provider_name");
    }
    published.check("GET /generation", "200", &generation);
    let missing = ask(&key.client, Method::GET, "/generation?id=gen-1-AAAAAAAAAAAAAAAAAAAA", None).await;
    published.check("GET /generation", "404", &json_of(&missing));

    let path = format!("/keys/{hash}");
    let cases = [
        ("GET /key", "200", ask(&key.client, Method::GET, "/key", None).await),
        ("GET /key", "200", ask(manager, Method::GET, "/key", None).await),
        ("GET /key", "200", ask(&key.client, Method::GET, "/auth/key", None).await),
        ("GET /key", "401", ask(&stranger, Method::GET, "/key", None).await),
        ("GET /keys", "200", ask(manager, Method::GET, "/keys", None).await),
        ("GET /keys", "400", ask(manager, Method::GET, "/keys?offset=-1", None).await),
        ("GET /keys", "401", ask(&stranger, Method::GET, "/keys", None).await),
        ("POST /keys", "400", ask(manager, Method::POST, "/keys", Some(json!({"name": ""}))).await),
        ("GET /keys/{hash}", "200", ask(manager, Method::GET, &path, None).await),
        ("PATCH /keys/{hash}", "200", ask(manager, Method::PATCH, &path, Some(json!({"limit": null}))).await),
        ("PATCH /keys/{hash}", "400", ask(manager, Method::PATCH, &path, Some(json!({}))).await),
        ("GET /models", "200", ask(&stranger, Method::GET, "/models", None).await),
        ("GET /models/count", "200", ask(&stranger, Method::GET, "/models/count", None).await),
        ("DELETE /keys/{hash}", "200", ask(manager, Method::DELETE, &path, None).await),
        ("DELETE /keys/{hash}", "404", ask(manager, Method::DELETE, &path, None).await),
        ("GET /keys/{hash}", "404", ask(manager, Method::GET, &path, None).await),
    ];
    for (operation, status, answer) in cases {
        assert_eq!(answer.status.as_str(), status, "{operation}: {:?}", answer.body);
        published.check(operation, status, &json_of(&answer));
    }
}

#[tokio::test]
async fn answers_look_as_they_did() {
    let app = TestApp::start().await;
    let key = app.key().limit("0.5").reset("monthly").create().await;
    key.chat(50, json!({})).await;
    let mut settings = Settings::clone_current();
    settings.add_redaction(
        ".data.hash",
        insta::dynamic_redaction(|value, _| {
            assert_eq!(value.as_str().map(str::len), Some(64));
            "[hash]"
        }),
    );
    settings.add_redaction(
        ".data.label",
        insta::dynamic_redaction(|value, _| {
            assert!(value.as_str().is_some_and(|label| label.starts_with("sk-or-v1-") && label.len() == 18));
            "[label]"
        }),
    );
    settings.add_redaction(".data.workspace_id", "[uuid]");
    let _bound = settings.bind_to_scope();
    assert_json_snapshot!("key", json_of(&ask(&app.manager, Method::GET, &format!("/keys/{}", key.hash), None).await));
    assert_json_snapshot!("current_key", json_of(&ask(&key.client, Method::GET, "/key", None).await));
    let refused = json_of(&key.chat(2_000_000_000, json!({})).await);
    assert_json_snapshot!("unaffordable", refused, {
        ".error.message" => insta::dynamic_redaction({
            let url = app.url();
            move |value, _| value.as_str().unwrap_or_default().replace(&url, "[server]")
        }),
    });
    let stream = key.chat(50, json!({"stream": true})).await;
    let transcript = String::from_utf8(stream.body.to_vec()).unwrap();
    let id = stream.headers["x-generation-id"].to_str().unwrap();
    insta::assert_snapshot!("stream", transcript.replace(id, "[generation]"));
}
