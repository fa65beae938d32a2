//! Many keys in one body: JSON, or CSV with the members of `POST /keys` as column names.

use axum::extract::{FromRequest, Request};
use http::header::CONTENT_TYPE;
use serde_json::value::RawValue;
use tollgate_wire::{CreateKey, CreateKeys, External};

use super::{Json, read_body};
use crate::error::ApiError;
use crate::router::Api;

/// The keys that a body asks for.
pub struct Bulk(pub Vec<CreateKey>);

impl FromRequest<Api> for Bulk {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let is_csv = request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/csv"));
        if !is_csv {
            return Ok(Self(Json::<CreateKeys>::from_request(request, api).await?.0.keys));
        }
        let (head, body) = request.into_parts();
        let limits = api.limits().of_management();
        let bytes = read_body(&head.headers, body, &limits).await?;
        read_csv(&bytes).map(Self).map_err(ApiError::bad_request)
    }
}

fn read_csv(bytes: &[u8]) -> Result<Vec<CreateKey>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let columns: Vec<String> = reader.headers().map_err(|error| error.to_string())?.iter().map(str::to_owned).collect();
    let mut keys = Vec::new();
    for (index, row) in reader.records().enumerate() {
        let row = row.map_err(|error| format!("The body is not valid CSV: {error}"))?;
        let mut key = CreateKey::default();
        for (column, value) in columns.iter().zip(&row).filter(|(_, value)| !value.is_empty()) {
            set(&mut key, column, value).map_err(|problem| format!("row {}: {problem}", index.saturating_add(1)))?;
        }
        keys.push(key);
    }
    Ok(keys)
}

fn set(key: &mut CreateKey, column: &str, value: &str) -> Result<(), String> {
    let text = || Some(value.to_owned());
    match column {
        "name" => value.clone_into(&mut key.name),
        "limit" => {
            let number = RawValue::from_string(value.to_owned()).map_err(|_| "`limit` must be a number".to_owned())?;
            key.limit = Some(number.into());
        }
        "limit_reset" => key.limit_reset = text(),
        "include_byok_in_limit" => {
            let flag = value.parse().map_err(|_| "`include_byok_in_limit` must be true or false".to_owned())?;
            key.include_byok_in_limit = Some(flag);
        }
        "expires_at" => key.expires_at = text(),
        "creator_user_id" => key.creator_user_id = text(),
        "workspace_id" => key.workspace_id = text(),
        "requests_per_minute" => key.requests_per_minute = Some(count(column, value)?),
        "calls_in_flight_max" => key.calls_in_flight_max = Some(count(column, value)?),
        "allowed_models" => key.allowed_models = Some(value.split_whitespace().map(str::to_owned).collect()),
        "external_user" => key.external = Some(External { user: value.to_owned() }),
        // A limit must not get lost over a column that nobody knows.
        other => return Err(format!("the column `{other}` is not known")),
    }
    Ok(())
}

fn count(column: &str, value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| format!("`{column}` must be a whole number, 1 or more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_keys_and_what_is_wrong_is_told_with_its_row() {
        let keys = read_csv(b"name,limit,limit_reset\nann, 5.50,monthly\n\"bob, jr\",,\n").unwrap();
        assert_eq!((keys[0].name.as_str(), keys[1].name.as_str()), ("ann", "bob, jr"));
        assert!(keys[0].limit.is_some() && keys[1].limit.is_none() && keys[1].limit_reset.is_none());
        let keys = read_csv(b"name,requests_per_minute,calls_in_flight_max\nann,60,\nbob,,2\n").unwrap();
        let limits = |key: &CreateKey| (key.requests_per_minute, key.calls_in_flight_max);
        assert_eq!([limits(&keys[0]), limits(&keys[1])], [(Some(60), None), (None, Some(2))]);
        for (text, told) in [
            ("name,limit\na,x\n", "row 1: `limit` must be a number"),
            ("name,limt\na,1\n", "row 1: the column `limt` is not known"),
            ("name,calls_in_flight_max\na,-1\n", "row 1: `calls_in_flight_max` must be a whole number"),
            ("name,limit\na\n", "The body is not valid CSV"),
        ] {
            let error = read_csv(text.as_bytes()).unwrap_err();
            assert!(error.starts_with(told), "{error}");
        }
    }
}
