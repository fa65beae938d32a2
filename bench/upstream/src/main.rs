//! The provider of the benchmark: answers a call in the way that a word in its body names.
//!
//! `bench-ns` at once and whole, `bench-burst` a stream in one write, `bench-paced` a chunk every 10 ms, `bench-slow` whole
//! after 20 ms. It does as little as possible, so that what is measured is what stands before it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CHUNKS: usize = 50;
const PACE: Duration = Duration::from_millis(10);
const SLOWNESS: Duration = Duration::from_millis(20);

/// The answers, made once.
struct Answers {
    whole: Vec<u8>,
    head: Vec<u8>,
    events: Vec<Vec<u8>>,
    burst: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let text = "All work and no limit makes a bill that nobody wanted. ".repeat(22);
        let body = format!(
            "{{\"id\":\"up\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{{\"index\":0,\"message\":\
             {{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":250,\
             \"completion_tokens\":260,\"total_tokens\":510}}}}"
        );
        let whole = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let start =
            "{\"id\":\"up\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":";
        let mut events: Vec<String> = (0..CHUNKS)
            .map(|number| format!("{start}[{{\"index\":0,\"delta\":{{\"role\":\"assistant\",\"content\":\" word{number}\"}},\"finish_reason\":null}}]}}"))
            .collect();
        events.push(format!("{start}[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}"));
        events.push(format!(
            "{start}[],\"usage\":{{\"prompt_tokens\":250,\"completion_tokens\":50,\"total_tokens\":300}}}}"
        ));
        events.push("[DONE]".to_owned());
        let mut events: Vec<Vec<u8>> = events.iter().map(|data| chunk(&format!("data: {data}\n\n"))).collect();
        if let Some(last) = events.last_mut() {
            last.extend_from_slice(b"0\r\n\r\n");
        }
        let burst = [head.as_bytes(), &events.concat()].concat();
        Self { whole: whole.into_bytes(), head: head.as_bytes().to_vec(), events, burst }
    }
}

fn chunk(event: &str) -> Vec<u8> {
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).context("usage: bench-upstream ADDRESS:PORT")?;
    let listener = TcpListener::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?;
    let answers = Arc::new(Answers::new());
    loop {
        let (stream, _) = listener.accept().await?;
        let answers = Arc::clone(&answers);
        #[expect(clippy::disallowed_methods, reason = "a bench that ends has nothing to wait for")]
        tokio::spawn(async move {
            // A peer that closes its connection is the end of it.
            let _ = serve(stream, &answers).await;
        });
    }
}

async fn serve(mut stream: TcpStream, answers: &Answers) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8_192);
    while let Some((body_end, scenario)) = read_call(&mut stream, &mut buffer).await? {
        buffer.drain(..body_end);
        match scenario {
            Scenario::Whole => stream.write_all(&answers.whole).await?,
            Scenario::Slow => {
                tokio::time::sleep(SLOWNESS).await;
                stream.write_all(&answers.whole).await?;
            }
            Scenario::Burst => stream.write_all(&answers.burst).await?,
            Scenario::Paced => {
                stream.write_all(&answers.head).await?;
                for event in &answers.events {
                    stream.write_all(event).await?;
                    tokio::time::sleep(PACE).await;
                }
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Scenario {
    Whole,
    Slow,
    Burst,
    Paced,
}

/// Reads one call; says where it ends in the buffer, and what it asks for.
async fn read_call(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<(usize, Scenario)>> {
    loop {
        if let Some(head) = memmem::find(buffer, b"\r\n\r\n") {
            let (head, body) = (buffer.get(..head).unwrap_or_default(), head.saturating_add(4));
            let text = String::from_utf8_lossy(head).to_ascii_lowercase();
            let length =
                text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            let end = body.saturating_add(length.unwrap_or(0));
            if let Some(body) = buffer.get(body..end) {
                let has = |word: &[u8]| memmem::find(body, word).is_some();
                let scenario = match () {
                    () if has(b"bench-burst") => Scenario::Burst,
                    () if has(b"bench-paced") => Scenario::Paced,
                    () if has(b"bench-slow") => Scenario::Slow,
                    () => Scenario::Whole,
                };
                return Ok(Some((end, scenario)));
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}
