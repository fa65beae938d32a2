//! `tollgate demo`: a server with the built-in provider and a fresh database, and the story of one key.

use clap::Args;
use serde_json::{Value, json};
use tollgate_client::{Client, RawAnswer};
use tollgate_domain::Usd;
use tollgate_domain::money::Excess;
use tollgate_wire::{CreateKey, RawAmount};

use crate::boot::{Parts, boot};
use crate::cli::{log, stop_signal};
use crate::config::{CapFieldConfig, Config, KindConfig, LogConfig, ModelConfig, PricingConfig, ProviderConfig};
use crate::failure::{Failure, Kind};
use crate::output::{self, Rounding};

/// The model of the demo: a tenth of a cent for ten tokens, so that a cent is soon spent.
pub const MODEL: &str = "tollgate/simulated";
const LIMIT: &str = "0.01";
/// The cap of each call of the story.
const MAX_TOKENS: u32 = 48;
/// The story ends after so many calls, whatever happens.
const CALLS_MAX: u32 = 20;

/// `tollgate demo …`
#[derive(Debug, Args)]
pub struct Arguments {
    /// Exit after the story instead of leaving the server up
    #[arg(long)]
    once: bool,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:4000")]
    listen: String,
}

/// The configuration of the demo.
pub fn configuration(listen: &str, database: &std::path::Path) -> Config {
    let mut config = Config::default();
    listen.clone_into(&mut config.server.listen);
    config.database.url = format!("sqlite://{}", database.display());
    config.providers = vec![ProviderConfig {
        slug: "simulated".to_owned(),
        kind: KindConfig::Simulated,
        base_url: None,
        api_key_env: None,
        api_key_file: None,
        output_cap_field: CapFieldConfig::default(),
        region: None,
        zero_data_retention: None,
    }];
    config.models = vec![ModelConfig {
        id: MODEL.to_owned(),
        name: Some("Simulated".to_owned()),
        provider: "simulated".to_owned(),
        upstream_id: Some("simulated".to_owned()),
        context_length: 8_192,
        max_output_tokens: Some(4_096),
        max_image_tokens: Some(256),
        pricing: Some(PricingConfig {
            prompt: "0.000005".to_owned(),
            completion: "0.0001".to_owned(),
            request: None,
            image: None,
            input_cache_read: None,
            input_cache_write: None,
            internal_reasoning: None,
        }),
    }];
    config
}

/// Runs the command.
///
/// # Errors
/// The server cannot start, or the story does not go as it must.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(Kind::Failed, format!("no temporary folder: {error}"));
    let folder = tempfile::Builder::new().prefix("tollgate-demo-").tempdir().map_err(failed)?;
    let config = configuration(&arguments.listen, &folder.path().join("tollgate.db"));
    log(&LogConfig { level: "warn".to_owned(), ..LogConfig::default() })?;
    let stop = stop_signal()?;
    let booted = boot(&config, Parts::default(), |_| None).await?;
    let url = format!("http://{}", booted.address);
    let secret = booted.first_management_key.clone();
    output::result(&format!("listening on {url}      simulated provider, fresh database, nothing leaves this machine"));
    let (told, hear) = tokio::sync::oneshot::channel::<()>();
    let story = async {
        let Some(secret) = secret else { return Err(Failure::new(Kind::Failed, "the database was not fresh")) };
        output::result(&format!("management key  {}", secret.reveal()));
        tell(&Client::new(&url, secret.reveal())).await?;
        if arguments.once {
            return told.send(()).map_err(|()| Failure::new(Kind::Failed, "the server ended early"));
        }
        output::result("Ctrl-C stops the server.");
        // Keeps the other end waiting for as long as the server is up.
        std::future::pending::<()>().await;
        drop(told);
        Ok(())
    };
    let serving = booted.run(async {
        tokio::select! {
            () = stop => {}
            Ok(()) = hear => {}
        }
    });
    let (mut story, mut serving) = (std::pin::pin!(story), std::pin::pin!(serving));
    tokio::select! {
        served = &mut serving => served,
        played = &mut story => {
            played?;
            serving.await
        }
    }
}

async fn tell(manager: &Client) -> Result<(), Failure> {
    let limit = Usd::parse(LIMIT, Excess::Refuse).map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
    let request = CreateKey { name: "demo".to_owned(), limit: Some(RawAmount::from(limit)), ..CreateKey::default() };
    let created = manager.create_key(&request).await?;
    output::result(&format!("created key     {}, limit ${LIMIT}", created.data.name));
    let client = manager.with_key(&created.key);
    let mut charged = Usd::ZERO;
    for call in 1..=CALLS_MAX {
        let body = json!({
            "model": MODEL,
            "max_tokens": MAX_TOKENS,
            "messages": [{"role": "user", "content": format!("Why do limits leak elsewhere? Answer number {call}.")}],
        });
        let answer = client.chat(body.to_string().into_bytes()).await?;
        let key = client.current_key().await?;
        let left = key.limit_remaining.map(|left| left.0).unwrap_or_default();
        let left = output::short(left, Rounding::Down);
        if answer.status.is_success() {
            let (tokens, cost) = usage(&answer)?;
            charged = charged.plus(cost).map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
            let cost = output::short(cost, Rounding::Up);
            output::result(&format!(
                "call {call:<2} {}  {tokens:>4} tokens    {cost:<9}  left {left}",
                answer.status.as_u16()
            ));
            continue;
        }
        output::result(&format!("call {call:<2} {}  {}", answer.status.as_u16(), refusal(&answer)));
        let spent = key.usage.0;
        if spent != charged {
            let fact = format!("the key says it spent ${spent}, its answers say ${charged}");
            return Err(Failure::new(Kind::Failed, fact));
        }
        output::result(&format!("spent ${spent} of ${LIMIT}, exactly what the answers cost, and it will stay there."));
        return Ok(());
    }
    Err(Failure::new(Kind::Failed, format!("the key was not refused within {CALLS_MAX} calls")))
}

fn usage(answer: &RawAnswer) -> Result<(u64, Usd), Failure> {
    let wrong = || Failure::new(Kind::Failed, "an answer came without usage");
    let body: Value = serde_json::from_slice(&answer.body).map_err(|_| wrong())?;
    let usage = body.get("usage").ok_or_else(wrong)?;
    let tokens = usage.get("total_tokens").and_then(Value::as_u64).ok_or_else(wrong)?;
    let cost = usage.get("cost").ok_or_else(wrong)?.to_string();
    Ok((tokens, Usd::parse(&cost, Excess::Refuse).map_err(|_| wrong())?))
}

fn refusal(answer: &RawAnswer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let message = body["error"]["message"].as_str().unwrap_or("refused").to_owned();
    message.split(". To increase").next().unwrap_or_default().to_owned()
}
