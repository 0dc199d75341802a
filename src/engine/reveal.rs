//! Secret references become values, right before an action is called and only where its schema says `x-secret`.

use serde_json::Value;

use super::Capabilities;
use crate::action::ActionError;
use crate::base::secret::{TOKEN_CLOSE, TOKEN_OPEN};

/// Schemas deep in `$ref`s of themselves are followed this far.
const DEPTH: usize = 32;

/// The parts of a schema that may describe one position of a value.
#[derive(Clone)]
pub(super) struct Position<'a> {
    root: &'a Value,
    parts: Vec<&'a Value>,
}

impl<'a> Position<'a> {
    pub(super) fn root(schema: &'a Value) -> Self {
        let mut position = Self { root: schema, parts: Vec::new() };
        position.add(schema, 0);
        position
    }

    /// Adds a schema with everything it refers to.
    fn add(&mut self, schema: &'a Value, depth: usize) {
        if depth > DEPTH {
            return;
        }
        self.parts.push(schema);
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
        if let Some(found) = target.and_then(|pointer| self.root.pointer(pointer)) {
            self.add(found, depth + 1);
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            for branch in schema.get(key).and_then(Value::as_array).into_iter().flatten() {
                self.add(branch, depth + 1);
            }
        }
    }

    /// Whether any part carries the mark.
    pub(super) fn marked(&self, mark: &str) -> bool {
        self.parts.iter().any(|part| part.get(mark).and_then(Value::as_bool) == Some(true))
    }

    pub(super) fn member(&self, name: &str) -> Self {
        self.below(|part| {
            let named = part.get("properties").and_then(|properties| properties.get(name));
            named.or_else(|| part.get("additionalProperties"))
        })
    }

    pub(super) fn item(&self) -> Self {
        self.below(|part| part.get("items"))
    }

    fn below(&self, step: impl Fn(&'a Value) -> Option<&'a Value>) -> Self {
        let mut position = Self { root: self.root, parts: Vec::new() };
        for part in &self.parts {
            if let Some(schema) = step(part) {
                position.add(schema, 0);
            }
        }
        position
    }
}

/// Puts secret values in the place of their references.
///
/// # Errors
/// Fails fatally when a reference stands where others could see the value, or when a secret has no value.
pub(super) fn reveal(value: &Value, schema: &Value, hands: &dyn Capabilities) -> Result<Value, ActionError> {
    walk(value, &Position::root(schema), hands)
}

fn walk(value: &Value, position: &Position<'_>, hands: &dyn Capabilities) -> Result<Value, ActionError> {
    match value {
        Value::String(text) if text.contains(TOKEN_OPEN) => {
            if !position.marked("x-secret") {
                return Err(ActionError::fatal("a secret stands where others can see it")
                    .help("secrets may flow into arguments marked secret and into environment variables only"));
            }
            replace(text, hands).map(Value::String)
        }
        Value::Array(items) => items.iter().map(|item| walk(item, &position.item(), hands)).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| Ok((name.clone(), walk(member, &position.member(name), hands)?)))
            .collect::<Result<_, ActionError>>()
            .map(Value::Object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(value.clone()),
    }
}

fn replace(text: &str, hands: &dyn Capabilities) -> Result<String, ActionError> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, reference)) = rest.split_once(TOKEN_OPEN) {
        plain.push_str(before);
        let Some((name, after)) = reference.split_once(TOKEN_CLOSE) else {
            return Err(ActionError::fatal("a secret's reference was cut"));
        };
        plain.push_str(hands.secret(name)?.reveal());
        rest = after;
    }
    plain.push_str(rest);
    Ok(plain)
}
