//! The audit log: who changed what, from what to what, and when. An entry is written with the change or not at all.

use async_trait::async_trait;
use tollgate_domain::{Timestamp, Usd};
use uuid::Uuid;

use crate::{Actor, Page, PageQuery, StoreError};

/// Something that is worth knowing of what was changed. Never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// It is not set.
    Nothing,
    /// Words.
    Text(String),
    /// USD.
    Amount(Usd),
    /// A whole number.
    Count(i64),
    /// Yes or no.
    Flag(bool),
    /// An instant.
    Time(Timestamp),
    /// Several words.
    List(Vec<String>),
}

impl From<&str> for Fact {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Fact {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<Usd> for Fact {
    fn from(amount: Usd) -> Self {
        Self::Amount(amount)
    }
}

impl From<i64> for Fact {
    fn from(count: i64) -> Self {
        Self::Count(count)
    }
}

impl From<bool> for Fact {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<Timestamp> for Fact {
    fn from(at: Timestamp) -> Self {
        Self::Time(at)
    }
}

impl From<&Vec<String>> for Fact {
    fn from(words: &Vec<String>) -> Self {
        Self::List(words.clone())
    }
}

impl<T: Into<Self>> From<Option<T>> for Fact {
    fn from(maybe: Option<T>) -> Self {
        maybe.map_or(Self::Nothing, Into::into)
    }
}

/// Facts by name, in the order in which they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts(Vec<(String, Fact)>);

impl Facts {
    /// These, and one more.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, fact: impl Into<Fact>) -> Self {
        self.0.push((name.into(), fact.into()));
        self
    }

    /// Those that `other` does not have just so.
    fn unlike(&self, other: &Self) -> Self {
        Self(self.0.iter().filter(|fact| !other.0.contains(fact)).cloned().collect())
    }

    /// As a JSON object.
    pub fn json(&self) -> String {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let value = |fact: &Fact| match fact {
            Fact::Nothing => "null".to_owned(),
            Fact::Text(words) => text(words),
            Fact::Amount(amount) => amount.to_string(),
            Fact::Count(count) => count.to_string(),
            Fact::Flag(flag) => flag.to_string(),
            Fact::Time(at) => text(&at.to_string()),
            Fact::List(words) => format!("[{}]", words.iter().map(|word| text(word)).collect::<Vec<_>>().join(",")),
        };
        let members: Vec<_> = self.0.iter().map(|(name, fact)| format!("{}:{}", text(name), value(fact))).collect();
        format!("{{{}}}", members.join(","))
    }
}

/// Of what there are facts for the audit log.
pub trait Audited {
    /// What is worth knowing of it; no secret, and no sums, which stand in the ledger.
    fn facts(&self) -> Facts;
}

/// What was done, to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What was done, such as `key.create`.
    pub action: &'static str,
    /// The public id of what it was done to.
    pub target: String,
    /// The workspace that it is in, if it is in one.
    pub workspace: Option<Uuid>,
    /// How it was; of an update only what changed.
    pub before: Option<Facts>,
    /// How it is; of an update only what changed.
    pub after: Option<Facts>,
}

impl Change {
    /// Something that tells of nothing but itself.
    pub fn new(action: &'static str, target: impl Into<String>) -> Self {
        Self { action, target: target.into(), workspace: None, before: None, after: None }
    }

    /// In this workspace.
    #[must_use]
    pub fn within(self, workspace: Uuid) -> Self {
        Self { workspace: Some(workspace), ..self }
    }

    /// What there is now.
    #[must_use]
    pub fn made(self, after: Facts) -> Self {
        Self { after: Some(after), ..self }
    }

    /// What there was.
    #[must_use]
    pub fn ended(self, before: Facts) -> Self {
        Self { before: Some(before), ..self }
    }

    /// What is otherwise than it was.
    #[must_use]
    pub fn turned(self, before: &Facts, after: &Facts) -> Self {
        Self { before: Some(before.unlike(after)), after: Some(after.unlike(before)), ..self }
    }
}

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number: rises with time.
    pub id: i64,
    /// When, by the ledger's clock.
    pub at: Timestamp,
    /// Who.
    pub by: Actor,
    /// What was done.
    pub action: String,
    /// The public id of what it was done to.
    pub target: String,
    /// The workspace that it is in.
    pub workspace: Option<Uuid>,
    /// How it was, a JSON object.
    pub before: Option<String>,
    /// How it is, a JSON object.
    pub after: Option<String>,
}

/// Which entries to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only of this workspace.
    pub workspace: Option<Uuid>,
    /// Only what was done to this.
    pub target: Option<String>,
    /// Only this action, or those of this noun (`key`).
    pub action: Option<String>,
    /// The part.
    pub page: PageQuery,
}

/// The audit log, and whatever else is remembered of requests.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Entries, newest first.
    async fn audit(&self, query: AuditQuery) -> Result<Page<AuditEntry>, StoreError>;

    /// The answer that was kept under this id within the last 24 hours, once it is durable.
    async fn kept_answer(&self, id: [u8; 32]) -> Result<Option<crate::KeptAnswer>, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_json_with_exact_amounts_and_escaped_words() {
        let facts = Facts::default()
            .with("name", "a \"b\"\n")
            .with("limit", Usd::from_nanos(5_790))
            .with("n", 3_i64)
            .with("none", None::<bool>)
            .with("models", &vec!["a/b".to_owned(), "c".to_owned()]);
        let json: serde_json::Value = serde_json::from_str(&facts.json()).unwrap();
        assert_eq!(facts.json().split("\"limit\":").nth(1).unwrap().split(',').next(), Some("0.00000579"));
        assert_eq!(json["name"], "a \"b\"\n");
        assert_eq!(json["models"][1], "c");
        assert!(json["none"].is_null());
    }

    #[test]
    fn an_update_tells_only_what_changed() {
        let before = Facts::default().with("name", "a").with("limit", Usd::from_nanos(1));
        let after = Facts::default().with("name", "a").with("limit", None::<Usd>);
        let change = Change::new("key.update", "hash").turned(&before, &after);
        assert_eq!(change.before.unwrap().json(), r#"{"limit":0.000000001}"#);
        assert_eq!(change.after.unwrap().json(), r#"{"limit":null}"#);
    }
}
