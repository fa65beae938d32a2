//! The catalogue: versions of prices.

use async_trait::async_trait;
use rusqlite::OptionalExtension;
use serde_json::json;
use tollgate_domain::Price;
use tollgate_domain::model::{Endpoint, PriceVersion};
use tollgate_store::{Actor, CatalogueStore, Change, Facts, PricedEndpoint, StoreError};

use crate::audit::entry;
use crate::engine::SqliteStore;
use crate::record::Record;

const NEWEST: &str = "SELECT id, content FROM price_versions
WHERE model = ?1 AND provider = ?2
ORDER BY id DESC LIMIT 1";

#[async_trait]
impl CatalogueStore for SqliteStore {
    async fn publish(&self, endpoints: Vec<Endpoint>) -> Result<Vec<PricedEndpoint>, StoreError> {
        self.check_writable()?;
        let mut published = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let content = content(&endpoint);
            let (model, provider) = (endpoint.model.clone(), endpoint.provider.clone());
            let newest: Option<(i64, String)> = self
                .read(move |db| {
                    db.query_row(NEWEST, [model, provider], |row| Ok((row.get(0)?, row.get(1)?))).optional()
                })
                .await?;
            let version = match newest {
                Some((version, before)) if before == content => PriceVersion(version),
                _ => self.publish_one(&endpoint, content).await?,
            };
            published.push(PricedEndpoint { version, endpoint });
        }
        Ok(published)
    }
}

impl SqliteStore {
    async fn publish_one(&self, endpoint: &Endpoint, content: String) -> Result<PriceVersion, StoreError> {
        let (version, ticket) = {
            let (mut state, at) = self.lock_seen();
            let version = PriceVersion(state.next_price);
            state.next_price = state.next_price.saturating_add(1);
            let (model, provider) = (endpoint.model.clone(), endpoint.provider.clone());
            let record = Record::PublishPrice { version, model, provider, content: content.clone(), at };
            state.queue.push(record);
            let change = Change::new("price.publish", format!("{}@{}", endpoint.model, endpoint.provider))
                .made(Facts::default().with("version", version.0).with("endpoint", content.as_str()));
            (version, Self::enqueue(&mut state, Record::Run(vec![entry(&Actor::Config, at, &change)])))
        };
        self.wait(ticket).await?;
        tracing::info!(model = endpoint.model, provider = endpoint.provider, version = version.0, "new price version");
        Ok(version)
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
