//! The scheduler's own threads, tasks and locks, in the shape that the committer uses.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

pub use shuttle::future::yield_now;
pub use shuttle::sync::atomic::AtomicBool;
pub use shuttle::sync::mpsc::sync_channel as channel;
pub use shuttle::sync::{Arc, Weak};

pub mod thread {
    pub use shuttle::thread::*;

    /// Others come first.
    pub fn sleep(_: std::time::Duration) {
        yield_now();
    }
}

/// A wait of this length is one that somebody is to end.
const IDLE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

pub struct Guard<'a, T> {
    lock: &'a Mutex<T>,
    held: Option<shuttle::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> Guard<'_, T> {
        Guard { lock: self, held: Some(self.0.lock().unwrap()) }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().unwrap()
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().unwrap()
    }
}

#[derive(Debug)]
pub struct Condvar(shuttle::sync::Condvar);

impl Condvar {
    pub fn new() -> Self {
        Self(shuttle::sync::Condvar::new())
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    /// A pause passes. An idle wait does not, so that one which nobody ends shows as a deadlock.
    pub fn wait_for<T>(&self, guard: &mut Guard<'_, T>, limit: Duration) {
        let held = guard.held.take().unwrap();
        guard.held = Some(if limit >= IDLE {
            self.0.wait(held).unwrap()
        } else {
            drop(held);
            thread::yield_now();
            guard.lock.0.lock().unwrap()
        });
    }
}

pub async fn sleep(_: Duration) {
    yield_now().await;
}

pub fn detach(task: impl Future<Output = ()> + Send + 'static) {
    shuttle::future::spawn(task);
}
