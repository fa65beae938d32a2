//! Values and rows of the shared logic in PostgreSQL's types, and statements that are sent together.

use std::borrow::{Borrow, Cow};
use std::error::Error as StdError;
use std::fmt::{Debug, Write as _};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::BytesMut;
use deadpool_postgres::Object;
use futures_util::future::{MaybeDone, maybe_done};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Error, Row as PgRow};
use tollgate_engine::{Row, Value};

use crate::seam::{Broken, Committed};

/// A value on its way into PostgreSQL.
#[derive(Debug)]
pub struct Bound<V>(pub V);

impl<V: Borrow<Value> + Debug> ToSql for Bound<V> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match (self.0.borrow(), ty) {
            (Value::Null, _) => Ok(IsNull::Yes),
            (Value::Integer(number), &Type::BOOL) => (*number != 0).to_sql(ty, out),
            (Value::Integer(number), &Type::INT4) => i32::try_from(*number)?.to_sql(ty, out),
            (Value::Integer(number), &Type::INT8) => number.to_sql(ty, out),
            (Value::Text(words), _) if <&str as ToSql>::accepts(ty) => text(Some(words)).to_sql(ty, out),
            (Value::Blob(bytes), &Type::BYTEA) => bytes.to_sql(ty, out),
            (value, ty) => Err(format!("{value:?} is no {ty}").into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Text as PostgreSQL takes it: everything but the one character that it does not.
pub fn text(words: Option<&str>) -> Option<String> {
    words.map(|words| words.replace('\0', "\u{fffd}"))
}

/// What a transaction came to that an error of the database ended.
pub fn refused(error: &Error) -> Committed {
    let class = error.code().map(|code| code.code().get(..2).unwrap_or_default().to_owned());
    let why = broken(error).0;
    // A value out of range, or one that contradicts what is there: it would be so again.
    if matches!(class.as_deref(), Some("22" | "23")) { Committed::Rejected(why) } else { Committed::Failed(why) }
}

/// The statement with its places as PostgreSQL writes them: `$1` for `?1`.
pub fn dialect(sql: &str) -> String {
    sql.replace('?', "$")
}

/// A row, whatever is in it.
pub fn row(row: &PgRow) -> Result<Row, Broken> {
    let value = |(column, about): (usize, &tokio_postgres::Column)| {
        let read = match *about.type_() {
            Type::BOOL => row.try_get::<_, Option<bool>>(column).map(Value::from),
            Type::INT4 => row.try_get::<_, Option<i32>>(column).map(|number| Value::from(number.map(i64::from))),
            Type::INT8 => row.try_get::<_, Option<i64>>(column).map(Value::from),
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(column).map(Value::from),
            _ => row.try_get::<_, Option<String>>(column).map(Value::from),
        };
        read.map_err(|error| broken(&error))
    };
    row.columns().iter().enumerate().map(value).collect::<Result<_, _>>().map(Row::new)
}

/// What an error says, with its causes: the message of PostgreSQL, never its detail, which may quote a row.
pub fn broken(error: &Error) -> Broken {
    if let Some(said) = error.as_db_error() {
        return Broken(format!("{} ({})", said.message(), said.code().code()));
    }
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        // Writing to a string does not fail.
        let _ = write!(told, ": {next}");
        cause = next.source();
    }
    Broken(told)
}

/// A parameter of a statement.
pub type Parameter = Box<dyn ToSql + Sync + Send>;

/// Parameters of a statement.
pub type Parameters = Vec<Parameter>;

/// Statements that are sent together and answered together, in their order.
#[derive(Default)]
pub struct Together {
    calls: Vec<(Cow<'static, str>, Parameters)>,
}

impl Together {
    /// Adds a statement.
    pub fn add(&mut self, sql: impl Into<Cow<'static, str>>, parameters: Parameters) {
        self.calls.push((sql.into(), parameters));
    }

    /// Sends them. The answers are those of the statements, up to the first that failed.
    pub async fn send(self, session: &Object) -> Vec<Result<Vec<PgRow>, Error>> {
        let mut prepared = Vec::with_capacity(self.calls.len());
        for (sql, parameters) in self.calls {
            match session.prepare_cached(&sql).await {
                Ok(statement) => prepared.push((statement, parameters)),
                Err(error) => return vec![Err(error)],
            }
        }
        let sent = prepared.iter().map(|(statement, parameters)| async move {
            let parameters: Vec<&(dyn ToSql + Sync)> =
                parameters.iter().map(|it| -> &(dyn ToSql + Sync) { it.as_ref() }).collect();
            session.query(statement, &parameters).await
        });
        let mut sent: Vec<Pin<Box<MaybeDone<_>>>> = sent.map(|call| Box::pin(maybe_done(call))).collect();
        // A call is sent when it is first polled: one after the other, so that they go out in their order.
        poll_fn(|cx| {
            let mut done = true;
            for call in &mut sent {
                done &= call.as_mut().poll(cx).is_ready();
            }
            if done { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        sent.iter_mut().filter_map(|call| call.as_mut().take_output()).collect()
    }
}
