//! Who changes something, and what is kept of the answer.

use tollgate_domain::key::ManagementKeyId;
use tollgate_domain::workspace::WorkspaceId;

/// Who does what management does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Whoever has this management key.
    Management {
        /// Its number.
        id: ManagementKeyId,
        /// Its name at the time.
        name: String,
        /// The workspace that it reaches; `None` is all of them.
        within: Option<WorkspaceId>,
    },
    /// Whoever runs commands on the database itself.
    Operator,
    /// The configuration, at start.
    Config,
    /// An app, with a code that it was given.
    App,
}

impl Actor {
    /// The word for what they are.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Management { .. } => "management_key",
            Self::Operator => "operator",
            Self::Config => "config",
            Self::App => "app",
        }
    }

    /// Whoever this word is for; `key` is the number and the name of a management key.
    pub fn from_word(word: &str, key: Option<(ManagementKeyId, String)>) -> Option<Self> {
        match (word, key) {
            ("management_key", Some((id, name))) => Some(Self::Management { id, name, within: None }),
            ("operator", None) => Some(Self::Operator),
            ("config", None) => Some(Self::Config),
            ("app", None) => Some(Self::App),
            _ => None,
        }
    }

    /// Whether they may change what is in `workspace`.
    pub fn reaches(&self, workspace: WorkspaceId) -> bool {
        match self {
            Self::Management { within, .. } => within.is_none_or(|within| within == workspace),
            Self::Operator | Self::Config | Self::App => true,
        }
    }
}

/// An answer that the same request gets again (DESIGN section 6, "idempotent replays").
#[derive(Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// What finds it: known only to who has the caller's secret and its idempotency key.
    pub id: [u8; 32],
    /// The SHA-256 of the request.
    pub request: [u8; 32],
    /// Status and body, sealed.
    pub sealed: Vec<u8>,
}

/// Makes the answer to be kept out of what was created, if there is one.
pub type Keep<T> = Box<dyn FnOnce(&T) -> Option<KeptAnswer> + Send>;

/// Something that is created: by whom, and what is kept of the answer, written together with it or not at all.
pub struct Act<T> {
    /// Who does it.
    pub by: Actor,
    /// What is kept, where the caller may ask again.
    pub keep: Option<Keep<T>>,
}

impl<T> From<Actor> for Act<T> {
    fn from(by: Actor) -> Self {
        Self { by, keep: None }
    }
}

impl<T: 'static> Act<T> {
    /// The same act, seen from where a `U` is at hand and a `T` is made of it.
    pub fn over<U>(self, made: impl FnOnce(&U) -> Option<T> + Send + 'static) -> Act<U> {
        let keep = self.keep.map(|keep| -> Keep<U> { Box::new(move |value: &U| keep(&made(value)?)) });
        Act { by: self.by, keep }
    }
}
