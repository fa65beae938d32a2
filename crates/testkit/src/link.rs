//! A TCP relay between a client and a server, which a test can cut, stall and heal.
//!
//! What the test asks for holds when the call returns: no byte passes after it, and a stall loses none.

#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

const PIECE_BYTES: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Request,
    Reply,
}

/// What a link does to those who use it.
#[derive(Clone, Copy, Debug)]
struct State {
    requests_pass: bool,
    replies_pass: bool,
    /// Whether who connects is reset.
    is_cut: bool,
    /// How often it was cut: a connection ends with the first that it sees.
    cuts: u64,
}

impl State {
    fn lets(&self, direction: Direction) -> bool {
        match direction {
            Direction::Request => self.requests_pass,
            Direction::Reply => self.replies_pass,
        }
    }
}

#[derive(Debug)]
struct Shared {
    /// Borrowed while a piece is written, so that a change waits for it.
    state: watch::Sender<State>,
    /// How many pieces were read and may not pass.
    withheld: watch::Sender<usize>,
}

/// A relay to one address, on the runtime of the test. Dropped, it ends with its connections.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    relay: AbortHandle,
}

impl Link {
    /// A relay to `server` that lets everything pass.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { requests_pass: true, replies_pass: true, is_cut: false, cuts: 0 };
        let shared = Arc::new(Shared { state: watch::Sender::new(state), withheld: watch::Sender::new(0) });
        #[expect(clippy::disallowed_methods, reason = "the relay runs beside the test")]
        let relay = tokio::spawn(accept(listener, server, Arc::clone(&shared))).abort_handle();
        Self { address, shared, relay }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets every connection both ways, and whoever connects before it is healed.
    pub fn cut(&self) {
        self.shared.state.send_modify(|state| {
            state.is_cut = true;
            state.cuts += 1;
        });
    }

    /// Keeps connections open and lets nothing pass either way.
    pub fn stall(&self) {
        self.pass(false, false);
    }

    /// Lets requests pass and keeps the answers back: the server acts, and the client does not hear of it.
    pub fn stall_replies(&self) {
        self.pass(true, false);
    }

    /// Lets everything pass, first what was kept back. A connection that was cut is gone, a new one gets through.
    pub fn heal(&self) {
        self.pass(true, true);
    }

    /// Waits until something is kept back: after [`Link::stall_replies`], an answer.
    pub async fn withholds(&self) {
        self.shared.withheld.subscribe().wait_for(|pieces| *pieces > 0).await.unwrap();
    }

    fn pass(&self, requests_pass: bool, replies_pass: bool) {
        self.shared.state.send_modify(|state| *state = State { requests_pass, replies_pass, is_cut: false, ..*state });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(relay(client, server, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Relays one connection until both sides have closed, one of them fails, or the link is cut.
async fn relay(mut client: TcpStream, server: SocketAddr, shared: Arc<Shared>) {
    let seen = shared.state.borrow().cuts;
    let mut states = shared.state.subscribe();
    let mut cut = pin!(states.wait_for(|state| state.is_cut || state.cuts != seen));
    let connected = tokio::select! {
        biased;
        _ = &mut cut => None,
        connected = TcpStream::connect(server) => connected.ok(),
    };
    let Some(mut server) = connected else { return reset(&client) };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let requests = shared.relay(Direction::Request, seen, from_client, to_server);
        let replies = shared.relay(Direction::Reply, seen, from_server, to_client);
        tokio::select! {
            biased;
            _ = &mut cut => false,
            ended = async { tokio::try_join!(requests, replies) } => ended.is_ok(),
        }
    };
    if !ended {
        reset(&client);
        reset(&server);
    }
}

/// Has the drop of a stream reset its connection.
fn reset(stream: &TcpStream) {
    // It may be reset already.
    let _ = stream.set_zero_linger();
}

impl Shared {
    /// Passes on what comes one way, and its end.
    async fn relay(&self, way: Direction, cuts: u64, from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            from.readable().await?;
            let read = match from.try_read(&mut piece) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                read => read?,
            };
            if read == 0 {
                self.may_pass(way).await;
                return to.shutdown().await;
            }
            let mut rest = &piece[..read];
            while !rest.is_empty() {
                self.may_pass(way).await;
                to.writable().await?;
                let state = self.state.borrow();
                if state.cuts != cuts {
                    return Err(ErrorKind::ConnectionReset.into());
                }
                if state.lets(way) {
                    match to.try_write(rest) {
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        written => rest = &rest[written?..],
                    }
                }
            }
        }
    }

    /// Waits until the state lets pass; whoever waits here is counted.
    async fn may_pass(&self, way: Direction) {
        if self.state.borrow().lets(way) {
            return;
        }
        self.withheld.send_modify(|pieces| *pieces += 1);
        let _counted = Counted(&self.withheld);
        // It fails when there is no sender any more, and `self` is the sender.
        let _ = self.state.subscribe().wait_for(|state| state.lets(way)).await;
    }
}

/// A piece that is kept back, however that ends.
struct Counted<'a>(&'a watch::Sender<usize>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|pieces| *pieces -= 1);
    }
}
