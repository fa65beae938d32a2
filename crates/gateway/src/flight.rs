//! A call that was sent: whoever holds it must see it settled.
//!
//! It is polled by the request that waits for it. If that request goes away, dropping the [`Guard`] moves the flight, with
//! its connection, decoder and reservation, into a supervised task that reads on and settles.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use tokio::time::{Instant, Sleep};
use tollgate_domain::Usd;
use tollgate_domain::ledger::{Amounts, Tariff};
use tollgate_domain::money::MoneyError;
use tollgate_domain::pricing::{Bound, Cost, MediaUnits};
use tollgate_domain::usage::{Metered, TokenUsage};
use tollgate_store::{Attempt, Outcome, PricedEndpoint, Reservation, Settled, Settlement, SettlementFacts, StoreError};

use crate::answer;
use crate::decoder::Decoder;
use crate::exchange::Shared;
use crate::rates::Place;
use crate::steps::Step;
use crate::upstream::{Broken, Call, Head};
use crate::usage::{self, Reported};

/// What a flight did while it was polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is output to pass on.
    Output,
    /// Nothing came for a while.
    Silent,
    /// Nothing more will come.
    Ended(Ending),
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As it should.
    Complete,
    /// The provider said that it failed.
    Failed,
    /// The connection broke, or the answer made no sense.
    Broken,
    /// The provider went silent for too long.
    TimedOut,
    /// The connection was gone before a byte of the call was written: nothing can have been billed.
    Unsent,
}

impl From<Broken> for Ending {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Unsent => Self::Unsent,
            Broken::Unknown => Self::Broken,
        }
    }
}

/// What a settlement says to the caller.
#[derive(Clone, Copy, Debug)]
pub struct Bill {
    /// The tokens, where anything is known of them.
    pub tokens: Option<TokenUsage>,
    /// What they cost in the list.
    pub cost: Cost,
    /// What the account is charged for them.
    pub credits: Usd,
    /// Whether an own provider credential paid the provider.
    pub is_byok: bool,
}

impl Bill {
    pub fn of(settlement: &Settlement) -> Self {
        Self {
            tokens: settlement.metered.as_ref().map(|metered| *metered.tokens()),
            cost: settlement.cost,
            credits: settlement.charge.credits,
            is_byok: settlement.is_byok(),
        }
    }

    /// The `usage` object of an answer that used `tokens`.
    pub fn usage(&self, tokens: &TokenUsage) -> String {
        answer::usage(tokens, self.credits, &self.cost, self.is_byok)
    }
}

/// A call that was sent.
pub struct Flight {
    pub shared: Arc<Shared>,
    pub reservation: Reservation,
    /// Among the calls of its key that are in flight, where those are counted.
    pub place: Option<Place>,
    pub endpoint: Arc<PricedEndpoint>,
    pub call: Call,
    /// Reads what comes back.
    pub decoder: Decoder,
    pub streamed: bool,
    /// `X-Request-Id`, for the log.
    pub request_id: Box<str>,
    pub bound: Bound,
    /// Who pays, and what.
    pub tariff: Tariff,
    pub media: MediaUnits,
    pub prompt_bytes: u64,
    pub media_tokens: u64,
    pub facts: SettlementFacts,
    pub started: Instant,
    pub head: Option<Head>,
    /// When the provider last said anything that counts.
    pub last_data: Instant,
    /// When the caller last heard anything.
    pub last_output: Instant,
    /// Whether the provider said anything that counts.
    pub begun: bool,
    pub timer: Option<Pin<Box<Sleep>>>,
}

impl Flight {
    /// Waits for the beginning of the answer.
    pub async fn head(&mut self) -> Result<Head, Ending> {
        let limit = self.shared.limits.head_timeout;
        let head = poll_fn(|cx| self.call.poll_head(cx));
        match tokio::time::timeout(limit, head).await {
            Err(_) => Err(Ending::TimedOut),
            Ok(Err(broken)) => Err(broken.into()),
            Ok(Ok(head)) => {
                self.answered(head.clone());
                Ok(head)
            }
        }
    }

    /// Notes the beginning of the answer.
    pub fn answered(&mut self, head: Head) {
        self.facts.latency_ms = Some(millis(self.started));
        self.note_attempt(Some(head.status));
        self.head = Some(head);
        self.shared.steps.reached(Step::Answered);
    }

    /// Notes what became of this try: its status, or `None` where it was never answered.
    pub fn note_attempt(&mut self, status: Option<u16>) {
        let provider = self.endpoint.endpoint.provider.clone();
        let (latency_ms, credential) = (millis(self.started), self.facts.credential);
        self.facts.attempts.push(Attempt { provider, status, latency_ms, credential });
    }

    /// Reads what is there.
    pub fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<Progress> {
        if self.head.is_none() {
            match self.call.poll_head(cx) {
                Poll::Pending => return self.poll_timer(cx),
                Poll::Ready(Err(broken)) => return Poll::Ready(Progress::Ended(broken.into())),
                Poll::Ready(Ok(head)) => {
                    let status = head.status;
                    self.answered(head);
                    if !(200..300).contains(&status) {
                        self.decoder.meter.failed = true;
                        return Poll::Ready(Progress::Ended(Ending::Failed));
                    }
                }
            }
        }
        loop {
            match self.call.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    if let Err(ending) = self.feed(&data) {
                        return Poll::Ready(Progress::Ended(ending));
                    }
                }
                Poll::Ready(Some(Err(Broken::Unsent | Broken::Unknown))) => {
                    // A stream that said how it ended has ended so, however its connection did.
                    let told = self.decoder.meter.done || self.decoder.meter.failed;
                    let ending = if told { self.decoder.complete() } else { Ending::Broken };
                    return Poll::Ready(Progress::Ended(ending));
                }
                Poll::Ready(None) => return Poll::Ready(Progress::Ended(self.decoder.complete())),
                Poll::Pending if self.decoder.meter.done || self.decoder.meter.failed => {
                    return Poll::Ready(Progress::Ended(self.decoder.complete()));
                }
                Poll::Pending => break,
            }
        }
        if self.decoder.out.is_empty() {
            return self.poll_timer(cx);
        }
        self.last_output = self.last_data;
        Poll::Ready(Progress::Output)
    }

    /// Comes up when the caller ought to hear something, or the provider was silent for too long. The timer only looks
    /// when it fires: setting it anew for each event would cost more than the event.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Progress> {
        let limits = &self.shared.limits;
        let patience = if self.begun { limits.idle_timeout } else { limits.head_timeout };
        let mut next = (self.last_output + limits.keep_alive).min(self.last_data + patience);
        loop {
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            // Patience is shorter once a provider has begun.
            if next < timer.deadline() {
                timer.as_mut().reset(next);
            }
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= self.last_data + patience {
                return Poll::Ready(Progress::Ended(Ending::TimedOut));
            }
            let silent = now >= self.last_output + limits.keep_alive;
            if silent {
                self.last_output = now;
            }
            next = (self.last_output + limits.keep_alive).min(self.last_data + patience);
            timer.as_mut().reset(next);
            if silent {
                return Poll::Ready(Progress::Silent);
            }
        }
    }

    fn feed(&mut self, data: &[u8]) -> Result<(), Ending> {
        if self.decoder.feed(data, &self.shared.limits)? {
            self.mark_progress();
        }
        Ok(())
    }

    fn mark_progress(&mut self) {
        self.last_data = Instant::now();
        self.begun = true;
    }

    /// Reads to the end.
    pub async fn end(&mut self) -> Ending {
        loop {
            match poll_fn(|cx| self.poll_progress(cx)).await {
                Progress::Ended(ending) => return ending,
                Progress::Output => self.decoder.out.clear(),
                Progress::Silent => {}
            }
        }
    }

    /// The bill (DESIGN section 5, "what is billed"), with the facts of the call, which the flight gives away.
    pub fn settlement(&mut self, ending: Ending) -> Settlement {
        self.shared.steps.reached(Step::Metered);
        if self.head.is_none() {
            self.note_attempt(None);
        }
        self.facts.generation_ms = Some(millis(self.started));
        // A caller who left never learns how it ended (contract section 12).
        self.facts.finish_reason = self.decoder.meter.finish_reason.clone().filter(|_| !self.facts.cancelled);
        self.facts.native_finish_reason.clone_from(&self.decoder.meter.native_finish_reason);
        self.facts.upstream_id = self.decoder.meter.upstream_id.take();
        self.facts.streamed = self.streamed;
        let (outcome, metered, cost, charge) = self.bill(ending);
        if cost.total > self.list_hold() {
            tracing::warn!(
                request.id = self.request_id,
                generation.id = %self.reservation.id,
                hold = %self.list_hold(),
                cost = %cost.total,
                "the provider billed more than the bound; all of it is recorded"
            );
        }
        Settlement {
            row: self.reservation.row,
            outcome,
            charge,
            cost,
            metered,
            price: self.endpoint.version,
            facts: std::mem::take(&mut self.facts),
        }
    }

    fn bill(&self, ending: Ending) -> (Outcome, Option<Metered>, Cost, Amounts) {
        let (hold, list) = (self.reservation.hold, self.list_hold());
        let nothing = (Outcome::Released, None, Cost::default(), Amounts::default());
        let held = at(list, list);
        let refused = self.head.as_ref().is_some_and(|head| !(200..300).contains(&head.status));
        match self.decoder.meter.reported {
            // An error status, whoever read its body and how far.
            None if refused => nothing,
            // What it said before it broke off may be less than what it went on to produce.
            Some(Reported::Tokens(said))
                if ending != Ending::Complete && self.decoder.meter.finish_reason.is_none() =>
            {
                let seen = self.estimate();
                self.estimated(TokenUsage { completion: said.completion.max(seen.completion), ..said })
            }
            Some(Reported::Tokens(tokens)) => match self.price(&tokens) {
                Ok((cost, charge)) if self.plausible(&tokens) => {
                    (Outcome::Settled, Some(Metered::Known(tokens)), cost, charge)
                }
                _ => (Outcome::Implausible, Some(Metered::Known(tokens)), held, hold),
            },
            Some(Reported::Nonsense) => (Outcome::Implausible, None, held, hold),
            None if matches!(ending, Ending::Failed | Ending::Unsent) && self.decoder.meter.output_bytes == 0 => {
                nothing
            }
            // Nobody knows what became of it: it may have been answered and billed in full.
            None if self.decoder.meter.output_bytes == 0 && ending != Ending::Complete => {
                (Outcome::Estimated, None, held, hold)
            }
            None => self.estimated(self.estimate()),
        }
    }

    /// The bill for tokens that were estimated: what was held at the most.
    fn estimated(&self, tokens: TokenUsage) -> (Outcome, Option<Metered>, Cost, Amounts) {
        let (hold, list) = (self.reservation.hold, self.list_hold());
        let (cost, charge) = self.price(&tokens).unwrap_or_else(|_| (at(list, list), hold));
        let capped = at(cost.total.min(list), cost.prompt);
        (Outcome::Estimated, Some(Metered::Estimated(tokens)), capped, charge.at_most(&hold))
    }

    /// What is held of the list price.
    const fn list_hold(&self) -> Usd {
        self.reservation.hold.of(self.tariff.list_kind())
    }

    /// The tokens of what went and came.
    fn estimate(&self) -> TokenUsage {
        let output_max = self.reservation.cap.saturating_mul(self.bound.choices);
        let (seen, chunks) = (self.decoder.meter.output_bytes, self.decoder.meter.chunks);
        let prompt = usage::estimate_prompt(self.prompt_bytes, self.media_tokens, self.bound.prompt_tokens);
        TokenUsage { prompt, completion: usage::estimate_completion(seen, chunks, output_max), ..TokenUsage::default() }
    }

    /// The list price of `tokens`, and what is charged for it.
    fn price(&self, tokens: &TokenUsage) -> Result<(Cost, Amounts), MoneyError> {
        let Some(prices) = &self.endpoint.endpoint.prices else { return Ok((Cost::default(), Amounts::default())) };
        let cost = prices.cost(tokens, self.media)?;
        let charge = match self.tariff {
            Tariff::Credits => Amounts::credits(cost.total),
            own @ Tariff::Byok(_) => own.charge(prices.list_picos(tokens, self.media))?,
        };
        Ok((cost, charge))
    }

    fn plausible(&self, tokens: &TokenUsage) -> bool {
        let output_max = self.reservation.cap.saturating_mul(self.bound.choices);
        tokens.plausible(self.endpoint.endpoint.context_length.saturating_add(output_max))
    }

    /// Settles, and waits for it at most [`crate::Limits::settle_wait`]: the bill, and `None` where it is still pending
    /// then.
    pub async fn settle(&mut self, ending: Ending) -> (Bill, Option<Settled>) {
        let settlement = self.settlement(ending);
        let bill = Bill::of(&settlement);
        (bill, settle(&self.shared, settlement).await)
    }

    /// Reads on for a caller that left, and settles. Ends early when shutdown runs out of patience.
    async fn drain(mut self) {
        self.facts.cancelled = true;
        let (tasks, limit) = (self.shared.tasks.clone(), self.shared.limits.drain_timeout);
        // What panicked once will panic again; it is settled all the same.
        let end = AssertUnwindSafe(self.end()).catch_unwind();
        let hurried = tokio::task::unconstrained(tasks.hurried());
        let ending = tokio::select! {
            // What came counts, also where time is up with it: a provider that is faster than this task cannot outlast the limit.
            biased;
            ended = tokio::time::timeout(limit, end) => ended.map_or(Ending::TimedOut, |end| end.unwrap_or(Ending::Broken)),
            () = hurried => Ending::Broken,
        };
        self.settle(ending).await;
    }
}

/// Books a settlement and waits for it to be durable, but not for ever: the engine goes on trying.
pub async fn settle(shared: &Shared, settlement: Settlement) -> Option<Settled> {
    let settling = shared.app.store().settle(settlement);
    let settled = tokio::time::timeout(shared.limits.settle_wait, settling).await;
    shared.steps.reached(Step::Settled);
    match settled {
        Ok(Ok(settled)) => Some(settled),
        Ok(Err(error)) => {
            tracing::error!(%error, "a settlement could not be written");
            None
        }
        Err(_) => {
            let error = StoreError::Uncertain;
            tracing::error!(%error, "a settlement is not written yet; the ledger goes on trying");
            None
        }
    }
}

/// A cost of `total`, of which the prompt's part is at most `prompt`.
fn at(total: Usd, prompt: Usd) -> Cost {
    let prompt = prompt.min(total);
    Cost { total, prompt, completion: Usd::left_of(total, prompt) }
}

/// Milliseconds since an instant.
pub fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Holds a flight for the request that waits for it.
pub struct Guard(Option<Box<Flight>>);

impl Guard {
    pub fn new(flight: Flight) -> Self {
        Self(Some(Box::new(flight)))
    }

    /// The flight, unless it was taken.
    pub fn flight(&mut self) -> Option<&mut Flight> {
        self.0.as_deref_mut()
    }

    /// Takes the flight, and with it the duty to settle it.
    pub fn take(&mut self) -> Option<Box<Flight>> {
        self.0.take()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(flight) = self.0.take() {
            let tasks = flight.shared.tasks.clone();
            tasks.spawn(flight.drain());
        }
    }
}
