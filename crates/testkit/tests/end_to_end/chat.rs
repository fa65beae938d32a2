//! Calls through the real server: what is forwarded, answered, billed and refused.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

use serde_json::{Value, json};
use testkit::{MODEL, Provider, Script, TestApp, TestKey, nanos};
use tollgate::config::Config;
use tollgate_client::RawAnswer;
use tollgate_gateway::Limits;

fn body(answer: &RawAnswer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {:?}", answer.body))
}

fn events(answer: &RawAnswer) -> Vec<Value> {
    let text = std::str::from_utf8(&answer.body).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

async fn streamed(key: &TestKey) -> RawAnswer {
    key.chat(100, json!({"stream": true})).await
}

/// Waits until nothing of the key is held any more: the settlement of a call that was left behind.
async fn settled(key: &TestKey) -> i64 {
    for _ in 0..1_000 {
        let current = key.client.current_key().await.unwrap();
        if current.limit_held.is_none_or(|held| held.0.nanos() == 0) {
            return current.usage.0.nanos();
        }
        tokio::task::yield_now().await;
    }
    panic!("the call was never settled");
}

#[tokio::test]
async fn an_answer_carries_its_cost_and_the_key_says_the_same_at_once() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    let answer = key.chat(100, json!({"temperature": 0.5})).await;
    assert_eq!(answer.status, 200);
    let result = body(&answer);
    // 10 prompt tokens at 1, 5 completion tokens at 10 nano-dollars.
    assert_eq!(result["usage"]["cost"].to_string(), "6e-8");
    assert_eq!(result["usage"]["total_tokens"], 15);
    assert_eq!(result["provider"], "scripted");
    assert_eq!(result["model"], MODEL);
    assert_eq!(result["system_fingerprint"], Value::Null);
    assert_eq!(answer.headers["x-generation-id"], result["id"].as_str().unwrap());
    assert_eq!(key.usage_nanos().await, 60);
    let sent = &app.provider.bodies()[0];
    assert_eq!(sent["model"], "upstream-model");
    assert_eq!(sent["max_completion_tokens"], 100);
    assert_eq!(sent["temperature"], 0.5);
    assert!(sent.get("max_tokens").is_none());
}

#[tokio::test]
async fn a_stream_ends_with_one_usage_chunk_and_done() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    let answer = streamed(&key).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let events = events(&answer);
    let with_usage: Vec<&Value> = events.iter().filter(|event| event.get("usage").is_some()).collect();
    assert_eq!(with_usage.len(), 1);
    let last = events.last().unwrap();
    assert_eq!(last["usage"]["cost"].to_string(), "6e-8");
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert!(
        events.iter().all(|event| event["id"] == events[0]["id"] && event["choices"][0].get("finish_reason").is_some())
    );
    let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "Hello there");
    assert_eq!(key.usage_nanos().await, 60);
    assert_eq!(app.provider.bodies()[0]["stream_options"]["include_usage"], true);
}

#[tokio::test]
async fn a_generation_is_there_at_once_and_only_for_its_own_key() {
    let app = TestApp::start().await;
    let (key, other) = (app.key().create().await, app.key().create().await);
    let answer = key.chat(100, json!({"session_id": "s-1"})).await;
    let id = answer.headers["x-generation-id"].to_str().unwrap().to_owned();
    let path = format!("/api/v1/generation?id={id}");
    let found = body(&key.client.raw(http::Method::GET, &path, None).await.unwrap());
    assert_eq!(found["data"]["total_cost"].to_string(), "6e-8");
    assert_eq!(found["data"]["native_tokens_completion"], 5);
    assert_eq!(found["data"]["session_id"], "s-1");
    assert_eq!(found["data"]["model"], MODEL);
    assert_eq!(other.client.raw(http::Method::GET, &path, None).await.unwrap().status, 403);
    let unknown = "/api/v1/generation?id=gen-1-AAAAAAAAAAAAAAAAAAAA";
    assert_eq!(key.client.raw(http::Method::GET, unknown, None).await.unwrap().status, 404);
}

#[tokio::test]
async fn a_call_that_can_never_fit_is_a_402_that_says_what_would() {
    let app = TestApp::start().await;
    let key = app.key().limit_nanos(3_000).create().await;
    let answer = key.chat(5_000, json!({})).await;
    assert_eq!(answer.status, 402);
    let error = &body(&answer)["error"];
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("This request requires more credits, or fewer max_tokens. You requested up to 5000 tokens, but can only afford "), "{message}");
    assert!(message.contains(&app.url()), "{message}");
    assert_eq!(error["metadata"]["limit_source"], "openrouter_key_limit");
    let affordable: u64 = message.split("afford ").nth(1).unwrap().split('.').next().unwrap().parse().unwrap();
    assert_eq!(key.chat(affordable + 1, json!({})).await.status, 402);
    assert_eq!(app.provider.calls(), 0, "nothing was sent");
    assert_eq!(key.chat(affordable, json!({})).await.status, 200);
}

#[tokio::test]
async fn a_spent_key_is_a_403_that_names_the_window_until_it_ends() {
    let app = TestApp::start().await;
    let key = app.key().limit_nanos(60).reset("daily").create().await;
    app.manager.update_key(&key.hash, &serde_json::from_str(r#"{"limit":0.0001}"#).unwrap()).await.unwrap();
    assert_eq!(key.chat(100, json!({})).await.status, 200);
    app.manager.update_key(&key.hash, &serde_json::from_str(r#"{"limit":0.00000006}"#).unwrap()).await.unwrap();
    let refused = key.chat(1, json!({})).await;
    assert_eq!(refused.status, 403);
    let message = body(&refused)["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(message, format!("Key limit exceeded (daily limit). Manage it using {}/keys", app.url()));
    app.manager.update_key(&key.hash, &serde_json::from_str(r#"{"limit":0.0001}"#).unwrap()).await.unwrap();
    app.clock.advance(std::time::Duration::from_hours(12));
    let current = key.client.current_key().await.unwrap();
    assert_eq!((current.usage.0.nanos(), current.usage_daily.0.nanos()), (60, 0));
    assert_eq!(key.chat(100, json!({})).await.status, 200);
}

#[tokio::test]
async fn without_a_cap_the_budget_sets_one_and_says_so() {
    let app = TestApp::start().await;
    let key = app.key().limit_nanos(5_000).create().await;
    let answer = key
        .client
        .chat(format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hi"}}]}}"#).into_bytes())
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    let cap: u64 = answer.headers["x-tollgate-max-tokens"].to_str().unwrap().parse().unwrap();
    assert!((256..500).contains(&cap), "{cap}");
    assert_eq!(app.provider.bodies()[0]["max_completion_tokens"], cap);
}

#[tokio::test]
async fn a_provider_error_costs_nothing_and_says_who_failed() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    for (from, to) in [(500, 502), (503, 503), (429, 429), (400, 400), (401, 502), (403, 502)] {
        app.provider.script(Script::Status(from, r#"{"error":{"message":"their words"}}"#));
        let answer = key.chat(100, json!({"stream": from == 500})).await;
        assert_eq!(answer.status, to, "{from}");
        let error = &body(&answer)["error"];
        assert_eq!(error["message"], "Provider returned error");
        assert_eq!(error["metadata"]["provider_name"], "scripted");
        let raw = error["metadata"]["raw"].as_str().unwrap();
        assert_eq!(raw.contains("their words"), from != 401 && from != 403, "{from}: {raw}");
        assert_eq!(settled(&key).await, 0, "{from}");
    }
}

#[tokio::test]
async fn a_dearer_fallback_is_tried_where_the_budget_has_room_for_it() {
    let dear = Provider::start().await;
    let address = dear.address;
    let both = move |config: &mut Config| {
        let mut provider = config.providers[0].clone();
        (provider.slug, provider.base_url) = ("dear".to_owned(), Some(format!("http://{address}/v1")));
        config.providers.push(provider);
        let mut model = config.models[0].clone();
        model.provider = "dear".to_owned();
        if let Some(prices) = &mut model.pricing {
            (prices.prompt, prices.completion) = ("0.000000002".to_owned(), "0.00000002".to_owned());
        }
        config.models.push(model);
    };
    let app = TestApp::with(both, Limits::default()).await;
    app.provider.script(Script::Status(503, "{}"));
    // The first provider's bound fits both keys, the second's only one.
    let (rich, poor) = (app.key().limit_nanos(5_000).create().await, app.key().limit_nanos(1_500).create().await);
    let answer = rich.chat(100, json!({})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(body(&answer)["provider"], "dear");
    assert_eq!(settled(&rich).await, 120);
    assert_eq!(poor.chat(100, json!({})).await.status, 503);
    assert_eq!((settled(&poor).await, dear.calls()), (0, 1));
    let alone = rich.chat(100, json!({"provider": {"allow_fallbacks": false}})).await;
    assert_eq!((alone.status.as_u16(), dear.calls()), (503, 1), "the caller wanted no other");
    let listed = rich.chat(100, json!({"provider": {"allow_fallbacks": false, "order": ["scripted", "dear"]}})).await;
    assert_eq!((listed.status.as_u16(), dear.calls()), (200, 2), "the caller's own list is gone through");
    let calls = app.provider.calls();
    let ordered = rich.chat(100, json!({"provider": {"order": ["dear"]}})).await;
    assert_eq!((ordered.status.as_u16(), app.provider.calls()), (200, calls), "the named one comes first");
}

#[tokio::test]
async fn another_model_answers_where_the_first_fails_and_too_many_are_not_tried() {
    let second = Provider::start().await;
    let address = second.address;
    let other_model = move |config: &mut Config| {
        let mut provider = config.providers[0].clone();
        (provider.slug, provider.base_url) = ("second".to_owned(), Some(format!("http://{address}/v1")));
        config.providers.push(provider);
        let mut model = config.models[0].clone();
        (model.id, model.provider) = ("test/second".to_owned(), "second".to_owned());
        config.models.push(model);
    };
    let app = TestApp::with(other_model, Limits { attempts_max: 2, ..Limits::default() }).await;
    let key = app.key().limit("1").create().await;
    app.provider.script(Script::Status(503, "{}"));
    let answer = key.chat(100, json!({"models": [MODEL, "test/second"]})).await;
    assert_eq!((answer.status.as_u16(), &body(&answer)["model"]), (200, &json!("test/second")));
    let path = format!("/api/v1/generation?id={}", answer.headers["x-generation-id"].to_str().unwrap());
    let shown = body(&key.client.raw(http::Method::GET, &path, None).await.unwrap());
    let tried: Vec<_> =
        shown["data"]["provider_responses"].as_array().unwrap().iter().map(|try_| &try_["status"]).collect();
    assert_eq!(tried, [503, 200]);
    let calls = app.provider.calls();
    let models = json!({"models": [MODEL, "test/cent", "test/second"]});
    let failed = key.chat(1, models).await;
    assert_eq!(failed.status, 503);
    assert_eq!((app.provider.calls(), second.calls()), (calls + 2, 1), "two tries, and not the third");
    assert_eq!(settled(&key).await, 60);
}

#[tokio::test]
async fn missing_usage_is_estimated_and_nonsense_is_charged_at_the_hold() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    app.provider.script(Script::NoUsage);
    let estimated = body(&key.chat(100, json!({})).await);
    let cost = key.usage_nanos().await;
    assert!(cost > 0 && cost < 1_100, "{cost}");
    assert!(estimated["usage"]["completion_tokens"].as_u64().unwrap() >= 3);
    app.provider.script(Script::Usage(json!({"prompt_tokens": -5, "completion_tokens": 1})));
    assert_eq!(key.chat(100, json!({})).await.status, 200);
    let held = key.usage_nanos().await - cost;
    assert!((1_000..1_300).contains(&held), "100 tokens at 10 and the prompt's bound: {held}");
}

#[tokio::test]
async fn an_overrun_is_recorded_whole_and_never_hidden() {
    let app = TestApp::start().await;
    let key = app.key().limit_nanos(2_000).create().await;
    app.provider.script(Script::Usage(json!({"prompt_tokens": 10, "completion_tokens": 400})));
    let answer = key.chat(100, json!({})).await;
    assert_eq!(answer.status, 200);
    let path = format!("/api/v1/generation?id={}", answer.headers["x-generation-id"].to_str().unwrap());
    let shown = body(&key.client.raw(http::Method::GET, &path, None).await.unwrap());
    let overrun = nanos(&shown["data"]["overrun"]);
    // 4,010 less the cap's 1,000 and the bound of the prompt.
    assert!((2_500..3_010).contains(&overrun), "{shown}");
    let current = key.client.current_key().await.unwrap();
    assert_eq!(current.usage.0.nanos(), 4_010);
    assert_eq!(current.limit_remaining.unwrap().0.nanos(), -2_010);
    assert_eq!(key.chat(1, json!({})).await.status, 403);
}

#[tokio::test]
async fn a_stream_that_breaks_tells_so_and_is_billed_for_what_was_seen() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    for (script, code) in [(Script::CutAfter(3), 502), (Script::ErrorInStream, 502)] {
        let before = key.usage_nanos().await;
        app.provider.script(script);
        let events = events(&streamed(&key).await);
        let last = events.last().unwrap();
        assert_eq!(last["error"]["code"], code);
        assert_eq!(last["choices"][0]["finish_reason"], "error");
        assert!(last["error"]["metadata"]["error_type"].is_string());
        assert!(!last.to_string().contains("boom"));
        assert!(settled(&key).await > before, "a cut line is not a discount");
    }
}

#[tokio::test]
async fn an_error_before_any_output_costs_nothing_however_its_connection_ends() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    app.provider.script(Script::ErrorThenCut);
    for _ in 0..20 {
        let events = events(&streamed(&key).await);
        assert_eq!(events.last().unwrap()["error"]["message"], "Provider returned error");
    }
    assert_eq!(settled(&key).await, 0);
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_no_error_before_itself() {
    let nobody = |config: &mut Config| config.providers[0].base_url = Some("http://127.0.0.1:1/v1".to_owned());
    let app = TestApp::with(nobody, Limits::default()).await;
    let key = app.key().limit("1").create().await;
    let answer = key.chat(100, json!({})).await;
    assert_eq!(answer.status, 502);
    assert_eq!(body(&answer)["error"]["metadata"]["previous_errors"], json!([]));
    assert_eq!(settled(&key).await, 0);
}

#[tokio::test]
async fn a_provider_that_vanishes_is_charged_at_the_hold_because_nobody_knows() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    app.provider.script(Script::Vanish);
    assert_eq!(key.chat(100, json!({})).await.status, 502);
    assert!((1_000..1_300).contains(&settled(&key).await));
}

#[tokio::test]
async fn a_client_that_hangs_up_is_billed_for_the_whole_answer() {
    let app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    for (script, extra) in
        [(Script::Trickle, json!({"stream": true})), (Script::Hold { prompt: 10, completion: 5 }, json!({}))]
    {
        let before = key.usage_nanos().await;
        app.provider.script(script);
        let calls = app.provider.calls();
        let leaving = key.chat(100, extra);
        tokio::select! {
            _ = leaving => panic!("the provider was not released"),
            () = app.provider.arrived(calls + 1) => {}
        }
        let held = key.client.current_key().await.unwrap().limit_held.unwrap();
        assert!(held.0.nanos() > 1_000, "{held:?}");
        app.provider.release();
        assert_eq!(settled(&key).await - before, 60);
    }
}

#[tokio::test]
async fn shutdown_finishes_what_is_under_way() {
    let mut app = TestApp::start().await;
    let key = app.key().limit("1").create().await;
    app.provider.script(Script::Hold { prompt: 10, completion: 5 });
    let provider = app.provider.clone();
    let (answer, ()) = tokio::join!(key.chat(100, json!({})), async {
        provider.arrived(1).await;
        tokio::join!(app.shut_down(), async { provider.release() });
    });
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn keys_that_may_not_call_get_one_message() {
    let app = TestApp::start().await;
    let expired = app.key().expires_at("2026-01-15T12:30:00Z").create().await;
    let (disabled, deleted) = (app.key().create().await, app.key().create().await);
    app.manager.update_key(&disabled.hash, &serde_json::from_str(r#"{"disabled":true}"#).unwrap()).await.unwrap();
    app.manager.delete_key(&deleted.hash).await.unwrap();
    app.clock.advance(std::time::Duration::from_mins(31));
    for client in
        [&expired.client, &disabled.client, &deleted.client, &app.manager, &app.manager.with_key("sk-or-v1-x")]
    {
        let answer = client
            .chat(br#"{"model":"test/priced","messages":[{"role":"user","content":"hi"}]}"#.to_vec())
            .await
            .unwrap();
        assert_eq!(answer.status, 401);
        assert_eq!(body(&answer)["error"], json!({"message": "User not found.", "code": 401}));
    }
    assert_eq!(app.provider.calls(), 0);
}
