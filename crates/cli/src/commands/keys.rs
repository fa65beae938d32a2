//! `tollgate keys list|create|show|update|rotate|disable|enable|delete`: over HTTP.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Span;
use serde_json::json;
use tollgate_client::{Client, KeyFilter};
use tollgate_domain::money::Excess;
use tollgate_domain::time::{LimitReset, WindowKind, window_end};
use tollgate_domain::{Timestamp as Instant, Usd};
use tollgate_store::{Clock, SystemClock};
use tollgate_wire::{Amount, CreateKey, Key, LimitRaise, RawAmount, UpdateKey};

use crate::commands::remote::{Remote, print_json};
use crate::failure::{Failure, Kind};
use crate::output::{self, Column, Rounding};

/// `tollgate keys …`
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Reset {
    Daily,
    Weekly,
    Monthly,
    Never,
}

impl Reset {
    fn word(self) -> Option<String> {
        match self {
            Self::Daily => Some("daily".to_owned()),
            Self::Weekly => Some("weekly".to_owned()),
            Self::Monthly => Some("monthly".to_owned()),
            Self::Never => None,
        }
    }
}

/// What a file of keys says for itself.
const FIELDS: [&str; 8] =
    ["name", "limit", "reset", "expires", "workspace", "requests_per_minute", "calls_in_flight_max", "models"];

/// A limit on calls: a number from 1 on, or `none`.
#[derive(Clone, Copy, Debug)]
struct Most(Option<u32>);

impl std::str::FromStr for Most {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(0) => Err("must be 1 or more, or `none`"),
            Ok(count) => Ok(Self(Some(count))),
            Err(_) if text == "none" => Ok(Self(None)),
            Err(_) => Err("must be a whole number, or `none`"),
        }
    }
}

fn at_least_one() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show keys, newest first
    List {
        /// Disabled and expired ones too
        #[arg(long)]
        all: bool,
        /// Of this workspace (UUID)
        #[arg(long)]
        workspace: Option<String>,
    },
    /// Make one; its secret goes to stdout, this once
    Create {
        /// What it is for
        #[arg(long, required_unless_present = "from")]
        name: Option<String>,
        /// Many at once, all or none: a CSV file whose columns are the members of `POST /keys`, or its JSON; the secrets
        /// go to stdout as CSV
        #[arg(long, value_name = "FILE", conflicts_with_all = FIELDS)]
        from: Option<PathBuf>,
        /// USD it may spend; without it there is no limit
        #[arg(long, value_name = "USD", allow_negative_numbers = true)]
        limit: Option<String>,
        /// When the limit starts afresh
        #[arg(long, value_enum)]
        reset: Option<Reset>,
        /// When it stops working: 30d, 12h, or an instant such as 2027-01-31T00:00:00Z
        #[arg(long)]
        expires: Option<String>,
        /// In this workspace (UUID)
        #[arg(long)]
        workspace: Option<String>,
        /// Calls a minute, and at once; without it there is no limit
        #[arg(long, value_name = "N", value_parser = at_least_one())]
        requests_per_minute: Option<u32>,
        /// Calls in flight at a time; without it there is no limit
        #[arg(long, value_name = "N", value_parser = at_least_one())]
        calls_in_flight_max: Option<u32>,
        /// The only models it may call, with commas; without it all of them
        #[arg(long, value_name = "MODELS")]
        models: Option<String>,
    },
    /// Show one
    Show {
        /// Name, label, or 8 or more characters of the hash
        key: String,
    },
    /// Change name or limit of one
    Update {
        /// Name, label, or 8 or more characters of the hash
        key: String,
        /// New name
        #[arg(long)]
        name: Option<String>,
        /// New limit in USD, or `none`
        #[arg(long, value_name = "USD", allow_negative_numbers = true)]
        limit: Option<String>,
        /// When the limit starts afresh
        #[arg(long, value_enum)]
        reset: Option<Reset>,
        /// Calls a minute, and at once, or `none`
        #[arg(long, value_name = "N")]
        requests_per_minute: Option<Most>,
        /// Calls in flight at a time, or `none`
        #[arg(long, value_name = "N")]
        calls_in_flight_max: Option<Most>,
        /// The only models it may call, with commas, or `all`
        #[arg(long, value_name = "MODELS")]
        models: Option<String>,
        /// USD it may spend beyond its limit for a while, or `none`
        #[arg(long, value_name = "USD", allow_negative_numbers = true)]
        raise: Option<String>,
        /// How long it may: 30d, 12h, or an instant such as 2027-01-31T00:00:00Z
        #[arg(long, value_name = "WHEN", requires = "raise")]
        until: Option<String>,
    },
    /// Give one a new secret, which goes to stdout, this once; hash, budget and history stay
    Rotate {
        /// Name, label, or 8 or more characters of the hash
        key: String,
        /// How long the old secret works on: 90s, 30m, 12h, 7d
        #[arg(long, default_value = "0s")]
        grace: String,
    },
    /// Refuse one until it is enabled again
    Disable {
        /// Name, label, or 8 or more characters of the hash
        key: String,
    },
    /// Take a `disable` back
    Enable {
        /// Name, label, or 8 or more characters of the hash
        key: String,
    },
    /// Delete one for good
    Delete {
        /// Name, label, or 8 or more characters of the hash
        key: String,
        /// Its name, typed again
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// The server does not answer, or refuses.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let client = arguments.remote.client()?;
    let as_json = arguments.remote.json;
    match arguments.action {
        Action::List { all, workspace } => {
            let keys = client.keys(&KeyFilter { all, workspace }).await?;
            list(&keys, all, as_json, now());
        }
        Action::Create { from: Some(file), .. } => create_from(&client, &file, as_json).await?,
        Action::Create {
            name,
            limit,
            reset,
            expires,
            workspace,
            requests_per_minute,
            calls_in_flight_max,
            models,
            ..
        } => {
            let key = CreateKey {
                name: name.unwrap_or_default(),
                limit: limit.as_deref().map(amount).transpose()?,
                limit_reset: reset.and_then(Reset::word),
                expires_at: expires.as_deref().map(instant).transpose()?,
                workspace_id: workspace,
                requests_per_minute,
                calls_in_flight_max,
                allowed_models: models.as_deref().map(words),
                ..CreateKey::default()
            };
            let created = client.create_key(&key).await?;
            if as_json {
                print_json(&created);
            } else {
                output::note(&format!(
                    "created `{}`, {}; its secret is shown this once",
                    created.data.name,
                    limit_words(&created.data)
                ));
                output::result(&created.key);
            }
        }
        Action::Show { key } => show(&find(&client, &key).await?, as_json, now()),
        Action::Update { key, name, limit, reset, requests_per_minute, calls_in_flight_max, models, raise, until } => {
            let found = find(&client, &key).await?;
            let limit = match limit.as_deref() {
                None => None,
                Some("none") => Some(None),
                Some(text) => Some(Some(amount(text)?)),
            };
            let change = UpdateKey {
                name,
                limit,
                limit_reset: reset.map(Reset::word),
                requests_per_minute: requests_per_minute.map(|Most(count)| count),
                calls_in_flight_max: calls_in_flight_max.map(|Most(count)| count),
                allowed_models: models.map(|models| if models == "all" { None } else { Some(words(&models)) }),
                limit_raise: raise.map(|raise| limit_raise(&raise, until.as_deref())).transpose()?,
                ..UpdateKey::default()
            };
            show(&client.update_key(&found.hash, &change).await?, as_json, now());
        }
        Action::Rotate { key, grace } => {
            let seconds = span_seconds(&grace)?;
            let found = find(&client, &key).await?;
            let rotated = client.rotate_key(&found.hash, seconds).await?;
            if as_json {
                print_json(&rotated);
            } else {
                let old =
                    if seconds == 0 { "is refused from now on".to_owned() } else { format!("works for {grace} more") };
                output::note(&format!(
                    "rotated `{}`; the old secret {old}, the new one is shown this once",
                    found.name
                ));
                output::result(&rotated.key);
            }
        }
        Action::Disable { key } => switch(&client, &key, true, as_json).await?,
        Action::Enable { key } => switch(&client, &key, false, as_json).await?,
        Action::Delete { key, confirm } => {
            let found = find(&client, &key).await?;
            confirm_deletion(&found, confirm.as_deref())?;
            client.delete_key(&found.hash).await?;
            if as_json {
                output::result(&json!({"deleted": true}).to_string());
            } else {
                output::note(&format!("deleted `{}`; it is refused from now on", found.name));
            }
        }
    }
    Ok(())
}

async fn switch(client: &Client, key: &str, disabled: bool, as_json: bool) -> Result<(), Failure> {
    let found = find(client, key).await?;
    let change = UpdateKey { disabled: Some(disabled), ..UpdateKey::default() };
    show(&client.update_key(&found.hash, &change).await?, as_json, now());
    Ok(())
}

/// Creates the keys of a file, all or none.
async fn create_from(client: &Client, file: &std::path::Path, as_json: bool) -> Result<(), Failure> {
    let bytes = std::fs::read(file)
        .map_err(|error| Failure::new(Kind::Usage, format!("{} cannot be read: {error}", file.display())))?;
    let is_json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let created = client.create_keys(if is_json { "application/json" } else { "text/csv" }, bytes).await?;
    if as_json {
        print_json(&json!({"data": created}));
        return Ok(());
    }
    let failed = |error: csv::Error| Failure::new(Kind::Failed, error.to_string());
    let mut rows = csv::Writer::from_writer(Vec::new());
    rows.write_record(["name", "hash", "key"]).map_err(failed)?;
    for key in &created {
        rows.write_record([&cell(&key.data.name), &key.data.hash, &key.key]).map_err(failed)?;
    }
    let text = rows.into_inner().map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
    output::note(&format!("created {} keys; their secrets are shown this once", created.len()));
    output::result(String::from_utf8_lossy(&text).trim_end());
    Ok(())
}

/// A cell that no spreadsheet takes for a formula.
pub fn cell(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}

/// `90s`, `30m`, `12h` or `7d` in seconds.
fn span_seconds(text: &str) -> Result<u64, Failure> {
    let units = [('s', 1_u64), ('m', 60), ('h', 60 * 60), ('d', 24 * 60 * 60)];
    let found = units.iter().find_map(|(unit, seconds)| {
        text.strip_suffix(*unit).and_then(|count| count.parse::<u64>().ok()?.checked_mul(*seconds))
    });
    found.ok_or_else(|| {
        Failure::new(Kind::Usage, format!("`{text}` is no span of time")).next("for example: --grace 24h or --grace 7d")
    })
}

/// The key that a name, a label, or the beginning of a hash names; only one may fit.
async fn find(client: &Client, wanted: &str) -> Result<Key, Failure> {
    if wanted.len() == 64 {
        return Ok(client.key(wanted).await?);
    }
    let keys = client.keys(&KeyFilter { all: true, workspace: None }).await?;
    let fits =
        |key: &&Key| key.name == wanted || key.label == wanted || (wanted.len() >= 8 && key.hash.starts_with(wanted));
    let found: Vec<&Key> = keys.iter().filter(fits).collect();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let failure = Failure::new(Kind::NotFound, format!("there is no key `{wanted}`"));
            Err(failure.next("`tollgate keys list --all` shows them all"))
        }
        several => {
            let lines: Vec<String> =
                several.iter().map(|key| format!("{} {} {}", key.name, key.label, key.hash)).collect();
            let fact = format!("`{wanted}` names {} keys:\n  {}", several.len(), lines.join("\n  "));
            Err(Failure::new(Kind::NotFound, fact).next("name it by its hash"))
        }
    }
}

fn confirm_deletion(key: &Key, confirm: Option<&str>) -> Result<(), Failure> {
    let next =
        format!("pass --confirm {}, or keep its history and stop it: tollgate keys disable {}", key.name, key.name);
    let typed = match confirm {
        Some(name) => name.to_owned(),
        None if std::io::stdin().is_terminal() => {
            output::note(&format!("Type the name of the key to delete it for good: {}", key.name));
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
            line.trim().to_owned()
        }
        None => {
            let fact = format!("deleting `{}` needs its name typed, and there is no terminal", key.name);
            return Err(Failure::new(Kind::Usage, fact).next(next));
        }
    };
    if typed == key.name {
        Ok(())
    } else {
        Err(Failure::new(Kind::Usage, "the names differ; nothing was deleted").next(next))
    }
}

fn amount(text: &str) -> Result<RawAmount, Failure> {
    Usd::parse(text.trim_start_matches('$'), Excess::RoundDown).map(RawAmount::from).map_err(|error| {
        Failure::new(Kind::Usage, format!("--limit {error}")).next("for example: --limit 5 or --limit 0.25")
    })
}

/// What stands between commas.
fn words(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// `none`, or an amount and until when.
fn limit_raise(text: &str, until: Option<&str>) -> Result<Option<LimitRaise>, Failure> {
    if text == "none" {
        return Ok(None);
    }
    let amount_usd = amount(text)?;
    let until = until
        .ok_or_else(|| Failure::new(Kind::Usage, "--raise needs --until").next("for example: --raise 5 --until 7d"))?;
    Ok(Some(LimitRaise { amount_usd, until: instant(until)? }))
}

/// `30d`, `12h`, or an instant.
pub fn instant(text: &str) -> Result<String, Failure> {
    let wrong = || {
        Failure::new(Kind::Usage, format!("`{text}` is no time"))
            .next("for example: --expires 30d or --expires 2027-01-31T00:00:00Z")
    };
    let Some(unit) = text.chars().last().filter(|unit| matches!(unit, 'd' | 'h')) else {
        return Ok(text.to_owned());
    };
    let count: i64 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    let hours = if unit == 'd' { count.checked_mul(24) } else { Some(count) };
    let span = Span::new().try_hours(hours.ok_or_else(wrong)?).map_err(|_| wrong())?;
    let end = jiff::Timestamp::now().checked_add(span).map_err(|_| wrong())?;
    Ok(format!("{end:.3}"))
}

const COLUMNS: [(&str, bool); 9] = [
    ("NAME", false),
    ("KEY", false),
    ("SPENT", true),
    ("HELD", true),
    ("LEFT", true),
    ("LIMIT", false),
    ("RESETS", false),
    ("LAST USED", false),
    ("STATE", false),
];

fn list(keys: &[Key], all: bool, as_json: bool, now: Instant) {
    if as_json {
        print_json(&json!({"data": keys}));
        return;
    }
    let terminal = output::is_terminal();
    let mut columns: Vec<Column> = COLUMNS.iter().map(|(head, right)| Column { head, right: *right }).collect();
    if !terminal {
        columns.push(Column { head: "HASH", right: false });
    }
    let rows: Vec<Vec<String>> = keys.iter().map(|key| row(key, terminal, now)).collect();
    output::table(&columns, &rows);
    if terminal {
        let hidden = if all { "" } else { "; disabled and expired ones not shown (--all)" };
        output::note(&format!("{} keys{hidden}", keys.len()));
    }
}

fn row(key: &Key, terminal: bool, now: Instant) -> Vec<String> {
    let money =
        |amount: Amount, rounding| if terminal { output::short(amount.0, rounding) } else { amount.0.to_string() };
    let optional =
        |amount: Option<Amount>, rounding| amount.map_or_else(|| "-".to_owned(), |amount| money(amount, rounding));
    let mut cells = vec![
        key.name.clone(),
        key.label.clone(),
        money(window_usage(key), Rounding::Up),
        optional(key.limit_held, Rounding::Up),
        optional(key.limit_remaining, Rounding::Down),
        limit_cell(key),
        if terminal { resets_in(key, now) } else { key.limit_reset.clone().unwrap_or_else(|| "never".to_owned()) },
        last_used(key, terminal, now),
        state(key).to_owned(),
    ];
    if !terminal {
        cells.push(key.hash.clone());
    }
    cells
}

fn resets_in(key: &Key, now: Instant) -> String {
    match resets_at(key, now) {
        Some(end) => format!("in {}", output::span(now, end)),
        None => "never".to_owned(),
    }
}

/// When the key's window ends.
fn resets_at(key: &Key, now: Instant) -> Option<Instant> {
    let reset = LimitReset::from_word(key.limit_reset.as_deref()?)?;
    window_end(WindowKind::of(Some(reset)), now)
}

fn last_used(key: &Key, terminal: bool, now: Instant) -> String {
    let Some(text) = &key.last_used_at else { return "never".to_owned() };
    match Instant::parse_utc(text) {
        Ok(then) if terminal => output::ago(then, now),
        _ => text.clone(),
    }
}

fn now() -> Instant {
    SystemClock.read().wall
}

/// The figure beside a limit is that window's.
fn window_usage(key: &Key) -> Amount {
    match key.limit_reset.as_deref() {
        Some("daily") => key.usage_daily,
        Some("weekly") => key.usage_weekly,
        Some("monthly") => key.usage_monthly,
        _ => key.usage,
    }
}

fn limit_cell(key: &Key) -> String {
    let span = match key.limit_reset.as_deref() {
        Some("daily") => "/day",
        Some("weekly") => "/week",
        Some("monthly") => "/month",
        _ => "",
    };
    key.limit.map_or_else(|| "none".to_owned(), |limit| format!("{}{span}", output::typed(limit.0)))
}

fn limit_words(key: &Key) -> String {
    key.limit.map_or_else(|| "no limit".to_owned(), |_| format!("limit {}", limit_cell(key)))
}

/// How often the key may call.
fn calls_words(key: &Key) -> String {
    let rate = key.requests_per_minute.map(|count| format!("{count} a minute"));
    let places = key.calls_in_flight_max.map(|count| format!("{count} at a time"));
    let words: Vec<String> = rate.into_iter().chain(places).collect();
    if words.is_empty() { "no limit".to_owned() } else { words.join(", ") }
}

fn state(key: &Key) -> &'static str {
    match key.limit_remaining {
        _ if key.disabled => "disabled",
        Some(left) if left.0 <= Usd::ZERO => "at limit",
        _ => "active",
    }
}

fn show(key: &Key, as_json: bool, now: Instant) {
    if as_json {
        print_json(&json!({"data": key}));
        return;
    }
    let left = key.limit_remaining.map_or_else(
        || "no limit".to_owned(),
        |left| format!("{} of {}", output::short(left.0, Rounding::Down), limit_cell(key)),
    );
    let held = key.limit_held.map_or_else(|| "$0".to_owned(), |held| output::short(held.0, Rounding::Up));
    let lines = [
        format!("{}  {}  {}", key.name, state(key), key.label),
        format!("left     {left}"),
        format!("spent    {}", output::short(window_usage(key).0, Rounding::Up)),
        format!("held     {held}"),
        format!(
            "resets   {}",
            resets_at(key, now)
                .map_or_else(|| "never".to_owned(), |end| format!("{end}, in {}", output::span(now, end)))
        ),
        format!("calls    {}", calls_words(key)),
        format!("expires  {}", key.expires_at.as_deref().unwrap_or("never")),
        format!("created  {}", key.created_at),
        format!("hash     {}", key.hash),
    ];
    output::result(&lines.join("\n"));
}
