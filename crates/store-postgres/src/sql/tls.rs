//! Connections to the server, encrypted as `sslmode` and `sslrootcert` of the URL ask, in the words of PostgreSQL's own clients (libpq).
//!
//! What they mean is libpq's, too, but nothing is weaker here than it looks: authorities are named only where they are asked,
//! and what a server fails at is not tried again without encryption.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::OpenError;

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
/// What is offered where TLS comes first (`sslnegotiation=direct`).
const PROTOCOL: &[u8] = b"postgresql";
/// `sslrootcert` for the authorities that browsers trust.
const SYSTEM: &str = "system";
/// What libpq knows, and would be missed without a word.
const UNSUPPORTED: [&str; 6] = ["sslcert", "sslkey", "sslpassword", "sslcrl", "sslcrldir", "sslcertmode"];

/// What a URL asks for, and how to encrypt what goes there.
///
/// # Errors
/// [`OpenError::Url`] or [`OpenError::Authorities`], which do not repeat the URL.
pub fn read(url: &str) -> Result<(Config, MakeRustlsConnect), OpenError> {
    let (url, asked) = Asked::take(url)?;
    let mut config = Config::from_str(&url).map_err(|error| OpenError::Url(error.to_string()))?;
    let (encrypted, trust) = asked.meaning()?;
    let sockets = |host: &Host| matches!(host, Host::Unix(_));
    // Nobody sits in between there, and the server offers no TLS.
    let local = !config.get_hosts().is_empty() && config.get_hosts().iter().all(sockets);
    config.ssl_mode(if local { SslMode::Disable } else { encrypted });
    Ok((config, MakeRustlsConnect::new(trust.tls()?)))
}

/// How much is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Never encrypted.
    Disable,
    /// Encrypted where the server can.
    Prefer,
    /// Always encrypted.
    Require,
    /// And only with a certificate that an authority vouches for.
    VerifyCa,
    /// And only with one for this very host.
    VerifyFull,
}

/// Whose certificates are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trust {
    Anybody,
    /// Whoever the authorities in a file vouch for.
    AnyHost(String),
    /// The host that is asked for, where those in a file do, or [`SYSTEM`].
    Host(String),
}

/// The settings of a URL that are ours to read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    mode: Option<Mode>,
    /// A file, or [`SYSTEM`].
    authorities: Option<String>,
}

impl Asked {
    /// Takes its settings out of a URL, whose rest stays as it is.
    fn take(url: &str) -> Result<(String, Self), OpenError> {
        let place = SCHEMES.iter().find_map(|scheme| url.strip_prefix(scheme));
        let place = place.ok_or_else(|| refused("it must begin with `postgres://`"))?;
        let host = match place.split_once('@') {
            // The parts of a URL would be taken for others.
            Some((who, _)) if who.contains('/') => {
                return Err(refused("write `/` in a password as `%2F`, and `@` in a setting as `%40`"));
            }
            Some((_, host)) => host,
            None => place,
        };
        let Some((before, query)) = host.split_once('?') else { return Ok((url.to_owned(), Self::default())) };
        let mut asked = Self::default();
        let mut rest = Vec::new();
        for setting in query.split('&') {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            let value = decoded(value);
            match &*decoded(name) {
                "sslmode" => asked.mode = Some(mode(&value)?),
                "ssl" if value == "true" => asked.mode = Some(Mode::Require),
                "sslrootcert" => asked.authorities = Some(value.into_owned()),
                other => {
                    if let Some(name) = UNSUPPORTED.into_iter().find(|name| *name == other) {
                        return Err(refused(&format!("`{name}` is not supported")));
                    }
                    rest.push(setting);
                }
            }
        }
        let kept = &url[..url.len() - host.len() + before.len()];
        let mark = if rest.is_empty() { "" } else { "?" };
        Ok((format!("{kept}{mark}{}", rest.join("&")), asked))
    }

    /// What its settings mean together.
    fn meaning(self) -> Result<(SslMode, Trust), OpenError> {
        let system = self.authorities.as_deref() == Some(SYSTEM);
        Ok(match (self.mode, self.authorities) {
            (Some(Mode::VerifyFull), authorities) => {
                (SslMode::Require, Trust::Host(authorities.unwrap_or_else(|| SYSTEM.to_owned())))
            }
            // As in libpq: they vouch for everybody, which says nothing without the host.
            (None, Some(authorities)) if system => (SslMode::Require, Trust::Host(authorities)),
            (_, Some(_)) if system => {
                return Err(refused("`sslrootcert=system` goes with `sslmode=verify-full` alone"));
            }
            (Some(Mode::Require | Mode::VerifyCa), Some(file)) => (SslMode::Require, Trust::AnyHost(file)),
            (Some(Mode::VerifyCa), None) => {
                return Err(refused("`sslmode=verify-ca` needs a file in `sslrootcert`; `verify-full` does without"));
            }
            (None | Some(Mode::Disable | Mode::Prefer), Some(_)) => {
                return Err(refused("`sslrootcert` needs `sslmode=verify-full`, `verify-ca` or `require`"));
            }
            (Some(Mode::Require), None) => (SslMode::Require, Trust::Anybody),
            (Some(Mode::Disable), None) => (SslMode::Disable, Trust::Anybody),
            (None | Some(Mode::Prefer), None) => (SslMode::Prefer, Trust::Anybody),
        })
    }
}

impl Trust {
    fn tls(&self) -> Result<ClientConfig, OpenError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| OpenError::Unreachable(error.to_string()))?;
        let any_host = |roots| Arc::new(AnyHost { roots, algorithms });
        let mut config = match self {
            Self::Host(whose) => builder.with_root_certificates(authorities(whose)?),
            Self::AnyHost(file) => {
                builder.dangerous().with_custom_certificate_verifier(any_host(Some(authorities(file)?)))
            }
            Self::Anybody => builder.dangerous().with_custom_certificate_verifier(any_host(None)),
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(config)
    }
}

fn refused(why: &str) -> OpenError {
    OpenError::Url(why.to_owned())
}

fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

fn mode(word: &str) -> Result<Mode, OpenError> {
    Ok(match word {
        "disable" => Mode::Disable,
        "prefer" => Mode::Prefer,
        "require" => Mode::Require,
        "verify-ca" => Mode::VerifyCa,
        "verify-full" => Mode::VerifyFull,
        _ => return Err(refused("sslmode must be `disable`, `prefer`, `require`, `verify-ca` or `verify-full`")),
    })
}

/// Who is trusted to vouch for servers.
fn authorities(whose: &str) -> Result<RootCertStore, OpenError> {
    if whose == SYSTEM {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    }
    let refused = |why: String| OpenError::Authorities(format!("`{whose}`: {why}"));
    let found = CertificateDer::pem_file_iter(whose).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut roots = RootCertStore::empty();
    // Bundles of whole systems hold old ones that nobody can use any more.
    roots.add_parsable_certificates(found.map_err(|error| refused(error.to_string()))?);
    if roots.is_empty() {
        return Err(refused("it holds no certificate that can be used".to_owned()));
    }
    Ok(roots)
}

/// Takes a server for whatever host its certificate is. With `roots` one of them must vouch for it.
///
/// That the server has the certificate's key is checked all the same: a password is bound to the certificate.
#[derive(Debug)]
struct AnyHost {
    roots: Option<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _host: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(certificate)?;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, self.algorithms.all)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(url: &str) -> (String, Asked) {
        Asked::take(url).unwrap()
    }

    fn asked(mode: Mode, authorities: Option<&str>) -> Asked {
        Asked { mode: Some(mode), authorities: authorities.map(str::to_owned) }
    }

    fn mode_of(url: &str) -> SslMode {
        read(url).unwrap().0.get_ssl_mode()
    }

    #[test]
    fn what_is_ours_is_taken_out_of_the_url_and_the_rest_stays() {
        let plain = "postgres://me:a?sslmode=no@db/x";
        assert_eq!(taken(plain), (plain.to_owned(), Asked::default()));
        let (rest, found) =
            taken("postgres://me@db/x?sslmode=verify-full&channel_binding=require&sslrootcert=%2Fetc%2Fca+1.pem");
        assert_eq!(rest, "postgres://me@db/x?channel_binding=require");
        assert_eq!(found, asked(Mode::VerifyFull, Some("/etc/ca+1.pem")));
        let encoded = taken("postgresql:///x?ssl%6Dode=verify%2Dca");
        assert_eq!(encoded, ("postgresql:///x".to_owned(), asked(Mode::VerifyCa, None)));
        assert_eq!(taken("postgres://[::1]:5432,b/x?ssl=true").1, asked(Mode::Require, None));
    }

    #[test]
    fn sessions_are_encrypted_as_asked() {
        assert_eq!(mode_of("postgres://db/x"), SslMode::Prefer);
        assert_eq!(mode_of("postgres://db/x?sslmode=prefer"), SslMode::Prefer);
        assert_eq!(mode_of("postgres://db/x?sslmode=disable"), SslMode::Disable);
        for always in ["sslmode=require", "ssl=true", "sslmode=verify-full", "sslrootcert=system"] {
            assert_eq!(mode_of(&format!("postgres://db/x?{always}")), SslMode::Require, "{always}");
        }
        assert_eq!(mode_of("postgres://%2Frun%2Fpostgresql/x?sslmode=require"), SslMode::Disable, "it is a socket");
    }

    #[test]
    fn what_would_be_weaker_than_it_looks_is_refused() {
        for (wrong, why) in [
            ("postgres://db/x?sslmode=allow", "verify-full"),
            ("postgres://db/x?sslmode", "verify-full"),
            ("postgres://db/x?sslmode=verify-ca", "sslrootcert"),
            ("postgres://db/x?sslmode=verify-ca&sslrootcert=system", "verify-full"),
            ("postgres://db/x?sslmode=require&sslrootcert=system", "verify-full"),
            ("postgres://db/x?sslrootcert=/etc/ca.pem", "verify-full"),
            ("postgres://db/x?sslmode=prefer&sslrootcert=/etc/ca.pem", "verify-full"),
            ("postgres://db/x?sslcert=/etc/me.pem", "`sslcert` is not supported"),
            ("postgres://db/x?sslmode=verify-full&user=me@tenant", "%40"),
            ("host=db sslmode=require", "postgres://"),
        ] {
            assert!(matches!(read(wrong), Err(OpenError::Url(told)) if told.contains(why)), "{wrong}");
        }
    }

    #[test]
    fn files_without_certificates_are_refused() {
        for wrong in ["/nowhere/ca.pem", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")] {
            let read = read(&format!("postgres://db/x?sslmode=verify-full&sslrootcert={wrong}"));
            assert!(matches!(read, Err(OpenError::Authorities(why)) if why.contains(wrong)), "{wrong}");
        }
    }
}
