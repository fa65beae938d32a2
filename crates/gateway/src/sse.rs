//! Cuts a stream of bytes into events.
//!
//! Only what providers send is understood: lines ending in LF, CRLF or CR, `data:` fields, comments, a blank line between
//! events. Bytes may arrive cut anywhere.

use bytes::BytesMut;
use memchr::memchr2;

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
        // A CR ends a line, as for every caller; the LF of a CRLF then ends another one, which is blank.
        while let Some(end) = memchr2(b'\n', b'\r', bytes) {
            let (line, behind) = (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default());
            if self.rest.len().saturating_add(line.len()) > bytes_max {
                return Err(TooLong);
            }
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
    fn a_line_ends_where_it_does_for_callers() {
        let lines = payloads(&[b"data: a\rdata: b\r\ndata: c\r", b"\ndata: d\n\rdata: e\r\r"]);
        assert_eq!(lines, ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn a_line_above_the_limit_is_refused_whether_or_not_it_ends() {
        for line in [[b'x'; 101].as_slice(), b"data: 1\n", &[[b'x'; 101].as_slice(), b"\n"].concat()] {
            let refused = line.len() > 100;
            assert_eq!(Lines::default().feed(line, 100, |_| ()), if refused { Err(TooLong) } else { Ok(()) });
        }
    }
}
