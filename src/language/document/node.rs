//! The spanned tree.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use crate::base::diagnostic::Place;

/// A value with the place it is written at.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub kind: Kind,
    /// Where it stands; of a mapping its first key, of an alias the alias.
    pub at: Place,
    /// What is written where the value is no text: `1.10` stays `1.10` where a text is wanted.
    pub lexeme: Option<String>,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Nothing, or `null`.
    Null,
    /// `true` or `false`, nothing else.
    Bool(bool),
    /// A whole number, or one with a fraction.
    Number(Number),
    /// A text.
    Str(String),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping in the order written; keys are unique.
    Map(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_at: Place,
    /// The value.
    pub value: Node,
}

impl Node {
    /// Gives the text of a text node.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Str(text) => Some(text),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Seq(_) | Kind::Map(_) => None,
        }
    }

    /// Gives the entries of a mapping; of anything else none.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Str(_) | Kind::Seq(_) => &[],
        }
    }

    /// Gives the items of a list; of anything else none.
    #[must_use]
    pub fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::Seq(items) => items,
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Str(_) | Kind::Map(_) => &[],
        }
    }

    /// Gives the value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Gives a key with its value.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// Turns the tree into JSON; places are lost.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(value) => Value::Number(value.clone()),
            Kind::Str(value) => Value::String(value.clone()),
            Kind::Seq(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map(entries) => {
                let map: Map<String, Value> =
                    entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect();
                Value::Object(map)
            }
        }
    }

    /// Gives the place of every node below, by JSON pointer; the node itself is the empty pointer.
    #[must_use]
    pub fn places(&self) -> BTreeMap<String, Place> {
        let mut places = BTreeMap::new();
        self.collect_places("", &mut places);
        places
    }

    /// Gives the place of every key below, by JSON pointer of its value.
    #[must_use]
    pub fn key_places(&self) -> BTreeMap<String, Place> {
        let mut places = BTreeMap::new();
        self.collect_keys("", &mut places);
        places
    }

    fn collect_keys(&self, pointer: &str, places: &mut BTreeMap<String, Place>) {
        for (index, item) in self.items().iter().enumerate() {
            item.collect_keys(&format!("{pointer}/{index}"), places);
        }
        for entry in self.entries() {
            let path = child(pointer, &entry.key);
            entry.value.collect_keys(&path, places);
            places.insert(path, entry.key_at);
        }
    }

    fn collect_places(&self, pointer: &str, places: &mut BTreeMap<String, Place>) {
        places.insert(pointer.to_owned(), self.at);
        for (index, item) in self.items().iter().enumerate() {
            item.collect_places(&format!("{pointer}/{index}"), places);
        }
        for entry in self.entries() {
            entry.value.collect_places(&child(pointer, &entry.key), places);
        }
    }
}

/// Appends a key to a JSON pointer.
#[must_use]
pub(in crate::language) fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}
