//! `tollgate doctor`: whether the ledger adds up, and what can be done where it does not.

use clap::Args;
use serde::{Deserialize, Serialize};
use tollgate_domain::Usd;
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
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Write balances that do not add up anew, as their entries say
    #[arg(long)]
    repair: bool,
    /// Take the clock as it is, also where it went back
    #[arg(long)]
    accept_clock: bool,
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
    /// What was charged to the account, in USD: credits, and list price under own credentials.
    pub charged: [String; 2],
    /// What the database itself says is wrong with its file.
    pub damage: Vec<String>,
    /// What does not add up.
    pub findings: Vec<FindingLine>,
}

/// Something that does not add up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FindingLine {
    /// `spent`, `held` or `hourly sums`.
    pub what: String,
    /// Whose.
    pub whose: String,
    /// In which money and window.
    pub of: String,
    /// What it should be, in USD.
    pub expected: String,
    /// What it is, in USD.
    pub found: String,
}

impl Diagnosis {
    /// A report, and what the database says of its file.
    pub fn of(report: Report, damage: Vec<String>) -> Self {
        let Report { generations, corrections, balances, holds, charged, findings } = report;
        let charged = [charged.credits.to_string(), charged.byok.to_string()];
        let findings = findings.iter().map(FindingLine::of).collect();
        Self { generations, corrections, balances, holds, charged, damage, findings }
    }

    fn is_sound(&self) -> bool {
        self.findings.is_empty() && self.damage.is_empty()
    }
}

impl FindingLine {
    fn of(finding: &Finding) -> Self {
        let line = |what: &str, scope: Scope, of: String, expected: Usd, found: Usd| Self {
            what: what.to_owned(),
            whose: whose(scope),
            of,
            expected: expected.to_string(),
            found: found.to_string(),
        };
        let of = |kind: MoneyKind, window| format!("{}, {}", kind_word(kind), window_word(window));
        match *finding {
            Finding::Spent { scope, kind, window, entries, balance } => {
                line("spent", scope, of(kind, window), entries, balance)
            }
            Finding::Held { scope, kind, window, holds, balance } => {
                line("held", scope, of(kind, window), holds, balance)
            }
            Finding::Rollup { key, kind, entries, rollups } => {
                line("hourly sums", Scope::Key(key), kind_word(kind).to_owned(), entries, rollups)
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
        Tell::Examined { diagnosis } => show(&diagnosis, arguments.repair, arguments.json),
        Tell::Failed { why } => Err(Failure::new(Kind::Failed, why)),
        _ => Err(Failure::new(Kind::Failed, "the server answered something else")),
    }
}

fn show(diagnosis: &Diagnosis, repair: bool, as_json: bool) -> Result<(), Failure> {
    if as_json {
        output::result(&serde_json::json!({ "data": diagnosis }).to_string());
    } else {
        let Diagnosis { generations, corrections, balances, holds, charged, .. } = diagnosis;
        output::result(&format!(
            "{generations} generations, {corrections} corrections, {balances} balances, {holds} calls in flight; \
             charged ${} in credits and ${} at list price under own credentials",
            charged[0], charged[1]
        ));
        for damage in &diagnosis.damage {
            output::result(&format!("damaged: {damage}"));
        }
        if !diagnosis.findings.is_empty() {
            let columns = ["WHAT", "WHOSE", "OF", "SHOULD BE", "IS"]
                .map(|head| Column { head, right: matches!(head, "SHOULD BE" | "IS") });
            let row = |line: &FindingLine| {
                vec![line.what.clone(), line.whose.clone(), line.of.clone(), line.expected.clone(), line.found.clone()]
            };
            output::table(&columns, &diagnosis.findings.iter().map(row).collect::<Vec<_>>());
        }
    }
    if diagnosis.is_sound() {
        output::note("everything adds up");
        return Ok(());
    }
    let sums = diagnosis.findings.iter().all(|line| line.what == "hourly sums");
    if repair && diagnosis.damage.is_empty() && !sums {
        output::note("balances were written anew, as their entries say; `tollgate doctor` looks again");
        return Ok(());
    }
    let failure = Failure::new(Kind::Failed, "the ledger does not add up");
    Err(if diagnosis.damage.is_empty() {
        failure.next("`tollgate doctor --repair` writes balances anew, as their entries say")
    } else {
        failure.next("restore a backup: `tollgate restore FILE`; the file was left as it is")
    })
}
