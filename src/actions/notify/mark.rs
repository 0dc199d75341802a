//! The mark of a drill: the one place where texts to people get it, so that nobody is woken by an exercise.

use serde_json::Value;

use crate::action::Mode;

/// What a text of a drill begins with.
const MARK: &str = "[DRILL]";

/// The members of a JSON body that people read.
const READ: [&str; 5] = ["text", "subject", "title", "message", "summary"];

/// Marks a text in a drill.
pub(super) fn text(mode: Mode, text: &str) -> String {
    match mode {
        Mode::Drill if !text.starts_with(MARK) => format!("{MARK} {text}"),
        Mode::Drill | Mode::Real | Mode::DryRun => text.to_owned(),
    }
}

/// Marks a body in a drill: a text as a whole, JSON in the members that people read.
pub(super) fn body(mode: Mode, body: Value) -> Value {
    match body {
        Value::String(plain) => match serde_json::from_str::<Value>(&plain) {
            Ok(tree @ (Value::Object(_) | Value::Array(_))) if mode == Mode::Drill => {
                Value::String(members(mode, tree).to_string())
            }
            Ok(_) | Err(_) => Value::String(text(mode, &plain)),
        },
        tree => members(mode, tree),
    }
}

fn members(mode: Mode, tree: Value) -> Value {
    match tree {
        Value::Object(all) => all
            .into_iter()
            .map(|(name, member)| {
                let member = match member {
                    Value::String(plain) if READ.contains(&name.as_str()) => Value::String(text(mode, &plain)),
                    member => members(mode, member),
                };
                (name, member)
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(|item| members(mode, item)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => tree,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{body, text};
    use crate::action::Mode;

    #[test]
    fn what_people_read_of_a_drill_is_marked_once_and_json_stays_json() {
        assert_eq!(text(Mode::Drill, "[DRILL] x"), "[DRILL] x");
        assert_eq!(body(Mode::Drill, json!("x")), json!("[DRILL] x"));
        assert_eq!(body(Mode::Drill, json!("{\"text\":\"x\"}")), json!("{\"text\":\"[DRILL] x\"}"));
        let tree = json!({ "blocks": [{ "text": { "text": "x", "type": "plain" } }], "summary": "y" });
        let marked =
            json!({ "blocks": [{ "text": { "text": "[DRILL] x", "type": "plain" } }], "summary": "[DRILL] y" });
        assert_eq!(body(Mode::Drill, tree.clone()), marked);
        assert_eq!(body(Mode::Real, tree.clone()), tree);
    }
}
