//! `tollgate audit`: over HTTP.

use clap::Args;
use serde_json::json;
use tollgate_client::AuditFilter;
use tollgate_wire::AuditEntry;

use crate::commands::remote::{Remote, print_json};
use crate::failure::Failure;
use crate::output::{self, Column};

/// `tollgate audit …`
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    /// Only what was done to this: a key's hash, a workspace's UUID, …
    #[arg(long)]
    target: Option<String>,
    /// Only this action, such as `key.update`, or all of a kind, such as `key`
    #[arg(long)]
    action: Option<String>,
    /// How many at the most
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

/// Runs the command: the newest first.
///
/// # Errors
/// The server does not answer, or refuses.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let client = arguments.remote.client()?;
    let filter = AuditFilter { target: arguments.target, action: arguments.action };
    let entries = client.audit(&filter, arguments.limit).await?;
    if arguments.remote.json {
        print_json(&json!({"data": entries}));
        return Ok(());
    }
    let columns = ["WHEN", "WHO", "WHAT", "TO", "FROM", "INTO"].map(|head| Column { head, right: false });
    let rows: Vec<Vec<String>> = entries.into_iter().map(row).collect();
    output::table(&columns, &rows);
    Ok(())
}

fn row(entry: AuditEntry) -> Vec<String> {
    let who = match (entry.actor.name, entry.actor.id) {
        (Some(name), Some(id)) => format!("{name} (key {id})"),
        _ => entry.actor.r#type,
    };
    let facts = |facts: Option<Box<_>>| facts.map(|facts: Box<serde_json::value::RawValue>| facts.get().to_owned());
    let (before, after) = (facts(entry.before).unwrap_or_default(), facts(entry.after).unwrap_or_default());
    vec![entry.created_at, who, entry.action, entry.target, before, after]
}
