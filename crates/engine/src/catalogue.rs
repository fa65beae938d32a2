//! The catalogue: versions of prices, the newest of each endpoint in memory.

use std::convert::Infallible;

use async_trait::async_trait;
use serde_json::json;
use tollgate_domain::model::{Endpoint, PriceVersion};
use tollgate_domain::{Price, Timestamp};
use tollgate_store::{Actor, CatalogueStore, Change, Facts, PricedEndpoint, StoreError};

use crate::audit::entry;
use crate::ground::{Engine, Ground, Statement, no_sums, statement};
use crate::sources::{Source, kept};
use crate::state::{State, take};
use crate::value::{Row, Unreadable, Value};

const ADD: &str = "INSERT INTO price_versions (id, model, provider, content, created_at) VALUES (?1, ?2, ?3, ?4, ?5)";

/// The versions of prices.
pub const SOURCE: Source = Source {
    table: "price_versions",
    columns: "id, model, provider, content",
    but: Some(
        "id <> (SELECT max(newer.id) FROM price_versions newer
    WHERE newer.model = price_versions.model AND newer.provider = price_versions.provider)",
    ),
    put,
    remove: kept,
};

fn put(state: &mut State, row: &Row, _: Timestamp) -> Result<(), Unreadable> {
    let version: i64 = row.get(0)?;
    state.last_price = state.last_price.max(version);
    let newest = state.prices.entry((row.get(1)?, row.get(2)?)).or_insert((PriceVersion(0), String::new()));
    if newest.0.0 < version {
        *newest = (PriceVersion(version), row.get(3)?);
    }
    Ok(())
}

#[async_trait]
impl<G: Ground> CatalogueStore for Engine<G> {
    async fn publish(&self, endpoints: Vec<Endpoint>) -> Result<Vec<PricedEndpoint>, StoreError> {
        let published = self.change(no_sums, |state, now| {
            let mut statements = Vec::new();
            let version = |endpoint: Endpoint| {
                let version = state.publish(&endpoint, now, &mut statements);
                PricedEndpoint { version, endpoint }
            };
            let priced: Vec<_> = endpoints.into_iter().map(version).collect();
            Ok::<_, Infallible>((priced, statements))
        });
        published.await.map(|published| published.unwrap_or_else(|never| match never {}))
    }
}

impl State {
    /// The version of an endpoint: the newest one, if it is the same still, or a new one.
    fn publish(&mut self, endpoint: &Endpoint, at: Timestamp, statements: &mut Vec<Statement>) -> PriceVersion {
        let content = content(endpoint);
        let place = (endpoint.model.clone(), endpoint.provider.clone());
        if let Some((version, before)) = self.prices.get(&place)
            && *before == content
        {
            return *version;
        }
        let version = PriceVersion(take(&mut self.last_price));
        let values = vec![
            Value::from(version.0),
            Value::from(endpoint.model.as_str()),
            Value::from(endpoint.provider.as_str()),
            Value::from(content.as_str()),
            Value::from(at.micros()),
        ];
        let change = Change::new("price.publish", format!("{}@{}", endpoint.model, endpoint.provider))
            .made(Facts::default().with("version", version.0).with("endpoint", content.as_str()));
        statements.extend([statement(ADD, values), entry(&Actor::Config, at, &change)]);
        self.prices.insert(place, (version, content));
        tracing::info!(model = endpoint.model, provider = endpoint.provider, version = version.0, "new price version");
        version
    }
}

/// An endpoint as text that is equal exactly if the endpoint is.
fn content(endpoint: &Endpoint) -> String {
    let prices = endpoint.prices.map(|prices| {
        let picos = |price: Option<Price>| price.map(Price::picos);
        json!({
            "prompt": prices.prompt.picos(),
            "completion": prices.completion.picos(),
            "request": prices.request.picos(),
            "image": prices.image.picos(),
            "input_cache_read": picos(prices.input_cache_read),
            "input_cache_write": picos(prices.input_cache_write),
            "internal_reasoning": picos(prices.internal_reasoning),
        })
    });
    json!({
        "name": endpoint.name,
        "upstream_id": endpoint.upstream_id,
        "context_length": endpoint.context_length,
        "max_output_tokens": endpoint.max_output_tokens,
        "max_image_tokens": endpoint.max_image_tokens,
        "prices_in_picos": prices,
    })
    .to_string()
}
