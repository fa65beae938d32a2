//! JSON bodies.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor, value};
use tollgate_wire::Object;

use crate::error::ApiError;
use crate::limits::HttpLimits;
use crate::router::Api;

/// A JSON body.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let (head, body) = request.into_parts();
        let limits = api.limits().of_management();
        let bytes = read_body(&head.headers, body, &limits).await?;
        let (members, mut misspelt) = (members_of::<T>(), None);
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        let body = serde_ignored::deserialize::<_, _, Object<T>>(&mut reader, |path| {
            if misspelt.is_none() {
                let written = path.to_string();
                let known = members.iter().find(|known| written.eq_ignore_ascii_case(known));
                misspelt = known.map(|known| (written, *known));
            }
        });
        match (body.and_then(|body| reader.end().map(|()| body)), misspelt) {
            (Err(error), _) => {
                let message = if error.is_data() { "Invalid request parameters" } else { "The body is not valid JSON" };
                Err(ApiError::bad_request(format!("{message}: {error}")))
            }
            // Members that are not known are ignored, but a limit must not get lost over the case of a letter.
            (Ok(_), Some((written, known))) => {
                Err(ApiError::bad_request(format!("`{written}` is not known; `{known}` is written in lower case")))
            }
            (Ok(Object(body)), None) => Ok(Self(body)),
        }
    }
}

/// The names of the members that `T` reads.
fn members_of<T: DeserializeOwned>() -> &'static [&'static str] {
    /// Listens to what a struct asks for, and gives it nothing.
    struct Listener<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Listener<'_> {
        type Error = value::Error;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            Err(value::Error::custom("only its members were asked for"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(value::Error::custom("not a struct"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut members: &'static [&'static str] = &[];
    // The error is the listener's own: what matters was heard before it.
    let _ = T::deserialize(Listener(&mut members));
    members
}

/// Reads a whole body, within the limits.
pub async fn read_body<B>(headers: &HeaderMap, body: B, limits: &HttpLimits) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if headers.get(CONTENT_ENCODING).is_some_and(|value| value != "identity") {
        return Err(ApiError::encoded_body());
    }
    let too_large = || ApiError::body_too_large(limits.body_bytes_max);
    // A client that says how much it will send is refused before it does.
    if body.size_hint().lower() > u64::try_from(limits.body_bytes_max).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let reading = Limited::new(body, limits.body_bytes_max).collect();
    match tokio::time::timeout(limits.body_timeout, reading).await {
        Err(_) => Err(ApiError::timed_out()),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::bad_request("The body could not be read to its end")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_wire::{CreateKey, UpdateKey};

    #[test]
    fn the_members_of_a_body_are_known() {
        for members in [members_of::<CreateKey>(), members_of::<UpdateKey>()] {
            assert!(members.contains(&"limit") && members.contains(&"limit_reset"), "{members:?}");
        }
        assert_eq!(members_of::<Vec<u8>>(), [""; 0]);
    }
}
