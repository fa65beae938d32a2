//! What an operator does with a ledger: look whether it adds up, copy it, go back to a copy, move it; and what a disk does to it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::postgres::{Cluster, Options};
use testkit::{Provider, Script, ServerProcess, free_folder, nanos, tollgate_binary};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};
use tollgate_client::Client;
use tollgate_wire::CreateKey;

use crate::crashes::{MANAGEMENT_KEY, environment, write_config};

/// What the scripted answer costs, in nano-dollars.
const COST: i64 = 60;

struct World {
    folder: TempDir,
    config: PathBuf,
    _provider: Provider,
}

impl World {
    async fn new() -> Self {
        let folder = free_folder();
        let provider = Provider::start().await;
        provider.script(Script::Answer { prompt: 10, completion: 5 });
        let config = write_config(folder.path(), &provider, "power");
        Self { folder, config, _provider: provider }
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("tollgate.db")
    }

    fn start(&self) -> ServerProcess {
        ServerProcess::start(&tollgate_binary(), &self.config, &environment())
    }

    /// Runs a command on the database of the configuration.
    fn run(&self, arguments: &[&str]) -> Run {
        run(&self.config, arguments)
    }
}

#[derive(Debug)]
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

fn run(config: &Path, arguments: &[&str]) -> Run {
    let mut command = Command::new(tollgate_binary());
    command.args(arguments).arg("--config").arg(config).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
}

async fn create_key(server: &ServerProcess) -> (String, String) {
    let request: CreateKey = serde_json::from_value(json!({"name": "k", "limit": 1})).unwrap();
    let created = server.client(MANAGEMENT_KEY).create_key(&request).await.unwrap();
    (created.key, created.data.hash)
}

async fn call(client: &Client) -> u16 {
    let body = json!({"model": "test/priced", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    client.chat(body.to_string().into_bytes()).await.unwrap().status.as_u16()
}

async fn usage(server: &ServerProcess, hash: &str) -> i64 {
    server.client(MANAGEMENT_KEY).key(hash).await.unwrap().usage.0.nanos()
}

fn stop(server: ServerProcess) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(server.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    server.wait();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_finds_what_does_not_add_up_and_writes_it_anew() {
    let world = World::new().await;
    let server = world.start();
    let (secret, hash) = create_key(&server).await;
    for _ in 0..3 {
        assert_eq!(call(&server.client(&secret)).await, 200);
    }
    let sound = world.run(&["doctor"]);
    assert_eq!(sound.code, 0, "{sound:?}");
    assert!(sound.stdout.starts_with("3 generations, 0 corrections, "), "{sound:?}");
    assert!(sound.stdout.contains("charged $0.00000018 in credits"), "{sound:?}");
    stop(server);
    let forge = "UPDATE balances SET spent = spent - 60 WHERE scope = 'key' AND span IN ('lifetime', 'daily')";
    assert_eq!(Connection::open(world.database()).unwrap().execute(forge, []).unwrap(), 4);
    let found = world.run(&["doctor", "--json"]);
    assert_eq!(found.code, 1, "{found:?}");
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    let lines = found["data"]["findings"].as_array().unwrap();
    let told: Vec<_> = lines.iter().map(|line| (&line["of"], &line["expected"], &line["found"])).collect();
    let (right, forged) = (json!("0.00000018"), json!("0.00000012"));
    let of = [json!("credits, lifetime"), json!("credits, daily"), json!("byok, lifetime"), json!("byok, daily")];
    assert!(told.contains(&(&of[0], &right, &forged)) && told.contains(&(&of[1], &right, &forged)), "{told:?}");
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!(world.run(&["doctor", "--repair"]).code, 0);
    assert_eq!(world.run(&["doctor"]).code, 0);
    let server = world.start();
    assert_eq!(usage(&server, &hash).await, 3 * COST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_ends_what_nobody_owns_and_sums_the_hours_anew() {
    let world = World::new().await;
    let server = world.start();
    let (secret, hash) = create_key(&server).await;
    for _ in 0..3 {
        assert_eq!(call(&server.client(&secret)).await, 200);
    }
    stop(server);
    let db = Connection::open(world.database()).unwrap();
    // As if a start had overlooked the first call, and a fold had counted twice.
    assert_eq!(db.execute("DELETE FROM settlements WHERE row = 1", []).unwrap(), 1);
    assert_eq!(db.execute("UPDATE meta SET value = 2 WHERE name = 'low_row'", []).unwrap(), 1);
    assert_eq!(db.execute("UPDATE rollups SET requests = requests + 1, credits = credits + 7", []).unwrap(), 1);
    let held: i64 = db.query_row("SELECT credits FROM reservations WHERE row = 1", [], |row| row.get(0)).unwrap();
    drop(db);
    let found = world.run(&["doctor", "--json"]);
    assert_eq!(found.code, 1, "{found:?}");
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    let whats: Vec<_> = found["data"]["findings"].as_array().unwrap().iter().map(|line| &line["what"]).collect();
    assert!(["in flight", "hourly sums", "spent"].iter().all(|what| whats.contains(&&json!(what))), "{whats:?}");
    let mended = world.run(&["doctor", "--repair"]);
    assert_eq!(mended.code, 0, "{mended:?}");
    assert_eq!(world.run(&["doctor"]).code, 0);
    let db = Connection::open(world.database()).unwrap();
    let sums = "SELECT sum(requests), sum(credits) FROM rollups";
    let sums: (i64, i64) = db.query_row(sums, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(sums, (3, 2 * COST + held));
    drop(db);
    let server = world.start();
    assert_eq!(usage(&server, &hash).await, 2 * COST + held, "the call is lost, and charged at its hold");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_puts_right_what_nodes_share_while_they_are_at_work() {
    let world = World::new().await;
    let cluster = Cluster::start(Options { fsync: true, ..Options::default() });
    let text = std::fs::read_to_string(&world.config).unwrap();
    let text = text.replace(&format!("sqlite://{}", world.database().display()), &cluster.url());
    std::fs::write(&world.config, text).unwrap();
    let server = world.start();
    let (secret, hash) = create_key(&server).await;
    let client = server.client(&secret);
    for _ in 0..3 {
        assert_eq!(call(&client).await, 200);
    }
    let (db, connection) = tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await.unwrap();
    let mut helpers = JoinSet::new();
    helpers.spawn(async move { connection.await.unwrap() });
    let forge = "UPDATE balances SET spent[1] = spent[1] - 60 WHERE scope = 'key' AND node = 0";
    assert_eq!(db.execute(forge, &[]).await.unwrap(), 1);
    let forge = "UPDATE balances SET held[2] = held[2] + 5 WHERE scope = 'key' AND node = 0";
    assert_eq!(db.execute(forge, &[]).await.unwrap(), 1);
    let forge = "UPDATE rollups SET requests = requests + 1, credits = credits + 7";
    assert_eq!(db.execute(forge, &[]).await.unwrap(), 1);
    let stopped = Arc::new(Mutex::new(false));
    let (until, busy) = (Arc::clone(&stopped), client.clone());
    let calls = async move {
        let mut calls = 0;
        while !*until.lock() {
            assert_eq!(call(&busy).await, 200);
            calls += 1;
        }
        calls
    };
    let doctor = async {
        let run = |arguments: &'static [&str]| {
            let config = world.config.clone();
            async move { tokio::task::spawn_blocking(move || run(&config, arguments)).await.unwrap() }
        };
        let found = run(&["doctor", "--json"]).await;
        let mended = run(&["doctor", "--repair"]).await;
        *stopped.lock() = true;
        (found, mended)
    };
    let (calls, (found, mended)) = tokio::join!(calls, doctor);
    assert_eq!(found.code, 1, "{found:?}");
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    let told: Vec<_> =
        found["data"]["findings"].as_array().unwrap().iter().map(|it| (&it["what"], &it["of"])).collect();
    let (spent, held, hours) = (json!("spent"), json!("held"), json!("hourly sums"));
    let (lifetime, daily) = (json!("credits, lifetime"), json!("credits, daily"));
    assert_eq!(told, [(&spent, &lifetime), (&held, &daily), (&hours, &json!("credits"))]);
    assert_eq!(mended.code, 0, "{mended:?}");
    assert!(calls > 0);
    assert_eq!(world.run(&["doctor"]).code, 0);
    assert_eq!(usage(&server, &hash).await, (3 + calls) * COST);
    drop(db);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_the_same_name_waits_for_nobody_and_removes_nothing() {
    let world = World::new().await;
    let server = world.start();
    let copy = world.folder.path().join("copy.db");
    let draft = world.folder.path().join("copy.db.part");
    std::fs::write(&draft, "of another").unwrap();
    let refused = world.run(&["backup", copy.to_str().unwrap()]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("copy.db.part"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&draft).unwrap(), "of another");
    std::fs::remove_file(&draft).unwrap();
    assert_eq!(world.run(&["backup", copy.to_str().unwrap()]).code, 0);
    assert!(!draft.exists());
    stop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_made_under_load_and_opens_closed_until_what_was_spent_since_is_accepted() {
    let world = World::new().await;
    let server = world.start();
    let (secret, hash) = create_key(&server).await;
    let (client, stopped) = (server.client(&secret), Arc::new(Mutex::new(false)));
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let (client, stopped) = (client.clone(), Arc::clone(&stopped));
        clients.spawn(async move {
            let mut calls = 0;
            while !*stopped.lock() {
                assert_eq!(call(&client).await, 200);
                calls += 1;
            }
            calls
        });
    }
    while usage(&server, &hash).await < 200 * COST {
        tokio::task::yield_now().await;
    }
    let backup = world.folder.path().join("backup.db");
    let path = backup.to_str().unwrap();
    let made = world.run(&["backup", path]);
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    assert_ne!(world.run(&["backup", path]).code, 0, "what is there is not overwritten");
    *stopped.lock() = true;
    let calls: i64 = clients.join_all().await.into_iter().sum();
    assert_eq!(usage(&server, &hash).await, calls * COST, "nothing was lost meanwhile");
    stop(server);
    assert_eq!(world.run(&["doctor"]).code, 0);

    assert_eq!(world.run(&["restore", path]).code, 1, "the database is still in its place");
    let kept = free_folder();
    for entry in std::fs::read_dir(world.folder.path()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str().unwrap().starts_with("tollgate.db") && !entry.path().ends_with("tollgate.db.key")
        {
            std::fs::rename(entry.path(), kept.path().join(entry.file_name())).unwrap();
        }
    }
    let restored = world.run(&["restore", path]);
    assert_eq!(restored.code, 0, "{restored:?}");
    let server = world.start();
    assert_eq!(call(&server.client(&secret)).await, 503, "nobody knows what was spent since");
    let then = usage(&server, &hash).await;
    // What was in flight when the last page was copied is charged at its hold.
    assert!(then >= 200 * COST, "{then}");
    let entered = world.run(&["restore", "--spent", &format!("{hash}=0.0000006")]);
    assert_eq!(entered.code, 0, "{entered:?}");
    assert_eq!(usage(&server, &hash).await, then + 600);
    assert_eq!(call(&server.client(&secret)).await, 503, "that may not have been all");
    assert_eq!(world.run(&["restore", "--accept"]).code, 0);
    assert_eq!(call(&server.client(&secret)).await, 200);
    assert_eq!(world.run(&["doctor"]).code, 0);
    stop(server);
    let server = world.start();
    assert_eq!(call(&server.client(&secret)).await, 200, "it stays open");
    assert_eq!(usage(&server, &hash).await, then + 600 + 2 * COST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_copied_while_a_server_ran_is_refused() {
    let world = World::new().await;
    let server = world.start();
    let (secret, _) = create_key(&server).await;
    assert_eq!(call(&server.client(&secret)).await, 200);
    let other = World::new().await;
    std::fs::copy(world.database(), other.database()).unwrap();
    let refused = other.run(&["doctor"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("copied while a server was running"), "{refused:?}");
    let refused = other.run(&["restore", world.database().to_str().unwrap()]);
    assert_eq!(refused.code, 1, "{refused:?}");
    server.kill();
    assert_eq!(world.run(&["doctor"]).code, 0, "the original is whole, also after a crash");
    let accepted = other.run(&["doctor", "--accept-copy"]);
    assert_eq!(accepted.code, 0, "{accepted:?}");
    let server = other.start();
    let (secret, _) = create_key(&server).await;
    assert_eq!(call(&server.client(&secret)).await, 503, "nobody knows what is missing in it");
    assert_eq!(other.run(&["restore", "--accept"]).code, 0);
    assert_eq!(call(&server.client(&secret)).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_put_back_over_the_original_is_refused() {
    let world = World::new().await;
    let server = world.start();
    let (secret, _) = create_key(&server).await;
    let kept = world.folder.path().join("kept.db");
    std::fs::copy(world.database(), &kept).unwrap();
    server.kill();
    let server = world.start();
    assert_eq!(call(&server.client(&secret)).await, 200, "a crash leaves no copy");
    server.kill();
    // Into the same file: it keeps its number.
    let copied = std::fs::read(&kept).unwrap();
    std::fs::write(world.database(), copied).unwrap();
    let refused = world.run(&["doctor"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("copied while a server was running"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_reported_and_left_as_it_is() {
    let world = World::new().await;
    let server = world.start();
    let (secret, _) = create_key(&server).await;
    for _ in 0..20 {
        assert_eq!(call(&server.client(&secret)).await, 200);
    }
    stop(server);
    let mut bytes = std::fs::read(world.database()).unwrap();
    // Everything behind the first pages, which hold the schema.
    for byte in bytes.iter_mut().skip(40 * 4096).step_by(97) {
        *byte ^= 0xa5;
    }
    std::fs::write(world.database(), &bytes).unwrap();
    let reported = world.run(&["doctor"]);
    assert_eq!(reported.code, 1, "{reported:?}");
    let told = format!("{}{}", reported.stdout, reported.stderr);
    assert!(told.contains("damaged") || told.contains("malformed"), "{reported:?}");
    assert!(told.contains("restore"), "what to do now: {reported:?}");
    for command in [&["serve"][..], &["backup", world.folder.path().join("b.db").to_str().unwrap()]] {
        let refused = world.run(command);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("damaged"), "{refused:?}");
    }
    assert!(std::fs::read(world.database()).unwrap() == bytes, "it is not overwritten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_not_called_a_backup() {
    let world = World::new().await;
    let server = world.start();
    let (secret, _) = create_key(&server).await;
    for _ in 0..20 {
        assert_eq!(call(&server.client(&secret)).await, 200);
    }
    stop(server);
    let db = rusqlite::Connection::open(world.database()).unwrap();
    let page = "SELECT rootpage FROM sqlite_schema WHERE name = 'settlements'";
    let page: i64 = db.query_row(page, [], |row| row.get(0)).unwrap();
    drop(db);
    let place = u64::try_from(page - 1).unwrap() * 4096;
    let file = std::fs::OpenOptions::new().write(true).open(world.database()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 64], place).unwrap();
    // Nobody reads old entries at a start.
    let copy = world.folder.path().join("copy.db");
    let refused = world.run(&["backup", copy.to_str().unwrap()]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("damaged"), "{refused:?}");
    assert!(!copy.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_calls_and_loses_nothing() {
    let world = World::new().await;
    let mount = world.folder.path().join("small");
    std::fs::create_dir(&mount).unwrap();
    let text = std::fs::read_to_string(&world.config).unwrap();
    let text = text.replace(world.database().to_str().unwrap(), mount.join("tollgate.db").to_str().unwrap());
    std::fs::write(&world.config, text).unwrap();
    // In a mount namespace of its own, so that nothing is left behind.
    let script = world.folder.path().join("serve.sh");
    let serve = format!(
        "#!/bin/sh\nexec unshare --mount --map-root-user \
         sh -c 'mount -t tmpfs -o size=2m none {} && exec {} \"$@\"' sh \"$@\"\n",
        mount.display(),
        tollgate_binary().display(),
    );
    std::fs::write(&script, serve).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = ServerProcess::start(&script, &world.config, &environment());
    let (secret, hash) = create_key(&server).await;
    let client = server.client(&secret);
    assert_eq!(call(&client).await, 200);
    let filler = format!("/proc/{}/root{}/filler", server.id(), mount.display());
    let mut file = std::fs::File::create(&filler).unwrap();
    while std::io::Write::write(&mut file, &[0; 512]).is_ok_and(|written| written > 0) {}
    let mut answered = 1;
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        match call(&client).await {
            200 => answered += 1,
            503 => break,
            other => panic!("{other}"),
        }
        assert!(Instant::now() < deadline, "the disk does not fill up");
    }
    assert_eq!(call(&client).await, 503, "no ledger, no call");
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    while call(&client).await != 200 {
        assert!(Instant::now() < deadline, "it does not come back");
    }
    answered += 1;
    let spent = usage(&server, &hash).await;
    // A call whose settlement met the full disk is settled later, at its cost.
    assert!(spent >= answered * COST && spent % COST == 0, "{spent} for {answered}");
    let told = server.client(MANAGEMENT_KEY).key(&hash).await.unwrap();
    assert_eq!(told.limit_held.unwrap().0.nanos(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_moves_to_postgresql_whole() {
    let world = World::new().await;
    let server = world.start();
    let (secret, hash) = create_key(&server).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let body = json!({"model": "test/priced", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
        let answer = server.client(&secret).chat(body.to_string().into_bytes()).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        ids.push((answer["id"].as_str().unwrap().to_owned(), nanos(&answer["usage"]["cost"])));
    }
    let cluster = Cluster::start(Options { fsync: true, ..Options::default() });
    let busy = world.run(&["copy", "--to", &cluster.url()]);
    assert_eq!(busy.code, 5, "a server owns it: {busy:?}");
    stop(server);
    let copied = world.run(&["copy", "--to", &cluster.url()]);
    assert_eq!(copied.code, 0, "{copied:?}");
    let again = world.run(&["copy", "--to", &cluster.url()]);
    assert_eq!(again.code, 1, "it is no longer empty: {again:?}");
    let text = std::fs::read_to_string(&world.config).unwrap();
    let there = text.replace(&format!("sqlite://{}", world.database().display()), &cluster.url());
    let config = world.folder.path().join("there.toml");
    std::fs::write(&config, there).unwrap();
    let key_file = std::fs::read_to_string(world.folder.path().join("tollgate.db.key")).unwrap();
    let environment = [environment(), vec![("TOLLGATE_ENCRYPTION_KEY", key_file.trim())]].concat();
    let server = ServerProcess::start(&tollgate_binary(), &config, &environment);
    assert_eq!(usage(&server, &hash).await, 5 * COST);
    assert_eq!(call(&server.client(&secret)).await, 200, "the same secret opens it");
    for (id, cost) in ids {
        let found =
            server.client(&secret).raw(http::Method::GET, &format!("/api/v1/generation?id={id}"), None).await.unwrap();
        let found: Value = serde_json::from_slice(&found.body).unwrap();
        assert_eq!(nanos(&found["data"]["total_cost"]), cost);
    }
    let audit = server.client(MANAGEMENT_KEY).raw(http::Method::GET, "/api/v1/audit", None).await.unwrap();
    assert!(String::from_utf8(audit.body.to_vec()).unwrap().contains("key.create"));
    assert_eq!(run(&config, &["doctor"]).code, 0);
}
