//! An engine: concurrent callers hold and settle calls of one key that has a limit.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::key::{CallLimits, NewKey};
use tollgate_domain::ledger::{Amounts, Tariff};
use tollgate_domain::model::PriceVersion;
use tollgate_domain::pricing::{Bound, Cost, OutputCap};
use tollgate_domain::usage::{Metered, TokenUsage};
use tollgate_domain::{KeyHash, KeyId, Price, Usd};
use tollgate_store::{
    Actor, Admission, Clock, Ledger, Outcome, Reserve, Settlement, SettlementFacts, Store, SystemClock, WorkspaceRef,
};
use tollgate_store_sqlite::{Durability, Options};

use crate::window::{Tally, Window};

const KEY: &str = "bench";
const LIMIT: Usd = Usd::from_nanos(1_000_000_000_000_000);
const BOUND: Usd = Usd::from_nanos(400_000);
const COST: Usd = Usd::from_nanos(150_000);

/// Opens the embedded engine on a file of its own in `folder`.
pub fn embedded(folder: &Path, durability: Durability) -> Result<Arc<dyn Store>> {
    let (path, clock) = (folder.join("tollgate.db"), Arc::new(SystemClock));
    let options = Options { path, durability, clock, seed: [7; 32], token: [8; 32], refuse_commits: None };
    Ok(Arc::new(tollgate_store_sqlite::open(options)?))
}

/// A node on PostgreSQL.
pub async fn node(url: &str) -> Result<Arc<dyn Store>> {
    let clock = Arc::new(SystemClock);
    let options = tollgate_store_postgres::Options {
        url: url.to_owned(),
        seed: [7; 32],
        now: SystemClock.read().wall,
        without_fsync: false,
    };
    Ok(Arc::new(tollgate_store_postgres::open(options, clock).await?))
}

/// The key that all callers spend with, on whichever node: created where it is not there yet.
pub async fn key(store: &dyn Store) -> Result<KeyId> {
    let hash = KeyHash::of(KEY);
    if let Some(view) = store.key(&hash).await? {
        return Ok(view.key.id);
    }
    let workspace = store.workspace(&WorkspaceRef::Default).await?.context("there is no workspace")?;
    let key = NewKey {
        hash,
        name: KEY.to_owned(),
        label: KEY.to_owned(),
        workspace: workspace.id,
        limit: Some(LIMIT),
        limit_reset: None,
        include_byok_in_limit: false,
        expires_at: None,
        creator: None,
        external_user: None,
        call_limits: CallLimits::default(),
        allowed_models: None,
    };
    if let Ok(created) = store.create_keys(vec![key], Actor::Operator.into()).await {
        let created = created.context("the workspace refuses a key")?;
        return Ok(created.first().context("no key was created")?.key.id);
    }
    // Another node was faster.
    Ok(store.key(&hash).await?.context("there is no key")?.key.id)
}

/// Has `callers` hold and settle, each one call after the other.
pub async fn measure(ledger: Arc<dyn Ledger>, key: KeyId, callers: usize, window: Window) -> Result<Tally> {
    let mut running = JoinSet::new();
    for _ in 0..callers {
        running.spawn(call(Arc::clone(&ledger), key, window));
    }
    let mut sum = Tally::default();
    while let Some(tally) = running.join_next().await {
        sum = sum.and(tally??);
    }
    Ok(sum)
}

async fn call(ledger: Arc<dyn Ledger>, key: KeyId, window: Window) -> Result<Tally> {
    let mut tally = Tally::default();
    let cap = OutputCap::Asked(1);
    let fixed_picos = BOUND.picos();
    let bound = Bound { prompt_tokens: 0, fixed_picos, completion: Price::ZERO, choices: 1, cap, open_ended: false };
    while !window.is_over() {
        let row = ledger.next_generation();
        let want = Reserve { row, key, secret: None, price: PriceVersion(1), bound, tariff: Tariff::Credits };
        let admission = ledger.reserve(want).await?;
        ensure!(matches!(admission, Admission::Granted(_)), "not admitted: {admission:?}");
        let settled = ledger.settle(settlement(row)).await?;
        ensure!(settled.first && settled.charge == Amounts::credits(COST), "not settled: {settled:?}");
        tally.add(1, &window);
    }
    Ok(tally)
}

fn settlement(row: GenerationRow) -> Settlement {
    Settlement {
        row,
        outcome: Outcome::Settled,
        charge: Amounts::credits(COST),
        cost: Cost { total: COST, prompt: Usd::ZERO, completion: COST },
        metered: Some(Metered::Known(TokenUsage { prompt: 300, completion: 100, ..TokenUsage::default() })),
        price: PriceVersion(1),
        facts: SettlementFacts::default(),
    }
}

/// Fails unless every pair is in the books, and nothing is held if nobody else spends.
pub async fn check(store: &dyn Store, pairs: u64, alone: bool) -> Result<()> {
    let view = store.key(&KeyHash::of(KEY)).await?.context("the key is gone")?;
    let budget = view.budgets.first().context("the key has no limit")?;
    let (spent, own) = (budget.spent.nanos(), COST.nanos() * i64::try_from(pairs)?);
    let right = if alone { spent == own && budget.held == Usd::ZERO } else { spent >= own };
    ensure!(right, "{pairs} pairs are {own} nano-dollars, and the key says {budget:?}");
    Ok(())
}
