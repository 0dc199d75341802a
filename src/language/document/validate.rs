//! Holds a tree against a JSON schema and tells every fault with its place.
//!
//! On the way the tree becomes JSON: a number where a text is wanted keeps what was written, so
//! that `version: 1.10` is `"1.10"`. Where templates are allowed, they are kept as they stand.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::format;
use super::node::{Entry, Kind, Node, child};
use super::schema::{Schema, plain};
use crate::base::diagnostic::{Code, Diagnostic, Place};
use crate::language::runbook::Located;
use crate::language::template;

/// Whether a text with `{{` may stand where another type is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplatePolicy {
    /// In `with:`: the value is known later.
    Allowed,
    /// In the structure of a file.
    Forbidden,
}

/// One fault, with the JSON pointer of the value it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where in the value.
    pub pointer: String,
    /// What is wrong.
    pub diagnostic: Diagnostic,
}

/// Which part of the inventory a name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameKind {
    /// A database.
    Database,
    /// A service.
    Service,
    /// A store.
    Store,
}

/// A literal name where the schema says `x-ref`.
#[derive(Debug, Clone, PartialEq)]
pub struct NameUse {
    /// What it names.
    pub kind: NameKind,
    /// The name and its place.
    pub name: Located<String>,
}

/// What came of holding a tree against a schema.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Checked {
    /// The tree as JSON; faulty parts as written.
    pub value: Value,
    /// All faults in the order of the text.
    pub faults: Vec<Fault>,
    /// All literal names of inventory entries.
    pub names: Vec<NameUse>,
    /// The pointers of the faults.
    faulty: BTreeSet<String>,
}

impl Checked {
    /// Tells whether nothing at or below a JSON pointer is faulty.
    #[must_use]
    pub fn is_clean(&self, pointer: &str) -> bool {
        let below = format!("{pointer}/");
        let next = self.faulty.range(below.clone()..).next();
        !self.faulty.contains(pointer) && !next.is_some_and(|fault| fault.starts_with(&below))
    }

    /// Reads a clean part as a type; `None` when it is absent or faulty.
    #[must_use]
    pub fn read<T: serde::de::DeserializeOwned>(&self, pointer: &str) -> Option<T> {
        let value = self.value.pointer(pointer).filter(|_| self.is_clean(pointer))?;
        serde_json::from_value(value.clone()).ok()
    }
}

/// Holds `node` against `schema`.
#[must_use]
pub fn validate(node: &Node, schema: &Value, templates: TemplatePolicy) -> Checked {
    let mut walk = Walk { templates, faults: Vec::new(), names: Vec::new() };
    let value = walk.value(node, Schema::root(schema), "");
    let faulty = walk.faults.iter().map(|fault| fault.pointer.clone()).collect();
    Checked { value, faults: walk.faults, names: walk.names, faulty }
}

pub(super) struct Walk {
    pub(super) templates: TemplatePolicy,
    pub(super) faults: Vec<Fault>,
    pub(super) names: Vec<NameUse>,
}

impl Walk {
    pub(super) fn fault(&mut self, pointer: &str, diagnostic: Diagnostic) {
        self.faults.push(Fault { pointer: pointer.to_owned(), diagnostic });
    }

    pub(super) fn value(&mut self, node: &Node, schema: Schema<'_>, pointer: &str) -> Value {
        if schema.is_anything() {
            return node.to_json();
        }
        if let Some(text) = node.as_str().filter(|text| self.is_template(text)) {
            if template::is_expression(text) || accepts_text(schema) {
                return Value::String(text.to_owned());
            }
            let message = format!("{} is wanted, but this template gives a text", schema.describe());
            let fault = Diagnostic::new(Code::WrongType, message).at(node.at);
            self.fault(pointer, fault.help("let the whole value be one `{{ ... }}`: then it keeps its type"));
            return node.to_json();
        }
        if let Some(branches) = schema.branches() {
            return self.choice(node, &branches, pointer);
        }
        if let Some(constants) = schema.constants() {
            return self.constant(node, &constants, pointer);
        }
        self.typed(node, schema, pointer)
    }

    fn is_template(&self, text: &str) -> bool {
        self.templates == TemplatePolicy::Allowed && template::is_template(text)
    }

    fn constant(&mut self, node: &Node, constants: &[&Value], pointer: &str) -> Value {
        let value = node.to_json();
        if constants.contains(&&value) {
            return value;
        }
        if matches!(node.kind, Kind::Seq(_) | Kind::Map(_) | Kind::Null) {
            let wanted: Vec<String> = constants.iter().map(|value| format!("`{}`", plain(value))).collect();
            return self.wrong_type(node, &wanted.join(" or "), pointer);
        }
        self.unknown_value(node, &constants.iter().map(|value| plain(value)).collect::<Vec<_>>(), pointer);
        value
    }

    pub(super) fn unknown_value(&mut self, node: &Node, known: &[String], pointer: &str) {
        let written = node.lexeme.clone().unwrap_or_else(|| plain(&node.to_json()));
        let fault = Diagnostic::new(Code::UnknownValue, format!("{} does not take `{written}`", subject(pointer)))
            .at(node.at)
            .suggest(&written, known.iter().map(String::as_str));
        self.fault(pointer, fault);
    }

    pub(super) fn wrong_type(&mut self, node: &Node, wanted: &str, pointer: &str) -> Value {
        let fault = match &node.kind {
            Kind::Null => {
                Diagnostic::new(Code::WrongType, format!("{} has no value; {wanted} is wanted", subject(pointer)))
                    .help("give it a value or remove the key")
            }
            _ => {
                Diagnostic::new(Code::WrongType, format!("{} takes {wanted}, not {}", subject(pointer), written(node)))
            }
        };
        let fault = match &node.kind {
            Kind::Str(text) if wanted.contains("number") && text.parse::<f64>().is_ok() => {
                fault.help("remove the quotes")
            }
            Kind::Str(_) if wanted == "a list" => fault.help("write it as a list: `[...]`, or one `- ...` per line"),
            Kind::Str(text) if wanted.contains("`true`") && matches!(text.as_str(), "yes" | "no" | "on" | "off") => {
                fault.help("write `true` or `false`: `yes`, `no`, `on` and `off` are texts")
            }
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Str(_) | Kind::Seq(_) | Kind::Map(_) => fault,
        };
        self.fault(pointer, fault.at(node.at));
        node.to_json()
    }

    fn typed(&mut self, node: &Node, schema: Schema<'_>, pointer: &str) -> Value {
        match &node.kind {
            Kind::Null if self.templates == TemplatePolicy::Allowed && schema.takes("null") => Value::Null,
            Kind::Bool(value) if schema.takes("boolean") => Value::Bool(*value),
            Kind::Number(number) if schema.takes("number") || (schema.takes("integer") && !number.is_f64()) => {
                self.number(node, number.clone(), schema, pointer)
            }
            Kind::Str(text) if schema.takes("string") => self.text(node, text, schema, pointer),
            Kind::Bool(_) | Kind::Number(_) if schema.takes("string") => match &node.lexeme {
                Some(text) => self.text(node, &text.clone(), schema, pointer),
                None => self.wrong_type(node, &schema.describe(), pointer),
            },
            Kind::Seq(items) if schema.takes("array") => {
                let list = items.iter().enumerate().map(|(index, item)| match schema.items() {
                    Some(schema) => self.value(item, schema, &format!("{pointer}/{index}")),
                    None => item.to_json(),
                });
                Value::Array(list.collect())
            }
            Kind::Map(entries) if schema.takes("object") => self.object(node, entries, schema, pointer),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Str(_) | Kind::Seq(_) | Kind::Map(_) => {
                self.wrong_type(node, &schema.describe(), pointer)
            }
        }
    }

    fn number(&mut self, node: &Node, number: serde_json::Number, schema: Schema<'_>, pointer: &str) -> Value {
        let value = number.as_f64().unwrap_or(f64::NAN);
        let too_small = schema.number("minimum").filter(|minimum| value < *minimum);
        let too_large = schema.number("maximum").filter(|maximum| value > *maximum);
        let bound = match (too_small, too_large) {
            (Some(minimum), _) => format!("at least {minimum}"),
            (None, Some(maximum)) => format!("at most {maximum}"),
            (None, None) => return Value::Number(number),
        };
        let message = format!("{} must be {bound}, not {number}", subject(pointer));
        self.fault(pointer, Diagnostic::new(Code::UnknownValue, message).at(node.at));
        Value::Number(number)
    }

    fn text(&mut self, node: &Node, text: &str, schema: Schema<'_>, pointer: &str) -> Value {
        let value = Value::String(text.to_owned());
        let is_empty = || text.is_empty() && schema.number("minLength").is_some_and(|length| length >= 1.0);
        let fault = match schema.text("format").and_then(|format| format::fault(format, text)) {
            Some(fault) => fault,
            None if is_empty() => Diagnostic::new(Code::UnknownValue, format!("{} may not be empty", subject(pointer))),
            None => {
                self.note_name(node.at, text, schema);
                return value;
            }
        };
        self.fault(pointer, fault.at(node.at));
        value
    }

    fn note_name(&mut self, at: Place, text: &str, schema: Schema<'_>) {
        let kind = match schema.text("x-ref") {
            Some("database") => NameKind::Database,
            Some("service") => NameKind::Service,
            Some("store") => NameKind::Store,
            Some(_) | None => return,
        };
        self.names.push(NameUse { kind, name: Located { value: text.to_owned(), at } });
    }

    fn object(&mut self, node: &Node, entries: &[Entry], schema: Schema<'_>, pointer: &str) -> Value {
        let mut map = Map::new();
        let known = schema.properties();
        let written: BTreeSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        for entry in entries {
            let path = child(pointer, &entry.key);
            let value = match (known.and_then(|known| known.get(&entry.key)), schema.further()) {
                (Some(property), _) => self.value(&entry.value, schema.at(property), &path),
                (None, Some(further)) => self.value(&entry.value, further, &path),
                (None, None) => {
                    let names = known.into_iter().flat_map(|known| known.keys().map(String::as_str));
                    let absent = names.filter(|name| !written.contains(name));
                    let fault = Diagnostic::new(Code::UnknownKey, format!("unknown key `{}`", entry.key))
                        .at(entry.key_at)
                        .suggest(&entry.key, absent);
                    self.fault(&path, fault);
                    entry.value.to_json()
                }
            };
            map.insert(entry.key.clone(), value);
        }
        for key in schema.required().filter(|key| !map.contains_key(*key)) {
            let place = if pointer.is_empty() { "".to_owned() } else { format!(" in {}", subject(pointer)) };
            let fault = Diagnostic::new(Code::MissingKey, format!("the key `{key}` is missing{place}"))
                .label(node.at, format!("needs `{key}`"));
            self.fault(&child(pointer, key), fault);
        }
        Value::Object(map)
    }
}

fn accepts_text(schema: Schema<'_>) -> bool {
    match schema.branches() {
        Some(branches) => branches.iter().any(|branch| accepts_text(*branch)),
        None => schema.takes("string") || schema.is_anything(),
    }
}

/// Names the value a pointer leads to, as a reader of the file would.
pub(super) fn subject(pointer: &str) -> String {
    let mut parts: Vec<String> = pointer.split('/').skip(1).map(|p| p.replace("~1", "/").replace("~0", "~")).collect();
    match parts.pop() {
        None => "this".to_owned(),
        Some(last) => match last.parse::<usize>() {
            Ok(index) => match parts.pop() {
                Some(list) => format!("entry {} of `{list}`", index + 1),
                None => format!("entry {}", index + 1),
            },
            Err(_) => format!("`{last}`"),
        },
    }
}

/// Names what was written, for a message about its type.
fn written(node: &Node) -> String {
    match &node.kind {
        Kind::Null => "nothing".to_owned(),
        Kind::Bool(value) => format!("`{value}`"),
        Kind::Number(value) => format!("the number `{}`", node.lexeme.clone().unwrap_or_else(|| value.to_string())),
        Kind::Str(text) if text.chars().count() <= 40 && !text.contains('\n') => format!("the text `{text}`"),
        Kind::Str(_) => "a text".to_owned(),
        Kind::Seq(_) => "a list".to_owned(),
        Kind::Map(_) => "a mapping".to_owned(),
    }
}
