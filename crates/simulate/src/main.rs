//! Drives both storage engines and the data path through seeded faults and checks the ledger's promises after every step.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program that reports")]
#![expect(clippy::cast_precision_loss, reason = "times and rates are only printed")]

mod acts;
mod bugs;
mod core;
mod data;
mod embedded;
mod oracle;
mod plan;
mod process;
mod provider;
mod rng;
mod rules;
mod seam;
mod server;
mod sim;
mod sqlite;
mod tables;
mod watched;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::bugs::{BUGS, Bug};
use crate::plan::{EngineKind, FAULTS, Fault};
use crate::sim::{Recipe, Report, run};

/// Drives both storage engines through seeded faults.
#[derive(Parser, Debug)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them; drawn where it is not given.
    #[arg(long)]
    first: Option<u64>,
    /// Steps of each run.
    #[arg(long, default_value_t = 5_000)]
    steps: u64,
    /// `embedded`, `nodes` or `both`.
    #[arg(long, default_value = "both")]
    engine: String,
    /// A planted bug.
    #[arg(long)]
    bug: Option<String>,
    /// Kinds of faults to leave out, by commas.
    #[arg(long, default_value = "")]
    without: String,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Finds every planted bug.
    #[arg(long)]
    prove: bool,
    /// Prints all events of a run that fails.
    #[arg(long)]
    events: bool,
    /// Runs each seed twice and compares.
    #[arg(long)]
    twice: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.prove {
        return prove(&arguments);
    }
    let Some(recipes) = recipes(&arguments) else {
        eprintln!("unknown engine, bug or fault");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let (steps, counts, found) = all(&arguments, &recipes);
    let seconds = began.elapsed().as_secs_f64();
    println!("{steps} steps in {seconds:.1} s, {:.0} a second", steps as f64 / seconds);
    for (kind, count) in &counts {
        print!("{kind} {count}  ");
    }
    println!();
    match found {
        None => ExitCode::SUCCESS,
        Some((recipe, report)) => {
            explain(&recipe, &report);
            ExitCode::FAILURE
        }
    }
}

/// A recipe of each engine that is asked for, without its seed.
fn recipes(arguments: &Arguments) -> Option<Vec<Recipe>> {
    let bug = match &arguments.bug {
        None => None,
        Some(word) => Some(bugs::named(word)?),
    };
    let engines = match (arguments.engine.as_str(), bug) {
        (_, Some((_, engine))) => vec![engine],
        ("embedded", None) => vec![EngineKind::Embedded],
        ("nodes", None) => vec![EngineKind::Nodes],
        ("both", None) => vec![EngineKind::Nodes, EngineKind::Embedded],
        _ => return None,
    };
    let words = arguments.without.split(',').filter(|word| !word.is_empty());
    let fault = |word| FAULTS.into_iter().find(|(_, name)| *name == word).map(|(fault, _)| fault);
    let without: Vec<Fault> = words.map(fault).collect::<Option<_>>()?;
    let recipe = |engine| Recipe {
        seed: 0,
        steps: arguments.steps,
        engine,
        bug: bug.map(|(bug, _)| bug),
        without: without.clone(),
        told: arguments.events,
    };
    Some(engines.into_iter().map(recipe).collect())
}

fn first(arguments: &Arguments) -> u64 {
    arguments.first.unwrap_or_else(|| {
        let random = uuid::Uuid::new_v4().as_u64_pair().0 % 1_000_000_000_000;
        println!("first seed {random}");
        random
    })
}

type Found = Option<(Recipe, Report)>;
type Counts = BTreeMap<&'static str, u64>;

/// Runs all seeds, until one breaks a promise.
fn all(arguments: &Arguments, recipes: &[Recipe]) -> (u64, Counts, Found) {
    let first = first(arguments);
    let (next, steps) = (AtomicU64::new(0), AtomicU64::new(0));
    let counts: Mutex<Counts> = Mutex::default();
    let found: Mutex<Found> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.seeds || found.lock().is_some() {
                        return;
                    }
                    let seed = first.wrapping_add(number);
                    for recipe in recipes {
                        let recipe = Recipe { seed, ..recipe.clone() };
                        let mut report = run(&recipe);
                        steps.fetch_add(report.steps, Ordering::Relaxed);
                        for (kind, count) in &report.counts {
                            *counts.lock().entry(kind).or_default() += count;
                        }
                        if arguments.twice && report.broken.is_none() {
                            let again = run(&recipe);
                            if (again.hash, again.steps) != (report.hash, report.steps) {
                                let what = format!("{} and {} steps", report.steps, again.steps);
                                report.broken = Some(oracle::Broken { promise: "a seed is a run", what });
                            }
                        }
                        if report.broken.is_some() {
                            found.lock().get_or_insert((recipe, report));
                            return;
                        }
                    }
                }
            });
        }
    });
    (steps.into_inner(), counts.into_inner(), found.into_inner())
}

/// Events that are printed.
const LINES: usize = 50;

/// Makes a failing run shorter, and prints it.
fn explain(recipe: &Recipe, report: &Report) {
    let Some(broken) = &report.broken else { return };
    println!("\nseed {}, step {}: {}: {}", recipe.seed, report.steps, broken.promise, broken.what);
    let mut best = Recipe { steps: report.steps.min(recipe.steps), ..recipe.clone() };
    let fails = |recipe: &Recipe| {
        let report = run(recipe);
        report.broken.as_ref().is_some_and(|it| it.promise == broken.promise).then_some(report)
    };
    for (fault, _) in FAULTS {
        if best.without.contains(&fault) {
            continue;
        }
        let mut fewer = best.clone();
        fewer.without.push(fault);
        fewer.steps = recipe.steps;
        if let Some(report) = fails(&fewer) {
            fewer.steps = report.steps.min(recipe.steps);
            best = fewer;
        }
    }
    let told = run(&Recipe { told: true, ..best.clone() });
    let without: Vec<&str> =
        FAULTS.into_iter().filter(|(fault, _)| best.without.contains(fault)).map(|(_, word)| word).collect();
    println!("\nwithout {}:", if without.is_empty() { "nothing".to_owned() } else { without.join(", ") });
    let what = told.broken.as_ref().map_or("", |it| &it.what);
    // The generation that it is about, if it is about one.
    let row = what.split("generation ").nth(1).map(|rest| rest.chars().take_while(char::is_ascii_digit).collect());
    let row: String = row.unwrap_or_default();
    let recent = told.last.len().saturating_sub(LINES);
    let whole = recipe.told;
    for (place, line) in told.last.iter().enumerate() {
        if place >= recent || (!row.is_empty() && line.contains(&row)) || whole {
            println!("{line}");
        }
    }
    if let Some(broken) = &told.broken {
        println!("{}: {}", broken.promise, broken.what);
    }
    let engine = if best.engine == EngineKind::Nodes { "nodes" } else { "embedded" };
    let bug = BUGS.into_iter().find(|(bug, ..)| Some(*bug) == best.bug).map(|(_, word, _)| format!(" --bug {word}"));
    println!(
        "\ncargo xtask simulate --engine {engine} --first {} --seeds 1 --steps {} --without '{}'{}",
        best.seed,
        best.steps,
        without.join(","),
        bug.unwrap_or_default()
    );
}

/// Plants each bug, and looks until it is found.
fn prove(arguments: &Arguments) -> ExitCode {
    let first = arguments.first.unwrap_or(1);
    let next = AtomicU64::new(0);
    let rows: Mutex<Vec<(usize, String)>> = Mutex::new(Vec::new());
    let missed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let place = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
                    let Some((bug, word, engine)) = BUGS.get(place).copied() else { return };
                    let row = hunt(bug, word, engine, first, arguments);
                    if row.is_none() {
                        missed.fetch_add(1, Ordering::Relaxed);
                    }
                    rows.lock().push((place, row.unwrap_or_else(|| format!("{word:<30} not found"))));
                }
            });
        }
    });
    let mut rows = rows.into_inner();
    rows.sort();
    println!("{:<30} {:>9} {:>6}  promise", "bug", "steps", "seed");
    for (_, row) in &rows {
        println!("{row}");
    }
    if missed.into_inner() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn hunt(bug: Bug, word: &str, engine: EngineKind, first: u64, arguments: &Arguments) -> Option<String> {
    let mut steps = 0;
    for seed in first..first + arguments.seeds.max(1_000) {
        let recipe = Recipe { seed, steps: arguments.steps, engine, bug: Some(bug), without: Vec::new(), told: false };
        let report = run(&recipe);
        steps += report.steps;
        if let Some(broken) = report.broken {
            // The same run without it breaks nothing, or it is not the bug that was found.
            let control = run(&Recipe { bug: None, ..recipe });
            return control.broken.is_none().then(|| format!("{word:<30} {steps:>9} {seed:>6}  {}", broken.promise));
        }
    }
    None
}
