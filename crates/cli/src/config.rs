//! The configuration: a TOML file under environment variables, typed, with no unknown settings.
//!
//! `TOLLGATE_<SECTION>__<NAME>` sets one setting; names without `__` mean other things. What the file says wrong is told
//! with its line, what a variable says wrong with its name.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tollgate_domain::guardrail::{Declared, Region};
use tollgate_domain::ledger::Fee;
use tollgate_domain::model::Endpoint;
use tollgate_domain::money::{Excess, MoneyError};
use tollgate_domain::pricing::PriceList;
use tollgate_domain::rate::Rate;
use tollgate_domain::web::Site;
use tollgate_domain::{Price, Usd};
use tollgate_gateway::{OutputCapField, ProviderKind, ProviderSettings};
use tollgate_http::{GuardSettings, TrustedProxies};
use tollgate_store_sqlite::Durability;

use crate::failure::{Failure, Kind};

/// The longest of the timeouts that can be set: a day.
const TIMEOUT_SECONDS_MAX: u64 = 86_400;

/// The deepest that a setting lies: `server.tls.key_file`.
const SECTIONS_MAX: usize = 3;

/// The file that is read if none is named.
pub const DEFAULT_FILE: &str = "tollgate.toml";

/// All settings.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    pub server: ServerConfig,
    /// Where it remembers.
    pub database: DatabaseConfig,
    /// What keys look like.
    pub keys: KeysConfig,
    /// What keys apps get for a code.
    pub oauth: OAuthConfig,
    /// What calls under workspaces' own provider credentials cost.
    pub byok: ByokConfig,
    /// What it reads, waits for and keeps at the most.
    pub limits: LimitsConfig,
    /// What it tells.
    pub log: LogConfig,
    /// Who answers calls.
    pub providers: Vec<ProviderConfig>,
    /// What can be called, by whom it is answered, and what it costs.
    pub models: Vec<ModelConfig>,
}

/// `[server]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// The address to listen on; port 0 takes a free one.
    pub listen: String,
    /// Where people and clients reach the server.
    pub public_url: Option<String>,
    /// Seconds that answers under way get at shutdown.
    pub grace_seconds: u64,
    /// Addresses and networks of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    /// TLS, if tollgate itself is to speak it.
    pub tls: Option<TlsConfig>,
}

/// `[server.tls]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain, PEM.
    pub certificate_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
}

/// `[database]`
#[derive(Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `sqlite://<file>` or `postgres://<user>:<password>@<host>/<database>`
    pub url: String,
    /// `power` or `process`: what a commit survives.
    pub durability: DurabilityConfig,
}

/// Where a database is.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file, which one process owns.
    File(PathBuf),
    /// On a PostgreSQL server, by its URL, which may hold a password.
    Server(String),
}

/// `database.durability`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityConfig {
    /// Loss of power.
    #[default]
    Power,
    /// The death of the process.
    Process,
}

/// `[keys]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeysConfig {
    /// What new keys begin with.
    pub prefix: String,
}

/// `[oauth]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct OAuthConfig {
    /// The limit of a key for which none is asked, a decimal string in USD; without it such a key has no limit.
    pub default_limit_usd: Option<String>,
    /// Whether people can give keys to apps on the page `/auth`.
    pub consent_page: bool,
}

/// `[byok]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ByokConfig {
    /// Percent of the list price that such a call costs in credits, a decimal string.
    pub fee_percent: String,
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Seconds until a client has sent its headers.
    pub header_timeout_seconds: u64,
    /// Seconds until a client has sent its body.
    pub body_timeout_seconds: u64,
    /// Seconds until a client that reads nothing of its answer loses the connection.
    pub write_timeout_seconds: u64,
    /// Fewest completion tokens that an open cap may be lowered to.
    pub min_output_tokens: u64,
    /// Seconds until a provider answers at all: its status, and of a stream the first event.
    pub head_timeout_seconds: u64,
    /// Seconds between two events of a provider's stream, or two reads of another answer.
    pub idle_timeout_seconds: u64,
    /// Wrong credentials of one address in a minute, and at once, until it gets 429; 0 is any number.
    pub failed_authentications_per_minute: u32,
    /// Requests of one management key in a minute, and at once; 0 is any number.
    pub management_requests_per_minute: u32,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, or a filter such as `info,tollgate_gateway=debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// `log.format`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// `[[providers]]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// Its name here, shown as `provider`.
    pub slug: String,
    /// What speaks there.
    pub kind: KindConfig,
    /// What comes before `/chat/completions`.
    pub base_url: Option<String>,
    /// The environment variable that holds the credential.
    pub api_key_env: Option<String>,
    /// The file that holds the credential.
    pub api_key_file: Option<PathBuf>,
    /// Where the output cap goes: `max_completion_tokens` or `max_tokens`.
    #[serde(default)]
    pub output_cap_field: CapFieldConfig,
    /// Where it processes data, for guardrails that ask: `global`, `europe` or `us`.
    pub region: Option<RegionConfig>,
    /// Whether it keeps nothing of what it is sent, for guardrails that ask.
    pub zero_data_retention: Option<bool>,
}

/// `providers.region`
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RegionConfig {
    /// Anywhere.
    Global,
    /// In Europe.
    Europe,
    /// In the United States.
    Us,
}

/// `providers.kind`
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KindConfig {
    /// Anything that speaks OpenAI's API.
    #[serde(rename = "openai")]
    OpenAi,
    /// Built in.
    Simulated,
}

/// `providers.output_cap_field`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CapFieldConfig {
    /// OpenAI's present name.
    #[default]
    MaxCompletionTokens,
    /// The older name.
    MaxTokens,
}

/// `[[models]]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The public id, `author/slug`. Repeating one adds another provider for it, in file order.
    pub id: String,
    /// The name people see; default is the id.
    pub name: Option<String>,
    /// The slug of a provider.
    pub provider: String,
    /// The provider's own name of the model; default is the id.
    pub upstream_id: Option<String>,
    /// The most tokens of prompt and completion together.
    pub context_length: u64,
    /// The most completion tokens; default is the context length.
    pub max_output_tokens: Option<u64>,
    /// The most tokens that one image costs; without it an image counts as the whole context.
    pub max_image_tokens: Option<u64>,
    /// What it costs; without it nobody may call it.
    pub pricing: Option<PricingConfig>,
}

/// `models.pricing`: decimal strings in USD per unit, as in `GET /models`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PricingConfig {
    /// Per prompt token.
    pub prompt: String,
    /// Per completion token.
    pub completion: String,
    /// Per request.
    pub request: Option<String>,
    /// Per image.
    pub image: Option<String>,
    /// Per cached prompt token.
    pub input_cache_read: Option<String>,
    /// Per prompt token written to a cache.
    pub input_cache_write: Option<String>,
    /// Per reasoning token.
    pub internal_reasoning: Option<String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:4000".to_owned(),
            public_url: None,
            grace_seconds: 30,
            trusted_proxies: Vec::new(),
            tls: None,
        }
    }
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { url: "sqlite://tollgate.db".to_owned(), durability: DurabilityConfig::Power }
    }
}

impl Default for KeysConfig {
    fn default() -> Self {
        Self { prefix: "sk-or-v1-".to_owned() }
    }
}

impl Default for ByokConfig {
    fn default() -> Self {
        // Whoever runs the server pays nobody for the call.
        Self { fee_percent: "0".to_owned() }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            body_bytes_max: 32 << 20,
            header_timeout_seconds: 20,
            body_timeout_seconds: 120,
            write_timeout_seconds: 60,
            min_output_tokens: 256,
            head_timeout_seconds: 600,
            idle_timeout_seconds: 300,
            failed_authentications_per_minute: 30,
            management_requests_per_minute: 6_000,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// A URL with stars in the place of its password.
fn without_password(url: &str) -> String {
    let hidden = || {
        let (scheme, rest) = url.split_once("://")?;
        // A password may hold an `@`; a host does not.
        let (who, place) = rest.rsplit_once('@')?;
        let (user, _) = who.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{place}"))
    };
    let shown = hidden().unwrap_or_else(|| url.to_owned());
    let Some((place, settings)) = shown.split_once('?') else { return shown };
    let settings: Vec<&str> =
        settings.split('&').map(|it| if it.starts_with("password=") { "password=***" } else { it }).collect();
    format!("{place}?{}", settings.join("&"))
}

impl std::fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = without_password(&self.url);
        f.debug_struct("DatabaseConfig").field("url", &url).field("durability", &self.durability).finish()
    }
}

impl DatabaseConfig {
    /// Where the database is.
    ///
    /// # Errors
    /// The URL is of another kind.
    pub fn place(&self) -> Result<Place, Failure> {
        let server = ["postgres://", "postgresql://"].iter().any(|scheme| self.url.starts_with(scheme));
        match self.url.strip_prefix("sqlite://") {
            Some(path) if !path.is_empty() => Ok(Place::File(PathBuf::from(path))),
            _ if server => Ok(Place::Server(self.url.clone())),
            _ => {
                let fact = "database.url must be sqlite://<file> or postgres://<user>@<host>/<database>";
                Err(Failure::new(Kind::Usage, fact).next("for example: url = \"sqlite://tollgate.db\""))
            }
        }
    }

    /// What a commit survives.
    pub fn durability(&self) -> Durability {
        match self.durability {
            DurabilityConfig::Power => Durability::Power,
            DurabilityConfig::Process => Durability::Process,
        }
    }
}

impl OAuthConfig {
    /// The limit of a key for which none is asked.
    ///
    /// # Errors
    /// The setting is no amount.
    pub fn default_limit(&self) -> Result<Option<Usd>, Failure> {
        let amount = |text: &String| {
            Usd::parse(text, Excess::Refuse).map_err(|error| {
                Failure::new(Kind::Usage, format!("oauth.default_limit_usd {error}"))
                    .next("amounts are strings in USD, such as \"5.00\"")
            })
        };
        self.default_limit_usd.as_ref().map(amount).transpose()
    }
}

impl ByokConfig {
    /// The fee.
    ///
    /// # Errors
    /// The setting is no percentage.
    pub fn fee(&self) -> Result<Fee, Failure> {
        Fee::percent(&self.fee_percent).map_err(|error| {
            Failure::new(Kind::Usage, format!("byok.fee_percent {error}"))
                .next("percentages are strings, such as \"5\" or \"0.25\"")
        })
    }
}

impl Config {
    /// Reads the file, if there is one, and the environment.
    ///
    /// # Errors
    /// A setting is unknown or makes no sense: which, where, and what to do.
    pub fn load(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Self, Failure> {
        let (path, text) = match file {
            Some(path) => (path.to_owned(), read(path)?),
            None if Path::new(DEFAULT_FILE).exists() => (PathBuf::from(DEFAULT_FILE), read(Path::new(DEFAULT_FILE))?),
            None => (PathBuf::from(DEFAULT_FILE), String::new()),
        };
        Self::parse(&path, &text, environment)
    }

    /// Reads the text of the file at `path`, and the environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        path: &Path,
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Failure> {
        // First the file alone, so that what is wrong in it is told with its line.
        let parsed: Result<Self, toml::de::Error> = toml::from_str(text);
        if let Err(error) = parsed {
            return Err(wrong_in_file(path, text, &error));
        }
        let mut table: toml::Table = toml::from_str(text).map_err(|error| wrong_in_file(path, text, &error))?;
        let mut names: Vec<(String, String)> = environment.filter_map(setting_of).collect();
        names.sort();
        for (name, value) in names {
            table = overlay(table, &name, &value)?;
        }
        let config: Self = table.try_into().map_err(|error: toml::de::Error| {
            Failure::new(Kind::Usage, format!("configuration: {}", error.message()))
        })?;
        config.checked()
    }

    /// Every setting, defaults included, as TOML.
    ///
    /// # Errors
    /// A setting cannot be written down.
    pub fn print(&self) -> Result<String, Failure> {
        let mut shown = self.clone();
        shown.database.url = without_password(&self.database.url);
        toml::to_string_pretty(&shown).map_err(|error| Failure::new(Kind::Failed, error.to_string()))
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// A setting is out of its range.
    fn checked(self) -> Result<Self, Failure> {
        self.oauth.default_limit()?;
        self.guard()?;
        self.byok.fee()?;
        let seconds = [
            ("header_timeout_seconds", self.limits.header_timeout_seconds),
            ("body_timeout_seconds", self.limits.body_timeout_seconds),
            ("write_timeout_seconds", self.limits.write_timeout_seconds),
            ("head_timeout_seconds", self.limits.head_timeout_seconds),
            ("idle_timeout_seconds", self.limits.idle_timeout_seconds),
        ];
        match seconds.into_iter().find(|(_, seconds)| !(1..=TIMEOUT_SECONDS_MAX).contains(seconds)) {
            None => Ok(self),
            Some((name, seconds)) => {
                let fact = format!("limits.{name} is {seconds}");
                Err(Failure::new(Kind::Usage, fact)
                    .next(format!("set it to 1 or more, {TIMEOUT_SECONDS_MAX} at the most")))
            }
        }
    }

    /// What the server lets through.
    ///
    /// # Errors
    /// A trusted proxy is no address.
    pub fn guard(&self) -> Result<GuardSettings, Failure> {
        let trusted_proxies = TrustedProxies::parse(&self.server.trusted_proxies).map_err(|text| {
            Failure::new(Kind::Usage, format!("server.trusted_proxies: `{text}` is no address and no network"))
                .next("for example: trusted_proxies = [\"10.0.0.0/8\", \"::1\"]")
        })?;
        let rate = |per_minute| NonZeroU32::new(per_minute).map(Rate::per_minute);
        Ok(GuardSettings {
            trusted_proxies,
            failed_authentications: rate(self.limits.failed_authentications_per_minute),
            management_requests: rate(self.limits.management_requests_per_minute),
        })
    }

    /// Where people and clients reach the server, when it listens on `bound`.
    pub fn public_url(&self, bound: &str) -> String {
        let scheme = if self.server.tls.is_some() { "https" } else { "http" };
        let url = self.server.public_url.clone().unwrap_or_else(|| format!("{scheme}://{bound}"));
        url.trim_end_matches('/').to_owned()
    }

    /// Where people reach the consent page, if it is there, when the server is reached at `public_url`.
    ///
    /// # Errors
    /// Nobody could: browsers would ask for another name than the one that the page is served under.
    pub fn consent_site(&self, public_url: &str) -> Result<Option<Site>, Failure> {
        if !self.oauth.consent_page {
            return Ok(None);
        }
        let site = Site::parse(public_url).filter(|site| !["0.0.0.0", "[::]"].contains(&site.origin().host()));
        site.map(Some).ok_or_else(|| {
            let fact = format!("oauth.consent_page is on, and no browser can ask for `{public_url}`");
            Failure::new(Kind::Usage, fact)
                .next("set server.public_url to what people type, such as \"https://llm.example.org\"")
        })
    }

    /// The providers, with their credentials read.
    ///
    /// # Errors
    /// A provider lacks what its kind needs.
    pub fn provider_settings(
        &self,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<ProviderSettings>, Failure> {
        let mut seen = HashSet::new();
        if let Some(twice) = self.providers.iter().find(|provider| !seen.insert(&provider.slug)) {
            let fact = format!("two providers have the slug `{}`", twice.slug);
            return Err(Failure::new(Kind::Usage, fact).next("give each [[providers]] entry a slug of its own"));
        }
        self.providers.iter().map(|provider| provider.settings(&environment)).collect()
    }

    /// The endpoints of all models.
    ///
    /// # Errors
    /// A model names a provider that is not there, or a price that is none.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, Failure> {
        let mut seen = HashSet::new();
        if let Some(twice) = self.models.iter().find(|model| !seen.insert((&model.id, &model.provider))) {
            let fact = format!("model `{}` is offered by the provider `{}` twice", twice.id, twice.provider);
            return Err(Failure::new(Kind::Usage, fact).next("leave one of the two [[models]] entries"));
        }
        self.models.iter().map(|model| self.endpoint(model)).collect()
    }

    fn endpoint(&self, model: &ModelConfig) -> Result<Endpoint, Failure> {
        if !self.providers.iter().any(|provider| provider.slug == model.provider) {
            let fact = format!("model `{}` names the provider `{}`, which is not configured", model.id, model.provider);
            return Err(Failure::new(Kind::Usage, fact).next("add a [[providers]] entry with that slug"));
        }
        if model.context_length == 0 {
            let fact = format!("model `{}` has a context_length of 0, so no prompt could be bounded", model.id);
            return Err(Failure::new(Kind::Usage, fact).next("set the tokens that it takes, such as 128000"));
        }
        let prices = model.pricing.as_ref().map(|pricing| pricing.prices(&model.id)).transpose()?;
        Ok(Endpoint {
            model: model.id.clone(),
            name: model.name.clone().unwrap_or_else(|| model.id.clone()),
            provider: model.provider.clone(),
            upstream_id: model.upstream_id.clone().unwrap_or_else(|| model.id.clone()),
            context_length: model.context_length,
            max_output_tokens: model.max_output_tokens.unwrap_or(model.context_length),
            max_image_tokens: model.max_image_tokens,
            prices,
        })
    }
}

impl ProviderConfig {
    fn settings(&self, environment: &impl Fn(&str) -> Option<String>) -> Result<ProviderSettings, Failure> {
        let kind = match self.kind {
            KindConfig::Simulated => ProviderKind::Simulated,
            KindConfig::OpenAi => ProviderKind::OpenAi {
                base_url: self
                    .base_url
                    .clone()
                    .ok_or_else(|| Failure::new(Kind::Usage, format!("provider `{}` needs a base_url", self.slug)))?,
                api_key: self.api_key(environment)?,
                cap_field: match self.output_cap_field {
                    CapFieldConfig::MaxCompletionTokens => OutputCapField::MaxCompletionTokens,
                    CapFieldConfig::MaxTokens => OutputCapField::MaxTokens,
                },
            },
        };
        Ok(ProviderSettings { slug: self.slug.clone(), kind, declared: self.declared() })
    }

    /// What is declared of it.
    pub fn declared(&self) -> Declared {
        let region = self.region.map(|region| match region {
            RegionConfig::Global => Region::Global,
            RegionConfig::Europe => Region::Europe,
            RegionConfig::Us => Region::Us,
        });
        Declared { region, zero_data_retention: self.zero_data_retention }
    }

    fn api_key(&self, environment: &impl Fn(&str) -> Option<String>) -> Result<Option<String>, Failure> {
        if let Some(name) = &self.api_key_env {
            let fact = format!("provider `{}` takes its key from {name}, which is not set", self.slug);
            return environment(name)
                .filter(|key| !key.is_empty())
                .map(Some)
                .ok_or_else(|| Failure::new(Kind::Usage, fact).next(format!("set {name}, or use api_key_file")));
        }
        self.api_key_file.as_deref().map(|path| read(path).map(|key| key.trim().to_owned())).transpose()
    }
}

impl PricingConfig {
    fn prices(&self, model: &str) -> Result<PriceList, Failure> {
        let price = |name: &str, text: &str| {
            Price::parse(text).map_err(|error: MoneyError| {
                Failure::new(Kind::Usage, format!("model `{model}`: pricing.{name} {error}"))
                    .next("prices are strings of USD per token, such as \"0.00000015\"")
            })
        };
        let optional = |name: &str, text: &Option<String>| text.as_deref().map(|text| price(name, text)).transpose();
        Ok(PriceList {
            prompt: price("prompt", &self.prompt)?,
            completion: price("completion", &self.completion)?,
            request: optional("request", &self.request)?.unwrap_or_default(),
            image: optional("image", &self.image)?.unwrap_or_default(),
            input_cache_read: optional("input_cache_read", &self.input_cache_read)?,
            input_cache_write: optional("input_cache_write", &self.input_cache_write)?,
            internal_reasoning: optional("internal_reasoning", &self.internal_reasoning)?,
        })
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::new(Kind::Usage, format!("{} cannot be read: {error}", path.display())))
}

fn wrong_in_file(path: &Path, text: &str, error: &toml::de::Error) -> Failure {
    let line = error.span().map_or(1, |span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
    let fact = format!("{} line {line}: {}", path.display(), error.message());
    Failure::new(Kind::Usage, fact).next("`tollgate config print` shows every setting")
}

/// `TOLLGATE_SERVER__LISTEN` is `server.listen`; names without `__` are no settings.
fn setting_of((name, value): (String, String)) -> Option<(String, String)> {
    let rest = name.strip_prefix("TOLLGATE_")?;
    rest.contains("__").then(|| (rest.to_lowercase().replace("__", "."), value))
}

/// Sets one setting, and checks that the whole is still a configuration.
fn overlay(table: toml::Table, name: &str, value: &str) -> Result<toml::Table, Failure> {
    let text = toml::Value::String(value.to_owned());
    let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| text.clone());
    // `5` is a number, or, where a text is asked for, the text `5`.
    set(table.clone(), name, parsed).or_else(|failure| set(table, name, text).map_err(|_| failure))
}

fn set(mut table: toml::Table, name: &str, value: toml::Value) -> Result<toml::Table, Failure> {
    let mut place = &mut table;
    let mut parts: Vec<&str> = name.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let variable = format!("TOLLGATE_{}", name.to_uppercase().replace('.', "__"));
    if parts.len() >= SECTIONS_MAX {
        // Sections in sections without end could not even be taken down again.
        let fact = format!("{variable}: no setting lies so deep");
        return Err(Failure::new(Kind::Usage, fact).next("`tollgate config print` shows every setting"));
    }
    for part in parts {
        let section = place.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        place = section
            .as_table_mut()
            .ok_or_else(|| Failure::new(Kind::Usage, format!("{variable}: `{part}` is not a section")))?;
    }
    place.insert(last.to_owned(), value);
    let checked: Result<Config, toml::de::Error> = table.clone().try_into();
    match checked {
        Ok(_) => Ok(table),
        Err(error) => Err(Failure::new(Kind::Usage, format!("{variable}: {}", error.message()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, Failure> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(Some(file.path()), variables)
    }

    #[test]
    fn a_password_of_a_database_is_not_shown() {
        let config = load("[database]\nurl = \"postgres://me:p@ss:w@db:5432/x\"\n", &[]).unwrap();
        for shown in [config.print().unwrap(), format!("{config:?}")] {
            assert!(shown.contains("postgres://me:***@db:5432/x") && !shown.contains("ss:w"), "{shown}");
        }
        assert_eq!(without_password("sqlite://a@b.db"), "sqlite://a@b.db");
        assert_eq!(without_password("postgres://me@db/x"), "postgres://me@db/x");
        let settings = without_password("postgres://me:a?b@db/x?sslmode=require&password=c&port=1");
        assert_eq!(settings, "postgres://me:***@db/x?sslmode=require&password=***&port=1");
    }

    #[test]
    fn an_unknown_setting_is_told_with_its_line() {
        let failure = load("[server]\nlisten = \"x\"\n\n[database]\nduribility = \"power\"\n", &[]).unwrap_err();
        assert!(failure.fact.contains("line 5"), "{}", failure.fact);
        assert!(failure.fact.contains("duribility") && failure.fact.contains("durability"), "{}", failure.fact);
    }

    #[test]
    fn the_environment_overrides_the_file_and_is_checked_as_strictly() {
        let variables = [
            ("TOLLGATE_DATABASE__DURABILITY", "process"),
            ("TOLLGATE_SERVER__GRACE_SECONDS", "7"),
            ("TOLLGATE_URL", "x"),
        ];
        let config = load("[database]\ndurability = \"power\"\n", &variables).unwrap();
        assert_eq!(config.database.durability(), Durability::Process);
        assert_eq!(config.server.grace_seconds, 7);
        let failure = load("", &[("TOLLGATE_SERVER__LISTN", "x")]).unwrap_err();
        assert!(failure.fact.starts_with("TOLLGATE_SERVER__LISTN"), "{}", failure.fact);
    }

    #[test]
    fn a_variable_may_name_no_more_sections_than_there_are() {
        let tls = [
            ("TOLLGATE_SERVER__TLS", "{certificate_file = \"c\", key_file = \"k\"}"),
            ("TOLLGATE_SERVER__TLS__KEY_FILE", "l"),
        ];
        assert_eq!(load("", &tls).unwrap().server.tls.unwrap().key_file, Path::new("l"));
        let deep = format!("TOLLGATE_{}", vec!["A"; 100_000].join("__"));
        let failure = load("", &[(&deep, "1")]).unwrap_err();
        assert!(failure.fact.ends_with("no setting lies so deep"), "{}", &failure.fact[..80]);
    }

    #[test]
    fn the_default_limit_of_apps_is_an_exact_amount() {
        let limit = |text: &str| load(text, &[]).unwrap().oauth.default_limit().unwrap();
        assert_eq!(limit(""), None);
        assert_eq!(limit("[oauth]\ndefault_limit_usd = \"2.50\"\n"), Some(Usd::from_nanos(2_500_000_000)));
        let from_variable = load("", &[("TOLLGATE_OAUTH__DEFAULT_LIMIT_USD", "2.50")]).unwrap();
        assert_eq!(from_variable.oauth.default_limit().unwrap(), Some(Usd::from_nanos(2_500_000_000)));
        for text in ["-1", "much", "0.0000000001", ""] {
            let failure = load(&format!("[oauth]\ndefault_limit_usd = \"{text}\"\n"), &[]).unwrap_err();
            assert!(failure.fact.starts_with("oauth.default_limit_usd"), "{}", failure.fact);
        }
    }

    #[test]
    fn proxies_are_addresses_or_networks_and_zero_turns_a_limit_off() {
        let text = "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n";
        let guard = load(text, &[("TOLLGATE_LIMITS__MANAGEMENT_REQUESTS_PER_MINUTE", "0")]).unwrap().guard().unwrap();
        assert_eq!(guard.failed_authentications.map(Rate::limit), Some(30));
        assert_eq!(guard.management_requests, None);
        let failure = load("", &[("TOLLGATE_SERVER__TRUSTED_PROXIES", "[\"10.0.0.0/33\"]")]).unwrap_err();
        assert!(failure.fact.starts_with("server.trusted_proxies: `10.0.0.0/33`"), "{}", failure.fact);
    }

    #[test]
    fn the_consent_page_is_off_and_needs_a_name_that_a_browser_can_ask_for() {
        let site = |text: &str, bound: &str| {
            let config = load(text, &[]).unwrap();
            config.consent_site(&config.public_url(bound))
        };
        assert_eq!(site("", "0.0.0.0:4000").unwrap(), None);
        let on = "[oauth]\nconsent_page = true\n";
        let at = |text: &str, bound| site(text, bound).unwrap().unwrap().origin().to_string();
        assert_eq!(at(on, "127.0.0.1:4000"), "http://127.0.0.1:4000");
        let named = format!("{on}[server]\npublic_url = \"https://LLM.example.org/\"\n");
        assert_eq!(at(&named, "0.0.0.0:4000"), "https://llm.example.org");
        for (text, bound) in [
            (on, "0.0.0.0:4000"),
            (on, "[::]:4000"),
            ("[oauth]\nconsent_page = true\n[server]\npublic_url = \"llm\"\n", "127.0.0.1:4000"),
        ] {
            let failure = site(text, bound).unwrap_err();
            assert!(failure.fact.starts_with("oauth.consent_page is on"), "{}", failure.fact);
        }
    }

    #[test]
    fn a_fee_is_an_exact_percentage() {
        let fee = |text: &str| load(text, &[]).map(|config| config.byok.fee().unwrap());
        assert_eq!(fee("").unwrap(), Fee::NONE);
        assert_eq!(fee("[byok]\nfee_percent = \"5\"\n").unwrap(), Fee::percent("5").unwrap());
        let from_variable = load("", &[("TOLLGATE_BYOK__FEE_PERCENT", "0.25")]).unwrap();
        assert_eq!(from_variable.byok.fee().unwrap(), Fee::percent("0.25").unwrap());
        for text in ["-1", "101", "5%", ""] {
            let failure = fee(&format!("[byok]\nfee_percent = \"{text}\"\n")).unwrap_err();
            assert!(failure.fact.starts_with("byok.fee_percent"), "{}", failure.fact);
        }
    }

    #[test]
    fn a_price_that_is_none_names_its_model() {
        let text = "[[providers]]\nslug = \"s\"\nkind = \"simulated\"\n[[models]]\nid = \"a/b\"\nprovider = \"s\"\ncontext_length = 10\npricing = { prompt = \"free\", completion = \"0\" }\n";
        let failure = load(text, &[]).unwrap().endpoints().unwrap_err();
        assert!(failure.fact.contains("a/b") && failure.fact.contains("pricing.prompt"), "{}", failure.fact);
    }
}
