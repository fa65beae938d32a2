//! What becomes of a provider's bytes: events that pass metered, or one document that is kept. Knows no clock and no socket.

use bytes::BytesMut;

use crate::answer::Heading;
use crate::flight::Ending;
use crate::limits::Limits;
use crate::meter::Meter;
use crate::sse::{Line, Lines};

/// What an answer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A stream was asked for, and nothing came yet.
    Untold,
    /// A stream of events.
    Events,
    /// One JSON document.
    Document,
}

/// Reads one answer. Bytes may arrive cut anywhere.
#[derive(Debug)]
pub struct Decoder {
    shape: Shape,
    streamed: bool,
    /// What our answer begins with.
    pub heading: Heading,
    /// What was seen so far.
    pub meter: Meter,
    /// A whole answer so far.
    body: BytesMut,
    /// Output of a stream that was not passed on yet.
    pub out: Vec<u8>,
    lines: Lines,
}

impl Decoder {
    /// For the answer to a call that asked for a stream, or not.
    pub fn new(streamed: bool, heading: Heading) -> Self {
        Self {
            shape: if streamed { Shape::Untold } else { Shape::Document },
            streamed,
            heading,
            meter: Meter::default(),
            body: BytesMut::new(),
            out: Vec::new(),
            lines: Lines::default(),
        }
    }

    /// Takes bytes; whether the provider said anything that counts. It may send comments for ever.
    ///
    /// # Errors
    /// The ending of an answer that is larger than allowed, or holds an object that cannot be read.
    pub fn feed(&mut self, mut data: &[u8], limits: &Limits) -> Result<bool, Ending> {
        if self.shape == Shape::Untold
            && let Some(at) = data.iter().position(|byte| !byte.is_ascii_whitespace())
        {
            // A stream was asked for, and a document comes: an error, or the answer of a server that knows no streams.
            // Its first byte says so; what the headers say is not to be trusted with money.
            let begun = data.get(at..).unwrap_or_default();
            if begun.first() == Some(&b'{') {
                (self.shape, data) = (Shape::Document, begun);
            } else {
                self.shape = Shape::Events;
            }
        }
        if self.shape == Shape::Document {
            if self.body.len().saturating_add(data.len()) > limits.answer_bytes_max {
                return Err(Ending::Broken);
            }
            self.body.extend_from_slice(data);
            return Ok(true);
        }
        let (meter, heading, out) = (&mut self.meter, &self.heading, &mut self.out);
        let mut progress = false;
        let fed = self.lines.feed(data, limits.event_bytes_max, |line| {
            progress |= matches!(line, Line::Data(_));
            pass(meter, heading, out, &line);
        });
        fed.map_err(|_| Ending::Broken)?;
        if self.meter.unreadable { Err(Ending::Broken) } else { Ok(progress) }
    }

    /// The ending of an answer whose bytes all came.
    pub fn complete(&mut self) -> Ending {
        if self.shape != Shape::Document {
            let (meter, heading, out) = (&mut self.meter, &self.heading, &mut self.out);
            let ended = |meter: &Meter| meter.done || meter.finish_reason.is_some();
            let before = ended(meter);
            self.lines.finish(|line| pass(meter, heading, out, &line));
            // A reason in what was not passed on is none that the caller has.
            let whole = if meter.unreadable { before } else { ended(meter) };
            return match (meter.failed, whole) {
                (true, _) => Ending::Failed,
                (false, true) => Ending::Complete,
                (false, false) => Ending::Broken,
            };
        }
        match self.meter.answer(&self.body) {
            Err(_) => Ending::Broken,
            Ok(()) if self.meter.failed => Ending::Failed,
            // Nothing can be made of it for a caller who waits for events.
            Ok(()) if self.streamed => Ending::Broken,
            Ok(()) => Ending::Complete,
        }
    }

    /// A whole answer as the caller gets it; without `usage` where the settlement is pending.
    pub fn result(&self, usage: Option<&str>) -> Vec<u8> {
        self.meter.result(&self.body, &self.heading, usage)
    }
}

fn pass(meter: &mut Meter, heading: &Heading, out: &mut Vec<u8>, line: &Line<'_>) {
    if let Line::Data(data) = line
        && !meter.done
        && !meter.failed
        && !meter.unreadable
    {
        meter.chunk(data, heading, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&str]) -> (Ending, Decoder) {
        let mut decoder = Decoder::new(true, Heading::new("gen-1", "P", "a/b"));
        let fed = pieces.iter().try_for_each(|piece| decoder.feed(piece.as_bytes(), &Limits::default()).map(|_| ()));
        let ending = fed.map_or_else(|ending| ending, |()| decoder.complete());
        (ending, decoder)
    }

    const END: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const CUT: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],";

    #[test]
    fn an_object_that_cannot_be_read_breaks_a_stream_unless_it_was_over() {
        assert_eq!(read(&[CUT, "\n", END]).0, Ending::Broken);
        assert_eq!(read(&[CUT]).0, Ending::Broken);
        let (ending, decoder) = read(&[END, CUT]);
        assert_eq!((ending, decoder.meter.unreadable), (Ending::Complete, true));
        assert!(!String::from_utf8(decoder.out).unwrap().contains("],\n"));
    }

    #[test]
    fn white_space_before_a_document_is_none_of_it_however_it_is_cut() {
        let document = "{\"usage\":{\"prompt_tokens\":1}}";
        for pieces in [[" \n\x0c", document], ["", &format!(" \n\x0c{document}")]] {
            let (ending, decoder) = read(&pieces);
            assert_eq!(ending, Ending::Broken, "a stream was asked for");
            assert!(decoder.meter.reported.is_some(), "and it is billed");
        }
    }
}
