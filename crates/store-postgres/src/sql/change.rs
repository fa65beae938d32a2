//! A change of what management knows, alone under the configuration's lock.

use tollgate_domain::Timestamp;
use tollgate_domain::ledger::{Balance, Scope};
use tollgate_domain::time::Windows;
use tollgate_engine::{Corrected, Row, Statement, Value, scope_columns};

use super::batch::{self, place};
use super::values::{self, Bound, Parameter, Together, broken, dialect};
use super::{ANSWER_TIMEOUT, CHANNEL, CONFIG_LOCK, Held, in_time, read};
use crate::seam::{Broken, Change, Committed, Identity, News, Share, Time};

/// A transaction that is alone.
pub struct SqlChange {
    session: Held,
    time: Time,
    version: i64,
}

impl SqlChange {
    pub async fn begin(session: Held) -> Result<Self, Broken> {
        let mut together = Together::default();
        together.add("BEGIN", vec![]);
        together.add("SELECT FROM (SELECT pg_advisory_xact_lock($1)) AS locked", vec![Box::new(CONFIG_LOCK)]);
        together.add(read::NOW, vec![]);
        let answers = together.send(session.get()?).await;
        let mut answers = answers.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| broken(&error))?;
        let (version, time) = read::now(&answers.pop().unwrap_or_default())?;
        Ok(Self { session, time, version })
    }
}

impl Change for SqlChange {
    fn time(&self) -> Time {
        self.time
    }

    async fn news(&mut self, since: i64) -> Result<Option<News>, Broken> {
        if since == self.version {
            return Ok(None);
        }
        in_time(read::news_within(self.session.get()?, since, self.version)).await.map(Some)
    }

    async fn sums(&mut self, scopes: &[Scope]) -> Result<Vec<(Balance, Option<Timestamp>)>, Broken> {
        let (words, ids) = read::columns(scopes.iter().copied());
        let session = self.session.get()?;
        let rows = in_time(async { session.query(read::SUMS, &[&words, &ids]).await.map_err(|error| broken(&error)) });
        read::sums(&rows.await?, scopes)
    }

    async fn query(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, Broken> {
        in_time(read::query(self.session.get()?, sql, &values)).await
    }

    async fn correct(
        &mut self,
        node: Identity,
        corrected: &Corrected,
        shares: &[(Scope, Share)],
    ) -> Result<(), Broken> {
        let session = self.session.get()?;
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
            batch::add_correction(&mut together, corrected, self.time.latest());
            batch::add_correction_rollup(&mut together, corrected, node);
            for answer in together.send(session).await {
                answer?;
            }
            Ok::<_, tokio_postgres::Error>(())
        };
        in_time(async { booked.await.map_err(|error| broken(&error)) }).await
    }

    async fn commit(self, statements: Vec<Statement>) -> Committed {
        let Ok(session) = self.session.get() else { return Committed::Failed("the change has ended".to_owned()) };
        let written = async {
            // Triggers stamp what follows with the new version.
            let mut together = Together::default();
            together.add("UPDATE config SET version = version + 1", vec![]);
            for Statement { sql, values } in statements {
                let parameters = values.into_iter().map(|value| -> Parameter { Box::new(Bound(value)) });
                together.add(dialect(sql), parameters.collect());
            }
            for answer in together.send(session).await {
                answer?;
            }
            session.batch_execute(&format!("NOTIFY {CHANNEL}")).await
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, written).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return values::refused(&error),
            Err(_) => return Committed::Failed("the database did not answer in time".to_owned()),
        }
        match tokio::time::timeout(ANSWER_TIMEOUT, session.batch_execute("COMMIT")).await {
            Ok(Ok(())) => {
                self.session.rest();
                Committed::Done
            }
            Ok(Err(error)) => Committed::Unknown(broken(&error).0),
            Err(_) => Committed::Unknown("the database did not answer in time".to_owned()),
        }
    }
}
