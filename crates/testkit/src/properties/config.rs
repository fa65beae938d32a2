//! A configuration that is accepted is printed, accepted again, and means the same.
//!
//! An input is the text of a file and, behind a line [`ENVIRONMENT`], variables one a line; `\n` in one is a new line.

use std::path::Path;

use tollgate::config::{Config, Place};
use tollgate_gateway::{Limits, Provider};

/// The line between the file and the variables.
const ENVIRONMENT: &str = "# environment\n";

pub fn holds(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (file, variables) = text.split_once(ENVIRONMENT).unwrap_or((&text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let variables: Vec<(String, String)> =
        variables.map(|(name, value)| (name.to_owned(), value.replace("\\n", "\n"))).collect();
    let path = Path::new("tollgate.toml");
    let config = match Config::parse(path, file, variables.into_iter()) {
        Ok(config) => config,
        Err(failure) => return assert!(!failure.fact.is_empty()),
    };
    let printed = config.print().unwrap();
    let again = Config::parse(path, &printed, std::iter::empty()).unwrap_or_else(|failure| {
        panic!("printed, and not accepted: {}\n{printed}", failure.fact);
    });
    assert_eq!(again.print().unwrap(), printed);
    assert_eq!(meaning(&again), meaning(&config));
}

/// What the server makes of a configuration.
fn meaning(config: &Config) -> String {
    let told = |failure: tollgate::failure::Failure| failure.fact;
    let public_url = config.public_url("127.0.0.1:4000");
    // The files of a file that somebody made up are nobody's to read.
    let files = config.providers.iter().any(|provider| provider.api_key_file.is_some());
    let providers = if files { Ok(Vec::new()) } else { config.provider_settings(|_| Some("secret".to_owned())) };
    let providers = providers.map_err(told).map(|settings| {
        let ready = settings.into_iter().map(|settings| Provider::new(settings, Limits::default()));
        ready.map(|provider| provider.map(|_| ()).map_err(|error| error.to_string())).collect::<Vec<_>>()
    });
    // The password of a server is not printed; what else its URL says, `config` shows.
    let place = config.database.place().map(|place| match place {
        Place::File(path) => path.display().to_string(),
        Place::Server(_) => "a server".to_owned(),
    });
    format!(
        "{config:?} {:?} {:?} {:?} {providers:?} {:?} {:?}",
        config.endpoints().map_err(told),
        config.guard().map_err(told),
        config.consent_site(&public_url).map_err(told),
        place.map_err(told),
        config.oauth.default_limit().map_err(told),
    )
}
