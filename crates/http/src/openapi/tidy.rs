//! What follows from an operation's shape, and what utoipa says at greater length than it must.

use serde_json::{Map, Value, json};

use crate::error::RATE_LIMIT_HEADERS;

const ENVELOPE: &str = "#/components/schemas/ErrorEnvelope";
const AMOUNTS: [&str; 2] = ["Amount", "RawAmount"];

/// Errors by status: the name in the document, and when.
const ERRORS: [(&str, &str, &str); 12] = [
    ("400", "BadRequest", "The request makes no sense, and why"),
    ("401", "Unauthorized", "No key, one that is not known or not valid, or one of the wrong kind"),
    ("403", "Limited", "The management key is read-only, or limited to a workspace"),
    ("404", "NotFound", "What the path names is not there"),
    ("408", "TooSlow", "The body did not arrive in time"),
    ("409", "Conflict", "The Idempotency-Key was used for another request, or its request is in progress"),
    ("413", "TooLarge", "The body is too large"),
    ("415", "Compressed", "The body has a Content-Encoding"),
    ("429", "TooOften", "Too many wrong keys came from this address, or the management key asks too often"),
    ("431", "HeaderFlood", "Too many headers, or too large ones"),
    ("500", "Internal", "A fault of the server"),
    ("503", "Unavailable", "The ledger cannot be reached or written to; nothing was done"),
];

/// Completes the document.
pub fn tidy(document: &mut Value) {
    let mut schemas = document["components"]["schemas"].take();
    let amounts: Vec<(&str, Value)> = AMOUNTS.into_iter().map(|name| (name, schemas[name].clone())).collect();
    if let Some(schemas) = schemas.as_object_mut() {
        schemas.retain(|name, _| !AMOUNTS.contains(&name.as_str()));
    }
    name_what_has_a_name(&mut schemas);
    document["components"]["schemas"] = schemas;
    rewrite(document, &amounts);
    document["components"]["responses"] = ERRORS
        .into_iter()
        .map(|(status, name, when)| (name.to_owned(), refusal(status, when)))
        .collect::<Map<_, _>>()
        .into();
    let mut answered = Vec::new();
    for operation in document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        for (method, operation) in operation.as_object_mut().into_iter().flatten() {
            parameters(operation);
            let once = method == "post" && operation["operationId"] != "createChatCompletion";
            if once {
                idempotent(operation);
            }
            responses(operation, once);
            references(&operation["responses"], &mut answered);
        }
    }
    answered.push("ErrorEnvelope".to_owned());
    require_what_is_always_written(&mut document["components"]["schemas"], answered);
}

/// An absent parameter is absent, and never null.
fn parameters(operation: &mut Value) {
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(kind) = parameter["schema"]["type"].as_array().and_then(|kinds| kinds.first()).cloned() {
            parameter["schema"]["type"] = kind;
        }
    }
    if operation["parameters"].is_null()
        && let Some(operation) = operation.as_object_mut()
    {
        operation.remove("parameters");
    }
}

/// What creates something does it once for an `Idempotency-Key`.
fn idempotent(operation: &mut Value) {
    let parameter = json!({
        "name": "Idempotency-Key",
        "in": "header",
        "required": false,
        "description": "1 to 255 ASCII characters of the caller's own: the same request under the same key gets the same \
                        answer for 24 hours, and nothing is done twice. Ours.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    });
    match operation.get_mut("parameters").and_then(Value::as_array_mut) {
        Some(parameters) => parameters.push(parameter),
        None => operation["parameters"] = json!([parameter]),
    }
}

/// Declares what any key, body, query string and path can be answered with.
fn responses(operation: &mut Value, once: bool) {
    let parameters = || operation["parameters"].as_array().into_iter().flatten();
    let keyed = operation.get("security").is_some();
    let managed = operation["security"].as_array().into_iter().flatten().any(|key| key.get("management_key").is_some());
    let body = operation.get("requestBody").is_some();
    let place = |place: &str| parameters().any(|parameter| parameter["in"] == place);
    let (query, path) = (place("query"), place("path"));
    let (keyed, body) = ((keyed, ["401", "429", "503"].as_slice()), (body, ["400", "408", "413", "415"].as_slice()));
    let limited = (managed, ["403"].as_slice());
    let once = (once, ["400", "409"].as_slice());
    let possible = [once, (true, ["431", "500"].as_slice()), keyed, body, limited, (query, &["400"]), (path, &["404"])];
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for (status, response) in responses.iter_mut() {
        let description = response["description"].as_str().unwrap_or_default().to_owned();
        if status.as_str() >= "400" {
            *response = refusal(status, &description);
        } else if description.is_empty() {
            response["description"] = json!(if status == "201" { "Created" } else { "OK" });
        }
    }
    let statuses = possible.into_iter().filter(|(possible, _)| *possible).flat_map(|(_, statuses)| statuses);
    for status in statuses {
        if let Some((_, name, _)) = ERRORS.iter().find(|(known, ..)| known == status) {
            let named = json!({"$ref": format!("#/components/responses/{name}")});
            responses.entry(*status).or_insert(named);
        }
    }
}

fn refusal(status: &str, when: &str) -> Value {
    let mut refusal = json!({"description": when, "content": {"application/json": {"schema": {"$ref": ENVELOPE}}}});
    if ["429", "503"].contains(&status) {
        let schema = json!({"type": "string"});
        refusal["headers"] =
            json!({"Retry-After": {"description": "Seconds after which to try again", "schema": schema}});
    }
    if status == "429" {
        let said = ["The limit that was met", "What is left of it", "When more is, in milliseconds since 1970"];
        for (name, said) in RATE_LIMIT_HEADERS.into_iter().zip(said) {
            refusal["headers"][name] = json!({"description": said, "schema": {"type": "string"}});
        }
    }
    refusal
}

/// A generic type holds a copy of its argument; it gets a reference instead.
fn name_what_has_a_name(schemas: &mut Value) {
    let is_generic = |name: &str| name.contains('_');
    let all = schemas.as_object().cloned().unwrap_or_default();
    for (_, schema) in schemas.as_object_mut().into_iter().flatten().filter(|(name, _)| is_generic(name)) {
        for field in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
            let list = field["type"] == "array";
            let Some(part) = (if list { field.get_mut("items") } else { Some(field) }) else { continue };
            let named = all.iter().find(|(name, known)| !is_generic(name) && *known == part);
            if let Some((name, _)) = named {
                *part = json!({"$ref": format!("#/components/schemas/{name}")});
            }
        }
    }
}

/// Amounts become numbers where they stand, and links between items of the code become words.
fn rewrite(value: &mut Value, amounts: &[(&str, Value)]) {
    let amount = |value: &Value| {
        let name = value["$ref"].as_str()?.strip_prefix("#/components/schemas/")?;
        amounts.iter().find(|(known, _)| *known == name).map(|(_, schema)| schema.clone())
    };
    let nullable = value["oneOf"].as_array().filter(|either| either.len() == 2 && either[0]["type"] == "null");
    let found = match nullable.and_then(|either| amount(&either[1])) {
        Some(mut schema) => {
            schema["type"] = json!(["number", "null"]);
            Some(schema)
        }
        None => amount(value),
    };
    if let Some(mut schema) = found {
        let description = value.get("description").or_else(|| value.pointer("/oneOf/1/description"));
        if let Some(description) = description {
            schema["description"] = description.clone();
        }
        *value = schema;
    } else if *value == json!({"default": null}) {
        *value = json!({"type": "null", "description": "Always null."});
    }
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                match member {
                    Value::String(text) if name == "description" || name == "summary" => {
                        *text = text.replace("[`", "`").replace("`]", "`");
                    }
                    _ => rewrite(member, amounts),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rewrite(item, amounts)),
        _ => {}
    }
}

/// The names of the schemas that a value refers to.
fn references(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.values().for_each(|member| references(member, names)),
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        Value::String(text) => names.extend(text.strip_prefix("#/components/schemas/").map(str::to_owned)),
        _ => {}
    }
}

/// In an answer a field that can be null is there (contract section 19): only one that cannot be may be absent.
fn require_what_is_always_written(schemas: &mut Value, mut names: Vec<String>) {
    let mut seen = Vec::new();
    while let Some(name) = names.pop() {
        if seen.contains(&name) {
            continue;
        }
        let Some(schema) = schemas.get_mut(&name) else { continue };
        references(schema, &mut names);
        require(schema);
        seen.push(name);
    }
}

fn require(schema: &mut Value) {
    for part in schema.get_mut("allOf").and_then(Value::as_array_mut).into_iter().flatten() {
        require(part);
    }
    let nullable = |schema: &Value| {
        let is_null = |kind: &Value| kind["type"] == "null";
        schema["type"] == "null"
            || schema["type"].as_array().is_some_and(|kinds| kinds.contains(&json!("null")))
            || schema["oneOf"].as_array().is_some_and(|either| either.iter().any(is_null))
    };
    let Some(fields) = schema["properties"].as_object() else { return };
    let written = fields.iter().filter(|(_, field)| nullable(field)).map(|(name, _)| Value::from(name.as_str()));
    let mut required = schema["required"].as_array().cloned().unwrap_or_default();
    for name in written.collect::<Vec<_>>() {
        if !required.contains(&name) {
            required.push(name);
        }
    }
    schema["required"] = required.into();
}
