//! Cuts a stream of bytes into events.
//!
//! Only what providers send is understood: lines ending in LF or CRLF, `data:` fields, comments, a blank line between
//! events. Bytes may arrive cut anywhere.

use bytes::BytesMut;
use memchr::memchr;

/// What one line of a stream says.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// The payload of a `data:` field.
    Data(&'a [u8]),
    /// A comment, a blank line, or a field that means nothing here.
    Other,
}

/// An event longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Holds the bytes of a line that has not ended yet.
#[derive(Debug, Default)]
pub struct Lines {
    rest: BytesMut,
}

impl Lines {
    /// Feeds bytes; `each` sees every line that is complete.
    ///
    /// # Errors
    /// [`TooLong`] where a line exceeds `bytes_max`.
    pub fn feed(&mut self, mut bytes: &[u8], bytes_max: usize, mut each: impl FnMut(Line<'_>)) -> Result<(), TooLong> {
        while let Some(end) = memchr(b'\n', bytes) {
            let (line, behind) = (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default());
            if self.rest.is_empty() {
                each(Line::of(line));
            } else {
                self.rest.extend_from_slice(line);
                each(Line::of(&self.rest));
                self.rest.clear();
            }
            bytes = behind;
        }
        if self.rest.len().saturating_add(bytes.len()) > bytes_max {
            return Err(TooLong);
        }
        self.rest.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes the last line where a stream ends without a line end.
    pub fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if !self.rest.is_empty() {
            each(Line::of(&self.rest));
            self.rest.clear();
        }
    }
}

impl<'a> Line<'a> {
    fn of(line: &'a [u8]) -> Self {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line.strip_prefix(b"data:") {
            Some(data) => Self::Data(data.strip_prefix(b" ").unwrap_or(data)),
            None => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(parts: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        let mut note = |line: Line<'_>| {
            if let Line::Data(data) = line {
                found.push(String::from_utf8(data.to_vec()).unwrap());
            }
        };
        for part in parts {
            lines.feed(part, 100, &mut note).unwrap();
        }
        lines.finish(&mut note);
        found
    }

    #[test]
    fn events_are_found_however_the_bytes_are_cut() {
        let stream: &[u8] = b": hi\n\ndata: {\"a\":1}\r\n\r\ndata:two\n\nevent: x\ndata: [DONE]";
        let whole = payloads(&[stream]);
        assert_eq!(whole, ["{\"a\":1}", "two", "[DONE]"]);
        for cut in 0..stream.len() {
            let (left, right) = stream.split_at(cut);
            assert_eq!(payloads(&[left, right]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        assert_eq!(Lines::default().feed(&[b'x'; 101], 100, |_| ()), Err(TooLong));
    }
}
