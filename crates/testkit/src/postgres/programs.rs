//! The programs of a PostgreSQL server, and the user they run as.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::geteuid;

use super::USER;

/// Where Debian keeps them, a folder a version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// They refuse to run as root: who is root runs them as the first of these users that there is.
const USERS: [&str; 2] = ["postgres", "nobody"];
/// Text sorts by bytes, everywhere the same.
const INITDB: [&str; 8] = ["-U", USER, "--auth=trust", "--locale=C", "--encoding=UTF8", "--no-sync", "-N", "-D"];

#[derive(Debug)]
pub(super) struct Programs {
    /// `None`: as the path finds them.
    folder: Option<PathBuf>,
    /// What `postgres --version` says.
    version: String,
    /// Who runs them, if that is somebody else.
    user: Option<(u32, u32)>,
}

impl Programs {
    /// The newest that are installed.
    pub(super) fn find() -> Self {
        let versions = fs::read_dir(DEBIAN).into_iter().flatten().filter_map(|entry| {
            let folder = entry.ok()?.path();
            let version: u32 = folder.file_name()?.to_str()?.parse().ok()?;
            folder.join("bin/postgres").exists().then(|| (version, folder.join("bin")))
        });
        let folder = versions.max().map(|(_, folder)| folder);
        let user = geteuid().is_root().then(|| {
            let found = USERS.iter().find_map(|name| Some((id("-u", name)?, id("-g", name)?)));
            found.expect("PostgreSQL does not run as root: create a user `postgres`")
        });
        let mut programs = Self { folder, version: String::new(), user };
        let version = programs.command("postgres", Path::new("/")).arg("--version").output();
        let version = version.expect("PostgreSQL's server programs are missing: apt-get install postgresql");
        programs.version = String::from_utf8_lossy(&version.stdout).into_owned();
        programs
    }

    /// One of them, by the user who may run it, in a folder that is theirs.
    pub(super) fn command(&self, name: &str, folder: &Path) -> Command {
        let mut command = Command::new(self.folder.as_ref().map_or_else(|| name.into(), |folder| folder.join(name)));
        command.current_dir(folder).env("LC_ALL", "C").env("TZ", "UTC");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// A folder that only the server's user can read.
    pub(super) fn new_folder(&self) -> PathBuf {
        let folder = tempfile::Builder::new().prefix("tollgate-postgres-").tempdir().unwrap();
        if let Some((user, group)) = self.user {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        folder.keep()
    }

    /// Lays out the data of a server: by a copy, since making them takes a second.
    pub(super) fn new_data(&self, data: &Path) {
        let Some(template) = self.template() else { return self.initdb(data) };
        if !template.exists() {
            self.initdb(data);
            // Complete under its name, or not there; another process may have been faster.
            let partial = template.with_extension(std::process::id().to_string());
            copy(data, &partial);
            if fs::rename(&partial, &template).is_err() {
                fs::remove_dir_all(&partial).unwrap();
            }
            return;
        }
        copy(&template, data);
    }

    /// Where this build keeps data to copy, which depend on who runs which programs.
    fn template(&self) -> Option<PathBuf> {
        let program = std::env::current_exe().unwrap();
        let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists())?;
        let mut hasher = DefaultHasher::new();
        (&self.version, self.user, INITDB).hash(&mut hasher);
        Some(target.join(format!("postgres-{:016x}", hasher.finish())))
    }

    fn initdb(&self, data: &Path) {
        let folder = data.parent().unwrap();
        let output = self.command("initdb", folder).args(INITDB).arg(data).output().unwrap();
        assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success(), "cannot copy {} to {}", from.display(), to.display());
}

fn id(kind: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([kind, name]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
