//! What a fan-out comes to: the items of a list or a mapping, each with its key.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::base::StepId;
use crate::event::Instance;
use crate::language::runbook::MOST_INSTANCES;

/// The members of a mapping that name it, the first that names every item differently.
const NAMES: [&str; 3] = ["key", "name", "id"];

/// Makes the instances of a step: their keys name them in the journal, in reports and in folders.
///
/// The key of a member of a mapping is its key. In a list it is the text of a scalar; of a mapping its `key`, else
/// its `name`, else its `id`, where every item has one and no two have the same; else the index.
///
/// # Errors
/// Tells what is wrong with the items.
pub(super) fn instances(step: &StepId, items: Value) -> Result<Vec<Instance>, String> {
    let keyed: Vec<(String, Value)> = match items {
        Value::Object(members) => members.into_iter().collect(),
        Value::Array(list) => keys(&list).into_iter().zip(list).collect(),
        other => return Err(format!("`for_each` wants a list or a mapping, not `{other}`")),
    };
    if keyed.len() > MOST_INSTANCES {
        return Err(format!("`for_each` has {} items; {MOST_INSTANCES} is the most", keyed.len()));
    }
    let instances = keyed.into_iter().map(|(key, item)| Instance { step: step.instance(&key), key, item });
    let instances: Vec<Instance> = instances.collect();
    let mut known = BTreeSet::new();
    match instances.iter().find(|instance| !known.insert(&instance.step)) {
        Some(twice) => Err(format!("the items of `for_each` must differ: there are two of the key `{}`", twice.key)),
        None => Ok(instances),
    }
}

fn keys(list: &[Value]) -> Vec<String> {
    let scalars: Option<Vec<String>> = list.iter().map(scalar).collect();
    let named = || NAMES.iter().find_map(|name| names(list, name));
    scalars.or_else(named).unwrap_or_else(|| (0..list.len()).map(|index| index.to_string()).collect())
}

/// The text under this name in every item, if no two are the same.
fn names(list: &[Value], name: &str) -> Option<Vec<String>> {
    let names: Vec<String> = list.iter().map(|item| scalar(item.get(name)?)).collect::<Option<_>>()?;
    let distinct: BTreeSet<&String> = names.iter().collect();
    (distinct.len() == names.len()).then_some(names)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::{Value, json};

    use super::instances;

    fn keys(items: Value) -> Result<Vec<String>, String> {
        let made = instances(&"dump".parse().unwrap(), items)?;
        Ok(made.into_iter().map(|instance| instance.key).collect())
    }

    #[test]
    fn every_kind_of_items_has_keys() {
        assert_eq!(keys(json!(["a", 7, true])).unwrap(), ["a", "7", "true"]);
        assert_eq!(keys(json!({ "x": 1, "y": [2] })).unwrap(), ["x", "y"]);
        assert_eq!(keys(json!([{ "name": "n", "id": 1 }, { "name": "m", "id": 2 }])).unwrap(), ["n", "m"]);
        assert_eq!(keys(json!([{ "name": "n", "id": 1 }, { "name": "n", "id": 2 }])).unwrap(), ["1", "2"]);
        assert_eq!(keys(json!([{ "other": 1 }, { "other": 2 }])).unwrap(), ["0", "1"]);
        assert_eq!(keys(json!(["a", { "name": "b" }])).unwrap(), ["0", "1"]);
        assert_eq!(keys(json!([])).unwrap(), [] as [&str; 0]);
    }

    #[test]
    fn the_id_of_an_instance_is_a_safe_name() {
        let made = instances(&"dump".parse().unwrap(), json!(["a/b c"])).unwrap();
        assert_eq!(made[0].step.as_str(), "dump[a%2Fb%20c]");
        assert_eq!((made[0].key.as_str(), &made[0].item), ("a/b c", &json!("a/b c")));
    }

    #[test]
    fn items_that_cannot_be_told_apart_or_are_too_many_are_refused() {
        assert!(keys(json!(["a", "b", "a"])).unwrap_err().contains("two of the key `a`"));
        assert!(keys(json!([1, "1"])).unwrap_err().contains("two of the key `1`"));
        assert!(keys(json!("a, b")).unwrap_err().contains("a list or a mapping"));
        assert!(keys((0..10_001).collect()).unwrap_err().contains("10000 is the most"));
    }
}
