//! Models, their endpoints and providers: what is shown, what is asked for, and the published schema.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use http::Method;
use serde_json::{Value, json};
use testkit::{MANAGEMENT_KEY, MODEL, TestApp};
use tollgate::config::Config;
use tollgate_gateway::Limits;

use crate::contract::Published;

/// Names from the published list of providers, which is closed: what is answered fits without changing it.
const FIRST: &str = "FakeProvider";
const SECOND: &str = "OpenAI";

/// A server with two providers and, besides the models of every server under test: one with images that both providers
/// serve, a free variant, and one whose id has no author.
async fn server() -> TestApp {
    let models = format!(
        "[[providers]]\nslug = \"{SECOND}\"\nkind = \"simulated\"\n\
         [[models]]\nid = \"acme/vision\"\nname = \"Acme: Vision\"\nprovider = \"{SECOND}\"\ncontext_length = 128000\n\
         max_output_tokens = 4000\nmax_image_tokens = 1500\n\
         pricing = {{ prompt = \"0.0000025\", completion = \"0.00001\", input_cache_read = \"0.00000125\" }}\n\
         [[models]]\nid = \"acme/vision\"\nprovider = \"{FIRST}\"\ncontext_length = 64000\n\
         pricing = {{ prompt = \"0.000003\", completion = \"0.000012\" }}\n\
         [[models]]\nid = \"acme/small:free\"\nprovider = \"{FIRST}\"\ncontext_length = 8000\n\
         pricing = {{ prompt = \"0\", completion = \"0\" }}\n\
         [[models]]\nid = \"local\"\nprovider = \"{FIRST}\"\ncontext_length = 4000\n\
         pricing = {{ prompt = \"0.0000001\", completion = \"0.0000001\" }}\n"
    );
    let added: Config = toml_config(&models);
    let change = move |config: &mut Config| {
        FIRST.clone_into(&mut config.providers[0].slug);
        for model in &mut config.models {
            FIRST.clone_into(&mut model.provider);
        }
        config.providers.extend(added.providers);
        config.models.extend(added.models);
    };
    TestApp::with(change, Limits::default()).await
}

fn toml_config(text: &str) -> Config {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::load(Some(file.path()), std::iter::empty()).map_err(|failure| failure.fact).unwrap()
}

/// Asks without a key.
async fn ask(app: &TestApp, path: &str, operation: &str, status: &str) -> Value {
    ask_with(app, None, path, operation, status).await
}

/// Asks, checks the answer against its operation and status, and returns it.
async fn ask_with(app: &TestApp, key: Option<&str>, path: &str, operation: &str, status: &str) -> Value {
    let answer = app.manager.request(Method::GET, &format!("/api/v1{path}"), key, None).await.unwrap();
    assert_eq!(answer.status.as_str(), status, "{path}: {:?}", answer.body);
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    // Where a tokenizer may be null by one line of the schema, another line forbids it; the SDKs follow the first.
    let mut checked = answer.clone();
    if let Some(tokenizer) = checked.pointer_mut("/data/architecture/tokenizer").filter(|word| word.is_null()) {
        *tokenizer = json!("Other");
    }
    Published::load().check(operation, status, &checked);
    answer
}

async fn ids(app: &TestApp, query: &str) -> Vec<String> {
    let listed = ask(app, &format!("/models{query}"), "GET /models", "200").await;
    let counted = ask(app, &format!("/models/count{query}"), "GET /models/count", "200").await;
    let ids: Vec<String> =
        listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((&listed["total_count"], &counted["data"]["count"]), (&json!(ids.len()), &json!(ids.len())), "{query}");
    ids
}

#[tokio::test]
async fn models_are_chosen_by_what_is_asked() {
    let app = server().await;
    let all = [MODEL, "test/cent", "acme/vision", "acme/small:free", "local"];
    assert_eq!(ids(&app, "").await, all);
    let cases: [(&str, &[&str]); 22] = [
        ("q=VISION", &["acme/vision"]),
        ("q=acme:+vision", &["acme/vision"]),
        ("q=", &all),
        ("supported_parameters=tools,temperature", &all),
        ("supported_parameters=tools,top_k", &[]),
        ("input_modalities=text,image", &["acme/vision"]),
        ("output_modalities=text,image", &all),
        ("output_modalities=image", &[]),
        ("output_modalities=all", &all),
        ("context=128000", &["test/cent", "acme/vision"]),
        ("max_price=0.1", &[MODEL, "test/cent", "acme/small:free", "local"]),
        ("min_price=1e-3&max_price=0.1", &[MODEL, "local"]),
        ("min_output_price=10&max_output_price=1e12", &["test/cent", "acme/vision"]),
        ("max_output_price=0", &["acme/small:free"]),
        ("model_authors=acme", &["acme/vision", "acme/small:free"]),
        ("providers=openai", &["acme/vision"]),
        ("sort=pricing-low-to-high", &["acme/small:free", MODEL, "local", "acme/vision", "test/cent"]),
        ("sort=pricing-high-to-low", &["test/cent", "acme/vision", "local", MODEL, "acme/small:free"]),
        ("sort=context-high-to-low", &["test/cent", "acme/vision", MODEL, "acme/small:free", "local"]),
        ("sort=newest", &all),
        ("sort=most-popular&zdr=true&arch=GPT&whatever=1", &all),
        ("model_authors=acme&input_modalities=image&sort=newest", &["acme/vision"]),
    ];
    for (query, expected) in cases {
        assert_eq!(ids(&app, &format!("?{query}")).await, expected, "{query}");
    }
}

#[tokio::test]
async fn a_bad_value_is_refused_by_the_name_of_its_parameter() {
    let app = server().await;
    for query in [
        "context=many",
        "context=-1",
        "min_price=-1",
        "max_price=cheap",
        "min_output_price=NaN",
        "max_output_price=1,5",
        "sort=best",
        "offset=x",
    ] {
        let refused = ask(&app, &format!("/models?{query}"), "GET /models", "400").await;
        let name = query.split_once('=').unwrap().0;
        assert!(refused["error"]["message"].as_str().unwrap().contains(&format!("`{name}`")), "{refused}");
    }
    ask(&app, "/models/count?sort=best", "GET /models/count", "400").await;
}

#[tokio::test]
async fn the_next_page_asks_the_same() {
    let app = server().await;
    let mut path = "/models?model_authors=acme,test&limit=2&sort=pricing-low-to-high".to_owned();
    let mut pages = Vec::new();
    loop {
        let page = ask(&app, &path, "GET /models", "200").await;
        assert_eq!(page["total_count"], 4);
        pages.push(page["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect::<Vec<_>>());
        let Some(next) = page["links"]["next"].as_str() else { break };
        path = next.strip_prefix("/api/v1").unwrap().to_owned();
    }
    assert_eq!(pages, [[json!("acme/small:free"), json!(MODEL)], [json!("acme/vision"), json!("test/cent")]]);
}

#[tokio::test]
async fn every_key_sees_all_models_and_nobody_else_does() {
    let app = server().await;
    let key = app.key().limit("0").create().await;
    let operation = "GET /models/user";
    let all = ask(&app, "/models", "GET /models", "200").await;
    for secret in [MANAGEMENT_KEY, &key.secret] {
        assert_eq!(ask_with(&app, Some(secret), "/models/user", operation, "200").await, all);
    }
    let page = ask_with(&app, Some(&key.secret), "/models/user?limit=1", operation, "200").await;
    assert_eq!(page["links"]["next"], "/api/v1/models/user?offset=1&limit=1");
    ask(&app, "/models/user", operation, "401").await;
    ask_with(&app, Some("sk-or-v1-stranger"), "/models/user", operation, "401").await;
}

#[tokio::test]
async fn one_model_is_found_by_its_whole_id() {
    let app = server().await;
    let operation = "GET /model/{author}/{slug}";
    let listed = ask(&app, "/models", "GET /models", "200").await;
    for model in listed["data"].as_array().unwrap() {
        let id = model["id"].as_str().unwrap();
        assert_eq!(ask(&app, &format!("/model/{id}"), operation, "200").await["data"], *model);
    }
    assert_eq!(ask(&app, "/model/acme/small%3Afree/", operation, "200").await["data"]["id"], "acme/small:free");
    for unknown in ["acme/small", "acme/vision:free", "test/unpriced", "acme", "acme/vision/more", "acme/%ff"] {
        let missing = ask(&app, &format!("/model/{unknown}"), operation, "404").await;
        assert_eq!(missing["error"]["code"], 404, "{unknown}");
    }
}

#[tokio::test]
async fn endpoints_tell_who_serves_a_model_at_which_price() {
    let app = server().await;
    let operation = "GET /models/{author}/{slug}/endpoints";
    // Every model says where its endpoints are, and they are there.
    let listed = ask(&app, "/models", "GET /models", "200").await;
    for model in listed["data"].as_array().unwrap() {
        let details = model["links"]["details"].as_str().unwrap().strip_prefix("/api/v1").unwrap();
        let endpoints = ask(&app, details, operation, "200").await;
        assert_eq!(endpoints["data"]["id"], model["id"]);
        assert_eq!(endpoints["data"]["endpoints"][0]["pricing"], model["pricing"]);
    }
    let vision = ask(&app, "/models/acme/vision/endpoints", operation, "200").await;
    insta::assert_json_snapshot!("endpoints", vision, { ".data.created" => "[time]" });
    for unknown in ["/models/test/unpriced/endpoints", "/models/acme/none/endpoints", "/models/acme/vision"] {
        ask(&app, unknown, operation, "404").await;
    }
}

#[tokio::test]
async fn providers_are_those_that_can_be_called() {
    let app = server().await;
    let nothing_known = |slug: &str| {
        json!({
            "name": slug, "slug": slug, "privacy_policy_url": null, "terms_of_service_url": null,
            "status_page_url": null, "headquarters": null, "datacenters": null,
        })
    };
    let providers = ask(&app, "/providers", "GET /providers", "200").await;
    assert_eq!(providers, json!({"data": [nothing_known(FIRST), nothing_known(SECOND)]}));
}
