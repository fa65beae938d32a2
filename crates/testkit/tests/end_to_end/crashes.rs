//! What is left after a crash: every answer that a client received, once, at its cost; what was in flight, as lost.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use serde_json::{Value, json};
use testkit::{PRICING, Provider, Script, ServerProcess, free_folder, nanos, stop_at_step_binary, tollgate_binary};
use tokio::task::JoinSet;
use tollgate_client::Client;
use tollgate_gateway::Step;
use tollgate_wire::CreateKey;

pub const MANAGEMENT_KEY: &str = "sk-or-v1-00000000000000000000000000000000000000000000000000000000000000aa";
const KILLS: usize = 20;
const CLIENTS: usize = 16;

pub fn environment() -> Vec<(&'static str, &'static str)> {
    vec![("TOLLGATE_BOOTSTRAP_MANAGEMENT_KEY", MANAGEMENT_KEY)]
}

pub fn write_config(folder: &Path, provider: &Provider, durability: &str) -> PathBuf {
    let file = folder.join("tollgate.toml");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"sqlite://{}\"\ndurability = \"{durability}\"\n\
         [[providers]]\nslug = \"scripted\"\nkind = \"openai\"\nbase_url = \"http://{}/v1\"\n\
         [[models]]\nid = \"test/priced\"\nprovider = \"scripted\"\ncontext_length = 10000\nmax_output_tokens = 1000\n\
         pricing = {PRICING}\n",
        folder.join("tollgate.db").display(),
        provider.address,
    );
    std::fs::write(&file, text).unwrap();
    file
}

async fn create_key(server: &ServerProcess, limit: &str) -> (String, String) {
    let manager = server.client(MANAGEMENT_KEY);
    let request: CreateKey =
        serde_json::from_value(json!({"name": "k", "limit": limit.parse::<f64>().unwrap()})).unwrap();
    let created = manager.create_key(&request).await.unwrap();
    (created.key, created.data.hash)
}

fn call(stream: bool) -> Vec<u8> {
    json!({"model": "test/priced", "max_tokens": 5, "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
        .to_string()
        .into_bytes()
}

/// The id and the cost of an answer whose usage the client saw.
fn received(body: &[u8]) -> Option<(String, i64)> {
    let text = String::from_utf8_lossy(body);
    let with_usage = text
        .lines()
        .map(|line| line.strip_prefix("data: ").unwrap_or(line))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|value| value["usage"]["cost"].is_number())?;
    Some((with_usage["id"].as_str()?.to_owned(), nanos(&with_usage["usage"]["cost"])))
}

/// Calls until the server is gone; notes every answer that came with its cost.
async fn hammer(client: Client, answers: Arc<Mutex<HashMap<String, i64>>>, stream: bool) {
    while let Ok(answer) = client.chat(call(stream)).await {
        if let Some((id, cost)) = received(&answer.body) {
            assert!(answers.lock().insert(id, cost).is_none(), "an id was given twice");
        }
    }
}

async fn check(client: &Client, answers: &HashMap<String, i64>) {
    for (id, cost) in answers {
        let found = client.raw(http::Method::GET, &format!("/api/v1/generation?id={id}"), None).await.unwrap();
        assert_eq!(found.status, 200, "{id} was answered and is not in the ledger");
        let found: Value = serde_json::from_slice(&found.body).unwrap();
        let charged = nanos(&found["data"]["total_cost"]);
        assert_eq!((charged, &found["data"]["settlement"]), (*cost, &json!("settled")), "{id}");
    }
}

/// The ledger's own books: settlements by outcome, their sum, and reservations without an end.
fn books(database: &Path) -> (HashMap<String, i64>, i64, i64) {
    let db = Connection::open(database).unwrap();
    let mut statement = db.prepare("SELECT outcome, count(*) FROM settlements GROUP BY outcome").unwrap();
    let outcomes = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    let sum = db.query_row("SELECT coalesce(sum(credits), 0) FROM settlements", [], |row| row.get(0)).unwrap();
    let open = "SELECT count(*) FROM reservations r WHERE NOT EXISTS (SELECT 1 FROM settlements s WHERE s.row = r.row)";
    let open = db.query_row(open, [], |row| row.get(0)).unwrap();
    (outcomes, sum, open)
}

async fn survive_kills(durability: &str) {
    let folder = free_folder();
    let provider = Provider::start().await;
    let config = write_config(folder.path(), &provider, durability);
    let database = folder.path().join("tollgate.db");
    let answers = Arc::new(Mutex::new(HashMap::new()));
    let mut server = ServerProcess::start(&tollgate_binary(), &config, &environment());
    let (secret, hash) = create_key(&server, "1000").await;
    for round in 0..KILLS {
        let target = answers.lock().len() + 50 + round * 7;
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(hammer(server.client(&secret), Arc::clone(&answers), number % 2 == 0));
        }
        while answers.lock().len() < target {
            tokio::task::yield_now().await;
        }
        server.kill();
        clients.join_all().await;
        let (_, _, open) = books(&database);
        assert!(open <= i64::try_from(CLIENTS).unwrap(), "more was in flight than there are clients: {open}");
        server = ServerProcess::start(&tollgate_binary(), &config, &environment());
        let client = server.client(&secret);
        let key = server.client(MANAGEMENT_KEY).key(&hash).await.unwrap();
        assert_eq!(key.limit_held.unwrap().0.nanos(), 0, "what was in flight is booked, not held");
        // Every tenth answer each round, all of them at the end.
        let sample: HashMap<String, i64> =
            answers.lock().iter().step_by(10).map(|(id, cost)| (id.clone(), *cost)).collect();
        check(&client, &sample).await;
    }
    let answers = answers.lock().clone();
    check(&server.client(&secret), &answers).await;
    let usage = server.client(MANAGEMENT_KEY).key(&hash).await.unwrap().usage.0.nanos();
    let activity = server.client(MANAGEMENT_KEY).activity(true).await.unwrap();
    let rolled_up: i64 = activity.iter().map(|row| row.usage.0.nanos()).sum();
    assert_eq!(rolled_up, usage, "the rollups sum to the balance");
    server.kill();
    let (outcomes, sum, open) = books(&database);
    assert_eq!(open, 0);
    assert_eq!(sum, usage, "entries sum to the balance");
    let settled = outcomes.get("settled").copied().unwrap_or(0);
    assert!(settled >= i64::try_from(answers.len()).unwrap(), "{outcomes:?}, {} answers", answers.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_under_load_lose_nothing_that_a_client_received_power() {
    survive_kills("power").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_under_load_lose_nothing_that_a_client_received_process() {
    survive_kills("process").await;
}

#[tokio::test]
async fn a_crash_between_any_two_steps_leaves_what_is_promised() {
    for step in Step::ALL {
        for stream in [false, true] {
            let folder = free_folder();
            let provider = Provider::start().await;
            provider.script(Script::Answer { prompt: 10, completion: 5 });
            let config = write_config(folder.path(), &provider, "process");
            let (secret, hash) = {
                let server = ServerProcess::start(&tollgate_binary(), &config, &environment());
                let key = create_key(&server, "1").await;
                server.kill();
                key
            };
            let server = ServerProcess::start(&stop_at_step_binary(), &config, &[("STOP_AT_STEP", step.as_str())]);
            let answer = server.client(&secret).chat(call(stream)).await;
            let saw_usage = answer.is_ok_and(|answer| received(&answer.body).is_some());
            assert!(!saw_usage, "{step:?}: the process is gone before the usage is shown");
            server.wait();
            let server = ServerProcess::start(&tollgate_binary(), &config, &environment());
            let key = server.client(MANAGEMENT_KEY).key(&hash).await.unwrap();
            let usage = key.usage.0.nanos();
            server.kill();
            let (outcomes, sum, open) = books(&folder.path().join("tollgate.db"));
            let outcome = outcomes.keys().next().map(String::as_str);
            let calls = provider.calls();
            match step {
                Step::Admitted => assert_eq!((outcome, usage, calls), (None, 0, 0), "{step:?}"),
                Step::Settled => assert_eq!((outcome, usage, calls), (Some("settled"), 60, 1), "{step:?}"),
                Step::Reserved | Step::Forwarded => {
                    // Held on disk before anything went upstream, so it is charged at its hold.
                    assert_eq!((outcome, calls), (Some("lost"), 0), "{step:?}");
                    assert!(usage > 60, "{step:?}: {usage}");
                }
                Step::Answered | Step::Metered => {
                    assert_eq!((outcome, calls), (Some("lost"), 1), "{step:?}");
                    assert!(usage > 60, "{step:?}: {usage}");
                }
            }
            assert_eq!((sum, open), (usage, 0), "{step:?}");
        }
    }
}

#[tokio::test]
async fn what_was_in_flight_under_an_own_credential_is_charged_in_both_kinds_of_money() {
    let folder = free_folder();
    let provider = Provider::start().await;
    provider.script(Script::Hold { prompt: 10, completion: 5 });
    let config = write_config(folder.path(), &provider, "process");
    let environment = [environment(), vec![("TOLLGATE_BYOK__FEE_PERCENT", "5")]].concat();
    let server = ServerProcess::start(&tollgate_binary(), &config, &environment);
    let (secret, hash) = create_key(&server, "1").await;
    let own = json!({"provider": "scripted", "key": "sk-upstream-0123456789"});
    let manager = server.client(MANAGEMENT_KEY);
    let own = manager.create_byok_key(&serde_json::from_value(own).unwrap()).await.unwrap();
    let client = server.client(&secret);
    let (answer, ()) = tokio::join!(client.chat(call(false)), async {
        provider.arrived(1).await;
        server.kill();
    });
    assert!(answer.is_err(), "the process is gone");
    let server = ServerProcess::start(&tollgate_binary(), &config, &environment);
    let manager = server.client(MANAGEMENT_KEY);
    let key = manager.key(&hash).await.unwrap();
    let (fee, list) = (key.usage.0.nanos(), key.byok_usage.0.nanos());
    assert!(list > 60 && fee == (list + 19) / 20, "{fee} of {list}");
    assert_eq!(manager.byok_keys().await.unwrap()[0].id, own.id);
    provider.script(Script::Answer { prompt: 10, completion: 5 });
    provider.take_bearers();
    assert_eq!(server.client(&secret).chat(call(false)).await.unwrap().status, 200);
    assert_eq!(provider.take_bearers(), ["sk-upstream-0123456789"], "it opens after a crash");
    server.kill();
}
