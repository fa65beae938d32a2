//! Whether what somebody is told may be.

use std::sync::Arc;

use tollgate_domain::Usd;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::Tariff;
use tollgate_store::{Admission, Reservation, StoreError};

use super::{Call, Sim, Somebody};
use crate::acts::Told;
use crate::core::Core;
use crate::oracle::{Checked, KeySeen, Watch, broken};
use crate::process::Process;

impl Sim {
    /// Somebody is told how their act ended.
    pub(super) fn told(&mut self, who: usize, told: Told) {
        if let Told::Started(started) = told {
            self.started(who, started);
            return;
        }
        if let Told::Opened(opened) = told {
            self.opened(who, opened);
            return;
        }
        let checked = self.judge(who, told);
        {
            let mut core = self.core.lock();
            core.check(checked);
            core.oracle.watches.remove(&who);
        }
        self.later(who);
    }

    /// Whether the embedded engine may have decided what is not written, though nobody waits for it.
    fn is_ahead(&self, core: &Core) -> bool {
        // A settlement of the data path whose caller left, or that it gave up waiting for.
        let chatting = core.plan.data.open && (core.data.is_busy() || core.now < self.unwritten_until);
        // A raise that the disk refused is written when it takes writes again.
        chatting || core.now < self.refused_until
    }

    fn judge(&mut self, who: usize, told: Told) -> Checked {
        let core = Arc::clone(&self.core);
        let mut core = core.lock();
        let busy = self.is_ahead(&core);
        let Some(somebody) = self.people.get_mut(who) else { return Ok(()) };
        match told {
            Told::Chatted(number, answer) => {
                somebody.chat = None;
                Self::chatted(&mut core, who, number, answer)
            }
            Told::Reserved(row, answer) => {
                core.note("told-reserve", who as u64, || format!("generation {}: {answer:?}", row.0));
                judge_reserve(&mut core, somebody, &self.processes, who, row, answer)
            }
            Told::Raised(to, answer) => {
                core.note("told-raise", who as u64, || format!("{answer:?}"));
                let Some(call) = &mut somebody.call else { return Ok(()) };
                match answer {
                    Ok(raised) => {
                        if raised && !call.hold.covers(&to) {
                            call.hold = to;
                        }
                        core.oracle.told_raised(call.row, &to, raised)
                    }
                    Err(error) => sound(&error),
                }
            }
            Told::Settled(answer) => {
                core.note("told-settle", who as u64, || format!("{answer:?}"));
                let Some(call) = &somebody.call else { return Ok(()) };
                let alone = call.settles == 1;
                let (row, id) = (call.row, call.id.clone());
                if self.ids.len() < 400 {
                    self.ids.push((row, id));
                }
                if self.ending || !core.rng.chance(1_500) {
                    somebody.call = None;
                }
                answer.map_or_else(|error| sound(&error), |settled| core.oracle.told_settled(row, &settled, alone))
            }
            Told::Key(answer) => {
                core.note("told-look", who as u64, || format!("{answer:?}"));
                let Ok(answer) = answer else { return Ok(()) };
                let seen = answer.map_or(KeySeen::Gone, |view| KeySeen::Key {
                    credits: view.spend.credits[0].nanos(),
                    byok: view.spend.byok[0].nanos(),
                    limit: view.key.limit.map(Usd::nanos),
                    disabled: view.key.disabled,
                    workspace: view.key.workspace.0,
                });
                if self.disk.is_some() && (busy || self.people.iter().any(|it| it.act.is_some()) || core.is_murky()) {
                    // It may see what is decided and not written.
                    return Ok(());
                }
                core.oracle.told_key(who, &seen)
            }
            Told::Credits(answer) => {
                core.note("told-credits", who as u64, || format!("{answer:?}"));
                let Ok(it) = answer else { return Ok(()) };
                if self.disk.is_some() && (busy || self.people.iter().any(|it| it.act.is_some()) || core.is_murky()) {
                    return Ok(());
                }
                core.oracle.told_credits(who, (it.total.map(Usd::nanos), it.used.nanos(), it.held.nanos()))
            }
            Told::Edited(answer) => {
                core.note("told-edit", who as u64, || format!("{answer:?}"));
                match answer {
                    Ok(true) if core.oracle.edits == somebody.edits => {
                        broken!("2 on disk first", "a change was told and is not there")
                    }
                    Ok(_) => Ok(()),
                    Err(error) => sound(&error),
                }
            }
            Told::Made(answer) => {
                core.note("told-made", who as u64, || format!("{answer:?}"));
                match answer {
                    Ok(keys) => {
                        let missing = keys.iter().any(|(key, _)| !core.oracle.rules.keys.contains_key(&key.0));
                        self.world.keys.extend(keys);
                        if missing { broken!("2 on disk first", "a key was told and is not there") } else { Ok(()) }
                    }
                    Err(error) => sound(&error),
                }
            }
            Told::Adjusted(row, answer) => {
                core.note("told-adjust", who as u64, || format!("{answer:?}"));
                match answer {
                    Ok(Ok(charge)) => core.oracle.told_adjusted(row, &charge),
                    Ok(Err(_)) => Ok(()),
                    Err(error) => sound(&error),
                }
            }
            Told::SetUp(answer) => match answer {
                Ok(world) => {
                    self.world = *world;
                    Ok(())
                }
                Err(error) => broken!("the world is set up", "{error}"),
            },
            Told::Started(_) | Told::Opened(_) => Ok(()),
        }
    }
}

/// Whether the answer to a reservation may be.
fn judge_reserve(
    core: &mut Core,
    somebody: &mut Somebody,
    processes: &[Process],
    who: usize,
    row: GenerationRow,
    answer: Result<Box<Admission>, StoreError>,
) -> Checked {
    match answer.map(|it| *it) {
        Ok(Admission::Granted(reservation)) => {
            core.count("granted");
            let tariff = somebody.want.map_or(Tariff::Credits, |want| want.tariff);
            let Reservation { row, id, admitted_at, hold, .. } = reservation;
            let process = somebody.process;
            let life = processes.get(process).map_or(0, |it| it.life);
            let id = id.as_str().to_owned();
            somebody.call = Some(Call { row, id, hold, tariff, process, life, settles: 0 });
            core.oracle.told_granted(row, hold, admitted_at)?;
        }
        Ok(Admission::Refused(refusal)) => {
            core.count("refused");
            match core.oracle.watches.get(&who) {
                Some(Watch::Reserve { refusable: false, .. }) if !core.is_murky() => {
                    return broken!("1 none is refused that fits", "generation {}: {refusal:?}", row.0);
                }
                _ => core.count(if core.is_murky() { "refused-unjudged" } else { "refused-judged" }),
            }
        }
        Ok(Admission::Rejected(why)) => {
            core.count("rejected");
            // A node may know of a later time than that at which its batch was loaded.
            let now = core.wall();
            core.oracle.look_at(now);
            if let Some(Watch::Reserve { rejectable: false, .. }) = core.oracle.watches.get(&who) {
                return broken!("1 none is refused that fits", "generation {}: {why}", row.0);
            }
        }
        Err(error) => {
            core.count("unanswered");
            core.murky();
            // Long after the last fault nothing ails anybody but a clock that jumped.
            if core.firm && !matches!(error, StoreError::ClockJumped { .. }) {
                return broken!("everything ends", "generation {} long after the last fault: {error}", row.0);
            }
            sound(&error)?;
        }
    }
    Ok(())
}

/// Only some faults may be told.
pub fn sound(error: &StoreError) -> Checked {
    match error {
        StoreError::Unavailable(_) | StoreError::Uncertain | StoreError::ClockJumped { .. } => Ok(()),
        StoreError::Corrupt(_) | StoreError::Amount(_) | StoreError::Closed => broken!("everything ends", "{error}"),
    }
}
