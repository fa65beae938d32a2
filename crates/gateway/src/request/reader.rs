//! Reads the body of a call member by member: what is acted on, what bounds the price, what can change it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;

use super::{ChatRequest, Invalid, PromptSize, Routing};
use crate::json::{Kind, Malformed, MalformedReason, Member, Scanner, Value, folded_match};
use crate::price_fields::PRICE_FIELDS;

/// A number that a call may ask for at the most, and what to say to more.
type Most = (u64, &'static str);

/// The largest output cap.
const CAP_MAX: Most = (1 << 31, "is too large; the most is 2147483648");
/// The most choices, as OpenAI has it.
const CHOICES_MAX: Most = (128, "is too large; the most is 128");
/// Characters of a `session_id` (contract section 14).
const SESSION_ID_MAX: usize = 256;

/// What was read so far.
#[derive(Debug, Default)]
pub struct Reader {
    pub passing: Vec<Range<usize>>,
    stream_options: Vec<Range<usize>>,
    model: Option<String>,
    models: Vec<String>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    choices: Option<u64>,
    stream: bool,
    session_id: Option<String>,
    has_input: bool,
    media_bytes: usize,
    prompt: PromptSize,
    price_field: Option<String>,
    routing: Routing,
}

/// Members that most calls have room for.
const MEMBERS: usize = 16;

impl Reader {
    pub fn new() -> Self {
        Self { passing: Vec::with_capacity(MEMBERS), ..Self::default() }
    }

    pub fn member(&mut self, scanner: &mut Scanner<'_>, key: &str) -> Result<(), Invalid> {
        match key {
            "model" => self.model = optional_text(scanner, "model")?,
            "models" => self.models = texts(scanner, "models")?,
            "messages" => self.messages(scanner)?,
            "prompt" => {
                self.has_input |= scanner.value()?.kind != Kind::Null;
            }
            "max_tokens" => self.max_tokens = count(scanner, "max_tokens", CAP_MAX)?,
            "max_completion_tokens" => self.max_completion_tokens = count(scanner, "max_completion_tokens", CAP_MAX)?,
            "n" => self.choices = count(scanner, "n", CHOICES_MAX)?,
            "stream" => {
                self.stream = match scanner.value()?.kind {
                    Kind::True => true,
                    Kind::False | Kind::Null => false,
                    _ => return Err(Invalid::Field { field: "stream", problem: "must be true or false" }),
                };
            }
            "stream_options" => self.stream_options(scanner)?,
            "tools" => self.tools(scanner)?,
            "provider" => self.provider(scanner)?,
            "session_id" => {
                self.session_id = optional_text(scanner, "session_id")?;
                if self.session_id.as_ref().is_some_and(|id| id.chars().count() > SESSION_ID_MAX) {
                    return Err(Invalid::Field { field: "session_id", problem: "must have at most 256 characters" });
                }
            }
            "cache_control" => self.cache_control(scanner)?,
            _ => {
                let value = scanner.value()?;
                let rule = PRICE_FIELDS.iter().find(|(name, _)| *name == key);
                if rule.is_some_and(|(_, harmless)| !harmless(scanner, &value)) {
                    self.price_field.get_or_insert_with(|| key.to_owned());
                }
            }
        }
        Ok(())
    }

    fn messages(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Invalid> {
        if scanner.peek()? != Kind::Array {
            scanner.value()?;
            return Err(Invalid::Field { field: "messages", problem: "must be an array of messages" });
        }
        let mut odd = false;
        scanner.array(|scanner, _| {
            self.prompt.messages = self.prompt.messages.saturating_add(1);
            if scanner.peek()? != Kind::Object {
                odd = true;
                return scanner.value().map(|_| ());
            }
            scanner.object(|scanner, member| {
                unfolded(&member, &["role", "content", "cache_control"])?;
                match &*member.key {
                    "content" if scanner.peek()? == Kind::Array => scanner.array(|scanner, _| self.part(scanner)),
                    "cache_control" => self.cache_control(scanner),
                    _ => scanner.value().map(|_| ()),
                }
            })
        })?;
        if odd {
            return Err(Invalid::Field { field: "messages", problem: "must hold objects only" });
        }
        self.has_input |= self.prompt.messages > 0;
        Ok(())
    }

    /// One part of a message's content: text counts by its bytes, media by what the model declares.
    fn part(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        if scanner.peek()? != Kind::Object {
            return scanner.value().map(|_| ());
        }
        let start = scanner.at();
        let mut kind = Cow::Borrowed("");
        scanner.object(|scanner, member| {
            unfolded(&member, &["type", "text", "image_url", "cache_control"])?;
            match &*member.key {
                "type" if scanner.peek()? == Kind::Text => kind = scanner.string()?,
                "cache_control" => self.cache_control(scanner)?,
                _ => {
                    scanner.value()?;
                }
            }
            Ok(())
        })?;
        match &*kind {
            "text" | "refusal" => {}
            "image_url" => {
                self.prompt.images = self.prompt.images.saturating_add(1);
                self.media_bytes = self.media_bytes.saturating_add(scanner.at().saturating_sub(start));
            }
            _ => self.prompt.unbounded_parts = self.prompt.unbounded_parts.saturating_add(1),
        }
        Ok(())
    }

    /// The function of a tool, whose parameters are the caller's own.
    fn function(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        scanner.object(|scanner, member| {
            unfolded(&member, &["cache_control"])?;
            if member.key == "cache_control" {
                return self.cache_control(scanner);
            }
            scanner.value().map(|_| ())
        })
    }

    /// A cache that lives longer than usual is written at another price.
    fn cache_control(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        if scanner.peek()? != Kind::Object {
            return scanner.value().map(|_| ());
        }
        scanner.object(|scanner, member| {
            unfolded(&member, &["type", "ttl"])?;
            let value = scanner.value()?;
            let usual = value.kind == Kind::Null || scanner.text(value.span) == "\"5m\"";
            if member.key == "ttl" && !usual {
                self.price_field.get_or_insert_with(|| "cache_control.ttl".to_owned());
            }
            Ok(())
        })
    }

    fn stream_options(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Invalid> {
        if scanner.peek()? == Kind::Object {
            scanner.object(|scanner, member| {
                unfolded(&member, &["include_usage"])?;
                scanner.value()?;
                if member.key != "include_usage" {
                    self.stream_options.push(member.start..scanner.at());
                }
                Ok(())
            })?;
            return Ok(());
        }
        match scanner.value()?.kind {
            Kind::Null => Ok(()),
            _ => Err(Invalid::Field { field: "stream_options", problem: "must be an object" }),
        }
    }

    fn tools(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Invalid> {
        if scanner.peek()? != Kind::Array {
            return match scanner.value()?.kind {
                Kind::Null => Ok(()),
                _ => Err(Invalid::Field { field: "tools", problem: "must be an array" }),
            };
        }
        scanner.array(|scanner, index| {
            self.prompt.tools = self.prompt.tools.saturating_add(1);
            let mut function = false;
            if scanner.peek()? == Kind::Object {
                scanner.object(|scanner, member| {
                    unfolded(&member, &["type", "function", "cache_control"])?;
                    match &*member.key {
                        "cache_control" => return self.cache_control(scanner),
                        "function" if scanner.peek()? == Kind::Object => return self.function(scanner),
                        _ => {}
                    }
                    let value = scanner.value()?;
                    function |= member.key == "type" && scanner.text(value.span) == "\"function\"";
                    Ok(())
                })?;
            } else {
                scanner.value()?;
            }
            if !function {
                self.price_field.get_or_insert_with(|| format!("tools[{index}].type"));
            }
            Ok(())
        })?;
        Ok(())
    }

    fn provider(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Invalid> {
        if scanner.peek()? != Kind::Object {
            return match scanner.value()?.kind {
                Kind::Null => Ok(()),
                _ => Err(Invalid::Field { field: "provider", problem: "must be an object" }),
            };
        }
        let mut failed = None;
        scanner.object(|scanner, member| {
            let read = match &*member.key {
                "order" => texts(scanner, "provider.order").map(|slugs| self.routing.order = slugs),
                "only" => texts(scanner, "provider.only").map(|slugs| self.routing.only = slugs),
                "ignore" => texts(scanner, "provider.ignore").map(|slugs| self.routing.ignore = slugs),
                "allow_fallbacks" => {
                    self.routing.no_fallbacks = scanner.value()?.kind == Kind::False;
                    Ok(())
                }
                _ => {
                    scanner.value()?;
                    Ok(())
                }
            };
            match read {
                Err(Invalid::Malformed(malformed)) => return Err(malformed),
                Err(invalid) => {
                    failed.get_or_insert(invalid);
                }
                Ok(()) => {}
            }
            Ok(())
        })?;
        failed.map_or(Ok(()), Err)
    }

    pub fn finish(self, body: Bytes) -> Result<ChatRequest, Invalid> {
        if !self.has_input {
            return Err(Invalid::NoInput);
        }
        let cap = match (self.max_tokens, self.max_completion_tokens) {
            (Some(old), Some(new)) if old != new => {
                let problem = "and `max_completion_tokens` differ; send one of them";
                return Err(Invalid::Field { field: "max_tokens", problem });
            }
            (old, new) => new.or(old),
        };
        let mut models: Vec<String> = self.model.into_iter().chain(self.models).collect();
        // Not each compared with all before it: a body has room for millions.
        let mut seen = HashSet::with_capacity(models.len());
        let first: Vec<bool> = models.iter().map(|model| seen.insert(model.as_str())).collect();
        let mut first = first.into_iter();
        models.retain(|_| first.next().unwrap_or(false));
        if models.is_empty() {
            return Err(Invalid::Field { field: "model", problem: "is required" });
        }
        let text_bytes = u64::try_from(body.len().saturating_sub(self.media_bytes)).unwrap_or(u64::MAX);
        Ok(ChatRequest {
            passing: self.passing,
            stream_options: self.stream_options,
            models,
            cap,
            choices: self.choices.unwrap_or(1),
            stream: self.stream,
            session_id: self.session_id,
            prompt: PromptSize { text_bytes, ..self.prompt },
            price_field: self.price_field,
            routing: self.routing,
            body,
        })
    }
}

/// Refuses a key that some parsers take for one that has a meaning here.
pub fn unfolded(member: &Member<'_>, known: &[&'static str]) -> Result<(), Malformed> {
    match folded_match(&member.key, known) {
        None => Ok(()),
        Some(known) => {
            let reason = MalformedReason::CaseFolded(member.key.to_string(), known);
            Err(Malformed { at: member.start, reason })
        }
    }
}

/// A positive whole number up to `most`, or null.
fn count(scanner: &mut Scanner<'_>, field: &'static str, (most, too_large): Most) -> Result<Option<u64>, Invalid> {
    let Value { kind, span } = scanner.value()?;
    let problem = match kind {
        Kind::Null => return Ok(None),
        Kind::Number => match scanner.text(span).parse::<u64>() {
            Ok(0) => "must be at least 1",
            Ok(count) if count <= most => return Ok(Some(count)),
            Ok(_) => too_large,
            Err(_) => "must be a positive whole number",
        },
        _ => "must be a positive whole number",
    };
    Err(Invalid::Field { field, problem })
}

fn optional_text(scanner: &mut Scanner<'_>, field: &'static str) -> Result<Option<String>, Invalid> {
    match scanner.peek()? {
        Kind::Text => Ok(Some(scanner.string()?.into_owned())),
        kind => {
            scanner.value()?;
            let problem = "must be a string";
            if kind == Kind::Null { Ok(None) } else { Err(Invalid::Field { field, problem }) }
        }
    }
}

fn texts(scanner: &mut Scanner<'_>, field: &'static str) -> Result<Vec<String>, Invalid> {
    let wrong = Invalid::Field { field, problem: "must be an array of strings" };
    if scanner.peek()? != Kind::Array {
        return if scanner.value()?.kind == Kind::Null { Ok(Vec::new()) } else { Err(wrong) };
    }
    let (mut found, mut odd) = (Vec::new(), false);
    scanner.array(|scanner, _| {
        if scanner.peek()? == Kind::Text {
            found.push(scanner.string()?.into_owned());
        } else {
            odd = true;
            scanner.value()?;
        }
        Ok(())
    })?;
    if odd { Err(wrong) } else { Ok(found) }
}
