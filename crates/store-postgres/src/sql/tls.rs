//! Connections to the server, encrypted as `sslmode` and `sslrootcert` of the URL ask, in the words and the sense of PostgreSQL's own
//! clients (libpq), so that the URL a provider hands out works as it is.

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
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::OpenError;

/// What a server must speak where TLS comes first (`sslnegotiation=direct`).
const PROTOCOL: &[u8] = b"postgresql";
/// `sslrootcert` for the authorities that browsers trust.
const SYSTEM: &str = "system";

/// What a URL asks for, and how to encrypt what goes there.
///
/// # Errors
/// [`OpenError::Url`] or [`OpenError::Authorities`], which do not repeat the URL.
pub fn read(url: &str) -> Result<(Config, MakeRustlsConnect), OpenError> {
    let (url, asked) = Asked::take(url)?;
    let mut config = Config::from_str(&url).map_err(|error| OpenError::Url(error.to_string()))?;
    let encrypted = match asked.mode {
        Mode::Disable => SslMode::Disable,
        Mode::Prefer => SslMode::Prefer,
        Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
    };
    config.ssl_mode(encrypted);
    let tls = asked.tls()?;
    Ok((config, MakeRustlsConnect::new(tls)))
}

/// How much is asked of a server. `Require` checks its certificate only where authorities are named, as libpq does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// Never encrypted.
    Disable,
    /// Encrypted where the server can.
    #[default]
    Prefer,
    /// Always encrypted.
    Require,
    /// And only with a certificate that an authority vouches for.
    VerifyCa,
    /// And only with one for this very host.
    VerifyFull,
}

/// The settings of a URL that are ours to read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    mode: Mode,
    /// A file, or [`SYSTEM`].
    authorities: Option<String>,
}

impl Asked {
    /// Takes its settings out of a URL, whose rest stays as it is.
    fn take(url: &str) -> Result<(String, Self), OpenError> {
        // A password may hold a question mark.
        let host = url.find('@').unwrap_or_default();
        let Some(query) = url[host..].find('?').map(|at| host + at) else {
            return Ok((url.to_owned(), Self::default()));
        };
        let mut asked = Self::default();
        let mut rest = Vec::new();
        for setting in url[query + 1..].split('&') {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            match name {
                "sslmode" => asked.mode = mode(value)?,
                "sslrootcert" => asked.authorities = Some(percent_decode_str(value).decode_utf8_lossy().into_owned()),
                _ => rest.push(setting),
            }
        }
        let mark = if rest.is_empty() { "" } else { "?" };
        Ok((format!("{}{mark}{}", &url[..query], rest.join("&")), asked))
    }

    fn tls(&self) -> Result<ClientConfig, OpenError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| OpenError::Url(error.to_string()))?;
        let verified = matches!(self.mode, Mode::VerifyCa | Mode::VerifyFull) || self.authorities.is_some();
        let authorities = verified.then(|| authorities(self.authorities.as_deref().unwrap_or(SYSTEM))).transpose()?;
        let mut config = match authorities {
            Some(roots) if self.mode == Mode::VerifyFull => builder.with_root_certificates(roots),
            roots => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyHost { roots, algorithms })),
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(config)
    }
}

fn mode(word: &str) -> Result<Mode, OpenError> {
    Ok(match word {
        "disable" => Mode::Disable,
        "prefer" => Mode::Prefer,
        "require" => Mode::Require,
        "verify-ca" => Mode::VerifyCa,
        "verify-full" => Mode::VerifyFull,
        _ => {
            let words = "`disable`, `prefer`, `require`, `verify-ca` or `verify-full`";
            return Err(OpenError::Url(format!("sslmode is {words}")));
        }
    })
}

/// Who is trusted to vouch for servers.
fn authorities(whose: &str) -> Result<RootCertStore, OpenError> {
    if whose == SYSTEM {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    }
    let refused = |why: String| OpenError::Authorities(format!("`{whose}`: {why}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(whose).map_err(|error| refused(error.to_string()))? {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        roots.add(certificate).map_err(|error| refused(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refused("it holds no certificate".to_owned()));
    }
    Ok(roots)
}

/// Takes a server for whatever host its certificate is. With `roots` one of them must vouch for it.
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

    #[test]
    fn what_is_ours_is_taken_out_of_the_url_and_the_rest_stays() {
        let plain = "postgres://me:a?sslmode=no@db/x";
        assert_eq!(taken(plain), (plain.to_owned(), Asked::default()));
        let full =
            taken("postgres://me@db/x?sslmode=verify-full&channel_binding=require&sslrootcert=%2Fetc%2Fca+1.pem");
        let asked = Asked { mode: Mode::VerifyFull, authorities: Some("/etc/ca+1.pem".to_owned()) };
        assert_eq!(full, ("postgres://me@db/x?channel_binding=require".to_owned(), asked));
        assert_eq!(taken("postgres:///x?sslmode=disable").0, "postgres:///x");
    }

    #[test]
    fn other_words_are_refused() {
        for wrong in ["postgres://db/x?sslmode=allow", "postgres://db/x?sslmode", "postgres://db/x?sslmode=Require"] {
            assert!(matches!(read(wrong), Err(OpenError::Url(why)) if why.contains("verify-full")), "{wrong}");
        }
    }

    #[test]
    fn authorities_are_read_or_refused() {
        assert!(read("postgres://db/x?sslmode=verify-full").is_ok());
        assert!(read("postgres://db/x?sslmode=verify-ca&sslrootcert=system").is_ok());
        for wrong in ["/nowhere/ca.pem", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")] {
            let read = read(&format!("postgres://db/x?sslrootcert={wrong}"));
            assert!(matches!(read, Err(OpenError::Authorities(why)) if why.contains(wrong)), "{wrong}");
        }
    }
}
