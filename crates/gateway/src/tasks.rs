//! Tasks that shutdown waits for.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Starts background tasks and knows when all have ended.
#[derive(Clone, Debug)]
pub struct Tasks {
    running: Arc<watch::Sender<usize>>,
    hurry: Arc<watch::Sender<bool>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { running: Arc::new(watch::Sender::new(0)), hurry: Arc::new(watch::Sender::new(false)) }
    }
}

/// Streams of an HTTP/2 connection are tasks too.
impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}

struct Running(Arc<watch::Sender<usize>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running = running.saturating_sub(1));
    }
}

impl Tasks {
    /// Starts `task`, if a runtime is still there to run it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        self.running.send_modify(|running| *running = running.saturating_add(1));
        let guard = Running(Arc::clone(&self.running));
        runtime.spawn(async move {
            let _guard = guard;
            task.await;
        });
    }

    /// Resolves when tasks are asked to come to an end.
    pub async fn hurried(&self) {
        let mut hurry = self.hurry.subscribe();
        // An error means that nobody can ask any more, which `self` rules out.
        let _ = hurry.wait_for(|hurry| *hurry).await;
    }

    /// Waits until all tasks have ended; after `grace` asks them to hurry, and waits `last` more. Whether all ended.
    pub async fn finish(&self, grace: Duration, last: Duration) -> bool {
        let mut running = self.running.subscribe();
        if tokio::time::timeout(grace, running.wait_for(|running| *running == 0)).await.is_ok() {
            return true;
        }
        self.hurry.send_replace(true);
        tracing::warn!(tasks = *running.borrow(), "the grace period is over; what is under way is cut off and settled");
        tokio::time::timeout(last, running.wait_for(|running| *running == 0)).await.is_ok()
    }
}
