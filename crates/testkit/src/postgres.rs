//! A throwaway PostgreSQL server of the machine's own programs.
//!
//! It listens on the loopback address alone, trusts whoever connects, and keeps its data in a folder of its own. A guard, a small
//! process beside it, ends it and removes the folder, however the test ends: it waits for the end of a pipe that only the
//! test's process holds open.

mod guard;
mod processes;
mod programs;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Signal;
use tokio_postgres::{Client, NoTls};

use self::guard::Guard;
use self::programs::Programs;

/// How long the server may take to start, to stop or to act on a signal.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks at a process that has nothing else to tell us by.
const POLL: Duration = Duration::from_millis(2);
/// Where ports are tried: below those that systems hand out by themselves, so that hardly anything but another cluster is in
/// the way.
const PORTS: Range<u64> = 20_000..32_000;
const PORTS_TRIED_MAX: usize = 50;
const READY: &str = "database system is ready to accept connections";
const PORT_TAKEN: &str = "Address already in use";
const LOG_LINES_MAX: usize = 1000;
const USER: &str = "postgres";

/// What a test wants of its server.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether commits reach the disk, as they do by default anywhere but here. Only a loss of power shows the difference.
    pub fsync: bool,
    /// More settings, which outrank those of the cluster.
    pub settings: Vec<(String, String)>,
    /// Variables of the server's environment.
    pub environment: Vec<(String, String)>,
}

/// How to stop a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// When the last client has left.
    Smart,
    /// Breaks connections and writes a checkpoint.
    Fast,
    /// Breaks connections and leaves recovery to the next start.
    Immediate,
}

/// A server of its own, with its data. It panics where a test cannot go on.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    programs: Programs,
    folder: PathBuf,
    port: u16,
    guard: Guard,
    postmaster: Mutex<Option<Child>>,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Cluster {
    /// A server that nobody used yet, ready for connections.
    pub fn start(options: Options) -> Self {
        let programs = Programs::find();
        let folder = programs.new_folder();
        let guard = Guard::over(&folder);
        programs.new_data(&folder.join("data"));
        let (postmaster, log) = (Mutex::default(), Arc::default());
        let mut cluster = Self { options, programs, folder, port: 0, guard, postmaster, log };
        for _ in 0..PORTS_TRIED_MAX {
            cluster.port = any_port();
            if cluster.launch() {
                return cluster;
            }
        }
        panic!("no free port in {PORTS_TRIED_MAX} attempts:\n{}", cluster.log());
    }

    /// The one server of this process, for tests that are content with a database of their own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Options::default()))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The URL of the database that is there from the start.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The URL of a database.
    pub fn url_of(&self, database: &str) -> String {
        Self::url_at(self.address(), database)
    }

    /// The URL of a database behind another address, such as that of a [`Link`](crate::Link).
    pub fn url_at(address: SocketAddr, database: &str) -> String {
        format!("postgres://{USER}@{address}/{database}")
    }

    /// Creates a database and returns its URL.
    pub async fn create_database(&self, name: &str) -> String {
        let sql = format!("CREATE DATABASE \"{name}\"");
        self.ask(async |client| client.batch_execute(&sql).await.unwrap()).await;
        self.url_of(name)
    }

    /// Ends every client's connection from the server's side, and waits until they are gone. How many there were.
    pub async fn cut_connections(&self) -> usize {
        const SQL: &str = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        self.ask(async |client| client.query(SQL, &[]).await.unwrap().len()).await
    }

    async fn ask<T>(&self, act: impl AsyncFnOnce(Client) -> T) -> T {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        let (answer, ended) = tokio::join!(act(client), connection);
        ended.unwrap();
        answer
    }

    /// Stops it and waits until it is gone. Its port stays its own as long as nobody takes it.
    pub fn stop(&self, how: Stop) {
        self.end(|postmaster| {
            processes::send(postmaster, how.signal());
            // Who sleeps would not act on it.
            processes::wake_all(postmaster);
        });
    }

    /// Kills all of its processes at once.
    pub fn kill9(&self) {
        self.end(processes::kill_all);
    }

    fn end(&self, act: impl FnOnce(u32)) {
        let mut postmaster = self.postmaster.lock().take().expect("the server does not run");
        act(postmaster.id());
        let gone = processes::until(|| postmaster.try_wait().unwrap().is_some());
        assert!(gone, "the server does not stop:\n{}", self.log());
        self.guard.watch(None);
    }

    /// Starts it again at the same address, after a fast stop if it runs. What was committed is there.
    pub fn restart(&self) {
        if self.postmaster.lock().is_some() {
            self.stop(Stop::Fast);
        }
        assert!(self.launch(), "port {} was taken meanwhile", self.port);
    }

    /// Puts all of its processes to sleep: connections stay open and nobody answers.
    pub fn pause(&self) {
        processes::stop_all(self.id());
    }

    /// Wakes them.
    pub fn resume(&self) {
        processes::wake_all(self.id());
    }

    fn id(&self) -> u32 {
        self.postmaster.lock().as_ref().expect("the server does not run").id()
    }

    /// The end of what it logged.
    pub fn log(&self) -> String {
        let log = self.log.lock();
        log.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// Starts the server's process and waits until it accepts connections. False where its port is taken.
    fn launch(&self) -> bool {
        let mut command = self.programs.command("postgres", &self.folder);
        command.arg("-D").arg(self.folder.join("data")).args(["-p", &self.port.to_string()]);
        for (name, value) in self.settings() {
            command.args(["-c", &format!("{name}={value}")]);
        }
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        // Signals to the test's group, such as from a terminal, are not for it: the guard ends it.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut postmaster = command.spawn().unwrap();
        self.guard.watch(Some(postmaster.id()));
        let ready = self.follow(postmaster.stderr.take().unwrap());
        match ready.recv_timeout(PATIENCE) {
            Ok(()) => {
                *self.postmaster.lock() = Some(postmaster);
                return true;
            }
            Err(RecvTimeoutError::Timeout) => postmaster.kill().unwrap(),
            Err(RecvTimeoutError::Disconnected) => {}
        }
        let status = postmaster.wait().unwrap();
        self.guard.watch(None);
        let log = self.log();
        let last_start = log.rsplit("starting PostgreSQL").next().unwrap_or_default();
        assert!(last_start.contains(PORT_TAKEN), "the server did not start ({status}):\n{log}");
        false
    }

    fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = [
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
            ("max_connections", "100"),
            ("min_wal_size", "32MB"),
            ("max_wal_size", "64MB"),
            ("fsync", if self.options.fsync { "on" } else { "off" }),
        ];
        own.into_iter().chain(self.options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// Keeps what the server logs. The receiver hears when it is ready, and is cut off when its log ends.
    fn follow(&self, stderr: ChildStderr) -> Receiver<()> {
        let (ready, told) = mpsc::channel();
        let log = Arc::clone(&self.log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let is_ready = line.contains(READY);
                let mut log = log.lock();
                if log.len() == LOG_LINES_MAX {
                    log.pop_front();
                }
                log.push_back(line);
                if is_ready {
                    // Later starts, after a crash of one of its processes, interest nobody.
                    let _ = ready.send(());
                }
            }
        });
        told
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A panic here would hide the one that a test is failing with; the guard does what this leaves undone.
        if let Some(mut postmaster) = self.postmaster.lock().take() {
            processes::send(postmaster.id(), Stop::Immediate.signal());
            processes::wake_all(postmaster.id());
            if processes::until(|| postmaster.try_wait().is_ok_and(|status| status.is_some())) {
                self.guard.watch(None);
            }
        }
        self.guard.release();
    }
}

impl Stop {
    fn signal(self) -> Signal {
        match self {
            Self::Smart => Signal::TERM,
            Self::Fast => Signal::INT,
            Self::Immediate => Signal::QUIT,
        }
    }
}

fn any_port() -> u16 {
    // The standard library's own randomness: a seed for its maps.
    let random = RandomState::new().build_hasher().finish();
    u16::try_from(PORTS.start + random % (PORTS.end - PORTS.start)).unwrap()
}
