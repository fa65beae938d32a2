//! How many calls a second each storage engine holds and settles, against what its own database does without it.
//!
//! Engine and peer alternate in one run, each measurement in a process of its own, once on the disk as it is and once with 2 ms
//! added to each flush. What is measured, and how: bench/README.md.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench tells what it found")]

mod flush;
mod node;
mod pairs;
mod requests;
mod rows;
mod table;
mod window;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use testkit::postgres::{Cluster, Options};
use tollgate_store::{Clock, SystemClock};

use crate::node::{Job, What, measure};
use crate::table::{Pairs, table};

const RESULT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/performance.md");
const HEADING: &str = "## Storage engines\n";
/// Callers of a node.
const CALLERS: usize = 64;
/// Callers of the nodes on PostgreSQL, all together.
const NODE_CALLERS: usize = 192;
/// Connections of the peer on PostgreSQL.
const CONNECTIONS: usize = 32;
/// Of the peer's rate, at least.
const PROCESS_TARGET: f64 = 0.15;
const POWER_TARGET: f64 = 0.1;
const POSTGRES_TARGET: f64 = 5.0;
/// What is added to each flush.
const SLOWER_US: f64 = 2000.0;

#[derive(Parser)]
#[command(about = "Measures the storage engines against their own databases.")]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Of each run, after its warm-up.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Paired runs.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Only one database; both is the default.
    #[arg(long)]
    only: Option<Database>,
    /// Keep the tables in docs/reference/performance.md.
    #[arg(long, conflicts_with = "only")]
    write: bool,
}

#[derive(Subcommand)]
enum Part {
    /// One measurement, in this process.
    #[command(hide = true)]
    Run(Job),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Database {
    Sqlite,
    Postgres,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Part::Run(job)) = arguments.part {
        println!("{}", job.run().await?);
        return Ok(());
    }
    ensure!(arguments.repetitions > 0 && arguments.seconds > 0, "at least one run of a second");
    let folder = tempfile::tempdir()?;
    let shim = flush::shim(folder.path())?;
    let mut text = format!("{HEADING}\n{}\n", facts(&arguments)?);
    if arguments.only != Some(Database::Postgres) {
        text += &sqlite(&arguments, &shim)?;
    }
    if arguments.only != Some(Database::Sqlite) {
        text += &postgres(&arguments, &shim).await?;
    }
    println!("{text}");
    if arguments.write { keep(&text) } else { Ok(()) }
}

/// Each flush as it is, then slower.
fn disks(shim: &Path) -> [(&'static str, Option<&Path>); 2] {
    [("as it is", None), ("2 ms more", Some(shim))]
}

fn sqlite(arguments: &Arguments, shim: &Path) -> Result<String> {
    let job = |what, callers| Job::new(what, callers, arguments.seconds);
    let mut rows = vec![cells(["durability", "flush", "pairs/s", "rows/s of the peer", "ratio (range)", "target"])];
    let mut flushes = Vec::new();
    for (disk, preload) in disks(shim) {
        let flush = job(What::Flush, 1).preloaded(preload);
        let flush = least((0..arguments.repetitions).map(|_| measure(std::slice::from_ref(&flush))))?;
        ensure!(preload.is_none() || flush >= SLOWER_US, "flushes of SQLite are not slower: {flush} µs");
        flushes.push(flush);
        for (durability, engine, peer, target) in [
            ("process", What::EmbeddedProcess, What::Rows, Some(PROCESS_TARGET)),
            ("power", What::EmbeddedPower, What::RowsFlushed, Some(POWER_TARGET)),
            ("power, peer process", What::EmbeddedPower, What::Rows, None),
        ] {
            eprintln!("SQLite, {durability}, flush {disk}");
            let (engine, peer) = (job(engine, CALLERS).preloaded(preload), job(peer, 1).preloaded(preload));
            let pairs = alternate(arguments.repetitions, &[engine], &[peer])?;
            rows.push(compared(&[durability, disk], &pairs, target));
        }
    }
    Ok(format!(
        "### SQLite\n\n\
         {CALLERS} callers hold and settle calls of one key with a limit, each one after the other. The peer is one thread that inserts rows, \
         64 a transaction, and decides nothing, in a file that survives the same: `journal_mode=WAL`, with `synchronous=FULL` for `power`, where \
         it waits for one flush a transaction, and `NORMAL` for `process`. The last line of each disk sets `power` beside a peer that waits for \
         no flush. One flush takes {:.0} µs at best; made slower, {:.0} µs. \
         A pair is two flushes with `power`, so {CALLERS} callers cannot end more than {CALLERS} pairs in twice that time.\n\n{}\n",
        flushes[0],
        flushes[1],
        table(2, &rows)
    ))
}

async fn postgres(arguments: &Arguments, shim: &Path) -> Result<String> {
    let heads = ["nodes", "flush", "pairs/s", "requests/s of the peer", "ratio (range)", "target"];
    let mut rows = vec![cells(heads)];
    let (mut commits, mut version) = (Vec::new(), String::new());
    for (disk, preload) in disks(shim) {
        let cluster = cluster(preload);
        let mut commits_alone = Vec::new();
        for _ in 0..arguments.repetitions {
            commits_alone.push(requests::commit_us(&cluster.url()).await);
        }
        let commit = least(commits_alone)?;
        ensure!(preload.is_none() || commit >= SLOWER_US, "flushes of PostgreSQL are not slower: {commit} µs a commit");
        commits.push(commit);
        version = requests::version(&cluster.url()).await?;
        let peer = Job::new(What::Requests, CONNECTIONS, arguments.seconds).at(&cluster.url());
        for nodes in [1, 3] {
            eprintln!("PostgreSQL, {nodes} nodes, flush {disk}");
            let mut pairs = Vec::new();
            for number in 0..arguments.repetitions {
                let url = cluster.create_database(&format!("bench_{nodes}_{number}")).await;
                let node = Job::new(What::Postgres, NODE_CALLERS / nodes, arguments.seconds).at(&url);
                let engine = if nodes == 1 { vec![node] } else { vec![node.shared(); nodes] };
                pairs.push(one(number, &engine, std::slice::from_ref(&peer))?);
            }
            rows.push(compared(&[&nodes.to_string(), disk], &Pairs(pairs), Some(POSTGRES_TARGET)));
        }
    }
    Ok(format!(
        "### PostgreSQL\n\nThe peer: one conditional `UPDATE … RETURNING` of one hot row and one `INSERT` a request, in one transaction of two \
         round trips, from {CONNECTIONS} connections. PostgreSQL {version}, `fsync=on`, everything that matters at its default. One commit alone: {:.0} µs at best; with slower flushes, \
         {:.0} µs. The engine: {NODE_CALLERS} callers in all hold and settle calls of one key with a limit, on one node or on three together; \
         a pair is two transactions' worth of that.\n\n{}\n",
        commits[0],
        commits[1],
        table(2, &rows)
    ))
}

/// What a disk does where nothing is in its way.
fn least(times: impl IntoIterator<Item = Result<f64>>) -> Result<f64> {
    times.into_iter().try_fold(f64::INFINITY, |least, time| Ok(least.min(time?)))
}

/// A server as it comes, but for its port.
fn cluster(preload: Option<&Path>) -> Cluster {
    let environment = preload.map(|shim| ("LD_PRELOAD".to_owned(), shim.display().to_string()));
    // The defaults of the server: short logs would have it write checkpoints all the time.
    let settings = [("min_wal_size", "80MB"), ("max_wal_size", "1GB")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Cluster::start(Options { fsync: true, settings, environment: environment.into_iter().collect() })
}

/// Runs side by side; who goes first turns.
fn alternate(repetitions: usize, engine: &[Job], peer: &[Job]) -> Result<Pairs> {
    (0..repetitions).map(|number| one(number, engine, peer)).collect::<Result<_>>().map(Pairs)
}

/// One paired run.
fn one(number: usize, engine: &[Job], peer: &[Job]) -> Result<(f64, f64)> {
    if number.is_multiple_of(2) {
        return Ok((measure(engine)?, measure(peer)?));
    }
    let peer = measure(peer)?;
    Ok((measure(engine)?, peer))
}

fn compared(names: &[&str], pairs: &Pairs, target: Option<f64>) -> Vec<String> {
    let (ratio, least, most) = pairs.ratio();
    let verdict = |target| if ratio >= target { "" } else { " MISSED" };
    let numbers = [
        format!("{:.0}", pairs.engine()),
        format!("{:.0}", pairs.peer()),
        format!("{ratio:.3}x ({least:.3}-{most:.3})"),
        target.map(|target| format!("{target}x{}", verdict(target))).unwrap_or_default(),
    ];
    names.iter().map(|name| (*name).to_owned()).chain(numbers).collect()
}

fn cells<const COLUMNS: usize>(words: [&str; COLUMNS]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

fn facts(arguments: &Arguments) -> Result<String> {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let program = std::env::current_exe()?;
    let profile = program.parent().and_then(|folder| folder.file_name()).unwrap_or_default();
    let now = SystemClock.read().wall.to_string();
    Ok(format!(
        "Measured {} by `bench-engines`: {} cores ({}), `{}` profile; medians of {} alternating paired runs of {} s, everything on \
         this one machine (load average before the start: {}). Ratios pair two runs: read those, not the times.\n",
        now.get(..10).unwrap_or_default(),
        std::thread::available_parallelism()?,
        model.map_or("?", |(_, model)| model),
        profile.display(),
        arguments.repetitions,
        arguments.seconds,
        load.split(' ').next().unwrap_or_default(),
    ))
}

/// Replaces this bench's section, the last of the page.
fn keep(text: &str) -> Result<()> {
    let file = PathBuf::from(RESULT);
    let page = std::fs::read_to_string(&file).context(RESULT)?;
    let before = page.split(HEADING).next().unwrap_or_default().trim_end();
    Ok(std::fs::write(&file, format!("{before}\n\n{}\n", text.trim_end()))?)
}
