//! Three processes on one database: what one node knows the others know, and together they spend no more than there is.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::postgres::{Cluster, Options, Stop};
use testkit::{Link, PRICING, Provider, Script, ServerProcess, free_folder, nanos, tollgate_binary};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_postgres::NoTls;
use tollgate_client::{Client, RawAnswer};
use tollgate_domain::Usd;
use tollgate_wire::{CreateKey, UpdateKey};

use crate::contract::{ask, json_of};
use crate::crashes::{MANAGEMENT_KEY, environment};

/// What the scripted answer costs, in nano-dollars.
const COST: i64 = 60;

/// As many answers as make sure that a fault comes, and is over, under load.
const SOME: usize = 300;

/// A database, a provider, and room for nodes.
struct World {
    cluster: Cluster,
    provider: Provider,
    folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let cluster = Cluster::start(Options { fsync: true, ..Options::default() });
        let provider = Provider::start().await;
        provider.script(Script::Answer { prompt: 10, completion: 5 });
        Self { cluster, provider, folder: free_folder() }
    }

    fn config(&self, name: &str, database: SocketAddr) -> PathBuf {
        let file = self.folder.path().join(format!("{name}.toml"));
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n\
             [[providers]]\nslug = \"scripted\"\nkind = \"openai\"\nbase_url = \"http://{}/v1\"\n\
             [[models]]\nid = \"test/priced\"\nprovider = \"scripted\"\ncontext_length = 10000\nmax_output_tokens = 1000\n\
             pricing = {PRICING}\n",
            Cluster::url_at(database, "postgres"),
            self.provider.address,
        );
        std::fs::write(&file, text).unwrap();
        file
    }

    fn node(&self, name: &str) -> ServerProcess {
        ServerProcess::start(&tollgate_binary(), &self.config(name, self.cluster.address()), &environment())
    }

    fn three(&self) -> [ServerProcess; 3] {
        ["a", "b", "c"].map(|name| self.node(name))
    }

    /// Spent and held by the account's balances, spent by its entries, held by its holds: in credits, for life.
    async fn books(&self) -> [i64; 4] {
        let sums = "SELECT (SELECT coalesce(sum(spent[1]), 0)::bigint FROM balances WHERE scope = 'account'),
            (SELECT coalesce(sum(held[1]), 0)::bigint FROM balances WHERE scope = 'account'),
            (SELECT coalesce(sum(credits), 0)::bigint FROM settlements)
                + (SELECT coalesce(sum(credits), 0)::bigint FROM corrections),
            (SELECT coalesce(sum(credits), 0)::bigint FROM holds)";
        let row = self.client().await.query_one(sums, &[]).await.unwrap();
        [0, 1, 2, 3].map(|column| row.get(column))
    }
}

/// What is known of generations that were booked as lost.
#[derive(Debug, PartialEq, Eq)]
struct Lost {
    all: i64,
    /// Charged at something else than what they held.
    not_at_their_hold: i64,
    /// Settled after all.
    late: i64,
}

impl World {
    async fn client(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.cluster.url(), NoTls).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "it ends with its client")]
        tokio::spawn(connection);
        client
    }

    async fn lost(&self) -> Lost {
        let sums = "SELECT count(*), count(*) FILTER (WHERE credits <> hold_credits), count(*) FILTER (WHERE late)
            FROM settlements WHERE outcome = 'lost'";
        let row = self.client().await.query_one(sums, &[]).await.unwrap();
        Lost { all: row.get(0), not_at_their_hold: row.get(1), late: row.get(2) }
    }

    /// The lives of the nodes, each with how often it was renewed.
    async fn beats(&self) -> HashMap<i64, i64> {
        let sql = "SELECT boot, beats FROM nodes WHERE boot IS NOT NULL";
        let rows = self.client().await.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// What a call may cost at the most: what is held for it.
    async fn bound(&self, node: &ServerProcess, secret: &str) -> i64 {
        let call = self.held(node, secret).await;
        let (_, held) = told(node, secret).await;
        self.provider.release();
        assert_eq!(call.await.unwrap().status, 200);
        held
    }

    /// A call that the provider holds until it is released, which others are not.
    async fn held(&self, node: &ServerProcess, secret: &str) -> JoinHandle<RawAnswer> {
        let calls = self.provider.calls();
        self.provider.script(Script::Hold { prompt: 10, completion: 5 });
        let client = node.client(secret);
        #[expect(clippy::disallowed_methods, reason = "it is waited for")]
        let answer = tokio::spawn(async move { client.chat(call()).await.unwrap() });
        self.provider.arrived(calls + 1).await;
        self.provider.script(Script::Answer { prompt: 10, completion: 5 });
        answer
    }
}

fn dollars(nanos: i64) -> Value {
    serde_json::from_str(&Usd::from_nanos(nanos).to_string()).unwrap()
}

async fn create(node: &ServerProcess, key: Value) -> (String, String) {
    let request: CreateKey = serde_json::from_value(key).unwrap();
    let created = node.client(MANAGEMENT_KEY).create_key(&request).await.unwrap();
    (created.key, created.data.hash)
}

async fn create_key(node: &ServerProcess, limit_nanos: i64) -> (String, String) {
    create(node, json!({"name": "k", "limit": dollars(limit_nanos)})).await
}

fn call() -> Vec<u8> {
    json!({"model": "test/priced", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]})
        .to_string()
        .into_bytes()
}

fn body(answer: &RawAnswer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

async fn update(node: &ServerProcess, hash: &str, change: Value) {
    let change: UpdateKey = serde_json::from_value(change).unwrap();
    node.client(MANAGEMENT_KEY).update_key(hash, &change).await.unwrap();
}

async fn status(node: &ServerProcess, secret: &str) -> u16 {
    node.client(secret).chat(call()).await.unwrap().status.as_u16()
}

/// What the key says of itself, on one node.
async fn told(node: &ServerProcess, secret: &str) -> (i64, i64) {
    let key = node.client(secret).current_key().await.unwrap();
    (key.usage.0.nanos(), key.limit_held.unwrap().0.nanos())
}

/// What a call cost; `None` where it was refused, which is right only where its bound fits nowhere.
async fn charged(client: &Client, bound: i64) -> Option<i64> {
    let answer = client.chat(call()).await.unwrap();
    let (status, body) = (answer.status.as_u16(), body(&answer));
    if status == 200 {
        return Some(nanos(&body["usage"]["cost"]));
    }
    assert!([402, 403].contains(&status), "{status}: {body}");
    let told = &body["error"]["metadata"];
    let free = nanos(&told["limit_usd"]) - nanos(&told["spend_usd"]) - nanos(&told["held_usd"]);
    assert!((0..bound).contains(&free), "refused though it fits, or over: {body}");
    None
}

/// Whatever is left when all is quiet is spent one call after another, on any node.
async fn spend_the_rest(nodes: &[ServerProcess], secret: &str, bound: i64) -> i64 {
    let mut sum = 0;
    for (calls, node) in nodes.iter().cycle().enumerate() {
        assert!(calls < 1_000, "{sum} spent, and nothing refuses more");
        let Some(cost) = charged(&node.client(secret), bound).await else { break };
        sum += cost;
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_key_works_on_any_node_and_what_changes_on_one_holds_on_all() {
    let world = World::new().await;
    let nodes = world.three();
    for (first, other) in [(0, 1), (1, 2), (2, 0)] {
        let (first, other) = (&nodes[first], &nodes[other]);
        let (secret, hash) = create_key(first, 1_000_000).await;
        assert_eq!(status(other, &secret).await, 200, "a key is a key everywhere");
        assert_eq!(told(first, &secret).await, (COST, 0), "what was spent there is known here");
        update(first, &hash, json!({"disabled": true})).await;
        assert_ne!(status(other, &secret).await, 200, "disabled everywhere");
        update(other, &hash, json!({"disabled": false})).await;
        assert_eq!(status(first, &secret).await, 200);
        update(first, &hash, json!({"limit": 0.000_000_12})).await;
        assert_eq!(status(other, &secret).await, 403, "the limit is spent everywhere");
        update(other, &hash, json!({"limit": null})).await;
        assert_eq!((status(first, &secret).await, status(other, &secret).await), (200, 200));
        update(first, &hash, json!({"limit": 1})).await;
        assert_eq!(told(other, &secret).await, (4 * COST, 0), "nothing was lost on the way to no limit and back");
        first.client(MANAGEMENT_KEY).delete_key(&hash).await.unwrap();
        assert_eq!(status(other, &secret).await, 401, "gone everywhere");
    }
    let [spent, held, entries, holds] = world.books().await;
    assert_eq!((spent, held, holds), (entries, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_on_three_nodes_spend_what_one_key_has_and_no_more() {
    let world = World::new().await;
    let nodes = world.three();
    let (secret, _) = create_key(&nodes[0], 1_000_000).await;
    let bound = world.bound(&nodes[0], &secret).await;
    let limit = 299 * COST + bound;
    let (secret, _) = create_key(&nodes[2], limit).await;
    let mut clients = JoinSet::new();
    for number in 0..200 {
        let client = nodes[number % 3].client(&secret);
        clients.spawn(async move {
            let mut sum = 0;
            for _ in 0..4 {
                sum += charged(&client, bound).await.unwrap_or(0);
            }
            sum
        });
    }
    let mut sum: i64 = clients.join_all().await.into_iter().sum();
    sum += spend_the_rest(&nodes, &secret, bound).await;
    assert_eq!(sum, 300 * COST, "what one more call may cost is all that is left");
    for node in &nodes {
        assert_eq!(told(node, &secret).await, (sum, 0));
    }
    let [spent, held, entries, holds] = world.books().await;
    assert_eq!((spent, held, holds), (entries, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_share_a_budget_spend_it_from_three_nodes_and_never_lock_each_other_out() {
    let world = World::new().await;
    let nodes = world.three();
    let (free, _) = create_key(&nodes[0], 1_000_000).await;
    let bound = world.bound(&nodes[1], &free).await;
    let manager = nodes[2].client(MANAGEMENT_KEY);
    let team = json!({"name": "Team", "slug": "team"});
    let team = json_of(&ask(&manager, http::Method::POST, "/workspaces", Some(team)).await);
    let budget = json!({"limit_usd": dollars(199 * COST + bound)});
    let set = ask(&manager, http::Method::PUT, "/workspaces/team/budgets/monthly", Some(budget)).await;
    assert_eq!(set.status, 200, "{}", json_of(&set));
    // Limits of keys, and a budget that all of them share: each call is decided on two of them and counted in the account.
    let mut keys = Vec::new();
    for (number, limit) in [40, 60, 500, 500, 500, 500].into_iter().enumerate() {
        let limit = (limit - 1) * COST + bound;
        let key = json!({"name": format!("k{number}"), "limit": dollars(limit), "workspace_id": team["data"]["id"]});
        keys.push((create(&nodes[number % 3], key).await.0, limit));
    }
    let mut clients = JoinSet::new();
    for number in 0..90 {
        // Every key from every node.
        let (node, key) = (number % 3, number / 3 % 6);
        let client = nodes[node].client(&keys[key].0);
        clients.spawn(async move {
            let mut sum = 0;
            for _ in 0..8 {
                sum += charged(&client, bound).await.unwrap_or(0);
            }
            sum
        });
        let outside = nodes[node].client(&free);
        clients.spawn(async move {
            assert!(charged(&outside, bound).await.is_some(), "another workspace's budget is none of its business");
            0
        });
    }
    let mut sum: i64 = clients.join_all().await.into_iter().sum();
    for (secret, limit) in &keys {
        sum += spend_the_rest(&nodes, secret, bound).await;
        let spent = told(&nodes[0], secret).await;
        assert!(spent.0 <= *limit, "{spent:?} of {limit}");
        for node in &nodes {
            assert_eq!(told(node, secret).await, spent);
        }
    }
    assert_eq!(sum, 200 * COST, "the budget is spent to the brim");
    let [spent, held, entries, holds] = world.books().await;
    assert_eq!((spent, held, holds), (entries, 0, 0));
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let deadlocks: i64 = world.client().await.query_one(deadlocks, &[]).await.unwrap().get(0);
    assert_eq!(deadlocks, 0, "rows are locked in one order");
}

/// The generations that were answered, each with its cost.
type Answers = Arc<Mutex<HashMap<String, i64>>>;

/// Clients that call one after another, until they are told to end or lose their node.
struct Load {
    clients: JoinSet<()>,
    answers: Answers,
    ended: Arc<AtomicBool>,
}

/// Whether a client may lose its node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nodes {
    Stay,
    Die,
}

impl Load {
    /// This many clients, spread over the nodes.
    fn start(clients: usize, nodes: &[&ServerProcess], fate: Nodes, secret: &str, answers: &Answers) -> Self {
        let mut load = Self { clients: JoinSet::new(), answers: Arc::clone(answers), ended: Arc::default() };
        for node in nodes.iter().cycle().take(clients) {
            let (answers, ended) = (Arc::clone(answers), Arc::clone(&load.ended));
            load.clients.spawn(hammer(node.client(secret), fate, answers, ended));
        }
        load
    }

    /// Waits for this many more answers.
    async fn answered(&self, more: usize) {
        let (before, deadline) = (self.answers.lock().len(), Instant::now() + Duration::from_mins(1));
        while self.answers.lock().len() < before + more {
            assert!(Instant::now() < deadline, "{} of {more} answers", self.answers.lock().len() - before);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Every call that was begun has its answer, or lost its node.
    async fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        let all = tokio::time::timeout(Duration::from_mins(1), self.clients.join_all()).await;
        assert!(all.is_ok(), "a call has no answer");
    }
}

async fn hammer(client: Client, fate: Nodes, answers: Answers, ended: Arc<AtomicBool>) {
    while !ended.load(Ordering::Relaxed) {
        let answer = match client.chat(call()).await {
            Ok(answer) => answer,
            Err(error) => {
                assert!(fate == Nodes::Die, "{error}");
                return;
            }
        };
        let body = body(&answer);
        // Where it cannot be settled at once, an answer comes without its cost.
        if answer.status == 200 && body["usage"]["cost"].is_number() {
            let id = body["id"].as_str().unwrap().to_owned();
            assert!(answers.lock().insert(id, nanos(&body["usage"]["cost"])).is_none(), "an id was given twice");
        }
        assert!([200, 503].contains(&answer.status.as_u16()), "{}: {body}", answer.status);
    }
}

/// Waits until nothing is held, and checks every answer against the ledger and the entries against the balances.
async fn settle_down(world: &World, node: &ServerProcess, secret: &str, answers: &HashMap<String, i64>) {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let key = node.client(secret).current_key().await;
        if key.is_ok_and(|key| key.limit_held.is_some_and(|held| held.0.nanos() == 0)) {
            break;
        }
        assert!(Instant::now() < deadline, "held for ever: {:?}", told(node, secret).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let client = node.client(secret);
    for (id, cost) in answers {
        let found = client.raw(http::Method::GET, &format!("/api/v1/generation?id={id}"), None).await.unwrap();
        assert_eq!(found.status, 200, "{id} was answered and is not in the ledger");
        let found = body(&found);
        assert_eq!(nanos(&found["data"]["total_cost"]), *cost, "{found}");
    }
    let [spent, held, entries, holds] = world.books().await;
    assert_eq!((spent, held, holds), (entries, 0, 0), "entries sum to balances");
    let sum: i64 = answers.values().sum();
    assert!(spent >= sum, "{spent} spent, {sum} answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_killed_under_load_and_nothing_that_was_answered_is_lost() {
    let world = World::new().await;
    let mut nodes = Vec::from(world.three());
    let (secret, _) = create_key(&nodes[0], 1_000_000_000).await;
    let answers = Answers::default();
    for round in 0..6 {
        let load = Load::start(24, &nodes.iter().collect::<Vec<_>>(), Nodes::Die, &secret, &answers);
        load.answered(SOME).await;
        let victim = round % 3;
        nodes.remove(victim).kill();
        load.answered(SOME).await;
        nodes.insert(victim, world.node(["a", "b", "c"][victim]));
        load.end().await;
    }
    let answers = answers.lock().clone();
    settle_down(&world, &nodes[0], &secret, &answers).await;
    let Lost { all, not_at_their_hold, late } = world.lost().await;
    assert!(all > 0, "whoever was killed had calls in flight");
    assert_eq!((not_at_their_hold, late), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_given_up_because_the_database_was_away_for_longer_than_a_lease() {
    let world = World::new().await;
    let nodes = world.three();
    let (secret, _) = create_key(&nodes[0], 1_000_000).await;
    let mut calls = Vec::new();
    for node in &nodes {
        assert_eq!(status(node, &secret).await, 200);
        calls.push(world.held(node, &secret).await);
    }
    // Everybody has seen everybody; and whoever looks first afterwards has just seen how far the others are.
    let seen = world.beats().await;
    renewed(&world, &seen).await;
    let first = world.beats().await.into_iter().min().unwrap();
    renewed(&world, &HashMap::from([first])).await;
    let before = world.beats().await;
    world.cluster.stop(Stop::Immediate);
    tokio::time::sleep(Duration::from_secs(45)).await;
    world.cluster.restart();
    renewed(&world, &before).await;
    world.provider.release();
    let mut answers = HashMap::new();
    for call in calls {
        let answer = body(&call.await.unwrap());
        answers.insert(answer["id"].as_str().unwrap().to_owned(), nanos(&answer["usage"]["cost"]));
    }
    settle_down(&world, &nodes[0], &secret, &answers).await;
    assert_eq!(world.lost().await, Lost { all: 0, not_at_their_hold: 0, late: 0 });
    let (lives, now): (Vec<_>, _) = (before.keys().collect(), world.beats().await);
    assert!(lives.iter().all(|life| now.contains_key(life)), "{before:?}, {now:?}");
}

/// Waits until each of these nodes has renewed its lease, or is no more.
async fn renewed(world: &World, before: &HashMap<i64, i64>) {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let now = world.beats().await;
        if before.iter().all(|(life, beats)| now.get(life).is_none_or(|now| now > beats)) {
            return;
        }
        assert!(Instant::now() < deadline, "{before:?}, {now:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_cut_off_stopped_and_killed_under_load_and_the_nodes_come_back_by_themselves() {
    let world = World::new().await;
    let nodes = world.three();
    let (secret, _) = create_key(&nodes[0], 1_000_000_000).await;
    let answers = Answers::default();
    for round in 0..4 {
        let load = Load::start(24, &nodes.each_ref(), Nodes::Stay, &secret, &answers);
        load.answered(SOME).await;
        match round {
            0 => assert!(world.cluster.cut_connections().await > 0),
            1 => {
                world.cluster.stop(Stop::Immediate);
                world.cluster.restart();
            }
            2 => {
                world.cluster.stop(Stop::Fast);
                world.cluster.restart();
            }
            _ => {
                world.cluster.kill9();
                world.cluster.restart();
            }
        }
        load.answered(SOME).await;
        load.end().await;
        for node in &nodes {
            let deadline = Instant::now() + Duration::from_secs(30);
            while status(node, &secret).await != 200 {
                assert!(Instant::now() < deadline, "round {round}: it does not come back");
            }
        }
    }
    let answers = answers.lock().clone();
    settle_down(&world, &nodes[0], &secret, &answers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_lost_refuse_nobody() {
    let world = World::new().await;
    let node = world.node("a");
    let (secret, _) = create_key(&node, 1_000_000).await;
    assert_eq!(status(&node, &secret).await, 200);
    for _ in 0..5 {
        // In the middle of a batch: it waits for a row that somebody else has.
        let other = world.client().await;
        other.batch_execute("BEGIN; SELECT FROM balances FOR UPDATE").await.unwrap();
        let cut = async {
            let db = world.client().await;
            let waiting =
                "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE OF b%'";
            let deadline = Instant::now() + Duration::from_secs(10);
            while db.query(waiting, &[]).await.unwrap().is_empty() {
                assert!(Instant::now() < deadline, "no batch waits for the row");
            }
            drop(db);
            assert!(world.cluster.cut_connections().await > 0);
        };
        let (status, ()) = tokio::join!(status(&node, &secret), cut);
        assert_eq!(status, 200, "it is tried again");
    }
    settle_down(&world, &node, &secret, &HashMap::new()).await;
    assert_eq!(world.books().await[0], 6 * COST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_from_the_database_refuses_and_the_others_go_on() {
    let world = World::new().await;
    let link = Link::to(world.cluster.address()).await;
    let config = world.config("cut", link.address());
    let cut = ServerProcess::start(&tollgate_binary(), &config, &environment());
    let other = world.node("other");
    let (secret, _) = create_key(&other, 1_000_000).await;
    assert_eq!((status(&cut, &secret).await, status(&other, &secret).await), (200, 200));
    let calls = world.provider.calls();
    for silent in [false, true] {
        if silent {
            link.stall();
        } else {
            link.cut();
        }
        assert_eq!(status(&cut, &secret).await, 503, "no ledger, no call");
        assert_eq!(status(&other, &secret).await, 200);
        link.heal();
        let deadline = Instant::now() + Duration::from_secs(40);
        while status(&cut, &secret).await != 200 {
            assert!(Instant::now() < deadline, "it does not come back");
        }
    }
    assert_eq!(world.provider.calls(), calls + 4, "what was refused was not sent");
    settle_down(&world, &other, &secret, &HashMap::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stands_still_holds_the_others_up_for_seconds_only_and_is_given_up() {
    let world = World::new().await;
    let [stopped, other, _third] = world.three();
    let (secret, _) = create_key(&other, 1_000_000_000).await;
    let answers = Answers::default();
    let pid = Pid::from_raw(i32::try_from(stopped.id()).unwrap()).unwrap();
    for _ in 0..5 {
        let load = Load::start(16, &[&stopped, &other], Nodes::Stay, &secret, &answers);
        load.answered(SOME).await;
        kill_process(pid, Signal::STOP).unwrap();
        let since = Instant::now();
        assert_eq!(status(&other, &secret).await, 200);
        assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
        kill_process(pid, Signal::CONT).unwrap();
        load.answered(SOME).await;
        load.end().await;
    }
    // Long enough to be given up; it goes on as another node, and its call is charged at what it cost, once.
    let mut answers = answers.lock().clone();
    let call = world.held(&stopped, &secret).await;
    let before = world.lost().await;
    kill_process(pid, Signal::STOP).unwrap();
    let given_up = Lost { all: before.all + 1, ..before };
    let deadline = Instant::now() + Duration::from_secs(90);
    while world.lost().await != given_up {
        assert!(Instant::now() < deadline, "it is not given up: {:?}", world.lost().await);
        assert_eq!(status(&other, &secret).await, 200);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    kill_process(pid, Signal::CONT).unwrap();
    world.provider.release();
    let answer = body(&call.await.unwrap());
    answers.insert(answer["id"].as_str().unwrap().to_owned(), nanos(&answer["usage"]["cost"]));
    let deadline = Instant::now() + Duration::from_secs(20);
    while status(&stopped, &secret).await != 200 {
        assert!(Instant::now() < deadline, "it does not come back");
    }
    settle_down(&world, &stopped, &secret, &answers).await;
    assert_eq!(world.lost().await, Lost { late: given_up.late + 1, ..given_up });
}
