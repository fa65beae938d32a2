//! `tollgate doctor`: whether the ledger adds up, and what can be done where it does not.

use clap::Args;
use serde::{Deserialize, Serialize};
use tollgate_domain::IdCipher;
use tollgate_domain::ledger::{MoneyKind, Scope};
use tollgate_engine::doctor::{Finding, Report};
use tollgate_engine::{kind_word, window_word};

use crate::admin::{self, Ask, Tell};
use crate::boot::Parts;
use crate::cli::ConfigFile;
use crate::config::{Config, Place};
use crate::failure::{Failure, Kind};
use crate::output::{self, Column};
use crate::storage::Storage;

/// `tollgate doctor`
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Put right what does not add up, as its entries say
    #[arg(long)]
    repair: bool,
    /// Take the clock as it is, also where it went back
    #[arg(long)]
    accept_clock: bool,
    /// Take a file that was copied while a server ran on the original; admission stays closed until `restore --accept`
    #[arg(long)]
    accept_copy: bool,
    /// Print JSON and nothing else
    #[arg(long)]
    json: bool,
}

/// What the doctor saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Generations that have ended.
    pub generations: u64,
    /// Corrections.
    pub corrections: u64,
    /// Balances.
    pub balances: usize,
    /// Calls in flight.
    pub holds: usize,
    /// When the oldest of them was admitted.
    pub oldest_hold: Option<String>,
    /// What was charged to the account, in USD: credits, and list price under own credentials.
    pub charged: [String; 2],
    /// What the database itself says is wrong with its file.
    pub damage: Vec<String>,
    /// What did not add up, and was put right.
    pub mended: Vec<FindingLine>,
    /// What does not add up.
    pub findings: Vec<FindingLine>,
}

/// Something that does not add up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FindingLine {
    /// `spent`, `held`, `hourly sums` or `in flight`.
    pub what: String,
    /// Whose.
    pub whose: String,
    /// In which money and window, or since when.
    pub of: String,
    /// What it should be, in USD.
    pub expected: String,
    /// What it is, in USD.
    pub found: String,
}

impl Diagnosis {
    /// A report, and what was put right before it.
    pub fn of(report: &Report, mended: &[Finding], cipher: &IdCipher) -> Self {
        let lines = |findings: &[Finding]| findings.iter().map(|finding| FindingLine::of(finding, cipher)).collect();
        let (holds, oldest) = report.in_flight;
        Self {
            generations: report.generations,
            corrections: report.corrections,
            balances: report.balances,
            holds,
            oldest_hold: oldest.map(|at| at.to_string()),
            charged: [report.charged.credits.to_string(), report.charged.byok.to_string()],
            damage: Vec::new(),
            mended: lines(mended),
            findings: lines(&report.findings),
        }
    }

    /// What the database itself finds wrong with its file: nothing else was looked at.
    fn damaged(damage: Vec<String>) -> Self {
        Self { damage, ..Self::default() }
    }
}

impl FindingLine {
    fn of(finding: &Finding, cipher: &IdCipher) -> Self {
        let line = |what: &str, whose: String, of: String, expected: String, found: String| {
            let what = what.to_owned();
            Self { what, whose, of, expected, found }
        };
        let of = |kind: MoneyKind, window| format!("{}, {}", kind_word(kind), window_word(window));
        match *finding {
            Finding::Spent { scope, kind, window, entries, balance } => {
                line("spent", whose(scope), of(kind, window), entries.to_string(), balance.to_string())
            }
            Finding::Held { scope, kind, window, holds, balance } => {
                line("held", whose(scope), of(kind, window), holds.to_string(), balance.to_string())
            }
            Finding::Rollup { key, kind, entries, rollups } => {
                let kind = kind_word(kind).to_owned();
                line("hourly sums", whose(Scope::Key(key)), kind, entries.to_string(), rollups.to_string())
            }
            Finding::Orphan { row, admitted_at } => {
                let id = cipher.id(row, admitted_at).to_string();
                let (lost, open) = ("booked as lost".to_owned(), "open, and nobody's".to_owned());
                line("in flight", id, format!("since {admitted_at}"), lost, open)
            }
        }
    }
}

fn whose(scope: Scope) -> String {
    match scope {
        Scope::Account => "account".to_owned(),
        Scope::Workspace(id) => format!("workspace {}", id.0),
        Scope::Key(id) => format!("key {}", id.0),
        Scope::Member(id) => format!("member {}", id.0),
    }
}

/// Runs the command.
///
/// # Errors
/// The database cannot be reached, or does not add up.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = Config::load(arguments.file.config.as_deref(), std::env::vars())?;
    if let Place::File(file) = config.database.place()?
        && file.exists()
    {
        // First: whoever opens a file writes to it.
        let damage = tollgate_store_sqlite::damage(&file);
        let damage = damage.map_err(|error| Failure::new(Kind::Failed, format!("{}: {error}", file.display())))?;
        if !damage.is_empty() {
            return show(&Diagnosis::damaged(damage), arguments.json);
        }
    }
    if arguments.accept_copy {
        accept_copy(&config)?;
    }
    let ask = Ask::Examine { repair: arguments.repair, accept_clock: arguments.accept_clock };
    let told = match Storage::open_existing(&config, &Parts::default()).await {
        Ok(storage) => {
            let told = admin::examine(&storage, arguments.repair, arguments.accept_clock).await;
            storage.close().await.map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
            told
        }
        Err(failure) => match config.database.place()? {
            Place::File(file) if failure.kind == Kind::Unreachable => admin::ask(&file, &ask, |_, _| {}).await?,
            Place::File(_) | Place::Server(_) => return Err(failure),
        },
    };
    match told {
        Tell::Examined { diagnosis } => show(&diagnosis, arguments.json),
        Tell::Failed { why } => Err(Failure::new(Kind::Failed, why)),
        _ => Err(Failure::new(Kind::Failed, "the server answered something else")),
    }
}

/// Takes a file for what it is that was copied while a server ran on the original.
fn accept_copy(config: &Config) -> Result<(), Failure> {
    let Place::File(file) = config.database.place()? else {
        return Err(Failure::new(Kind::Usage, "the database is on a PostgreSQL server: there is no file to accept"));
    };
    let accepted = tollgate_store_sqlite::accept_copy(&file);
    let accepted = accepted.map_err(|error| Failure::new(Kind::Failed, format!("{}: {error}", file.display())))?;
    output::note(if accepted {
        "the file is taken as it is; admission stays closed until `tollgate restore --accept`, since what was spent while it was \
         copied may not be in it"
    } else {
        "the file is no such copy; nothing was changed"
    });
    Ok(())
}

fn show(diagnosis: &Diagnosis, as_json: bool) -> Result<(), Failure> {
    if as_json {
        output::result(&serde_json::json!({ "data": diagnosis }).to_string());
    } else if !diagnosis.damage.is_empty() {
        for damage in &diagnosis.damage {
            output::result(&format!("damaged: {damage}"));
        }
    } else {
        let Diagnosis { generations, corrections, balances, holds, charged, .. } = diagnosis;
        let oldest = diagnosis.oldest_hold.as_ref();
        let oldest = oldest.map_or_else(String::new, |at| format!(" (the oldest since {at})"));
        output::result(&format!(
            "{generations} generations, {corrections} corrections, {balances} balances, {holds} calls in flight{oldest}; \
             charged ${} in credits and ${} at list price under own credentials",
            charged[0], charged[1]
        ));
        table(&diagnosis.mended, "WAS");
        table(&diagnosis.findings, "IS");
    }
    if !diagnosis.mended.is_empty() {
        output::note("what the first table shows was put right, as its entries say");
    }
    if !diagnosis.damage.is_empty() {
        let failure = Failure::new(Kind::Failed, "the file is damaged");
        return Err(failure.next("restore a backup: `tollgate restore FILE`; the file was left as it is"));
    }
    if diagnosis.findings.is_empty() {
        output::note("everything adds up");
        return Ok(());
    }
    let failure = Failure::new(Kind::Failed, "the ledger does not add up");
    Err(if diagnosis.mended.is_empty() {
        failure.next("`tollgate doctor --repair` puts it right, as its entries say; stop the server first, where the database is a file")
    } else {
        failure.next("what is left could not be put right: keep a copy of the database, and report it")
    })
}

fn table(lines: &[FindingLine], is: &'static str) {
    if lines.is_empty() {
        return;
    }
    let columns = ["WHAT", "WHOSE", "OF", "SHOULD BE", is]
        .map(|head| Column { head, right: matches!(head, "SHOULD BE" | "IS" | "WAS") });
    let row = |line: &FindingLine| {
        vec![line.what.clone(), line.whose.clone(), line.of.clone(), line.expected.clone(), line.found.clone()]
    };
    output::table(&columns, &lines.iter().map(row).collect::<Vec<_>>());
}
