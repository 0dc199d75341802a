//! Templates and expressions: no panic, bounded output, and no secret without its token.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runbook::language::template::{MAX_OUTPUT, Scope, TextKind, evaluate, references, render};
use serde_json::{Value, json};

fn longest(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(longest).max().unwrap_or_default(),
        Value::Object(members) => members.values().map(longest).max().unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fuzz_target!(|text: &str| {
    let scope = Scope::new()
        .with("params", &json!({ "database": "orders", "n": 7, "f": 0.5, "none": null, "list": [1, "two", [3]] }))
        .with("vars", &json!({ "a": { "b": { "c": "deep" } } }))
        .with("run", &json!({ "id": "20260128-143002-3fa9c1", "mode": "real" }))
        .with("steps", &json!({ "dump": { "path": "/x", "rows": 12, "status": "succeeded" } }))
        .with("item", &json!({ "name": "one" }))
        .with_secrets(["pg".to_owned()]);
    for kind in [TextKind::Template, TextKind::Expression] {
        if let Ok(found) = references(text, kind) {
            for range in found.into_iter().filter_map(|reference| reference.range) {
                assert!(text.get(range).is_some(), "a place is inside the text");
            }
        }
    }
    if let Ok(rendered) = render(&Value::String(text.to_owned()), &scope) {
        assert!(longest(&rendered.value) <= MAX_OUTPUT.max(text.len()));
    }
    let _judged = evaluate(text, &scope);
});
