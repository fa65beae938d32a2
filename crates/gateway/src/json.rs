//! A one-pass scanner: validates JSON, reports where the members of an object lie, and builds nothing.
//!
//! A call is priced by what we read in its body and billed by what the provider reads. Where two parsers could read
//! differently, the strict scanner refuses: duplicate keys, invalid UTF-8, nesting without end, bytes after the end.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

/// The deepest nesting that is read.
pub const DEPTH_MAX: u8 = 64;
/// From so many members on, an object's keys are compared by hash.
const FEW_MEMBERS: usize = 24;

/// Where and why a body is not acceptable JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {at}")]
pub struct Malformed {
    /// The byte where reading stopped.
    pub at: usize,
    /// Why.
    pub reason: MalformedReason,
}

/// Why a body is not acceptable JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedReason {
    /// Something else was expected here.
    #[error("expected {0}")]
    Expected(&'static str),
    /// The text is cut off.
    #[error("the text ends too early")]
    End,
    /// There is more behind the value.
    #[error("unexpected text after the value")]
    Trailing,
    /// A string holds a control character or a bad escape.
    #[error("the string is not valid")]
    Text,
    /// The bytes are no UTF-8.
    #[error("the text is not valid UTF-8")]
    Utf8,
    /// Deeper than [`DEPTH_MAX`].
    #[error("nesting is deeper than {DEPTH_MAX}")]
    Depth,
    /// The same key twice in one object.
    #[error("the key `{0}` appears twice")]
    Duplicate(String),
    /// A key that only differs in case from one that has a meaning.
    #[error("the key `{0}` differs from `{1}` only in case")]
    CaseFolded(String, &'static str),
}

/// What kind of value lies somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    Text,
    Number,
    True,
    False,
    Null,
}

/// A value's kind and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub kind: Kind,
    pub span: Range<usize>,
}

/// A member of an object.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// The unescaped key.
    pub key: Cow<'a, str>,
    /// From the key's quote to the end of the value, once the value was read.
    pub start: usize,
}

/// The scanner.
#[derive(Debug)]
pub struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: u8,
    strict: bool,
    /// The keys of the objects that are open, outermost first.
    keys: Vec<Cow<'a, str>>,
}

type Scan<T> = Result<T, Malformed>;

impl<'a> Scanner<'a> {
    /// A scanner that refuses what two parsers could read differently.
    pub fn strict(bytes: &'a [u8]) -> Scan<Self> {
        Self::new(bytes, true)
    }

    /// A scanner for what a provider answers: valid JSON, no more is asked.
    pub fn lenient(bytes: &'a [u8]) -> Scan<Self> {
        Self::new(bytes, false)
    }

    fn new(bytes: &'a [u8], strict: bool) -> Scan<Self> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Malformed { at: error.valid_up_to(), reason: MalformedReason::Utf8 })?;
        Ok(Self { text, bytes, at: 0, depth: 0, strict, keys: Vec::new() })
    }

    /// Where the scanner stands.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// The text of a span.
    pub fn text(&self, span: Range<usize>) -> &'a str {
        self.text.get(span).unwrap_or_default()
    }

    /// What the next value is, without reading it.
    pub fn peek(&mut self) -> Scan<Kind> {
        self.space();
        match self.bytes.get(self.at) {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::Text),
            Some(b't') => Ok(Kind::True),
            Some(b'f') => Ok(Kind::False),
            Some(b'n') => Ok(Kind::Null),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(_) => Err(self.error(MalformedReason::Expected("a value"))),
            None => Err(self.error(MalformedReason::End)),
        }
    }

    /// Reads one value of any kind, checking all of it.
    pub fn value(&mut self) -> Scan<Value> {
        let kind = self.peek()?;
        let start = self.at;
        match kind {
            Kind::Object => self.object(|scanner, _| scanner.value().map(|_| ()))?,
            Kind::Array => self.array(|scanner, _| scanner.value().map(|_| ()))?,
            Kind::Text => {
                self.raw_string()?;
            }
            Kind::Number => self.number()?,
            Kind::True => self.word("true")?,
            Kind::False => self.word("false")?,
            Kind::Null => self.word("null")?,
        }
        Ok(Value { kind, span: start..self.at })
    }

    /// Reads an object; `each` must read the value of the member it is given.
    pub fn object(&mut self, mut each: impl FnMut(&mut Self, Member<'a>) -> Scan<()>) -> Scan<()> {
        self.expect(b'{', "an object")?;
        self.enter()?;
        let mut seen = Seen { first: self.keys.len(), many: HashSet::new() };
        if !self.next_is(b'}') {
            loop {
                self.space();
                let start = self.at;
                let key = self.string()?;
                if self.strict && !seen.insert(&mut self.keys, key.clone()) {
                    return Err(Malformed { at: start, reason: MalformedReason::Duplicate(key.into_owned()) });
                }
                self.expect(b':', "`:`")?;
                each(self, Member { key, start })?;
                if self.next_is(b'}') {
                    break;
                }
                self.expect(b',', "`,` or `}`")?;
            }
        }
        self.keys.truncate(seen.first);
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    /// Reads an array; `each` must read the element whose index it is given.
    pub fn array(&mut self, mut each: impl FnMut(&mut Self, usize) -> Scan<()>) -> Scan<()> {
        self.expect(b'[', "an array")?;
        self.enter()?;
        if !self.next_is(b']') {
            for index in 0.. {
                each(self, index)?;
                if self.next_is(b']') {
                    break;
                }
                self.expect(b',', "`,` or `]`")?;
            }
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    /// Reads a string and unescapes it.
    pub fn string(&mut self) -> Scan<Cow<'a, str>> {
        let start = self.at;
        let escaped = self.raw_string()?;
        let span = start..self.at;
        if escaped {
            // The scanner checked the string's shape; serde_json knows surrogates.
            let text = serde_json::from_str::<String>(self.text(span))
                .map_err(|_| Malformed { at: start, reason: MalformedReason::Text })?;
            Ok(Cow::Owned(text))
        } else {
            Ok(Cow::Borrowed(self.text(span.start.saturating_add(1)..span.end.saturating_sub(1))))
        }
    }

    /// Checks that nothing but white space is left.
    pub fn end(&mut self) -> Scan<()> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.error(MalformedReason::Trailing)) }
    }

    /// Reads a string; says whether it holds escapes.
    fn raw_string(&mut self) -> Scan<bool> {
        self.expect(b'"', "a string")?;
        let start = self.at.saturating_sub(1);
        let mut escaped = false;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let offset = plain_text(rest);
            self.at += offset;
            match rest.get(offset) {
                Some(b'"') => {
                    self.at += 1;
                    break;
                }
                Some(b'\\') => {
                    escaped = true;
                    let skip = match rest.get(offset + 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                        Some(b'u') => {
                            let digits = rest.get(offset + 2..offset + 6).unwrap_or_default();
                            if digits.len() != 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                                return Err(self.error(MalformedReason::Text));
                            }
                            6
                        }
                        _ => return Err(self.error(MalformedReason::Text)),
                    };
                    self.at += skip;
                }
                Some(_) => return Err(self.error(MalformedReason::Text)),
                None => return Err(self.error(MalformedReason::End)),
            }
        }
        if escaped && self.strict && self.lone_surrogate(start..self.at) {
            return Err(Malformed { at: start, reason: MalformedReason::Text });
        }
        Ok(escaped)
    }

    /// Whether a string with escapes names half a character, which parsers read differently.
    fn lone_surrogate(&self, span: Range<usize>) -> bool {
        let text = self.text(span);
        let suspicious = text.contains("\\ud") || text.contains("\\uD");
        suspicious && serde_json::from_str::<Cow<'_, str>>(text).is_err()
    }

    fn number(&mut self) -> Scan<()> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let digits = |from: usize| rest.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
        let mut len = usize::from(rest.first() == Some(&b'-'));
        let whole = digits(len);
        if whole == 0 || (whole > 1 && rest.get(len) == Some(&b'0')) {
            return Err(self.error(MalformedReason::Expected("a number")));
        }
        len += whole;
        if rest.get(len) == Some(&b'.') {
            let fraction = digits(len + 1);
            if fraction == 0 {
                return Err(self.error(MalformedReason::Expected("a number")));
            }
            len += 1 + fraction;
        }
        if matches!(rest.get(len), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(rest.get(len + 1), Some(b'+' | b'-')));
            let exponent = digits(len + 1 + sign);
            if exponent == 0 {
                return Err(self.error(MalformedReason::Expected("a number")));
            }
            len += 1 + sign + exponent;
        }
        self.at += len;
        Ok(())
    }

    fn word(&mut self, word: &'static str) -> Scan<()> {
        if self.bytes.get(self.at..).unwrap_or_default().starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.error(MalformedReason::Expected("a value")))
        }
    }

    fn enter(&mut self) -> Scan<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(self.error(MalformedReason::Depth)) } else { Ok(()) }
    }

    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn next_is(&mut self, byte: u8) -> bool {
        self.space();
        let is = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, byte: u8, name: &'static str) -> Scan<()> {
        if self.next_is(byte) {
            Ok(())
        } else if self.at >= self.bytes.len() {
            Err(self.error(MalformedReason::End))
        } else {
            Err(self.error(MalformedReason::Expected(name)))
        }
    }

    fn error(&self, reason: MalformedReason) -> Malformed {
        Malformed { at: self.at, reason }
    }
}

/// Bytes that are compared one by one before [`memchr`] is worth its call: most strings are keys.
const SHORT: usize = 16;

/// How many bytes of a string pass before one that ends it, starts an escape or has no place in it.
fn plain_text(rest: &[u8]) -> usize {
    let stops = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    let short = rest.get(..SHORT).unwrap_or(rest);
    if let Some(at) = short.iter().position(stops) {
        return at;
    }
    let long = rest.get(SHORT..).unwrap_or_default();
    let text = long.get(..memchr::memchr2(b'"', b'\\', long).unwrap_or(long.len())).unwrap_or_default();
    // Without a branch for each byte, so that many are looked at together.
    let clean = text.iter().fold(u8::MAX, |least, byte| least.min(*byte)) >= 0x20;
    let passed = if clean { text.len() } else { text.iter().position(stops).unwrap_or(text.len()) };
    short.len().saturating_add(passed)
}

/// The keys of one object: the first few among the scanner's, from `first` on, all others here.
struct Seen<'a> {
    first: usize,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Seen<'a> {
    /// Notes a key; whether it is new.
    fn insert(&mut self, keys: &mut Vec<Cow<'a, str>>, key: Cow<'a, str>) -> bool {
        let few = keys.get(self.first..).unwrap_or_default();
        if few.contains(&key) {
            return false;
        }
        if few.len() < FEW_MEMBERS {
            keys.push(key);
            return true;
        }
        self.many.insert(key)
    }
}

/// The name in `known` that `key` equals only after Unicode case folding, if any.
pub fn folded_match(key: &str, known: &[&'static str]) -> Option<&'static str> {
    if key.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return None;
    }
    let fold = |c: char| c.to_uppercase().flat_map(char::to_lowercase);
    let folded: String = key.chars().flat_map(fold).collect();
    known.iter().copied().find(|name| *name == folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), MalformedReason> {
        let mut scanner = Scanner::strict(text.as_bytes()).map_err(|error| error.reason)?;
        scanner.value().and_then(|_| scanner.end()).map_err(|error| error.reason)
    }

    #[test]
    fn what_serde_accepts_is_accepted_and_the_rest_is_not() {
        let texts = [
            "{}",
            "[]",
            "null",
            "true",
            "-0.5e+3",
            r#"{"a":[1,2,{"b":"c\n\u00e9"}],"d":null}"#,
            "  [ 1 , 2 ]  ",
            "{",
            "[1,]",
            "{\"a\":}",
            "{\"a\" 1}",
            "01",
            "1.",
            "-",
            "1e",
            "nul",
            "\"\u{1}\"",
            "\"\\x\"",
            "\"\\u12\"",
            "[1] 2",
            "",
            "\"abc",
            "{\"a\":1,}",
            "+1",
            "NaN",
            "'a'",
            r#""\ud83d\ude00""#,
            r#""\ud83d""#,
            r#""\udc00x""#,
        ];
        for text in texts {
            let expected = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert_eq!(check(text).is_ok(), expected, "{text}: {:?}", check(text));
        }
    }

    #[test]
    fn what_parsers_could_read_differently_is_refused() {
        assert_eq!(check(r#"{"a":1,"a":2}"#), Err(MalformedReason::Duplicate("a".to_owned())));
        assert_eq!(check(r#"{"x":{"a":1,"\u0061":2}}"#), Err(MalformedReason::Duplicate("a".to_owned())));
        assert_eq!(check(&format!("{}{}", "[".repeat(65), "]".repeat(65))), Err(MalformedReason::Depth));
        assert!(check(&format!("{}{}", "[".repeat(64), "]".repeat(64))).is_ok());
        let many: Vec<String> = (0..100).map(|n| format!("\"k{n}\":1")).collect();
        assert!(check(&format!("{{{}}}", many.join(","))).is_ok());
        let twice = format!("{{{},\"k99\":1}}", many.join(","));
        assert_eq!(check(&twice), Err(MalformedReason::Duplicate("k99".to_owned())));
        assert!(Scanner::strict(b"\"\xff\"").is_err());
    }

    #[test]
    fn a_key_that_differs_only_in_case_is_found() {
        let known = ["stream", "max_tokens"];
        assert_eq!(folded_match("Stream", &known), Some("stream"));
        assert_eq!(folded_match("\u{17f}tream", &known), Some("stream"));
        assert_eq!(folded_match("max_to\u{212a}ens", &known), Some("max_tokens"));
        assert_eq!(folded_match("stream", &known), None);
        assert_eq!(folded_match("Other", &known), None);
    }
}
