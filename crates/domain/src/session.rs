//! Sessions of people in browsers: whoever showed a management key once goes on as its holder, for a while.
//!
//! A session is known by the hash of its token and remembers which key opened it, never the key. Of whether that key is
//! still good it knows nothing: ask at every use.

use std::collections::HashMap;
use std::fmt;

use crate::key::{KeyHash, KeySecret, same_bytes};
use crate::time::{MICROS_PER_SECOND, Timestamp};

/// A session ends when it was not used for so long.
pub const IDLE_MICROS: i64 = 30 * 60 * MICROS_PER_SECOND;
/// A session ends so long after it began, however much it is used.
pub const LIFETIME_MICROS: i64 = 8 * 60 * 60 * MICROS_PER_SECOND;
/// So many sessions are open at a time; one more ends the one that was not used for longest.
pub const SESSIONS_MAX: usize = 1_000;

/// What a browser shows to be recognised. Prints as `[redacted]`.
#[derive(Clone)]
pub struct SessionToken(KeySecret);

impl SessionToken {
    /// The token with these random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(KeySecret::new("", random))
    }

    /// What a browser shows, where it could be a token.
    pub fn parse(text: &str) -> Option<Self> {
        KeySecret::parse("", text).map(Self)
    }

    /// The text itself, for the browser that keeps it.
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }

    /// What is kept of it.
    pub fn hash(&self) -> KeyHash {
        self.0.hash()
    }

    /// What the forms of the session hold. It tells nothing of the token.
    pub fn form_token(&self) -> FormToken {
        FormToken(KeyHash::of(&format!("form {}", self.0.reveal())).to_string())
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What tells a form of our own from one that another site made: only pages shown to the session hold it. Prints as
/// `[redacted]`.
#[derive(Clone)]
pub struct FormToken(String);

impl FormToken {
    /// The text itself, for the form.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `presented` is it; how much of it is right takes no time to tell.
    pub fn is(&self, presented: &str) -> bool {
        same_bytes(KeyHash::of(presented).as_bytes(), KeyHash::of(&self.0).as_bytes())
    }
}

impl fmt::Debug for FormToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// An open session.
#[derive(Clone, Copy, Debug)]
struct Session {
    key: KeyHash,
    began: Timestamp,
    used: Timestamp,
}

impl Session {
    fn over_at(&self, now: Timestamp) -> bool {
        now.micros_since(self.used) >= IDLE_MICROS || now.micros_since(self.began) >= LIFETIME_MICROS
    }
}

/// The open sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    open: HashMap<KeyHash, Session>,
}

impl Sessions {
    /// Opens a session for the holder of `key`, known by `hash`.
    pub fn begin(&mut self, hash: KeyHash, key: KeyHash, now: Timestamp) {
        self.open.retain(|_, session| !session.over_at(now));
        if self.open.len() >= SESSIONS_MAX {
            let stalest = self.open.iter().min_by_key(|(_, session)| session.used).map(|(hash, _)| *hash);
            stalest.map(|hash| self.open.remove(&hash));
        }
        self.open.insert(hash, Session { key, began: now, used: now });
    }

    /// The key behind the session that `hash` knows, which is used at `now`; `None` where there is no such session.
    pub fn used(&mut self, hash: &KeyHash, now: Timestamp) -> Option<KeyHash> {
        let session = self.open.get_mut(hash)?;
        if session.over_at(now) {
            self.open.remove(hash);
            return None;
        }
        session.used = now;
        Some(session.key)
    }

    /// Ends a session, if it is there.
    pub fn end(&mut self, hash: &KeyHash) {
        self.open.remove(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE_SECONDS: i64 = IDLE_MICROS / MICROS_PER_SECOND;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * MICROS_PER_SECOND)
    }

    fn hash(number: usize) -> KeyHash {
        KeyHash::of(&number.to_string())
    }

    #[test]
    fn a_session_ends_of_idleness_and_of_age() {
        let (mut sessions, key) = (Sessions::default(), KeyHash::of("key"));
        sessions.begin(hash(1), key, at(0));
        assert_eq!(sessions.used(&hash(1), at(IDLE_SECONDS - 1)), Some(key));
        assert_eq!(sessions.used(&hash(2), at(0)), None);
        assert_eq!(sessions.used(&hash(1), at(2 * IDLE_SECONDS - 1)), None, "idle");
        assert_eq!(sessions.used(&hash(1), at(0)), None, "gone, whatever the clock does then");

        sessions.begin(hash(3), key, at(0));
        let end = LIFETIME_MICROS / MICROS_PER_SECOND;
        for seconds in (0..end).step_by(600) {
            assert_eq!(sessions.used(&hash(3), at(seconds)), Some(key), "{seconds}");
        }
        assert_eq!(sessions.used(&hash(3), at(end)), None, "too old");
    }

    #[test]
    fn sessions_are_bounded_and_the_stalest_goes_first() {
        let (mut sessions, key) = (Sessions::default(), KeyHash::of("key"));
        for number in 0..SESSIONS_MAX {
            sessions.begin(hash(number), key, at(0));
        }
        for number in (0..SESSIONS_MAX).filter(|number| *number != 7) {
            assert!(sessions.used(&hash(number), at(1)).is_some());
        }
        sessions.begin(hash(SESSIONS_MAX), key, at(2));
        assert_eq!(sessions.open.len(), SESSIONS_MAX);
        assert_eq!(sessions.used(&hash(7), at(2)), None);
        sessions.begin(hash(0), key, at(2 + IDLE_SECONDS));
        assert_eq!(sessions.open.len(), 1, "what is over makes room");
        sessions.end(&hash(0));
        assert_eq!(sessions.used(&hash(0), at(2 + IDLE_SECONDS)), None);
    }

    #[test]
    fn a_form_token_belongs_to_its_session_and_nothing_is_printed() {
        let (mine, other) = (SessionToken::new([1; 32]), SessionToken::new([2; 32]));
        assert!(mine.form_token().is(mine.form_token().reveal()));
        for text in [other.form_token().reveal(), mine.reveal(), "", "x"] {
            assert!(!mine.form_token().is(text));
        }
        assert_eq!(SessionToken::parse(mine.reveal()).unwrap().hash(), mine.hash());
        assert!(SessionToken::parse("").is_none() && SessionToken::parse(&"G".repeat(64)).is_none());
        assert_eq!(format!("{mine:?} {:?}", mine.form_token()), "[redacted] [redacted]");
    }
}
