//! `tollgate management-keys list|create|revoke`: on the database itself, through its owner if a server runs.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::admin::{self, Ask, ManagementKeyLine, Tell};
use crate::boot::{Parts, open_app};
use crate::cli::ConfigFile;
use crate::cli::variable;
use crate::commands::keys::instant;
use crate::config::{Config, Place};
use crate::failure::{Failure, Kind};
use crate::output::{self, Column};
use crate::storage::Storage;

/// `tollgate management-keys …`
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Print JSON and nothing else
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show those in force
    List,
    /// Make one; its secret goes to stdout, this once
    Create {
        /// What it is for
        #[arg(long, default_value = "operator")]
        name: String,
        /// It may look at everything and change nothing
        #[arg(long)]
        read_only: bool,
        /// When it stops working: 30d, 12h, or an instant such as 2027-01-31T00:00:00Z
        #[arg(long)]
        expires: Option<String>,
        /// It manages this workspace (slug or UUID) and nothing else
        #[arg(long)]
        workspace: Option<String>,
    },
    /// End one for good
    Revoke {
        /// Its number, from `list`
        id: i64,
    },
}

/// Runs the command.
///
/// # Errors
/// The database cannot be reached, or refuses.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = Config::load(arguments.file.config.as_deref(), std::env::vars())?;
    let ask = match arguments.action {
        Action::List => Ask::ListManagementKeys,
        Action::Create { name, read_only, expires, workspace } => {
            let expires_at = expires.as_deref().map(instant).transpose()?;
            Ask::CreateManagementKey { name, read_only, expires_at, workspace }
        }
        Action::Revoke { id } => Ask::RevokeManagementKey { id },
    };
    show(perform(&config, ask).await?, arguments.json)
}

async fn perform(config: &Config, ask: Ask) -> Result<Tell, Failure> {
    match Storage::open(config, &Parts::default()).await {
        Ok(storage) => {
            let app = open_app(config, &storage, String::new(), variable).await?;
            let told = admin::perform(&app, ask).await;
            storage.close().await.map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
            Ok(told)
        }
        // A server owns it: ask there.
        Err(failure) => match config.database.place()? {
            Place::File(file) if failure.kind == Kind::Unreachable => admin::ask(&file, &ask, |_, _| {}).await,
            Place::File(_) | Place::Server(_) => Err(failure),
        },
    }
}

fn show(told: Tell, as_json: bool) -> Result<(), Failure> {
    match told {
        Tell::Failed { why } => return Err(Failure::new(Kind::Failed, why)),
        Tell::Examined { .. } | Tell::Progress { .. } | Tell::BackedUp | Tell::Admission { .. } => {
            return Err(Failure::new(Kind::Failed, "the server answered something else"));
        }
        Tell::Revoked { found: false } => {
            let failure = Failure::new(Kind::NotFound, "there is no such management key");
            return Err(failure.next("`tollgate management-keys list` shows them"));
        }
        Tell::Revoked { found: true } if as_json => output::result(&json!({"revoked": true}).to_string()),
        Tell::Revoked { found: true } => output::note("revoked; it is refused from now on"),
        Tell::Created { key, secret } if as_json => output::result(&json!({"data": key, "key": secret}).to_string()),
        Tell::Created { key, secret } => {
            output::note(&format!("management key {} `{}`; its secret is shown this once", key.id, key.name));
            output::result(&secret);
        }
        Tell::ManagementKeys { keys } if as_json => output::result(&json!({"data": keys}).to_string()),
        Tell::ManagementKeys { keys } => {
            let heads = ["ID", "NAME", "KEY", "POWERS", "EXPIRES", "CREATED"];
            let columns = heads.map(|head| Column { head, right: head == "ID" });
            let row = |key: ManagementKeyLine| {
                let powers = match (key.read_only, key.limited) {
                    (false, false) => "all",
                    (true, false) => "read",
                    (false, true) => "workspace",
                    (true, true) => "read workspace",
                };
                let powers = powers.to_owned();
                let expires = key.expires_at.unwrap_or_else(|| "never".to_owned());
                vec![key.id.to_string(), key.name, key.label, powers, expires, key.created_at]
            };
            let rows: Vec<Vec<String>> = keys.into_iter().map(row).collect();
            output::table(&columns, &rows);
        }
    }
    Ok(())
}
