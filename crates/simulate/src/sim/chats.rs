//! Calls through the data path: the gateway of a process, and callers who ask it and hear its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tollgate_app::credentials::CredentialRequest;
use tollgate_app::{App, Random, RandomError, Settings, Vault};
use tollgate_domain::credential::TermsChange;
use tollgate_domain::guardrail::Declared;
use tollgate_domain::ledger::{Amounts, Fee};
use tollgate_domain::model::Endpoint;
use tollgate_domain::pricing::PriceList;
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{KeyHash, Price, Usd};
use tollgate_engine::Engine;
use tollgate_gateway::{Caller, ChatError, Gateway, NoSteps, ProviderKind, ProviderSettings, Tasks};
use tollgate_store::{Actor, Credential};

use super::{Sim, sound};
use crate::acts::{Act, Shared, Told};
use crate::core::{Core, Event};
use crate::data::ChatId;
use crate::oracle::{Checked, Watch, broken};
use crate::plan::Plan;
use crate::process::{Gate, Inside};
use crate::provider::Player;
use crate::rng::Rng;
use crate::watched::Watched;

const MODELS: [&str; 2] = ["sim/one", "sim/two"];
const PROVIDERS: [&str; 3] = ["first", "second", "third"];
const CONTEXT: u64 = 4_000;
const OUTPUT: u64 = 12;
/// Nano-dollars that most calls fit into.
const ROOM: i64 = 20;

/// Why a caller has no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// Its secret opens nothing.
    Unknown,
    Failed(Box<ChatError>),
}

/// Numbers that nobody needs to guess here.
struct Dice(Mutex<Rng>);

impl Random for Dice {
    fn bytes(&self) -> Result<[u8; 32], RandomError> {
        let mut rng = self.0.lock();
        let mut bytes = [0; 32];
        for eight in bytes.chunks_mut(8) {
            eight.copy_from_slice(&rng.next().to_le_bytes());
        }
        Ok(bytes)
    }
}

fn prices(rng: &mut Rng) -> PriceList {
    let price = |rng: &mut Rng, low, high| Price::from_picos(rng.between(low, high));
    let maybe = |rng: &mut Rng, low, high| rng.chance(3_000).then(|| Price::from_picos(rng.between(low, high)));
    PriceList {
        prompt: price(rng, 3, 30),
        completion: price(rng, 100, 2_000),
        request: if rng.chance(3_000) { price(rng, 1, 3_000) } else { Price::ZERO },
        image: Price::ZERO,
        input_cache_read: maybe(rng, 1, 30),
        input_cache_write: maybe(rng, 3, 60),
        internal_reasoning: maybe(rng, 0, 3_000),
    }
}

impl Core {
    /// What the configuration says at this start: as at the last one, or other prices.
    fn endpoints(&mut self) -> Vec<Endpoint> {
        if self.data.editions == 0 || (!self.calm && self.rng.chance(3_000)) {
            self.data.editions += 1;
            let mut rng = Rng::new(self.rng.next());
            for model in MODELS {
                for provider in PROVIDERS.iter().take(self.plan.data.providers) {
                    let upstream_id = format!("{model}@{provider}#{}", self.data.editions);
                    let endpoint = Endpoint {
                        model: model.to_owned(),
                        name: model.to_owned(),
                        provider: (*provider).to_owned(),
                        upstream_id: upstream_id.clone(),
                        context_length: CONTEXT,
                        max_output_tokens: OUTPUT,
                        max_image_tokens: None,
                        prices: Some(prices(&mut rng)),
                    };
                    self.data.endpoints.insert(upstream_id, endpoint);
                }
            }
        }
        let newest = format!("#{}", self.data.editions);
        let all = self.data.endpoints.values();
        all.filter(|endpoint| endpoint.upstream_id.ends_with(&newest)).cloned().collect()
    }
}

/// As at the start of a server: the product on the store, its prices, and the data path.
async fn open(store: Shared, books: Player, core: Arc<Mutex<Core>>) -> Result<Gate, String> {
    let (endpoints, plan, seed, owned) = {
        let mut core = core.lock();
        (core.endpoints(), core.plan.data.clone(), core.rng.next(), core.data.owned)
    };
    let providers = PROVIDERS.into_iter().take(plan.providers);
    let settings = Settings {
        key_prefix: "sk-".to_owned(),
        public_url: "http://localhost".to_owned(),
        oauth_default_limit: None,
        vault: Some(Vault::new([5; 32])),
        providers: providers.clone().map(|slug| (slug.to_owned(), Declared::default())).collect(),
        byok_fee: Fee::percent(plan.fee).unwrap_or_default(),
    };
    let random = Arc::new(Dice(Mutex::new(Rng::new(seed))));
    let app = App::new(store, random, settings).await.map_err(|error| error.to_string())?;
    app.publish(endpoints).await.map_err(|error| error.to_string())?;
    {
        let (mut core, catalogue) = (core.lock(), app.catalogue());
        for priced in catalogue.models().iter().flat_map(|model| &model.endpoints) {
            core.data.versions.insert(priced.version.0, priced.endpoint.upstream_id.clone());
        }
    }
    if let Some(own) = plan.own.filter(|_| !owned) {
        let request = CredentialRequest {
            workspace: own.here.then_some(WorkspaceId(1)),
            provider: PROVIDERS[0].to_owned(),
            secret: "sk-provider-of-the-workspace".to_owned(),
            terms: TermsChange { is_fallback: Some(own.last), ..TermsChange::default() },
            sort_order: None,
        };
        app.create_credential(request, Actor::Operator.into()).await.map_err(|error| error.to_string())?;
        core.lock().data.owned = true;
    }
    let books = Arc::new(books);
    let settings = providers.map(|slug| ProviderSettings {
        slug: slug.to_owned(),
        kind: ProviderKind::Scripted(Arc::<Player>::clone(&books)),
        declared: Declared::default(),
    });
    let gateway = Gateway::new(app.clone(), settings.collect(), plan.limits, Tasks::default(), Arc::new(NoSteps));
    Ok(Gate { app, gateway: gateway.map_err(|error| error.to_string())? })
}

/// What a caller asks for.
fn body(rng: &mut Rng, plan: &Plan, number: ChatId) -> (Value, bool) {
    let words = "word ".repeat(rng.place(20));
    let model = MODELS[rng.place(2)];
    let streamed = rng.chance(6_000);
    let mut body = json!({
        "model": model,
        "messages": [{"role": "user", "content": format!("chat {number} {words}")}],
        "stream": streamed,
    });
    if rng.chance(7_000) {
        body["max_tokens"] = json!(1 + rng.below(8));
    }
    if rng.chance(1_000) {
        body["n"] = json!(2);
    }
    if rng.chance(2_000) {
        body["models"] = json!(MODELS);
    }
    if rng.chance(2_000) {
        let order = PROVIDERS[rng.place(plan.data.providers)];
        body["provider"] = json!({"order": [order], "allow_fallbacks": rng.chance(7_000)});
    }
    (body, streamed)
}

/// Asks and listens, as a connection of the HTTP server does.
fn chat(
    gate: Gate,
    core: Arc<Mutex<Core>>,
    secret: KeyHash,
    body: Bytes,
    number: ChatId,
    mut slow: Option<Rng>,
) -> Act {
    let asked = async move {
        let key = match gate.app.store().authenticate(&secret).await {
            Ok(Some(Credential::Inference(key))) => key,
            Ok(_) => return Err(Unanswered::Unknown),
            Err(error) => return Err(Unanswered::Failed(Box::new(error.into()))),
        };
        let caller = Caller { key, user_agent: None, http_referer: None, request_id: "".into() };
        let answer = gate.gateway.chat(caller, body).await.map_err(|error| Unanswered::Failed(Box::new(error)))?;
        {
            let mut core = core.lock();
            let checked = core.data.headed(number, &answer.generation, answer.pending);
            core.check(checked);
        }
        let mut body = answer.body;
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Ok(frame) = frame.map(|frame| frame.into_data().unwrap_or_default());
            {
                let mut core = core.lock();
                let checked = core.data.heard(number, &frame);
                core.check(checked);
                let row = core.row_of(number).map_or(0, |row| row.0);
                let text = || String::from_utf8_lossy(&frame).escape_debug().to_string();
                core.note("heard", number, || format!("generation {row}: {}", text()));
            }
            if let Some(rng) = &mut slow {
                let pause = Duration::from_micros(rng.below(400_000));
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    };
    Box::pin(async move { Told::Chatted(number, asked.await) })
}

impl Sim {
    /// Opens the data path of a process, if this run has one.
    pub(super) fn open_gate(&mut self, process: usize) {
        let Some(it) = self.processes.get(process).filter(|it| it.gate.is_none()) else { return };
        let busy = self.people.get(process).is_none_or(|starter| starter.act.is_some());
        if busy || !self.core.lock().plan.data.open {
            return;
        }
        let core = Arc::clone(&self.core);
        let (store, books): (Shared, _) = match &it.inside {
            None => return,
            Some(Inside::Node(node)) => (Arc::new(Engine(Watched::new(node.clone(), Arc::clone(&core), false))), None),
            Some(Inside::Embedded(store)) => {
                (Arc::new(Engine(Watched::new(store.0.clone(), Arc::clone(&core), true))), Some(store.clone()))
            }
        };
        let player = Player { core: Arc::clone(&core), books };
        let opening = async move { Told::Opened(open(store, player, core).await.map(Box::new)) };
        self.begin(process, process, Box::pin(opening));
    }

    /// The data path of a process is open, or is not.
    pub(super) fn opened(&mut self, process: usize, opened: Result<Box<Gate>, String>) {
        self.core.lock().note("opened", process as u64, || format!("{:?}", opened.as_ref().err()));
        match (opened, self.processes.get_mut(process)) {
            (Ok(gate), Some(it)) => it.gate = Some(*gate),
            _ => self.core.lock().after(300_000, Event::Gate(process)),
        }
    }

    /// A call through the data path of a process, unless there is nobody to make one.
    pub(super) fn chat(&mut self, who: usize, process: usize, gate: Gate) -> bool {
        let mut core = self.core.lock();
        // One that may call, mostly: others are asked for often enough.
        let room = Amounts::credits(Usd::from_nanos(ROOM));
        let able =
            self.world.keys.iter().filter(|(key, _)| core.oracle.has_room(*key, &room)).copied().collect::<Vec<_>>();
        let any = core.rng.chance(1_000);
        let keys = if any { &self.world.keys } else { &able };
        let Some((key, hash)) = core.rng.pick(keys) else { return false };
        let number = core.data.begin(process);
        let mut rng = Rng::new(core.rng.next());
        // The newest secret that is known of it, or the one that it was made with.
        let newest = self.world.secrets.get(&key.0).copied().filter(|_| rng.chance(8_000));
        let secret = newest.unwrap_or(hash);
        let (body, streamed) = body(&mut rng, &core.plan, number);
        let body = Bytes::from(body.to_string());
        core.note("chat", who as u64, || {
            format!("chat {number} of key {} on process {process}: {}", key.0, String::from_utf8_lossy(&body))
        });
        let rejectable = self.disk.is_some();
        let least = Amounts::default();
        core.oracle.watch(who, Watch::Reserve { key, secret: Some(secret), least, refusable: true, rejectable });
        drop(core);
        if let Some(somebody) = self.people.get_mut(who) {
            somebody.chat = Some(number);
        }
        let slow = (streamed && rng.chance(1_000)).then_some(rng);
        let act = chat(gate, Arc::clone(&self.core), secret, body, number, slow);
        self.begin(who, process, act);
        true
    }

    /// How a chat ended for whoever waited.
    pub(super) fn chatted(core: &mut Core, who: usize, number: ChatId, answer: Result<(), Unanswered>) -> Checked {
        core.note("told-chat", who as u64, || format!("chat {number}: {answer:?}"));
        let Err(why) = answer else {
            core.count("answered");
            return core.data.answered(number);
        };
        core.data.unanswered(number)?;
        let error = match why {
            Unanswered::Unknown => {
                core.count("unknown");
                // It may have expired a moment ago, by this clock or by the ledger's.
                let (now, latest) = (core.wall(), core.server.latest());
                core.oracle.look_at(now);
                core.oracle.look_at(latest);
                return match core.oracle.watches.get(&who) {
                    Some(Watch::Reserve { rejectable: false, .. }) => {
                        broken!("1 none is refused that fits", "chat {number}: its secret opens nothing")
                    }
                    _ => Ok(()),
                };
            }
            Unanswered::Failed(error) => error,
        };
        match *error {
            ChatError::Provider(_) => {
                core.count("failed");
                Ok(())
            }
            ChatError::Budget(_) | ChatError::Key(_) => Ok(()),
            ChatError::Store(error) => sound(&error),
            other => broken!("the data path answers", "chat {number}: {other:?}"),
        }
    }
}
