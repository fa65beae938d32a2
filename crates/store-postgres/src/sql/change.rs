//! A change of what management knows, alone under the configuration's lock.

use deadpool_postgres::Object;
use tollgate_domain::Timestamp;
use tollgate_domain::ledger::{Balance, Scope};
use tollgate_domain::time::Windows;
use tollgate_engine::{Corrected, Row, Statement, Value, scope_columns};

use super::batch::{self, place};
use super::values::{Bound, Together, broken, dialect};
use super::{CHANNEL, CONFIG_LOCK, read};
use crate::seam::{Broken, Change, Committed, Identity, News, Share};

/// A transaction that is dropped before its end takes its session with it.
pub struct SqlChange {
    session: Option<Object>,
    now: Timestamp,
    version: i64,
}

impl Drop for SqlChange {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            drop(Object::take(session));
        }
    }
}

impl SqlChange {
    pub async fn begin(session: Object) -> Result<Self, Broken> {
        let mut together = Together::default();
        together.add("BEGIN", vec![]);
        together.add("SELECT FROM (SELECT pg_advisory_xact_lock($1)) AS locked", vec![Box::new(CONFIG_LOCK)]);
        together.add(read::NOW, vec![]);
        let mut begun = Self { session: None, now: Timestamp::default(), version: 0 };
        let mut answers = together.send(&session).await;
        begun.session = Some(session);
        let failed = answers.iter_mut().find_map(|answer| answer.as_ref().err().map(broken));
        if let Some(failed) = failed {
            return Err(failed);
        }
        let last = answers.pop().and_then(Result::ok).unwrap_or_default();
        (begun.version, begun.now) = read::now(&last)?;
        Ok(begun)
    }

    fn session(&self) -> Result<&Object, Broken> {
        self.session.as_ref().ok_or_else(|| Broken("the change has ended".to_owned()))
    }
}

impl Change for SqlChange {
    fn now(&self) -> Timestamp {
        self.now
    }

    async fn news(&mut self, since: i64) -> Result<Option<News>, Broken> {
        if since == self.version {
            return Ok(None);
        }
        read::news_within(self.session()?, since, self.version).await.map(Some)
    }

    async fn sums(&mut self, scopes: &[Scope]) -> Result<Vec<(Balance, Option<Timestamp>)>, Broken> {
        let (words, ids) = read::columns(scopes.iter().copied());
        let rows = self.session()?.query(read::SUMS, &[&words, &ids]).await.map_err(|error| broken(&error))?;
        read::sums(&rows, scopes)
    }

    async fn query(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, Broken> {
        read::query(self.session()?, sql, &values).await
    }

    async fn correct(
        &mut self,
        node: Identity,
        corrected: &Corrected,
        shares: &[(Scope, Share)],
    ) -> Result<(), Broken> {
        let session = self.session()?;
        let booked = async {
            let windows = Windows::at(corrected.correction.admitted_at);
            for (scope, share) in shares {
                let (word, id) = scope_columns(*scope);
                let node = place(*share, node);
                let row = session.query_one(batch::TAKE, &[&word, &id, &node]).await?;
                let mut balance = read::balance(&row, 0)?;
                balance.spend(corrected.correction.amounts, &windows);
                let [numbers, spent, held] = batch::arrays(std::iter::once(&balance));
                session.execute(batch::PUT_ONE, &[&word, &id, &node, &numbers, &spent, &held]).await?;
            }
            let mut together = Together::default();
            batch::add_correction(&mut together, corrected, self.now);
            batch::add_correction_rollup(&mut together, corrected, node);
            for answer in together.send(session).await {
                answer?;
            }
            Ok::<_, tokio_postgres::Error>(())
        };
        booked.await.map_err(|error| broken(&error))
    }

    async fn commit(mut self, statements: Vec<Statement>) -> Committed {
        let Some(session) = self.session.take() else { return Committed::Failed("the change has ended".to_owned()) };
        let written = async {
            // Triggers stamp what follows with the new version.
            session.execute("UPDATE config SET version = version + 1", &[]).await?;
            for Statement { sql, values } in &statements {
                let statement = session.prepare_cached(&dialect(sql)).await?;
                let bound: Vec<Bound<'_>> = values.iter().map(Bound).collect();
                let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
                    bound.iter().map(|it| -> &(dyn tokio_postgres::types::ToSql + Sync) { it }).collect();
                session.execute(&statement, &parameters).await?;
            }
            session.batch_execute(&format!("NOTIFY {CHANNEL}")).await
        };
        if let Err(error) = written.await {
            // Nothing was committed, and the session does not come back.
            drop(Object::take(session));
            return Committed::Failed(broken(&error).0);
        }
        match session.batch_execute("COMMIT").await {
            Ok(()) => Committed::Done,
            Err(error) => {
                drop(Object::take(session));
                Committed::Unknown(broken(&error).0)
            }
        }
    }
}
