//! Where a call ends in what was read, and what it asks for.
//!
//! No more of HTTP/1.1 than that: the method and the path are not looked at.

use std::borrow::Cow;

use anyhow::{Context, Result, ensure};
use memchr::memmem;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scenario {
    Ns,
    Burst,
    Paced,
    Slow,
}

#[derive(Debug, Eq, PartialEq)]
pub struct Call {
    /// How many of the bytes read belong to it.
    pub end: usize,
    /// What its body names, if it names any.
    pub scenario: Option<Scenario>,
}

impl Call {
    /// The first call in `bytes`; `None` while it is incomplete.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(head) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
        let (head, rest) = bytes.split_at(head + 4);
        let body = match framing(head)? {
            Framing::Length(length) => rest.get(..length).map(|body| (Cow::Borrowed(body), length)),
            Framing::Chunked => unchunked(rest)?.map(|(body, length)| (Cow::Owned(body), length)),
        };
        Ok(body.map(|(body, length)| Self { end: head.len() + length, scenario: scenario(&body) }))
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

fn framing(head: &[u8]) -> Result<Framing> {
    let mut length = 0;
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"transfer-encoding") && value.eq_ignore_ascii_case(b"chunked") {
            return Ok(Framing::Chunked);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            length = std::str::from_utf8(value)?.parse().context("content-length")?;
        }
    }
    Ok(Framing::Length(length))
}

/// The body out of its chunks, and how many bytes those took.
fn unchunked(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = line(bytes, at) else { return Ok(None) };
        at += line.len() + 2;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let size = usize::from_str_radix(std::str::from_utf8(digits)?, 16).context("chunk size")?;
        if size == 0 {
            break;
        }
        let end = at.checked_add(size).context("chunk size")?;
        let (Some(data), Some(after)) = (bytes.get(at..end), bytes.get(end..).and_then(|after| after.get(..2))) else {
            return Ok(None);
        };
        ensure!(after == b"\r\n", "a chunk longer than its size");
        body.extend_from_slice(data);
        at = end + 2;
    }
    // Trailers, which mean nothing here, up to an empty line.
    while let Some(line) = line(bytes, at) {
        at += line.len() + 2;
        if line.is_empty() {
            return Ok(Some((body, at)));
        }
    }
    Ok(None)
}

/// The line that starts at `at`, if its end was read.
fn line(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    rest.get(..memmem::find(rest, b"\r\n")?)
}

fn scenario(body: &[u8]) -> Option<Scenario> {
    const WORD: &[u8] = b"bench-";
    memmem::find_iter(body, WORD).find_map(|at| {
        let rest = body.get(at + WORD.len()..)?;
        let named = |name: &[u8]| rest.strip_prefix(name).is_some_and(|after| after.starts_with(b"\""));
        match () {
            () if named(b"ns") => Some(Scenario::Ns),
            () if named(b"burst") => Some(Scenario::Burst),
            () if named(b"paced") => Some(Scenario::Paced),
            () if named(b"slow") => Some(Scenario::Slow),
            () => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"messages":[{"content":"a bench-mark"}],"model":"bench-burst"}"#;

    fn with_length(body: &str) -> String {
        format!("POST /v1 HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    fn chunked(body: &str) -> String {
        let (one, two) = body.split_at(body.len() - 6);
        let (a, b) = (one.len(), two.len());
        format!(
            "POST / HTTP/1.1\r\ntransfer-ENCODING:chunked\r\n\r\n{a:X};x=y\r\n{one}\r\n{b:x}\r\n{two}\r\n0\r\nT: t\r\n\r\n"
        )
    }

    #[test]
    fn a_call_ends_where_its_length_or_its_last_chunk_says_and_not_before() {
        for text in [with_length(BODY), chunked(BODY)] {
            let sent_ahead = format!("{text}POST /next HTTP/1.1\r\n");
            let call = Call { end: text.len(), scenario: Some(Scenario::Burst) };
            assert_eq!(Call::read(sent_ahead.as_bytes()).unwrap(), Some(call));
            for cut in 0..text.len() {
                assert_eq!(Call::read(&text.as_bytes()[..cut]).unwrap(), None, "cut at {cut} of {text:?}");
            }
        }
    }

    #[test]
    fn each_scenario_has_its_word_and_other_words_have_none() {
        let asked = |model: &str| scenario(format!(r#"{{"model":"{model}"}}"#).as_bytes());
        assert_eq!(asked("bench-ns"), Some(Scenario::Ns));
        assert_eq!(asked("bench-paced"), Some(Scenario::Paced));
        assert_eq!(asked("bench-slow"), Some(Scenario::Slow));
        assert_eq!(asked("bench/ns"), None);
        assert_eq!(asked("bench-nsx"), None);
    }

    #[test]
    fn what_is_no_http_is_an_error() {
        assert!(Call::read(b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n").is_err());
        assert!(Call::read(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n").is_err());
        assert!(Call::read(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n").is_err());
        let most = format!("{:x}", usize::MAX);
        assert!(Call::read(format!("P / H\r\nTransfer-Encoding: chunked\r\n\r\n{most}\r\na").as_bytes()).is_err());
    }
}
