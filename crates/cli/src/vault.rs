//! The key that secrets are sealed with: given by the operator, or a file beside the database.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tollgate_app::{OsRandom, Random, Vault};
use tollgate_store::Store;

use crate::failure::{Failure, Kind};

/// The variable that gives the key.
pub const VARIABLE: &str = "TOLLGATE_ENCRYPTION_KEY";

/// The vault of a database. Where no key is given and none was ever used, one is made beside the file. On a server there is no
/// such place: without a key, no secret of a provider can be stored.
///
/// # Errors
/// The key is none, or the one that was used is gone.
pub async fn open(
    database: Option<&Path>,
    store: &dyn Store,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Option<Vault>, Failure> {
    if let Some(text) = environment(VARIABLE) {
        return Vault::parse(&text).map(Some).ok_or_else(|| {
            Failure::new(Kind::Usage, format!("{VARIABLE} is not 64 hex digits"))
                .next("make one with `openssl rand -hex 32`, or unset it to use the key file beside the database")
        });
    }
    let used = || async { store.has_vault().await.map_err(|error| Failure::new(Kind::Failed, error.to_string())) };
    let Some(database) = database else {
        if used().await? {
            let fact = format!("{VARIABLE} is not set, and secrets in the database are sealed with it");
            return Err(Failure::new(Kind::Failed, fact).next("set it to the key that the other nodes have"));
        }
        return Ok(None);
    };
    let file = key_file(database);
    let wrong = |what: &str| Failure::new(Kind::Failed, format!("{}: {what}", file.display()));
    match std::fs::read_to_string(&file) {
        Ok(text) => Vault::parse(&text)
            .map(Some)
            .ok_or_else(|| wrong("is not a key of 64 hex digits").next(format!("restore it, or set {VARIABLE}"))),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(wrong(&error.to_string())),
        Err(_) => {
            if used().await? {
                return Err(wrong("is missing, and secrets in the database are sealed with it")
                    .next(format!("restore the file, or set {VARIABLE} to the key it held")));
            }
            let vault = OsRandom.bytes().map(Vault::new).map_err(|error| wrong(&error.to_string()))?;
            write(&file, &vault).map_err(|error| wrong(&error.to_string()))?;
            Ok(Some(vault))
        }
    }
}

/// What to say when the database was sealed with another key.
pub fn other_key() -> Failure {
    let fact = "secrets in the database are sealed with another encryption key";
    Failure::new(Kind::Failed, fact)
        .next(format!("set {VARIABLE} to the key that was used before, or unset it if there was a key file"))
}

/// Only its owner reads it, and it is on disk, whole and under its name, before anything is sealed with it.
fn write(file: &Path, vault: &Vault) -> std::io::Result<()> {
    let draft = file.with_extension("key.new");
    // Left by a process that died: nothing was sealed with it.
    let _ = std::fs::remove_file(&draft);
    let mut created = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    writeln!(created, "{}", vault.reveal())?;
    created.sync_all()?;
    std::fs::rename(&draft, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

fn key_file(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".key");
    PathBuf::from(name)
}
