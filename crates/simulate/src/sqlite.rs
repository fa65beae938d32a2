//! Statements and rows of the shared logic on a database in memory.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};
use tollgate_engine::{Row, Statement, Value};

struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Runs all of them or none.
pub fn run(db: &Connection, statements: &[Statement]) -> rusqlite::Result<()> {
    db.execute_batch("BEGIN")?;
    let done = statements.iter().try_for_each(|Statement { sql, values }| {
        db.prepare_cached(sql)?.execute(params_from_iter(values.iter().map(Bound))).map(|_| ())
    });
    db.execute_batch(if done.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    done
}

/// All rows of a query.
pub fn query(db: &Connection, sql: &str, values: &[Value]) -> rusqlite::Result<Vec<Row>> {
    let mut statement = db.prepare_cached(sql)?;
    let columns = statement.column_count();
    let read = |row: &rusqlite::Row<'_>| {
        let value = |column| {
            Ok(match row.get_ref(column)? {
                ValueRef::Null | ValueRef::Real(_) => Value::Null,
                ValueRef::Integer(number) => Value::Integer(number),
                ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
                ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
            })
        };
        (0..columns).map(value).collect::<rusqlite::Result<_>>().map(Row::new)
    };
    statement.query_map(params_from_iter(values.iter().map(Bound)), read)?.collect()
}
