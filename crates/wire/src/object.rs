//! Bodies are objects: serde would take an array of a struct's values in the order of its members, too.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A value that is read from an object and from nothing else.
#[derive(Clone, Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// An object, or null.
pub(crate) fn optional<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(value)| value))
}

/// An object, or null, told from absent: the outer `Option` is presence.
#[expect(clippy::option_option, reason = "absent, null and there are three things")]
pub(crate) fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    optional(deserializer).map(Some)
}

/// Objects.
pub(crate) fn list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Vec::<Object<T>>::deserialize(deserializer)?.into_iter().map(|Object(value)| value).collect())
}

/// Objects or null, told apart from nothing at all.
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
pub(crate) fn nullable_list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<Vec<T>>>, D::Error> {
    let objects = Option::<Vec<Object<T>>>::deserialize(deserializer)?;
    Ok(Some(objects.map(|objects| objects.into_iter().map(|Object(value)| value).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CreateKey, CreateKeys, GuardrailRequest, RotateKey};

    #[test]
    fn an_array_is_no_object_at_any_depth() {
        assert!(serde_json::from_str::<Object<RotateKey>>("{}").is_ok());
        assert!(serde_json::from_str::<Object<RotateKey>>("[]").is_err());
        let key: Object<CreateKey> =
            serde_json::from_str(r#"{"name":"x","limit":1.5,"external":{"user":"u"}}"#).unwrap();
        assert!(key.0.limit.is_some() && key.0.external.is_some());
        assert!(serde_json::from_str::<Object<CreateKey>>(r#"{"name":"x","external":["u"]}"#).is_err());
        assert!(serde_json::from_str::<Object<CreateKeys>>(r#"{"keys":[{"name":"x"}]}"#).is_ok());
        assert!(serde_json::from_str::<Object<CreateKeys>>(r#"{"keys":[["x"]]}"#).is_err());
        let filters = |filters| serde_json::from_str::<Object<GuardrailRequest>>(&format!("{{{filters}}}"));
        assert!(filters(r#""content_filters":[["x","block"]]"#).is_err());
        assert!(filters(r#""content_filters":null"#).unwrap().0.content_filters.is_some_and(|given| given.is_none()));
        assert!(filters("").unwrap().0.content_filters.is_none());
    }
}
