//! Providers whose every move the seed decides, and which know what the data path has seen of each answer.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tollgate_gateway::{Broken, Connecting, Head, Script, ScriptedCall, Unreachable};
use tollgate_store_sqlite::SqliteStore;

use crate::bugs::Bug;
use crate::core::Core;
use crate::data::{self, ChatId, Held, Said, Sent, Shown, Stage, Used, WORD};
use crate::embedded;
use crate::plan::Fault;
use crate::rng::Rng;

/// A provider of one process.
pub struct Player {
    pub core: Arc<Mutex<Core>>,
    /// Where the embedded engine is asked what is durable.
    pub books: Option<SqliteStore>,
}

impl fmt::Debug for Player {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Player")
    }
}

/// What a call asks for.
struct Asked {
    endpoint: String,
    cap: u64,
    choices: u64,
    streamed: bool,
    /// Tokens of the prompt at the most.
    prompt: u64,
    /// Bytes of the whole call.
    size: u64,
}

/// What of an answer counts once it is read up to a place.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// Bytes.
    upto: usize,
    /// Pieces of output.
    words: usize,
    said: Option<Said>,
    finished: bool,
    done: bool,
    error: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    Unreachable,
    Unsent,
    Broken,
    Never,
    Status(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    Cut,
    Silent,
}

/// What a provider will do.
#[derive(Debug)]
struct Play {
    connect: Duration,
    opening: Opening,
    head: Duration,
    bytes: Bytes,
    marks: VecDeque<Mark>,
    /// Whether what was marked is only known when the connection is closed.
    document: bool,
    garbled: bool,
    /// Up to where the bytes come, and when after the head.
    pieces: VecDeque<(Duration, usize)>,
    end: (Duration, End),
}

impl Script for Player {
    fn call<'a>(&'a self, body: Bytes, own: Option<&'a HeaderValue>) -> Connecting<'a> {
        Box::pin(async move {
            let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
            let number = |name: &str| asked[name].as_u64();
            let content = asked["messages"][0]["content"].as_str().unwrap_or_default();
            let chat: ChatId = content.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_default();
            let asked = Asked {
                endpoint: asked["model"].as_str().unwrap_or_default().to_owned(),
                cap: number("max_completion_tokens").unwrap_or(0),
                choices: number("n").unwrap_or(1),
                streamed: asked["stream"] == true,
                prompt: content.len() as u64,
                size: body.len() as u64,
            };
            let now = Instant::now();
            let (call, play) = {
                let mut core = self.core.lock();
                let row = core.row_of(chat);
                let held = self
                    .books
                    .as_ref()
                    .map_or(Held::AsSeen, |store| Held::Read(row.and_then(|row| embedded::held(store, row))));
                let sent = Sent {
                    endpoint: asked.endpoint.clone(),
                    own: own.is_some(),
                    cap: asked.cap,
                    choices: asked.choices,
                    prompt: asked.prompt,
                    heard: now,
                    begun: false,
                    shown: Shown::default(),
                };
                core.note("send", chat, || format!("generation {}: {sent:?}", row.map_or(0, |row| row.0)));
                let call = core.forwarded(chat, sent, &held);
                (call, Play::draw(&mut core, &asked))
            };
            let mut played = Played { core: Arc::clone(&self.core), chat, call, play, read: 0, from: now, sleep: None };
            sleep(played.play.connect).await;
            if played.play.opening == Opening::Unreachable {
                played.show("unreachable", |sent| sent.shown.stage = Stage::Unreachable);
                return Err(Unreachable);
            }
            played.show("connected", |sent| sent.shown.stage = Stage::Waiting);
            played.from = Instant::now();
            Ok(Box::new(played) as Box<dyn ScriptedCall>)
        })
    }
}

/// A call under way.
struct Played {
    core: Arc<Mutex<Core>>,
    chat: ChatId,
    call: usize,
    play: Play,
    /// Bytes that were read.
    read: usize,
    /// What the next moves are timed from.
    from: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Played {
    fn show(&self, what: &'static str, show: impl FnOnce(&mut Sent)) {
        let mut core = self.core.lock();
        let row = core.row_of(self.chat).map_or(0, |row| row.0);
        core.note(what, self.chat, || format!("generation {row}"));
        core.data.show(self.chat, self.call, show);
    }

    fn bug(&self, bug: Bug) -> bool {
        self.core.lock().has(bug)
    }

    /// Waits until a move is due: whatever was due before is there at once.
    fn poll_due(&mut self, after: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.from + after;
        if Instant::now() < due {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if sleep.deadline() != due {
                sleep.as_mut().reset(due);
            }
            ready!(sleep.as_mut().poll(cx));
        }
        Poll::Ready(())
    }
}

impl ScriptedCall for Played {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Broken>> {
        if self.play.opening == Opening::Never {
            return Poll::Pending;
        }
        ready!(self.poll_due(self.play.head, cx));
        match self.play.opening {
            Opening::Unsent => {
                self.show("unsent", |sent| sent.shown.stage = Stage::Unsent);
                Poll::Ready(Err(Broken::Unsent))
            }
            Opening::Status(status) => {
                self.show("head", |sent| sent.shown.stage = Stage::Answered(status));
                self.from = Instant::now();
                Poll::Ready(Ok(Head { status, retry_after: None }))
            }
            _ => {
                self.show("broken", |sent| sent.shown.stage = Stage::Broken);
                let taken = self.bug(Bug::RetriedUnknown);
                Poll::Ready(Err(if taken { Broken::Unsent } else { Broken::Unknown }))
            }
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if self.bug(Bug::ClosedOnHangUp) && self.core.lock().data.has_left(self.chat) {
            return Poll::Ready(Some(Err(Broken::Unknown)));
        }
        let Some((after, upto)) = self.play.pieces.front().copied() else { return self.poll_end(cx) };
        ready!(self.poll_due(after, cx));
        self.play.pieces.pop_front();
        let piece = self.play.bytes.slice(self.read..upto);
        self.read = upto;
        let (document, marks) = (self.play.document, &mut self.play.marks);
        let mut seen = Vec::new();
        while !document && marks.front().is_some_and(|mark| mark.upto <= upto) {
            seen.extend(marks.pop_front());
        }
        let now = Instant::now();
        self.show("data", |sent| {
            for mark in seen {
                mark.show(&mut sent.shown);
                if mark.counts() {
                    (sent.begun, sent.heard) = (true, now);
                }
            }
            if document {
                (sent.begun, sent.heard) = (true, now);
            }
        });
        Poll::Ready(Some(Ok(piece)))
    }
}

impl Played {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let (after, end) = self.play.end;
        if end == End::Silent {
            return Poll::Pending;
        }
        ready!(self.poll_due(after, cx));
        if end == End::Cut {
            self.show("cut-off", |sent| sent.shown.end = Some(data::End::Cut));
            return Poll::Ready(Some(Err(Broken::Unknown)));
        }
        let (marks, garbled) = (std::mem::take(&mut self.play.marks), self.play.garbled);
        self.show("closed", |sent| {
            for mark in &marks {
                mark.show(&mut sent.shown);
            }
            sent.shown.end = Some(if garbled { data::End::Garbled } else { data::End::Closed });
        });
        Poll::Ready(None)
    }
}

impl Mark {
    /// Whether it keeps the provider's time from running out.
    const fn counts(&self) -> bool {
        self.words > 0 || self.said.is_some() || self.finished || self.done || self.error
    }

    fn show(&self, shown: &mut Shown) {
        // Nothing counts behind the end.
        if shown.done || shown.error {
            return;
        }
        shown.words += self.words;
        shown.said = self.said.or(shown.said);
        shown.finished |= self.finished;
        shown.done |= self.done;
        shown.error |= self.error;
    }
}

fn micros(rng: &mut Rng, most: u64) -> Duration {
    Duration::from_micros(rng.below(most))
}

/// Bytes with what they mean.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    marks: VecDeque<Mark>,
    /// Where events begin.
    starts: Vec<usize>,
}

impl Text {
    fn event(&mut self, data: &str, mark: Mark) {
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(data.as_bytes());
        // The first end of a line ends it.
        self.marks.push_back(Mark { upto: self.bytes.len() + 1, ..mark });
        self.bytes.extend_from_slice(b"\n\n");
    }
}

/// What a provider gets wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breakdown {
    Broken,
    Never,
    /// After some bytes.
    Cut,
    Silent,
    /// Between two events, as if it were the end.
    Short,
    /// An error in the place of an event.
    Error,
    /// A document where a stream is asked for.
    Document,
}

const BREAKDOWNS: [Breakdown; 10] = [
    Breakdown::Broken,
    Breakdown::Never,
    Breakdown::Cut,
    Breakdown::Cut,
    Breakdown::Silent,
    Breakdown::Silent,
    Breakdown::Short,
    Breakdown::Error,
    Breakdown::Error,
    Breakdown::Document,
];

const REFUSALS: [Opening; 9] = [
    Opening::Unreachable,
    Opening::Unreachable,
    Opening::Unsent,
    Opening::Status(400),
    Opening::Status(401),
    Opening::Status(429),
    Opening::Status(429),
    Opening::Status(500),
    Opening::Status(503),
];

impl Play {
    fn draw(core: &mut Core, asked: &Asked) -> Self {
        let mut rng = Rng::new(core.rng.next());
        let refused = core.fault(Fault::Refusal);
        let broken = core.fault(Fault::Breakdown).then(|| rng.pick(&BREAKDOWNS)).flatten();
        let said = core.says(asked, &mut rng);
        let connect = if rng.chance(9_000) { micros(&mut rng, 2_000) } else { micros(&mut rng, 200_000) };
        let head = if rng.chance(8_000) { micros(&mut rng, 5_000) } else { micros(&mut rng, 700_000) };
        if refused {
            return Self::refused(rng, connect, head);
        }
        let document = !asked.streamed || broken == Some(Breakdown::Document);
        let text = if document { whole(broken, said) } else { stream(&mut rng, broken, said, asked.choices) };
        let opening = match broken {
            Some(Breakdown::Broken) => Opening::Broken,
            Some(Breakdown::Never) => Opening::Never,
            _ => Opening::Status(200),
        };
        let (upto, end) = match broken {
            Some(Breakdown::Cut) => (rng.place(text.bytes.len() + 1), End::Cut),
            Some(Breakdown::Silent) => (rng.place(text.bytes.len() + 1), End::Silent),
            Some(Breakdown::Short) if !document => {
                (text.starts.get(rng.place(text.starts.len())).copied().unwrap_or(0), End::Closed)
            }
            _ if rng.chance(500) => (text.bytes.len(), if rng.chance(5_000) { End::Cut } else { End::Silent }),
            _ => (text.bytes.len(), End::Closed),
        };
        let (pieces, last) = pieces(&mut rng, &text, upto);
        let end = (last + micros(&mut rng, 1_000), end);
        let Text { bytes, mut marks, .. } = text;
        marks.retain(|mark| mark.upto <= upto || document);
        let garbled = document && asked.streamed;
        Self { connect, opening, head, bytes: bytes.into(), marks, document, garbled, pieces, end }
    }

    fn refused(mut rng: Rng, connect: Duration, head: Duration) -> Self {
        let opening = rng.pick(&REFUSALS).unwrap_or(Opening::Unreachable);
        let mut text = Text::default();
        text.bytes.extend_from_slice(br#"{"error":{"message":"no","code":1}}"#);
        let upto = text.bytes.len();
        let (pieces, last) = pieces(&mut rng, &text, upto);
        let end = [End::Closed, End::Closed, End::Cut, End::Silent][rng.place(4)];
        let (bytes, marks) = (text.bytes.into(), VecDeque::new());
        Self { connect, opening, head, bytes, marks, document: true, garbled: false, pieces, end: (last, end) }
    }
}

/// Where the bytes are cut, and when each piece comes.
fn pieces(rng: &mut Rng, text: &Text, upto: usize) -> (VecDeque<(Duration, usize)>, Duration) {
    let mut cuts: Vec<usize> = text.starts.iter().copied().filter(|_| rng.chance(6_000)).collect();
    for _ in 0..rng.below(3) {
        cuts.push(rng.place(text.bytes.len()));
    }
    cuts.push(upto);
    cuts.retain(|cut| *cut > 0 && *cut <= upto);
    cuts.sort_unstable();
    cuts.dedup();
    let mut at = Duration::ZERO;
    let mut timed = |cut| {
        at += match rng.below(20) {
            0 => micros(rng, 600_000),
            1..=9 => micros(rng, 3_000),
            _ => Duration::ZERO,
        };
        (at, cut)
    };
    let pieces: VecDeque<_> = cuts.into_iter().map(&mut timed).collect();
    (pieces, at)
}

impl Core {
    /// What a provider will say that its answer took.
    fn says(&mut self, asked: &Asked, rng: &mut Rng) -> Option<Said> {
        let most = asked.cap.saturating_mul(asked.choices).max(1);
        let below = |rng: &mut Rng, most: u64| rng.below(most + 1);
        let prompt = 1 + rng.below(asked.prompt.max(1));
        let completion = if rng.chance(3_000) { most } else { below(rng, most) };
        let (cached, written) = match rng.below(4) {
            0 => (below(rng, prompt), 0),
            1 => (0, below(rng, prompt)),
            _ => (0, 0),
        };
        let reasoning = if rng.chance(2_000) { below(rng, completion) } else { 0 };
        let honest = Used { prompt, cached, written, completion, reasoning };
        let context = self.data.endpoints.get(&asked.endpoint).map_or(0, |endpoint| endpoint.context_length);
        if self.fault(Fault::Overrun) {
            // Beyond what was held, and not beyond what can be.
            return Some(Said::Tokens(Used { prompt: asked.size + 300 + rng.below(300), ..honest }));
        }
        if !self.fault(Fault::Miscount) {
            return Some(Said::Tokens(honest));
        }
        match rng.below(5) {
            0 | 1 => None,
            2 => Some(Said::Nonsense),
            3 => Some(Said::Impossible(Used { prompt: context + most + 1 + rng.below(9), ..honest })),
            _ => Some(Said::Impossible(Used { cached: prompt + 1, written: 0, ..honest })),
        }
    }
}

fn usage(said: Said) -> Value {
    match said {
        Said::Nonsense => json!({"prompt_tokens": -1, "completion_tokens": 1.5}),
        Said::Tokens(used) | Said::Impossible(used) => json!({
            "prompt_tokens": used.prompt,
            "completion_tokens": used.completion,
            "total_tokens": used.prompt + used.completion,
            "prompt_tokens_details": {"cached_tokens": used.cached, "cache_write_tokens": used.written},
            "completion_tokens_details": {"reasoning_tokens": used.reasoning},
        }),
    }
}

/// An answer that is not streamed.
fn whole(broken: Option<Breakdown>, said: Option<Said>) -> Text {
    let mut text = Text::default();
    if broken == Some(Breakdown::Error) {
        text.bytes.extend_from_slice(br#"{"error":{"message":"no","code":500}}"#);
        text.marks.push_back(Mark { error: true, ..Mark::default() });
        return text;
    }
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": WORD}, "finish_reason": "stop"});
    let mut answer = json!({"id": "x", "object": "chat.completion", "created": 1, "model": "up", "choices": [choice]});
    if let Some(said) = said {
        answer["usage"] = usage(said);
    }
    text.bytes.extend_from_slice(answer.to_string().as_bytes());
    text.marks.push_back(Mark { words: 1, said, finished: true, ..Mark::default() });
    text
}

/// An answer in events.
fn stream(rng: &mut Rng, broken: Option<Breakdown>, said: Option<Said>, choices: u64) -> Text {
    let mut text = Text::default();
    let chunk = |choices: Value, said: Option<Said>| {
        let mut chunk =
            json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": choices});
        if let Some(said) = said {
            chunk["usage"] = usage(said);
        }
        let mut line = String::from("data: ");
        // Writing to a String cannot fail.
        let _ = write!(line, "{chunk}");
        line
    };
    let error = |text: &mut Text| {
        text.event(r#"data: {"error":{"message":"no","code":500}}"#, Mark { error: true, ..Mark::default() });
    };
    let words = rng.below(5);
    let of_all = usize::try_from(choices).unwrap_or_default();
    let fails = (broken == Some(Breakdown::Error)).then(|| rng.below(words + 1));
    // Some providers say with each piece what it took so far.
    let so_far = match said {
        Some(Said::Tokens(used)) if rng.chance(1_000) => Some(used),
        _ => None,
    };
    for word in 0..words {
        if fails == Some(word) {
            error(&mut text);
            return text;
        }
        if rng.chance(500) {
            text.event(": still here", Mark::default());
        }
        let each: Value = (0..choices)
            .map(|index| json!({"index": index, "delta": {"content": WORD}, "finish_reason": null}))
            .collect();
        let said =
            so_far.map(|used| Said::Tokens(Used { completion: used.completion.min(word), reasoning: 0, ..used }));
        text.event(&chunk(each, said), Mark { words: of_all, said, ..Mark::default() });
    }
    if fails.is_some() {
        error(&mut text);
        return text;
    }
    let together = rng.chance(2_000);
    let ends: Value = (0..choices).map(|index| json!({"index": index, "delta": {}, "finish_reason": "stop"})).collect();
    let with = said.filter(|_| together);
    text.event(&chunk(ends, with), Mark { finished: true, said: with, ..Mark::default() });
    if let Some(said) = said.filter(|_| !together) {
        text.event(&chunk(json!([]), Some(said)), Mark { said: Some(said), ..Mark::default() });
    }
    if !rng.chance(500) {
        text.event("data: [DONE]", Mark { done: true, ..Mark::default() });
    }
    text
}
