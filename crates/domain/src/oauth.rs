//! Authorization codes: how an app gets a key of its own without ever seeing another one (OAuth PKCE, RFC 7636).
//!
//! A code is made for a challenge and exchanged, once and soon, by whoever knows the verifier behind it. Of the code and of
//! the verifier only SHA-256 hashes are kept.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::key::{CallLimits, NewKey, same_bytes};
use crate::time::{LimitReset, MICROS_PER_SECOND};
use crate::web::Origin;
use crate::workspace::WorkspaceId;
use crate::{KeyHash, KeySecret, Timestamp, Usd};

/// How long a code can be exchanged.
pub const CODE_LIFETIME_MICROS: i64 = 600 * MICROS_PER_SECOND;
/// A code dies of so many wrong verifiers.
pub const WRONG_VERIFIERS_MAX: u32 = 5;
/// How long an expired code is remembered, so that whoever comes late is told why.
const REMEMBERED_MICROS: i64 = 3_600 * MICROS_PER_SECOND;

/// What codes begin with.
const CODE_PREFIX: &str = "auth_code_";
/// Characters of a challenge (RFC 7636, section 4.2).
const CHALLENGE_MAX: usize = 128;
/// Bytes of a callback URL.
const CALLBACK_BYTES_MAX: usize = 2_048;

/// The text of a code. Prints as `[redacted]`; shown once, to whoever had it made.
#[derive(Clone)]
pub struct Code(KeySecret);

impl Code {
    /// The code with these random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(KeySecret::new(CODE_PREFIX, random))
    }

    /// The text itself, for the one answer that shows it.
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }

    /// What is kept of it.
    pub fn hash(&self) -> CodeHash {
        CodeHash::of(self.reveal())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The SHA-256 of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodeHash([u8; 32]);

impl CodeHash {
    /// The hash of a presented code, whatever it looks like.
    pub fn of(code: &str) -> Self {
        Self(Sha256::digest(code.as_bytes()).into())
    }

    /// The hash with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The SHA-256 of a verifier. Two of them are compared in constant time, and there is no other way.
#[derive(Clone, Copy, Eq)]
pub struct VerifierHash([u8; 32]);

impl VerifierHash {
    /// The hash of a verifier.
    pub fn of(verifier: &str) -> Self {
        Self(Sha256::digest(verifier.as_bytes()).into())
    }

    /// The hash with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for VerifierHash {
    fn eq(&self, other: &Self) -> bool {
        same_bytes(&self.0, &other.0)
    }
}

impl fmt::Debug for VerifierHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// How a challenge is made of its verifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChallengeMethod {
    /// The base64url of its SHA-256, without padding.
    #[default]
    S256,
    /// It is the verifier.
    Plain,
}

impl ChallengeMethod {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::S256 => "S256",
            Self::Plain => "plain",
        }
    }

    /// The method that `word` names, if any.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::S256, Self::Plain].into_iter().find(|method| method.as_str() == word)
    }
}

/// What a verifier must answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// How it was made.
    pub method: ChallengeMethod,
    /// The hash of the verifier behind it, which either method gives away.
    pub verifier: VerifierHash,
}

/// Why a text is no challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// There is none.
    #[error("is required: a code is only made for a challenge, so that nobody else can exchange it")]
    Missing,
    /// No verifier could ever answer to it.
    #[error("must be the base64url of a SHA-256 without padding, 43 characters, with the method S256")]
    NotSha256,
    /// It is longer than a verifier may be.
    #[error("must have {CHALLENGE_MAX} characters at the most")]
    TooLong,
}

impl Challenge {
    /// The challenge with this text.
    ///
    /// # Errors
    /// [`ChallengeError`]: no verifier could answer to it.
    pub fn new(method: ChallengeMethod, text: &str) -> Result<Self, ChallengeError> {
        if text.is_empty() {
            return Err(ChallengeError::Missing);
        }
        if text.chars().count() > CHALLENGE_MAX {
            return Err(ChallengeError::TooLong);
        }
        let verifier = match method {
            ChallengeMethod::S256 => VerifierHash(sha256_of_base64url(text).ok_or(ChallengeError::NotSha256)?),
            ChallengeMethod::Plain => VerifierHash::of(text),
        };
        Ok(Self { method, verifier })
    }
}

/// Reads the 43 characters of base64url that 32 bytes make, without padding.
fn sha256_of_base64url(text: &str) -> Option<[u8; 32]> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if text.len() != 43 {
        return None;
    }
    // One zero digit more makes whole groups: four digits are three bytes.
    let digits: Vec<u8> = text.bytes().chain([b'A']).collect();
    let mut bytes = [0_u8; 33];
    for (four, three) in digits.chunks_exact(4).zip(bytes.chunks_exact_mut(3)) {
        let word = four.iter().try_fold(0_u32, |word, digit| {
            let value = DIGITS.iter().position(|known| known == digit)?;
            word.checked_mul(64)?.checked_add(u32::try_from(value).ok()?)
        })?;
        let [_, group @ ..] = word.to_be_bytes();
        three.copy_from_slice(&group);
    }
    let (hash, rest) = bytes.split_first_chunk()?;
    (rest == [0]).then_some(*hash)
}

/// Where an app wants its code sent: https anywhere, or http on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    url: String,
    origin: Origin,
}

/// Why a text is no callback URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// It is no URL, or one that two readers could read differently.
    #[error("must be an absolute URL such as https://example.org/callback, {CALLBACK_BYTES_MAX} bytes at the most")]
    Malformed,
    /// A code would go over the network in the clear, or to an unknown kind of receiver.
    #[error("must be https, or http on localhost, 127.0.0.1 or [::1]")]
    Insecure,
    /// What stands before an @ makes the host look like another one.
    #[error("must not hold a user name")]
    UserInfo,
    /// Where the code belongs, a fragment would hide it from the app's server.
    #[error("must not have a fragment")]
    Fragment,
}

impl Callback {
    /// The callback with this URL.
    ///
    /// # Errors
    /// [`CallbackError`] names what is wrong.
    pub fn parse(url: &str) -> Result<Self, CallbackError> {
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte);
        if url.len() > CALLBACK_BYTES_MAX || !url.bytes().all(plain) {
            return Err(CallbackError::Malformed);
        }
        let (scheme, rest) = url.split_once("://").ok_or(CallbackError::Malformed)?;
        let encrypted = scheme.eq_ignore_ascii_case("https");
        if !encrypted && !scheme.eq_ignore_ascii_case("http") {
            return Err(CallbackError::Insecure);
        }
        if rest.contains('#') {
            return Err(CallbackError::Fragment);
        }
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(CallbackError::UserInfo);
        }
        let origin = Origin::of(encrypted, authority).ok_or(CallbackError::Malformed)?;
        if !encrypted && !["localhost", "127.0.0.1", "[::1]"].contains(&origin.host()) {
            return Err(CallbackError::Insecure);
        }
        Ok(Self { url: url.to_owned(), origin })
    }

    /// The URL, as it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it leads.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What stands behind its question mark.
    pub fn query(&self) -> &str {
        self.url.split_once('?').map_or("", |(_, query)| query)
    }

    /// The URL with one parameter more, of letters, digits and `_` alone; the others stay.
    pub fn with(&self, name: &str, value: &str) -> String {
        let between = match self.url.split_once('?') {
            None => "?",
            Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
            Some(_) => "&",
        };
        format!("{}{between}{name}={value}", self.url)
    }

    /// The host, in lower case; a v6 address in its brackets.
    pub fn host(&self) -> &str {
        self.origin.host()
    }

    /// A number for the app behind it: the same for the same host, for ever.
    pub fn app_id(&self) -> u32 {
        let hash: [u8; 32] = Sha256::digest(self.host().as_bytes()).into();
        let head = hash.first_chunk().map_or(0, |head| u32::from_be_bytes(*head));
        // Positive wherever a client keeps it in 32 bits with a sign.
        head & 0x7fff_ffff
    }
}

/// The key that a code is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its name, not empty.
    pub name: String,
    /// The workspace that it spends in.
    pub workspace: WorkspaceId,
    /// The most it may spend in a window; `None` is no limit.
    pub limit: Option<Usd>,
    /// The window of the limit; `None` counts for life.
    pub limit_reset: Option<LimitReset>,
    /// When the key, and the code with it, stops working.
    pub expires_at: Option<Timestamp>,
}

impl Grant {
    /// The key with this secret, of which the hash and the mask are given.
    pub fn into_key(self, hash: KeyHash, label: String) -> NewKey {
        NewKey {
            hash,
            name: self.name,
            label,
            workspace: self.workspace,
            limit: self.limit,
            limit_reset: self.limit_reset,
            include_byok_in_limit: false,
            expires_at: self.expires_at,
            creator: None,
            external_user: None,
            call_limits: CallLimits::default(),
            allowed_models: None,
        }
    }
}

/// A code that was not exchanged yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthCode {
    /// What is kept of its text.
    pub hash: CodeHash,
    /// What its verifier must answer to.
    pub challenge: Challenge,
    /// What it is good for.
    pub grant: Grant,
    /// How many wrong verifiers came with it: fewer than [`WRONG_VERIFIERS_MAX`].
    pub wrong_verifiers: u32,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What comes with a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// How the challenge was made, if that is said.
    pub method: Option<ChallengeMethod>,
    /// The hash of the verifier, if there is one.
    pub verifier: Option<VerifierHash>,
}

/// Why a code was not exchanged. That it is unknown, used, dead or not the caller's is one answer (contract section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeRefused {
    /// The challenge was made by the other method.
    #[error("Invalid code_challenge_method")]
    Method,
    /// The code or the verifier is none.
    #[error("Invalid code or code_verifier")]
    Invalid,
    /// It came too late.
    #[error("Authorization code expired")]
    Expired,
}

/// What becomes of a code that is presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// The verifier is right: the code is used up.
    Redeemed,
    /// The verifier is wrong: the code as it is from now on; `None` where it died of it.
    Wrong(Option<AuthCode>),
    /// Nothing becomes of it.
    Refused(ExchangeRefused),
}

impl AuthCode {
    /// A code that was made for `challenge` at `now`.
    pub const fn new(hash: CodeHash, challenge: Challenge, grant: Grant, now: Timestamp) -> Self {
        Self { hash, challenge, grant, wrong_verifiers: 0, created_at: now }
    }

    /// Whether its time, or that of its key, is over at `now`.
    pub fn expired_at(&self, now: Timestamp) -> bool {
        self.created_at.plus_micros(CODE_LIFETIME_MICROS) <= now || self.grant.expires_at.is_some_and(|end| end <= now)
    }

    /// Codes that were made at this instant, or before, are forgotten at `now`.
    pub fn forgotten_until(now: Timestamp) -> Timestamp {
        now.plus_micros(CODE_LIFETIME_MICROS.saturating_add(REMEMBERED_MICROS).saturating_neg())
    }

    /// What becomes of it when it is presented with `proof` at `now`.
    pub fn present(&self, proof: &Proof, now: Timestamp) -> Presented {
        if self.expired_at(now) {
            return Presented::Refused(ExchangeRefused::Expired);
        }
        if proof.method.is_some_and(|method| method != self.challenge.method) {
            return Presented::Refused(ExchangeRefused::Method);
        }
        match proof.verifier {
            None => Presented::Refused(ExchangeRefused::Invalid),
            Some(verifier) if verifier == self.challenge.verifier => Presented::Redeemed,
            Some(_) => {
                let wrong_verifiers = self.wrong_verifiers.saturating_add(1);
                let alive = wrong_verifiers < WRONG_VERIFIERS_MAX;
                Presented::Wrong(alive.then(|| Self { wrong_verifiers, ..self.clone() }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    const MADE: i64 = 1_000_000_000;

    fn code(method: ChallengeMethod, challenge: &str) -> AuthCode {
        let grant = Grant {
            name: "app".to_owned(),
            workspace: WorkspaceId(1),
            limit: None,
            limit_reset: None,
            expires_at: None,
        };
        let challenge = Challenge::new(method, challenge).unwrap();
        AuthCode::new(CodeHash::of("code"), challenge, grant, Timestamp::from_micros(MADE))
    }

    fn proof(verifier: &str) -> Proof {
        Proof { method: None, verifier: Some(VerifierHash::of(verifier)) }
    }

    fn soon() -> Timestamp {
        Timestamp::from_micros(MADE + 1)
    }

    #[test]
    fn the_example_of_the_rfc_is_redeemed_and_the_same_words_said_plainly_too() {
        let hashed = code(ChallengeMethod::S256, CHALLENGE);
        assert_eq!(hashed.present(&proof(VERIFIER), soon()), Presented::Redeemed);
        assert!(matches!(hashed.present(&proof(CHALLENGE), soon()), Presented::Wrong(_)));
        let plain = code(ChallengeMethod::Plain, VERIFIER);
        assert_eq!(plain.present(&proof(VERIFIER), soon()), Presented::Redeemed);
        assert!(matches!(plain.present(&proof(CHALLENGE), soon()), Presented::Wrong(_)));
    }

    #[test]
    fn a_challenge_that_nothing_can_answer_is_refused() {
        let make = Challenge::new;
        let refused = [
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-c",       // 42 characters
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM=",     // padding
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw+cM",      // the other alphabet
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cN",      // bits that no 32 bytes have
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-c\u{e9}", // not ASCII
        ];
        for text in refused {
            assert_eq!(make(ChallengeMethod::S256, text), Err(ChallengeError::NotSha256), "{text}");
        }
        for method in [ChallengeMethod::S256, ChallengeMethod::Plain] {
            assert_eq!(make(method, ""), Err(ChallengeError::Missing));
            assert_eq!(make(method, &"x".repeat(129)), Err(ChallengeError::TooLong));
        }
        assert!(make(ChallengeMethod::Plain, &"x".repeat(128)).is_ok());
    }

    #[test]
    fn the_other_method_is_refused_and_costs_no_attempt() {
        let code = code(ChallengeMethod::S256, CHALLENGE);
        let with = |method| code.present(&Proof { method: Some(method), ..proof(VERIFIER) }, soon());
        assert_eq!(with(ChallengeMethod::S256), Presented::Redeemed);
        assert_eq!(with(ChallengeMethod::Plain), Presented::Refused(ExchangeRefused::Method));
        let without = Proof { method: None, verifier: None };
        assert_eq!(code.present(&without, soon()), Presented::Refused(ExchangeRefused::Invalid));
    }

    #[test]
    fn the_fifth_wrong_verifier_is_the_death_of_a_code() {
        let mut code = code(ChallengeMethod::S256, CHALLENGE);
        for wrong in 1..WRONG_VERIFIERS_MAX {
            let Presented::Wrong(Some(left)) = code.present(&proof("guess"), soon()) else { panic!("died of {wrong}") };
            assert_eq!(left.wrong_verifiers, wrong);
            assert_eq!(left.present(&proof(VERIFIER), soon()), Presented::Redeemed);
            code = left;
        }
        assert_eq!(code.present(&proof("guess"), soon()), Presented::Wrong(None));
    }

    #[test]
    fn a_code_lives_ten_minutes_and_never_longer_than_its_key() {
        let at = Timestamp::from_micros;
        let end = MADE + 10 * 60 * 1_000_000;
        let code = code(ChallengeMethod::S256, CHALLENGE);
        assert_eq!(code.present(&proof(VERIFIER), at(end - 1)), Presented::Redeemed);
        for verifier in [VERIFIER, "guess"] {
            assert_eq!(code.present(&proof(verifier), at(end)), Presented::Refused(ExchangeRefused::Expired));
        }
        let grant = Grant { expires_at: Some(at(MADE + 7)), ..code.grant.clone() };
        let short = AuthCode { grant, ..code };
        assert!(!short.expired_at(at(MADE + 6)) && short.expired_at(at(MADE + 7)));
        let late = at(end + REMEMBERED_MICROS);
        assert!(AuthCode::forgotten_until(at(late.micros() - 1)) < short.created_at);
        assert_eq!(AuthCode::forgotten_until(late), short.created_at);
    }

    #[test]
    fn callbacks_are_https_or_on_this_machine() {
        for (url, host) in [
            ("https://example.org", "example.org"),
            ("https://Example.org:8443/back?state=1", "example.org"),
            ("HTTPS://example.org?x", "example.org"),
            ("https://[2001:DB8::1]:8443/", "[2001:db8::1]"),
            ("http://localhost", "localhost"),
            ("http://LOCALHOST:3000/cb", "localhost"),
            ("http://127.0.0.1:49152/cb", "127.0.0.1"),
            ("http://[::1]:8080/cb", "[::1]"),
            ("http://[0:0:0:0:0:0:0:1]/cb", "[::1]"),
        ] {
            assert_eq!(Callback::parse(url).unwrap().host(), host, "{url}");
        }
        for (url, error) in [
            ("", CallbackError::Malformed),
            ("/cb", CallbackError::Malformed),
            ("https:/example.org", CallbackError::Malformed),
            ("https://", CallbackError::Malformed),
            ("https://:443/", CallbackError::Malformed),
            ("https://example.org:0/", CallbackError::Malformed),
            ("https://example.org:65536/", CallbackError::Malformed),
            ("https://example.org:+80/", CallbackError::Malformed),
            ("https://example.org:/", CallbackError::Malformed),
            ("https://exa mple.org/", CallbackError::Malformed),
            ("https://example.org/\n", CallbackError::Malformed),
            ("https://ex\u{e4}mple.org/", CallbackError::Malformed),
            ("https://example..org/", CallbackError::Malformed),
            ("https://ex%61mple.org/", CallbackError::Malformed),
            ("https://[::1/", CallbackError::Malformed),
            ("https://[::1]x/", CallbackError::Malformed),
            ("http://localhost\\@evil.example/", CallbackError::Malformed),
            ("http://localhost@evil.example/", CallbackError::UserInfo),
            ("https://example.org@evil.example/", CallbackError::UserInfo),
            ("https://example.org/#here", CallbackError::Fragment),
            ("https://example.org#@localhost", CallbackError::Fragment),
            ("http://example.org/", CallbackError::Insecure),
            ("http://localhost.example.org/", CallbackError::Insecure),
            ("http://127.0.0.2/", CallbackError::Insecure),
            ("http://[::2]/", CallbackError::Insecure),
            ("javascript://localhost/%0aalert(1)", CallbackError::Insecure),
            ("app://callback", CallbackError::Insecure),
        ] {
            assert_eq!(Callback::parse(url), Err(error), "{url}");
        }
        let long = format!("https://example.org/{}", "x".repeat(CALLBACK_BYTES_MAX));
        assert_eq!(Callback::parse(&long), Err(CallbackError::Malformed));
    }

    #[test]
    fn a_callback_gets_one_parameter_more_and_keeps_its_own() {
        for (url, with_code) in [
            ("https://example.org", "https://example.org?code=c"),
            ("http://localhost:3000/cb", "http://localhost:3000/cb?code=c"),
            ("https://example.org/cb?", "https://example.org/cb?code=c"),
            ("https://example.org/cb?state=1%262", "https://example.org/cb?state=1%262&code=c"),
            ("https://example.org/cb?state=1&", "https://example.org/cb?state=1&code=c"),
        ] {
            assert_eq!(Callback::parse(url).unwrap().with("code", "c"), with_code);
        }
        assert_eq!(Callback::parse("https://example.org/cb?a=b?c").unwrap().query(), "a=b?c");
    }

    #[test]
    fn an_app_keeps_its_number_whatever_its_path_and_port() {
        let id = |url| Callback::parse(url).unwrap().app_id();
        assert_eq!(id("https://example.org/a"), id("https://EXAMPLE.org:8443/b?c"));
        assert_ne!(id("https://example.org/"), id("https://example.com/"));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let (made, proof) = (Code::new([0x72; 32]), proof(VERIFIER));
        assert_eq!(made.reveal().len(), CODE_PREFIX.len() + 64);
        assert_eq!(made.hash(), CodeHash::of(made.reveal()));
        assert_eq!(format!("{made:?}"), "[redacted]");
        assert!(format!("{proof:?} {:?}", code(ChallengeMethod::Plain, VERIFIER)).matches("[redacted]").count() == 2);
    }
}
