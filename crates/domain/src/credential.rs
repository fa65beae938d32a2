//! A provider credential: a workspace's own key at a provider (BYOK), and which calls use it.

use std::sync::Arc;

use uuid::Uuid;

use crate::Timestamp;
use crate::guardrail::Declared;
use crate::key::KeyHash;
use crate::workspace::WorkspaceId;

/// Characters of a name at the most.
pub const NAME_MAX: usize = 255;
/// Entries of an allow-list at the most.
pub const LIST_MAX: usize = 100;
/// Fewer characters than this are masked whole.
const MASKED_WHOLE: usize = 16;
/// Characters of a secret that its mask begins with.
const MASK_HEAD: usize = 3;
/// Characters of a secret that its mask ends with.
const MASK_TAIL: usize = 4;

/// The row number of a provider credential inside one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialId(pub i64);

/// A provider credential, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderCredential {
    /// The row number, never shown.
    pub id: CredentialId,
    /// The public id.
    pub uuid: Uuid,
    /// The workspace whose calls may use it; `None` is every workspace.
    pub workspace: Option<WorkspaceId>,
    /// The slug of the provider that it opens.
    pub provider: String,
    /// The mask of its secret.
    pub label: String,
    /// What was chosen.
    pub terms: Terms,
    /// Where it stands among those of its provider: ascending.
    pub sort_order: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed, if ever.
    pub updated_at: Option<Timestamp>,
}

/// What is chosen of a provider credential.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own, to be read back as it was set")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The name people see.
    pub name: Option<String>,
    /// Whether it is not used.
    pub disabled: bool,
    /// Whether it is tried after the account's own capacity instead of before.
    pub is_fallback: bool,
    /// Whether the models that it is for run on own credentials only.
    pub is_required: bool,
    /// Whether everything at its provider runs on own credentials only.
    pub is_byok_only: bool,
    /// The only keys that may use it, by their hashes.
    pub allowed_keys: Option<Vec<KeyHash>>,
    /// The only models that it is used for.
    pub allowed_models: Option<Vec<String>>,
    /// The only members whose keys may use it, by their public ids.
    pub allowed_users: Option<Vec<String>>,
    /// What its owner declares of the account behind it, in the place of what is declared of the provider.
    pub declared: Declared,
}

/// A change to a provider credential: `None` leaves a field as it is, `Some(None)` clears it. Lists are replaced whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TermsChange {
    /// As [`Terms::name`].
    pub name: Option<Option<String>>,
    /// As [`Terms::disabled`].
    pub disabled: Option<bool>,
    /// As [`Terms::is_fallback`].
    pub is_fallback: Option<bool>,
    /// As [`Terms::is_required`].
    pub is_required: Option<bool>,
    /// As [`Terms::is_byok_only`].
    pub is_byok_only: Option<bool>,
    /// As [`Terms::allowed_keys`].
    pub allowed_keys: Option<Option<Vec<KeyHash>>>,
    /// As [`Terms::allowed_models`].
    pub allowed_models: Option<Option<Vec<String>>>,
    /// As [`Terms::allowed_users`].
    pub allowed_users: Option<Option<Vec<String>>>,
    /// As [`Declared::region`].
    pub region: Option<Option<crate::guardrail::Region>>,
    /// As [`Declared::zero_data_retention`].
    pub zero_data_retention: Option<Option<bool>>,
}

/// Why terms cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsRefused {
    /// The name has too many characters.
    #[error("`name` must be 255 characters long at the most")]
    LongName,
    /// A list is empty or has too many entries; which.
    #[error("`{0}` must name 1 to 100, or be null")]
    List(&'static str),
    /// A fallback leaves the account's own capacity in its place.
    #[error("`is_fallback` cannot be combined with `is_byok_only` or `is_required`")]
    Fallback,
}

impl Terms {
    /// The terms after `change`.
    ///
    /// # Errors
    /// [`TermsRefused`]: nothing was changed.
    pub fn apply(&self, change: TermsChange) -> Result<Self, TermsRefused> {
        let old = self.clone();
        let terms = Self {
            name: change.name.unwrap_or(old.name),
            disabled: change.disabled.unwrap_or(old.disabled),
            is_fallback: change.is_fallback.unwrap_or(old.is_fallback),
            is_required: change.is_required.unwrap_or(old.is_required),
            is_byok_only: change.is_byok_only.unwrap_or(old.is_byok_only),
            allowed_keys: change.allowed_keys.unwrap_or(old.allowed_keys),
            allowed_models: change.allowed_models.unwrap_or(old.allowed_models),
            allowed_users: change.allowed_users.unwrap_or(old.allowed_users),
            declared: Declared {
                region: change.region.unwrap_or(old.declared.region),
                zero_data_retention: change.zero_data_retention.unwrap_or(old.declared.zero_data_retention),
            },
        };
        if terms.name.as_ref().is_some_and(|name| name.chars().count() > NAME_MAX) {
            return Err(TermsRefused::LongName);
        }
        let lists = [
            ("allowed_api_key_hashes", terms.allowed_keys.as_ref().map(Vec::len)),
            ("allowed_models", terms.allowed_models.as_ref().map(Vec::len)),
            ("allowed_user_ids", terms.allowed_users.as_ref().map(Vec::len)),
        ];
        for (name, length) in lists {
            if length.is_some_and(|length| !(1..=LIST_MAX).contains(&length)) {
                return Err(TermsRefused::List(name));
            }
        }
        if terms.is_fallback && (terms.is_byok_only || terms.is_required) {
            return Err(TermsRefused::Fallback);
        }
        Ok(terms)
    }
}

/// The mask of a secret: its first three characters and its last four, where that leaves most of it untold.
pub fn mask(secret: &str) -> String {
    let characters = secret.chars().count();
    if characters < MASKED_WHOLE {
        return "...".to_owned();
    }
    let head: String = secret.chars().take(MASK_HEAD).collect();
    let tail: String = secret.chars().skip(characters.saturating_sub(MASK_TAIL)).collect();
    format!("{head}...{tail}")
}

impl ProviderCredential {
    /// Whether calls in `workspace` may use it.
    pub fn reaches(&self, workspace: WorkspaceId) -> bool {
        self.workspace.is_none_or(|own| own == workspace)
    }

    /// Whether a key that `user` created may use it.
    pub fn serves(&self, key: &KeyHash, user: Option<&str>) -> bool {
        let Terms { disabled, allowed_keys, allowed_users, .. } = &self.terms;
        let listed = |users: &Vec<String>| user.is_some_and(|user| users.iter().any(|listed| listed == user));
        !disabled
            && allowed_keys.as_ref().is_none_or(|keys| keys.contains(key))
            && allowed_users.as_ref().is_none_or(listed)
    }

    /// Whether it is used for a model.
    pub fn is_for(&self, model: &str) -> bool {
        self.terms.allowed_models.as_ref().is_none_or(|models| models.iter().any(|listed| listed == model))
    }

    /// Whether it takes the account's own capacity at its provider away from calls of a model.
    fn excludes_shared(&self, model: &str) -> bool {
        self.terms.is_byok_only || (self.terms.is_required && self.is_for(model))
    }

    /// What their place in the order of attempts follows: those of the workspace before those of all at the same place.
    pub fn place(&self) -> (i64, bool, CredentialId) {
        (self.sort_order, self.workspace.is_none(), self.id)
    }
}

/// Something that is, or goes with, a provider credential.
pub trait AsCredential {
    /// The credential.
    fn credential(&self) -> &ProviderCredential;
}

impl AsCredential for ProviderCredential {
    fn credential(&self) -> &ProviderCredential {
        self
    }
}

impl<T: AsCredential> AsCredential for Arc<T> {
    fn credential(&self) -> &ProviderCredential {
        self.as_ref().credential()
    }
}

/// One attempt that a call may make: at an endpoint, under an own credential or on the account's own capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'a, E, C> {
    /// The endpoint.
    pub endpoint: E,
    /// The own credential, if it is one.
    pub credential: Option<&'a C>,
}

/// The attempts that a call of `model` may make, in order: under own credentials, as they are sorted; on the account's own
/// capacity, as `endpoints` are; under own credentials that are fallbacks.
///
/// `credentials` are those that serve the key, in the order of [`ProviderCredential::place`]; `provider` names the provider
/// of an endpoint.
pub fn routes<'a, E: Copy, C: AsCredential>(
    model: &str,
    endpoints: &[E],
    credentials: &'a [C],
    provider: impl Fn(E) -> &'a str,
) -> Vec<Route<'a, E, C>> {
    let provider = &provider;
    let own = |fallback: bool| {
        let wanted = credentials.iter().filter(move |own| {
            let own = own.credential();
            own.terms.is_fallback == fallback && own.is_for(model)
        });
        wanted.flat_map(move |own| {
            let there = endpoints.iter().filter(move |endpoint| provider(**endpoint) == own.credential().provider);
            there.map(move |endpoint| Route { endpoint: *endpoint, credential: Some(own) })
        })
    };
    let shared = |endpoint: &&E| {
        let excluded = |own: &C| {
            let own = own.credential();
            own.provider == provider(**endpoint) && own.excludes_shared(model)
        };
        !credentials.iter().any(excluded)
    };
    let shared = endpoints.iter().filter(shared).map(|endpoint| Route { endpoint: *endpoint, credential: None });
    own(false).chain(shared).chain(own(true)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn credential(id: i64, provider: &str, terms: Terms) -> ProviderCredential {
        ProviderCredential {
            id: CredentialId(id),
            uuid: Uuid::nil(),
            workspace: Some(WorkspaceId(1)),
            provider: provider.to_owned(),
            label: "...".to_owned(),
            terms,
            sort_order: id,
            created_at: Timestamp::default(),
            updated_at: None,
        }
    }

    fn words(model: &str, credentials: &[ProviderCredential]) -> Vec<String> {
        let name = |route: Route<'_, &'static str, ProviderCredential>| match route.credential {
            Some(own) => format!("{}:{}", route.endpoint, own.id.0),
            None => route.endpoint.to_owned(),
        };
        routes(model, &["a", "b"], credentials, |endpoint| endpoint).into_iter().map(name).collect()
    }

    #[test]
    fn own_credentials_come_first_and_fallbacks_last() {
        let fallback = Terms { is_fallback: true, ..Terms::default() };
        let all = [
            credential(1, "b", Terms::default()),
            credential(2, "a", fallback),
            credential(3, "a", Terms::default()),
            credential(4, "elsewhere", Terms::default()),
        ];
        assert_eq!(words("m", &all), ["b:1", "a:3", "a", "b", "a:2"]);
        assert_eq!(words("m", &[]), ["a", "b"]);
    }

    #[test]
    fn required_takes_the_shared_capacity_of_its_models_and_byok_only_that_of_all() {
        let models = Some(vec!["m".to_owned()]);
        let required = Terms { is_required: true, allowed_models: models.clone(), ..Terms::default() };
        assert_eq!(words("m", &[credential(1, "a", required.clone())]), ["a:1", "b"]);
        assert_eq!(words("other", &[credential(1, "a", required)]), ["a", "b"]);
        let only = Terms { is_byok_only: true, allowed_models: models, ..Terms::default() };
        assert_eq!(words("other", &[credential(1, "a", only)]), ["b"]);
    }

    #[test]
    fn a_credential_serves_the_keys_and_members_it_names() {
        let (mine, other) = (KeyHash::of("mine"), KeyHash::of("other"));
        let keys = credential(1, "a", Terms { allowed_keys: Some(vec![mine]), ..Terms::default() });
        assert!(keys.serves(&mine, None) && !keys.serves(&other, None));
        let users = credential(1, "a", Terms { allowed_users: Some(vec!["user_1".to_owned()]), ..Terms::default() });
        assert!(users.serves(&mine, Some("user_1")));
        assert!(!users.serves(&mine, Some("user_2")) && !users.serves(&mine, None));
        let disabled = credential(1, "a", Terms { disabled: true, ..Terms::default() });
        assert!(!disabled.serves(&mine, None));
    }

    #[test]
    fn terms_that_contradict_themselves_are_refused() {
        let change = |change: TermsChange| Terms::default().apply(change);
        let fallback = TermsChange { is_fallback: Some(true), ..TermsChange::default() };
        assert!(change(fallback.clone()).is_ok());
        let both = TermsChange { is_byok_only: Some(true), ..fallback.clone() };
        assert_eq!(change(both), Err(TermsRefused::Fallback));
        let required = Terms { is_required: true, ..Terms::default() };
        assert_eq!(required.apply(fallback), Err(TermsRefused::Fallback));
        for (list, ok) in [(Vec::new(), false), (vec!["m".to_owned(); 100], true), (vec!["m".to_owned(); 101], false)] {
            let listed = TermsChange { allowed_models: Some(Some(list)), ..TermsChange::default() };
            assert_eq!(change(listed).is_ok(), ok);
        }
        let long = TermsChange { name: Some(Some("é".repeat(256))), ..TermsChange::default() };
        assert_eq!(change(long), Err(TermsRefused::LongName));
    }

    #[test]
    fn a_mask_tells_seven_characters_of_a_long_secret_and_none_of_a_short_one() {
        assert_eq!(mask("sk-proj-0123456789abCd"), "sk-...abCd");
        assert_eq!(mask("sk-short-secret"), "...");
        assert_eq!(mask("ключ-ключ-ключ-ключ"), "клю...ключ");
        assert_eq!(mask(""), "...");
    }

    fn terms() -> impl Strategy<Value = Terms> {
        let models = proptest::option::of(prop_oneof![Just(vec!["m".to_owned()]), Just(vec!["other".to_owned()])]);
        (any::<bool>(), any::<bool>(), any::<bool>(), models).prop_map(
            |(is_fallback, required, only, allowed_models)| {
                let (is_required, is_byok_only) = (required && !is_fallback, only && !is_fallback);
                Terms { is_fallback, is_required, is_byok_only, allowed_models, ..Terms::default() }
            },
        )
    }

    proptest! {
        /// Against the rules said one by one.
        #[test]
        fn every_route_follows_from_the_rules(chosen in proptest::collection::vec((prop_oneof![Just("a"), Just("b"), Just("c")], terms()), 0..6)) {
            let all: Vec<_> = (0_i64..).zip(&chosen).map(|(id, (provider, terms))| credential(id, provider, terms.clone())).collect();
            let found = routes("m", &["a", "b"], &all, |endpoint| endpoint);
            let stage = |route: &Route<'_, &str, ProviderCredential>| match route.credential {
                Some(own) if !own.terms.is_fallback => (0, own.id.0),
                None => (1, 0),
                Some(own) => (2, own.id.0),
            };
            prop_assert!(found.is_sorted_by_key(stage));
            for provider in ["a", "b"] {
                let here = all.iter().filter(|own| own.provider == provider);
                let barred = here.clone().any(|own| own.terms.is_byok_only || (own.terms.is_required && own.is_for("m")));
                let shared = found.iter().filter(|route| route.endpoint == provider && route.credential.is_none()).count();
                prop_assert_eq!(shared, usize::from(!barred));
                for own in here {
                    let used = found.iter().filter(|route| route.credential == Some(own)).count();
                    prop_assert_eq!(used, usize::from(own.is_for("m")));
                }
            }
        }
    }
}
