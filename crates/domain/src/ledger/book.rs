//! The ledger of one account, whole and in memory: keys, balances and open reservations.
//!
//! The embedded engine keeps one of these under a lock and writes down what it decided, in the order in which it decided.
//! Every intent is idempotent by the generation's row: a repeat changes nothing.

use foldhash::{HashMap, HashSet};

use super::closed::ClosedRows;
use super::{Amounts, Balance, BudgetState, Decision, MoneyKind, Refusal, Rules, decide};
use crate::generation::GenerationRow;
use crate::key::{Key, KeyChange, KeyId, KeyRejected};
use crate::member::MemberId;
use crate::money::MoneyError;
use crate::pricing::Bound;
use crate::time::{WindowKind, Windows};
use crate::workspace::WorkspaceId;
use crate::{Timestamp, Usd};

/// Whose balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The account: everything in one database.
    Account,
    /// A workspace.
    Workspace(WorkspaceId),
    /// A key.
    Key(KeyId),
    /// A member, in all workspaces.
    Member(MemberId),
}

/// Whose money a call spends: each of them has a balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spender {
    /// The key.
    pub key: KeyId,
    /// The workspace that the key was in at admission.
    pub workspace: WorkspaceId,
    /// The member who created the key.
    pub member: Option<MemberId>,
}

impl Spender {
    fn scopes(&self) -> impl Iterator<Item = Scope> + use<> {
        let owners = [Scope::Account, Scope::Workspace(self.workspace), Scope::Key(self.key)];
        owners.into_iter().chain(self.member.map(Scope::Member))
    }
}

/// A key with its balance.
#[derive(Clone, Debug)]
pub struct KeyAccount {
    /// The key.
    pub key: Key,
    /// What it spent and holds.
    pub balance: Balance,
    /// The admission of the newest call that settled.
    pub last_used_at: Option<Timestamp>,
}

/// An open reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Who spends.
    pub spender: Spender,
    /// When it was admitted; it is booked in the windows of this instant.
    pub admitted_at: Timestamp,
    /// What is held.
    pub hold: Amounts,
}

/// What a reservation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReserveOutcome {
    /// Held, or already held by the same intent.
    Granted {
        /// What is held.
        hold: Usd,
        /// The output cap in tokens a choice.
        cap: u64,
    },
    /// A budget refuses.
    Refused(Refusal),
    /// The key may not be used.
    Rejected(KeyRejected),
    /// The generation has ended, perhaps before it began; nothing is held.
    AlreadyClosed,
}

/// What closing a reservation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It was open; it no longer is.
    Now(Open),
    /// It was not open: closed before, or never opened. A later `reserve` of the same row will hold nothing.
    NotOpen,
}

/// A correction of a generation that was booked before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Correction {
    /// Who was charged.
    pub spender: Spender,
    /// The admission of the generation: the windows that the change is booked in.
    pub admitted_at: Timestamp,
    /// What to add; negative gives back.
    pub amounts: Amounts,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Book {
    account: Balance,
    workspaces: HashMap<WorkspaceId, Balance>,
    members: HashMap<MemberId, Balance>,
    keys: HashMap<KeyId, KeyAccount>,
    open: HashMap<GenerationRow, Open>,
    closed: ClosedRows,
    dirty: HashSet<Scope>,
    /// What limits spending besides the keys' own limits.
    pub rules: Rules,
}

impl Book {
    /// Adds a key with an empty balance, or replaces one that was stored.
    pub fn insert_key(&mut self, key: Key) {
        let account = KeyAccount { key, balance: Balance::default(), last_used_at: None };
        self.keys.insert(account.key.id, account);
    }

    /// The key and its balance.
    pub fn key(&self, id: KeyId) -> Option<&KeyAccount> {
        self.keys.get(&id)
    }

    /// Applies a change to a key and returns the key after it.
    pub fn change_key(&mut self, id: KeyId, change: KeyChange, now: Timestamp) -> Option<Key> {
        let account = self.keys.get_mut(&id)?;
        account.key = account.key.apply(change, now);
        Some(account.key.clone())
    }

    /// Puts another version in the place of a key. What it spent and holds stays.
    pub fn replace_key(&mut self, key: Key) {
        if let Some(account) = self.keys.get_mut(&key.id) {
            account.key = key;
        }
    }

    /// Forgets a key. What it has in flight still settles, on the workspace and the account.
    pub fn remove_key(&mut self, id: KeyId) -> Option<KeyAccount> {
        self.dirty.remove(&Scope::Key(id));
        self.keys.remove(&id)
    }

    /// The balance of a scope, if it has one.
    pub fn balance(&self, scope: Scope) -> Option<&Balance> {
        match scope {
            Scope::Account => Some(&self.account),
            Scope::Workspace(id) => self.workspaces.get(&id),
            Scope::Member(id) => self.members.get(&id),
            Scope::Key(id) => self.keys.get(&id).map(|account| &account.balance),
        }
    }

    /// The balance of a scope, for restoring what was written down; `None` for a key that is gone.
    pub fn balance_mut(&mut self, scope: Scope) -> Option<&mut Balance> {
        match scope {
            Scope::Account => Some(&mut self.account),
            Scope::Workspace(id) => Some(self.workspaces.entry(id).or_default()),
            Scope::Member(id) => Some(self.members.entry(id).or_default()),
            Scope::Key(id) => self.keys.get_mut(&id).map(|account| &mut account.balance),
        }
    }

    /// Marks when a key was last used.
    pub fn touch_key(&mut self, id: KeyId, at: Timestamp) {
        if let Some(account) = self.keys.get_mut(&id) {
            account.last_used_at = account.last_used_at.max(Some(at));
        }
    }

    /// The open reservations.
    pub fn open(&self) -> impl Iterator<Item = (GenerationRow, &Open)> {
        self.open.iter().map(|(row, open)| (*row, open))
    }

    /// How many reservations are open.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// An open reservation.
    pub fn open_at(&self, row: GenerationRow) -> Option<&Open> {
        self.open.get(&row)
    }

    /// The scopes whose balances changed since this was last asked.
    pub fn take_dirty(&mut self) -> Vec<Scope> {
        self.dirty.drain().collect()
    }

    /// The budgets that apply to a key at `now`, in enforcement order.
    pub fn budgets(&self, id: KeyId, now: Timestamp) -> Vec<BudgetState> {
        let Some(account) = self.keys.get(&id) else { return Vec::new() };
        let windows = Windows::at(now);
        let nothing = Balance::default();
        let state = |(budget, scope)| BudgetState::of(budget, self.balance(scope).unwrap_or(&nothing), now, &windows);
        self.rules.budgets_of(&account.key).into_iter().map(state).collect()
    }

    /// Holds the bound of a call, if its key is usable and every budget has room.
    ///
    /// # Errors
    /// [`MoneyError::TooLarge`]: the bound does not fit an amount of money.
    pub fn reserve(
        &mut self,
        row: GenerationRow,
        key: KeyId,
        bound: &Bound,
        kind: MoneyKind,
        now: Timestamp,
    ) -> Result<ReserveOutcome, MoneyError> {
        if self.closed.contains(row) {
            return Ok(ReserveOutcome::AlreadyClosed);
        }
        if let Some(open) = self.open.get(&row) {
            let hold = open.hold.of(kind);
            let cap = bound.cap_within(hold).unwrap_or(0).min(bound.cap.most());
            return Ok(ReserveOutcome::Granted { hold, cap });
        }
        let usable = self.keys.get(&key).ok_or(KeyRejected::Unknown).and_then(|account| {
            account.key.usable_at(now)?;
            let Key { id: key, workspace, creator: member, .. } = account.key;
            Ok(Spender { key, workspace, member })
        });
        let spender = match usable {
            Ok(spender) => spender,
            Err(rejected) => {
                self.closed.insert(row);
                return Ok(ReserveOutcome::Rejected(rejected));
            }
        };
        match decide(&self.budgets(key, now), bound, kind)? {
            Decision::Refused(refusal) => {
                // Whoever asks again asks as another generation.
                self.closed.insert(row);
                Ok(ReserveOutcome::Refused(refusal))
            }
            Decision::Granted { hold, cap } => {
                let amounts = match kind {
                    MoneyKind::Credits => Amounts::credits(hold),
                    MoneyKind::Byok => Amounts { credits: Usd::ZERO, byok: hold },
                };
                self.restore_open(row, Open { spender, admitted_at: now, hold: amounts });
                Ok(ReserveOutcome::Granted { hold, cap })
            }
        }
    }

    /// Holds `to` of credits instead of what is held, if its key is still usable and every budget has room for the rest.
    /// Whether at least `to` is held; otherwise nothing changed.
    pub fn raise(&mut self, row: GenerationRow, to: Usd, now: Timestamp) -> bool {
        let Some(open) = self.open.get(&row).cloned() else { return false };
        let more = Usd::left_of(to, open.hold.credits);
        if more <= Usd::ZERO {
            return true;
        }
        let key = open.spender.key;
        // A key that moved meanwhile answers to other budgets than those that the call was admitted by.
        let stayed = |key: &Key| key.workspace == open.spender.workspace && key.usable_at(now).is_ok();
        let usable = self.keys.get(&key).is_some_and(|account| stayed(&account.key));
        let (windows, present) = (Windows::at(open.admitted_at), Windows::at(now));
        // It is booked where it was admitted: once that window has ended, nobody knows any more what fits there.
        let fits = |state: &BudgetState| {
            let kind = WindowKind::of(state.budget.reset);
            !state.counts(MoneyKind::Credits) || (windows.of(kind) == present.of(kind) && more <= state.free())
        };
        if !usable || !self.budgets(key, now).iter().all(fits) {
            return false;
        }
        self.each_balance(&open.spender, |balance| balance.hold(Amounts::credits(more), &windows));
        self.open.insert(row, Open { hold: Amounts { credits: to, ..open.hold }, ..open });
        true
    }

    /// Opens a reservation as it was decided before: by [`Book::reserve`], or before a restart.
    pub fn restore_open(&mut self, row: GenerationRow, open: Open) {
        let windows = Windows::at(open.admitted_at);
        self.each_balance(&open.spender, |balance| balance.hold(open.hold, &windows));
        self.open.insert(row, open);
    }

    /// Gives back what a call held and books what it cost. The whole of an overrun is booked.
    pub fn settle(&mut self, row: GenerationRow, charge: Amounts) -> Closed {
        self.closed.insert(row);
        let Some(open) = self.open.remove(&row) else { return Closed::NotOpen };
        let windows = Windows::at(open.admitted_at);
        self.each_balance(&open.spender, |balance| {
            balance.unhold(open.hold, &windows);
            balance.spend(charge, &windows);
        });
        self.dirty.extend(open.spender.scopes());
        Closed::Now(open)
    }

    /// Forgets which generations below `row` have ended: the engine opens none there any more.
    pub fn forget_below(&mut self, row: GenerationRow) {
        self.closed.forget_below(row);
    }

    /// Books a change to a generation that was settled before, in the windows of its admission. Never refused.
    pub fn correct(&mut self, correction: &Correction) {
        let windows = Windows::at(correction.admitted_at);
        self.each_balance(&correction.spender, |balance| {
            balance.spend(correction.amounts, &windows);
        });
        self.dirty.extend(correction.spender.scopes());
    }

    fn each_balance(&mut self, spender: &Spender, change: impl Fn(&mut Balance)) {
        for scope in spender.scopes() {
            if let Some(balance) = self.balance_mut(scope) {
                change(balance);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Price;
    use crate::guardrail::{Guardrail, GuardrailBudget, GuardrailId, GuardrailRules};
    use crate::key::{CallLimits, KeyHash, NewKey};
    use crate::pricing::{MediaUnits, OutputCap, PriceList};
    use crate::time::LimitReset;
    use crate::workspace::{NewWorkspace, Preferences, Workspace, WorkspaceBudget};
    use proptest::prelude::*;
    use uuid::Uuid;

    fn key(limit: Option<i64>, limit_reset: Option<LimitReset>) -> Key {
        NewKey {
            hash: KeyHash::of("k"),
            name: "k".to_owned(),
            label: "k".to_owned(),
            workspace: WorkspaceId(1),
            limit: limit.map(Usd::from_nanos),
            limit_reset,
            include_byok_in_limit: false,
            expires_at: None,
            creator: Some(MemberId(1)),
            external_user: None,
            call_limits: CallLimits::default(),
        }
        .into_key(KeyId(1), Timestamp::default())
    }

    fn workspace() -> Workspace {
        NewWorkspace {
            uuid: Uuid::nil(),
            name: "w".to_owned(),
            slug: "w".to_owned(),
            description: None,
            preferences: Preferences::default(),
        }
        .into_workspace(WorkspaceId(1), Timestamp::default())
    }

    fn guardrail(limit: Option<i64>) -> Guardrail {
        let reset = LimitReset::Monthly;
        let budget = limit.map(|limit| GuardrailBudget { limit: Usd::from_nanos(limit), reset });
        Guardrail {
            id: GuardrailId(1),
            uuid: Uuid::nil(),
            workspace: WorkspaceId(1),
            rules: GuardrailRules { budget, ..GuardrailRules::default() },
            created_at: Timestamp::default(),
            updated_at: None,
        }
    }

    fn bound(nanos: u64) -> Bound {
        let prices = PriceList { prompt: Price::from_picos(1_000), ..PriceList::default() };
        Bound::new(&prices, nanos, MediaUnits::default(), 1, OutputCap::Asked(1))
    }

    #[derive(Clone, Debug)]
    enum Step {
        Reserve {
            row: i64,
            amount: u64,
        },
        Raise {
            row: i64,
            to: i64,
        },
        Settle {
            row: i64,
            charge: i64,
        },
        Limit(Option<i64>),
        /// The budget of the workspace for a kind of window.
        Workspace(WindowKind, Option<i64>),
        /// The monthly budget of the guardrail that the key's member has.
        Member(Option<i64>),
        Credits(Option<i64>),
        Reset(Option<LimitReset>),
        Wait {
            micros: i64,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let reset = prop_oneof![
            Just(None),
            Just(Some(LimitReset::Daily)),
            Just(Some(LimitReset::Weekly)),
            Just(Some(LimitReset::Monthly))
        ];
        let step = prop_oneof![
            6 => (0_i64..24, 0_u64..60).prop_map(|(row, amount)| Step::Reserve { row, amount }),
            2 => (0_i64..24, 0_i64..90).prop_map(|(row, to)| Step::Raise { row, to }),
            6 => (0_i64..24, 0_i64..80).prop_map(|(row, charge)| Step::Settle { row, charge }),
            1 => proptest::option::of(0_i64..300).prop_map(Step::Limit),
            1 => (0_usize..4, proptest::option::of(0_i64..300))
                .prop_map(|(window, limit)| Step::Workspace(WindowKind::ALL[window], limit)),
            1 => proptest::option::of(0_i64..300).prop_map(Step::Member),
            1 => proptest::option::of(0_i64..900).prop_map(Step::Credits),
            1 => reset.prop_map(Step::Reset),
            2 => (0_i64..20 * 86_400_000_000).prop_map(|micros| Step::Wait { micros }),
        ];
        proptest::collection::vec(step, 1..80)
    }

    #[test]
    fn a_hold_is_not_raised_in_a_workspace_that_its_key_has_left() {
        let mut book = Book::default();
        book.insert_key(key(None, None));
        let mut home = workspace();
        let limit = Usd::from_nanos(50);
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        home.budgets = home.budgets.with(WindowKind::Lifetime, limit, Uuid::nil(), now).unwrap();
        book.rules.put_workspace(home);
        let row = GenerationRow(1);
        book.reserve(row, KeyId(1), &bound(40), MoneyKind::Credits, now).unwrap();
        let away = KeyChange { workspace: Some(WorkspaceId(2)), ..KeyChange::default() };
        book.change_key(KeyId(1), away, now);
        assert!(!book.raise(row, Usd::from_nanos(60), now), "50 is all that the first workspace has");
        let held = book.balance(Scope::Workspace(WorkspaceId(1))).unwrap();
        let windows = Windows::at(now);
        assert_eq!(held.held(MoneyKind::Credits, WindowKind::Lifetime, &windows), Usd::from_nanos(40));
    }

    proptest! {
        /// The book against a list of everything that happened, summed afresh each time.
        #[test]
        fn the_book_never_grants_over_and_equals_the_sum_of_its_entries(steps in steps()) {
            let mut book = Book::default();
            book.insert_key(key(Some(100), None));
            book.rules.put_workspace(workspace());
            book.rules.assign_member(MemberId(1), Some(GuardrailId(1)));
            let mut now = Timestamp::from_micros(1_700_000_000_000_000);
            let mut holds: HashMap<i64, (Timestamp, i64)> = HashMap::default();
            let mut entries: Vec<(Timestamp, i64)> = Vec::new();
            let mut closed: HashSet<i64> = HashSet::default();
            for step in steps {
                match step {
                    Step::Wait { micros } => now = now.plus_micros(micros),
                    Step::Limit(limit) => {
                        let limit = Some(limit.map(Usd::from_nanos));
                        book.change_key(KeyId(1), KeyChange { limit, ..KeyChange::default() }, now);
                    }
                    Step::Workspace(window, limit) => {
                        let mut changed = book.rules.workspace(WorkspaceId(1)).unwrap().clone();
                        changed.budgets = changed.budgets.without(window);
                        if let Some(limit) = limit {
                            let limit = Usd::from_nanos(limit);
                            let budget = WorkspaceBudget { uuid: Uuid::nil(), limit, created_at: now, updated_at: now };
                            changed.budgets.restore(window, budget);
                        }
                        book.rules.put_workspace(changed);
                    }
                    Step::Member(limit) => book.rules.put_guardrail(guardrail(limit)),
                    Step::Credits(credits) => book.rules.credits = credits.map(Usd::from_nanos),
                    Step::Reset(reset) => {
                        let change = KeyChange { limit_reset: Some(reset), ..KeyChange::default() };
                        book.change_key(KeyId(1), change, now);
                    }
                    Step::Reserve { row, amount } => {
                        let repeat = holds.contains_key(&row);
                        let outcome = book.reserve(GenerationRow(row), KeyId(1), &bound(amount), MoneyKind::Credits, now).unwrap();
                        if closed.contains(&row) {
                            prop_assert_eq!(outcome, ReserveOutcome::AlreadyClosed);
                            continue;
                        }
                        if matches!(outcome, ReserveOutcome::Refused(_)) {
                            closed.insert(row);
                        }
                        if let (ReserveOutcome::Granted { hold, .. }, false) = (outcome, repeat) {
                            holds.insert(row, (now, hold.nanos()));
                            for state in book.budgets(KeyId(1), now) {
                                prop_assert!(hold == Usd::ZERO || state.free() >= Usd::ZERO, "granted over: {state:?}");
                            }
                        }
                    }
                    Step::Raise { row, to } => {
                        let budgets = book.budgets(KeyId(1), now);
                        let raised = book.raise(GenerationRow(row), Usd::from_nanos(to), now);
                        let Some((at, held)) = holds.get_mut(&row) else {
                            prop_assert!(!raised);
                            continue;
                        };
                        let more = to - *held;
                        let fits = budgets.iter().all(|state| {
                            let window = WindowKind::of(state.budget.reset);
                            let same = Windows::at(*at).of(window) == Windows::at(now).of(window);
                            same && more <= state.free().nanos()
                        });
                        prop_assert_eq!(raised, more <= 0 || fits);
                        *held = if raised { to.max(*held) } else { *held };
                    }
                    Step::Settle { row, charge } => {
                        let charge = holds.get(&row).map_or(charge, |(_, hold)| charge.min(*hold));
                        let outcome = book.settle(GenerationRow(row), Amounts::credits(Usd::from_nanos(charge)));
                        match holds.remove(&row) {
                            Some((at, _)) => {
                                prop_assert!(matches!(outcome, Closed::Now(_)));
                                entries.push((at, charge));
                            }
                            None => prop_assert_eq!(outcome, Closed::NotOpen),
                        }
                        closed.insert(row);
                    }
                }
                let windows = Windows::at(now);
                for scope in
                    [Scope::Account, Scope::Workspace(WorkspaceId(1)), Scope::Key(KeyId(1)), Scope::Member(MemberId(1))]
                {
                    for window in WindowKind::ALL {
                        let here = |at: Timestamp| Windows::at(at).of(window) == windows.of(window);
                        let spent: i64 = entries.iter().filter(|(at, _)| here(*at)).map(|(_, charge)| charge).sum();
                        let held: i64 = holds.values().filter(|(at, _)| here(*at)).map(|(_, hold)| hold).sum();
                        let (read_spent, read_held) = book.balance(scope).map_or((0, 0), |balance| {
                            let kind = MoneyKind::Credits;
                            (balance.spent(kind, window, &windows).nanos(), balance.held(kind, window, &windows).nanos())
                        });
                        prop_assert_eq!((read_spent, read_held), (spent, held), "{:?} {:?}", scope, window);
                    }
                }
            }
        }
    }
}
