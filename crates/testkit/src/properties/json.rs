//! JSON as `serde_json` reads it: the second opinion on what our own scanner says.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The deepest nesting that a body may have.
const DEPTH_MAX: usize = 64;

/// Whether it is JSON; strings may hold half characters.
pub fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The members of an object in their order, as they are written; `None` where it is none.
pub fn members(text: &str) -> Option<Vec<(String, &str)>> {
    serde_json::from_str::<Members<'_>>(text).ok().map(|members| members.0)
}

/// The values of all members of that name.
pub fn all<'a>(members: &[(String, &'a str)], name: &str) -> Vec<&'a str> {
    members.iter().filter(|(key, _)| key == name).map(|(_, value)| *value).collect()
}

struct Members<'a>(Vec<(String, &'a str)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vec<(String, &'de str)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    members.push((key, value.get()));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Reader).map(Members)
    }
}

/// What a parser that is as strict as ours says of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// JSON that no two parsers read differently.
    Clear,
    /// JSON, or not: `serde_json` cannot hold one of its numbers, and says nothing of the rest.
    Unknown,
    /// No JSON, a key twice, half a character, or too deep.
    Unclear,
}

/// The second opinion on the whole of a text.
pub fn opinion(text: &[u8]) -> Opinion {
    match serde_json::from_slice::<Clear>(text) {
        Ok(Clear { depth }) if depth <= DEPTH_MAX => Opinion::Clear,
        Err(error) if error.to_string().starts_with("number out of range") => Opinion::Unknown,
        _ => Opinion::Unclear,
    }
}

/// Any JSON in which no object has a key twice.
struct Clear {
    depth: usize,
}

impl<'de> Deserialize<'de> for Clear {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ClearReader)
    }
}

struct ClearReader;

impl<'de> Visitor<'de> for ClearReader {
    type Value = Clear;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Clear, E> {
        Ok(Clear { depth: 0 })
    }

    fn visit_i64<E>(self, _: i64) -> Result<Clear, E> {
        Ok(Clear { depth: 0 })
    }

    fn visit_u64<E>(self, _: u64) -> Result<Clear, E> {
        Ok(Clear { depth: 0 })
    }

    fn visit_f64<E>(self, _: f64) -> Result<Clear, E> {
        Ok(Clear { depth: 0 })
    }

    fn visit_str<E>(self, _: &str) -> Result<Clear, E> {
        Ok(Clear { depth: 0 })
    }

    fn visit_unit<E>(self) -> Result<Clear, E> {
        Ok(Clear { depth: 0 })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Clear, A::Error> {
        let mut deepest = 0;
        while let Some(Clear { depth }) = items.next_element()? {
            deepest = deepest.max(depth);
        }
        Ok(Clear { depth: deepest + 1 })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Clear, A::Error> {
        let (mut deepest, mut keys) = (0, HashSet::new());
        while let Some((key, Clear { depth })) = map.next_entry::<String, Clear>()? {
            deepest = deepest.max(depth);
            if !keys.insert(key) {
                return Err(A::Error::custom("a key twice"));
            }
        }
        Ok(Clear { depth: deepest + 1 })
    }
}
