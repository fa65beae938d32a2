//! Group commit: whatever queued up while the last group was written is the next group.
//!
//! With [`Durability::Power`] each group ends in a flush of the disk, on a thread of its own. With [`Durability::Process`]
//! a group is a write to the page cache, cheap enough for the runtime's own threads: whoever waits and finds
//! the queue unattended leads: it yields once where others are at work, so that they join, and commits for all.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::engine::Durability;
use crate::record::{Record, Writer};
use crate::sync::{self, Arc, AtomicBool, Condvar, Mutex, Weak, thread};

/// The first pause after a failed commit; it doubles up to [`RETRY_PAUSE_MAX`].
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two tries of the same group.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Pages that are copied before what queued up is written: a fraction of a millisecond.
const PAGES_A_STEP: i32 = 64;
/// Between two looks whether somebody still commits.
const BORROW_PAUSE: Duration = Duration::from_micros(200);

/// From so many records in a group on, the next one waits for those whom it answered,
const CROWD: usize = 4;
/// for this part of the time that it took,
const GATHER_PART: u32 = 8;
/// and no longer than this.
const GATHER_MAX: Duration = Duration::from_micros(400);

/// Whether a copy of the database is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Copying {
    #[default]
    No,
    /// Somebody waits to make one: nobody else begins to commit.
    Wanted,
    /// Whoever makes it commits meanwhile.
    UnderWay,
}

/// How a waiter learns that its record is durable.
#[derive(Debug)]
struct Waiter {
    done: oneshot::Sender<Result<(), Stalled>>,
    /// Whether it would rather hear of the first failure than wait for the group to be written after all.
    impatient: bool,
}

/// The group could not be written yet. It will be retried, so the record may still become durable.
#[derive(Clone, Debug)]
pub struct Stalled(pub String);

#[derive(Debug)]
struct Item {
    record: Record,
    waiter: Option<Waiter>,
}

/// The queue of records. Lives under the lock that decides, so that its order is the order of decisions.
#[derive(Default)]
pub struct Queue {
    items: Vec<Item>,
    /// Whether somebody is committing, or is about to.
    attended: bool,
    copying: Copying,
    /// What others would read from the database while it is lent.
    errands: Vec<Errand>,
    closing: bool,
}

/// Something that whoever makes a copy does for another, between two handfuls of pages.
type Errand = Box<dyn FnOnce(&Connection) + Send>;

impl Queue {
    /// Whether whoever has something to write may do it.
    fn free(&self) -> bool {
        self.copying == Copying::No
    }
}

/// A ticket for a record in the queue.
#[derive(Debug)]
#[must_use]
pub struct Ticket(oneshot::Receiver<Result<(), Stalled>>);

impl Ticket {
    /// Waits until the record is durable, or (for an impatient one) its group failed.
    pub async fn durable(self) -> Result<(), Stalled> {
        match self.0.await {
            Ok(result) => result,
            Err(_) => Err(Stalled("the ledger is shutting down".to_owned())),
        }
    }
}

impl Queue {
    /// Adds a record that nobody waits for.
    pub fn push(&mut self, record: Record) {
        self.items.push(Item { record, waiter: None });
    }

    /// Adds a record and returns a ticket for it.
    pub fn push_waited(&mut self, record: Record, impatient: bool) -> Ticket {
        let (done, wait) = oneshot::channel();
        self.items.push(Item { record, waiter: Some(Waiter { done, impatient }) });
        Ticket(wait)
    }
}

/// Access to the queue, under whatever lock holds it.
pub trait HoldsQueue: Send + 'static {
    fn queue(&mut self) -> &mut Queue;
}

/// Writes the queue of `S` to the database.
#[derive(Debug)]
pub struct Committer<S> {
    state: Arc<Mutex<S>>,
    connection: Arc<Mutex<Option<Connection>>>,
    wake: Condvar,
    stalled: AtomicBool,
    durability: Durability,
}

impl<S: HoldsQueue> Committer<S> {
    pub fn new(state: Arc<Mutex<S>>, connection: Arc<Mutex<Option<Connection>>>, durability: Durability) -> Arc<Self> {
        Arc::new(Self { state, connection, wake: Condvar::new(), stalled: AtomicBool::new(false), durability })
    }

    /// Whether the last group could not be written: nothing new may be admitted.
    pub fn stalled(&self) -> bool {
        self.stalled.load(Ordering::Acquire)
    }

    /// Sees to it that the queue is written soon. Call after pushing, without the lock.
    pub fn attend(self: &Arc<Self>) {
        if self.durability == Durability::Power {
            self.wake.notify_one();
        } else if self.take_lead() {
            self.lead_in_background(Vec::new());
        }
    }

    /// The same, for a caller that waits: where nobody leads, it leads itself, and commits one group on its own thread.
    /// With `crowd` it yields first, so that requests that are ready join the group.
    pub async fn attend_in_person(self: &Arc<Self>, crowd: bool) {
        if self.durability == Durability::Power {
            self.wake.notify_one();
            return;
        }
        if !self.take_lead() {
            return;
        }
        if crowd {
            let mut handover = Handover(Some(self));
            sync::yield_now().await;
            handover.0 = None;
        }
        let mut group = std::mem::take(&mut self.state.lock().queue().items);
        if !self.commit(&mut group) {
            self.lead_in_background(group);
        } else if !self.leave_lead() {
            self.lead_in_background(Vec::new());
        }
    }

    /// Becomes the leader, if there is something to write and nobody leads.
    fn take_lead(&self) -> bool {
        let mut state = self.state.lock();
        let queue = state.queue();
        let lead = !queue.attended && queue.free() && !queue.items.is_empty();
        queue.attended |= lead;
        lead
    }

    /// Stops leading, if nothing is left to write, or another is to write it.
    fn leave_lead(&self) -> bool {
        let mut state = self.state.lock();
        let queue = state.queue();
        queue.attended = !queue.items.is_empty() && queue.free();
        !queue.attended
    }

    fn lead_in_background(self: &Arc<Self>, group: Vec<Item>) {
        // Detached on purpose: whoever pushed last may be gone by now.
        sync::detach(Self::lead(Arc::clone(self), group));
    }

    /// Commits `group`, if it is not empty, and then whatever queued up, until nothing is left.
    async fn lead(self: Arc<Self>, mut group: Vec<Item>) {
        loop {
            let mut pause = RETRY_PAUSE;
            if group.is_empty() {
                sync::yield_now().await;
                group = std::mem::take(&mut self.state.lock().queue().items);
            }
            while !self.commit(&mut group) {
                if self.connection.lock().is_none() {
                    // Nothing will ever be written again, and whoever waits is told so.
                    self.state.lock().queue().items.clear();
                    return;
                }
                sync::sleep(pause).await;
                pause = (pause * 2).min(RETRY_PAUSE_MAX);
            }
            group.clear();
            if self.leave_lead() {
                return;
            }
        }
    }

    /// Starts the writer thread; it ends when the committer is closed.
    pub fn start_writer(self: &Arc<Self>) -> std::io::Result<Option<thread::JoinHandle<()>>> {
        if self.durability == Durability::Process {
            return Ok(None);
        }
        let weak = Arc::downgrade(self);
        thread::Builder::new().name("ledger-writer".to_owned()).spawn(move || write_loop(&weak)).map(Some)
    }

    /// Writes what is left and lets the writer end.
    pub fn close(&self) {
        self.state.lock().queue().closing = true;
        self.wake.notify_all();
    }

    fn write(&self, group: &[Item]) -> Result<(), String> {
        match self.connection.lock().as_ref() {
            Some(connection) => write_group(connection, group).map_err(|error| error.to_string()),
            None => Err("the database is closed".to_owned()),
        }
    }

    /// One try at one group. All of it becomes durable, or none.
    fn commit(&self, group: &mut [Item]) -> bool {
        let written = self.write(group);
        self.tell(group, written)
    }

    /// Reads from the database; `None` where it is closed. Blocks its thread until its turn comes.
    pub fn read<T: Send + 'static>(&self, query: impl FnOnce(&Connection) -> T + Send + 'static) -> Option<T> {
        let (answer, answered) = sync::channel(1);
        {
            let mut state = self.state.lock();
            let queue = state.queue();
            if queue.copying == Copying::UnderWay {
                queue.errands.push(Box::new(move |connection| {
                    // Whoever asked may have left.
                    let _ = answer.send(query(connection));
                }));
                drop(state);
                return answered.recv().ok();
            }
        }
        self.connection.lock().as_ref().map(query)
    }

    /// Copies the database page by page, and writes what queues up meanwhile between two handfuls of pages: the copy follows.
    /// `step` is told the pages that are left and those there are, and says whether to go on. Blocks its thread for as long as it
    /// takes.
    ///
    /// # Errors
    /// The copy could not be made; the database is as it was.
    pub fn copy(self: &Arc<Self>, to: &mut Connection, mut step: impl FnMut(i32, i32) -> bool) -> Result<(), String> {
        let _lent = self.borrow()?;
        self.copy_borrowed(to, &mut step)
    }

    /// Keeps others from committing, once nobody does.
    fn borrow(self: &Arc<Self>) -> Result<Lent<'_, S>, String> {
        loop {
            {
                let mut state = self.state.lock();
                let queue = state.queue();
                if queue.copying != Copying::UnderWay && !queue.attended {
                    queue.copying = Copying::UnderWay;
                    return Ok(Lent(self));
                }
                if queue.copying == Copying::No {
                    queue.copying = Copying::Wanted;
                }
                if self.stalled() || queue.closing {
                    if queue.copying == Copying::Wanted {
                        queue.copying = Copying::No;
                    }
                    drop(state);
                    self.attend();
                    return Err("the disk refuses writes".to_owned());
                }
            }
            thread::sleep(BORROW_PAUSE);
        }
    }

    /// Does what others would read.
    fn run_errands(&self, connection: &Connection) {
        let errands = std::mem::take(&mut self.state.lock().queue().errands);
        for errand in errands {
            errand(connection);
        }
    }

    fn copy_borrowed(&self, to: &mut Connection, step: &mut impl FnMut(i32, i32) -> bool) -> Result<(), String> {
        let connection = self.connection.lock();
        let Some(connection) = connection.as_ref() else { return Err("the database is closed".to_owned()) };
        let backup = Backup::new(connection, to).map_err(|error| error.to_string())?;
        loop {
            let more = backup.step(PAGES_A_STEP).map_err(|error| error.to_string())?;
            let progress = backup.progress();
            let on = step(progress.remaining, progress.pagecount);
            if matches!(more, StepResult::Done) {
                return Ok(());
            }
            if !on {
                return Err("nobody waits for it any more".to_owned());
            }
            self.run_errands(connection);
            let mut group = std::mem::take(&mut self.state.lock().queue().items);
            if group.is_empty() {
                continue;
            }
            let written = write_group(connection, &group).map_err(|error| error.to_string());
            if !self.tell(&mut group, written) {
                // It is written before everything behind it, by whoever commits next.
                let mut state = self.state.lock();
                let items = &mut state.queue().items;
                group.append(items);
                *items = group;
                return Err("the disk refuses writes".to_owned());
            }
        }
    }

    /// Tells whoever waits what became of a group.
    fn tell(&self, group: &mut [Item], written: Result<(), String>) -> bool {
        match written {
            Ok(()) => {
                if self.stalled.swap(false, Ordering::AcqRel) {
                    tracing::info!("the ledger can be written again; admission is open");
                }
                for waiter in group.iter_mut().filter_map(|item| item.waiter.take()) {
                    // A waiter that left does not mind.
                    let _ = waiter.done.send(Ok(()));
                }
                true
            }
            Err(error) => {
                if !self.stalled.swap(true, Ordering::AcqRel) {
                    tracing::error!(%error, records = group.len(), "the ledger cannot be written; admission is closed");
                }
                // Those behind it cannot be written before it is.
                let mut state = self.state.lock();
                for item in group.iter_mut().chain(&mut state.queue().items) {
                    if item.waiter.as_ref().is_some_and(|waiter| waiter.impatient)
                        && let Some(waiter) = item.waiter.take()
                    {
                        let _ = waiter.done.send(Err(Stalled(error.clone())));
                    }
                }
                false
            }
        }
    }
}

/// The right to commit, for whoever makes a copy. Dropped, it goes back, and what waited is done.
struct Lent<'a, S: HoldsQueue>(&'a Arc<Committer<S>>);

impl<S: HoldsQueue> Drop for Lent<'_, S> {
    fn drop(&mut self) {
        let connection = self.0.connection.lock();
        let errands = {
            let mut state = self.0.state.lock();
            let queue = state.queue();
            queue.copying = Copying::No;
            std::mem::take(&mut queue.errands)
        };
        if let Some(connection) = connection.as_ref() {
            for errand in errands {
                errand(connection);
            }
        }
        drop(connection);
        self.0.attend();
    }
}

/// A leader that has not begun: dropped, it hands over to a task.
struct Handover<'a, S: HoldsQueue>(Option<&'a Arc<Committer<S>>>);

impl<S: HoldsQueue> Drop for Handover<'_, S> {
    fn drop(&mut self) {
        if let Some(committer) = self.0.take() {
            committer.lead_in_background(Vec::new());
        }
    }
}

fn write_loop<S: HoldsQueue>(weak: &Weak<Committer<S>>) {
    let mut pause = RETRY_PAUSE;
    let mut group: Vec<Item> = Vec::new();
    // How long those who were answered last need to come back, at most.
    let mut gather = Duration::ZERO;
    while let Some(committer) = weak.upgrade() {
        if group.is_empty() {
            // With a slow disk, a group that leaves without them makes them wait for two flushes.
            thread::sleep(std::mem::take(&mut gather));
            let mut state = committer.state.lock();
            if state.queue().items.is_empty() || !state.queue().free() {
                if state.queue().closing && state.queue().free() {
                    return;
                }
                // The time limit lets the thread notice that nobody holds the committer any more.
                committer.wake.wait_for(&mut state, RETRY_PAUSE_MAX);
            }
            if !state.queue().free() {
                continue;
            }
            group = std::mem::take(&mut state.queue().items);
            state.queue().attended = !group.is_empty();
        }
        if group.is_empty() {
            continue;
        }
        let (began, crowd) = (Instant::now(), group.len() > CROWD);
        if committer.commit(&mut group) {
            if crowd {
                gather = (began.elapsed() / GATHER_PART).min(GATHER_MAX);
            }
            group.clear();
            committer.state.lock().queue().attended = false;
            pause = RETRY_PAUSE;
        } else {
            let mut state = committer.state.lock();
            if state.queue().closing {
                state.queue().items.clear();
                return;
            }
            committer.wake.wait_for(&mut state, pause);
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }
}

fn write_group(db: &Connection, group: &[Item]) -> rusqlite::Result<()> {
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let written = Writer::new(db)
        .and_then(|mut writer| group.iter().try_for_each(|item| item.record.write(&mut writer)))
        .and_then(|()| db.prepare_cached("COMMIT")?.execute([]).map(|_| ()));
    if written.is_err() && !db.is_autocommit() {
        // Some errors end the transaction by themselves; where one did not, nothing of the group may stay.
        db.execute_batch("ROLLBACK")?;
    }
    written
}
