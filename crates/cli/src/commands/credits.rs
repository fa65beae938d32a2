//! `tollgate credits show|add`: over HTTP.

use clap::{Args, Subcommand};
use serde_json::json;
use tollgate_domain::Usd;
use tollgate_domain::money::Excess;
use tollgate_wire::{Credits, RawAmount, TopUp};

use crate::commands::remote::{Remote, print_json};
use crate::failure::{Failure, Kind};
use crate::output::{self, Rounding};

/// `tollgate credits …`
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What the account was topped up by, spent, and has left
    Show,
    /// Top up; the first time the account becomes one with a limit, and what was spent before is added
    Add {
        /// USD, nine decimals at the most
        #[arg(allow_negative_numbers = true)]
        amount: String,
        /// What it is for
        #[arg(long)]
        note: Option<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// The server does not answer, or refuses.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let client = arguments.remote.client()?;
    let credits = match arguments.action {
        Action::Show => client.credits().await?,
        Action::Add { amount, note } => {
            let amount = Usd::parse(amount.trim_start_matches('$'), Excess::Refuse).map_err(|error| {
                Failure::new(Kind::Usage, format!("the amount {error}")).next("for example: tollgate credits add 25")
            })?;
            client.top_up(&TopUp { amount_usd: RawAmount::from(amount), note }).await?
        }
    };
    if arguments.remote.json {
        print_json(&json!({"data": credits}));
    } else {
        output::result(&words(&credits));
    }
    Ok(())
}

fn words(credits: &Credits) -> String {
    let spent = output::short(credits.total_usage.0, Rounding::Up);
    if credits.unlimited {
        return format!("spent {spent}; no credits were ever added, so the account has no limit");
    }
    let (total, held) = (credits.total_credits.0, credits.held.0);
    let left = Usd::left_of(Usd::left_of(total, credits.total_usage.0), held);
    let held = if held == Usd::ZERO { String::new() } else { format!(", held {}", output::short(held, Rounding::Up)) };
    format!("spent {spent} of {}{held}, left {}", output::typed(total), output::short(left, Rounding::Down))
}
