//! What the data path is held to: what providers were sent and what they showed of their answers, what those cost, and what
//! callers heard. Shares no arithmetic with what it judges.

use std::collections::BTreeMap;

use tokio::time::Instant;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::Amounts;
use tollgate_domain::model::Endpoint;
use tollgate_domain::money::Excess;
use tollgate_domain::pricing::PriceList;
use tollgate_domain::{Price, Timestamp, Usd};
use tollgate_gateway::Limits;
use tollgate_store::{Outcome, Settled, Settlement};

use crate::core::Core;
use crate::oracle::{Checked, broken};

/// The number of a chat.
pub type ChatId = u64;

/// What a provider says that an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub prompt: u64,
    pub cached: u64,
    pub written: u64,
    pub completion: u64,
    pub reasoning: u64,
}

/// What a provider said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Tokens(Used),
    /// Counts that cannot be.
    Impossible(Used),
    Nonsense,
}

/// How far a call came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    #[default]
    Connecting,
    Unreachable,
    /// It was sent, perhaps.
    Waiting,
    /// Certainly not.
    Unsent,
    /// It broke before it was answered.
    Broken,
    Answered(u16),
}

/// What of an answer the data path has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    pub stage: Stage,
    /// Pieces of output.
    pub words: usize,
    pub said: Option<Said>,
    pub finished: bool,
    /// The stream said that it is over.
    pub done: bool,
    pub error: bool,
    pub end: Option<End>,
}

/// How the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Closed,
    /// So, with a document in the place of the stream that was asked for.
    Garbled,
    Cut,
}

/// A call to a provider.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The provider's name of the model, which tells its price.
    pub endpoint: String,
    /// Whether a workspace pays for it.
    pub own: bool,
    pub cap: u64,
    pub choices: u64,
    /// Bytes of the prompt, each a token at the most.
    pub prompt: u64,
    /// When something came last that counts.
    pub heard: Instant,
    pub begun: bool,
    pub shown: Shown,
}

/// What is durably held for a generation when it is sent.
pub enum Held {
    /// What the model saw become durable.
    AsSeen,
    /// What is in the database.
    Read(Option<Amounts>),
}

/// What a call is to cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Exactly(Used),
    /// All that is held.
    Hold,
    /// More than nothing, and no more than is held.
    Estimate,
}

impl Shown {
    /// Whether nothing can have been billed for it.
    const fn is_free(&self) -> bool {
        match self.stage {
            Stage::Connecting | Stage::Unreachable | Stage::Unsent => true,
            Stage::Waiting | Stage::Broken => false,
            Stage::Answered(status) => !(status >= 200 && status < 300),
        }
    }

    /// Whether all of the answer was seen.
    const fn is_complete(&self) -> bool {
        let closed = matches!(self.end, Some(End::Closed | End::Garbled));
        (self.done || (closed && self.finished)) && !self.error
    }

    /// Whether nothing is left to read.
    const fn is_over(&self) -> bool {
        self.is_free() || matches!(self.stage, Stage::Broken) || self.done || self.error || self.end.is_some()
    }

    const fn due(&self) -> Due {
        if self.is_free() {
            return Due::Nothing;
        }
        match self.said {
            Some(Said::Tokens(_) | Said::Impossible(_)) if !self.is_complete() && !self.finished => Due::Estimate,
            Some(Said::Tokens(used)) => Due::Exactly(used),
            Some(Said::Impossible(_) | Said::Nonsense) => Due::Hold,
            None if self.error && self.words == 0 => Due::Nothing,
            None if self.words == 0 && !self.is_complete() => Due::Hold,
            None => Due::Estimate,
        }
    }
}

/// A call of a caller.
#[derive(Clone, Debug)]
struct Chat {
    process: usize,
    row: Option<GenerationRow>,
    /// Its public id.
    id: String,
    /// What the data path knows to be held.
    hold: Amounts,
    calls: Vec<Sent>,
    /// When its caller left.
    left: Option<Instant>,
    /// Of how many pieces of output the caller heard, once it heard anything.
    heard: Option<usize>,
    /// Whether the caller was told the cost, or that it is pending.
    told: bool,
    settled: bool,
    /// Whether the caller is done with it.
    over: bool,
}

/// What was told, to be compared once it is known what was written.
#[derive(Debug)]
pub enum Later {
    Granted(GenerationRow, Amounts, Timestamp),
    Raised(GenerationRow, Amounts),
    Settled(GenerationRow, Settled),
    /// What a caller was told that it cost.
    Cost(GenerationRow, Usd),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Data {
    limits: Limits,
    /// What a call under an own credential costs, in percent.
    fee: i128,
    /// Everything that was ever published, by the provider's name of the model.
    pub endpoints: BTreeMap<String, Endpoint>,
    pub editions: u64,
    /// The provider's name of the model, by the version of the price.
    pub versions: BTreeMap<i64, String>,
    /// Whether own credentials were stored.
    pub owned: bool,
    chats: BTreeMap<ChatId, Chat>,
    rows: BTreeMap<i64, ChatId>,
    last: ChatId,
    /// The chat whose caller is polled.
    pub current: Option<ChatId>,
    /// Intents that the data path waits for.
    pub busy: usize,
    later: Vec<Later>,
    /// Generations that ended, for corrections.
    pub ended: Vec<(GenerationRow, String)>,
}

/// What is in each piece of output, and nowhere else.
pub const WORD: &str = "once ";

fn picos(price: Price) -> i128 {
    i128::from(price.picos())
}

/// The list price of what was used, in pico-dollars.
fn list(prices: &PriceList, used: &Used) -> i128 {
    let or = |price: Option<Price>| picos(price.unwrap_or(prices.prompt));
    let plain = i128::from(used.prompt) - i128::from(used.cached) - i128::from(used.written);
    let thought = prices.internal_reasoning.filter(|price| picos(*price) > 0).unwrap_or(prices.completion);
    picos(prices.request)
        + picos(prices.prompt) * plain
        + or(prices.input_cache_read) * i128::from(used.cached)
        + or(prices.input_cache_write) * i128::from(used.written)
        + picos(prices.completion) * (i128::from(used.completion) - i128::from(used.reasoning))
        + picos(thought) * i128::from(used.reasoning)
}

/// So many pico-dollars and parts of them, in whole nano-dollars.
fn up(picos: i128, parts: i128) -> Usd {
    let unit = 1_000 * parts;
    Usd::from_nanos(i64::try_from((picos + unit - 1) / unit).unwrap_or(i64::MAX))
}

impl Data {
    /// Nothing yet, by these limits and at this fee.
    pub fn new(limits: Limits, fee: i128) -> Self {
        Self { limits, fee, ..Self::default() }
    }

    /// What a list price comes to for whoever pays.
    fn charge(&self, picos: i128, own: bool) -> Amounts {
        if own {
            Amounts { credits: up(picos * self.fee, 100), byok: up(picos, 1) }
        } else {
            Amounts { credits: up(picos, 1), byok: Usd::ZERO }
        }
    }

    fn cost(&self, sent: &Sent, used: &Used) -> Option<Amounts> {
        let prices = self.endpoints.get(&sent.endpoint)?.prices.as_ref()?;
        Some(self.charge(list(prices, used), sent.own))
    }

    /// The most that an honest provider bills for a call.
    fn most(&self, sent: &Sent) -> Option<Amounts> {
        let prices = self.endpoints.get(&sent.endpoint)?.prices.as_ref()?;
        let completion = sent.cap * sent.choices;
        let used = |cached, written, reasoning| {
            let used = Used { prompt: sent.prompt, cached, written, completion, reasoning };
            list(prices, &used)
        };
        let all = sent.prompt;
        let dearest = [(0, 0), (all, 0), (0, all)].map(|(cached, written)| {
            let (spoken, thought) = (used(cached, written, 0), used(cached, written, completion));
            spoken.max(thought)
        });
        Some(self.charge(dearest.into_iter().max().unwrap_or(0), sent.own))
    }

    /// Begins a chat.
    pub fn begin(&mut self, process: usize) -> ChatId {
        self.last += 1;
        let chat = Chat {
            process,
            row: None,
            id: String::new(),
            hold: Amounts::default(),
            calls: Vec::new(),
            left: None,
            heard: None,
            told: false,
            settled: false,
            over: false,
        };
        self.chats.insert(self.last, chat);
        self.last
    }

    /// A generation is granted to the chat whose caller is polled.
    pub fn granted(&mut self, chat: Option<ChatId>, row: GenerationRow, id: &str, hold: Amounts) -> Checked {
        let Some((number, chat)) = chat.and_then(|number| Some((number, self.chats.get_mut(&number)?))) else {
            return broken!("the data path answers", "generation {} is of no chat", row.0);
        };
        if let Some(before) = chat.row.replace(row) {
            return broken!("3 exactly once", "a chat holds generation {} and generation {}", before.0, row.0);
        }
        id.clone_into(&mut chat.id);
        chat.hold = hold;
        self.rows.insert(row.0, number);
        Ok(())
    }

    /// More is held, as the data path knows.
    pub fn raised(&mut self, row: GenerationRow, to: Amounts) {
        let chat = self.rows.get(&row.0).and_then(|number| self.chats.get_mut(number));
        if let Some(chat) = chat {
            chat.hold = to;
        }
    }

    /// To be compared later.
    pub fn later(&mut self, later: Later) {
        self.later.push(later);
    }

    /// Whether anything may be decided and not written.
    pub const fn is_busy(&self) -> bool {
        self.busy > 0
    }

    /// Shows the data path more of an answer.
    pub fn show(&mut self, number: ChatId, call: usize, show: impl FnOnce(&mut Sent)) {
        if let Some(sent) = self.chats.get_mut(&number).and_then(|chat| chat.calls.get_mut(call)) {
            show(sent);
        }
    }

    /// Whether the caller of a chat left.
    pub fn has_left(&self, number: ChatId) -> bool {
        self.chats.get(&number).is_some_and(|chat| chat.left.is_some())
    }

    /// The caller of a chat leaves.
    pub fn left(&mut self, number: ChatId, now: Instant) {
        if let Some(chat) = self.chats.get_mut(&number) {
            chat.left = Some(now);
            chat.over = true;
        }
        self.forget(number);
    }

    fn forget(&mut self, number: ChatId) {
        let done = self.chats.get(&number).is_some_and(|chat| chat.over && (chat.settled || chat.row.is_none()));
        if done && let Some(row) = self.chats.remove(&number).and_then(|chat| chat.row) {
            self.rows.remove(&row.0);
        }
    }

    /// A process died: nobody settles what it had in flight.
    pub fn died(&mut self, process: usize) {
        self.chats.retain(|_, chat| chat.process != process);
        self.rows.retain(|_, number| self.chats.contains_key(number));
    }

    /// The caller of a chat hears something.
    pub fn heard(&mut self, number: ChatId, bytes: &[u8]) -> Checked {
        let Some(chat) = self.chats.get_mut(&number) else { return Ok(()) };
        let text = String::from_utf8_lossy(bytes);
        chat.heard = Some(chat.heard.unwrap_or(0) + text.matches(WORD).count());
        chat.told |= text.contains(": tollgate-settlement pending");
        let Some((_, usage)) = text.split_once("\"usage\":{") else { return Ok(()) };
        let said = usage.split_once("\"cost\":").and_then(|(_, rest)| rest.split(',').next());
        let cost = said.and_then(|text| Usd::parse(text, Excess::Refuse).ok());
        let (Some(cost), Some(row)) = (cost, chat.row) else {
            return broken!("7 answers are exact", "usage without a cost: {usage}");
        };
        chat.told = true;
        self.later.push(Later::Cost(row, cost));
        Ok(())
    }

    /// An answer to a chat begins, under this id.
    pub fn headed(&mut self, number: ChatId, id: &str, pending: bool) -> Checked {
        let Some(chat) = self.chats.get_mut(&number) else { return Ok(()) };
        chat.told |= pending;
        if chat.id == id { Ok(()) } else { broken!("7 answers are exact", "chat {number} is {id}, and {}", chat.id) }
    }

    /// The caller of a chat has its answer, all of it.
    pub fn answered(&mut self, number: ChatId) -> Checked {
        let Some(chat) = self.chats.get_mut(&number) else { return Ok(()) };
        chat.over = true;
        let last = chat.calls.iter().rfind(|sent| !sent.shown.is_free());
        let row = chat.row.map_or(0, |row| row.0);
        let is_garbled = |it: &Sent| it.shown.end == Some(End::Garbled);
        let exact = last
            .is_some_and(|it| !is_garbled(it) && it.shown.is_complete() && matches!(it.shown.due(), Due::Exactly(_)));
        let words = last.map_or(0, |it| if is_garbled(it) { 0 } else { it.shown.words });
        let checked = match chat {
            Chat { heard, .. } if heard.unwrap_or(0) != words => {
                broken!("7 answers are exact", "of generation {row}, {words} pieces came, and {heard:?} went on")
            }
            Chat { settled: false, .. } => broken!("3 exactly once", "generation {row} is answered, and not settled"),
            Chat { told: false, .. } if exact => {
                broken!("7 answers are exact", "the answer of generation {row} has no usage")
            }
            _ => Ok(()),
        };
        self.forget(number);
        checked
    }

    /// The caller of a chat gets no answer.
    pub fn unanswered(&mut self, number: ChatId) -> Checked {
        let Some(chat) = self.chats.get_mut(&number) else { return Ok(()) };
        chat.over = true;
        let held = chat.row.filter(|_| !chat.settled);
        self.forget(number);
        match held {
            Some(row) => broken!("3 exactly once", "generation {} is given up, and not settled", row.0),
            None => Ok(()),
        }
    }

    /// The data path settles.
    fn settles(&mut self, settlement: &Settlement, now: Instant) -> Checked {
        let row = settlement.row.0;
        let number = self.rows.get(&row).copied();
        let Some(chat) = number.and_then(|number| self.chats.get_mut(&number)) else {
            return broken!("3 exactly once", "generation {row} is settled by a chat that ended, or never was");
        };
        if std::mem::replace(&mut chat.settled, true) {
            return broken!("3 exactly once", "the data path settles generation {row} twice");
        }
        let chat = chat.clone();
        self.ended.push((settlement.row, chat.id.clone()));
        let checked = self.judge(&chat, settlement, now);
        self.forget(number.unwrap_or_default());
        checked
    }

    /// Every try at a provider, with its status where it was answered.
    fn tried(&self, calls: &[Sent]) -> Vec<(&str, Option<u16>)> {
        let provider = |sent: &Sent| self.endpoints.get(&sent.endpoint).map_or("", |it| it.provider.as_str());
        // Once more on another connection is the same try; that is done once, where it can still be held for.
        let unsent = calls.iter().position(|sent| sent.shown.stage == Stage::Unsent);
        let again = unsent.filter(|place| {
            let whose = |place: usize| calls.get(place).map(|sent| (&sent.endpoint, sent.own));
            whose(*place) == whose(place + 1)
        });
        let each = calls.iter().enumerate().filter_map(|(place, sent)| match sent.shown.stage {
            Stage::Connecting => None,
            Stage::Answered(status) => Some((provider(sent), Some(status))),
            _ => (again != Some(place)).then(|| (provider(sent), None)),
        });
        each.collect()
    }

    /// Whether a settlement is what the provider's answer costs.
    fn judge(&self, chat: &Chat, settlement: &Settlement, now: Instant) -> Checked {
        let Settlement { row, outcome, charge, price, facts, .. } = settlement;
        let tried = self.tried(&chat.calls);
        if !facts.attempts.iter().map(|it| (it.provider.as_str(), it.status)).eq(tried.iter().copied()) {
            return broken!("every attempt is recorded", "generation {}: {:?} of {tried:?}", row.0, facts.attempts);
        }
        let Some(sent) = chat.calls.iter().rfind(|sent| !sent.shown.is_free()) else {
            if *charge == Amounts::default() && *outcome == Outcome::Released {
                return Ok(());
            }
            return broken!("4 exact cost", "generation {}: nothing was billed, and it costs {charge:?}", row.0);
        };
        let (due, hold) = (sent.shown.due(), chat.hold);
        let nothing = Amounts::default();
        let estimate = |least: bool| least && *charge != nothing && hold.covers(charge);
        let right = match due {
            Due::Nothing => *charge == nothing && *outcome == Outcome::Released,
            Due::Exactly(used) => {
                let paid = if sent.own { charge.byok } else { charge.credits };
                let parts = [settlement.cost.prompt, settlement.cost.completion].into_iter().sum::<Usd>();
                let listed = settlement.cost.total == paid && parts == paid;
                self.cost(sent, &used) == Some(*charge) && listed && *outcome == Outcome::Settled
            }
            Due::Hold => *charge == hold && matches!(outcome, Outcome::Implausible | Outcome::Estimated),
            Due::Estimate => estimate(true) && *outcome == Outcome::Estimated,
        };
        if !right {
            let cost = if let Due::Exactly(used) = due { self.cost(sent, &used) } else { None };
            return broken!(
                "4 exact cost",
                "generation {}: {outcome:?} at {charge:?} of {hold:?}; due is {due:?}, {cost:?}, for {sent:?}",
                row.0
            );
        }
        if due != Due::Nothing && self.versions.get(&price.0) != Some(&sent.endpoint) {
            return broken!("4 exact cost", "generation {} is settled at the price of another: {price:?}", row.0);
        }
        let Limits { head_timeout, idle_timeout, drain_timeout, .. } = self.limits;
        let patience = if sent.begun { idle_timeout } else { head_timeout };
        let since = |then: Instant| now.saturating_duration_since(then);
        let given_up = since(sent.heard) >= patience || chat.left.is_some_and(|left| since(left) >= drain_timeout);
        if !sent.shown.is_over() && !given_up {
            return broken!("a cut line is no discount", "generation {} is not read to its end: {sent:?}", row.0);
        }
        Ok(())
    }
}

impl Core {
    /// A call reaches a provider. Its number among those of its chat.
    pub fn forwarded(&mut self, number: ChatId, sent: Sent, held: &Held) -> usize {
        let checked = self.may_be_sent(number, &sent, held);
        self.check(checked);
        let Some(chat) = self.data.chats.get_mut(&number) else { return 0 };
        chat.calls.push(sent);
        chat.calls.len() - 1
    }

    fn may_be_sent(&self, number: ChatId, sent: &Sent, held: &Held) -> Checked {
        let Some(chat) = self.data.chats.get(&number) else {
            return broken!("2 on disk first", "chat {number} is sent, and is over");
        };
        let Some(row) = chat.row else {
            return broken!("2 on disk first", "chat {number} is sent, and nothing is held");
        };
        if chat.heard.is_some() || chat.settled {
            return broken!("a retry is free", "generation {} is sent again after it was answered", row.0);
        }
        if let Some(before) = chat.calls.iter().find(|before| !before.shown.is_free()) {
            return broken!("a retry is free", "generation {} is sent again after {before:?}", row.0);
        }
        let Some(most) = self.data.most(sent) else {
            return broken!("the data path answers", "generation {} is sent to {}", row.0, sent.endpoint);
        };
        let generation = self.oracle.generations.get(&row.0);
        if generation.is_some_and(|it| it.outcome == Some(Outcome::Lost)) {
            // By others, while this process stood still.
            return Ok(());
        }
        let durable = match held {
            Held::AsSeen => generation.filter(|it| it.outcome.is_none()).map(|it| it.open.hold),
            Held::Read(hold) => *hold,
        };
        match durable {
            Some(hold) if hold.covers(&most) => Ok(()),
            durable => broken!(
                "2 on disk first",
                "generation {} is sent, and may cost {most:?}; {durable:?} is held: {sent:?}",
                row.0
            ),
        }
    }

    /// The generation of a chat.
    pub fn row_of(&self, number: ChatId) -> Option<GenerationRow> {
        self.data.chats.get(&number).and_then(|chat| chat.row)
    }

    /// The data path begins to settle.
    pub fn settles(&mut self, settlement: &Settlement, now: Instant) {
        self.count(match settlement.outcome {
            Outcome::Settled => "chat-settled",
            Outcome::Estimated => "chat-estimated",
            Outcome::Implausible => "chat-implausible",
            Outcome::Released | Outcome::Lost => "chat-released",
        });
        if settlement.facts.cancelled {
            self.count("chat-drained");
        }
        if settlement.is_byok() {
            self.count("chat-own");
        }
        let checked = self.data.settles(settlement, now);
        self.check(checked);
        self.oracle.means(settlement.row, settlement.charge);
    }

    /// Compares what was told with what is written.
    pub fn compare(&mut self) {
        let told = std::mem::take(&mut self.data.later);
        let raised = |row| told.iter().any(|later| matches!(later, Later::Raised(it, _) if *it == row));
        let raised: Vec<bool> =
            told.iter().map(|later| matches!(later, Later::Granted(row, ..) if raised(*row))).collect();
        for (later, raised) in told.into_iter().zip(raised) {
            let checked = match later {
                Later::Granted(row, hold, at) => self.oracle.was_granted(row, hold, at, raised),
                Later::Raised(row, to) => self.oracle.told_raised(row, &to, true),
                Later::Settled(row, settled) => self.oracle.told_settled(row, &settled, true),
                Later::Cost(row, cost) => self.oracle.told_cost(row, cost),
            };
            self.check(checked);
        }
    }
}
