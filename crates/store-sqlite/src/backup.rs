//! Copies of the database: made while it is at work, and put where one is to be.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, params};
use tollgate_engine::{CLOSED, SET_META};

use crate::committer::Committer;
use crate::damage::first_damage;
use crate::engine::{Embedded, Live, OpenError};
use crate::{migrate, owner};

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is a file of that name.
    #[error("there is a file of that name")]
    Exists,
    /// Another copy to that name is being made, or was broken off.
    #[error("{} is there: another copy is being made, or was broken off and left it; then remove it", .0.display())]
    Draft(PathBuf),
    /// What was copied is not whole.
    #[error("what was copied is damaged: {0}")]
    Damaged(String),
    /// The copy could not be made or written.
    #[error("the copy could not be made: {0}")]
    Failed(String),
}

impl From<rusqlite::Error> for BackupError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<std::io::Error> for BackupError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Embedded {
    /// Copies the database while it is at work, as of the moment when the last page was copied. The copy opens with admission
    /// closed: what is spent after that moment is not in it. `step` is told the pages that are left and those there are, and says
    /// whether to go on.
    ///
    /// # Errors
    /// [`BackupError`]; nothing is left at `path`.
    pub async fn backup(
        &self,
        path: &Path,
        step: impl FnMut(i32, i32) -> bool + Send + 'static,
    ) -> Result<(), BackupError> {
        let (committer, path) = (Arc::clone(&self.committer), path.to_owned());
        let copied = tokio::task::spawn_blocking(move || copy(&committer, &path, step)).await;
        copied.unwrap_or_else(|_| Err(BackupError::Failed("the copy was abandoned".to_owned())))
    }
}

/// A file under another name, until it is whole and on disk. Dropped before that, it is removed.
struct Draft {
    path: PathBuf,
    whole: bool,
}

impl Draft {
    fn create(path: &Path) -> Result<(Self, File), BackupError> {
        let path = named(path, ".part");
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => BackupError::Draft(path.clone()),
            _ => error.into(),
        })?;
        let draft = Self { path, whole: false };
        // Of a draft that somebody removed without them.
        draft.remove_logs();
        Ok((draft, file))
    }

    fn remove_logs(&self) {
        for suffix in ["-journal", "-wal", "-shm"] {
            // Seldom is there one.
            let _ = std::fs::remove_file(named(&self.path, suffix));
        }
    }

    /// Gives it its name, unless something else has it by now.
    fn become_whole(mut self, path: &Path) -> Result<(), BackupError> {
        File::open(&self.path)?.sync_all()?;
        if path.exists() {
            return Err(BackupError::Exists);
        }
        std::fs::rename(&self.path, path)?;
        self.whole = true;
        Ok(owner::sync_folder(path)?)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.whole {
            // What is left of it is of no use to anybody.
            let _ = std::fs::remove_file(&self.path);
            self.remove_logs();
        }
    }
}

pub fn named(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn copy(committer: &Arc<Committer<Live>>, path: &Path, step: impl FnMut(i32, i32) -> bool) -> Result<(), BackupError> {
    if path.exists() {
        return Err(BackupError::Exists);
    }
    let (draft, _) = Draft::create(path)?;
    let mut to = Connection::open(&draft.path)?;
    committer.copy(&mut to, step).map_err(BackupError::Failed)?;
    // No log beside it: a backup is one file.
    to.pragma_update(None, "journal_mode", "DELETE")?;
    owner::unmark(&to)?;
    to.execute(SET_META, params![CLOSED, vec![1_u8]])?;
    // Better now than when it is needed.
    check(&to)?;
    to.close().map_err(|(_, error)| error)?;
    draft.become_whole(path)
}

/// Whether every page of a copy is what SQLite expects there.
fn check(copy: &Connection) -> Result<(), BackupError> {
    first_damage(copy)?.map_or(Ok(()), |damage| Err(BackupError::Damaged(damage)))
}

/// Puts a backup where a database is to be. It opens with admission closed.
///
/// # Errors
/// [`BackupError`]; there is still nothing at `database`.
pub fn restore(backup: &Path, database: &Path) -> Result<(), BackupError> {
    // A log that another file left would be played over this one.
    if ["", "-wal", "-shm", "-journal"].iter().any(|suffix| named(database, suffix).exists()) {
        return Err(BackupError::Exists);
    }
    let (draft, mut file) = Draft::create(database)?;
    std::io::copy(&mut File::open(backup)?, &mut file)?;
    let copy = Connection::open(&draft.path)?;
    check(&copy)?;
    if !migrate::is_migrated(&copy)? {
        return Err(BackupError::Failed("it is not a database of tollgate".to_owned()));
    }
    if owner::token(&copy)?.is_some() {
        return Err(BackupError::Failed(OpenError::Copied.to_string()));
    }
    copy.execute(SET_META, params![CLOSED, vec![1_u8]])?;
    copy.close().map_err(|(_, error)| error)?;
    draft.become_whole(database)
}
