//! Policy documents compared by what they mean: order, and one value instead of a list of one, mean nothing.

use serde_json::{Map, Value};

/// The statements of a policy.
pub(super) fn statements(policy: Option<&Value>) -> Vec<Value> {
    match policy.map(|policy| &policy["Statement"]) {
        Some(Value::Array(statements)) => statements.clone(),
        Some(one @ Value::Object(_)) => vec![one.clone()],
        Some(_) | None => Vec::new(),
    }
}

/// Whether two statements mean the same.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    canonical(one) == canonical(other)
}

/// A statement in its one form: every value a sorted list, everybody written in one way.
pub(super) fn canonical(statement: &Value) -> Value {
    let Some(members) = statement.as_object() else { return statement.clone() };
    let mut canonical = Map::new();
    for (key, value) in members {
        let value = match key.as_str() {
            "Sid" | "Effect" => value.clone(),
            "Principal" | "NotPrincipal" => principal(value),
            _ => listed(value),
        };
        canonical.insert(key.clone(), value);
    }
    Value::Object(canonical)
}

/// `*` and `{ "AWS": "*" }` are the same.
fn principal(value: &Value) -> Value {
    match value {
        Value::String(all) if all == "*" => listed(&serde_json::json!({ "AWS": "*" })),
        other => listed(other),
    }
}

fn listed(value: &Value) -> Value {
    match value {
        Value::Object(members) => members.iter().map(|(key, member)| (key.clone(), listed(member))).collect(),
        Value::Array(items) => {
            let mut texts: Vec<Value> = items.iter().map(text).collect();
            texts.sort_by_key(ToString::to_string);
            texts.dedup();
            Value::Array(texts)
        }
        one => Value::Array(vec![text(one)]),
    }
}

/// A condition's `false` and `"false"` are the same.
fn text(value: &Value) -> Value {
    match value {
        Value::Bool(_) | Value::Number(_) => Value::String(value.to_string()),
        other => other.clone(),
    }
}

/// Whether a statement lets everybody in without a condition.
pub(super) fn is_public(statement: &Value) -> bool {
    let everybody = principal(&statement["Principal"]) == principal(&Value::String("*".to_owned()));
    statement["Effect"] == "Allow" && everybody && statement.get("Condition").is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{is_public, same};

    #[test]
    fn order_and_lists_of_one_mean_nothing() {
        let one = json!({ "Sid": "x", "Effect": "Deny", "Principal": "*", "Action": ["b", "a"], "Resource": "r",
            "Condition": { "Bool": { "aws:SecureTransport": false } } });
        let other = json!({ "Effect": "Deny", "Sid": "x", "Principal": { "AWS": ["*"] }, "Action": ["a", "b"],
            "Resource": ["r"], "Condition": { "Bool": { "aws:SecureTransport": ["false"] } } });
        assert!(same(&one, &other));
        let wider = json!({ "Sid": "x", "Effect": "Deny", "Principal": "*", "Action": ["a"], "Resource": "r" });
        assert!(!same(&one, &wider));
    }

    #[test]
    fn everybody_is_found_in_both_ways_of_writing() {
        for principal in [json!("*"), json!({ "AWS": "*" }), json!({ "AWS": ["*"] })] {
            assert!(is_public(&json!({ "Effect": "Allow", "Principal": principal, "Action": "s3:GetObject" })));
            assert!(!is_public(&json!({ "Effect": "Deny", "Principal": principal, "Action": "s3:GetObject" })));
        }
    }
}
