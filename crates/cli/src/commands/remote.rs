//! Where a server is, and the management key that it is asked with.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use tollgate_client::Client;

use crate::cli::variable;
use crate::failure::{Failure, Kind};
use crate::output;

/// The options of every command that asks a server.
#[derive(Debug, Args)]
pub struct Remote {
    /// Server to talk to
    #[arg(long, global = true, env = "TOLLGATE_URL", default_value = "http://127.0.0.1:4000")]
    url: String,
    /// File with a management key, `-` is stdin [env: `TOLLGATE_MANAGEMENT_KEY` holds the key itself]
    #[arg(long, global = true, value_name = "F")]
    management_key_file: Option<PathBuf>,
    /// Print the API's JSON and nothing else
    #[arg(long, global = true)]
    pub json: bool,
    /// Do it once, however often it is sent under this text (24 hours)
    #[arg(long, global = true, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl Remote {
    /// A client of the server.
    ///
    /// # Errors
    /// There is no management key.
    pub fn client(&self) -> Result<Client, Failure> {
        let client = Client::new(&self.url, &management_key(self.management_key_file.as_deref())?);
        Ok(client.once(self.idempotency_key.clone()))
    }
}

fn management_key(file: Option<&Path>) -> Result<String, Failure> {
    let text = match file {
        Some(path) if path.as_os_str() == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        }
        Some(path) => std::fs::read_to_string(path),
        None => match variable("TOLLGATE_MANAGEMENT_KEY") {
            Some(key) => Ok(key),
            None => {
                let failure = Failure::new(Kind::Credential, "no management key given");
                return Err(failure.next("set TOLLGATE_MANAGEMENT_KEY, or name a file with --management-key-file"));
            }
        },
    };
    let text =
        text.map_err(|error| Failure::new(Kind::Credential, format!("the management key cannot be read: {error}")))?;
    Ok(text.trim().to_owned())
}

/// Prints a value as the API says it.
pub fn print_json(value: &impl serde::Serialize) {
    output::result(&serde_json::to_string(value).unwrap_or_default());
}
