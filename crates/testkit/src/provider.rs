//! A provider over real sockets that does what a test tells it to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Between two comments of [`Script::Comments`].
const COMMENT_PAUSE: Duration = Duration::from_millis(5);

/// What the provider does with a call.
#[derive(Clone, Debug)]
pub enum Script {
    /// Answers with so many tokens, streamed if asked.
    Answer {
        /// Prompt tokens to report.
        prompt: u64,
        /// Completion tokens to report.
        completion: u64,
    },
    /// The same, without ever saying what it used.
    NoUsage,
    /// Reports this as its usage.
    Usage(Value),
    /// Answers with an error status.
    Status(u16, &'static str),
    /// Sends so many chunks of a stream, then cuts the connection.
    CutAfter(usize),
    /// Reads the call and closes without a byte of answer.
    Vanish,
    /// Waits until [`Provider::release`], then answers as `Answer`.
    Hold {
        /// Prompt tokens to report.
        prompt: u64,
        /// Completion tokens to report.
        completion: u64,
    },
    /// Waits until [`Provider::finish`] says how the call that names itself in `user` ends.
    Named,
    /// Sends one chunk of a stream, waits until [`Provider::release`], then ends it.
    Trickle,
    /// Sends an error inside a stream after one chunk.
    ErrorInStream,
    /// Sends an error in the place of a stream's first chunk, then cuts the connection.
    ErrorThenCut,
    /// Begins a stream and sends comments, one each few milliseconds, until the gateway has had enough.
    Comments,
    /// Answers with this `Content-Type` and body.
    Labelled(&'static str, &'static str),
    /// Streams so many bytes of content, then ends as it should.
    Flood(usize),
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    calls: AtomicU64,
    bodies: Mutex<Vec<Value>>,
    bearers: Mutex<Vec<String>>,
    /// What it does with calls under some credentials, in the place of what it does with others.
    scripts: Mutex<HashMap<String, Script>>,
    served: Mutex<(u64, u64)>,
    held: AtomicU64,
    most_held: AtomicU64,
    arrived: Notify,
    gate: tokio::sync::watch::Sender<u64>,
    endings: tokio::sync::watch::Sender<HashMap<String, Option<u64>>>,
}

/// The provider.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Provider {
    /// A provider that answers with 10 prompt and 5 completion tokens.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(Script::Answer { prompt: 10, completion: 5 }),
            calls: AtomicU64::new(0),
            bodies: Mutex::new(Vec::new()),
            bearers: Mutex::new(Vec::new()),
            scripts: Mutex::new(HashMap::new()),
            served: Mutex::new((0, 0)),
            held: AtomicU64::new(0),
            most_held: AtomicU64::new(0),
            arrived: Notify::new(),
            gate: tokio::sync::watch::Sender::new(0),
            endings: tokio::sync::watch::Sender::new(HashMap::new()),
        });
        let serving = Arc::clone(&shared);
        #[expect(clippy::disallowed_methods, reason = "the provider is not part of the server")]
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tokio::spawn(async move {
                    // A gateway that hangs up is part of the test.
                    let _ = serve(stream, &shared).await;
                });
            }
        });
        Self { address, shared }
    }

    /// What it does from now on.
    pub fn script(&self, script: Script) {
        *self.shared.script.lock() = script;
    }

    /// What it does from now on with calls under this credential.
    pub fn script_for(&self, bearer: &str, script: Script) {
        self.shared.scripts.lock().insert(bearer.to_owned(), script);
    }

    /// The credentials of the calls that came since this was last asked, in order; empty where there was none.
    pub fn take_bearers(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.bearers.lock())
    }

    /// How many calls came.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// The bodies that came.
    pub fn bodies(&self) -> Vec<Value> {
        self.shared.bodies.lock().clone()
    }

    /// Prompt and completion tokens of all complete answers.
    pub fn served(&self) -> (u64, u64) {
        *self.shared.served.lock()
    }

    /// How many calls [`Script::Hold`] had waiting at a time, at the most.
    pub fn most_held(&self) -> u64 {
        self.shared.most_held.load(Ordering::SeqCst)
    }

    /// Waits until so many calls have come.
    ///
    /// # Panics
    /// They do not come within a minute.
    pub async fn arrived(&self, calls: u64) {
        let all = async {
            loop {
                let notified = self.shared.arrived.notified();
                if self.calls() >= calls {
                    return;
                }
                notified.await;
            }
        };
        let come = tokio::time::timeout(Duration::from_mins(1), all).await;
        assert!(come.is_ok(), "{} of {calls} calls have come", self.calls());
    }

    /// Ends the call that names itself `name`: with so many completion tokens, or with an error that costs nothing.
    pub fn finish(&self, name: &str, completion: Option<u64>) {
        self.shared.endings.send_modify(|endings| {
            endings.insert(name.to_owned(), completion);
        });
    }

    /// Lets calls that are held go on.
    pub fn release(&self) {
        self.shared.gate.send_modify(|gate| *gate += 1);
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let Some((bearer, body)) = read_call(&mut stream, &mut buffer).await? else { return Ok(()) };
        let request: Value = serde_json::from_slice(&body).unwrap_or_default();
        let streamed = request["stream"] == json!(true);
        let own = shared.scripts.lock().get(&bearer).cloned();
        let script = own.unwrap_or_else(|| shared.script.lock().clone());
        let mut gate = shared.gate.subscribe();
        gate.mark_unchanged();
        let name = request["user"].as_str().unwrap_or_default().to_owned();
        shared.bodies.lock().push(request);
        shared.bearers.lock().push(bearer);
        // Before it counts as arrived: who waits for so many calls may let them go at once.
        if matches!(script, Script::Hold { .. }) {
            let held = shared.held.fetch_add(1, Ordering::SeqCst) + 1;
            shared.most_held.fetch_max(held, Ordering::SeqCst);
        }
        shared.calls.fetch_add(1, Ordering::SeqCst);
        shared.arrived.notify_waiters();
        match script {
            Script::Answer { prompt, completion } => {
                answer(&mut stream, shared, streamed, Some(tokens(prompt, completion))).await?;
            }
            Script::Hold { prompt, completion } => {
                let _ = gate.changed().await;
                shared.held.fetch_sub(1, Ordering::SeqCst);
                answer(&mut stream, shared, streamed, Some(tokens(prompt, completion))).await?;
            }
            Script::Named => {
                let mut endings = shared.endings.subscribe();
                let ending =
                    endings.wait_for(|endings| endings.contains_key(&name)).await.map(|endings| endings[&name]);
                match ending.ok().flatten() {
                    Some(completion) => answer(&mut stream, shared, streamed, Some(tokens(0, completion))).await?,
                    None => whole(&mut stream, 500, "{}").await?,
                }
            }
            Script::NoUsage => answer(&mut stream, shared, streamed, None).await?,
            Script::Usage(usage) => answer(&mut stream, shared, streamed, Some(usage)).await?,
            Script::Status(status, text) => whole(&mut stream, status, text).await?,
            Script::Labelled(kind, body) => {
                let length = body.len();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
                stream.write_all(format!("{head}{body}").as_bytes()).await?;
            }
            Script::Vanish => return Ok(()),
            Script::CutAfter(chunks) => {
                stream.write_all(stream_head().as_bytes()).await?;
                for _ in 0..chunks {
                    write_event(&mut stream, &content("word")).await?;
                }
                return Ok(());
            }
            Script::Trickle => {
                stream.write_all(stream_head().as_bytes()).await?;
                write_event(&mut stream, &content("word")).await?;
                let _ = gate.changed().await;
                end_stream(&mut stream, shared, Some(tokens(10, 5))).await?;
            }
            Script::Comments => {
                stream.write_all(stream_head().as_bytes()).await?;
                loop {
                    stream.write_all(b"e\r\n: still here\n\n\r\n").await?;
                    tokio::time::sleep(COMMENT_PAUSE).await;
                }
            }
            Script::Flood(bytes) => {
                stream.write_all(stream_head().as_bytes()).await?;
                let event = content(&"word ".repeat(4_000));
                for _ in 0..bytes / event.len() {
                    write_event(&mut stream, &event).await?;
                }
                end_stream(&mut stream, shared, Some(tokens(10, 5))).await?;
            }
            Script::ErrorThenCut => {
                let event = "data: {\"error\":{\"message\":\"boom\",\"code\":500}}\n\n";
                let chunk = format!("{}{:x}\r\n{event}\r\n", stream_head(), event.len());
                return stream.write_all(chunk.as_bytes()).await;
            }
            Script::ErrorInStream => {
                stream.write_all(stream_head().as_bytes()).await?;
                write_event(&mut stream, &content("word")).await?;
                write_event(&mut stream, "{\"error\":{\"message\":\"boom\",\"code\":500}}").await?;
                stream.write_all(b"0\r\n\r\n").await?;
            }
        }
    }
}

fn tokens(prompt: u64, completion: u64) -> Value {
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}

async fn answer(stream: &mut TcpStream, shared: &Shared, streamed: bool, usage: Option<Value>) -> std::io::Result<()> {
    if streamed {
        stream.write_all(stream_head().as_bytes()).await?;
        for word in ["Hello", " there"] {
            write_event(stream, &content(word)).await?;
        }
        return end_stream(stream, shared, usage).await;
    }
    let mut body = json!({
        "id": "up-1", "object": "chat.completion", "created": 1_700_000_000, "model": "upstream-model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello there"}, "finish_reason": "stop"}],
    });
    note(shared, usage.as_ref());
    if let Some(usage) = usage {
        body["usage"] = usage;
    }
    whole(stream, 200, &body.to_string()).await
}

async fn end_stream(stream: &mut TcpStream, shared: &Shared, usage: Option<Value>) -> std::io::Result<()> {
    let finish = chunk(&json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]));
    write_event(stream, &finish.to_string()).await?;
    note(shared, usage.as_ref());
    if let Some(usage) = usage {
        let mut last = chunk(&json!([]));
        last["usage"] = usage;
        write_event(stream, &last.to_string()).await?;
    }
    write_event(stream, "[DONE]").await?;
    stream.write_all(b"0\r\n\r\n").await
}

fn note(shared: &Shared, usage: Option<&Value>) {
    let count = |name: &str| usage.and_then(|usage| usage[name].as_u64()).unwrap_or(0);
    let mut served = shared.served.lock();
    served.0 += count("prompt_tokens");
    served.1 += count("completion_tokens");
}

fn chunk(choices: &Value) -> Value {
    json!({"id": "up-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "upstream-model", "choices": choices})
}

fn content(word: &str) -> String {
    chunk(&json!([{"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": null}])).to_string()
}

fn stream_head() -> String {
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_owned()
}

async fn write_event(stream: &mut TcpStream, data: &str) -> std::io::Result<()> {
    let event = format!("data: {data}\n\n");
    stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await
}

async fn whole(stream: &mut TcpStream, status: u16, body: &str) -> std::io::Result<()> {
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await
}

/// One call's credential and body; `None` when the gateway closed the connection.
async fn read_call(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<(String, Vec<u8>)>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let value = |name: &str| {
                let of_name = |line: &str| {
                    let (key, value) = line.split_once(':')?;
                    key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
                };
                head.lines().find_map(of_name).unwrap_or_default()
            };
            let length: usize = value("content-length").parse().unwrap_or(0);
            let bearer = value("authorization").strip_prefix("Bearer ").unwrap_or_default().to_owned();
            if buffer.len() >= end + 4 + length {
                let body = buffer[end + 4..end + 4 + length].to_vec();
                buffer.drain(..end + 4 + length);
                return Ok(Some((bearer, body)));
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}
