//! A guardrail: a budget, which models and providers may be called, and what may be said to them, for the keys and members it
//! is assigned to.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::filter::{BuiltinFilter, ContentFilter, Judgement, Text};
use crate::time::LimitReset;
use crate::workspace::WorkspaceId;
use crate::{Timestamp, Usd, filter};

/// The row number of a guardrail inside one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuardrailId(pub i64);

/// The budget of a guardrail. Each key and each member it is assigned to has all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardrailBudget {
    /// The most that may be spent in a window.
    pub limit: Usd,
    /// How often it starts afresh.
    pub reset: LimitReset,
}

/// A guardrail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guardrail {
    /// The row number, never shown.
    pub id: GuardrailId,
    /// The public id.
    pub uuid: Uuid,
    /// The workspace that it belongs to.
    pub workspace: WorkspaceId,
    /// What was chosen.
    pub rules: GuardrailRules,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed, if ever.
    pub updated_at: Option<Timestamp>,
}

/// What is chosen of a guardrail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardrailRules {
    /// The name people see, not empty.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Its budget.
    pub budget: Option<GuardrailBudget>,
    /// Whether BYOK usage eats into the budget.
    pub include_byok: bool,
    /// The only models that may be called.
    pub allowed_models: Option<Vec<String>>,
    /// Models that may not be called.
    pub ignored_models: Option<Vec<String>>,
    /// The only providers that may answer.
    pub allowed_providers: Option<Vec<String>>,
    /// Providers that may not answer.
    pub ignored_providers: Option<Vec<String>>,
    /// The only regions where data may be processed: a provider of which no region is declared may not answer.
    pub allowed_data_regions: Option<Vec<String>>,
    /// What calls may not say, by patterns.
    pub content_filters: Vec<ContentFilter>,
    /// The same, by filters that come with the server.
    pub content_filter_builtins: Vec<BuiltinFilter>,
    /// Switches by name. Those that ask for providers that keep nothing are honoured; others, which only a hosted service can
    /// honour, are stored and returned.
    pub switches: BTreeMap<String, bool>,
}

/// A change to a guardrail: `None` leaves a field as it is, `Some(None)` clears it. Lists are replaced whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardrailChange {
    /// A new name, not empty.
    pub name: Option<String>,
    /// As [`GuardrailRules::description`].
    pub description: Option<Option<String>>,
    /// As [`GuardrailBudget::limit`].
    pub limit: Option<Option<Usd>>,
    /// As [`GuardrailBudget::reset`].
    pub reset: Option<Option<LimitReset>>,
    /// As [`GuardrailRules::include_byok`].
    pub include_byok: Option<bool>,
    /// As [`GuardrailRules::allowed_models`].
    pub allowed_models: Option<Option<Vec<String>>>,
    /// As [`GuardrailRules::ignored_models`].
    pub ignored_models: Option<Option<Vec<String>>>,
    /// As [`GuardrailRules::allowed_providers`].
    pub allowed_providers: Option<Option<Vec<String>>>,
    /// As [`GuardrailRules::ignored_providers`].
    pub ignored_providers: Option<Option<Vec<String>>>,
    /// As [`GuardrailRules::allowed_data_regions`].
    pub allowed_data_regions: Option<Option<Vec<String>>>,
    /// As [`GuardrailRules::content_filters`].
    pub content_filters: Option<Vec<ContentFilter>>,
    /// As [`GuardrailRules::content_filter_builtins`].
    pub content_filter_builtins: Option<Vec<BuiltinFilter>>,
    /// Switches to set, or to forget.
    pub switches: BTreeMap<String, Option<bool>>,
}

/// A limit without a window, or a window without a limit (contract section 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncompleteBudget;

impl GuardrailRules {
    /// The rules after `change`.
    ///
    /// # Errors
    /// [`IncompleteBudget`]: limit and window must be there together.
    pub fn apply(&self, change: GuardrailChange) -> Result<Self, IncompleteBudget> {
        let old = self.clone();
        let limit = change.limit.unwrap_or(old.budget.map(|budget| budget.limit));
        let reset = change.reset.unwrap_or(old.budget.map(|budget| budget.reset));
        let budget = match (limit, reset) {
            (Some(limit), Some(reset)) => Some(GuardrailBudget { limit, reset }),
            (None, None) => None,
            _ => return Err(IncompleteBudget),
        };
        let mut switches = old.switches;
        for (name, value) in change.switches {
            match value {
                Some(value) => switches.insert(name, value),
                None => switches.remove(&name),
            };
        }
        Ok(Self {
            name: change.name.unwrap_or(old.name),
            description: change.description.unwrap_or(old.description),
            budget,
            include_byok: change.include_byok.unwrap_or(old.include_byok),
            allowed_models: change.allowed_models.unwrap_or(old.allowed_models),
            ignored_models: change.ignored_models.unwrap_or(old.ignored_models),
            allowed_providers: change.allowed_providers.unwrap_or(old.allowed_providers),
            ignored_providers: change.ignored_providers.unwrap_or(old.ignored_providers),
            allowed_data_regions: change.allowed_data_regions.unwrap_or(old.allowed_data_regions),
            content_filters: change.content_filters.unwrap_or(old.content_filters),
            content_filter_builtins: change.content_filter_builtins.unwrap_or(old.content_filter_builtins),
            switches,
        })
    }
}

/// A guardrail's assignment to a key or a member. Each has one at the most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment<Id> {
    /// The public id of the assignment.
    pub uuid: Uuid,
    /// The guardrail.
    pub guardrail: GuardrailId,
    /// Whom it is assigned to.
    pub to: Id,
    /// Since when.
    pub created_at: Timestamp,
}

/// Where data is processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// Anywhere.
    Global,
    /// In Europe.
    Europe,
    /// In the United States.
    Us,
}

impl Region {
    /// All regions.
    pub const ALL: [Self; 3] = [Self::Global, Self::Europe, Self::Us];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Europe => "europe",
            Self::Us => "us",
        }
    }

    /// The region with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|region| region.as_str() == word)
    }
}

/// What is declared of how a provider treats data. Nothing declared is nothing promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Where it processes data.
    pub region: Option<Region>,
    /// Whether it keeps nothing of it.
    pub zero_data_retention: Option<bool>,
}

impl Declared {
    /// What is declared here, and where nothing is, what is declared there.
    #[must_use]
    pub fn or(self, there: Self) -> Self {
        Self {
            region: self.region.or(there.region),
            zero_data_retention: self.zero_data_retention.or(there.zero_data_retention),
        }
    }
}

/// Switches that ask for providers that keep nothing, and the authors whose models they are for.
const ZDR_OF_AUTHORS: [(&str, &str); 4] = [
    ("enforce_zdr_anthropic", "anthropic"),
    ("enforce_zdr_google", "google"),
    ("enforce_zdr_openai", "openai"),
    ("enforce_zdr_xai", "x-ai"),
];
const ZDR_OF_OTHERS: &str = "enforce_zdr_other";
const ZDR_OF_ALL: &str = "enforce_zdr";

/// What all guardrails that apply to a call leave of models, providers and words: allow-lists intersect, the others add up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    guardrails: Vec<Arc<Guardrail>>,
    /// The key's own list of models.
    models: Option<Arc<[String]>>,
}

impl Reach {
    /// What these guardrails and the key's own list of models leave; `None` where they leave everything.
    pub fn of<'a>(
        guardrails: impl Iterator<Item = &'a Arc<Guardrail>>,
        models: Option<&Arc<[String]>>,
    ) -> Option<Self> {
        let narrows = |guardrail: &&'a Arc<Guardrail>| guardrail.rules.narrows() || guardrail.rules.filters();
        let guardrails: Vec<_> = guardrails.filter(narrows).cloned().collect();
        (!guardrails.is_empty() || models.is_some()).then(|| Self { guardrails, models: models.cloned() })
    }

    /// Whether there is any content filter.
    pub fn filters(&self) -> bool {
        self.guardrails.iter().any(|guardrail| guardrail.rules.filters())
    }

    /// What the content filters have to say of a call.
    pub fn judge(&self, texts: &[Text<'_>]) -> Judgement {
        filter::judge(&self.guardrails, texts)
    }

    /// Whether `model` may be called.
    pub fn model(&self, model: &str) -> bool {
        let left = |rules: &GuardrailRules| within(rules.allowed_models.as_ref(), rules.ignored_models.as_ref(), model);
        self.models.as_ref().is_none_or(|own| own.iter().any(|entry| entry == model))
            && self.guardrails.iter().all(|guardrail| left(&guardrail.rules))
    }

    /// Whether `provider` may answer.
    pub fn provider(&self, provider: &str) -> bool {
        let left = |rules: &GuardrailRules| {
            within(rules.allowed_providers.as_ref(), rules.ignored_providers.as_ref(), provider)
        };
        self.guardrails.iter().all(|guardrail| left(&guardrail.rules))
    }

    /// Whether a provider of which this is declared may see calls of `model`.
    pub fn data(&self, model: &str, declared: Declared) -> bool {
        self.guardrails.iter().all(|guardrail| guardrail.rules.data(model, declared))
    }
}

impl GuardrailRules {
    /// Whether there is any model or provider that they do not leave.
    fn narrows(&self) -> bool {
        self.allowed_models.is_some()
            || self.ignored_models.is_some()
            || self.allowed_providers.is_some()
            || self.ignored_providers.is_some()
            || self.allowed_data_regions.is_some()
            || self.switches.iter().any(|(name, on)| *on && name.starts_with(ZDR_OF_ALL))
    }

    fn data(&self, model: &str, declared: Declared) -> bool {
        let there = |regions: &Vec<String>| {
            declared.region.is_some_and(|region| regions.iter().any(|allowed| allowed == region.as_str()))
        };
        let keeps_nothing = declared.zero_data_retention == Some(true);
        self.allowed_data_regions.as_ref().is_none_or(there) && (keeps_nothing || !self.enforces_zdr(model))
    }

    /// Whether calls of `model` are only for providers that keep nothing.
    fn enforces_zdr(&self, model: &str) -> bool {
        let author = model.split_once('/').map_or("", |(author, _)| author);
        let of_author = ZDR_OF_AUTHORS.iter().find(|(_, named)| *named == author);
        let of_author = of_author.map_or(ZDR_OF_OTHERS, |(switch, _)| *switch);
        [ZDR_OF_ALL, of_author].into_iter().any(|switch| self.switches.get(switch) == Some(&true))
    }

    /// Whether there is any content filter.
    const fn filters(&self) -> bool {
        !self.content_filters.is_empty() || !self.content_filter_builtins.is_empty()
    }
}

fn within(allowed: Option<&Vec<String>>, ignored: Option<&Vec<String>>, name: &str) -> bool {
    let named = |list: &Vec<String>| list.iter().any(|entry| entry == name);
    allowed.is_none_or(named) && !ignored.is_some_and(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_lists_intersect_and_what_is_ignored_adds_up() {
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let first = GuardrailRules { allowed_models: list(&["a", "b", "c"]), ..GuardrailRules::default() };
        let second = GuardrailRules {
            allowed_models: list(&["b", "c", "d"]),
            ignored_models: list(&["c"]),
            ignored_providers: list(&["p"]),
            ..GuardrailRules::default()
        };
        let guardrail = |rules| {
            Arc::new(Guardrail {
                id: GuardrailId(1),
                uuid: Uuid::nil(),
                workspace: WorkspaceId(1),
                rules,
                created_at: Timestamp::default(),
                updated_at: None,
            })
        };
        let reach = Reach::of([&guardrail(first.clone()), &guardrail(second.clone())].into_iter(), None).unwrap();
        let left: Vec<_> = ["a", "b", "c", "d", "e"].into_iter().filter(|model| reach.model(model)).collect();
        assert_eq!(left, ["b"]);
        assert!(reach.provider("q") && !reach.provider("p"));
        assert_eq!(Reach::of([&guardrail(GuardrailRules::default())].into_iter(), None), None);
        let own: Arc<[String]> = Arc::new(["a".to_owned(), "b".to_owned(), "e".to_owned()]);
        let reach = Reach::of([&guardrail(first), &guardrail(second)].into_iter(), Some(&own)).unwrap();
        assert!(reach.model("b") && !reach.model("a") && !reach.model("e"), "the key's own list intersects, too");
        let alone = Reach::of([].into_iter(), Some(&own)).unwrap();
        assert!(alone.model("e") && !alone.model("c") && alone.provider("p"));
    }

    #[test]
    fn data_goes_only_where_it_is_declared_that_it_may() {
        let reach = |rules| {
            let guardrail = Guardrail {
                id: GuardrailId(1),
                uuid: Uuid::nil(),
                workspace: WorkspaceId(1),
                rules,
                created_at: Timestamp::default(),
                updated_at: None,
            };
            Reach::of([&Arc::new(guardrail)].into_iter(), None)
        };
        let of = |region, zero_data_retention| Declared { region, zero_data_retention };
        let nothing = Declared::default();
        let regions = Some(vec!["europe".to_owned()]);
        let european = reach(GuardrailRules { allowed_data_regions: regions, ..GuardrailRules::default() }).unwrap();
        assert!(european.data("m", of(Some(Region::Europe), None)));
        assert!(!european.data("m", of(Some(Region::Us), None)) && !european.data("m", nothing));
        let switched = |name: &str, on: bool| {
            let switches = BTreeMap::from([(name.to_owned(), on)]);
            reach(GuardrailRules { switches, ..GuardrailRules::default() })
        };
        let zdr = switched("enforce_zdr", true).unwrap();
        assert!(zdr.data("m", of(None, Some(true))));
        assert!(!zdr.data("m", of(None, Some(false))) && !zdr.data("m", nothing));
        let of_google = switched("enforce_zdr_google", true).unwrap();
        assert!(!of_google.data("google/gemini", nothing) && of_google.data("openai/gpt", nothing));
        let of_others = switched("enforce_zdr_other", true).unwrap();
        assert!(!of_others.data("acme/small", nothing) && !of_others.data("local", nothing));
        assert!(of_others.data("x-ai/grok", nothing));
        assert_eq!(switched("enforce_zdr", false), None);
        assert_eq!(switched("enable_paid_model_training", true), None);
        let own = of(None, Some(true)).or(of(Some(Region::Us), Some(false)));
        assert_eq!(own, of(Some(Region::Us), Some(true)));
    }
}
