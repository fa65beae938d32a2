//! Web origins: this server's own, and those of the apps that people are sent back to.

use std::fmt;
use std::net::Ipv6Addr;

/// Characters of a host name.
const HOST_MAX: usize = 253;

/// Scheme, host and port of a page, in their one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    secure: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of `host` or `host:port` over https, or else http; `None` where that is no host.
    pub fn of(secure: bool, authority: &str) -> Option<Self> {
        let (host, port) = host_and_port(authority)?;
        Some(Self { secure, host, port: port.unwrap_or(default_port(secure)) })
    }

    /// Whether it is https.
    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host, in lower case; a v6 address in its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host, and the port where it is not the usual one.
    pub fn authority(&self) -> String {
        if self.port == default_port(self.secure) { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Origin {
    /// As browsers write it in `Origin`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }
}

/// Where people reach this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    origin: Origin,
    path: String,
}

impl Site {
    /// The site at `url`: http or https, a host, and a path where a proxy serves it below one.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let secure = scheme.eq_ignore_ascii_case("https");
        if !secure && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        // It is written into headers and pages; and what begins with two slashes would name another host there.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/%".contains(&byte);
        if !path.bytes().all(plain) || path.contains("//") {
            return None;
        }
        Some(Self { origin: Origin::of(secure, authority)?, path: path.trim_end_matches('/').to_owned() })
    }

    /// Its origin.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What comes before every path: nothing, or a path without a slash at its end.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether a request for `authority` (the header `Host`) means it.
    pub fn is_at(&self, authority: &str) -> bool {
        Origin::of(self.origin.secure, authority).as_ref() == Some(&self.origin)
    }
}

const fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// The host of `host` or `host:port`, in its one form, and the port if it is said.
fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let port = if after.is_empty() { None } else { Some(port(after.strip_prefix(':')?)?) };
        return Some((format!("[{address}]"), port));
    }
    let (host, said) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let letters = |label: &str| label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let named = host.len() <= HOST_MAX && host.split('.').all(|label| !label.is_empty() && letters(label));
    let port = match said {
        None => None,
        Some(text) => Some(port(text)?),
    };
    named.then(|| (host.to_ascii_lowercase(), port))
}

fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_one_form() {
        let text = |secure, authority| Origin::of(secure, authority).map(|origin| origin.to_string());
        assert_eq!(text(true, "Example.ORG:443").as_deref(), Some("https://example.org"));
        assert_eq!(text(false, "example.org:443").as_deref(), Some("http://example.org:443"));
        assert_eq!(text(false, "127.0.0.1:80").as_deref(), Some("http://127.0.0.1"));
        assert_eq!(text(false, "[0:0::1]:4000").as_deref(), Some("http://[::1]:4000"));
        for none in
            ["", ":80", "a b", "a@b", "a:", "a:0", "a:65536", "a:+1", "a/b", "[::1", "[::1]80", "a..b", "\u{e4}"]
        {
            assert_eq!(text(true, none), None, "{none}");
        }
    }

    #[test]
    fn a_site_knows_what_is_asked_of_it() {
        let site = Site::parse("https://gw.example.org/llm/").unwrap();
        assert_eq!((site.origin().to_string().as_str(), site.path()), ("https://gw.example.org", "/llm"));
        assert!(site.is_at("gw.example.org") && site.is_at("GW.example.org:443"));
        for other in ["gw.example.org:80", "gw.example.org.", "gw.example.org.evil.example", "evil.example", "", "gw"] {
            assert!(!site.is_at(other), "{other}");
        }
        assert_eq!(Site::parse("http://127.0.0.1:4000").unwrap().path(), "");
        for none in
            ["", "gw.example.org", "ftp://gw", "http://", "http://a@gw", "http://gw?x", "http://gw/a b", "http://gw//x"]
        {
            assert_eq!(Site::parse(none), None, "{none}");
        }
    }
}
