//! The text of a call: what people, tools and models say in it.

use std::borrow::Cow;
use std::ops::Range;

use crate::json::{Kind, Malformed, Scanner};

/// Top-level members that hold what a model reads as conversation.
const CONVERSATION: [&str; 3] = ["messages", "prompt", "prediction"];
/// Members, at any depth of those, that hold no text: marks, media and what is sealed.
const NO_TEXT: [&str; 10] = [
    "type",
    "id",
    "tool_call_id",
    "image_url",
    "input_audio",
    "video_url",
    "file",
    "cache_control",
    "signature",
    "data",
];
/// Who speaks besides the user.
const OTHERS: [&str; 5] = ["system", "developer", "assistant", "tool", "function"];

/// A text and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// From quote to quote.
    pub span: Range<usize>,
    /// Unescaped.
    pub text: Cow<'a, str>,
    /// Whether nobody else says it.
    pub from_user: bool,
}

/// All text of a call, in its order. The body was accepted before.
pub fn texts(body: &[u8]) -> Result<Vec<Place<'_>>, Malformed> {
    let mut scanner = Scanner::strict(body)?;
    let mut found = Vec::new();
    scanner.object(|scanner, member| match (&*member.key, scanner.peek()?) {
        ("messages", Kind::Array) => scanner.array(|scanner, _| {
            let first = found.len();
            let mut from_user = true;
            collect(scanner, &mut found, &mut |role| from_user = !OTHERS.contains(&role))?;
            found.iter_mut().skip(first).for_each(|place| place.from_user = from_user);
            Ok(())
        }),
        (name, _) if CONVERSATION.contains(&name) => collect(scanner, &mut found, &mut |_| {}),
        _ => scanner.value().map(|_| ()),
    })?;
    Ok(found)
}

/// Reads one value and notes the text in it. `role` hears the role of a message.
fn collect<'a>(
    scanner: &mut Scanner<'a>,
    found: &mut Vec<Place<'a>>,
    role: &mut dyn FnMut(&str),
) -> Result<(), Malformed> {
    match scanner.peek()? {
        Kind::Text => {
            let start = scanner.at();
            let text = scanner.string()?;
            found.push(Place { span: start..scanner.at(), text, from_user: true });
            Ok(())
        }
        Kind::Object => scanner.object(|scanner, member| {
            if member.key == "role" && scanner.peek()? == Kind::Text {
                role(&scanner.string()?);
                return Ok(());
            }
            if NO_TEXT.contains(&&*member.key) {
                return scanner.value().map(|_| ());
            }
            collect(scanner, found, &mut |_| {})
        }),
        Kind::Array => scanner.array(|scanner, _| collect(scanner, found, &mut |_| {})),
        Kind::Number | Kind::True | Kind::False | Kind::Null => scanner.value().map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_said_is_text_whoever_says_it_and_nothing_else_is() {
        let body = br#"{"model":"m","user":"u","messages":[
            {"content":"\u0061b","role":"user","name":"n"},
            {"role":"assistant","content":null,"tool_calls":[{"id":"i","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},
            {"role":"tool","tool_call_id":"i","content":[{"type":"text","text":"t"},{"type":"image_url","image_url":{"url":"data:"}}]},
            {"content":[{"type":"text","text":"late"}],"role":"system"},
            {"role":"stranger","content":"s"},
            {"role":["r"],"content":["c"],"x":{"role":"no","y":"z"}}],
            "prompt":["p",7],"prediction":{"type":"content","content":"q"},"tools":[{"type":"function"}],"stop":"s"}"#;
        let found = texts(body).unwrap();
        let said: Vec<_> = found.iter().map(|place| (&*place.text, place.from_user)).collect();
        assert_eq!(
            said,
            [
                ("ab", true),
                ("n", true),
                ("f", false),
                (r#"{"x":1}"#, false),
                ("t", false),
                ("late", false),
                ("s", true),
                ("r", true),
                ("c", true),
                ("z", true),
                ("p", true),
                ("q", true),
            ]
        );
        for place in found {
            let written = std::str::from_utf8(&body[place.span]).unwrap();
            assert_eq!(serde_json::from_str::<String>(written).unwrap(), place.text);
        }
    }
}
