//! Filling an empty database with the rows of another, all of them or none.

use futures_util::future::try_join_all;
use tollgate_engine::{Row, Value};

use super::values::{Bound, broken};
use super::{CONFIG_LOCK, Held, Sql};
use crate::seam::Broken;

/// A database that is being filled. Dropped before its end, it stays empty.
pub struct Import {
    session: Held,
}

const EMPTY: &str = "SELECT NOT EXISTS (SELECT FROM keys) AND NOT EXISTS (SELECT FROM management_keys)
    AND NOT EXISTS (SELECT FROM settlements)";

impl Import {
    /// Begins, where nothing is in the database yet; `None` where something is.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn begin(database: &Sql) -> Result<Option<Self>, Broken> {
        let session = Held::of(&database.management).await?;
        let begun: Result<bool, tokio_postgres::Error> = {
            let session = session.get()?;
            async {
                // It takes as long as it takes; nobody works here yet.
                let begin = "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";
                session.batch_execute(begin).await?;
                session.execute("SELECT pg_advisory_xact_lock($1)", &[&CONFIG_LOCK]).await?;
                let empty: bool = session.query_one(EMPTY, &[]).await?.try_get(0)?;
                if empty {
                    // What the first start made is replaced.
                    session.batch_execute("DELETE FROM workspaces; DELETE FROM meta; DELETE FROM removed").await?;
                }
                Ok(empty)
            }
            .await
        };
        let empty = begun.map_err(|error| broken(&error))?;
        Ok(empty.then_some(Self { session }))
    }

    /// Adds rows to a table.
    ///
    /// # Errors
    /// A row does not fit.
    pub async fn add(&self, table: &str, columns: &str, rows: &[Row]) -> Result<(), Broken> {
        let Some(width) = rows.first().map(|row| row.values().len()) else { return Ok(()) };
        let places: Vec<String> = (1..=width).map(|place| format!("${place}")).collect();
        let sql = format!("INSERT INTO {table} ({columns}) VALUES ({})", places.join(", "));
        self.run(&sql, rows).await
    }

    /// Runs a statement for each row.
    ///
    /// # Errors
    /// A row does not fit.
    pub async fn run(&self, sql: &str, rows: &[Row]) -> Result<(), Broken> {
        let session = self.session.get()?;
        let statement = session.prepare_cached(sql).await.map_err(|error| broken(&error))?;
        let bound: Vec<Vec<Bound<&Value>>> = rows.iter().map(|row| row.values().iter().map(Bound).collect()).collect();
        let parameters: Vec<Vec<&(dyn tokio_postgres::types::ToSql + Sync)>> = bound
            .iter()
            .map(|row| row.iter().map(|it| -> &(dyn tokio_postgres::types::ToSql + Sync) { it }).collect())
            .collect();
        let all = parameters.iter().map(|row| session.execute(&statement, row));
        try_join_all(all).await.map(|_| ()).map_err(|error| broken(&error))
    }

    /// Commits it.
    ///
    /// # Errors
    /// Nothing was written, or the answer is lost.
    pub async fn finish(self) -> Result<(), Broken> {
        let session = self.session.get()?;
        let end = "SELECT setval(pg_get_serial_sequence('corrections', 'id'), coalesce(max(id), 0) + 1, false) FROM corrections;
            UPDATE config SET version = version + 1; COMMIT";
        session.batch_execute(end).await.map_err(|error| broken(&error))?;
        // However long that takes. The copy is there without it, and the server does it in its own time.
        let counted = session.batch_execute("SET statement_timeout = 0; ANALYZE; RESET statement_timeout").await;
        if counted.is_ok() {
            self.session.rest();
        }
        Ok(())
    }
}

/// Eight numbers as PostgreSQL writes an array of them.
pub fn array(numbers: [i64; 8]) -> Value {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    Value::from(format!("{{{}}}", numbers.join(",")))
}
