//! Regular expressions whose work grows with the text and no faster.
//!
//! Whether there is a match costs time in proportion to the text for every pattern. To find all matches does not: behind each
//! one the automaton may read on to the end for a longer match that never comes. So that work is counted, and has an end.

use std::ops::Range;
use std::sync::Arc;

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::hybrid::regex::Regex as Spans;
use regex_automata::meta::Regex as Quick;
use regex_automata::nfa::thompson::{Compiler, Config as NfaConfig, WhichCaptures};
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::ast::{self, Ast, ErrorKind, RepetitionKind, RepetitionRange};
use regex_syntax::hir::translate::Translator;
use regex_syntax::hir::{Hir, HirKind, Look};

/// Characters of a pattern.
pub const PATTERN_CHARACTERS_MAX: usize = 1_000;
/// Bytes that a pattern may become when it is compiled: what it counts out (`\w{500}`) becomes large.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// How often a byte may be read, on average, while all matches of one filter are found.
const READS_OF_A_BYTE: usize = 16;
/// Matches of one filter in one call that are found at the most, so that there is room for them.
pub const MATCHES_MAX: usize = 100_000;
/// Bytes that may be read however short the text is.
const READS_AT_LEAST: usize = 1 << 20;

/// How often the states of a pattern may outgrow their room before what a state is good for is looked at.
const CACHES_MAX: usize = 3;
/// Bytes that a state must be good for then.
const BYTES_OF_A_STATE: usize = 10;

/// A pattern that may be searched for.
#[derive(Clone, Debug)]
pub struct Pattern(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    source: String,
    quick: Quick,
    spans: Spans,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

/// Why a pattern may not be searched for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternRefused {
    /// There is nothing, or too much.
    #[error("a pattern must have 1 to {PATTERN_CHARACTERS_MAX} characters")]
    Length,
    /// It is no regular expression.
    #[error("not a regular expression: {0}")]
    Syntax(String),
    /// `(?=…)`, `(?!…)`, `(?<=…)`, `(?<!…)`.
    #[error("look-around is not supported")]
    LookAround,
    /// `\1`
    #[error("back-references are not supported")]
    BackReference,
    /// `(a+)+`
    #[error("nested quantifiers are not supported: a part that repeats without end is in another one that does")]
    NestedQuantifiers,
    /// It matches where there is no text, which is everywhere, or it never can match.
    #[error("a pattern must match some text, and not the empty text")]
    Nothing,
    /// It becomes too large.
    #[error("the pattern is too large when it is compiled; let it count out less")]
    TooLarge,
}

/// More would have to be read, or kept, than the text is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// What the search for all matches of one filter may read.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    used: usize,
    most: usize,
    matches: usize,
}

impl Work {
    /// For texts of so many bytes altogether.
    pub const fn on(bytes: usize) -> Self {
        Self { used: 0, most: bytes.saturating_mul(READS_OF_A_BYTE).saturating_add(READS_AT_LEAST), matches: 0 }
    }

    /// Bytes that were read.
    pub const fn used(&self) -> usize {
        self.used
    }

    fn add(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.used = self.used.saturating_add(bytes);
        if self.used > self.most { Err(Exhausted) } else { Ok(()) }
    }

    /// Counts a match.
    pub fn found(&mut self) -> Result<(), Exhausted> {
        self.matches = self.matches.saturating_add(1);
        if self.matches > MATCHES_MAX { Err(Exhausted) } else { Ok(()) }
    }
}

/// What becomes of a match.
pub enum Taken {
    /// This much of it counts, and the search goes on behind that.
    Yes(Range<usize>),
    /// It does not count; the search goes on here.
    No(usize),
}

impl Pattern {
    /// Reads a pattern that somebody wrote.
    ///
    /// # Errors
    /// [`PatternRefused`].
    pub fn parse(source: &str) -> Result<Self, PatternRefused> {
        if source.is_empty() || source.chars().count() > PATTERN_CHARACTERS_MAX {
            return Err(PatternRefused::Length);
        }
        let tree = ast::parse::Parser::new().parse(source).map_err(|error| match error.kind() {
            ErrorKind::UnsupportedLookAround => PatternRefused::LookAround,
            ErrorKind::UnsupportedBackreference => PatternRefused::BackReference,
            kind => PatternRefused::Syntax(format!("{kind} (character {})", error.span().start.column)),
        })?;
        ast::visit(&tree, Nesting::default())?;
        Self::compile(source, &tree)
    }

    /// One of our own.
    pub(super) fn built_in(source: &str) -> Option<Self> {
        Self::compile(source, &ast::parse::Parser::new().parse(source).ok()?).ok()
    }

    fn compile(source: &str, tree: &Ast) -> Result<Self, PatternRefused> {
        let hir = Translator::new()
            .translate(source, tree)
            .map_err(|error| PatternRefused::Syntax(error.kind().to_string()))?;
        // It would match everywhere, or nowhere.
        if hir.properties().minimum_len().is_none_or(|least| least == 0) {
            return Err(PatternRefused::Nothing);
        }
        let hir = with_ascii_words(&hir);
        let quick = Quick::builder()
            .configure(Quick::config().nfa_size_limit(Some(COMPILED_BYTES_MAX)))
            .build_from_hir(&hir)
            .map_err(|_| PatternRefused::TooLarge)?;
        let (forward, reverse) = (automaton(&hir, false)?, automaton(&hir, true)?);
        let spans = Spans::builder().build_from_dfas(forward, reverse);
        Ok(Self(Arc::new(Compiled { source: source.to_owned(), quick, spans })))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0.source
    }

    /// Whether it matches anywhere.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.quick.is_match(text)
    }

    /// All matches that `take` takes, in their order and apart from each other.
    ///
    /// # Errors
    /// [`Exhausted`]: they cannot be found within what is left of `work`.
    pub fn matches(
        &self,
        text: &str,
        work: &mut Work,
        mut take: impl FnMut(Range<usize>) -> Taken,
    ) -> Result<Vec<Range<usize>>, Exhausted> {
        let mut found = Vec::new();
        if !self.is_match(text) {
            return Ok(found);
        }
        let mut cache = self.0.spans.create_cache();
        let (forward, reverse) = cache.as_parts_mut();
        let mut at = 0;
        while at < text.len() {
            let ahead = Input::new(text).range(at..);
            let ends = counted(forward, work, ahead.haystack().len().saturating_sub(at), |cache| {
                self.0.spans.forward().try_search_fwd(cache, &ahead)
            })?;
            let Some(end) = ends.map(|end| end.offset()) else { break };
            let behind = Input::new(text).range(at..end).anchored(Anchored::Yes);
            let begins = counted(reverse, work, end.saturating_sub(at), |cache| {
                self.0.spans.reverse().try_search_rev(cache, &behind)
            })?;
            let start = begins.ok_or(Exhausted)?.offset();
            let next = match take(start..end) {
                Taken::Yes(range) => {
                    let next = range.end;
                    work.found()?;
                    found.push(range);
                    next
                }
                Taken::No(next) => next,
            };
            at = text.ceil_char_boundary(next.max(start.saturating_add(1)));
        }
        Ok(found)
    }
}

/// Runs a search and adds to `work` what it read: `most` where the automaton forgot its count on the way.
fn counted<T, E>(
    cache: &mut Cache,
    work: &mut Work,
    most: usize,
    search: impl FnOnce(&mut Cache) -> Result<T, E>,
) -> Result<T, Exhausted> {
    let (read, clears) = (cache.search_total_len(), cache.clear_count());
    let found = search(cache).map_err(|_| Exhausted)?;
    let read = if cache.clear_count() == clears { cache.search_total_len().saturating_sub(read) } else { most };
    work.add(read)?;
    Ok(found)
}

fn automaton(hir: &Hir, reverse: bool) -> Result<DFA, PatternRefused> {
    let config =
        NfaConfig::new().nfa_size_limit(Some(COMPILED_BYTES_MAX)).which_captures(WhichCaptures::None).reverse(reverse);
    let nfa = Compiler::new().configure(config).build_from_hir(hir).map_err(|_| PatternRefused::TooLarge)?;
    let kind = if reverse { MatchKind::All } else { MatchKind::LeftmostFirst };
    let config = DFA::config()
        .match_kind(kind)
        .skip_cache_capacity_check(true)
        // A text that has a new state built for nearly every byte is given up.
        .minimum_cache_clear_count(Some(CACHES_MAX))
        .minimum_bytes_per_state(Some(BYTES_OF_A_STATE));
    DFA::builder().configure(config).build_from_nfa(nfa).map_err(|_| PatternRefused::TooLarge)
}

/// The same with `\b` as JavaScript has it: between ASCII letters, digits and `_` and everything else. An automaton that
/// knows more letters than that cannot read all texts.
fn with_ascii_words(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Look(look) => Hir::look(match look {
            Look::WordUnicode => Look::WordAscii,
            Look::WordUnicodeNegate => Look::WordAsciiNegate,
            Look::WordStartUnicode => Look::WordStartAscii,
            Look::WordEndUnicode => Look::WordEndAscii,
            Look::WordStartHalfUnicode => Look::WordStartHalfAscii,
            Look::WordEndHalfUnicode => Look::WordEndHalfAscii,
            other => *other,
        }),
        HirKind::Repetition(repetition) => Hir::repetition(repetition.with(with_ascii_words(&repetition.sub))),
        HirKind::Capture(capture) => with_ascii_words(&capture.sub),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(with_ascii_words).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(with_ascii_words).collect()),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => hir.clone(),
    }
}

/// Finds a repetition without end inside another.
#[derive(Default)]
struct Nesting {
    open: usize,
}

impl ast::Visitor for Nesting {
    type Output = ();
    type Err = PatternRefused;

    fn finish(self) -> Result<(), PatternRefused> {
        Ok(())
    }

    fn visit_pre(&mut self, tree: &Ast) -> Result<(), PatternRefused> {
        if endless(tree) {
            if self.open > 0 {
                return Err(PatternRefused::NestedQuantifiers);
            }
            self.open = self.open.saturating_add(1);
        }
        Ok(())
    }

    fn visit_post(&mut self, tree: &Ast) -> Result<(), PatternRefused> {
        if endless(tree) {
            self.open = self.open.saturating_sub(1);
        }
        Ok(())
    }
}

const fn endless(tree: &Ast) -> bool {
    let Ast::Repetition(repetition) = tree else { return false };
    matches!(
        repetition.op.kind,
        RepetitionKind::ZeroOrMore | RepetitionKind::OneOrMore | RepetitionKind::Range(RepetitionRange::AtLeast(_))
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spans(pattern: &str, text: &str) -> Vec<(usize, usize)> {
        let found = Pattern::parse(pattern).unwrap().matches(text, &mut Work::on(text.len()), Taken::Yes);
        found.unwrap().into_iter().map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn what_cannot_be_searched_for_in_linear_time_is_refused_by_its_name() {
        for (pattern, refused) in [
            ("", PatternRefused::Length),
            (&"x".repeat(1_001), PatternRefused::Length),
            ("a(?=b)", PatternRefused::LookAround),
            ("a(?!b)", PatternRefused::LookAround),
            ("(?<=b)a", PatternRefused::LookAround),
            ("(?<!b)a", PatternRefused::LookAround),
            (r"(a)\1", PatternRefused::BackReference),
            ("(a+)+", PatternRefused::NestedQuantifiers),
            ("(?:a*b?)*c", PatternRefused::NestedQuantifiers),
            ("((a{2,}){3})+", PatternRefused::NestedQuantifiers),
            ("a*", PatternRefused::Nothing),
            (r"\b", PatternRefused::Nothing),
            ("a&b|", PatternRefused::Nothing),
            ("[a&&b]", PatternRefused::Nothing),
            (r"\w{1000}", PatternRefused::TooLarge),
            ("((a{1,500}){1,500}){1,500}", PatternRefused::TooLarge),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap_err(), refused, "{pattern}");
        }
        assert!(matches!(Pattern::parse("a(b"), Err(PatternRefused::Syntax(_))));
        for pattern in ["(a{1,5})+", "(?:ab)+c*", r"\b(sk-[a-zA-Z0-9]{48})\b", r"https?:\/\/internal\.company\.com\S*"]
        {
            assert!(Pattern::parse(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_makes_others_backtrack_reads_a_long_text_once() {
        let text = format!("{}b", "a".repeat(1 << 20));
        for pattern in ["(a|aa)+$", "(a|a)*b$", "(?:a|ab|aab){1,3}(a|aa)+c"] {
            let pattern = Pattern::parse(pattern).unwrap();
            let mut work = Work::on(text.len());
            let found = pattern.matches(&text, &mut work, Taken::Yes).unwrap();
            assert_eq!(found.len(), usize::from(pattern.is_match(&text)), "{pattern:?}");
            assert!(work.used() <= 3 * text.len(), "{pattern:?}: {}", work.used());
        }
    }

    #[test]
    fn a_search_that_reads_to_the_end_behind_each_match_is_given_up() {
        // Behind each `a` a longer match is looked for to the end of the text, in vain.
        let pattern = Pattern::parse("(?s)a(?:.*b)?").unwrap();
        let text = "a".repeat(1 << 20);
        let mut work = Work::on(text.len());
        assert_eq!(pattern.matches(&text, &mut work, Taken::Yes), Err(Exhausted));
        assert!(work.used() <= 18 * text.len(), "{}", work.used());
        assert!(pattern.is_match(&text), "which needs no more than one look");
        assert_eq!(spans("(?s)a(?:.*b)?", "aaxbca"), [(0, 4), (5, 6)]);
        let many = Pattern::parse("a").unwrap().matches(&text, &mut Work::on(text.len()), Taken::Yes);
        assert_eq!(many, Err(Exhausted), "there is no room for a million places");
    }

    #[test]
    fn a_word_ends_where_ascii_does() {
        assert_eq!(spans(r"\bkey\b", "key monkey ключ-key 鍵key鍵"), [(0, 3), (20, 23), (27, 30)]);
        assert_eq!(spans("[äö]+", "xäöx"), [(1, 5)]);
        assert_eq!(spans("(?i)straße", "STRAßE"), [(0, 7)]);
    }

    proptest! {
        /// The counted search finds what the ordinary one finds.
        #[test]
        fn the_counted_search_finds_what_the_ordinary_one_does(
            pattern in "[ab.]{1,4}(\\|[ab]{1,3})?[+?]?c{0,1}",
            text in "[abcé]{0,40}",
        ) {
            prop_assume!(Pattern::parse(&pattern).is_ok());
            let ordinary: Vec<_> = Quick::new(&pattern).unwrap().find_iter(&text).map(|found| (found.start(), found.end())).collect();
            prop_assert_eq!(spans(&pattern, &text), ordinary);
        }
    }
}
