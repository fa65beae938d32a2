//! The document as one HTML page: no script, nothing from elsewhere.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Operation, operations};
use crate::html::Text;

const STYLE: &str = "
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent) }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem 1rem 6rem }
code { font: 0.9em ui-monospace, monospace }
nav a { margin-right: 1rem }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line) }
h4 { margin: 1rem 0 0.25rem }
details { border: 1px solid var(--line); border-radius: 6px; margin: 0.5rem 0; padding: 0.4rem 0.8rem }
summary { cursor: pointer }
summary b { display: inline-block; min-width: 4.5em; font: bold 0.85em ui-monospace, monospace }
summary small, .muted { opacity: 0.7 }
table { border-collapse: collapse; width: 100% }
td { border-top: 1px solid var(--line); padding: 0.25rem 0.75rem 0.25rem 0; vertical-align: top }
td:first-child { white-space: nowrap }
";

/// The page.
pub fn page(document: &Value) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, document);
    out
}

fn write(out: &mut String, document: &Value) -> std::fmt::Result {
    let (title, version) = (text(&document["info"]["title"]), text(&document["info"]["version"]));
    write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} API</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>{STYLE}</style></head><body>\
         <h1>{title} API <small class=\"muted\">{version}</small></h1><p>{}</p>\
         <p>Sign in with <code>Authorization: Bearer &lt;key&gt;</code>. Amounts are US dollars. The same as \
         <a href=\"openapi.json\">OpenAPI 3.1</a> and, shorter, as <a href=\"llms.txt\">text</a>.</p><nav>",
        prose(&document["info"]["description"])
    )?;
    let tags = || document["tags"].as_array().into_iter().flatten();
    for tag in tags() {
        let name = text(&tag["name"]);
        write!(out, "<a href=\"#tag-{name}\">{name}</a>")?;
    }
    out.push_str("<a href=\"#schemas\">Schemas</a></nav>");
    for tag in tags() {
        let name = text(&tag["name"]);
        write!(out, "<h2 id=\"tag-{name}\">{name}</h2><p>{}</p>", prose(&tag["description"]))?;
        for operation in operations(document).filter(|operation| operation.value["tags"][0] == tag["name"]) {
            write_operation(out, document, &operation)?;
        }
    }
    out.push_str("<h2 id=\"schemas\">Schemas</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        write_schema(out, name, schema)?;
    }
    out.push_str("</body></html>");
    Ok(())
}

fn write_operation(out: &mut String, document: &Value, operation: &Operation<'_>) -> std::fmt::Result {
    let value = operation.value;
    write!(
        out,
        "<details id=\"{}\"><summary><b>{}</b><code>{}</code> <small>{}</small></summary><p>{}</p>\
         <p class=\"muted\">Needs: {}</p>",
        text(&value["operationId"]),
        escape(&operation.method.to_ascii_uppercase()),
        escape(operation.path),
        escape(operation.summary()),
        prose(&value["description"]),
        operation.key()
    )?;
    if let Some(parameters) = value["parameters"].as_array() {
        out.push_str("<h4>Parameters</h4><table>");
        for parameter in parameters {
            let required = parameter["required"] == true;
            let place = format!("{}, {}", text(&parameter["in"]), kind(&parameter["schema"]));
            row(out, &text(&parameter["name"]), required, &place, &prose(&parameter["description"]))?;
        }
        out.push_str("</table>");
    }
    if let Some(content) = value["requestBody"]["content"].as_object() {
        out.push_str("<h4>Body</h4><table>");
        for (media, body) in content {
            write!(out, "<tr><td><code>{}</code></td><td>{}</td></tr>", escape(media), kind(&body["schema"]))?;
        }
        out.push_str("</table>");
    }
    out.push_str("<h4>Answers</h4><table>");
    for (status, response) in value["responses"].as_object().into_iter().flatten() {
        let named = response["$ref"].as_str().and_then(|name| document.pointer(name.trim_start_matches('#')));
        let response = named.unwrap_or(response);
        let contents = response["content"].as_object().into_iter().flatten();
        let kinds: Vec<String> = contents
            .map(|(media, body)| match media.as_str() {
                "application/json" => kind(&body["schema"]),
                other => format!("<code>{}</code>", escape(other)),
            })
            .collect();
        let description = prose(&response["description"]);
        write!(
            out,
            "<tr><td><code>{}</code></td><td>{description}</td><td>{}</td></tr>",
            escape(status),
            kinds.join(" or ")
        )?;
    }
    out.push_str("</table></details>");
    Ok(())
}

fn write_schema(out: &mut String, name: &str, schema: &Value) -> std::fmt::Result {
    let name = escape(name);
    write!(out, "<details id=\"schema-{name}\"><summary><code>{name}</code></summary>")?;
    write!(out, "<p>{}</p><table>", prose(&schema["description"]))?;
    let parts = schema["allOf"].as_array().map_or_else(|| vec![schema], |parts| parts.iter().collect());
    for part in parts {
        if part.get("$ref").is_some() {
            write!(out, "<tr><td colspan=\"3\">all of {}</td></tr>", kind(part))?;
        }
        for (field, value) in part["properties"].as_object().into_iter().flatten() {
            let required = part["required"].as_array().is_some_and(|names| names.iter().any(|name| name == field));
            row(out, &escape(field), required, &kind(value), &prose(&value["description"]))?;
        }
    }
    out.push_str("</table></details>");
    Ok(())
}

fn row(out: &mut String, name: &str, required: bool, kind: &str, description: &str) -> std::fmt::Result {
    let always = if required { "" } else { ", optional" };
    write!(
        out,
        "<tr><td><code>{name}</code></td><td>{kind}<span class=\"muted\">{always}</span></td><td>{description}</td></tr>"
    )
}

/// A schema in a few words.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
        let name = escape(name);
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    if let Some(either) = schema["oneOf"].as_array() {
        return either.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    let one = |word: &str| match word {
        "array" => format!("list of {}", kind(&schema["items"])),
        other => escape(other),
    };
    let words = match &schema["type"] {
        Value::String(word) => one(word),
        Value::Array(words) => words.iter().filter_map(Value::as_str).map(one).collect::<Vec<_>>().join(" or "),
        _ => "anything".to_owned(),
    };
    let bounds = [("minimum", "at least"), ("maximum", "at most")];
    let bounds = bounds.into_iter().filter_map(|(name, said)| Some(format!(", {said} {}", schema.get(name)?)));
    words + &bounds.collect::<String>()
}

/// A text of the document, safe in HTML.
fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

/// The same, with what stands between backticks as code.
fn prose(value: &Value) -> String {
    let text = text(value);
    let parts = text.split('`').enumerate();
    parts.map(|(index, part)| if index % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() }).collect()
}

fn escape(text: &str) -> String {
    Text(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_become_markup() {
        let value = Value::from("a `<b>` & \"c\"");
        assert_eq!(prose(&value), "a <code>&lt;b&gt;</code> &amp; &quot;c&quot;");
    }
}
