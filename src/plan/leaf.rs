//! What an action's schema says about one argument: may it be late, may it be secret, what does it name.

use serde_json::Value;

/// The traits of one argument.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaf {
    /// Accepts outputs of other steps.
    pub late: bool,
    /// Accepts secrets.
    pub secret: bool,
    /// Which part of the inventory it names: `database`, `service`, `store`.
    pub reference: Option<String>,
}

/// Finds the traits of the argument at a JSON pointer. What the schema marks `x-late` or `x-secret`
/// holds for everything below it.
#[must_use]
pub fn at(root: &Value, pointer: &str) -> Leaf {
    let mut leaf = Leaf::default();
    let mut here: Vec<&Value> = spread(root, root);
    note(&mut leaf, &here);
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        here = here.iter().flat_map(|schema| child(schema, &part)).flat_map(|schema| spread(root, schema)).collect();
        note(&mut leaf, &here);
    }
    leaf
}

fn note(leaf: &mut Leaf, schemas: &[&Value]) {
    for schema in schemas {
        leaf.late |= schema["x-late"] == Value::Bool(true);
        leaf.secret |= schema["x-secret"] == Value::Bool(true);
        if let Some(kind) = schema["x-ref"].as_str() {
            leaf.reference = Some(kind.to_owned());
        }
    }
}

/// Follows `$ref` and opens `anyOf`, `oneOf`, `allOf`: every schema that may describe the same value.
fn spread<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![schema];
    let mut next = 0;
    while next < found.len() && found.len() < 64 {
        let here = found[next];
        next += 1;
        if let Some(target) = here["$ref"].as_str().and_then(|path| root.pointer(path.trim_start_matches('#'))) {
            found.push(target);
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            found.extend(here[key].as_array().into_iter().flatten());
        }
    }
    found
}

fn child<'a>(schema: &'a Value, part: &str) -> Vec<&'a Value> {
    let named = schema["properties"].get(part);
    let free = schema.get("additionalProperties").filter(|value| named.is_none() && value.is_object());
    let item = schema.get("items").filter(|value| value.is_object() && part.parse::<usize>().is_ok());
    named.into_iter().chain(free).chain(item).collect()
}

/// Visits every text of a JSON tree with its pointer.
pub fn visit_texts<'a>(value: &'a Value, pointer: &str, visit: &mut impl FnMut(&str, &'a str)) {
    match value {
        Value::String(text) => visit(pointer, text),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                visit_texts(item, &format!("{pointer}/{index}"), visit);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                let key = key.replace('~', "~0").replace('/', "~1");
                visit_texts(member, &format!("{pointer}/{key}"), visit);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::at;

    #[test]
    fn traits_are_found_through_references_and_alternatives() {
        let schema = json!({
            "properties": {
                "database": { "x-ref": "database" },
                "env": { "additionalProperties": { "x-secret": true } },
                "staged": { "anyOf": [ { "$ref": "#/$defs/S" }, { "type": "null" } ] }
            },
            "$defs": { "S": { "x-late": true } }
        });
        assert_eq!(at(&schema, "/database").reference.as_deref(), Some("database"));
        assert!(at(&schema, "/env/PGPASSWORD").secret);
        assert!(at(&schema, "/staged").late);
        assert!(!at(&schema, "/unknown/deep").late);
    }
}
