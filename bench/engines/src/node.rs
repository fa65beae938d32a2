//! A measurement in a process of its own: what a node does, or a peer.
//!
//! It says `ready`, waits for a line so that several begin together, and says what it did each second.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use rusqlite::Connection;
use tollgate_store::{Ledger, Store};
use tollgate_store_sqlite::Durability;

use crate::window::Window;
use crate::{flush, pairs, requests, rows};

/// What a process measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Pairs of the embedded engine that survive its process.
    EmbeddedProcess,
    /// Pairs of the embedded engine that survive loss of power.
    EmbeddedPower,
    /// Rows of the peer of both, which waits for no flush.
    Rows,
    /// Rows of the same, with a flush a transaction.
    RowsFlushed,
    /// Pairs of a node on PostgreSQL.
    Postgres,
    /// Requests of its peer.
    Requests,
    /// The time of one flush, instead of a rate.
    Flush,
}

/// What a process is told.
#[derive(Args, Clone, Debug)]
pub struct Job {
    what: What,
    /// Where PostgreSQL is, for what needs it.
    #[arg(long, default_value = "")]
    url: String,
    /// Callers at once, or connections.
    #[arg(long, default_value_t = 1)]
    callers: usize,
    #[arg(long, default_value_t = 1)]
    seconds: u64,
    /// Whether others spend with the same key.
    #[arg(long)]
    shared: bool,
    /// What the process is preloaded with.
    #[arg(skip)]
    preload: Option<PathBuf>,
}

impl Job {
    pub fn new(what: What, callers: usize, seconds: u64) -> Self {
        Self { what, url: String::new(), callers, seconds, shared: false, preload: None }
    }

    pub fn at(self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self }
    }

    /// One of several nodes that spend with one key.
    pub fn shared(self) -> Self {
        Self { shared: true, ..self }
    }

    pub fn preloaded(self, shim: Option<&Path>) -> Self {
        Self { preload: shim.map(Path::to_owned), ..self }
    }

    /// Does it, in this process.
    pub async fn run(self) -> Result<f64> {
        let folder = tempfile::tempdir()?;
        match self.what {
            What::EmbeddedProcess => self.pairs(pairs::embedded(folder.path(), Durability::Process)?).await,
            What::EmbeddedPower => self.pairs(pairs::embedded(folder.path(), Durability::Power)?).await,
            What::Postgres => self.pairs(pairs::node(&self.url).await?).await,
            What::Rows => self.rows(&rows::open(folder.path(), "NORMAL")?),
            What::RowsFlushed => self.rows(&rows::open(folder.path(), "FULL")?),
            What::Requests => {
                let callers = requests::open(&self.url, self.callers).await?;
                let window = self.begin()?;
                Ok(window.rate(requests::measure(callers, &self.url, window).await?))
            }
            What::Flush => {
                self.begin()?;
                flush::median_us(folder.path())
            }
        }
    }

    /// Any engine: what it is asked is in the traits.
    async fn pairs(&self, store: Arc<dyn Store>) -> Result<f64> {
        let key = pairs::key(&*store).await?;
        let window = self.begin()?;
        let ledger: Arc<dyn Ledger> = Arc::clone(&store) as _;
        let tally = pairs::measure(ledger, key, self.callers, window).await?;
        pairs::check(&*store, tally.total, !self.shared).await?;
        Ok(window.rate(tally))
    }

    fn rows(&self, connection: &Connection) -> Result<f64> {
        let window = self.begin()?;
        Ok(window.rate(rows::measure(connection, window)?))
    }

    #[expect(clippy::print_stdout, reason = "another process reads it")]
    fn begin(&self) -> Result<Window> {
        println!("ready");
        ensure!(std::io::stdin().read_line(&mut String::new())? > 0, "nobody waits for this any more");
        Ok(Window::from_now(Duration::from_secs(self.seconds)))
    }
}

/// Such a process.
struct Node {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Node {
    fn start(job: &Job) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let what = job.what.to_possible_value().context("it has no name")?;
        command.args(["run", what.get_name(), "--url", &job.url]);
        command.args(["--callers", &job.callers.to_string(), "--seconds", &job.seconds.to_string()]);
        if job.shared {
            command.arg("--shared");
        }
        if let Some(shim) = &job.preload {
            command.env("LD_PRELOAD", shim);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("it has no output")?).lines();
        let mut node = Self { child, lines };
        node.hear().and_then(|line| if line == "ready" { Ok(node) } else { bail!("it says {line}") })
    }

    fn begin(&mut self) -> Result<()> {
        Ok(self.child.stdin.take().context("it has no input")?.write_all(b"go\n")?)
    }

    fn hear(&mut self) -> Result<String> {
        Ok(self.lines.next().context("it ended before its time")??)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What processes do each second, all of them together.
pub fn measure(jobs: &[Job]) -> Result<f64> {
    let mut nodes = jobs.iter().map(Node::start).collect::<Result<Vec<_>>>().context(format!("{jobs:?}"))?;
    for node in &mut nodes {
        node.begin()?;
    }
    let rates = nodes.iter_mut().map(|node| Ok(node.hear()?.parse::<f64>()?));
    rates.sum::<Result<f64>>().context(format!("{jobs:?}"))
}
