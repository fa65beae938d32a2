//! The built-in provider: deterministic answers in OpenAI's shape, for trying tollgate out and for load tests.
//!
//! A directive in the last message scripts it: `simulate: tokens=38 delay_ms=20 chunk_ms=5 status=503 cut_after=10`.
//! Without one it answers at once with as many tokens as a question of that length deserves. A prompt counts as a token
//! for each four bytes of text begun.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::{Sleep, sleep};

use super::{Broken, Head};

const BYTES_PER_TOKEN: usize = 4;
/// Tokens of an answer whose length nobody asked for: so many, and one more for each four of the prompt.
const TOKENS_DEFAULT: u64 = 24;
/// Tokens of all choices of an answer at the most: it is made in memory.
const TOKENS_MAX: u64 = 1 << 16;
const WORDS: [&str; 8] = ["Spending", "limits", "hold", "when", "money", "is", "reserved", "first"];

/// One step of the script.
enum Play {
    Wait(Duration),
    Data(Bytes),
    Cut,
}

/// A call to the built-in provider.
pub struct SimulatedCall {
    status: u16,
    head_delay: Option<Duration>,
    script: VecDeque<Play>,
    sleep: Option<Pin<Box<Sleep>>>,
}

#[derive(Default)]
struct Directive {
    tokens: Option<u64>,
    delay_ms: u64,
    chunk_ms: u64,
    status: u16,
    cut_after: Option<u64>,
}

impl SimulatedCall {
    pub fn new(body: &[u8], now: i64) -> Self {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let texts = message_texts(&request);
        let directive = texts.last().map(|text| Directive::find(text)).unwrap_or_default();
        let prompt_bytes: usize = texts.iter().map(String::len).sum();
        let prompt = len(prompt_bytes.div_ceil(BYTES_PER_TOKEN));
        let cap = request["max_completion_tokens"].as_u64().unwrap_or(u64::MAX);
        let wanted = directive.tokens.unwrap_or_else(|| TOKENS_DEFAULT.saturating_add(prompt / 4));
        let choices = request["n"].as_u64().unwrap_or(1);
        let most = cap.min(TOKENS_MAX.checked_div(choices).unwrap_or(TOKENS_MAX));
        let tokens = wanted.min(most);
        let answer = Answer {
            created: now,
            model: request["model"].as_str().unwrap_or("simulated").to_owned(),
            prompt,
            tokens,
            choices,
            finish: if wanted > most { "length" } else { "stop" },
        };
        let stream = request["stream"].as_bool().unwrap_or(false);
        let script = if directive.status >= 400 {
            let error = json!({"error": {"message": "simulated failure", "code": directive.status}});
            VecDeque::from([Play::Data(Bytes::from(error.to_string()))])
        } else if stream {
            answer.stream(&directive)
        } else {
            answer.whole(&directive)
        };
        let status = if directive.status == 0 { 200 } else { directive.status };
        let head_delay = (directive.delay_ms > 0).then(|| Duration::from_millis(directive.delay_ms));
        Self { status, head_delay, script, sleep: None }
    }

    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Broken>> {
        if let Some(delay) = self.head_delay.take() {
            self.sleep = Some(Box::pin(sleep(delay)));
        }
        ready!(self.poll_sleep(cx));
        Poll::Ready(Ok(Head { status: self.status, retry_after: None }))
    }

    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        loop {
            ready!(self.poll_sleep(cx));
            match self.script.pop_front() {
                None => return Poll::Ready(None),
                Some(Play::Wait(delay)) => self.sleep = Some(Box::pin(sleep(delay))),
                Some(Play::Data(data)) => return Poll::Ready(Some(Ok(data))),
                Some(Play::Cut) => {
                    self.script.clear();
                    return Poll::Ready(Some(Err(Broken::Unknown)));
                }
            }
        }
    }

    fn poll_sleep(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        Poll::Ready(())
    }
}

impl Directive {
    fn find(text: &str) -> Self {
        let mut directive = Self::default();
        let Some((_, script)) = text.split_once("simulate:") else { return directive };
        for (name, value) in script.split_whitespace().filter_map(|word| word.split_once('=')) {
            let Ok(number) = value.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u64>() else { continue };
            match name {
                "tokens" => directive.tokens = Some(number),
                "delay_ms" => directive.delay_ms = number.min(600_000),
                "chunk_ms" => directive.chunk_ms = number.min(60_000),
                "status" => directive.status = u16::try_from(number).unwrap_or(500).clamp(200, 599),
                "cut_after" => directive.cut_after = Some(number),
                _ => {}
            }
        }
        directive
    }
}

struct Answer {
    created: i64,
    model: String,
    prompt: u64,
    tokens: u64,
    choices: u64,
    finish: &'static str,
}

impl Answer {
    fn usage(&self) -> Value {
        let completion = self.tokens.saturating_mul(self.choices);
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": completion,
            "total_tokens": self.prompt.saturating_add(completion),
        })
    }

    fn words(&self) -> impl Iterator<Item = String> {
        let words = WORDS
            .iter()
            .cycle()
            .enumerate()
            .map(|(n, word)| if n == 0 { (*word).to_owned() } else { format!(" {word}") });
        words.take(usize::try_from(self.tokens).unwrap_or(usize::MAX))
    }

    fn whole(&self, directive: &Directive) -> VecDeque<Play> {
        if directive.cut_after.is_some() {
            return VecDeque::from([Play::Cut]);
        }
        let content: String = self.words().collect();
        let choice = |index| {
            json!({
                "index": index,
                "message": {"role": "assistant", "content": content},
                "finish_reason": self.finish,
            })
        };
        let answer = json!({
            "id": "simulated", "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": (0..self.choices).map(choice).collect::<Vec<_>>(),
            "usage": self.usage(),
        });
        VecDeque::from([Play::Data(Bytes::from(answer.to_string()))])
    }

    fn stream(&self, directive: &Directive) -> VecDeque<Play> {
        let event = |choices: Value, usage: Option<Value>| {
            let mut chunk = json!({
                "id": "simulated", "object": "chat.completion.chunk", "created": self.created, "model": self.model, "choices": choices,
            });
            if let Some(usage) = usage {
                chunk["usage"] = usage;
            }
            Play::Data(Bytes::from(format!("data: {chunk}\n\n")))
        };
        let mut script = VecDeque::new();
        for (index, word) in self.words().enumerate() {
            if directive.cut_after == Some(len(index)) {
                script.push_back(Play::Cut);
            }
            if directive.chunk_ms > 0 && index > 0 {
                script.push_back(Play::Wait(Duration::from_millis(directive.chunk_ms)));
            }
            let choices = (0..self.choices)
                .map(|choice| json!({"index": choice, "delta": {"role": "assistant", "content": word}, "finish_reason": null}))
                .collect();
            script.push_back(event(choices, None));
        }
        let ends = (0..self.choices)
            .map(|choice| json!({"index": choice, "delta": {}, "finish_reason": self.finish}))
            .collect();
        script.push_back(event(ends, None));
        script.push_back(event(json!([]), Some(self.usage())));
        script.push_back(Play::Data(Bytes::from_static(b"data: [DONE]\n\n")));
        script
    }
}

/// The texts of all messages, and of a plain prompt.
fn message_texts(request: &Value) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for message in request["messages"].as_array().into_iter().flatten() {
        match &message["content"] {
            Value::String(text) => texts.push(text.clone()),
            Value::Array(parts) => {
                texts.push(parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"));
            }
            _ => {}
        }
    }
    texts.extend(request["prompt"].as_str().map(str::to_owned));
    texts
}

fn len(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
