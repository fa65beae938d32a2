//! The one table of what can change a price. A budgeted call that carries one which the price list cannot bound is refused.

use crate::json::{Kind, Scanner, Value};

/// Whether a field's value leaves the price list in force.
pub type Harmless = fn(&Scanner<'_>, &Value) -> bool;

/// Top-level fields that can change a price, each with the values that do not.
pub const PRICE_FIELDS: [(&str, Harmless); 11] = [
    // `priority`, `fast` and `scale` cost more than the list; `flex` costs less.
    ("service_tier", |scanner, value| {
        let tiers = ["\"auto\"", "\"default\"", "\"standard_only\"", "\"flex\""];
        value.kind == Kind::Null || tiers.contains(&scanner.text(value.span.clone()))
    }),
    ("web_search_options", is_null),
    // xAI's and Qwen's names for a search that is billed apart.
    ("search_parameters", is_null),
    ("enable_search", |_, value| matches!(value.kind, Kind::Null | Kind::False)),
    ("plugins", is_empty),
    ("prediction", is_null),
    ("audio", is_null),
    ("modalities", |scanner, value| {
        let text = scanner.text(value.span.clone());
        let plain: String = text.split_ascii_whitespace().collect();
        value.kind == Kind::Null || plain == "[\"text\"]"
    }),
    ("best_of", |scanner, value| value.kind == Kind::Null || scanner.text(value.span.clone()) == "1"),
    ("background", |_, value| matches!(value.kind, Kind::Null | Kind::False)),
    ("speed", |scanner, value| value.kind == Kind::Null || scanner.text(value.span.clone()) == "\"standard\""),
];

fn is_null(_: &Scanner<'_>, value: &Value) -> bool {
    value.kind == Kind::Null
}

fn is_empty(scanner: &Scanner<'_>, value: &Value) -> bool {
    let text: String = scanner.text(value.span.clone()).split_ascii_whitespace().collect();
    value.kind == Kind::Null || text == "[]"
}
