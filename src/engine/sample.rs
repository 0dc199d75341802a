//! A value that fits a schema: what a step that is not made in a rehearsal gives to those that read it.

use serde_json::{Map, Value, json};

/// The deepest nesting that is filled; below it everything is null.
const MOST_LEVELS: usize = 16;

/// Makes a sample of a JSON schema as actions give theirs.
#[must_use]
pub(super) fn sample(schema: &Value) -> Value {
    of(schema, schema, MOST_LEVELS)
}

fn of(schema: &Value, root: &Value, levels: usize) -> Value {
    if levels == 0 {
        return Value::Null;
    }
    if let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#')) {
        return root.pointer(target).map_or(Value::Null, |target| of(target, root, levels - 1));
    }
    if let Some(only) = schema.get("const") {
        return only.clone();
    }
    if let Some(first) = schema.get("enum").and_then(Value::as_array).and_then(|all| all.first()) {
        return first.clone();
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        let choices = schema.get(choice).and_then(Value::as_array);
        let known = |choice: &&Value| choice.get("type").and_then(Value::as_str) != Some("null");
        if let Some(first) = choices.and_then(|all| all.iter().find(known)) {
            return of(first, root, levels - 1);
        }
    }
    typed(schema, root, levels)
}

fn typed(schema: &Value, root: &Value, levels: usize) -> Value {
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        Some(_) | None if schema.get("properties").is_some() => "object",
        Some(_) | None => "string",
    };
    match kind {
        "object" => {
            let members = schema.get("properties").and_then(Value::as_object);
            let members =
                members.into_iter().flatten().map(|(name, member)| (name.clone(), of(member, root, levels - 1)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        "array" => schema.get("items").map_or_else(|| json!([]), |items| json!([of(items, root, levels - 1)])),
        "integer" => json!(schema.get("minimum").and_then(Value::as_u64).unwrap_or(0).max(1)),
        "number" => json!(1.0),
        "boolean" => json!(true),
        "null" => Value::Null,
        _ => json!(text(schema)),
    }
}

fn text(schema: &Value) -> &'static str {
    match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => "2000-01-01T00:00:00Z",
        Some(_) | None => "sample",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::sample;

    #[test]
    fn a_sample_has_the_shape_of_its_schema() {
        let schema = json!({
            "type": "object",
            "properties": {
                "size": { "type": "integer", "minimum": 0 },
                "maybe": { "type": ["string", "null"] },
                "handle": { "$ref": "#/$defs/Handle" },
                "list": { "type": "array", "items": { "type": "boolean" } },
                "kind": { "enum": ["a", "b"] },
                "either": { "anyOf": [{ "type": "null" }, { "type": "number" }] },
            },
            "$defs": { "Handle": { "type": "object", "properties": { "id": { "type": "string" } } } },
        });
        let expected = json!({
            "size": 1, "maybe": "sample", "handle": { "id": "sample" }, "list": [true], "kind": "a", "either": 1.0,
        });
        assert_eq!(sample(&schema), expected);
    }

    #[test]
    fn a_schema_that_names_itself_ends() {
        let schema = json!({ "properties": { "next": { "$ref": "#" } } });
        assert!(sample(&schema)["next"].is_object());
    }
}
