//! What a template can see.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use minijinja::Value as Template;
use minijinja::value::{Object, ObjectRepr, Serde};
use serde_json::Value;

use crate::base::secret::{TOKEN_CLOSE, TOKEN_OPEN, token};

/// The names a template can see: `params`, `vars`, `run`, `steps`, `objectives`, `secrets`.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    names: BTreeMap<String, Template>,
    secrets: BTreeSet<String>,
}

impl Scope {
    /// A scope without any name.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a name. Characters that stand for secrets are replaced by U+FFFD: data cannot name a secret.
    #[must_use]
    pub fn with(mut self, name: &str, value: &Value) -> Self {
        self.names.insert(name.to_owned(), Template::from(Serde(cleaned(value))));
        self
    }

    /// Adds the declared secrets by name, as `secrets`.
    #[must_use]
    pub fn with_secrets(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.secrets.extend(names);
        let secrets: BTreeMap<String, Template> =
            self.secrets.iter().map(|name| (name.clone(), Template::from_object(Secret(name.clone())))).collect();
        self.names.insert("secrets".to_owned(), Template::from(secrets));
        self
    }

    pub(super) fn context(&self) -> Template {
        Template::from(self.names.clone())
    }

    pub(super) fn has_secret(&self, name: &str) -> bool {
        self.secrets.contains(name)
    }
}

fn cleaned(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace([TOKEN_OPEN, TOKEN_CLOSE], "\u{FFFD}")),
        Value::Array(items) => items.iter().map(cleaned).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), cleaned(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// A secret by name; it renders as its token and has no length, attributes or items.
#[derive(Debug)]
pub(super) struct Secret(String);

impl Object for Secret {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&token(&self.0))
    }
}
