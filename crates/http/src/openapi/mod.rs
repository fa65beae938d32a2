//! The OpenAPI document of what the router serves, written from the handlers and the wire types.
//!
//! `tidy` adds what follows from an operation's shape: the errors that any key, body or parameter can cause, all in the one
//! envelope. A handler declares only what is its own.

mod page;
mod tidy;

use std::fmt::Write as _;
use std::sync::LazyLock;

use serde_json::Value;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::routes;

/// The document.
pub static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    // Only a key of a map that is no text could fail, and there is none.
    let mut document = serde_json::to_value(Paths::openapi()).unwrap_or_default();
    tidy::tidy(&mut document);
    document
});

/// The document as JSON.
pub static JSON: LazyLock<String> = LazyLock::new(|| DOCUMENT.to_string());

/// The document as a page to read.
pub static PAGE: LazyLock<String> = LazyLock::new(|| page::page(&DOCUMENT));

/// A guide for programs that read text: where the API is, how to sign in, and each operation in a line.
pub fn guide(public_url: &str) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_guide(&mut text, public_url);
    text
}

fn write_guide(text: &mut String, public_url: &str) -> std::fmt::Result {
    writeln!(
        text,
        "# tollgate\n\n\
         > Hands out LLM API keys with spending limits that hold, and speaks OpenRouter's API.\n\n\
         Base URL: {public_url}/api/v1 (OpenRouter and OpenAI clients work with it unchanged)\n\
         Sign in: `Authorization: Bearer <key>`. Inference keys call models; management keys manage the rest.\n\
         Amounts are JSON numbers in US dollars. Errors are `{{\"error\": {{\"message\", \"code\", \"metadata\"}}}}`.\n\
         Whole description: {public_url}/openapi.json (OpenAPI 3.1), {public_url}/docs (to read)"
    )?;
    let tags = DOCUMENT["tags"].as_array().into_iter().flatten().filter_map(|tag| tag["name"].as_str());
    for tag in tags {
        writeln!(text, "\n## {tag}")?;
        for operation in operations(&DOCUMENT).filter(|operation| operation.tag() == tag) {
            let Operation { method, path, .. } = operation;
            let (summary, key) = (operation.summary(), operation.key());
            writeln!(text, "- {} {path}: {summary} ({key})", method.to_ascii_uppercase())?;
        }
    }
    Ok(())
}

/// An operation of the document.
struct Operation<'a> {
    method: &'a str,
    path: &'a str,
    value: &'a Value,
}

fn operations(document: &Value) -> impl Iterator<Item = Operation<'_>> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.map(move |(method, value)| Operation { method, path, value })
    })
}

impl Operation<'_> {
    fn tag(&self) -> &str {
        self.value["tags"][0].as_str().unwrap_or_default()
    }

    fn summary(&self) -> &str {
        self.value["summary"].as_str().unwrap_or_default().trim_end_matches('.')
    }

    /// Which key it takes.
    fn key(&self) -> &'static str {
        let schemes = self.value["security"].as_array().into_iter().flatten();
        let names: Vec<&String> = schemes.filter_map(|scheme| scheme.as_object()?.keys().next()).collect();
        match names.as_slice() {
            [] => "no key",
            [name] if *name == "inference_key" => "inference key",
            [_] => "management key",
            _ => "any key",
        }
    }
}

/// Everything that is served.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "tollgate",
        description = "LLM API keys with spending limits that hold, on OpenRouter's API.",
        license(name = "MIT"),
    ),
    modifiers(&Keys),
    components(schemas(tollgate_wire::ErrorEnvelope)),
    tags(
        (name = "Chat", description = "Calls to models, reserved before and settled after."),
        (name = "Account", description = "What a key may spend, and what was spent."),
        (name = "Keys", description = "Inference keys and their limits."),
        (name = "Models", description = "What can be called, and at what price."),
        (name = "Workspaces", description = "Groups of keys, with members and budgets of their own."),
        (name = "Organization", description = "Who there is."),
        (name = "Guardrails", description = "Budgets and allowed models, for keys and members."),
        (name = "Provider credentials", description = "Workspaces' own keys at providers (BYOK)."),
        (name = "Server", description = "How the server is, and this description."),
    ),
    paths(
        routes::chat::chat,
        routes::key::get,
        routes::key::get_by_older_name,
        routes::credits::get,
        routes::credits::top_up,
        routes::activity::get,
        routes::generation::get,
        routes::generation::adjust,
        routes::audit::list,
        routes::keys::list,
        routes::keys::create,
        routes::keys::get,
        routes::keys::update,
        routes::keys::delete,
        routes::keys::rotate,
        routes::keys::bulk,
        routes::oauth::create_code,
        routes::oauth::exchange,
        routes::workspaces::list,
        routes::workspaces::create,
        routes::workspaces::get,
        routes::workspaces::update,
        routes::workspaces::delete,
        routes::workspace_budgets::list,
        routes::workspace_budgets::get,
        routes::workspace_budgets::put,
        routes::workspace_budgets::delete,
        routes::members::of_workspace,
        routes::members::add,
        routes::members::remove,
        routes::members::list,
        routes::members::create,
        routes::members::delete,
        routes::guardrails::list,
        routes::guardrails::create,
        routes::guardrails::get,
        routes::guardrails::update,
        routes::guardrails::delete,
        routes::guardrails::keys,
        routes::guardrails::members,
        routes::guardrails::all_keys,
        routes::guardrails::all_members,
        routes::guardrails::assign_keys,
        routes::guardrails::unassign_keys,
        routes::guardrails::assign_members,
        routes::guardrails::unassign_members,
        routes::byok::list,
        routes::byok::create,
        routes::byok::get,
        routes::byok::update,
        routes::byok::delete,
        routes::models::list,
        routes::models::user,
        routes::models::count,
        routes::models::get,
        routes::models::endpoints,
        routes::providers::list,
        routes::health::health,
        routes::health::ready,
        routes::reference::openapi,
        routes::reference::docs,
        routes::reference::llms,
    )
)]
struct Paths;

/// The two kinds of keys.
struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for (name, description) in [
            ("management_key", "Manages keys, workspaces and guardrails; cannot call models."),
            ("inference_key", "Calls models, within its limit."),
        ] {
            let mut bearer = Http::new(HttpAuthScheme::Bearer);
            bearer.description = Some(description.to_owned());
            components.add_security_scheme(name, SecurityScheme::Http(bearer));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn operations_have_unique_ids_and_a_summary_and_a_tag_that_is_explained() {
        let mut ids = BTreeSet::new();
        let tags: Vec<&str> =
            DOCUMENT["tags"].as_array().unwrap().iter().filter_map(|tag| tag["name"].as_str()).collect();
        for operation in operations(&DOCUMENT) {
            let id = operation.value["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "{id} twice");
            assert!(!operation.summary().is_empty() && tags.contains(&operation.tag()), "{id}");
        }
    }

    #[test]
    fn every_error_is_in_the_envelope() {
        for operation in operations(&DOCUMENT) {
            let responses = operation.value["responses"].as_object().unwrap();
            assert!(responses.contains_key("500") && responses.contains_key("431"), "{}", operation.path);
            for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
                let named = response["$ref"].as_str().and_then(|name| name.strip_prefix('#'));
                let response = named.map_or(response, |name| DOCUMENT.pointer(name).unwrap());
                let schema = &response["content"]["application/json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/ErrorEnvelope", "{} {status}", operation.path);
            }
        }
    }

    #[test]
    fn amounts_are_numbers_and_what_is_always_written_is_required() {
        let key = &DOCUMENT["components"]["schemas"]["Key"];
        assert_eq!(key["properties"]["usage"]["type"], "number");
        assert_eq!(key["properties"]["limit"]["type"], serde_json::json!(["number", "null"]));
        assert_eq!(key["properties"]["expires_at"]["type"], serde_json::json!(["string", "null"]));
        let fields = key["properties"].as_object().unwrap();
        let required: Vec<&str> = key["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(fields.keys().all(|field| required.contains(&field.as_str())), "{required:?}");
        let create = &DOCUMENT["components"]["schemas"]["CreateKey"];
        assert_eq!(create["required"], serde_json::json!(["name"]));
        assert_eq!(create["properties"]["limit"]["type"], serde_json::json!(["number", "null"]));
    }

    #[test]
    fn a_wrapper_refers_to_what_is_in_it() {
        let schemas = &DOCUMENT["components"]["schemas"];
        for (name, field) in [("Data_Key", "/properties/data"), ("Data_Vec_CreatedKey", "/properties/data/items")] {
            let reference = schemas[name].pointer(field).and_then(|field| field["$ref"].as_str()).unwrap();
            assert_eq!(reference.rsplit('/').next(), name.rsplit('_').next());
        }
        assert_eq!(schemas["Provider"]["properties"]["datacenters"]["type"], "null");
    }

    #[test]
    fn references_lead_somewhere() {
        let text = DOCUMENT.to_string();
        for rest in text.split("\"$ref\":\"#").skip(1) {
            let pointer = rest.split('"').next().unwrap();
            assert!(DOCUMENT.pointer(pointer).is_some(), "{pointer}");
        }
        assert_eq!(DOCUMENT["openapi"], "3.1.0");
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_both_texts_name_every_operation() {
        let guide = guide("http://localhost");
        for operation in operations(&DOCUMENT) {
            let line = format!("{} {}: ", operation.method.to_ascii_uppercase(), operation.path);
            assert!(guide.contains(&line), "{line}");
            assert!(PAGE.contains(&format!("id=\"{}\"", operation.value["operationId"].as_str().unwrap())), "{line}");
        }
        for outside in ["http://", "https://", "<script", "src=", "url("] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }
}
