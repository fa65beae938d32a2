//! Everything CI does, in Rust: `cargo xtask <task>`.
#![expect(clippy::print_stderr, reason = "a task tells what it does")]

mod arrows;
mod fuzz;
mod openapi;
mod postgres;
mod sdk;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const TASKS: &str = "Tasks
  ci      fmt, clippy, arrows, then test
  test    every test: Rust, the official SDKs and random requests against the release binary, what a call costs in a full database
  arrows  check which crate depends on which
  sdk     only the official SDKs
  openapi only random requests out of the OpenAPI document
  cost    only the counts of what a call costs in an empty and in a full database
  fuzz    every fuzz target for a minute, or for as long as `--seconds N` says; needs cargo-fuzz
  simulate [--seeds N] [--first S] [--steps M] [--engine embedded|nodes|both] [--bug NAME] [--prove]
          only the seeded faults; --help says more";

fn main() -> ExitCode {
    let task = std::env::args().nth(1).unwrap_or_default();
    let done = match task.as_str() {
        "ci" => ci(),
        "test" => test(),
        "arrows" => arrows::check(&root()),
        "sdk" => build().and_then(|()| sdk::check(&root())),
        "openapi" => build().and_then(|()| openapi::check(&root())),
        "cost" => build().and_then(|()| cost()),
        "fuzz" => fuzz::run(&root(), &std::env::args().skip(2).collect::<Vec<_>>()),
        "simulate" => simulate(&std::env::args().skip(2).collect::<Vec<_>>()),
        _ => {
            eprintln!("{TASKS}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn ci() -> Result<()> {
    step("formatting");
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])?;
    step("arrows between crates");
    arrows::check(&root())?;
    step("lints");
    cargo(&["clippy", "--release", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"])?;
    for (tool, arguments) in [("cargo-deny", ["deny", "check"].as_slice()), ("cargo-machete", ["machete"].as_slice())] {
        if installed(tool) {
            step(tool);
            cargo(arguments)?;
        } else {
            eprintln!("{tool} is not installed here; CONTRIBUTING says how to get it");
        }
    }
    test()
}

fn test() -> Result<()> {
    build()?;
    step("official SDKs against the release binary");
    sdk::check(&root())?;
    step("random requests out of the OpenAPI document");
    openapi::check(&root())?;
    step("cost in a full database");
    cost()?;
    step("seeded faults");
    simulations()?;
    step("PostgreSQL's server programs");
    postgres::need()?;
    step("tests");
    // The simulator's clock can be paused: what is tested here has the real one only.
    let mut arguments =
        vec!["--release", "--workspace", "--exclude", "tollgate-simulate", "--locked", "--all-features"];
    if installed("cargo-nextest") {
        arguments.splice(0..0, ["nextest", "run"]);
        arguments.extend(["--no-fail-fast", "--status-level", "fail", "--final-status-level", "fail"]);
    } else {
        eprintln!("cargo-nextest is not installed here; using cargo test");
        arguments.insert(0, "test");
    }
    cargo(&arguments)
}

/// The same seeds each time, then others, a million steps at the least; and every planted bug.
fn simulations() -> Result<()> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    simulate(&words("--first 1 --seeds 120 --steps 3000"))?;
    simulate(&words("--seeds 80 --steps 3000"))?;
    simulate(&words("--first 1 --seeds 3 --steps 3000 --twice"))?;
    simulate(&words("--prove --steps 3000"))
}

fn simulate(arguments: &[String]) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(["run", "--release", "--locked", "--quiet", "--package", "tollgate-simulate", "--"]).args(arguments);
    run(&mut command)
}

/// Counts instructions and system calls; installs valgrind and strace with apt-get if they are missing.
fn cost() -> Result<()> {
    run(Command::new("python3").arg("bench/cost.py"))
}

/// The binaries that the end-to-end tests drive.
fn build() -> Result<()> {
    step("release build");
    cargo(&[
        "build",
        "--release",
        "--locked",
        "--all-features",
        "--bins",
        "-p",
        "tollgate-cli",
        "-p",
        "tollgate-testkit",
        "-p",
        "bench-upstream",
    ])
}

fn step(name: &str) {
    eprintln!("\n== {name}");
}

fn installed(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    run(Command::new("cargo").args(arguments))
}

/// Runs a command in the project's folder.
fn run(command: &mut Command) -> Result<()> {
    let status = command.current_dir(root()).status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
