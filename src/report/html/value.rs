//! Values: small ones as a list, checks as a table, the rest as JSON.

use maud::{Markup, html};
use serde_json::{Map, Value};

use crate::report::{mask_text, mask_value};

/// Longer JSON than this is cut; the journal has the whole.
const MAX_JSON: usize = 20_000;
/// A list of more entries than this is shown as JSON.
const MAX_INLINE: usize = 12;

fn is_short(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() <= 80 && !text.contains('\n'),
        Value::Bool(_) | Value::Number(_) => true,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// Tells whether there is nothing to show.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Renders a value with secrets masked. A member `checks` that is a list of objects becomes a table.
pub(super) fn value(value: &Value) -> Markup {
    match mask_value(value) {
        Value::Object(members) if members.is_empty() => html! { span.quiet { "nothing" } },
        Value::Object(mut members) => {
            let checks = match members.remove("checks") {
                Some(Value::Array(rows)) if !rows.is_empty() && rows.iter().all(Value::is_object) => Some(rows),
                Some(other) => {
                    members.insert("checks".to_owned(), other);
                    None
                }
                None => None,
            };
            html! {
                @if let Some(rows) = checks { (table(&rows)) }
                @if !members.is_empty() { (list(&members)) }
            }
        }
        other => html! { (scalar(&other)) },
    }
}

fn list(members: &Map<String, Value>) -> Markup {
    html! {
        dl.values {
            @for (key, value) in members {
                dt { (key) }
                dd { (scalar(value)) }
            }
        }
    }
}

fn scalar(value: &Value) -> Markup {
    match value {
        Value::Null => html! { span.quiet { "none" } },
        Value::String(text) if text.contains('\n') => html! { pre { (cut(text)) } },
        Value::String(text) => html! { code { (cut(text)) } },
        Value::Bool(_) | Value::Number(_) => html! { code { (value) } },
        Value::Array(items) if items.is_empty() => html! { span.quiet { "none" } },
        Value::Object(members) if members.is_empty() => html! { span.quiet { "nothing" } },
        Value::Array(items) if items.len() <= MAX_INLINE && items.iter().all(is_short) => html! {
            @for (index, item) in items.iter().enumerate() { @if index > 0 { ", " } (scalar(item)) }
        },
        Value::Array(_) | Value::Object(_) => {
            let text = serde_json::to_string_pretty(value).unwrap_or_default();
            html! { pre { (cut(&text)) } }
        }
    }
}

/// Renders checks with one row each; the columns are the members, in the order they first appear.
fn table(rows: &[Value]) -> Markup {
    let mut columns: Vec<&str> = Vec::new();
    for key in rows.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !columns.contains(&key.as_str()) {
            columns.push(key);
        }
    }
    columns.sort_by_key(|name| rank(name));
    html! {
        div.scroll { table.checks {
            thead { tr { @for column in &columns { th { (column.replace('_', " ")) } } } }
            tbody {
                @for row in rows {
                    tr.bad[broke(row)] { @for column in &columns { td { (cell(row.get(column))) } } }
                }
            }
        } }
    }
}

/// Names come first and verdicts next, whatever else an action reports.
fn rank(column: &str) -> u8 {
    match column {
        "name" | "check" => 0,
        "ok" | "passed" | "verdict" | "status" => 1,
        "value" | "actual" | "found" => 2,
        "expect" | "expected" => 3,
        _ => 4,
    }
}

fn broke(row: &Value) -> bool {
    let is = |key: &str| row.get(key).and_then(Value::as_bool);
    let named = |key: &str| row.get(key).and_then(Value::as_str).is_some_and(|word| word.starts_with("fail"));
    let is_unmade = row.get("unproven").is_some_and(Value::is_string);
    is("ok") == Some(false) || (is("passed") == Some(false) && !is_unmade) || named("verdict") || named("status")
}

fn cell(value: Option<&Value>) -> Markup {
    match value {
        None | Some(Value::Null) => html! { span.quiet { "–" } },
        Some(Value::Bool(true)) => html! { span.good { "✓" } },
        Some(Value::Bool(false)) => html! { span.bad { "✗" } },
        Some(other) => scalar(other),
    }
}

/// Cuts a text that would swamp the page, and says so.
pub(super) fn cut(text: &str) -> String {
    let text = mask_text(text);
    match text.char_indices().nth(MAX_JSON) {
        Some((end, _)) => format!("{}\n… {} bytes more in the journal", &text[..end], text.len() - end),
        None => text,
    }
}
