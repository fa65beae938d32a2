//! What is kept and must not be readable on disk: provider credentials, and answers that can be asked for again.
//!
//! Everything is sealed with AES-256-GCM under keys derived from the server's key, one for each purpose.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};

use crate::{Random, RandomError};

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Hex digits of a key as text.
const KEY_DIGITS: usize = 64;

/// The server's key, and what is done with it.
#[derive(Clone)]
pub struct Vault {
    key: [u8; KEY_BYTES],
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault([redacted])")
    }
}

/// Tells one server's key from another's, and nothing else of it.
pub type VaultCheck = [u8; 16];

/// Why nothing was sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No randomness.
    #[error("no random bytes to seal with")]
    Random(#[from] RandomError),
    /// The library refused.
    #[error("the data could not be sealed")]
    Refused,
}

impl Vault {
    /// A vault under the server's key.
    pub const fn new(key: [u8; KEY_BYTES]) -> Self {
        Self { key }
    }

    /// A vault under a key written as 64 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() != KEY_DIGITS || !text.is_ascii() {
            return None;
        }
        let mut key = [0; KEY_BYTES];
        for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self::new(key))
    }

    /// The key as text, to be written where only its owner reads.
    pub fn reveal(&self) -> String {
        self.key.iter().fold(String::with_capacity(KEY_DIGITS), |text, byte| text + &format!("{byte:02x}"))
    }

    /// What tells this key from another.
    ///
    /// # Errors
    /// [`SealError::Refused`].
    pub fn check(&self) -> Result<VaultCheck, SealError> {
        let whole = self.derive("check", &[])?;
        whole.first_chunk().copied().ok_or(SealError::Refused)
    }

    /// A key for one purpose, and for whoever knows all of `secrets`.
    ///
    /// # Errors
    /// [`SealError::Refused`].
    pub fn derive(&self, purpose: &str, secrets: &[&[u8]]) -> Result<[u8; KEY_BYTES], SealError> {
        let mut material = Vec::new();
        for secret in secrets {
            // With their lengths: ("ab", "c") is not ("a", "bc").
            material.extend_from_slice(&u64::try_from(secret.len()).unwrap_or(u64::MAX).to_be_bytes());
            material.extend_from_slice(secret);
        }
        let mut key = [0; KEY_BYTES];
        let info = [b"tollgate/", purpose.as_bytes()];
        let extracted = Salt::new(HKDF_SHA256, &self.key).extract(&material);
        // A key of zeros would be everybody's.
        let filled = extracted.expand(&info, Length).and_then(|okm| okm.fill(&mut key));
        filled.map(|()| key).map_err(|_| SealError::Refused)
    }

    /// Seals `plain`; it opens only with the same purpose and for the same `owner`.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&self, purpose: &str, owner: &[u8], plain: &[u8], random: &dyn Random) -> Result<Vec<u8>, SealError> {
        seal(&self.derive(purpose, &[])?, owner, plain, random.bytes()?)
    }

    /// Opens what was sealed; `None` for anything else.
    pub fn open(&self, purpose: &str, owner: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        open(&self.derive(purpose, &[]).ok()?, owner, sealed)
    }
}

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

/// Seals `plain` under `key`: a nonce out of `random`, which is never used again, then what AES-256-GCM makes of it. `owner`
/// is needed to open it.
///
/// # Errors
/// [`SealError::Refused`].
pub fn seal(key: &[u8; KEY_BYTES], owner: &[u8], plain: &[u8], random: [u8; 32]) -> Result<Vec<u8>, SealError> {
    let nonce: [u8; NONCE_LEN] = random.first_chunk().copied().ok_or(SealError::Refused)?;
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealError::Refused)?);
    let mut text = plain.to_vec();
    let nonce_of = Nonce::assume_unique_for_key(nonce);
    cipher.seal_in_place_append_tag(nonce_of, Aad::from(owner), &mut text).map_err(|_| SealError::Refused)?;
    let mut sealed = nonce.to_vec();
    sealed.append(&mut text);
    Ok(sealed)
}

/// Opens what [`seal`] made; `None` for anything else.
pub fn open(key: &[u8; KEY_BYTES], owner: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
    let mut text = text.to_vec();
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let plain = cipher.open_in_place(nonce, Aad::from(owner), &mut text).ok()?;
    Some(plain.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsRandom;

    #[test]
    fn what_is_sealed_opens_for_its_owner_and_purpose_under_the_same_key_only() {
        let (vault, other) = (Vault::new([1; 32]), Vault::new([2; 32]));
        let sealed = vault.seal("credential", b"id-1", b"sk-secret", &OsRandom).unwrap();
        assert_eq!(vault.open("credential", b"id-1", &sealed).as_deref(), Some(&b"sk-secret"[..]));
        assert_eq!(vault.open("credential", b"id-2", &sealed), None);
        assert_eq!(vault.open("answer", b"id-1", &sealed), None);
        assert_eq!(other.open("credential", b"id-1", &sealed), None);
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        for index in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[index] ^= 1;
            assert_eq!(vault.open("credential", b"id-1", &bent), None, "byte {index}");
            assert_eq!(vault.open("credential", b"id-1", &sealed[..index]), None, "cut at {index}");
        }
        assert_ne!(sealed, vault.seal("credential", b"id-1", b"sk-secret", &OsRandom).unwrap(), "nonces are fresh");
    }

    #[test]
    fn a_key_is_64_hex_digits_and_its_check_tells_it_from_others() {
        let vault = Vault::parse(&"0f".repeat(32)).unwrap();
        assert_eq!(vault.reveal(), "0f".repeat(32));
        assert_eq!(vault.check().unwrap(), Vault::new([15; 32]).check().unwrap());
        assert_ne!(vault.check().unwrap(), Vault::new([16; 32]).check().unwrap());
        for bad in ["", "0f", &"0g".repeat(32), &"é".repeat(32), &"0f".repeat(33)] {
            assert!(Vault::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(format!("{vault:?}"), "Vault([redacted])");
    }

    #[test]
    fn derived_keys_differ_by_purpose_and_by_where_one_secret_ends() {
        let vault = Vault::new([3; 32]);
        let keys = [
            vault.derive("a", &[b"ab", b"c"]),
            vault.derive("a", &[b"a", b"bc"]),
            vault.derive("b", &[b"ab", b"c"]),
            vault.derive("a", &[]),
        ]
        .map(Result::unwrap);
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key));
        }
    }
}
