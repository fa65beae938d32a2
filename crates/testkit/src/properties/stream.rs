//! A provider's answer cut otherwise is the same answer, and the same bill. Nothing that a caller can read in it has the
//! provider's ids, or usage that is not settled.
//!
//! The first line of an input says whether the call asked for `events` or a `document`, what the cuts are drawn from, and,
//! where it is not the usual one, the most that an event or a document may have.

use tollgate_domain::Price;
use tollgate_domain::pricing::{MediaUnits, PriceList};
use tollgate_gateway::Limits;
use tollgate_gateway::fuzzing::{Decoder, Ending, Heading, Meter, Reported};

use super::json;

/// Inputs up to so many bytes are also fed byte by byte.
const BYTEWISE_MAX: usize = 4_096;
/// Choices that are put right.
const CHOICES_MAX: usize = 128;
/// What becomes of the provider's ids.
const OURS: [(&str, &str); 3] = [("id", "\"gen-1\""), ("provider", "\"P\\\"\""), ("model", "\"a/b\"")];
/// A usage that is settled.
const USAGE: &str = "{\"cost\":1}";

pub fn holds(data: &[u8]) {
    let (head, rest) = data.split_at(data.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1));
    let mut words = head.split(u8::is_ascii_whitespace);
    let kind = words.next().unwrap_or_default();
    let mut number = || words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse::<u64>().ok());
    let (seed, most) = (number().unwrap_or(7), number().and_then(|most| usize::try_from(most).ok()));
    let defaults = Limits::default();
    let event_bytes_max = most.unwrap_or(defaults.event_bytes_max);
    let answer_bytes_max = most.unwrap_or(defaults.answer_bytes_max);
    let limits = Limits { event_bytes_max, answer_bytes_max, ..defaults };
    holds_for(kind != b"document", rest, seed, &limits);
}

/// What was made of an answer.
#[derive(Debug)]
pub struct Read {
    pub ending: Ending,
    out: Vec<u8>,
    pub meter: Meter,
    result: Option<(Vec<u8>, Vec<u8>)>,
}

/// The same for an answer to a call that asked for a stream or not, with cuts drawn from `seed`.
pub fn holds_for(streamed: bool, answer: &[u8], seed: u64, limits: &Limits) {
    let whole = read(streamed, &[answer], limits);
    let cut = pieces(answer, seed);
    same(&whole, &read(streamed, &cut, limits));
    if answer.len() <= BYTEWISE_MAX {
        let bytes: Vec<&[u8]> = answer.chunks(1).collect();
        same(&whole, &read(streamed, &bytes, limits));
    }
    for event in events(&whole.out) {
        passed(&event);
    }
    if let Some((settled, pending)) = &whole.result {
        let answer = std::str::from_utf8(answer).unwrap();
        document(answer, settled, &[USAGE]);
        document(answer, pending, &[]);
    }
    if let Some(Reported::Tokens(tokens)) = whole.meter.reported {
        let prices = PriceList {
            prompt: Price::from_picos(i64::MAX),
            completion: Price::from_picos(600_007),
            request: Price::from_picos(11),
            ..PriceList::default()
        };
        if let Ok(cost) = prices.cost(&tokens, MediaUnits::default()) {
            assert_eq!(cost.prompt.plus(cost.completion), Ok(cost.total));
        }
    }
}

/// Reads pieces to the end, or to where it ends early.
pub fn read(streamed: bool, pieces: &[&[u8]], limits: &Limits) -> Read {
    let mut decoder = Decoder::new(streamed, Heading::new("gen-1", "P\"", "a/b"));
    let fed = pieces.iter().try_for_each(|piece| decoder.feed(piece, limits).map(|_| ()));
    let ending = fed.map_or_else(|ending| ending, |()| decoder.complete());
    let complete = !streamed && ending == Ending::Complete;
    let result = complete.then(|| (decoder.result(Some(USAGE)), decoder.result(None)));
    Read { ending, out: decoder.out, meter: decoder.meter, result }
}

fn same(one: &Read, other: &Read) {
    let billed = |read: &Read| {
        let meter = &read.meter;
        let native = meter.native_finish_reason.clone();
        (
            (read.ending, read.out.clone(), read.result.clone()),
            (meter.reported, meter.output_bytes, meter.chunks, meter.finish_reason.clone(), native),
            (meter.upstream_id.clone(), meter.created, meter.done, meter.failed),
        )
    };
    assert_eq!(billed(one), billed(other));
}

/// Cuts drawn from `seed`.
fn pieces(mut rest: &[u8], seed: u64) -> Vec<&[u8]> {
    let (mut state, mut pieces) = (seed | 1, Vec::new());
    while !rest.is_empty() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let size = usize::try_from(state % 97).unwrap().min(rest.len());
        let (piece, behind) = rest.split_at(size);
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

/// The events of a stream as the standard has them, whose lines end in LF, CRLF or CR.
fn events(stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut events, mut data, mut rest) = (Vec::new(), None::<Vec<u8>>, stream);
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        let (line, behind) = rest.split_at(end);
        rest = behind.strip_prefix(b"\r\n").unwrap_or(&behind[1..]);
        if line.is_empty() {
            events.extend(data.take());
        } else if let Some(value) = line.strip_prefix(b"data:") {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &mut data {
                None => data = Some(value.to_vec()),
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            }
        }
    }
    assert!(rest.is_empty() && data.is_none(), "an event without an end");
    events
}

/// What a caller reads in one event.
fn passed(event: &[u8]) {
    assert!(!event.trim_ascii_start().starts_with(b"[DONE]"), "the end is ours to say");
    if event.trim_ascii_start().first() != Some(&b'{') {
        return;
    }
    let text = std::str::from_utf8(event).unwrap();
    assert!(json::is_json(text), "an object that nobody can read: {text}");
    let members = json::members(text).unwrap();
    ours(&members);
    assert!(json::all(&members, "usage").is_empty(), "usage that is not settled: {text}");
    assert!(json::all(&members, "error").iter().all(|error| *error == "null"), "the provider's error: {text}");
}

fn ours(members: &[(String, &str)]) {
    for (name, value) in OURS {
        assert_eq!(json::all(members, name), [value], "{name}");
    }
}

/// A whole answer: ours where it is ours, and the provider's where it is not.
fn document(answer: &str, result: &[u8], usage: &[&str]) {
    let text = std::str::from_utf8(result).unwrap();
    assert!(json::is_json(text), "{text}");
    let (Some(members), Some(theirs)) = (json::members(text), json::members(answer)) else { return };
    ours(&members);
    assert_eq!(json::all(&members, "usage"), usage);
    assert!(!json::all(&members, "system_fingerprint").is_empty());
    let kept = |members: &[(String, &str)]| -> Vec<(String, String)> {
        let rewritten = ["id", "provider", "model", "usage", "choices", "system_fingerprint"];
        let kept = members.iter().filter(|(name, _)| !rewritten.contains(&name.as_str()));
        kept.map(|(name, value)| (name.clone(), (*value).to_owned())).collect()
    };
    assert_eq!(kept(&members), kept(&theirs));
    for choices in json::all(&members, "choices") {
        let Ok(choices) = serde_json::from_str::<Vec<&serde_json::value::RawValue>>(choices) else { continue };
        for choice in choices.into_iter().take(CHOICES_MAX).filter_map(|choice| json::members(choice.get())) {
            assert!(!json::all(&choice, "finish_reason").is_empty(), "{text}");
        }
    }
}
