//! The commands as people and scripts run them: what goes to stdout, what to stderr, and the exit code.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{ServerProcess, free_folder, tollgate_binary};

const MANAGEMENT_KEY: &str = "sk-or-v1-00000000000000000000000000000000000000000000000000000000000000cc";

/// A server with the built-in provider.
struct World {
    folder: TempDir,
    config: PathBuf,
    server: ServerProcess,
}

impl World {
    fn new() -> Self {
        let folder = free_folder();
        let config = config(folder.path(), "");
        let environment = [("TOLLGATE_BOOTSTRAP_MANAGEMENT_KEY", MANAGEMENT_KEY)];
        let server = ServerProcess::start(&tollgate_binary(), &config, &environment);
        Self { folder, config, server }
    }

    /// Runs `tollgate keys …` with the management key in the environment.
    fn keys(&self, arguments: &[&str]) -> Run {
        let arguments = [&["keys", "--url", &self.server.url], arguments].concat();
        run(self.folder.path(), &arguments, &[("TOLLGATE_MANAGEMENT_KEY", MANAGEMENT_KEY)])
    }
}

fn config(folder: &Path, more: &str) -> PathBuf {
    let file = folder.join("tollgate.toml");
    let database = folder.join("tollgate.db");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"sqlite://{}\"\n{more}\n[[providers]]\nslug = \"sim\"\n\
         kind = \"simulated\"\n",
        database.display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

#[derive(Debug)]
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

fn run(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let mut command = Command::new(tollgate_binary());
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command.env_remove("TOLLGATE_MANAGEMENT_KEY").env_remove("TOLLGATE_URL").envs(environment.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
}

#[test]
fn a_created_secret_is_alone_on_stdout_and_a_list_is_for_programs_when_piped() {
    let world = World::new();
    let created = world.keys(&["create", "--name", "ci", "--limit", "5", "--reset", "daily"]);
    assert_eq!(created.code, 0, "{created:?}");
    let secret = created.stdout.strip_suffix('\n').unwrap();
    assert!(secret.len() == 73 && secret.starts_with("sk-or-v1-"), "{created:?}");
    assert!(created.stderr.contains("ci") && !created.stderr.contains(secret), "{created:?}");

    let listed = world.keys(&["list"]);
    let lines: Vec<Vec<&str>> = listed.stdout.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines[0][0], "NAME");
    assert_eq!(lines[1][..7], ["ci", lines[1][1], "0", "0", "5", "$5/day", "daily"]);
    let hash = *lines[1].last().unwrap();
    assert_eq!(hash.len(), 64);
    assert!(!listed.stdout.contains(secret));

    let shown = world.keys(&["show", hash.get(..8).unwrap(), "--json"]);
    let json: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(json["data"]["hash"], hash);
    let shown = world.keys(&["show", "ci"]).stdout;
    assert!(shown.contains("resets   20") && shown.contains("Z, in "), "{shown}");
}

#[test]
fn a_key_can_be_changed_stopped_and_deleted_by_its_name() {
    let world = World::new();
    world.keys(&["create", "--name", "alice"]);
    let state = |run: Run| {
        assert_eq!(run.code, 0, "{run:?}");
        run.stdout.lines().next().unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(state(world.keys(&["update", "alice", "--limit", "0"])), "at");
    assert_eq!(state(world.keys(&["update", "alice", "--limit", "none"])), "active");
    assert_eq!(state(world.keys(&["disable", "alice"])), "disabled");
    assert_eq!(world.keys(&["list"]).stdout.lines().count(), 1, "disabled ones are not shown");
    assert_eq!(state(world.keys(&["enable", "alice"])), "active");
    let calls = |run: Run| {
        assert_eq!(run.code, 0, "{run:?}");
        let line = run.stdout.lines().find_map(|line| line.strip_prefix("calls")).map(str::trim);
        line.unwrap().to_owned()
    };
    world.keys(&["create", "--name", "slow", "--requests-per-minute", "60", "--calls-in-flight-max", "2"]);
    assert_eq!(calls(world.keys(&["show", "slow"])), "60 a minute, 2 at a time");
    assert_eq!(calls(world.keys(&["update", "slow", "--requests-per-minute", "none"])), "2 at a time");
    assert_eq!(calls(world.keys(&["update", "slow", "--calls-in-flight-max", "3"])), "3 at a time");
    assert_eq!(calls(world.keys(&["show", "alice"])), "no limit");
    for wrong in
        [["update", "slow", "--requests-per-minute", "0"], ["create", "--name=x", "--calls-in-flight-max", "0"]]
    {
        let run = world.keys(&wrong);
        assert_eq!(run.code, 2, "{run:?}");
    }
    assert_eq!(world.keys(&["delete", "slow", "--confirm", "slow"]).code, 0);
    let unsure = world.keys(&["delete", "alice"]);
    assert_eq!(unsure.code, 2, "{unsure:?}");
    assert!(unsure.stderr.contains("--confirm alice"), "{unsure:?}");
    assert_eq!(world.keys(&["delete", "alice", "--confirm", "bob"]).code, 2);
    assert_eq!(world.keys(&["delete", "alice", "--confirm", "alice"]).code, 0);
    assert_eq!(world.keys(&["show", "alice"]).code, 3);
}

#[test]
fn every_kind_of_failure_has_its_exit_code_and_says_what_to_do() {
    let world = World::new();
    world.keys(&["create", "--name", "twin"]);
    world.keys(&["create", "--name", "twin"]);
    let folder = world.folder.path();
    let url = world.server.url.clone();
    let nobody = "http://127.0.0.1:1";
    let good = [("TOLLGATE_MANAGEMENT_KEY", MANAGEMENT_KEY)];
    let cases: [(i32, &str, Run); 9] = [
        (1, "name", world.keys(&["create", "--name", ""])),
        (2, "--limit 5", world.keys(&["create", "--name", "a", "--limit", "-1"])),
        (2, "Usage", world.keys(&["crate"])),
        (2, "http://host:port", run(folder, &["keys", "--url", "ftp//", "list"], &good)),
        (3, "keys list --all", world.keys(&["show", "nobody"])),
        (3, "hash", world.keys(&["show", "twin"])),
        (4, "TOLLGATE_MANAGEMENT_KEY", run(folder, &["keys", "--url", &url, "list"], &[])),
        (
            4,
            "management-keys create",
            run(folder, &["keys", "--url", &url, "list"], &[("TOLLGATE_MANAGEMENT_KEY", "x")]),
        ),
        (5, "tollgate serve", run(folder, &["keys", "--url", nobody, "list"], &good)),
    ];
    for (code, says, run) in cases {
        assert_eq!(run.code, code, "{run:?}");
        assert!(run.stderr.starts_with("error: ") && run.stderr.contains(says) && run.stdout.is_empty(), "{run:?}");
        assert!(!run.stderr.contains(MANAGEMENT_KEY), "{run:?}");
    }
}

#[test]
fn a_lost_management_key_is_replaced_while_the_server_runs() {
    let world = World::new();
    let file = world.config.to_str().unwrap();
    let management = |arguments: &[&str]| {
        run(world.folder.path(), &[&["management-keys", "--config", file], arguments].concat(), &[])
    };
    let created = management(&["create", "--name", "spare"]);
    assert_eq!(created.code, 0, "{created:?}");
    let secret = created.stdout.trim_end().to_owned();
    let list = |key: &str| {
        let arguments = ["keys", "--url", &world.server.url, "list"];
        run(world.folder.path(), &arguments, &[("TOLLGATE_MANAGEMENT_KEY", key)]).code
    };
    assert_eq!(list(&secret), 0);
    let listed = management(&["list", "--json"]);
    let json: Value = serde_json::from_str(&listed.stdout).unwrap();
    let first = json["data"][0]["id"].as_i64().unwrap().to_string();
    assert_eq!(json["data"].as_array().unwrap().len(), 2, "{listed:?}");
    assert!(!listed.stdout.contains(&secret));
    assert_eq!(management(&["revoke", &first]).code, 0);
    assert_eq!(management(&["revoke", &first]).code, 3);
    assert_eq!((list(MANAGEMENT_KEY), list(&secret)), (4, 0));
}

#[test]
fn a_wrong_configuration_is_told_by_its_line_and_nothing_starts() {
    let folder = free_folder();
    let file = config(folder.path(), "duribility = \"power\"");
    let file = file.to_str().unwrap();
    for command in [["config", "check"].as_slice(), &["serve"], &["management-keys", "list"]] {
        let arguments = [command, &["--config", file]].concat();
        let wrong = run(folder.path(), &arguments, &[]);
        assert_eq!(wrong.code, 2, "{wrong:?}");
        assert!(wrong.stderr.contains("line 5") && wrong.stderr.contains("duribility"), "{wrong:?}");
    }
    assert!(!folder.path().join("tollgate.db").exists());
    let good = config(folder.path(), "");
    let file = good.to_str().unwrap();
    let changed = [("TOLLGATE_DATABASE__DURABILITY", "process"), ("TOLLGATE_OTHER", "ignored")];
    let printed = run(folder.path(), &["config", "print", "--config", file], &changed);
    assert!(printed.stdout.contains("durability = \"process\""), "{printed:?}");
    let checked = run(folder.path(), &["config", "check", "--config", file], &[]);
    assert_eq!((checked.code, checked.stdout.as_str()), (0, "ok: 1 providers, 0 models\n"));
    let odd = run(folder.path(), &["config", "check", "--config", file], &[("TOLLGATE_DATABASE__DURIBILITY", "x")]);
    assert_eq!(odd.code, 2, "{odd:?}");
}

#[test]
fn the_demo_plays_its_story_and_the_sums_agree() {
    let folder = free_folder();
    let played = run(folder.path(), &["demo", "--once", "--listen", "127.0.0.1:0"], &[]);
    assert_eq!(played.code, 0, "{played:?}");
    let told = |start: &str| played.stdout.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!((told("listening on http://"), told("created key"), told("spent $")), (1, 1, 1), "{played:?}");
    assert!(told("call ") >= 2 && played.stdout.contains("  402  "), "{played:?}");
    assert!(played.stdout.contains("exactly what the answers cost"), "{played:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it leaves nothing behind");
}

#[test]
fn a_rotated_key_keeps_its_row_and_many_keys_come_from_a_file() {
    let world = World::new();
    let first = world.keys(&["create", "--name", "ci", "--limit", "5"]).stdout.trim().to_owned();
    let rotated = world.keys(&["rotate", "ci", "--grace", "1h"]);
    assert_eq!(rotated.code, 0, "{rotated:?}");
    let second = rotated.stdout.trim();
    assert!(second.len() == 73 && second != first, "{rotated:?}");
    assert!(rotated.stderr.contains("works for 1h more") && !rotated.stderr.contains(second), "{rotated:?}");
    assert_eq!(world.keys(&["rotate", "ci", "--grace", "soon"]).code, 2);
    assert_eq!(world.keys(&["rotate", "nobody"]).code, 3);
    let listed = world.keys(&["list"]).stdout;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.contains(&second[..12]) && !listed.contains(second), "{listed}");

    let file = world.folder.path().join("people.csv");
    std::fs::write(&file, "name,limit,limit_reset\nann,5,monthly\n=bob,,\n").unwrap();
    let created = world.keys(&["create", "--from", file.to_str().unwrap()]);
    assert_eq!(created.code, 0, "{created:?}");
    let lines: Vec<&str> = created.stdout.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "name,hash,key"));
    assert!(lines[1].starts_with("ann,") && lines[2].starts_with("'=bob,"), "{created:?}");
    std::fs::write(&file, "name,limit\ncarl,1\ndora,-1\n").unwrap();
    let refused = world.keys(&["create", "--from", file.to_str().unwrap()]);
    assert!(refused.code != 0 && refused.stderr.contains("keys[1]: `limit`"), "{refused:?}");
    assert_eq!(world.keys(&["list"]).stdout.lines().count(), 4, "all or none");
}

#[test]
fn usage_and_credits_say_what_the_server_says() {
    let world = World::new();
    let command = |arguments: &[&str]| {
        let environment = [("TOLLGATE_MANAGEMENT_KEY", MANAGEMENT_KEY), ("TOLLGATE_URL", world.server.url.as_str())];
        run(world.folder.path(), arguments, &environment)
    };
    let shown = command(&["credits", "show"]);
    assert!(shown.stdout.contains("no limit"), "{shown:?}");
    let added = command(&["credits", "add", "12.50", "--note", "November"]);
    assert_eq!(added.stdout, "spent $0 of $12.5, left $12.50\n", "{added:?}");
    assert_eq!(command(&["credits", "add", "much"]).code, 2);
    assert_eq!(command(&["credits", "add", "-5"]).code, 2);
    let json: Value = serde_json::from_str(&command(&["credits", "show", "--json"]).stdout).unwrap();
    assert_eq!(json["data"]["total_credits"].to_string(), "12.5");
    for by in ["key", "model", "day"] {
        let usage = command(&["usage", "--by", by]);
        assert!(usage.code == 0 && usage.stdout.contains("CALLS"), "{usage:?}");
        let csv = command(&["usage", "--by", by, "--csv"]);
        let head = format!("{by},requests,prompt_tokens,completion_tokens,usage_usd,byok_usage_usd\n");
        assert_eq!((csv.code, csv.stdout.as_str()), (0, head.as_str()), "{csv:?}");
    }
}
