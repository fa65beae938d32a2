//! PostgreSQL's server programs, of which tests start servers of their own.
#![expect(clippy::print_stderr, reason = "a task tells what it does")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::installed;

const PACKAGE: &str = "postgresql";
/// Read by Debian's scripts when the package is installed: no server of its own is to be made and started.
const NO_CLUSTER: (&str, &str) =
    ("/etc/postgresql-common/createcluster.d/tollgate.conf", "create_main_cluster = false\n");

/// Installs them with apt-get where they are missing.
pub fn need() -> Result<()> {
    if found() {
        return Ok(());
    }
    eprintln!("PostgreSQL is missing: installing {PACKAGE} with apt-get");
    let (file, text) = (Path::new(NO_CLUSTER.0), NO_CLUSTER.1);
    // Where this cannot be written, apt-get fails too, and tells more of it.
    let told = file.parent().is_some_and(|folder| fs::create_dir_all(folder).is_ok()) && fs::write(file, text).is_ok();
    let done = install();
    if told {
        fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    done?;
    if !found() {
        bail!("PostgreSQL's server programs are still missing; install {PACKAGE}, then run this again");
    }
    Ok(())
}

fn install() -> Result<()> {
    if apt_get(&["install", "-y", "-q", "--no-install-recommends", PACKAGE]).is_ok() {
        return Ok(());
    }
    apt_get(&["update", "-q"])?;
    apt_get(&["install", "-y", "-q", "--no-install-recommends", PACKAGE])
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().context("there is no apt-get; install PostgreSQL's server programs by hand")?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

/// As `testkit` looks for them.
fn found() -> bool {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let in_debian = debian.map(|version| version.path().join("bin")).any(|folder| folder.join("initdb").exists());
    in_debian || (installed("initdb") && installed("postgres"))
}
