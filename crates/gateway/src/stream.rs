//! The body of an answer: bytes that are there, or a stream that is metered as it passes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use tollgate_store::Settled;

use crate::answer::{self, DONE, Heading, KEEP_ALIVE, PENDING};
use crate::flight::{self, Bill, Ending, Guard, Progress};

/// The body of an answer.
pub enum AnswerBody {
    /// All of it.
    Whole(Option<Bytes>),
    /// A stream of events.
    Stream(Box<MeteredStream>),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Self::Whole(bytes) => bytes.take(),
            Self::Stream(stream) => ready!(stream.poll_next(cx)),
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

type Settling = Pin<Box<dyn Future<Output = Option<Settled>> + Send>>;

enum State {
    Flying(Guard),
    Settling { settling: Settling, end: Box<End> },
    Over,
}

/// What is left to say when the settlement is durable.
struct End {
    heading: Heading,
    created: i64,
    bill: Bill,
    finish_reason: Option<String>,
    native_finish_reason: Option<String>,
    ending: Ending,
}

/// A provider's stream on its way to the caller.
pub struct MeteredStream {
    state: State,
}

impl MeteredStream {
    pub fn new(guard: Guard) -> Self {
        Self { state: State::Flying(guard) }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match &mut self.state {
                State::Over => return Poll::Ready(None),
                State::Flying(guard) => {
                    let Some(flight) = guard.flight() else { return Poll::Ready(None) };
                    match ready!(flight.poll_progress(cx)) {
                        Progress::Output => {
                            return Poll::Ready(Some(Bytes::from(std::mem::take(&mut flight.decoder.out))));
                        }
                        Progress::Silent => return Poll::Ready(Some(Bytes::from_static(KEEP_ALIVE))),
                        Progress::Ended(ending) => {
                            let left = std::mem::take(&mut flight.decoder.out);
                            self.settle(ending, cx);
                            if !left.is_empty() {
                                return Poll::Ready(Some(Bytes::from(left)));
                            }
                        }
                    }
                }
                State::Settling { settling, end } => {
                    let settled = ready!(settling.as_mut().poll(cx));
                    let last = end.write(settled);
                    self.state = State::Over;
                    return Poll::Ready(Some(Bytes::from(last)));
                }
            }
        }
    }

    /// Books the settlement at once, so that a caller who leaves now leaves it in good hands.
    fn settle(&mut self, ending: Ending, cx: &mut Context<'_>) {
        let State::Flying(guard) = std::mem::replace(&mut self.state, State::Over) else { return };
        let mut guard = guard;
        let Some(mut flight) = guard.take() else { return };
        let settlement = flight.settlement(ending);
        let end = Box::new(End {
            heading: std::mem::take(&mut flight.decoder.heading),
            created: flight.decoder.meter.created.unwrap_or_else(|| flight.reservation.admitted_at.seconds()),
            bill: Bill::of(&settlement),
            finish_reason: flight.decoder.meter.finish_reason.take(),
            native_finish_reason: flight.decoder.meter.native_finish_reason.take(),
            ending,
        });
        let shared = flight.shared.clone();
        let mut settling: Settling = Box::pin(async move { flight::settle(&shared, settlement).await });
        // The first poll books it.
        self.state = match settling.as_mut().poll(cx) {
            Poll::Pending => State::Settling { settling, end },
            Poll::Ready(settled) => State::Settling { settling: Box::pin(std::future::ready(settled)), end },
        };
    }
}

impl End {
    fn write(&self, settled: Option<Settled>) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(error) = stream_error(self.ending) {
            out = answer::error_chunk(&self.heading, self.created, error.code, error.message, error.error_type);
        }
        match (settled, &self.bill.tokens) {
            (None, _) => out.extend_from_slice(PENDING),
            (Some(_), Some(tokens)) if self.ending == Ending::Complete => {
                let usage = self.bill.usage(tokens);
                let (finish, native) = (self.finish_reason.as_deref(), self.native_finish_reason.as_deref());
                out.extend_from_slice(&answer::usage_chunk(&self.heading, self.created, finish, native, &usage));
            }
            (Some(_), _) => {}
        }
        out.extend_from_slice(DONE);
        out
    }
}

struct StreamError {
    code: u16,
    message: &'static str,
    error_type: &'static str,
}

fn stream_error(ending: Ending) -> Option<StreamError> {
    let (code, message, error_type) = match ending {
        Ending::Complete => return None,
        Ending::Failed => (502, "Provider returned error", "provider_unavailable"),
        Ending::Broken | Ending::Unsent => (502, "Provider disconnected", "provider_unavailable"),
        Ending::TimedOut => (524, "Request timed out. Please try again later.", "timeout"),
    };
    Some(StreamError { code, message, error_type })
}
