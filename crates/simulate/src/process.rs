//! A process: its own runtime with its own time, and a store in it. Dropping the runtime is its death.

use std::time::Duration;

use tokio::runtime::Runtime;
use tollgate_app::App;
use tollgate_gateway::Gateway;
use tollgate_store_postgres::Node;
use tollgate_store_sqlite::SqliteStore;

use crate::acts::Shared;
use crate::seam::Link;

/// What is in a process besides its store.
pub enum Inside {
    Node(Node<Link>),
    Embedded(SqliteStore),
}

/// The data path of a process, and the product that it looks keys up in.
#[derive(Clone)]
pub struct Gate {
    pub app: App,
    pub gateway: Gateway,
}

/// See the module.
#[derive(Default)]
pub struct Process {
    pub runtime: Option<Runtime>,
    pub store: Option<Shared>,
    pub inside: Option<Inside>,
    /// Where calls go through the data path.
    pub gate: Option<Gate>,
    /// Until when its timers were looked at.
    pub driven: u64,
    pub paused: bool,
    /// How often it was started.
    pub life: u64,
}

impl Process {
    /// A runtime that begins now.
    pub fn boot(&mut self, now: u64) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        self.runtime = Some(runtime);
        self.driven = now;
        self.paused = false;
        self.life += 1;
        Ok(())
    }

    /// Lets tasks run that have something to do, and timers fire that are due.
    pub fn drive(&mut self, now: u64) {
        let Some(runtime) = self.runtime.as_ref().filter(|_| !self.paused) else { return };
        let passed = Duration::from_micros(now.saturating_sub(self.driven));
        self.driven = now;
        runtime.block_on(async {
            if passed > Duration::ZERO {
                tokio::time::advance(passed).await;
            }
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        });
    }
}
