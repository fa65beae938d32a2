//! `tollgate usage`: over HTTP.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use serde_json::json;
use tollgate_client::KeyFilter;
use tollgate_domain::Usd;
use tollgate_wire::ActivityItem;

use crate::commands::keys::cell;
use crate::commands::remote::{Remote, print_json};
use crate::failure::{Failure, Kind};
use crate::output::{self, Column, Rounding};

/// `tollgate usage …`
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    /// What to sum by
    #[arg(long, value_enum, default_value = "day")]
    by: By,
    /// As CSV, with exact amounts
    #[arg(long)]
    csv: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Key,
    Model,
    Day,
}

/// One line of the table.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    requests: u64,
    prompt: u64,
    completion: u64,
    spent: Usd,
    byok: Usd,
}

/// Runs the command: the last 30 days and today.
///
/// # Errors
/// The server does not answer, or refuses.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let client = arguments.remote.client()?;
    let rows = client.activity(arguments.by == By::Key).await?;
    if arguments.remote.json {
        print_json(&json!({"data": rows}));
        return Ok(());
    }
    let names: BTreeMap<String, String> = if arguments.by == By::Key {
        let keys = client.keys(&KeyFilter { all: true, workspace: None }).await?;
        keys.into_iter().map(|key| (key.hash, format!("{} {}", key.name, key.label))).collect()
    } else {
        BTreeMap::new()
    };
    let name = |row: &ActivityItem| match arguments.by {
        By::Day => row.date.clone(),
        By::Model => row.model.clone(),
        By::Key => {
            let hash = row.api_key_hash.clone().unwrap_or_default();
            names.get(&hash).cloned().unwrap_or(hash)
        }
    };
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for row in &rows {
        let sum = sums.entry(name(row)).or_default();
        sum.requests = sum.requests.saturating_add(row.requests);
        sum.prompt = sum.prompt.saturating_add(row.prompt_tokens);
        sum.completion = sum.completion.saturating_add(row.completion_tokens);
        sum.spent = [sum.spent, row.usage.0].into_iter().sum();
        sum.byok = [sum.byok, row.byok_usage_inference.0].into_iter().sum();
    }
    let mut lines: Vec<(String, Sum)> = sums.into_iter().collect();
    match arguments.by {
        By::Day => lines.reverse(),
        By::Key | By::Model => lines.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.spent)),
    }
    if arguments.csv {
        return print_csv(arguments.by, &lines);
    }
    print_table(arguments.by, &lines);
    Ok(())
}

impl By {
    const fn head(self) -> &'static str {
        match self {
            Self::Key => "KEY",
            Self::Model => "MODEL",
            Self::Day => "DAY (UTC)",
        }
    }
}

fn print_table(by: By, lines: &[(String, Sum)]) {
    let heads =
        [(by.head(), false), ("CALLS", true), ("PROMPT", true), ("COMPLETION", true), ("SPENT", true), ("BYOK", true)];
    let columns = heads.map(|(head, right)| Column { head, right });
    let terminal = output::is_terminal();
    let money = |amount: Usd| if terminal { output::short(amount, Rounding::Up) } else { amount.to_string() };
    let mut rows: Vec<Vec<String>> = lines.iter().map(|(name, sum)| row(name, sum, money)).collect();
    if terminal {
        let total = lines.iter().fold(Sum::default(), |total, (_, sum)| Sum {
            requests: total.requests.saturating_add(sum.requests),
            prompt: total.prompt.saturating_add(sum.prompt),
            completion: total.completion.saturating_add(sum.completion),
            spent: [total.spent, sum.spent].into_iter().sum(),
            byok: [total.byok, sum.byok].into_iter().sum(),
        });
        rows.push(row("total", &total, money));
    }
    output::table(&columns, &rows);
}

fn row(name: &str, sum: &Sum, money: impl Fn(Usd) -> String) -> Vec<String> {
    let counts = [sum.requests, sum.prompt, sum.completion].map(|count| count.to_string());
    let amounts = [money(sum.spent), money(sum.byok)];
    std::iter::once(name.to_owned()).chain(counts).chain(amounts).collect()
}

fn print_csv(by: By, lines: &[(String, Sum)]) -> Result<(), Failure> {
    let failed = |error: csv::Error| Failure::new(Kind::Failed, error.to_string());
    let first = match by {
        By::Key => "key",
        By::Model => "model",
        By::Day => "day",
    };
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer
        .write_record([first, "requests", "prompt_tokens", "completion_tokens", "usage_usd", "byok_usage_usd"])
        .map_err(failed)?;
    for (name, sum) in lines {
        writer.write_record(row(&cell(name), sum, |amount| amount.to_string())).map_err(failed)?;
    }
    let text = writer.into_inner().map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
    output::result(String::from_utf8_lossy(&text).trim_end());
    Ok(())
}
