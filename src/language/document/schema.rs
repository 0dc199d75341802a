//! Reading JSON schemas as schemars writes them.

use serde_json::{Map, Value};

/// A schema with the root its `$ref`s point into.
#[derive(Clone, Copy)]
pub(super) struct Schema<'a> {
    root: &'a Value,
    here: &'a Value,
}

impl<'a> Schema<'a> {
    pub(super) fn root(root: &'a Value) -> Self {
        Self { root, here: root }.resolved()
    }

    pub(super) fn at(self, here: &'a Value) -> Self {
        Self { here, ..self }.resolved()
    }

    /// Follows `$ref`, and the single member of `allOf` and `anyOf` that schemars wraps references in.
    fn resolved(self) -> Self {
        let mut here = self.here;
        for _ in 0..16 {
            let Some(next) = here.get("$ref").and_then(Value::as_str).and_then(|text| self.pointer(text)) else {
                break;
            };
            here = next;
        }
        match here.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
            Some([only]) => self.at(only),
            Some(_) | None => Self { here, ..self },
        }
    }

    fn pointer(self, reference: &str) -> Option<&'a Value> {
        self.root.pointer(reference.strip_prefix('#')?)
    }

    fn member(self, key: &str) -> Option<&'a Value> {
        self.here.get(key)
    }

    pub(super) fn text(self, key: &str) -> Option<&'a str> {
        self.member(key).and_then(Value::as_str)
    }

    pub(super) fn number(self, key: &str) -> Option<f64> {
        self.member(key).and_then(Value::as_f64)
    }

    pub(super) fn items(self) -> Option<Schema<'a>> {
        self.member("items").map(|items| self.at(items))
    }

    pub(super) fn properties(self) -> Option<&'a Map<String, Value>> {
        self.member("properties").and_then(Value::as_object)
    }

    pub(super) fn required(self) -> impl Iterator<Item = &'a str> {
        self.member("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// The schema of keys that are not named; `None` when they are refused.
    ///
    /// A mapping with named keys is closed even where schemars leaves it open (struct variants).
    pub(super) fn further(self) -> Option<Schema<'a>> {
        const ANYTHING: &Value = &Value::Bool(true);
        match self.member("additionalProperties") {
            Some(Value::Bool(false)) => None,
            Some(schema) => Some(self.at(schema)),
            None if self.properties().is_some() => None,
            None => Some(self.at(ANYTHING)),
        }
    }

    /// Whether any value will do.
    pub(super) fn is_anything(self) -> bool {
        match self.here {
            Value::Object(map) => {
                ["type", "const", "enum", "anyOf", "oneOf", "properties"].iter().all(|key| !map.contains_key(*key))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => true,
        }
    }

    /// The branches of `anyOf` or `oneOf`, a choice within the choice opened.
    pub(super) fn branches(self) -> Option<Vec<Schema<'a>>> {
        let list = self.member("anyOf").or_else(|| self.member("oneOf"))?.as_array()?;
        let branches = list.iter().map(|branch| self.at(branch));
        Some(branches.flat_map(|branch| branch.branches().unwrap_or_else(|| vec![branch])).collect())
    }

    /// The values of `const` or `enum`.
    pub(super) fn constants(self) -> Option<Vec<&'a Value>> {
        if let Some(value) = self.member("const") {
            return Some(vec![value]);
        }
        Some(self.member("enum")?.as_array()?.iter().collect())
    }

    /// The JSON types it takes; empty when it does not say.
    pub(super) fn types(self) -> Vec<&'a str> {
        match self.member("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
        }
    }

    pub(super) fn takes(self, kind: &str) -> bool {
        let types = self.types();
        types.contains(&kind) || (kind == "integer" && types.contains(&"number"))
    }

    /// The one required key of a branch such as `{ systemd: … }`.
    pub(super) fn tag(self) -> Option<&'a str> {
        let mut required = self.required();
        let tag = required.next()?;
        let single = required.next().is_none() && self.properties().is_some_and(|p| p.len() == 1);
        (single && self.takes("object")).then_some(tag)
    }

    /// What it takes, in words for people.
    pub(super) fn describe(self) -> String {
        if let Some(branches) = self.branches() {
            let mut words: Vec<String> = branches.iter().filter(|b| !b.is_null()).map(|b| b.describe()).collect();
            words.dedup();
            return words.join(" or ");
        }
        if let Some(tag) = self.tag() {
            return format!("`{{ {tag}: ... }}`");
        }
        if let Some(constants) = self.constants() {
            let words: Vec<String> = constants.iter().map(|value| format!("`{}`", plain(value))).collect();
            return words.join(" or ");
        }
        let words: Vec<&str> = self.types().iter().filter(|t| **t != "null").map(|kind| self.word(kind)).collect();
        if words.is_empty() { "a value".to_owned() } else { words.join(" or ") }
    }

    pub(super) fn is_null(self) -> bool {
        self.types() == ["null"]
    }

    fn word(self, kind: &str) -> &'static str {
        match (kind, self.text("format")) {
            ("string", Some("runbook-duration")) => "a duration such as `15m`",
            ("string", Some("runbook-size")) => "a size such as `16MiB`",
            ("string", Some("runbook-age")) => "an age such as `30d`",
            ("string", Some("runbook-cron")) => "a cron pattern such as `0 2 * * *`",
            ("string", Some("runbook-timezone")) => "a time zone such as `Europe/Berlin`",
            ("string", Some("runbook-percent")) => "a percentage such as `50%`",
            ("string", _) => "a text",
            ("integer", _) => "a whole number",
            ("number", _) => "a number",
            ("boolean", _) => "`true` or `false`",
            ("array", _) => "a list",
            ("object", _) => "a mapping",
            _ => "a value",
        }
    }
}

/// Writes a constant without quotes.
pub(in crate::language) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
