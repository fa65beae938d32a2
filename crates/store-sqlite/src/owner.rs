//! Who has the file open, so that one that was copied meanwhile is told from the original.
//!
//! Each start makes a token. It stands in the database, and beside it in `<database>.owner` with the number that the file system
//! knows the database by and, where it keeps that, the moment at which it was made; a stop removes both. A database with a token was
//! not closed: it is the original, after a crash, only where the file beside it knows that token, that number and that moment.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use tollgate_engine::{CLOSED, SET_META};

use crate::damage::first_damage;
use crate::engine::OpenError;

const RUNNING: &str = "SELECT value FROM meta WHERE name = 'running' AND typeof(value) = 'blob'";

const NOT_RUNNING: &str = "DELETE FROM meta WHERE name = 'running'";

/// What a start marks the database with. Random.
pub type Token = [u8; 32];

/// What stands beside the database while it is open.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    place: Place,
    tokens: Vec<String>,
}

/// Which file a path is. The first files of two volumes have the same number, but were made at different moments.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    inode: u64,
    /// In nanoseconds; 0 where the file system does not say.
    born: u128,
}

impl Place {
    fn of(path: &Path) -> std::io::Result<Self> {
        let file = std::fs::metadata(path)?;
        let born = file.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Ok(Self { inode: file.ino(), born: born.map_or(0, |since| since.as_nanos()) })
    }

    fn is(&self, other: &Self) -> bool {
        self.inode == other.inode && (self.born == other.born || self.born == 0 || other.born == 0)
    }
}

impl Mark {
    /// `inode born token token…`, in one line.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let place = Place { inode: words.next()?.parse().ok()?, born: words.next()?.parse().ok()? };
        Some(Self { place, tokens: words.map(str::to_owned).collect() })
    }

    fn print(&self) -> String {
        format!("{} {} {}\n", self.place.inode, self.place.born, self.tokens.join(" "))
    }
}

fn beside(database: &Path) -> PathBuf {
    // Where its log is, too.
    let database = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    let mut name = database.into_os_string();
    name.push(".owner");
    PathBuf::from(name)
}

/// The token of a database that was not closed.
pub fn token(db: &Connection) -> rusqlite::Result<Option<Token>> {
    db.query_row(RUNNING, [], |row| row.get(0)).optional()
}

/// The tokens of a database: with its log, and in the file itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    left: Option<Token>,
    own: Option<Token>,
}

/// Refuses a copy that was made while a process had the original open. Otherwise what the last process left, if it died. `own` is what
/// [`token_without_log`] found.
///
/// # Errors
/// [`OpenError::Copied`], or the database cannot be read.
pub fn check(db: &Connection, path: &Path, own: Option<Token>) -> Result<Found, OpenError> {
    let found = Found { left: token(db)?, own };
    let Some(left) = found.left else { return Ok(found) };
    let place = Place::of(path)?;
    let mark = std::fs::read_to_string(beside(path)).ok().as_deref().and_then(Mark::parse);
    let known =
        |mark: Mark| mark.place.is(&place) && own.iter().chain([&left]).all(|it| mark.tokens.contains(&hex(*it)));
    if mark.is_some_and(known) { Ok(found) } else { Err(OpenError::Copied) }
}

/// The token in the file itself: the log beside it may be of another file than the one that it lies beside now. Ask before the
/// database is opened, which writes the log into the file.
pub fn token_without_log(path: &Path) -> Option<Token> {
    let name = path.to_str()?.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    // What is wrong with the file is found when it is opened.
    let db = Connection::open_with_flags(format!("file:{name}?immutable=1"), flags).ok()?;
    token(&db).ok()?
}

/// Marks a database that is opened; `found` is what [`check`] found.
///
/// # Errors
/// The mark cannot be written.
pub fn mark(db: &Connection, path: &Path, found: Found, new: Token) -> Result<(), OpenError> {
    (0..MARK_STEPS).try_for_each(|step| mark_step(step, db, path, found, new))
}

const MARK_STEPS: usize = 4;

/// A step of [`mark`]: this process may die after each.
fn mark_step(step: usize, db: &Connection, path: &Path, found: Found, new: Token) -> Result<(), OpenError> {
    let known = |tokens: &[Option<Token>]| {
        let tokens = tokens.iter().flatten().copied().map(hex).collect();
        write(path, &Mark { place: Place::of(path)?, tokens }.print())
    };
    match step {
        // All that may be found next time.
        0 => known(&[found.own, found.left, Some(new)])?,
        1 => db.execute(SET_META, params!["running", new]).map(|_| ())?,
        // Into the file itself: a copy of it carries the mark, whatever becomes of the log beside it.
        2 => checkpoint(db)?,
        _ => known(&[Some(new)])?,
    }
    Ok(())
}

fn checkpoint(db: &Connection) -> rusqlite::Result<()> {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

fn hex(token: Token) -> String {
    token.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn write(database: &Path, text: &str) -> std::io::Result<()> {
    let path = beside(database);
    let mut draft = path.clone().into_os_string();
    draft.push(".part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, &path)?;
    sync_folder(&path)
}

/// Makes the names in the folder of `path` durable.
pub fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(folder)?.sync_all()
}

/// Takes the token out of a database.
pub fn unmark(db: &Connection) -> rusqlite::Result<()> {
    db.execute(NOT_RUNNING, []).map(|_| ())
}

/// The database is closed: what it is a copy of does not matter any more.
pub fn leave(db: &Connection, path: &Path) -> rusqlite::Result<()> {
    unmark(db)?;
    checkpoint(db)?;
    // Without a token in the file nobody looks at it.
    let _ = std::fs::remove_file(beside(path));
    Ok(())
}

/// Takes a database that [`check`] refuses for what it is. What was written while it was copied may not be in it, so admission is
/// closed. Whether there was anything to accept.
///
/// # Errors
/// It is open, or is no database, or the log beside it is of another file.
pub fn accept(path: &Path) -> Result<bool, OpenError> {
    let own = token_without_log(path);
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    db.busy_timeout(Duration::ZERO)?;
    match check(&db, path, own) {
        Ok(_) => return Ok(false),
        Err(OpenError::Copied) => {}
        Err(other) => return Err(other),
    }
    if own.is_some() && own != token(&db)? {
        return Err(OpenError::Damaged("the log beside it is of another file: move it away".to_owned()));
    }
    if let Some(damage) = first_damage(&db)? {
        return Err(OpenError::Damaged(damage));
    }
    db.execute(SET_META, params![CLOSED, vec![1_u8]])?;
    leave(&db, path)?;
    db.close().map_err(|(_, error)| error)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let place = Place { inode: 42, born: 1_795_300_000_000_000_000 };
        let mark = Mark { place, tokens: vec!["ab".to_owned(), "cd".to_owned()] };
        assert_eq!(Mark::parse(&mark.print()), Some(mark));
        assert_eq!(Mark::parse(""), None);
        assert_eq!(Mark::parse("x 0 ab"), None);
        assert_eq!(Mark::parse("42 ab"), None, "of nobody knows when");
    }

    #[test]
    fn a_file_of_the_same_number_that_was_made_at_another_moment_is_another() {
        let place = |inode, born| Place { inode, born };
        assert!(place(2, 7).is(&place(2, 7)));
        assert!(!place(2, 7).is(&place(2, 8)));
        assert!(!place(2, 7).is(&place(3, 7)));
        assert!(place(2, 0).is(&place(2, 7)) && place(2, 7).is(&place(2, 0)), "nobody knows when");
    }

    /// A connection whose end is that of a process that died.
    fn open(path: &Path) -> Connection {
        let db = Connection::open(path).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        db
    }

    #[test]
    fn wherever_starts_and_a_stop_break_off_the_original_is_known() {
        let steps = 0..=MARK_STEPS;
        let orders = steps.clone().flat_map(|one| {
            let steps = steps.clone();
            steps.clone().flat_map(move |two| steps.clone().map(move |three| [one, two, three]))
        });
        for order in orders {
            for stopped in [None, Some(0), Some(1), Some(2)] {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("a.db");
                open(&path)
                    .execute_batch("CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT")
                    .unwrap();
                for (place, steps) in order.into_iter().enumerate() {
                    let own = token_without_log(&path);
                    let db = open(&path);
                    let found = check(&db, &path, own);
                    let found = found.unwrap_or_else(|error| panic!("{order:?} {stopped:?} {place}: {error}"));
                    let new = [u8::try_from(place).unwrap() + 1; 32];
                    for step in 0..steps {
                        mark_step(step, &db, &path, found, new).unwrap();
                    }
                    if steps == MARK_STEPS && stopped == Some(place) {
                        // Its end broke off before the log was written into the file.
                        unmark(&db).unwrap();
                    }
                }
                let own = token_without_log(&path);
                let last = check(&open(&path), &path, own);
                assert!(last.is_ok(), "{order:?} {stopped:?}");
            }
        }
    }
}
