//! The commit queue under a scheduler that tries many orders of the same events: what is pushed is written once, in the order in
//! which it was pushed; whoever waits is told, and what they were told is true; a copy that is made meanwhile is whole.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[expect(dead_code, reason = "the engine calls more of it")]
#[path = "../../src/committer.rs"]
mod committer;
mod sync;

/// What is written here is a number.
mod record {
    use rusqlite::Connection;

    #[derive(Debug)]
    pub struct Record(pub i64);

    pub struct Writer<'db>(&'db Connection);

    impl<'db> Writer<'db> {
        #[expect(clippy::unnecessary_wraps, reason = "the real one prepares statements")]
        pub fn new(db: &'db Connection) -> rusqlite::Result<Self> {
            Ok(Self(db))
        }
    }

    impl Record {
        pub fn write(&self, writer: &mut Writer<'_>) -> rusqlite::Result<()> {
            writer.0.execute("INSERT INTO written (number) VALUES (?1)", [self.0]).map(|_| ())
        }
    }
}

mod engine {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Durability {
        Power,
        Process,
    }
}

use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::Connection;
use shuttle::rand::{Rng, thread_rng};

use crate::committer::{Committer, HoldsQueue, Queue};
use crate::engine::Durability;
use crate::record::Record;
use crate::sync::{Arc, Mutex, thread};

const CALLERS: i64 = 3;
const RECORDS: i64 = 2;
const SCHEDULES: usize = 3_000;
/// Points at which a schedule turns away from what runs.
const TURNS: usize = 4;
/// Turns that everybody else has before what nobody waits for must be written.
const SOON: usize = 500;

#[derive(Default)]
struct Deciding {
    queue: Queue,
    decided: Vec<i64>,
}

impl HoldsQueue for Deciding {
    fn queue(&mut self) -> &mut Queue {
        &mut self.queue
    }
}

struct World {
    state: Arc<Mutex<Deciding>>,
    committer: Arc<Committer<Deciding>>,
    connection: Arc<Mutex<Option<Connection>>>,
    /// Commits that fail before one does not.
    failures: Arc<AtomicI64>,
}

fn numbers(db: &Connection) -> Vec<i64> {
    let mut rows = db.prepare("SELECT number FROM written ORDER BY place").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

impl World {
    fn new(durability: Durability) -> Self {
        let mut db = Connection::open_in_memory().unwrap();
        // So many pages that a copy takes several steps, and writes between them.
        let script = "PRAGMA page_size = 512;
            CREATE TABLE filler (bytes BLOB); INSERT INTO filler VALUES (zeroblob(100000));
            CREATE TABLE written (place INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER NOT NULL)";
        db.execute_batch(script).unwrap();
        let failures = Arc::new(AtomicI64::new(0));
        let left = Arc::clone(&failures);
        db.commit_hook(Some(move || left.fetch_sub(1, Ordering::Relaxed) > 0)).unwrap();
        let state = Arc::new(Mutex::new(Deciding::default()));
        let connection = Arc::new(Mutex::new(Some(db)));
        let committer = Committer::new(Arc::clone(&state), Arc::clone(&connection), durability);
        Self { state, committer, connection, failures }
    }

    /// Decides, waits as the engine does, and looks whether it is there when it is told so.
    async fn call(state: Arc<Mutex<Deciding>>, committer: Arc<Committer<Deciding>>, number: i64) {
        let impatient = thread_rng().gen_bool(0.3);
        let ticket = {
            let mut state = state.lock();
            state.decided.push(number);
            state.queue.push_waited(Record(number), impatient)
        };
        committer.attend_in_person(thread_rng().gen_bool(0.5)).await;
        match ticket.durable().await {
            Ok(()) => assert!(committer.read(numbers).is_some_and(|written| written.contains(&number))),
            Err(_) => assert!(impatient, "only who is impatient is told of a failure"),
        }
    }

    fn callers(&self) -> Vec<thread::JoinHandle<()>> {
        let caller = |caller: i64| {
            let (state, committer) = (Arc::clone(&self.state), Arc::clone(&self.committer));
            thread::spawn(move || {
                for record in 0..RECORDS {
                    let call = Self::call(Arc::clone(&state), Arc::clone(&committer), caller * RECORDS + record);
                    if thread_rng().gen_bool(0.2) {
                        // It hangs up: what it pushed is written all the same.
                        let waiting = shuttle::future::spawn(call);
                        thread::yield_now();
                        waiting.abort();
                        // It may have been faster.
                        let _ = shuttle::future::block_on(waiting);
                    } else {
                        shuttle::future::block_on(call);
                    }
                }
            })
        };
        (0..CALLERS).map(caller).collect()
    }

    /// Makes a copy, and compares it with what was and is written.
    fn copy(&self) -> thread::JoinHandle<()> {
        let (committer, failures) = (Arc::clone(&self.committer), Arc::clone(&self.failures));
        thread::spawn(move || {
            let before = committer.read(numbers).unwrap();
            let mut copy = Connection::open_in_memory().unwrap();
            let mut fails = thread_rng().gen_bool(0.3);
            let step = |_, _| {
                // Somebody else's turn; perhaps the disk refuses what they push.
                thread::yield_now();
                if std::mem::take(&mut fails) {
                    failures.store(2, Ordering::Relaxed);
                }
                true
            };
            let made = committer.copy(&mut copy, step);
            let after = committer.read(numbers).unwrap();
            if made.is_ok() {
                let copied = numbers(&copy);
                assert!(copied.starts_with(&before) && after.starts_with(&copied), "{before:?} {copied:?} {after:?}");
            }
        })
    }

    /// Everybody ends, and then everything is written.
    fn end(self, threads: Vec<thread::JoinHandle<()>>, writer: Option<thread::JoinHandle<()>>) {
        for thread in threads {
            thread.join().unwrap();
        }
        self.failures.store(0, Ordering::Relaxed);
        let last = CALLERS * RECORDS;
        let ticket = {
            let mut state = self.state.lock();
            state.decided.push(last);
            state.queue.push_waited(Record(last), false)
        };
        shuttle::future::block_on(async {
            self.committer.attend_in_person(false).await;
            ticket.durable().await.unwrap();
        });
        // What is handed over to a task is written soon, though nobody waits for it.
        for _ in 0..SOON {
            if numbers(self.connection.lock().as_ref().unwrap()).len() == self.state.lock().decided.len() {
                break;
            }
            thread::yield_now();
        }
        if let Some(writer) = writer {
            self.committer.close();
            writer.join().unwrap();
        }
        let written = numbers(self.connection.lock().as_ref().unwrap());
        assert_eq!(written, self.state.lock().decided, "once each, in their order");
    }
}

fn run(durability: Durability) {
    let world = World::new(durability);
    if thread_rng().gen_bool(0.3) {
        world.failures.store(thread_rng().gen_range(1..3), Ordering::Relaxed);
    }
    let writer = world.committer.start_writer().unwrap();
    let mut threads = world.callers();
    threads.push(world.copy());
    world.end(threads, writer);
}

#[test]
fn leaders_write_everything_once_and_in_order() {
    shuttle::check_random(|| run(Durability::Process), SCHEDULES);
    shuttle::check_pct(|| run(Durability::Process), SCHEDULES, TURNS);
}

#[test]
fn the_writer_writes_everything_once_and_in_order() {
    shuttle::check_random(|| run(Durability::Power), SCHEDULES);
    shuttle::check_pct(|| run(Durability::Power), SCHEDULES, TURNS);
}
