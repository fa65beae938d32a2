//! Decides a batch: a function of the intents, what a node knows, and what was locked and loaded.

use foldhash::{HashMap, HashSet};
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Amounts, Closed, Correction, Open, ReserveOutcome, Scope, Spender};
use tollgate_domain::usage::TokenUsage;
use tollgate_domain::{IdCipher, KeyId, Timestamp, Usd};
use tollgate_engine::{Corrected, Rollups, State, lost};
use tollgate_store::{Admission, Outcome, Raise, Reservation, Reserve, Settled, Settlement, StoreError};

use crate::seam::{Ended, Hold, Identity, Loaded, Share, Wanted, Writes};

/// The reason of a correction that a late settlement makes.
const LATE: &str = "settled after its node was given up";

/// What a batch is made of.
#[derive(Clone, Debug)]
pub enum Intent {
    /// See [`tollgate_store::Ledger::reserve`].
    Reserve(Reserve),
    /// See [`tollgate_store::Ledger::raise`].
    Raise(Raise, Spender),
    /// See [`tollgate_store::Ledger::settle`]. Who spends is found with the hold where it is not known.
    Settle(Box<Settlement>, Option<Spender>),
    /// What a call cost that this ledger never saw begin.
    Charge(Box<Settlement>, Spender),
    /// The end of a hold that no living node owns.
    Expire(GenerationRow, Spender),
}

/// What an intent came to.
#[derive(Debug)]
pub enum Answer {
    /// Of a reservation.
    Admission(Admission),
    /// Of a raise.
    Raised(bool),
    /// Of a settlement.
    Settled(Settled),
    /// Of an expiry.
    Expired,
    /// It cannot be done, whatever becomes of the others.
    Fault(StoreError),
}

impl Intent {
    /// The generation.
    pub fn row(&self) -> GenerationRow {
        match self {
            Self::Reserve(want) => want.row,
            Self::Raise(raise, _) => raise.row,
            Self::Settle(settlement, _) | Self::Charge(settlement, _) => settlement.row,
            Self::Expire(row, _) => *row,
        }
    }

    /// Whether whoever waits would rather hear of the first failure than have it done late.
    pub const fn is_impatient(&self) -> bool {
        matches!(self, Self::Reserve(_) | Self::Raise(..))
    }

    /// Takes whoever spends from what was loaded: a key may have moved before its call was admitted.
    pub fn correct_spender(&mut self, holders: &HashMap<GenerationRow, Spender>) {
        if let Some(holder) = holders.get(&self.row()) {
            match self {
                Self::Reserve(_) | Self::Charge(..) => {}
                Self::Raise(_, spender) | Self::Expire(_, spender) => *spender = *holder,
                Self::Settle(_, spender) => *spender = Some(*holder),
            }
        }
    }

    fn scopes(&self, state: &State) -> Vec<Scope> {
        match self {
            Self::Reserve(want) => state.book.key(want.key).map(|account| spender(&account.key)),
            Self::Raise(_, spender) | Self::Charge(_, spender) | Self::Expire(_, spender) => Some(*spender),
            Self::Settle(_, spender) => *spender,
        }
        .into_iter()
        .flat_map(|spender| spender.scopes())
        .collect()
    }
}

/// Whose money a key spends.
pub fn spender(key: &tollgate_domain::Key) -> Spender {
    Spender { key: key.id, workspace: key.workspace, member: key.creator }
}

/// Where a scope is booked, by what management says of it.
pub fn share(state: &State, scope: Scope) -> Share {
    let key = if let Scope::Key(id) = scope { state.book.key(id).map(|account| &account.key) } else { None };
    if state.book.rules.limits(scope, key) { Share::Common } else { Share::Own }
}

/// What must be locked and seen before `intents` are decided.
pub fn wanted<'a>(intents: impl Iterator<Item = &'a Intent>, state: &State, node: Identity, known: i64) -> Wanted {
    let (mut scopes, mut rows) = (Vec::new(), Vec::new());
    for intent in intents {
        scopes.extend(intent.scopes(state));
        rows.push(intent.row());
    }
    scopes.sort();
    scopes.dedup();
    rows.sort();
    rows.dedup();
    let scopes = scopes.into_iter().map(|scope| (scope, share(state, scope))).collect();
    Wanted { node, known, scopes, rows }
}

/// The batch as it is decided.
struct Deciding<'a> {
    state: &'a mut State,
    cipher: &'a IdCipher,
    now: Timestamp,
    /// Refuses what is new while the clock cannot be trusted.
    jumped: Option<i64>,
    boot: crate::seam::Boot,
    locked: &'a [(Scope, Share)],
    before: HashMap<GenerationRow, Hold>,
    ended: HashMap<GenerationRow, Ended>,
    holds: HashMap<GenerationRow, Hold>,
    settled: HashMap<GenerationRow, Amounts>,
    late: HashSet<GenerationRow>,
    used: HashMap<KeyId, Timestamp>,
    rollups: Rollups,
    writes: Writes,
}

/// Decides `intents`, in their order. `repeated` says of each whether it may be in the database already, by an earlier try.
pub fn decide(
    intents: &[(Intent, bool)],
    state: &mut State,
    cipher: &IdCipher,
    wanted: &Wanted,
    loaded: Loaded,
    now: Timestamp,
    jumped: Option<i64>,
) -> (Vec<Answer>, Writes) {
    state.book.forget_reservations();
    for ((scope, _), parts) in wanted.scopes.iter().zip(&loaded.balances) {
        if let Some(balance) = state.book.balance_mut(*scope) {
            *balance = parts.locked.plus(&parts.rest);
        }
    }
    for (row, hold) in &loaded.holds {
        state.book.know_open(*row, hold.open.clone());
    }
    for (row, _) in &loaded.ended {
        state.book.know_closed(*row);
    }
    let mut deciding = Deciding {
        state,
        cipher,
        now,
        jumped,
        boot: wanted.node.boot,
        locked: &wanted.scopes,
        before: loaded.holds.into_iter().collect(),
        ended: loaded.ended.into_iter().collect(),
        holds: HashMap::default(),
        settled: HashMap::default(),
        late: HashSet::default(),
        used: HashMap::default(),
        rollups: Rollups::default(),
        writes: Writes { now, ..Writes::default() },
    };
    let answers = intents.iter().map(|(intent, repeated)| deciding.answer(intent, *repeated)).collect();
    // Last: what a call cost that settles here counts, and not what it held.
    for (intent, _) in intents {
        if let Intent::Expire(row, _) = intent {
            deciding.expire(*row);
        }
    }
    let Deciding { state, mut writes, before, holds, used, mut rollups, .. } = deciding;
    for ((scope, share), parts) in wanted.scopes.iter().zip(&loaded.balances) {
        let Some(sum) = state.book.balance(*scope) else { continue };
        let locked = sum.without(&parts.rest);
        let used_at = if let Scope::Key(key) = scope { parts.used_at.max(used.get(key).copied()) } else { None };
        if locked != parts.locked || used_at != parts.used_at {
            writes.balances.push((*scope, *share, locked, used_at));
        }
    }
    writes.holds = holds.into_iter().filter(|(row, hold)| before.get(row) != Some(hold)).collect();
    writes.holds.sort_by_key(|(row, _)| *row);
    writes.rollups = rollups.take();
    writes.rollups.sort_by_key(|(place, _)| *place);
    state.book.forget_reservations();
    (answers, writes)
}

impl Deciding<'_> {
    fn answer(&mut self, intent: &Intent, repeated: bool) -> Answer {
        match intent {
            Intent::Reserve(want) => self.reserve(want),
            Intent::Raise(raise, _) => self.raise(raise),
            Intent::Settle(settlement, _) => self.settle(settlement, repeated),
            Intent::Charge(settlement, spender) => self.charge(settlement, *spender),
            Intent::Expire(..) => Answer::Expired,
        }
    }

    fn reserve(&mut self, want: &Reserve) -> Answer {
        if let Some(jump_seconds) = self.jumped {
            return Answer::Fault(StoreError::ClockJumped { jump_seconds });
        }
        if crate::seam::Boot::of(want.row) != self.boot {
            // Nobody would end it if this node died now.
            return Answer::Fault(StoreError::Unavailable(
                "this node was given up by the others and began anew".to_owned(),
            ));
        }
        if let Err(closed) = self.state.check_open() {
            return Answer::Fault(closed);
        }
        if !self.all_locked(want.key) {
            return Answer::Fault(StoreError::Corrupt(
                "a budget would be decided on a balance that is not locked".to_owned(),
            ));
        }
        // What an earlier try granted is held, whatever became of its secret since.
        if !self.before.contains_key(&want.row)
            && let Err(rejected) = self.state.check_secret(want, self.now)
        {
            return Answer::Admission(Admission::Rejected(rejected));
        }
        let admission = match self.state.book.reserve(want.row, want.key, &want.bound, want.tariff, self.now) {
            Err(error) => return Answer::Fault(error.into()),
            Ok(ReserveOutcome::AlreadyClosed) => return Answer::Fault(StoreError::Uncertain),
            Ok(ReserveOutcome::Refused(refusal)) => Admission::Refused(refusal),
            Ok(ReserveOutcome::Rejected(rejected)) => Admission::Rejected(rejected),
            Ok(ReserveOutcome::Granted { hold, cap }) => {
                let Some(open) = self.state.book.open_at(want.row).cloned() else {
                    return Answer::Fault(StoreError::Corrupt("a granted reservation is not open".to_owned()));
                };
                let admitted_at = open.admitted_at;
                let price = self.before.get(&want.row).map_or(want.price, |before| before.price);
                self.holds.insert(want.row, Hold { open, price });
                let id = self.cipher.id(want.row, admitted_at);
                Admission::Granted(Reservation { row: want.row, id, key: want.key, admitted_at, hold, cap })
            }
        };
        Answer::Admission(admission)
    }

    /// Whether every balance that a budget of the key counts is locked. Nothing else may be decided on.
    fn all_locked(&self, key: KeyId) -> bool {
        let Some(account) = self.state.book.key(key) else { return true };
        let budgets = self.state.book.rules.budgets_of(&account.key, self.now);
        budgets.iter().all(|(_, scope)| self.locked.contains(&(*scope, Share::Common)))
    }

    fn raise(&mut self, raise: &Raise) -> Answer {
        if let Some(jump_seconds) = self.jumped {
            return Answer::Fault(StoreError::ClockJumped { jump_seconds });
        }
        let Raise { row, to, open_ended, price } = *raise;
        let raised = self.state.book.raise(row, to, open_ended, self.now);
        if raised && let Some(open) = self.state.book.open_at(row).cloned() {
            self.holds.insert(row, Hold { open, price });
        }
        Answer::Raised(raised)
    }

    fn settle(&mut self, settlement: &Settlement, repeated: bool) -> Answer {
        let (row, charge) = (settlement.row, settlement.charge);
        if let Closed::Now(open) = self.state.book.settle(row, charge) {
            self.end(settlement.clone(), open);
            return Answer::Settled(Settled { charge, first: true });
        }
        if let Some(charge) = self.settled.get(&row) {
            return Answer::Settled(Settled { charge: *charge, first: false });
        }
        let Some(ended) = self.ended.get(&row).cloned() else {
            // Nobody waits for the release of a hold whose fate was unknown, and that never came to be.
            let never = "a generation was settled that was never reserved";
            return Answer::Fault(StoreError::Corrupt(never.to_owned()));
        };
        if ended.outcome == Outcome::Lost && !ended.late && settlement.outcome != Outcome::Lost && self.late.insert(row)
        {
            self.settle_late(settlement, &ended);
            return Answer::Settled(Settled { charge, first: true });
        }
        // By an earlier try of this very settlement, or by another one.
        Answer::Settled(Settled { charge: ended.charge, first: repeated && ended.charge == charge })
    }

    /// What was booked as lost was not: its true cost replaces the charge.
    fn settle_late(&mut self, settlement: &Settlement, ended: &Ended) {
        let less = |one: Usd, other: Usd| Usd::left_of(one, other);
        let amounts = Amounts {
            credits: less(settlement.charge.credits, ended.charge.credits),
            byok: less(settlement.charge.byok, ended.charge.byok),
        };
        let Open { spender, admitted_at, .. } = ended.open;
        let correction = Correction { spender, admitted_at, amounts };
        self.state.book.correct(&correction);
        self.rollups.correct(&spender, admitted_at, ended.price, amounts);
        self.settled.insert(settlement.row, settlement.charge);
        let corrected = Corrected { row: settlement.row, correction, price: ended.price, reason: LATE.to_owned() };
        self.writes.late.push((settlement.clone(), corrected));
    }

    fn charge(&mut self, settlement: &Settlement, spender: Spender) -> Answer {
        let (row, charge) = (settlement.row, settlement.charge);
        if !self.ended.contains_key(&row) {
            let open = Open { spender, admitted_at: self.now, hold: Amounts::default() };
            self.state.book.know_open(row, open.clone());
            self.state.book.settle(row, charge);
            self.end(settlement.clone(), open);
        }
        Answer::Settled(Settled { charge, first: true })
    }

    fn expire(&mut self, row: GenerationRow) {
        if let Some(open) = self.state.book.open_at(row).cloned()
            && let Some(hold) = self.holds.get(&row).or_else(|| self.before.get(&row))
        {
            let settlement = lost(row, open.hold, hold.price);
            self.state.book.settle(row, settlement.charge);
            self.end(settlement, open);
        }
    }

    fn end(&mut self, settlement: Settlement, open: Open) {
        self.holds.remove(&settlement.row);
        self.settled.insert(settlement.row, settlement.charge);
        if settlement.outcome != Outcome::Released {
            let used = self.used.entry(open.spender.key).or_insert(open.admitted_at);
            *used = (*used).max(open.admitted_at);
            let tokens = settlement.metered.as_ref().map_or_else(TokenUsage::default, |metered| *metered.tokens());
            self.rollups.charge(&open.spender, open.admitted_at, settlement.price, &tokens, settlement.charge);
        }
        self.writes.settlements.push((settlement, open));
    }
}
