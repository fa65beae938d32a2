//! An engine as the data path sees it: everything that it asks is judged, and where a bug is planted, bent.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Amounts, Scope, Spender};
use tollgate_domain::{IdCipher, Timestamp};
use tollgate_engine::doctor::{Report, Sighting};
use tollgate_engine::{Changed, Corrected, Found, Ground, Row, State, Statement, Value};
use tollgate_store::{Admission, Outcome, Raise, Reservation, Reserve, Settled, Settlement, StoreError};

use crate::bugs::Bug;
use crate::core::Core;
use crate::data::{ChatId, Later};
use crate::oracle::{Checked, Watch, broken, least};

/// What chats watch is kept behind what people do.
const WATCHES: usize = 1 << 32;

/// See the module.
#[derive(Clone)]
pub struct Watched<G> {
    inner: G,
    core: Arc<Mutex<Core>>,
    /// Whether the engine decides on what is not written yet.
    ahead: bool,
}

/// An intent that is under way, or was given up.
struct Under {
    core: Arc<Mutex<Core>>,
    watch: Option<usize>,
    answered: bool,
    /// Whether it may explain a refusal while nobody knows its fate.
    murky: bool,
}

impl Drop for Under {
    fn drop(&mut self) {
        let mut core = self.core.lock();
        core.data.busy -= 1;
        if let Some(watch) = self.watch {
            core.oracle.watches.remove(&watch);
        }
        if !self.answered && self.murky {
            core.murky();
        }
    }
}

impl<G: Ground + Clone> Watched<G> {
    pub const fn new(inner: G, core: Arc<Mutex<Core>>, ahead: bool) -> Self {
        Self { inner, core, ahead }
    }

    fn under(&self, watch: Option<(usize, Watch)>, murky: bool) -> Under {
        let mut core = self.core.lock();
        core.data.busy += 1;
        let number = watch.as_ref().map(|(number, _)| *number);
        if let Some((number, watch)) = watch {
            core.oracle.watch(number, watch);
        }
        Under { core: Arc::clone(&self.core), watch: number, answered: false, murky: murky || self.ahead }
    }

    /// A bug: granted before it is, by what it will hold.
    fn granted_early(&self, want: &Reserve) -> Admission {
        let cap = want.bound.cap.least();
        let hold = want.tariff.charge(want.bound.picos_at(cap)).unwrap_or_default();
        let admitted_at = self.inner.glance(|_, now| now);
        let id = self.inner.cipher().id(want.row, admitted_at);
        let (inner, want) = (self.inner.clone(), *want);
        #[expect(clippy::disallowed_methods, reason = "it is a bug")]
        tokio::spawn(async move { inner.reserve(want).await.is_ok() });
        Admission::Granted(Reservation { row: want.row, id, key: want.key, admitted_at, hold, cap })
    }

    /// What a bug makes of a settlement.
    fn bent(&self, mut settlement: Settlement) -> Settlement {
        let core = self.core.lock();
        let left = settlement.facts.cancelled;
        if core.has(Bug::ReleasedOnHangUp) && left {
            (settlement.outcome, settlement.charge) = (Outcome::Released, Amounts::default());
        }
        if core.has(Bug::OldestPrice)
            && let Some(oldest) = core.data.versions.keys().next()
        {
            settlement.price.0 = *oldest;
        }
        settlement
    }
}

/// Whether the answer to a reservation of the data path may be.
fn judge(core: &mut Core, number: usize, want: &Reserve, answer: &Result<Admission, StoreError>) -> Checked {
    let row = want.row;
    if matches!(answer, Ok(Admission::Rejected(_))) {
        // A node may know of a later time than that at which its batch was loaded.
        let now = core.wall();
        core.oracle.look_at(now);
    }
    let watch = core.oracle.watches.get(&number);
    let (refusable, rejectable) = match watch {
        Some(Watch::Reserve { refusable, rejectable, .. }) => (*refusable, *rejectable),
        _ => (true, true),
    };
    match answer {
        Ok(Admission::Granted(reservation)) => {
            core.count("granted");
            let Reservation { id, hold, admitted_at, .. } = reservation;
            core.data.later(Later::Granted(row, *hold, *admitted_at));
            let chat = core.data.current;
            core.data.granted(chat, row, id.as_str(), *hold)
        }
        Ok(Admission::Refused(refusal)) => {
            core.count("refused");
            if refusable || core.is_murky() {
                return Ok(());
            }
            broken!("1 none is refused that fits", "generation {}: {refusal:?}", row.0)
        }
        Ok(Admission::Rejected(why)) => {
            core.count("rejected");
            if rejectable {
                return Ok(());
            }
            broken!("1 none is refused that fits", "generation {}: {why}", row.0)
        }
        Err(_) => {
            core.count("unanswered");
            core.murky();
            Ok(())
        }
    }
}

impl<G: Ground + Clone> Ground for Watched<G> {
    async fn reserve(&self, want: Reserve) -> Result<Admission, StoreError> {
        let chat: Option<ChatId> = self.core.lock().data.current;
        let number = WATCHES + usize::try_from(chat.unwrap_or_default()).unwrap_or_default();
        {
            let mut core = self.core.lock();
            core.oracle.asks(want.row, want.secret);
            core.note("reserve", chat.unwrap_or_default(), || format!("generation {}: {want:?}", want.row.0));
        }
        let watch = Watch::Reserve {
            key: want.key,
            secret: want.secret,
            least: least(&want.bound, want.tariff),
            refusable: want.bound.open_ended || self.ahead,
            rejectable: self.ahead,
        };
        let mut under = self.under(Some((number, watch)), true);
        let early = self.core.lock().has(Bug::SentBeforeHeld);
        let answer = if early { Ok(self.granted_early(&want)) } else { self.inner.reserve(want).await };
        under.answered = true;
        let mut core = self.core.lock();
        core.note("told-reserve", chat.unwrap_or_default(), || format!("generation {}: {answer:?}", want.row.0));
        let checked = judge(&mut core, number, &want, &answer);
        core.check(checked);
        drop(core);
        answer
    }

    async fn raise(&self, raise: Raise) -> Result<bool, StoreError> {
        let (row, to) = (raise.row, raise.to);
        let mut under = self.under(None, true);
        self.core.lock().note("raise", row.0.unsigned_abs(), || format!("generation {} to {to:?}", row.0));
        let forgotten = self.core.lock().has(Bug::ForgottenRaise);
        let answer = if forgotten { Ok(true) } else { self.inner.raise(raise).await };
        under.answered = true;
        let mut core = self.core.lock();
        core.note("told-raise", row.0.unsigned_abs(), || format!("generation {}: {answer:?}", row.0));
        if matches!(answer, Ok(true)) {
            core.data.raised(row, to);
            if !forgotten {
                core.data.later(Later::Raised(row, to));
            }
        }
        drop(core);
        answer
    }

    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        let settlement = self.bent(settlement);
        let (row, charge) = (settlement.row, settlement.charge);
        let now = Instant::now();
        let (forgotten, early) = {
            let mut core = self.core.lock();
            core.note("settle", row.0.unsigned_abs(), || format!("generation {}: {settlement:?}", row.0));
            core.settles(&settlement, now);
            (core.has(Bug::ForgottenFlight) && settlement.facts.cancelled, core.has(Bug::ToldBeforeSettled))
        };
        if forgotten {
            return Ok(Settled { charge, first: true });
        }
        if early {
            let inner = self.inner.clone();
            #[expect(clippy::disallowed_methods, reason = "it is a bug")]
            tokio::spawn(async move { inner.settle(settlement).await.is_ok() });
            return Ok(Settled { charge, first: true });
        }
        let mut under = self.under(None, false);
        let answer = self.inner.settle(settlement).await;
        under.answered = true;
        let mut core = self.core.lock();
        core.note("told-settle", row.0.unsigned_abs(), || format!("generation {}: {answer:?}", row.0));
        match &answer {
            Ok(settled) => core.data.later(Later::Settled(row, *settled)),
            Err(error) => {
                let checked = crate::sim::sound(error);
                core.check(checked);
            }
        }
        drop(core);
        answer
    }

    async fn change<T: Send, R: Send>(
        &self,
        sums: impl FnMut(&mut State, Timestamp) -> Vec<Scope> + Send,
        act: impl FnOnce(&mut State, Timestamp) -> Changed<T, R> + Send,
    ) -> Result<Result<T, R>, StoreError> {
        self.inner.change(sums, act).await
    }

    async fn look<T: Send>(
        &self,
        sums: impl FnMut(&mut State, Timestamp) -> Vec<Scope> + Send,
        view: impl FnOnce(&mut State, Timestamp) -> T + Send,
    ) -> Result<T, StoreError> {
        self.inner.look(sums, view).await
    }

    fn glance<T>(&self, view: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        self.inner.glance(view)
    }

    async fn query(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.inner.query(sql, values).await
    }

    async fn written(&self) -> Result<(), StoreError> {
        self.inner.written().await
    }

    async fn summed_up(&self) -> Result<(), StoreError> {
        self.inner.summed_up().await
    }

    async fn correct<T: Send, R: Send>(
        &self,
        row: GenerationRow,
        act: impl FnOnce(&mut State, Timestamp, Option<Found>) -> Result<(T, Corrected, Vec<Statement>), R> + Send,
    ) -> Result<Result<T, R>, StoreError> {
        self.inner.correct(row, act).await
    }

    async fn charge(&self, settlement: Settlement, spender: Spender) -> Result<(), StoreError> {
        self.inner.charge(settlement, spender).await
    }

    async fn sight(&self) -> Result<Sighting, StoreError> {
        self.inner.sight().await
    }

    async fn mend(&self) -> Result<Report, StoreError> {
        self.inner.mend().await
    }

    async fn accept_clock(&self) -> Result<Timestamp, StoreError> {
        self.inner.accept_clock().await
    }

    fn find_generation(&self) -> &'static str {
        self.inner.find_generation()
    }

    fn cipher(&self) -> &IdCipher {
        self.inner.cipher()
    }

    fn next_generation(&self) -> GenerationRow {
        self.inner.next_generation()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.inner.ready().await
    }
}
