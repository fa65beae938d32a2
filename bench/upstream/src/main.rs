//! The provider of the benchmark: answers a call in the way that a word in its body names.
//!
//! `bench-ns` at once and whole, `bench-burst` a stream in one write, `bench-paced` an event every 10 ms, `bench-slow` whole
//! after 20 ms. It does as little as possible, so that what is measured is what stands before it.

mod answers;
mod call;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until};

use crate::answers::Answers;
use crate::call::{Call, Scenario};

const PACE: Duration = Duration::from_millis(10);
const SLOWNESS: Duration = Duration::from_millis(20);
const READ_BYTES: usize = 8 << 10;
const CALL_BYTES_MAX: usize = 1 << 20;

// One thread: a second one would compete with what is measured.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let address = address(std::env::args().skip(1))?;
    let listener = TcpListener::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?;
    let answers = Arc::new(Answers::new());
    loop {
        let (stream, _) = listener.accept().await?;
        let answers = Arc::clone(&answers);
        #[expect(clippy::disallowed_methods, reason = "a bench that ends has nothing to wait for")]
        tokio::spawn(async move {
            // A peer that leaves, or that speaks no HTTP, loses its connection: the driver counts that as a failure.
            let _ = serve(stream, &answers).await;
        });
    }
}

fn address(mut arguments: impl Iterator<Item = String>) -> Result<String> {
    match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (Some("--listen"), Some(address), None) => Ok(address),
        _ => bail!("usage: bench-upstream --listen ADDRESS:PORT"),
    }
}

async fn serve(mut stream: TcpStream, answers: &Answers) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(READ_BYTES);
    while let Some(call) = next_call(&mut stream, &mut buffer).await? {
        // What a client sent ahead stays for the next round.
        buffer.drain(..call.end);
        answer(&mut stream, answers, call.scenario).await?;
    }
    Ok(())
}

async fn next_call(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<Call>> {
    loop {
        if let Some(call) = Call::read(buffer)? {
            return Ok(Some(call));
        }
        ensure!(buffer.len() < CALL_BYTES_MAX, "a call of more than {CALL_BYTES_MAX} bytes");
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

async fn answer(stream: &mut TcpStream, answers: &Answers, scenario: Option<Scenario>) -> Result<()> {
    match scenario {
        Some(Scenario::Ns) => stream.write_all(&answers.whole).await?,
        Some(Scenario::Slow) => {
            sleep(SLOWNESS).await;
            stream.write_all(&answers.whole).await?;
        }
        Some(Scenario::Burst) => stream.write_all(&answers.burst).await?,
        Some(Scenario::Paced) => {
            // From one start, so that late wake-ups do not add up.
            let mut due = Instant::now();
            for event in &answers.events {
                stream.write_all(event).await?;
                due += PACE;
                sleep_until(due).await;
            }
            stream.write_all(answers.end).await?;
        }
        None => stream.write_all(answers.unknown).await?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn the_address_has_a_name() {
        let told = |words: &[&str]| address(words.iter().map(|word| (*word).to_owned())).ok();
        assert_eq!(told(&["--listen", "127.0.0.1:9"]).as_deref(), Some("127.0.0.1:9"));
        assert_eq!(told(&["127.0.0.1:9"]), None);
        assert_eq!(told(&["--listen", "127.0.0.1:9", "more"]), None);
    }
}
