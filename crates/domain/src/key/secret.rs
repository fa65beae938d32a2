//! The text of a key, and the two things that may be known of it afterwards: its hash and its label.

use std::fmt;

use sha2::{Digest, Sha256};

/// Hex digits that follow the prefix: 32 random bytes (contract section 2.2).
pub const SECRET_HEX_DIGITS: usize = 64;

/// The full text of a key. Prints as `[redacted]`; shown once, to whoever created the key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret(String);

impl KeySecret {
    /// `prefix` followed by `random` in lowercase hex.
    pub fn new(prefix: &str, random: [u8; 32]) -> Self {
        Self(format!("{prefix}{}", hex(&random)))
    }

    /// Takes a secret given by the operator: `prefix` and 64 lowercase hex digits, or `None`.
    pub fn parse(prefix: &str, text: &str) -> Option<Self> {
        let digits = text.strip_prefix(prefix)?;
        let shaped = digits.len() == SECRET_HEX_DIGITS
            && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        shaped.then(|| Self(text.to_owned()))
    }

    /// The text itself, for the one answer that shows it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The SHA-256 of the full text.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(&self.0)
    }

    /// The mask: the prefix and three characters, three dots, the last three (contract section 2.2).
    pub fn label(&self) -> String {
        let body = self.0.len().saturating_sub(SECRET_HEX_DIGITS);
        let head = self.0.get(..body.saturating_add(3)).unwrap_or_default();
        let tail = self.0.get(self.0.len().saturating_sub(3)..).unwrap_or_default();
        format!("{head}...{tail}")
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The SHA-256 of a key's text: its public id, 64 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a presented secret, whatever it looks like: keys are not told apart by their prefix.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// The hash with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses 64 lowercase hex digits; anything else names no key.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0_u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (nibble(*pair.first()?)?, nibble(*pair.get(1)?)?);
            *byte = high.checked_shl(4)? | low;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether two hashes are the same. Every byte is looked at, and the compiler does not learn that the rest may not matter.
pub(crate) fn same_bytes(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let differing = one.iter().zip(other).fold(0, |bits, (a, b)| std::hint::black_box(bits | (a ^ b)));
    differing == 0
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit.saturating_sub(b'0')),
        b'a'..=b'f' => Some(digit.saturating_sub(b'a').saturating_add(10)),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_prefix_and_64_hex_digits_and_prints_as_redacted() {
        let secret = KeySecret::new("sk-or-v1-", [0x72; 32]);
        assert_eq!(secret.reveal().len(), 73);
        assert_eq!(secret.label(), "sk-or-v1-727...272");
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(KeySecret::parse("sk-or-v1-", secret.reveal()), Some(secret));
        assert_eq!(KeySecret::parse("sk-or-v1-", "sk-or-v1-XYZ"), None);
    }

    #[test]
    fn a_hash_is_the_sha256_and_survives_its_own_text() {
        let hash = KeyHash::of("abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_string(), text);
        assert_eq!(KeyHash::parse(text), Some(hash));
        assert_eq!(KeyHash::parse(&text.to_uppercase()), None);
        assert_eq!(KeyHash::parse("ba78"), None);
    }
}
