//! The built-in provider answers whatever it is asked, in a way that is metered like any other.
//!
//! An input is the body of a call.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tollgate_domain::guardrail::Declared;
use tollgate_gateway::fuzzing::{Ending, Reported};
use tollgate_gateway::{Limits, Provider, ProviderKind, ProviderSettings};

use super::stream;

pub fn holds(data: &[u8]) {
    let Some(Simulated { status, answer, cut }) = simulated(data) else { return };
    let limits = Limits::default();
    for streamed in [true, false] {
        let read = stream::read(streamed, &[&answer], &limits);
        if status == 200 && !cut && read.ending == Ending::Complete {
            let Some(Reported::Tokens(tokens)) = read.meter.reported else { panic!("no usage") };
            assert!(tokens.plausible(u64::MAX));
        }
        if status >= 400 {
            assert_eq!(read.ending, Ending::Failed);
        }
        stream::holds_for(streamed, &answer, 7, &limits);
    }
}

struct Simulated {
    status: u16,
    answer: Vec<u8>,
    cut: bool,
}

/// What the built-in provider answers to a body at once; `None` where it takes its time.
fn simulated(body: &[u8]) -> Option<Simulated> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    let settings =
        ProviderSettings { slug: "s".to_owned(), kind: ProviderKind::Simulated, declared: Declared::default() };
    let provider = Provider::new(settings, Limits::default()).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut calling = std::pin::pin!(provider.call(Bytes::copy_from_slice(body), 5, None));
    let Poll::Ready(Ok(mut call)) = calling.as_mut().poll(&mut cx) else { panic!("it is always there") };
    let Poll::Ready(Ok(head)) = call.poll_head(&mut cx) else { return None };
    assert!((200..600).contains(&head.status));
    let mut answer = Vec::new();
    loop {
        match call.poll_data(&mut cx) {
            Poll::Pending => return None,
            Poll::Ready(None) => return Some(Simulated { status: head.status, answer, cut: false }),
            Poll::Ready(Some(Err(_))) => return Some(Simulated { status: head.status, answer, cut: true }),
            Poll::Ready(Some(Ok(data))) => answer.extend_from_slice(&data),
        }
    }
}
