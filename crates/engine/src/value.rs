//! Values on their way into a database and out of it, whichever it is.

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A number, or a flag: 0 or 1.
    Integer(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

macro_rules! from {
    ($($from:ty => $into:expr),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                let into: fn($from) -> Self = $into;
                into(value)
            }
        })*
    };
}

from! {
    i64 => Self::Integer,
    u32 => |number| Self::Integer(number.into()),
    u8 => |number| Self::Integer(number.into()),
    bool => |flag| Self::Integer(flag.into()),
    String => Self::Text,
    &str => |text| Self::Text(text.to_owned()),
    Vec<u8> => Self::Blob,
    &[u8; 32] => |bytes| Self::Blob(bytes.to_vec()),
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(maybe: Option<T>) -> Self {
        maybe.map_or(Self::Null, Into::into)
    }
}

/// A column does not hold what it should.
#[derive(Debug, thiserror::Error)]
#[error("column {column} cannot be read: {why}")]
pub struct Unreadable {
    column: usize,
    why: String,
}

impl Unreadable {
    /// What is wrong with a column.
    pub fn new(column: usize, why: impl Into<String>) -> Self {
        Self { column, why: why.into() }
    }
}

impl From<Unreadable> for tollgate_store::StoreError {
    fn from(error: Unreadable) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// A row that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(Vec<Value>);

impl Row {
    /// A row of these values.
    pub const fn new(values: Vec<Value>) -> Self {
        Self(values)
    }

    /// The values, as they were read.
    pub fn values(&self) -> &[Value] {
        &self.0
    }

    /// The value of a column, counted from 0.
    pub fn get<T: FromValue>(&self, column: usize) -> Result<T, Unreadable> {
        let value = self.0.get(column).ok_or_else(|| Unreadable::new(column, "there is no such column"))?;
        T::from_value(value).ok_or_else(|| Unreadable::new(column, "another kind of value was expected"))
    }
}

/// What a column can be read as.
pub trait FromValue: Sized {
    /// The value, if it is of this kind.
    fn from_value(value: &Value) -> Option<Self>;
}

impl FromValue for i64 {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Integer(number) = value { Some(*number) } else { None }
    }
}

impl FromValue for u32 {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).and_then(|number| number.try_into().ok())
    }
}

impl FromValue for u8 {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).and_then(|number| number.try_into().ok())
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).map(|number| number != 0)
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Text(text) = value { Some(text.clone()) } else { None }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Blob(bytes) = value { Some(bytes.clone()) } else { None }
    }
}

impl<const N: usize> FromValue for [u8; N] {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Blob(bytes) = value { bytes.as_slice().try_into().ok() } else { None }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        if *value == Value::Null { Some(None) } else { T::from_value(value).map(Some) }
    }
}
