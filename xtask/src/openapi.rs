//! Random requests out of the OpenAPI document, against the release binary: no 5xx, nothing that is not declared.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::sdk::{Server, venv};

/// All of its requests come from one address, most with a wrong key or the one management key.
const UNLIMITED: &str = "[limits]\nfailed_authentications_per_minute = 0\nmanagement_requests_per_minute = 0\n";

/// Installs what is missing, starts a server, and asks it.
pub fn check(root: &Path) -> Result<()> {
    let folder = root.join("tests/openapi");
    let interpreter = venv(root, "openapi-venv", &folder.join("requirements.txt"))?;
    Server::start(root, UNLIMITED)?.drive(Command::new(interpreter).arg(folder.join("check.py")))
}
