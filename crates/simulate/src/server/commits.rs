//! What a commit writes, what a planted bug makes of that, and what the model is shown of it.

use std::collections::BTreeSet;

use tokio::sync::oneshot::Sender;
use tollgate_domain::Usd;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Amounts, Scope};
use tollgate_domain::time::Windows;
use tollgate_engine::{Corrected, Statement};
use tollgate_store_postgres::seam::{Boot, Committed, Ended, Identity, Writes};

use super::{Correction, Kind, Pending, TxId, place};
use crate::bugs::Bug;
use crate::core::{Core, Event};
use crate::oracle::{Durable, RollupPlace, broken};
use crate::plan::Fault;

/// How far the time of a batch may be from the database's, after many steps of its clock: less than any node's own is.
const AMISS: i64 = 2 * 3_600_000_000;

impl Core {
    /// A commit has arrived.
    pub(super) fn commit(&mut self, process: usize, id: TxId, pending: Pending, to: Sender<Committed>) {
        if !self.touch(id) {
            let why = "the transaction has ended".to_owned();
            let told = if self.rng.chance(5_000) { Committed::Failed(why) } else { Committed::Unknown(why) };
            self.reply(process, to, told);
            return;
        }
        let unknown = |core: &Self| {
            let why = "the connection was lost".to_owned();
            if core.has(Bug::LostReplyTakenForFailure) { Committed::Failed(why) } else { Committed::Unknown(why) }
        };
        if self.server.nodes.are_shut() || self.fault(Fault::FailedCommit) {
            self.abort(id);
            self.reply(process, to, Committed::Failed("the disk is full".to_owned()));
        } else if self.fault(Fault::UnknownNever) {
            self.abort(id);
            let told = unknown(self);
            self.reply(process, to, told);
        } else if self.fault(Fault::UnknownLater) {
            self.postpone(id, pending);
            let told = unknown(self);
            self.reply(process, to, told);
        } else if self.has(Bug::GrantBeforeCommit) {
            self.postpone(id, pending);
            self.reply(process, to, Committed::Done);
        } else if self.has(Bug::EditNotWritten) && matches!(pending, Pending::Change(_)) {
            self.abort(id);
            self.reply(process, to, Committed::Done);
        } else {
            let done = self.apply(id, pending);
            let told = match done {
                Err(why) => Committed::Failed(why),
                Ok(()) if self.fault(Fault::UnknownDone) => unknown(self),
                Ok(()) => Committed::Done,
            };
            self.reply(process, to, told);
        }
    }

    /// Leaves a commit for later: its locks stay.
    fn postpone(&mut self, id: TxId, pending: Pending) {
        let freed = self.has(Bug::LateWithoutLock);
        let Some(tx) = self.server.txs.get_mut(&id) else { return };
        tx.pending = Some(pending);
        if freed {
            let locks = std::mem::take(&mut tx.held);
            self.release(id, locks);
        }
        let after = if self.rng.chance(7_000) { self.rng.below(50_000) } else { self.rng.below(8_000_000) };
        self.after(after, Event::Later(id));
    }

    /// A commit that was left for later is done.
    pub fn later(&mut self, id: TxId) {
        if let Some(pending) = self.server.txs.get_mut(&id).and_then(|tx| tx.pending.take()) {
            // Nobody waits for it.
            let _ = self.apply(id, pending);
        }
    }

    fn apply(&mut self, id: TxId, pending: Pending) -> Result<(), String> {
        self.note("commit", id, || match &pending {
            Pending::Change(statements) => {
                let first = |it: &Statement| it.sql.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
                let told: Vec<String> = statements.iter().map(|it| format!("{} {:?}", first(it), it.values)).collect();
                told.join("; ")
            }
            Pending::Writes(writes) => {
                let holds: Vec<i64> = writes.holds.iter().map(|(row, _)| row.0).collect();
                let ends: Vec<i64> = writes.settlements.iter().map(|(it, _)| it.row.0).collect();
                let late: Vec<i64> = writes.late.iter().map(|(it, _)| it.row.0).collect();
                format!("at {:?} holds {holds:?} ends {ends:?} late {late:?}", writes.now)
            }
        });
        let Some(tx) = self.server.txs.remove(&id) else { return Err("the transaction has ended".to_owned()) };
        // A node whose clock jumped stays at the time that it saw, ends what is in flight, and admits nothing.
        if let Pending::Writes(writes) = &pending
            && !writes.holds.is_empty()
        {
            let (first, last) = (tx.loaded.plus_micros(-AMISS), self.wall().plus_micros(AMISS));
            if !(first..=last).contains(&writes.now) {
                self.check(broken!("5 windows", "a batch is decided at {}, between {first} and {last}", writes.now));
            }
        }
        let done = match (pending, tx.kind) {
            (Pending::Writes(writes), Kind::Batch(wanted, _)) => self.write(*writes, wanted.node),
            (Pending::Change(statements), _) => self.change(&statements, tx.correction),
            (Pending::Writes(_), _) => Err("a change writes nothing of a batch".to_owned()),
        };
        self.release(id, tx.held);
        done
    }

    fn write(&mut self, mut writes: Writes, node: Identity) -> Result<(), String> {
        let double = |(settlement, _): &(tollgate_store::Settlement, _)| {
            self.server.ended.contains_key(&settlement.row.0) && !self.has(Bug::SettledTwice)
        };
        if writes.settlements.iter().any(double) {
            return Err("duplicate key".to_owned());
        }
        self.bend(&mut writes);
        let mut durable = Durable { now: writes.now, exact: true, ..Durable::default() };
        let mut touched: BTreeSet<Scope> = BTreeSet::new();
        let mut rolled: BTreeSet<RollupPlace> = BTreeSet::new();
        self.server.nodes.wrote(node, writes.now, self.now);
        for (scope, share, balance, used_at) in writes.balances {
            touched.insert(scope);
            let share = self.bent(share);
            self.server.balances.entry(scope).or_default().insert(place(share, node), (balance, used_at));
        }
        let boots = self.server.nodes.boots();
        for (row, hold) in writes.holds {
            if !self.server.holds.contains_key(&row.0) && !boots.contains(&Boot::of(row).0) {
                self.check(broken!(
                    "4 lost at its hold",
                    "generation {} is granted by a node that was given up",
                    row.0
                ));
            }
            touched.extend(hold.open.spender.scopes());
            durable.holds.push((row, hold.open.clone(), hold.price.0));
            self.server.holds.insert(row.0, hold);
        }
        for (settlement, open) in writes.settlements {
            touched.extend(open.spender.scopes());
            let (row, outcome, charge, price) =
                (settlement.row, settlement.outcome, settlement.charge, settlement.price);
            durable.ends.push((row, open.clone(), outcome, charge, price.0));
            if !self.has(Bug::SettledTwice) {
                self.server.holds.remove(&row.0);
            }
            self.server.ended.insert(row.0, Ended { open, outcome, charge, price, late: false });
        }
        for (settlement, corrected) in writes.late {
            touched.extend(corrected.correction.spender.scopes());
            durable.late.push((settlement.row, settlement.charge));
            if !self.has(Bug::LateTwice) {
                self.corrected(&corrected, true);
            }
        }
        for (key, sum) in writes.rollups {
            let place = (key.hour, key.key, key.workspace, key.price);
            rolled.insert(place);
            let [requests, credits, byok] = self.server.rollups.entry(place).or_default();
            *requests += i64::try_from(sum.requests).unwrap_or(i64::MAX);
            *credits += sum.credits.nanos();
            *byok += sum.byok.nanos();
        }
        self.durable(durable, &touched, &rolled);
        Ok(())
    }

    fn corrected(&mut self, corrected: &Corrected, late: bool) {
        if let Some(ended) = self.server.ended.get_mut(&corrected.row.0) {
            let sum = |one: Usd, other: Usd| -> Usd { [one, other].into_iter().sum() };
            let by = corrected.correction.amounts;
            ended.charge =
                Amounts { credits: sum(ended.charge.credits, by.credits), byok: sum(ended.charge.byok, by.byok) };
            ended.late |= late;
        }
    }

    /// What a bug makes of a batch.
    fn bend(&mut self, writes: &mut Writes) {
        if self.has(Bug::ForgottenHold) && self.rng.chance(300) {
            writes.holds.pop();
        }
        if self.has(Bug::UncountedRollup) && self.rng.chance(300) {
            writes.rollups.pop();
        }
        let now = Windows::at(writes.now);
        for (settlement, open) in &mut writes.settlements {
            let then = Windows::at(open.admitted_at);
            let over = Usd::left_of(settlement.charge.credits, open.hold.credits);
            let back = |amounts: Amounts| Amounts {
                credits: Usd::from_nanos(-amounts.credits.nanos()),
                byok: Usd::from_nanos(-amounts.byok.nanos()),
            };
            let cut = self.bug == Some(Bug::DroppedOverrun) && !self.calm && over > Usd::ZERO;
            let mine = |scope: Scope| open.spender.scopes().any(|it| it == scope);
            for (_, _, balance, _) in writes.balances.iter_mut().filter(|(scope, ..)| mine(*scope)) {
                if self.bug == Some(Bug::WrongWindow) && !self.calm && now != then {
                    balance.spend(back(settlement.charge), &then);
                    balance.spend(settlement.charge, &now);
                }
                if self.bug == Some(Bug::ReleaseAfterSettle) && !self.calm && settlement.charge != open.hold {
                    balance.unhold(open.hold, &then);
                }
                if cut {
                    balance.spend(back(Amounts::credits(over)), &then);
                }
            }
            if cut {
                settlement.charge.credits = open.hold.credits;
            }
        }
    }

    fn change(&mut self, statements: &[Statement], correction: Option<Correction>) -> Result<(), String> {
        let Some(tables) = &mut self.server.tables else { return Err("there is no database".to_owned()) };
        tables.change(statements).map_err(|error| error.to_string())?;
        let now = self.server_now();
        let mut durable = Durable { now, exact: true, rules: Some(self.server.rules()), ..Durable::default() };
        let (mut touched, mut rolled) = (BTreeSet::new(), BTreeSet::new());
        if let Some((node, corrected, shares)) = correction {
            let by = corrected.correction;
            let windows = Windows::at(by.admitted_at);
            for (scope, share) in shares {
                let (balance, _) =
                    self.server.balances.entry(scope).or_default().entry(place(share, node)).or_default();
                balance.spend(by.amounts, &windows);
                touched.insert(scope);
            }
            let hour = by.admitted_at.micros().div_euclid(3_600_000_000);
            let place = (hour, by.spender.key.0, by.spender.workspace.0, corrected.price.0);
            let [_, credits, byok] = self.server.rollups.entry(place).or_default();
            *credits += by.amounts.credits.nanos();
            *byok += by.amounts.byok.nanos();
            rolled.insert(place);
            self.corrected(&corrected, false);
            durable.corrections.push((corrected.row, by.amounts));
        }
        self.durable(durable, &touched, &rolled);
        let ears: Vec<usize> = self.server.ears.keys().copied().collect();
        for process in ears {
            if self.calm || !self.rng.chance(1_000) {
                let Some(link) = self.link(process) else { continue };
                let delay = self.delay();
                let tell = move || link.core.lock().server.hear(process);
                self.after(delay, Event::Reply(process, Box::new(tell)));
            }
        }
        Ok(())
    }

    /// Shows the model what was committed, and compares the rows that it changed.
    fn durable(&mut self, durable: Durable, touched: &BTreeSet<Scope>, rolled: &BTreeSet<RollupPlace>) {
        let boots = self.server.nodes.boots();
        let late: Vec<GenerationRow> = durable.late.iter().map(|(row, _)| *row).collect();
        let checked = self.oracle.durable(durable, |row| boots.contains(&Boot::of(row).0));
        self.check(checked);
        for scope in touched {
            let checked = self.oracle.check_balance(*scope, &self.server.sum(*scope).0);
            self.check(checked);
        }
        for place in rolled {
            let (read, summed) = (self.server.rollups.get(place), self.oracle.rollups.get(place));
            let nothing = [0; 3];
            if read.unwrap_or(&nothing) != summed.unwrap_or(&nothing) {
                let checked =
                    broken!("3 entries sum to the balance", "sums by hour {place:?}: {read:?}; {summed:?} is right");
                self.check(checked);
            }
        }
        for row in late {
            let (read, summed) = (self.server.ended.get(&row.0), self.oracle.generations.get(&row.0));
            if read.map(|ended| ended.charge) != summed.map(|it| it.charge) {
                let checked = broken!("4 exact cost", "generation {} is charged {read:?} after all", row.0);
                self.check(checked);
            }
        }
    }

    /// Compares everything.
    pub fn check_all(&mut self) {
        let scopes: Vec<Scope> = self.oracle.scopes().collect();
        for scope in scopes {
            let checked = self.oracle.check_balance(scope, &self.server.sum(scope).0);
            self.check(checked);
        }
        let same = self.server.rollups.iter().filter(|(_, sum)| **sum != [0; 3]).eq(self
            .oracle
            .rollups
            .iter()
            .filter(|(_, sum)| **sum != [0; 3]));
        if !same {
            self.check(broken!("3 entries sum to the balance", "sums by hour are not those of the entries"));
        }
        if self.server.holds.keys().ne(self.oracle.open.iter()) {
            self.check(broken!("2 on disk first", "other generations are held than were granted"));
        }
    }
}
