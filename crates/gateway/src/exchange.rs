//! The life of a request: admit, reserve, forward, meter, settle.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use tokio::time::Instant;
use tollgate_app::{App, Catalogue, Model};
use tollgate_domain::credential::{CredentialId, Route, routes};
use tollgate_domain::filter::Note;
use tollgate_domain::guardrail::{Declared, Reach};
use tollgate_domain::ledger::{Amounts, Refusal, RefusalReason, Tariff};
use tollgate_domain::pricing::{Bound, Cost, MediaUnits, OutputCap, PriceList};
use tollgate_store::{
    Admission, Attempt, HeldCredential, InferenceKey, Outcome, PricedEndpoint, Raise, Reservation, Reserve, Settlement,
    SettlementFacts,
};

use crate::answer::Heading;
use crate::bound::{Bounded, bound};
use crate::decoder::Decoder;
use crate::error::{ChatError, FailureKind, ProviderFailure};
use crate::filter;
use crate::flight::{self, Ending, Flight, Guard};
use crate::limits::Limits;
use crate::rates::{Place, Rates};
use crate::request::{ChatRequest, Routing};
use crate::steps::{Step, Steps};
use crate::stream::{AnswerBody, MeteredStream};
use crate::tasks::Tasks;
use crate::upstream::{Head, Provider, ProviderError, ProviderSettings, bearer};

/// What every part of the data path shares.
pub struct Shared {
    pub app: App,
    pub limits: Limits,
    pub tasks: Tasks,
    pub steps: Arc<dyn Steps>,
    pub rates: Arc<Rates>,
}

/// The data path.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
    providers: Arc<HashMap<String, Arc<Provider>>>,
}

/// Who calls, and what they say of themselves.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The key.
    pub key: InferenceKey,
    /// `User-Agent`.
    pub user_agent: Option<String>,
    /// `HTTP-Referer`.
    pub http_referer: Option<String>,
    /// `X-Request-Id`, for the log.
    pub request_id: Box<str>,
}

/// An answer, ready to be sent with status 200.
pub struct Answer {
    /// `X-Generation-Id`.
    pub generation: String,
    /// `X-Provider-Name`.
    pub provider: String,
    /// `X-Tollgate-Max-Tokens`: the cap, where the budget lowered it below the model's own.
    pub lowered_cap: Option<u64>,
    /// `X-Tollgate-Settlement: pending`: the ledger could not be written in time, so there is no usage.
    pub pending: bool,
    /// Whether the body is a stream of events.
    pub streamed: bool,
    /// The body.
    pub body: AnswerBody,
}

/// An endpoint that may answer, and what that can cost.
struct Candidate {
    endpoint: Arc<PricedEndpoint>,
    provider: Arc<Provider>,
    bound: Bound,
    media: MediaUnits,
    /// Tokens that the media count at most.
    media_tokens: u64,
    /// Who pays, and what.
    tariff: Tariff,
    /// The workspace's own provider credential that it is called under.
    own: Option<Own>,
}

/// A workspace's own provider credential, ready to be sent.
struct Own {
    id: CredentialId,
    authorization: HeaderValue,
}

/// An endpoint that guardrails and the caller's wishes leave.
#[derive(Clone, Copy)]
struct Usable<'a> {
    endpoint: &'a Arc<PricedEndpoint>,
    prices: &'a PriceList,
    provider: &'a Arc<Provider>,
}

impl Candidate {
    /// The output cap that it is told, where `held` was reserved for: an open one is no more than its own model can do.
    fn cap(&self, held: u64) -> u64 {
        match self.bound.cap {
            OutputCap::Open { most, .. } => held.min(most),
            OutputCap::Asked(_) => held,
        }
    }
}

impl Gateway {
    /// A data path to these providers.
    ///
    /// # Errors
    /// A provider cannot be used as configured.
    pub fn new(
        app: App,
        providers: Vec<ProviderSettings>,
        limits: Limits,
        tasks: Tasks,
        steps: Arc<dyn Steps>,
    ) -> Result<Self, ProviderError> {
        let providers = providers
            .into_iter()
            .map(|settings| Provider::new(settings, limits).map(|provider| (provider.slug.clone(), Arc::new(provider))))
            .collect::<Result<_, _>>()?;
        let shared = Arc::new(Shared { app, limits, tasks, steps, rates: Arc::default() });
        Ok(Self { shared, providers: Arc::new(providers) })
    }

    /// `POST /chat/completions`.
    ///
    /// # Errors
    /// [`ChatError`]: there is no answer; whatever was held is settled or released.
    pub async fn chat(&self, caller: Caller, body: Bytes) -> Result<Answer, ChatError> {
        let (request, candidates) = self.admit(&caller, body)?;
        let place = self.enter(&caller.key).await?;
        let (request, candidates, notes) = self.filter(&caller, request, candidates).await?;
        let (reservation, candidates) = self.reserve(&caller, &request, &candidates).await?;
        filter::log(&notes, &caller.request_id, &reservation.id);
        let guard = self.forward(&caller, &request, candidates, reservation, place).await?;
        if request.stream { Ok(stream(guard)) } else { whole(guard).await }
    }

    /// Understands the call and finds who may answer it.
    fn admit(&self, caller: &Caller, body: Bytes) -> Result<(ChatRequest, Vec<Candidate>), ChatError> {
        let request = ChatRequest::parse(body)?;
        let candidates = self.candidates(&request, &caller.key)?;
        self.shared.steps.reached(Step::Admitted);
        Ok((request, candidates))
    }

    /// Has the call filtered, where the key has filters: work for which it has its place by now. What the call can cost is
    /// the cost of what is left of it.
    async fn filter(
        &self,
        caller: &Caller,
        request: ChatRequest,
        candidates: Vec<Candidate>,
    ) -> Result<(ChatRequest, Vec<Candidate>, Vec<Note>), ChatError> {
        let Some(reach) = caller.key.reach.as_ref().filter(|reach| reach.filters()) else {
            return Ok((request, candidates, Vec::new()));
        };
        let filtered = filter::apply(request.body(), reach, &caller.request_id).await?;
        let Some(body) = filtered.body else { return Ok((request, candidates, filtered.notes)) };
        let request = ChatRequest::parse(body)?;
        let candidates = self.candidates(&request, &caller.key)?;
        Ok((request, candidates, filtered.notes))
    }

    /// Takes a place among the calls of the key, where it may call only so often.
    async fn enter(&self, key: &InferenceKey) -> Result<Option<Place>, ChatError> {
        if key.call_limits.is_none() {
            return Ok(None);
        }
        match self.shared.rates.enter(key.id, key.call_limits) {
            Ok(place) => Ok(place),
            Err(refusal) => Err(ChatError::TooSoon { refusal, at: self.shared.app.store().now().await? }),
        }
    }

    /// Holds what the first candidate can cost; where the account cannot pay for that, what the first one that somebody else
    /// pays for can. Returns the candidates from there on.
    async fn reserve<'a>(
        &self,
        caller: &Caller,
        request: &ChatRequest,
        candidates: &'a [Candidate],
    ) -> Result<(Reservation, &'a [Candidate]), ChatError> {
        // Without fallbacks there is one try, or the caller's own closed list.
        let alone = request.routing.no_fallbacks && request.routing.order.is_empty();
        let mut left = if alone { candidates.get(..1).unwrap_or_default() } else { candidates };
        let mut refused: Option<Refusal> = None;
        let store = self.shared.app.store();
        while let Some(candidate) = left.first() {
            let want = Reserve {
                row: store.next_generation(),
                key: caller.key.id,
                secret: Some(caller.key.secret),
                price: candidate.endpoint.version,
                bound: candidate.bound,
                tariff: candidate.tariff,
            };
            match store.reserve(want).await? {
                Admission::Granted(reservation) => {
                    self.shared.steps.reached(Step::Reserved);
                    return Ok((reservation, left));
                }
                Admission::Rejected(rejected) => return Err(ChatError::Key(rejected)),
                Admission::Refused(refusal) => {
                    refused = refused.or(Some(refusal));
                    // What somebody else was to pay for is not put on the account instead.
                    let account = candidate.tariff == Tariff::Credits;
                    let other = left.iter().position(|other| account && other.tariff != Tariff::Credits);
                    left = other.and_then(|index| left.get(index..)).unwrap_or_default();
                }
            }
        }
        match refused {
            None => Err(ChatError::NoEndpoint(String::new())),
            Some(Refusal { reason: RefusalReason::Unbounded, .. }) => {
                Err(ChatError::PriceField(request.price_field.clone().unwrap_or_default()))
            }
            Some(refusal) => Err(ChatError::Budget(refusal)),
        }
    }

    /// Sends the call, to one candidate after another until one answers. Free of charge only where nothing can have been
    /// billed: no connection, or an error status.
    async fn forward(
        &self,
        caller: &Caller,
        request: &ChatRequest,
        candidates: &[Candidate],
        reservation: Reservation,
        place: Option<Place>,
    ) -> Result<Guard, ChatError> {
        let granted = reservation.cap;
        let (shared, attempts) = (Arc::clone(&self.shared), Vec::new());
        let mut pending = Pending { shared, price: None, held: Some(reservation), place, attempts };
        let mut last = None;
        let mut tries: VecDeque<&Candidate> = candidates.iter().collect();
        let (mut resent, mut again) = (false, false);
        let mut sent = 0;
        while let Some(candidate) = tries.pop_front() {
            let repeated = std::mem::take(&mut again);
            if sent == self.shared.limits.attempts_max && !repeated {
                break;
            }
            let Some(reservation) = pending.raised(candidate).await else { continue };
            if repeated {
                // It is the same try.
                pending.attempts.pop();
            } else {
                sent = sent.saturating_add(1);
            }
            let endpoint = &candidate.endpoint.endpoint;
            let started = Instant::now();
            let body = request.forwarded(&endpoint.upstream_id, candidate.provider.cap_field(), reservation.cap);
            let (authorization, credential) = candidate.own.as_ref().map(|own| (&own.authorization, own.id)).unzip();
            let now = reservation.admitted_at.seconds();
            let Ok(call) = candidate.provider.call(Bytes::from(body), now, authorization).await else {
                let (provider, latency_ms) = (endpoint.provider.clone(), flight::millis(started));
                last = Some(failure(&provider, FailureKind::Unreachable, credential.is_some(), &pending.attempts));
                pending.attempts.push(Attempt { provider, status: None, latency_ms, credential });
                continue;
            };
            let facts = SettlementFacts {
                user_agent: caller.user_agent.clone(),
                http_referer: caller.http_referer.clone(),
                session_id: request.session_id.clone(),
                credential,
                attempts: std::mem::take(&mut pending.attempts),
                ..SettlementFacts::default()
            };
            let heading = Heading::new(reservation.id.as_str(), &endpoint.provider, &endpoint.model);
            pending.held = None;
            let mut guard = Guard::new(Flight {
                shared: Arc::clone(&self.shared),
                endpoint: Arc::clone(&candidate.endpoint),
                call,
                decoder: Decoder::new(request.stream, heading),
                streamed: request.stream,
                bound: candidate.bound,
                tariff: candidate.tariff,
                media: candidate.media,
                request_id: caller.request_id.clone(),
                prompt_bytes: request.prompt.text_bytes,
                media_tokens: candidate.media_tokens,
                facts,
                started,
                head: None,
                last_data: started,
                last_output: started,
                begun: false,
                timer: None,
                reservation,
                place: pending.place.take(),
            });
            self.shared.steps.reached(Step::Forwarded);
            let Some(answered) = await_head(&mut guard).await else { return Ok(guard) };
            let failed = match answered {
                Ok(head) if (200..300).contains(&head.status) => return Ok(guard),
                Ok(head) => Failed::Status(head),
                Err(Ending::TimedOut) => Failed::Fate(FailureKind::TimedOut),
                Err(Ending::Unsent) => {
                    // An idle connection that the provider closed as we took it: once more, on another one.
                    again = !std::mem::replace(&mut resent, true);
                    if again {
                        tries.push_front(candidate);
                    }
                    Failed::Unsent
                }
                Err(_) => Failed::Fate(FailureKind::Broken),
            };
            let (failure, retry, given_back) = conclude(guard, failed).await;
            last = Some(failure);
            let Some(flight) = given_back else { break };
            // The cap of this try was its model's; the next one's is its own.
            pending.held = Some(Reservation { cap: granted, ..flight.reservation });
            pending.place = flight.place;
            pending.attempts = flight.facts.attempts;
            if !retry {
                break;
            }
        }
        if let (Some(failure), Some(held)) = (&last, &pending.held) {
            let (provider, kind) = (&failure.provider, failure.kind);
            tracing::warn!(request.id = caller.request_id, generation.id = %held.id, provider, ?kind, "no provider answered; nothing is charged");
        }
        pending.release().await;
        Err(ChatError::Provider(last.unwrap_or_else(|| failure("", FailureKind::Unreachable, false, &[]))))
    }

    /// Who may answer: in the order of the models and, in each, of own provider credentials and the caller's wishes; within
    /// what guardrails leave.
    fn candidates(&self, request: &ChatRequest, key: &InferenceKey) -> Result<Vec<Candidate>, ChatError> {
        let catalogue: Arc<Catalogue> = self.shared.app.catalogue();
        let known: Vec<&Model> = request.models.iter().filter_map(|id| catalogue.model(id)).collect();
        let Some(first) = known.first() else {
            return Err(ChatError::UnknownModel(request.models.first().cloned().unwrap_or_default()));
        };
        let first = first.id.clone();
        let (reach, limits) = (key.reach.as_ref(), self.shared.limits);
        let mut found = Vec::new();
        let (mut priced, mut guarded) = (false, false);
        for model in known {
            let mut endpoints: Vec<&Arc<PricedEndpoint>> = model.endpoints.iter().collect();
            endpoints.sort_by_key(|endpoint| preference(&request.routing, &endpoint.endpoint.provider));
            let mut left = Vec::new();
            for endpoint in endpoints {
                let Some(prices) = &endpoint.endpoint.prices else { continue };
                priced = true;
                let Some(provider) = self.providers.get(&endpoint.endpoint.provider) else { continue };
                if reach.is_some_and(|reach| !reach.model(&model.id) || !reach.provider(&provider.slug)) {
                    guarded = true;
                } else if wanted(&request.routing, &provider.slug) {
                    let usable = Usable { endpoint, prices, provider };
                    if key.credentials.is_some() {
                        left.push(usable);
                    } else if may_see(reach, model, provider.declared) {
                        found.push(candidate(request, usable, limits));
                    } else {
                        guarded = true;
                    }
                }
            }
            if let Some(own) = &key.credentials {
                for route in routes(&model.id, &left, own, |usable| usable.provider.slug.as_str()) {
                    let own = route.credential.map(|own| own.credential.terms.declared).unwrap_or_default();
                    if may_see(reach, model, own.or(route.endpoint.provider.declared)) {
                        found.extend(self.routed(request, &route));
                    } else {
                        guarded = true;
                    }
                }
            }
        }
        match (found.is_empty(), priced) {
            (false, _) => Ok(found),
            (true, true) if guarded => Err(ChatError::Guarded),
            (true, true) => Err(ChatError::NoEndpoint(first)),
            (true, false) => Err(ChatError::Unpriced(first)),
        }
    }

    /// The candidate of a route; `None` where its credential's secret cannot be used.
    fn routed(&self, request: &ChatRequest, route: &Route<'_, Usable<'_>, Arc<HeldCredential>>) -> Option<Candidate> {
        let shared = candidate(request, route.endpoint, self.shared.limits);
        let Some(held) = route.credential else { return Some(shared) };
        let authorization = self.shared.app.provider_secret(held).and_then(bearer)?;
        let own = Own { id: held.credential.id, authorization };
        Some(Candidate { tariff: Tariff::Byok(self.shared.app.settings().byok_fee), own: Some(own), ..shared })
    }
}

/// Whether guardrails let calls of a model go to a provider of which this is declared.
fn may_see(reach: Option<&Reach>, model: &Model, declared: Declared) -> bool {
    reach.is_none_or(|reach| reach.data(&model.id, declared))
}

/// Where in the caller's order a provider stands; those not named come last, in the order of the configuration.
fn preference(routing: &Routing, provider: &str) -> usize {
    routing.order.iter().position(|slug| slug == provider).unwrap_or(usize::MAX)
}

fn wanted(routing: &Routing, provider: &str) -> bool {
    let named = |list: &[String]| list.iter().any(|slug| slug == provider);
    let listed = routing.only.is_empty() || named(&routing.only);
    // Without fallbacks an order is a closed list (contract section 14).
    let ordered = !routing.no_fallbacks || routing.order.is_empty() || named(&routing.order);
    listed && ordered && !named(&routing.ignore)
}

/// What an endpoint can do for a call, and what that can cost the account.
fn candidate(request: &ChatRequest, usable: Usable<'_>, limits: Limits) -> Candidate {
    let Usable { endpoint, prices, provider } = usable;
    let Bounded { bound, media, media_tokens } =
        bound(request, &endpoint.endpoint, prices, provider.overhead(), limits.min_output_tokens);
    let (endpoint, provider) = (Arc::clone(endpoint), Arc::clone(provider));
    Candidate { endpoint, provider, bound, media, media_tokens, tariff: Tariff::Credits, own: None }
}

/// Waits for the beginning of an answer. `None`: a stream's provider is silent for so long that its caller must hear
/// something; the answer begins without it.
async fn await_head(guard: &mut Guard) -> Option<Result<Head, Ending>> {
    let flight = guard.flight()?;
    if !flight.streamed {
        return Some(flight.head().await);
    }
    let keep_alive = flight.shared.limits.keep_alive;
    tokio::time::timeout(keep_alive, flight.head()).await.ok()
}

enum Failed {
    /// An error status: nothing was billed.
    Status(Head),
    /// Nothing was written: nothing was billed.
    Unsent,
    /// Nobody knows what became of the call.
    Fate(FailureKind),
}

/// Ends a try that failed. Where nothing was billed, the flight comes back with its reservation for the next one.
async fn conclude(mut guard: Guard, failed: Failed) -> (ProviderFailure, bool, Option<Box<Flight>>) {
    let Some(flight) = guard.flight() else { return (failure("", FailureKind::Broken, false, &[]), false, None) };
    let (provider, is_byok) = (flight.endpoint.endpoint.provider.clone(), flight.facts.credential.is_some());
    match failed {
        Failed::Fate(kind) => {
            let ending = if kind == FailureKind::TimedOut { Ending::TimedOut } else { Ending::Broken };
            let failure = failure(&provider, kind, is_byok, &flight.facts.attempts);
            if let Some(mut flight) = guard.take() {
                flight.settle(ending).await;
            }
            (failure, false, None)
        }
        Failed::Unsent => {
            let failure = failure(&provider, FailureKind::Unreachable, is_byok, &flight.facts.attempts);
            flight.note_attempt(None);
            (failure, true, guard.take())
        }
        Failed::Status(head) => {
            let mut failure = failure(&provider, FailureKind::Status(head.status), is_byok, &flight.facts.attempts);
            failure.previous.pop();
            failure.retry_after = head.retry_after;
            // The credential was refused, ours or a workspace's: what the provider says of it is nobody's business.
            if !matches!(head.status, 401..=403) {
                failure.raw = error_text(flight).await;
            }
            let retry = !matches!(head.status, 400 | 413 | 422);
            (failure, retry, guard.take())
        }
    }
}

/// The provider's own words, cut to a limit.
async fn error_text(flight: &mut Flight) -> String {
    let (limit, patience) = (flight.shared.limits.error_bytes_max, flight.shared.limits.connect_timeout);
    let mut text = Vec::new();
    let read = async {
        while let Some(Ok(data)) = std::future::poll_fn(|cx| flight.call.poll_data(cx)).await {
            text.extend_from_slice(&data);
            if text.len() >= limit {
                break;
            }
        }
    };
    // What came in time is shown; the rest is not waited for.
    let _ = tokio::time::timeout(patience, read).await;
    text.truncate(limit);
    String::from_utf8_lossy(&text).into_owned()
}

fn failure(provider: &str, kind: FailureKind, is_byok: bool, attempts: &[Attempt]) -> ProviderFailure {
    ProviderFailure {
        provider: provider.to_owned(),
        kind,
        is_byok,
        raw: String::new(),
        retry_after: None,
        previous: attempts.iter().map(|attempt| (attempt.provider.clone(), attempt.status)).collect(),
    }
}

/// A reservation of which nothing was sent yet, or is in flight. Dropped with one, it is released.
struct Pending {
    shared: Arc<Shared>,
    price: Option<Arc<PricedEndpoint>>,
    held: Option<Reservation>,
    place: Option<Place>,
    /// What failed so far.
    attempts: Vec<Attempt>,
}

impl Pending {
    /// The reservation, once it holds what `candidate` can cost; `None` where no budget has room for that.
    async fn raised(&mut self, candidate: &Candidate) -> Option<Reservation> {
        let held = self.held.as_mut()?;
        self.price = Some(Arc::clone(&candidate.endpoint));
        let cost = |cap| candidate.tariff.charge(candidate.bound.picos_at(cap)).ok();
        let cap = candidate.cap(held.cap);
        if held.hold.covers(&cost(cap)?) {
            return Some(Reservation { cap, ..held.clone() });
        }
        // An open cap that fits where somebody else pays may be too much here, and the least may not.
        let least = candidate.bound.cap.least();
        for cap in [Some(cap), Some(least).filter(|least| *least < cap)].into_iter().flatten() {
            let cost = cost(cap)?;
            let (open_ended, price) = (candidate.bound.open_ended, candidate.endpoint.version);
            let raise = Raise { row: held.row, to: cost, open_ended, price };
            match self.shared.app.store().raise(raise).await {
                Ok(true) => {
                    held.hold = cost;
                    return Some(Reservation { cap, ..held.clone() });
                }
                Ok(false) => {}
                // Nobody knows which of the two is held: the next attempt asks again.
                Err(_) => held.hold = Amounts::default(),
            }
        }
        None
    }

    /// Gives back what is held: nothing was billed.
    async fn release(mut self) {
        if let Some(settlement) = self.take_release() {
            flight::settle(&self.shared, settlement).await;
        }
    }

    fn take_release(&mut self) -> Option<Settlement> {
        let (reservation, endpoint) = self.held.take().zip(self.price.as_ref())?;
        let attempts = std::mem::take(&mut self.attempts);
        Some(Settlement {
            row: reservation.row,
            outcome: Outcome::Released,
            charge: Amounts::default(),
            cost: Cost::default(),
            metered: None,
            price: endpoint.version,
            facts: SettlementFacts { attempts, ..SettlementFacts::default() },
        })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(settlement) = self.take_release() {
            let (shared, place) = (Arc::clone(&self.shared), self.place.take());
            self.shared.tasks.spawn(async move {
                flight::settle(&shared, settlement).await;
                drop(place);
            });
        }
    }
}

fn stream(mut guard: Guard) -> Answer {
    let (generation, provider, lowered_cap) = guard.flight().map(|flight| describe(flight)).unwrap_or_default();
    let body = AnswerBody::Stream(Box::new(MeteredStream::new(guard)));
    Answer { generation, provider, lowered_cap, pending: false, streamed: true, body }
}

async fn whole(mut guard: Guard) -> Result<Answer, ChatError> {
    let is_byok = guard.flight().is_some_and(|flight| flight.facts.credential.is_some());
    let broken = |provider: &str, kind| ChatError::Provider(failure(provider, kind, is_byok, &[]));
    let Some(flight) = guard.flight() else { return Err(broken("", FailureKind::Broken)) };
    let ending = flight.end().await;
    let Some(mut flight) = guard.take() else { return Err(broken("", FailureKind::Broken)) };
    let (bill, settled) = flight.settle(ending).await;
    let (generation, provider, lowered_cap) = describe(&flight);
    match ending {
        Ending::Complete => {}
        Ending::Failed => return Err(broken(&provider, FailureKind::Status(502))),
        Ending::Broken | Ending::Unsent => return Err(broken(&provider, FailureKind::Broken)),
        Ending::TimedOut => return Err(broken(&provider, FailureKind::TimedOut)),
    }
    let usage = settled.map(|_| bill.usage(&bill.tokens.unwrap_or_default()));
    let body = flight.decoder.result(usage.as_deref());
    let body = AnswerBody::Whole(Some(Bytes::from(body)));
    Ok(Answer { generation, provider, lowered_cap, pending: settled.is_none(), streamed: false, body })
}

/// The id, the provider, and the cap if a budget lowered it.
fn describe(flight: &Flight) -> (String, String, Option<u64>) {
    let lowered = match flight.bound.cap {
        OutputCap::Open { most, .. } if flight.reservation.cap < most => Some(flight.reservation.cap),
        _ => None,
    };
    (flight.reservation.id.to_string(), flight.endpoint.endpoint.provider.clone(), lowered)
}
