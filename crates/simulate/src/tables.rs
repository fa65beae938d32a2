//! The tables that management writes, with the version that changed each row: what triggers keep in the real database.

use rusqlite::Connection;
use serde_json::{Map, json};
use tollgate_engine::{Row, SOURCES, Source, Statement, Value};
use tollgate_store_postgres::seam::News;

use crate::sqlite;

/// The columns that tell the rows of a table apart, among those of its source.
fn identity(table: &str) -> &'static [usize] {
    match table {
        "workspace_budgets" | "workspace_members" => &[0, 1],
        "guardrail_keys" | "guardrail_members" => &[1],
        _ => &[0],
    }
}

fn same(table: &str, one: &Row, other: &Row) -> bool {
    identity(table).iter().all(|column| one.values().get(*column) == other.values().get(*column))
}

pub struct Tables {
    pub db: Connection,
    pub version: i64,
    rows: Vec<Vec<(Row, i64)>>,
    removed: Vec<(i64, String, serde_json::Value)>,
}

impl Tables {
    /// The tables of a database that was migrated.
    pub fn new(db: Connection) -> rusqlite::Result<Self> {
        let mut tables =
            Self { db, version: 1, rows: SOURCES.iter().map(|_| Vec::new()).collect(), removed: Vec::new() };
        for place in 0..SOURCES.len() {
            tables.read(place)?;
        }
        Ok(tables)
    }

    /// Runs the statements of a change, all of them or none, as the next version.
    pub fn change(&mut self, statements: &[Statement]) -> rusqlite::Result<()> {
        sqlite::run(&self.db, statements)?;
        self.version += 1;
        for (place, source) in SOURCES.iter().enumerate() {
            if statements.iter().any(|statement| statement.sql.contains(source.table)) {
                self.read(place)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, place: usize) -> rusqlite::Result<()> {
        let (Some(source), Some(known)) = (SOURCES.get(place), self.rows.get_mut(place)) else { return Ok(()) };
        let Source { table, columns, .. } = source;
        let found = sqlite::query(&self.db, &format!("SELECT {columns} FROM {table} ORDER BY 1"), &[])?;
        for (old, _) in known.iter() {
            if !found.iter().any(|row| same(table, row, old)) {
                self.removed.push((self.version, (*table).to_owned(), object(columns, old)));
            }
        }
        *known = found
            .into_iter()
            .map(|row| {
                let before = known.iter().find(|(old, _)| *old == row).map(|(_, changed)| *changed);
                (row, before.unwrap_or(self.version))
            })
            .collect();
        Ok(())
    }

    /// What is new since a version.
    pub fn news(&self, since: i64) -> News {
        let mut news = News { since, version: self.version, ..News::default() };
        if since == self.version {
            return news;
        }
        for (place, rows) in self.rows.iter().enumerate() {
            news.rows.extend(rows.iter().filter(|(_, changed)| *changed > since).map(|(row, _)| (place, row.clone())));
        }
        if since > 0 {
            let removed = self.removed.iter().filter(|(changed, ..)| *changed > since);
            news.removed.extend(removed.map(|(_, table, old)| (table.clone(), old.clone())));
        }
        news
    }
}

fn object(columns: &str, row: &Row) -> serde_json::Value {
    let value = |value: &Value| match value {
        Value::Integer(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::Blob(bytes) => {
            let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!(format!("\\x{}", digits.concat()))
        }
        Value::Null => serde_json::Value::Null,
    };
    let names = columns.split(',').map(str::trim);
    names.zip(row.values()).map(|(name, it)| (name.to_owned(), value(it))).collect::<Map<_, _>>().into()
}
