//! The ledger of one account, whole and in memory: keys, balances and open reservations.
//!
//! The embedded engine keeps one of these under a lock and writes down what it decided, in the order in which it decided.
//! Every intent is idempotent by the generation's row: a repeat changes nothing.

use foldhash::{HashMap, HashSet};

use super::closed::ClosedRows;
use super::{Amounts, Balance, BudgetState, Decision, Refusal, Rules, Tariff, decide};
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
    /// Whose balances a call of theirs is booked in.
    pub fn scopes(&self) -> impl Iterator<Item = Scope> + use<> {
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
        hold: Amounts,
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

    /// Puts a balance in the place of the one there is, to be written down.
    pub fn restore_balance(&mut self, scope: Scope, balance: Balance) {
        if let Some(stored) = self.balance_mut(scope) {
            *stored = balance;
            self.dirty.insert(scope);
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

    /// Makes an open reservation known whose hold the balances carry already. For an engine that keeps both elsewhere.
    pub fn know_open(&mut self, row: GenerationRow, open: Open) {
        self.open.insert(row, open);
    }

    /// Makes known that a reservation has ended.
    pub fn know_closed(&mut self, row: GenerationRow) {
        self.closed.insert(row);
    }

    /// Forgets all reservations, open and closed, and leaves the balances. For such an engine, between two batches.
    pub fn forget_reservations(&mut self) {
        self.open.clear();
        self.closed = ClosedRows::default();
        self.dirty.clear();
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
        self.rules.budgets_of(&account.key, now).into_iter().map(state).collect()
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
        tariff: Tariff,
        now: Timestamp,
    ) -> Result<ReserveOutcome, MoneyError> {
        if self.closed.contains(row) {
            return Ok(ReserveOutcome::AlreadyClosed);
        }
        if let Some(open) = self.open.get(&row) {
            let hold = open.hold;
            let list = hold.of(tariff.list_kind()).picos().min(tariff.list_within(hold.credits, false));
            let cap = bound.cap_within(list).unwrap_or(0).min(bound.cap.most());
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
        match decide(&self.budgets(key, now), bound, tariff)? {
            Decision::Refused(refusal) => {
                // Whoever asks again asks as another generation.
                self.closed.insert(row);
                Ok(ReserveOutcome::Refused(refusal))
            }
            Decision::Granted { hold, cap } => {
                self.restore_open(row, Open { spender, admitted_at: now, hold });
                Ok(ReserveOutcome::Granted { hold, cap })
            }
        }
    }

    /// Holds `to` instead of what is held, unless that covers it, if its key is still usable and every budget has room for
    /// what counts more there. Whether `to` is covered; otherwise nothing changed.
    ///
    /// What was held of another kind of money goes: the attempt that it was held for cost nothing. What is `open_ended` is no
    /// bound, and goes on only where none of it counts in any budget.
    pub fn raise(&mut self, row: GenerationRow, to: Amounts, open_ended: bool, now: Timestamp) -> bool {
        let Some(open) = self.open.get(&row).cloned() else { return false };
        if open.hold.covers(&to) {
            return true;
        }
        let key = open.spender.key;
        // A key that moved meanwhile answers to other budgets than those that the call was admitted by.
        let stayed = |key: &Key| key.workspace == open.spender.workspace && key.usable_at(now).is_ok();
        let usable = self.keys.get(&key).is_some_and(|account| stayed(&account.key));
        let (windows, present) = (Windows::at(open.admitted_at), Windows::at(now));
        // It is booked where it was admitted: once that window has ended, nobody knows any more what fits there.
        let fits = |state: &BudgetState| {
            let (kind, include_byok) = (WindowKind::of(state.budget.reset), state.budget.include_byok);
            let counts = include_byok || to.credits > Usd::ZERO || to.byok == Usd::ZERO;
            if open_ended && counts {
                return false;
            }
            let more = Usd::left_of(to.counted(include_byok), open.hold.counted(include_byok));
            more <= Usd::ZERO || (windows.of(kind) == present.of(kind) && more <= state.free())
        };
        if !usable || !self.budgets(key, now).iter().all(fits) {
            return false;
        }
        self.each_balance(&open.spender, |balance| {
            balance.unhold(open.hold, &windows);
            balance.hold(to, &windows);
        });
        self.open.insert(row, Open { hold: to, ..open });
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
    use crate::ledger::{Fee, MoneyKind};
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
            allowed_models: None,
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

    fn guardrail(limit: Option<i64>, include_byok: bool) -> Guardrail {
        let reset = LimitReset::Monthly;
        let budget = limit.map(|limit| GuardrailBudget { limit: Usd::from_nanos(limit), reset });
        Guardrail {
            id: GuardrailId(1),
            uuid: Uuid::nil(),
            workspace: WorkspaceId(1),
            rules: GuardrailRules { budget, include_byok, ..GuardrailRules::default() },
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
            tariff: Tariff,
        },
        Raise {
            row: i64,
            to: i64,
            tariff: Tariff,
        },
        /// At what was held, or at so much less of each kind.
        Settle {
            row: i64,
            less: i64,
        },
        Limit(Option<i64>),
        /// Whether BYOK usage counts in the key's limit.
        Include(bool),
        /// Whether it counts in the workspace's budgets.
        IncludeInWorkspace(bool),
        /// The budget of the workspace for a kind of window.
        Workspace(WindowKind, Option<i64>),
        /// The monthly budget of the guardrail that the key's member has, and whether BYOK usage counts in it.
        Member(Option<i64>, bool),
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
        let tariff = || {
            let fee = prop_oneof![Just("0"), Just("5"), Just("100")];
            prop_oneof![Just(Tariff::Credits), fee.prop_map(|percent| Tariff::Byok(Fee::percent(percent).unwrap()))]
        };
        let step = prop_oneof![
            6 => (0_i64..24, 0_u64..60, tariff()).prop_map(|(row, amount, tariff)| Step::Reserve { row, amount, tariff }),
            3 => (0_i64..24, 0_i64..90, tariff()).prop_map(|(row, to, tariff)| Step::Raise { row, to, tariff }),
            6 => (0_i64..24, 0_i64..30).prop_map(|(row, less)| Step::Settle { row, less }),
            1 => proptest::option::of(0_i64..300).prop_map(Step::Limit),
            1 => any::<bool>().prop_map(Step::Include),
            1 => any::<bool>().prop_map(Step::IncludeInWorkspace),
            1 => (0_usize..4, proptest::option::of(0_i64..300))
                .prop_map(|(window, limit)| Step::Workspace(WindowKind::ALL[window], limit)),
            1 => (proptest::option::of(0_i64..300), any::<bool>()).prop_map(|(limit, byok)| Step::Member(limit, byok)),
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
        book.reserve(row, KeyId(1), &bound(40), Tariff::Credits, now).unwrap();
        let away = KeyChange { workspace: Some(WorkspaceId(2)), ..KeyChange::default() };
        book.change_key(KeyId(1), away, now);
        assert!(
            !book.raise(row, Amounts::credits(Usd::from_nanos(60)), false, now),
            "50 is all that the first workspace has"
        );
        let held = book.balance(Scope::Workspace(WorkspaceId(1))).unwrap();
        let windows = Windows::at(now);
        assert_eq!(held.held(MoneyKind::Credits, WindowKind::Lifetime, &windows), Usd::from_nanos(40));
    }

    #[test]
    fn a_call_goes_on_under_a_credential_where_its_list_price_would_not_fit_twice() {
        let mut book = Book::default();
        book.insert_key(Key { include_byok_in_limit: true, ..key(Some(100), None) });
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let row = GenerationRow(1);
        book.reserve(row, KeyId(1), &bound(60), Tariff::Credits, now).unwrap();
        let own = Tariff::Byok(Fee::percent("5").unwrap()).charge(60_000).unwrap();
        assert!(book.raise(row, own, false, now), "60 of credits go, 63 come");
        assert_eq!(book.open_at(row).unwrap().hold, own);
        assert!(
            !book.raise(row, Tariff::Byok(Fee::percent("100").unwrap()).charge(60_000).unwrap(), false, now),
            "120 do not fit"
        );
        assert!(book.raise(row, Amounts::credits(Usd::from_nanos(100)), false, now), "and back");
        assert_eq!(book.open_at(row).unwrap().hold, Amounts::credits(Usd::from_nanos(100)));
    }

    #[test]
    fn what_has_no_bound_does_not_move_to_where_a_budget_counts_it() {
        let mut book = Book::default();
        book.insert_key(key(Some(100), None));
        let (now, row, free) =
            (Timestamp::from_micros(1_700_000_000_000_000), GenerationRow(1), Tariff::Byok(Fee::NONE));
        let call = Bound { open_ended: true, ..bound(60) };
        let outcome = book.reserve(row, KeyId(1), &call, free, now).unwrap();
        assert!(matches!(outcome, ReserveOutcome::Granted { .. }), "nothing of it counts");
        assert!(!book.raise(row, Amounts::credits(Usd::from_nanos(1)), true, now));
        assert!(!book.raise(row, Tariff::Byok(Fee::percent("5").unwrap()).charge(70_000).unwrap(), true, now));
        assert!(book.raise(row, free.charge(70_000).unwrap(), true, now));
        book.change_key(KeyId(1), KeyChange { limit: Some(None), ..KeyChange::default() }, now);
        assert!(book.raise(row, Amounts::credits(Usd::from_nanos(1)), true, now), "without a budget it may");
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
            let mut holds: HashMap<i64, (Timestamp, Amounts)> = HashMap::default();
            let mut entries: Vec<(Timestamp, Amounts)> = Vec::new();
            let mut closed: HashSet<i64> = HashSet::default();
            for step in steps {
                match step {
                    Step::Wait { micros } => now = now.plus_micros(micros),
                    Step::Limit(limit) => {
                        let limit = Some(limit.map(Usd::from_nanos));
                        book.change_key(KeyId(1), KeyChange { limit, ..KeyChange::default() }, now);
                    }
                    Step::Include(include) => {
                        let change = KeyChange { include_byok_in_limit: Some(include), ..KeyChange::default() };
                        book.change_key(KeyId(1), change, now);
                    }
                    Step::IncludeInWorkspace(include) => {
                        let mut changed = book.rules.workspace(WorkspaceId(1)).unwrap().clone();
                        changed.budgets.include_byok = include;
                        book.rules.put_workspace(changed);
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
                    Step::Member(limit, include_byok) => book.rules.put_guardrail(guardrail(limit, include_byok)),
                    Step::Credits(credits) => book.rules.credits = credits.map(Usd::from_nanos),
                    Step::Reset(reset) => {
                        let change = KeyChange { limit_reset: Some(reset), ..KeyChange::default() };
                        book.change_key(KeyId(1), change, now);
                    }
                    Step::Reserve { row, amount, tariff } => {
                        let repeat = holds.contains_key(&row);
                        let outcome = book.reserve(GenerationRow(row), KeyId(1), &bound(amount), tariff, now).unwrap();
                        if closed.contains(&row) {
                            prop_assert_eq!(outcome, ReserveOutcome::AlreadyClosed);
                            continue;
                        }
                        if matches!(outcome, ReserveOutcome::Refused(_)) {
                            closed.insert(row);
                        }
                        if let (ReserveOutcome::Granted { hold, .. }, false) = (outcome, repeat) {
                            prop_assert_eq!(hold, tariff.charge(i128::from(amount) * 1_000).unwrap());
                            holds.insert(row, (now, hold));
                            for state in book.budgets(KeyId(1), now) {
                                let counted = hold.counted(state.budget.include_byok);
                                prop_assert!(counted == Usd::ZERO || state.free() >= Usd::ZERO, "granted over: {state:?}");
                            }
                        }
                    }
                    Step::Raise { row, to, tariff } => {
                        let budgets = book.budgets(KeyId(1), now);
                        let to = tariff.charge(i128::from(to) * 1_000).unwrap();
                        let raised = book.raise(GenerationRow(row), to, false, now);
                        let Some((at, held)) = holds.get_mut(&row) else {
                            prop_assert!(!raised);
                            continue;
                        };
                        let covered = held.covers(&to);
                        let fits = budgets.iter().all(|state| {
                            let include = state.budget.include_byok;
                            let more = to.counted(include).nanos() - held.counted(include).nanos();
                            let window = WindowKind::of(state.budget.reset);
                            let same = Windows::at(*at).of(window) == Windows::at(now).of(window);
                            more <= 0 || (same && more <= state.free().nanos())
                        });
                        prop_assert_eq!(raised, covered || fits);
                        if raised && !covered {
                            for (before, after) in budgets.iter().zip(book.budgets(KeyId(1), now)) {
                                prop_assert!(after.free() >= before.free().min(Usd::ZERO), "raised over: {after:?}");
                            }
                            *held = to;
                        }
                        prop_assert!(!raised || held.covers(&to));
                    }
                    Step::Settle { row, less } => {
                        let hold = holds.get(&row).map_or_else(Amounts::default, |(_, hold)| *hold);
                        let part = |held: Usd| Usd::from_nanos((held.nanos() - less).max(0));
                        let charge = Amounts { credits: part(hold.credits), byok: part(hold.byok) };
                        let outcome = book.settle(GenerationRow(row), charge);
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
                    for (kind, window) in MoneyKind::ALL.into_iter().flat_map(|kind| WindowKind::ALL.map(|window| (kind, window))) {
                        let here = |at: Timestamp| Windows::at(at).of(window) == windows.of(window);
                        let sum = |amounts: &mut dyn Iterator<Item = &(Timestamp, Amounts)>| -> Usd {
                            amounts.filter(|(at, _)| here(*at)).map(|(_, amounts)| amounts.of(kind)).sum()
                        };
                        let (spent, held) = (sum(&mut entries.iter()), sum(&mut holds.values()));
                        let read = book.balance(scope).map_or_else(Default::default, |balance| {
                            (balance.spent(kind, window, &windows), balance.held(kind, window, &windows))
                        });
                        prop_assert_eq!(read, (spent, held), "{:?} {:?} {:?}", scope, kind, window);
                    }
                }
            }
        }
    }
}
