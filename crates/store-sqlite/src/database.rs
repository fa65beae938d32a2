//! Statements and rows of the shared logic on SQLite.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row as SqliteRow, ToSql, params_from_iter};
use tollgate_engine::{Row, Statement, Value};

/// A value on its way into SQLite.
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

/// Runs a statement.
pub fn run(db: &Connection, Statement { sql, values }: &Statement) -> rusqlite::Result<usize> {
    db.prepare_cached(sql)?.execute(params_from_iter(values.iter().map(Bound)))
}

/// Reads all rows of a query.
pub fn query(db: &Connection, sql: &str, values: &[Value]) -> rusqlite::Result<Vec<Row>> {
    let mut statement = db.prepare_cached(sql)?;
    let columns = statement.column_count();
    let rows = statement.query_map(params_from_iter(values.iter().map(Bound)), |row| read(row, columns))?;
    rows.collect()
}

fn read(row: &SqliteRow<'_>, columns: usize) -> rusqlite::Result<Row> {
    let value = |column| {
        Ok(match row.get_ref(column)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Integer(number),
            ValueRef::Real(_) => return row.get::<_, i64>(column).map(Value::Integer),
            ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        })
    };
    (0..columns).map(value).collect::<rusqlite::Result<_>>().map(Row::new)
}
