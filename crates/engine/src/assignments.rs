//! Who has which guardrail: at most one each, in memory and on disk.

use tollgate_domain::guardrail::{Assignment, GuardrailId};
use tollgate_domain::key::KeyId;
use tollgate_domain::member::MemberId;
use tollgate_domain::{KeyHash, Timestamp};
use tollgate_store::{Assignees, Change, Facts, GuardrailRefused};
use uuid::Uuid;

use crate::ground::{Statement, statement};
use crate::state::State;
use crate::value::Value;

const ASSIGN_KEY: &str = "INSERT INTO guardrail_keys (key, guardrail, uuid, created_at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (key) DO UPDATE SET guardrail = excluded.guardrail, uuid = excluded.uuid, created_at = excluded.created_at";

const ASSIGN_MEMBER: &str = "INSERT INTO guardrail_members (member, guardrail, uuid, created_at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (member) DO UPDATE SET guardrail = excluded.guardrail, uuid = excluded.uuid, created_at = excluded.created_at";

const UNASSIGN_KEY: &str = "DELETE FROM guardrail_keys WHERE key = ?1";
const UNASSIGN_MEMBER: &str = "DELETE FROM guardrail_members WHERE member = ?1";

/// Whom a guardrail is assigned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A key.
    Key(KeyId),
    /// A member.
    Member(MemberId),
}

impl State {
    /// All of them, or none.
    pub(crate) fn holders(&self, assignees: &Assignees) -> Result<Vec<Holder>, GuardrailRefused> {
        let key = |hash: &String| {
            let found = KeyHash::parse(hash).and_then(|hash| self.managed(&hash));
            found.map(Holder::Key).ok_or_else(|| GuardrailRefused::UnknownKey(hash.clone()))
        };
        let member = |user_id: &String| {
            let found = self.find_member(user_id).map(|member| Holder::Member(member.id));
            found.ok_or_else(|| GuardrailRefused::UnknownMember(user_id.clone()))
        };
        match assignees {
            Assignees::Keys(hashes) => hashes.iter().map(key).collect(),
            Assignees::Members(user_ids) => user_ids.iter().map(member).collect(),
        }
    }

    /// Whoever has a guardrail.
    pub(crate) fn holders_of(&self, guardrail: GuardrailId) -> Vec<Holder> {
        let keys = self.key_guardrails.values().filter(|it| it.guardrail == guardrail).map(|it| Holder::Key(it.to));
        let members = self.member_guardrails.values().filter(|it| it.guardrail == guardrail);
        keys.chain(members.map(|it| Holder::Member(it.to))).collect()
    }

    /// The guardrail that somebody has.
    pub(crate) fn guardrail_of(&self, holder: Holder) -> Option<GuardrailId> {
        match holder {
            Holder::Key(key) => self.key_guardrails.get(&key).map(|assignment| assignment.guardrail),
            Holder::Member(member) => self.member_guardrails.get(&member).map(|assignment| assignment.guardrail),
        }
    }

    /// Gives somebody a guardrail, in the place of any other.
    pub(crate) fn assign(
        &mut self,
        holder: Holder,
        guardrail: GuardrailId,
        uuid: Uuid,
        created_at: Timestamp,
    ) -> Option<Statement> {
        let uuid = Uuid::new_v5(&uuid, self.name_of(holder)?.as_bytes());
        let (sql, to) = match holder {
            Holder::Key(to) => {
                self.book.rules.assign_key(to, Some(guardrail));
                self.key_guardrails.insert(to, Assignment { uuid, guardrail, to, created_at });
                (ASSIGN_KEY, to.0)
            }
            Holder::Member(to) => {
                self.book.rules.assign_member(to, Some(guardrail));
                self.member_guardrails.insert(to, Assignment { uuid, guardrail, to, created_at });
                (ASSIGN_MEMBER, to.0)
            }
        };
        let uuid = uuid.to_string();
        let values = vec![to.into(), guardrail.0.into(), uuid.into(), created_at.micros().into()];
        Some(statement(sql, values))
    }

    /// Takes somebody's guardrail away, if they have one.
    pub(crate) fn unassign(&mut self, holder: Holder) -> Option<Statement> {
        let (sql, from) = match holder {
            Holder::Key(key) => {
                self.key_guardrails.remove(&key)?;
                self.book.rules.assign_key(key, None);
                (UNASSIGN_KEY, key.0)
            }
            Holder::Member(member) => {
                self.member_guardrails.remove(&member)?;
                self.book.rules.assign_member(member, None);
                (UNASSIGN_MEMBER, member.0)
            }
        };
        Some(statement(sql, vec![Value::from(from)]))
    }

    /// A change of somebody's guardrail. It is in the workspace of the key; a member is in none.
    pub(crate) fn assignment_told(
        &self,
        action: &'static str,
        holder: Holder,
        before: Option<GuardrailId>,
        after: Option<GuardrailId>,
    ) -> Option<Change> {
        let uuid = |id: GuardrailId| self.book.rules.guardrail(id).map(|guardrail| guardrail.uuid.to_string());
        let facts = |id: Option<GuardrailId>| Facts::default().with("guardrail_id", id.and_then(uuid).as_ref());
        let workspace = match holder {
            Holder::Key(key) => self.book.key(key).and_then(|account| self.workspace_uuid(account.key.workspace)),
            Holder::Member(_) => None,
        };
        let change = Change::new(action, self.name_of(holder)?).turned(&facts(before), &facts(after));
        Some(Change { workspace, ..change })
    }

    /// The public id of whoever it is.
    fn name_of(&self, holder: Holder) -> Option<String> {
        match holder {
            Holder::Key(key) => self.book.key(key).map(|account| account.key.hash.to_string()),
            Holder::Member(member) => self.members.get(&member).map(|member| member.user_id.clone()),
        }
    }
}
