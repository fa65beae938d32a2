//! Query strings: an empty value is an absent one, a bad value is a 400 that names it.

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;
use tollgate_domain::Price;
use tollgate_domain::money::MoneyError;
use uuid::Uuid;

use crate::error::ApiError;
use crate::router::Api;

/// The pairs of a query string.
pub struct QueryPairs {
    pairs: Vec<(String, String)>,
    raw: String,
}

impl FromRequestParts<Api> for QueryPairs {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, api).await;
        let raw = parts.uri.query().unwrap_or_default().to_owned();
        pairs
            .map(|Query(pairs)| Self { pairs, raw })
            .map_err(|_| ApiError::bad_request("The query string cannot be read"))
    }
}

impl QueryPairs {
    /// The last value of `name`, if there is one that is not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// `true`, `false`, `1` or `0`; default false (contract section 20, trap 9).
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.text(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(ApiError::bad_request(format!("`{name}` must be true or false"))),
        }
    }

    /// A whole number, zero or more.
    pub fn count(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(count) if digits => Ok(Some(count)),
            Err(_) if digits => Ok(Some(u64::MAX)),
            _ => Err(ApiError::bad_request(format!("`{name}` must be a whole number, zero or more"))),
        }
    }

    /// A price in dollars, zero or more; one that no price can reach is the highest there is.
    pub fn price(&self, name: &str) -> Result<Option<Price>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match Price::parse(text) {
            Ok(price) => Ok(Some(price)),
            Err(MoneyError::TooLarge) => Ok(Some(Price::from_picos(i64::MAX))),
            Err(MoneyError::NotANumber | MoneyError::Negative | MoneyError::TooPrecise) => {
                Err(ApiError::bad_request(format!("`{name}` must be a number of dollars, zero or more")))
            }
        }
    }

    /// Texts with commas between them; empty ones are absent ones.
    pub fn list(&self, name: &str) -> Vec<String> {
        let texts = self.text(name).unwrap_or_default().split(',').map(str::trim);
        texts.filter(|text| !text.is_empty()).map(str::to_owned).collect()
    }

    /// The query string as it came, less the pairs of these names.
    pub fn without(&self, names: &[&str]) -> String {
        let name_of = |pair: &str| pair.split_once('=').map_or(pair, |(name, _)| name).to_owned();
        let kept = self.raw.split('&').filter(|pair| !pair.is_empty() && !names.contains(&name_of(pair).as_str()));
        kept.collect::<Vec<_>>().join("&")
    }

    /// A UUID.
    pub fn uuid(&self, name: &str) -> Result<Option<Uuid>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        Uuid::parse_str(text).map(Some).map_err(|_| ApiError::bad_request(format!("`{name}` must be a UUID")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(raw: &str) -> QueryPairs {
        let uri: http::Uri = format!("/models?{raw}").parse().unwrap();
        let Query(pairs) = Query::try_from_uri(&uri).unwrap();
        QueryPairs { pairs, raw: raw.to_owned() }
    }

    #[test]
    fn prices_are_numbers_of_dollars() {
        let price =
            |text: &str| query(&format!("max_price={text}")).price("max_price").map_err(|error| format!("{error:?}"));
        assert_eq!(price(""), Ok(None));
        assert_eq!(price("0.5"), Ok(Some(Price::from_picos(500_000_000_000))));
        assert_eq!(price("1e-3"), Ok(Some(Price::from_picos(1_000_000_000))));
        assert_eq!(price("1e300"), Ok(Some(Price::from_picos(i64::MAX))));
        for bad in ["-1", "cheap", "NaN", "0x1", "1,5"] {
            assert!(price(bad).is_err_and(|error| error.contains("`max_price`")), "{bad}");
        }
    }

    #[test]
    fn lists_have_commas_between() {
        assert_eq!(query("providers=one,%20two,,").list("providers"), ["one", "two"]);
        assert_eq!(query("providers=").list("providers"), [""; 0]);
    }

    #[test]
    fn the_rest_of_a_query_stays_as_it_came() {
        let rest = |raw: &str| query(raw).without(&["offset", "limit"]);
        assert_eq!(rest("q=a%26b&offset=2&sort=newest&limit=1"), "q=a%26b&sort=newest");
        assert_eq!(rest("limit=1&&offset"), "");
    }
}
