//! Where a request comes from: its peer, or whoever a trusted proxy says it speaks for.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use crate::router::Api;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The bits of an IPv6 address that tell one client from another: the rest is theirs to choose.
const IPV6_CLIENT_BITS: u32 = 64;
/// The bits of an IPv6 address before an IPv4 address that is written as one.
const MAPPED_BITS: u32 = 96;

/// The address at the other end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// What a client is counted by: its IPv4 address, or the /64 of its IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// The client of a request, by its peer and its headers.
    pub fn of(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        let mut client = peer.to_canonical();
        if trusted.contains(client) {
            let lines = headers.get_all(FORWARDED_FOR).iter().rev();
            // What cannot be read was written by nobody who is trusted, and neither was anything before it.
            let hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(',').map(address));
            for hop in hops.map_while(|hop| hop) {
                client = hop;
                if !trusted.contains(client) {
                    break;
                }
            }
        }
        Self(match client {
            IpAddr::V4(_) => client,
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & network_mask(IPV6_CLIENT_BITS))),
        })
    }
}

/// One of `X-Forwarded-For`: an address, and a port that some proxies add.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.split_once(']')).map_or(text, |(address, _)| address);
    let parsed = bare.parse().or_else(|_| bare.rsplit_once(':').map_or(bare, |(address, _)| address).parse());
    parsed.ok().map(|address: IpAddr| address.to_canonical())
}

impl FromRequestParts<Api> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Infallible> {
        Ok(api.guard().client(peer_of(parts), &parts.headers))
    }
}

/// The peer of a request that came through the server.
pub fn peer_of(parts: &Parts) -> IpAddr {
    parts.extensions.get::<Peer>().map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |Peer(address)| *address)
}

/// Proxies whose `X-Forwarded-For` is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<Network>);

/// Addresses that begin with the same bits; IPv4 is written as IPv6.
#[derive(Clone, Copy, Debug)]
struct Network {
    bits: u128,
    length: u32,
}

impl TrustedProxies {
    /// Reads addresses and networks such as `10.0.0.0/8`.
    ///
    /// # Errors
    /// The first text that is none.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let network = |text: &String| network(text).ok_or_else(|| text.clone());
        texts.iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    fn contains(&self, address: IpAddr) -> bool {
        let bits = bits_of(address);
        self.0.iter().any(|network| (bits ^ network.bits) & network_mask(network.length) == 0)
    }
}

fn network(text: &str) -> Option<Network> {
    let (address, length) = match text.split_once('/') {
        None => (text, None),
        Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
    };
    let address: IpAddr = address.trim().parse().ok()?;
    let (before, most) = if address.is_ipv4() { (MAPPED_BITS, 32) } else { (0, 128) };
    let length = length.unwrap_or(most);
    (length <= most).then(|| Network { bits: bits_of(address), length: before.saturating_add(length) })
}

fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The first `length` bits of an address.
fn network_mask(length: u32) -> u128 {
    u128::MAX.checked_shl(Ipv6Addr::BITS.saturating_sub(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn client(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        let trusted: Vec<String> = trusted.iter().map(|text| (*text).to_owned()).collect();
        let trusted = TrustedProxies::parse(&trusted).unwrap();
        ClientAddress::of(peer.parse().unwrap(), &headers, &trusted).0.to_string()
    }

    const PROXIES: [&str; 3] = ["10.0.0.0/8", "::1", "192.0.2.7"];

    #[test]
    fn a_header_is_believed_from_trusted_proxies_alone() {
        assert_eq!(client("203.0.113.5", &["1.1.1.1"], &[]), "203.0.113.5");
        assert_eq!(client("203.0.113.5", &["1.1.1.1"], &PROXIES), "203.0.113.5", "a spoofed one");
        assert_eq!(client("10.1.2.3", &["1.1.1.1"], &PROXIES), "1.1.1.1");
        assert_eq!(client("::1", &["1.1.1.1"], &PROXIES), "1.1.1.1");
        assert_eq!(client("10.1.2.3", &[], &PROXIES), "10.1.2.3", "without a header the proxy itself is the client");
    }

    #[test]
    fn the_client_is_the_last_one_whom_no_trusted_proxy_vouches_for() {
        assert_eq!(client("10.1.2.3", &["6.6.6.6, 1.1.1.1, 192.0.2.7 ,10.9.9.9"], &PROXIES), "1.1.1.1");
        assert_eq!(client("10.1.2.3", &["6.6.6.6", "1.1.1.1", "10.9.9.9"], &PROXIES), "1.1.1.1", "lines are one list");
        assert_eq!(client("10.1.2.3", &["10.8.8.8, 10.9.9.9"], &PROXIES), "10.8.8.8", "all are trusted: the farthest");
        assert_eq!(client("10.1.2.3", &["6.6.6.6, unknown, 10.9.9.9"], &PROXIES), "10.9.9.9", "no guess beyond that");
        assert_eq!(client("10.1.2.3", &["1.1.1.1,"], &PROXIES), "10.1.2.3");
        assert_eq!(client("10.1.2.3", &["6.6.6.6", "\u{7f}"].map(|_| "6.6.6.6;"), &PROXIES), "10.1.2.3");
    }

    #[test]
    fn ports_are_left_out_and_ipv6_counts_by_its_network() {
        assert_eq!(client("10.1.2.3", &["1.1.1.1:4711"], &PROXIES), "1.1.1.1");
        assert_eq!(client("10.1.2.3", &["[2001:db8:1:2:3:4:5:6]:4711"], &PROXIES), "2001:db8:1:2::");
        assert_eq!(client("10.1.2.3", &["2001:db8:1:2:ffff::9"], &PROXIES), "2001:db8:1:2::");
        assert_eq!(client("2001:db8:1:2:3:4:5:6", &[], &[]), client("2001:db8:1:2::1", &[], &[]));
        assert_ne!(client("2001:db8:1:3::1", &[], &[]), client("2001:db8:1:2::1", &[], &[]));
    }

    #[test]
    fn ipv4_is_ipv4_however_it_is_written() {
        assert_eq!(client("::ffff:203.0.113.5", &[], &[]), "203.0.113.5");
        assert_eq!(client("::ffff:10.1.2.3", &["::ffff:1.1.1.1"], &PROXIES), "1.1.1.1");
        assert_eq!(client("10.1.2.3", &["1.1.1.1"], &["::ffff:10.0.0.0/104"]), "1.1.1.1");
    }

    #[test]
    fn networks_are_checked() {
        assert_eq!(client("10.1.2.3", &["1.1.1.1"], &["0.0.0.0/0"]), "1.1.1.1");
        assert_eq!(client("2001:db8::1", &["1.1.1.1"], &["0.0.0.0/0"]), "2001:db8::", "another family");
        assert_eq!(client("10.1.2.3", &["1.1.1.1"], &["10.1.2.0/31"]), "10.1.2.3");
        assert_eq!(client("10.1.2.3", &["1.1.1.1"], &["10.1.2.2/31"]), "1.1.1.1");
        for wrong in ["10.0.0.0/33", "::/129", "ten", "10.0.0.0/", "10.0.0.0/-1", "proxy.example.org", ""] {
            assert_eq!(TrustedProxies::parse(&[wrong.to_owned()]).unwrap_err(), wrong);
        }
    }
}
