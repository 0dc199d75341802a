//! What a `for_each` fans out over, as far as it is known before the run.

use serde_json::Value;

use super::binder::is_late;
use super::leaf;
use super::model::ForEach;
use crate::language::runbook::{MOST_INSTANCES, Step};
use crate::language::template::{self, Scope, TextKind};

/// Freezes the fan-out of a step, unrendered. What is known already is held against what it must be.
///
/// # Errors
/// Tells why there could be no instances.
pub fn bound(step: &Step, scope: &Scope) -> Result<Option<ForEach>, String> {
    let Some(items) = &step.for_each else { return Ok(None) };
    if !reads_late(&items.value) {
        let rendered = template::render(&items.value, scope).map_err(|error| error.message)?;
        let count = match &rendered.value {
            Value::Array(list) => list.len(),
            Value::Object(members) => members.len(),
            other => return Err(format!("`for_each` wants a list or a mapping, not `{other}`")),
        };
        if count > MOST_INSTANCES {
            return Err(format!("`for_each` has {count} items; {MOST_INSTANCES} is the most"));
        }
    }
    Ok(Some(ForEach { items: items.value.clone(), max_parallel: step.max_parallel }))
}

fn reads_late(items: &Value) -> bool {
    let mut late = false;
    leaf::visit_texts(items, "", &mut |_, text| {
        let references = template::references(text, TextKind::Template).unwrap_or_default();
        late |= references.iter().any(|reference| is_late(&reference.path));
    });
    late
}

/// Says how often a step is made, for pictures: ``× 3`` or ``× each of vars.tables``.
#[must_use]
pub fn times(items: &Value) -> String {
    match items {
        Value::Array(list) => format!("× {}", list.len()),
        Value::Object(members) => format!("× {}", members.len()),
        Value::String(text) => {
            format!("× each of {}", text.trim_start_matches("{{").trim_end_matches("}}").trim())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::times;

    #[test]
    fn pictures_say_how_often_a_step_is_made() {
        assert_eq!(times(&json!(["a", "b"])), "× 2");
        assert_eq!(times(&json!({ "a": 1 })), "× 1");
        assert_eq!(times(&json!("{{ vars.tables }}")), "× each of vars.tables");
    }
}
