//! Authorization codes: looked up in memory, written through the queue.

use async_trait::async_trait;
use tollgate_domain::key::Key;
use tollgate_domain::oauth::{
    AuthCode, Challenge, ChallengeMethod, CodeHash, ExchangeRefused, Grant, Presented, Proof, VerifierHash,
};
use tollgate_domain::time::LimitReset;
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{KeyHash, Timestamp, Usd};
use tollgate_store::{Act, Audited, Change, NewCode, NewSecret, OAuthStore, StoreError};

use crate::audit::finish;
use crate::ground::{Engine, Ground, Statement, no_sums, statement};
use crate::sources::Source;
use crate::state::State;
use crate::value::{Row, Unreadable, Value};

/// The codes that were not exchanged.
pub const SOURCE: Source = Source {
    table: "codes",
    columns: "hash, method, verifier, wrong_verifiers, created_at, name, workspace, credit_limit, limit_reset, expires_at",
    but: None,
    put,
    remove,
};

const CREATE: &str =
    "INSERT INTO codes (hash, method, verifier, wrong_verifiers, created_at, name, workspace, credit_limit,
    limit_reset, expires_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

const COUNT: &str = "UPDATE codes SET wrong_verifiers = ?2 WHERE hash = ?1";
const DELETE: &str = "DELETE FROM codes WHERE hash = ?1";
const FORGET: &str = "DELETE FROM codes WHERE created_at <= ?1";

/// Its workspace was deleted.
struct Homeless;

#[async_trait]
impl<G: Ground> OAuthStore for Engine<G> {
    async fn create_code(&self, code: NewCode, act: Act<AuthCode>) -> Result<Option<AuthCode>, StoreError> {
        let created = self
            .change(no_sums, |state, now| {
                let NewCode { hash, challenge, grant } = code;
                let Some(workspace) = state.book.rules.workspace(grant.workspace) else { return Err(Homeless) };
                let change = Change::new("oauth_code.create", public_id(&hash)).within(workspace.uuid);
                let change = change.made(grant.facts());
                let code = AuthCode::new(hash, challenge, grant, now);
                let forgotten = AuthCode::forgotten_until(now);
                state.codes.retain(|_, code| code.created_at > forgotten);
                state.codes.insert(hash, code.clone());
                let forget = statement(FORGET, vec![Value::from(forgotten.micros())]);
                let create = create(&code);
                let mut statements = vec![forget, create];
                statements.extend(finish(act, &code, now, [&change]));
                Ok((code, statements))
            })
            .await?;
        Ok(created.ok())
    }

    async fn exchange_code(
        &self,
        hash: &CodeHash,
        proof: Proof,
        secret: NewSecret,
        act: Act<Key>,
    ) -> Result<Result<Key, ExchangeRefused>, StoreError> {
        let exchanged = self
            .change(no_sums, |state, now| {
                let code = state.codes.get(hash).ok_or(ExchangeRefused::Invalid)?;
                match code.present(&proof, now) {
                    Presented::Refused(refused) => Err(refused),
                    Presented::Wrong(Some(code)) => {
                        let count = statement(COUNT, vec![bytes(hash), Value::from(code.wrong_verifiers)]);
                        state.codes.insert(*hash, code);
                        Ok((Err(ExchangeRefused::Invalid), vec![count]))
                    }
                    Presented::Wrong(None) => {
                        state.codes.remove(hash);
                        Ok((Err(ExchangeRefused::Invalid), vec![statement(DELETE, vec![bytes(hash)])]))
                    }
                    Presented::Redeemed => {
                        let grant = code.grant.clone();
                        if state.book.rules.workspace(grant.workspace).is_none() {
                            return Err(ExchangeRefused::Invalid);
                        }
                        state.codes.remove(hash);
                        let (key, created) = state.insert_key(grant.into_key(secret.hash, secret.label), now);
                        let mut statements = vec![statement(DELETE, vec![bytes(hash)]), created];
                        let change = state.view(key.id, now).map(|view| {
                            let change = Change::new("key.create", key.hash.to_string());
                            let facts = view.facts().with("oauth_code", public_id(hash).as_str());
                            change.within(view.workspace).made(facts)
                        });
                        statements.extend(finish(act, &key, now, &change));
                        Ok((Ok(key), statements))
                    }
                }
            })
            .await?;
        Ok(exchanged.and_then(|answer| answer))
    }
}

/// What a code is called in the audit log: of no use to anybody who would exchange it.
fn public_id(hash: &CodeHash) -> String {
    hash.as_bytes().iter().take(8).fold("code-".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

fn bytes(hash: &CodeHash) -> Value {
    Value::from(hash.as_bytes().to_vec())
}

fn create(code: &AuthCode) -> Statement {
    let grant = &code.grant;
    statement(
        CREATE,
        vec![
            bytes(&code.hash),
            Value::from(code.challenge.method.as_str().to_owned()),
            Value::from(code.challenge.verifier.as_bytes().to_vec()),
            Value::from(code.wrong_verifiers),
            Value::from(code.created_at.micros()),
            Value::from(grant.name.clone()),
            Value::from(grant.workspace.0),
            Value::from(grant.limit.map(Usd::nanos)),
            Value::from(grant.limit_reset.map(|reset| reset.as_str().to_owned())),
            Value::from(grant.expires_at.map(Timestamp::micros)),
        ],
    )
}

fn put(state: &mut State, row: &Row, _: Timestamp) -> Result<(), Unreadable> {
    let code = code(row)?;
    state.codes.insert(code.hash, code);
    Ok(())
}

fn remove(state: &mut State, old: &serde_json::Value) -> Option<()> {
    // Bytes come as `\\x` and hexadecimal digits.
    let hash = old["hash"].as_str()?.strip_prefix("\\x").and_then(KeyHash::parse)?;
    state.codes.remove(&CodeHash::from_bytes(*hash.as_bytes())).map(|_| ())
}

fn code(row: &Row) -> Result<AuthCode, Unreadable> {
    let method: String = row.get(1)?;
    let method =
        ChallengeMethod::from_word(&method).ok_or_else(|| Unreadable::new(1, format!("unknown method `{method}`")))?;
    Ok(AuthCode {
        hash: CodeHash::from_bytes(row.get(0)?),
        challenge: Challenge { method, verifier: VerifierHash::from_bytes(row.get(2)?) },
        wrong_verifiers: row.get(3)?,
        created_at: Timestamp::from_micros(row.get(4)?),
        grant: Grant {
            name: row.get(5)?,
            workspace: WorkspaceId(row.get(6)?),
            limit: row.get::<Option<i64>>(7)?.map(Usd::from_nanos),
            limit_reset: row.get::<Option<String>>(8)?.as_deref().and_then(LimitReset::from_word),
            expires_at: row.get::<Option<i64>>(9)?.map(Timestamp::from_micros),
        },
    })
}
