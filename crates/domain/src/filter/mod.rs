//! Content filters: what of a call's text is blocked, replaced or noted.

mod injection;
mod pattern;
mod personal;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

pub use pattern::{Exhausted, MATCHES_MAX, PATTERN_CHARACTERS_MAX, Pattern, PatternRefused, Taken, Work};
use uuid::Uuid;

use crate::guardrail::Guardrail;

/// Filters of one kind that a guardrail may have.
pub const FILTERS_MAX: usize = 100;
/// Characters of a label.
pub const LABEL_CHARACTERS_MAX: usize = 100;

/// What becomes of a call that a filter matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterAction {
    /// What matches is replaced.
    Redact,
    /// The call is refused.
    Block,
    /// The call passes, and a note is made.
    Flag,
}

impl FilterAction {
    /// Reads its word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Redact, Self::Block, Self::Flag].into_iter().find(|action| action.as_str() == word)
    }

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redact => "redact",
            Self::Block => "block",
            Self::Flag => "flag",
        }
    }
}

/// A filter with a pattern of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentFilter {
    /// What is looked for.
    pub pattern: Pattern,
    /// What becomes of the call.
    pub action: FilterAction,
    /// What takes the place of a match, and is named in refusals.
    pub label: Option<String>,
}

/// A filter that comes with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltinFilter {
    /// Which one.
    pub kind: Builtin,
    /// What becomes of the call.
    pub action: FilterAction,
    /// Whose messages are read; only [`Builtin::PromptInjection`] asks.
    pub scan_scope: Option<ScanScope>,
}

/// What filters that come with the server look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// Addresses of electronic mail.
    Email,
    /// Telephone numbers of North America, and of elsewhere with a `+`.
    Phone,
    /// Social security numbers of the United States.
    Ssn,
    /// Card numbers: with the right check digit, or in groups of four.
    CreditCard,
    /// IPv4 and IPv6.
    IpAddress,
    /// What tries to make a model forget its instructions.
    PromptInjection,
}

impl Builtin {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Email, Self::Phone, Self::Ssn, Self::CreditCard, Self::IpAddress, Self::PromptInjection];

    /// Reads its slug.
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.slug() == slug)
    }

    /// Its slug.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Ssn => "ssn",
            Self::CreditCard => "credit-card",
            Self::IpAddress => "ip-address",
            Self::PromptInjection => "regex-prompt-injection",
        }
    }

    /// What takes the place of a match.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Email => "[EMAIL]",
            Self::Phone => "[PHONE]",
            Self::Ssn => "[SSN]",
            Self::CreditCard => "[CREDIT_CARD]",
            Self::IpAddress => "[IP_ADDRESS]",
            Self::PromptInjection => "[PROMPT_INJECTION]",
        }
    }
}

/// Whose messages are read for prompt injection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanScope {
    /// Those of the user.
    UserOnly,
    /// All, which is the default.
    AllMessages,
}

impl ScanScope {
    /// Reads its word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::UserOnly, Self::AllMessages].into_iter().find(|scope| scope.as_str() == word)
    }

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserOnly => "user_only",
            Self::AllMessages => "all_messages",
        }
    }
}

/// A piece of text in a call.
#[derive(Clone, Debug)]
pub struct Text<'a> {
    /// As people would read it.
    pub text: Cow<'a, str>,
    /// Whether it is the user's, and not the system's, the model's or a tool's.
    pub from_user: bool,
}

/// What filters have to say of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is refused.
    Blocked(Blocked),
    /// It may go on, with this replaced.
    Passed {
        /// In the order of the texts, apart from each other.
        redactions: Vec<Redaction>,
        /// What is noted of it.
        notes: Vec<Note>,
    },
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The labels of filters, and the names of patterns of prompt injection, that matched.
    pub patterns: Vec<String>,
    /// Whether prompt injection was among them.
    pub injection: bool,
    /// Whether it was to be redacted, and there is too much of it.
    pub too_much: bool,
    /// The guardrails whose filters matched.
    pub guardrails: Vec<Uuid>,
}

/// Something that is to be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redaction {
    /// In which text.
    pub text: usize,
    /// Where.
    pub range: Range<usize>,
    /// By what.
    pub placeholder: String,
}

/// That a filter matched a call that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The guardrail whose filter it is.
    pub guardrail: Uuid,
    /// What was done.
    pub action: FilterAction,
    /// The label of the filter, or the name of a pattern of prompt injection.
    pub label: String,
}

/// What all filters of `guardrails` have to say of a call: they add up, and block goes before redact before flag.
pub fn judge(guardrails: &[Arc<Guardrail>], texts: &[Text<'_>]) -> Judgement {
    let filters = |action| guardrails.iter().flat_map(move |guardrail| Filter::with_action(guardrail, action));
    let bytes = texts.iter().fold(0_usize, |sum, text| sum.saturating_add(text.text.len()));
    let mut blocked = Blocked { patterns: Vec::new(), injection: false, too_much: false, guardrails: Vec::new() };
    for (guardrail, filter) in filters(FilterAction::Block) {
        for name in filter.named(texts, bytes) {
            blocked.add(guardrail, filter, name);
        }
    }
    if !blocked.patterns.is_empty() {
        return Judgement::Blocked(blocked);
    }
    let (mut redactions, mut notes) = (Vec::new(), Vec::new());
    for (guardrail, filter) in filters(FilterAction::Redact) {
        let found = filter.redactions(texts, &mut Work::on(bytes)).ok();
        let Some(found) = found.filter(|found| found.len().saturating_add(redactions.len()) <= MATCHES_MAX) else {
            blocked.add(guardrail, filter, filter.label().into_owned());
            return Judgement::Blocked(Blocked { too_much: true, ..blocked });
        };
        if !found.is_empty() {
            notes.push(Note { guardrail, action: FilterAction::Redact, label: filter.label().into_owned() });
        }
        redactions.extend(found);
    }
    for (guardrail, filter) in filters(FilterAction::Flag) {
        let noted = filter.named(texts, bytes).into_iter();
        notes.extend(noted.map(|label| Note { guardrail, action: FilterAction::Flag, label }));
    }
    Judgement::Passed { redactions: apart(redactions), notes }
}

impl Blocked {
    fn add(&mut self, guardrail: Uuid, filter: Filter<'_>, name: String) {
        self.injection |= matches!(filter, Filter::Builtin(BuiltinFilter { kind: Builtin::PromptInjection, .. }));
        if !self.patterns.contains(&name) {
            self.patterns.push(name);
        }
        if !self.guardrails.contains(&guardrail) {
            self.guardrails.push(guardrail);
        }
    }
}

/// What overlaps becomes one, which has the placeholder of what began first.
fn apart(mut redactions: Vec<Redaction>) -> Vec<Redaction> {
    redactions.sort_by_key(|redaction| (redaction.text, redaction.range.start, Reverse(redaction.range.end)));
    redactions.dedup_by(|next, before| {
        let overlap = next.text == before.text && next.range.start < before.range.end;
        if overlap {
            before.range.end = before.range.end.max(next.range.end);
        }
        overlap
    });
    redactions
}

/// A filter of either kind.
#[derive(Clone, Copy)]
enum Filter<'a> {
    Own(&'a ContentFilter),
    Builtin(&'a BuiltinFilter),
}

impl<'a> Filter<'a> {
    fn with_action(guardrail: &'a Guardrail, action: FilterAction) -> impl Iterator<Item = (Uuid, Self)> {
        let rules = &guardrail.rules;
        let own = rules.content_filters.iter().filter(move |filter| filter.action == action).map(Self::Own);
        let builtins = rules.content_filter_builtins.iter().filter(move |filter| filter.action == action);
        own.chain(builtins.map(Self::Builtin)).map(|filter| (guardrail.uuid, filter))
    }

    /// What it is called in refusals and notes.
    fn label(self) -> Cow<'a, str> {
        match self {
            Self::Own(filter) => filter.label.as_deref().unwrap_or("[BLOCKED]").into(),
            Self::Builtin(filter) => filter.kind.label().into(),
        }
    }

    /// What takes the place of a match.
    fn placeholder(self) -> Cow<'a, str> {
        match self {
            Self::Own(filter) => match filter.label.as_deref() {
                None => "[REDACTED]".into(),
                Some(label) if label.starts_with('[') && label.ends_with(']') => label.into(),
                Some(label) => format!("[{label}]").into(),
            },
            Self::Builtin(filter) => filter.kind.label().into(),
        }
    }

    fn reads(self, text: &Text<'_>) -> bool {
        match self {
            Self::Own(_) => true,
            Self::Builtin(filter) => {
                text.from_user
                    || filter.kind != Builtin::PromptInjection
                    || filter.scan_scope != Some(ScanScope::UserOnly)
            }
        }
    }

    /// By what names it matches: none, where it does not.
    fn named(self, texts: &[Text<'_>], bytes: usize) -> Vec<String> {
        let mut texts = texts.iter().filter(|text| self.reads(text)).map(|text| text.text.as_ref());
        let matches = match self {
            Self::Own(filter) => texts.any(|text| filter.pattern.is_match(text)),
            Self::Builtin(BuiltinFilter { kind: Builtin::PromptInjection, .. }) => {
                return injection::names(texts, &mut Work::on(bytes)).into_iter().map(str::to_owned).collect();
            }
            Self::Builtin(filter) => {
                let mut work = Work::on(bytes);
                // What cannot be told within the work that it is worth counts as a match.
                texts.any(|text| personal::find(filter.kind, text, &mut work).is_none_or(|found| !found.is_empty()))
            }
        };
        if matches { vec![self.label().into_owned()] } else { Vec::new() }
    }

    fn redactions(self, texts: &[Text<'_>], work: &mut Work) -> Result<Vec<Redaction>, Exhausted> {
        let mut found = Vec::new();
        for (index, text) in texts.iter().enumerate().filter(|(_, text)| self.reads(text)) {
            let ranges = match self {
                Self::Own(filter) => filter.pattern.matches(&text.text, work, Taken::Yes)?,
                Self::Builtin(BuiltinFilter { kind: Builtin::PromptInjection, .. }) => {
                    injection::find(&text.text, work)?
                }
                Self::Builtin(filter) => personal::find(filter.kind, &text.text, work).ok_or(Exhausted)?,
            };
            let placeholder = self.placeholder();
            found.extend(ranges.into_iter().map(|range| Redaction {
                text: index,
                range,
                placeholder: placeholder.clone().into_owned(),
            }));
        }
        Ok(found)
    }
}

/// Whether what lies around `range` is neither a letter nor a digit.
fn alone(text: &str, range: &Range<usize>) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let before = text.get(..range.start).and_then(|before| before.chars().next_back());
    let behind = text.get(range.end..).and_then(|behind| behind.chars().next());
    !before.is_some_and(word) && !behind.is_some_and(word)
}
