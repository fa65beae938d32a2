//! What a command that failed says, and the exit code it leaves with.

use tollgate_client::ClientError;

/// What kind of failure it was: the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Refused or failed.
    Failed = 1,
    /// Wrong usage or configuration; nothing was sent.
    Usage = 2,
    /// Not found, or not the only one.
    NotFound = 3,
    /// The management key is missing or was refused.
    Credential = 4,
    /// No server or database answers; worth a retry.
    Unreachable = 5,
}

/// A fact, and the next step.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub kind: Kind,
    /// What happened.
    pub fact: String,
    /// What to do now.
    pub next: Option<String>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(kind: Kind, fact: impl Into<String>) -> Self {
        Self { kind, fact: fact.into(), next: None }
    }

    /// The same, with the next step.
    #[must_use]
    pub fn next(self, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..self }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let fact = error.to_string();
        match error {
            ClientError::Url(_) => Self::new(Kind::Usage, fact).next("give --url as http://host:port"),
            ClientError::IdempotencyKey => Self::new(Kind::Usage, fact).next("use letters, digits and hyphens"),
            ClientError::Unreachable { .. } => Self::new(Kind::Unreachable, fact)
                .next("start one with `tollgate serve`, or name another with --url or TOLLGATE_URL"),
            ClientError::Refused { status: 401 | 403, .. } => Self::new(Kind::Credential, fact)
                .next("give a management key in TOLLGATE_MANAGEMENT_KEY; `tollgate management-keys create` makes one"),
            ClientError::Refused { status: 404, .. } => {
                Self::new(Kind::NotFound, fact).next("`tollgate keys list --all` shows them all")
            }
            ClientError::Refused { status: 429, .. } => {
                Self::new(Kind::Failed, fact).next("try again in a moment, or make many keys at once with `--from`")
            }
            ClientError::Refused { status: 500.., .. } => {
                Self::new(Kind::Unreachable, fact).next("try again in a moment; the server's log says why")
            }
            ClientError::Refused { .. } | ClientError::Malformed(_) => Self::new(Kind::Failed, fact),
        }
    }
}
