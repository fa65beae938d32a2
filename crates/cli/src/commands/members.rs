//! `tollgate members list|add|remove`: over HTTP.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use tollgate_wire::{CreateMember, OrganizationMember};

use crate::commands::remote::{Remote, print_json};
use crate::failure::Failure;
use crate::output::{self, Column};

/// `tollgate members …`
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show everybody, oldest first
    List,
    /// Add somebody; their id goes to stdout
    Add {
        /// Where they are reached
        email: String,
        /// Their first name
        #[arg(long)]
        first_name: Option<String>,
        /// Their last name
        #[arg(long)]
        last_name: Option<String>,
        /// What they may do
        #[arg(long, value_enum, default_value = "member")]
        role: Role,
    },
    /// Remove somebody whose keys are all deleted
    Remove {
        /// Their id, `user_…`
        user_id: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Member,
    Admin,
}

/// Runs the command.
///
/// # Errors
/// The server does not answer, or refuses.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let client = arguments.remote.client()?;
    let as_json = arguments.remote.json;
    match arguments.action {
        Action::List => {
            let members = client.members().await?;
            if as_json {
                print_json(&json!({"data": members}));
            } else {
                show(members);
            }
        }
        Action::Add { email, first_name, last_name, role } => {
            let role = match role {
                Role::Member => "member",
                Role::Admin => "admin",
            };
            let new = CreateMember { email, first_name, last_name, role: Some(role.to_owned()) };
            let member = client.create_member(&new).await?;
            if as_json {
                print_json(&json!({"data": member}));
            } else {
                output::note(&format!("added {}", member.email));
                output::result(&member.id);
            }
        }
        Action::Remove { user_id } => {
            client.remove_member(&user_id).await?;
            if as_json {
                print_json(&json!({"deleted": true}));
            } else {
                output::note("removed");
            }
        }
    }
    Ok(())
}

fn show(members: Vec<OrganizationMember>) {
    let columns = ["ID", "EMAIL", "FIRST NAME", "LAST NAME", "ROLE"].map(|head| Column { head, right: false });
    let row = |member: OrganizationMember| {
        let (first, last) = (member.first_name.unwrap_or_default(), member.last_name.unwrap_or_default());
        vec![member.id, member.email, first, last, member.role]
    };
    let rows: Vec<Vec<String>> = members.into_iter().map(row).collect();
    output::table(&columns, &rows);
}
