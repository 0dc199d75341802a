//! The inventory as it was read: every entry with its places, environments not yet applied.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{AuditSettings, Environment, Retention, SecretEntry, SecretSpec};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics, Place, SourceId};
use crate::base::signer::{AllowedSigners, NAMESPACE};
use crate::language::document::{Checked, Entry, Node};

/// All inventory files of a run, merged, before an environment is chosen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InventoryFile {
    /// The inventory files in the order they were read; the runbook itself is not among them.
    pub files: Vec<String>,
    /// Databases by name, as written.
    pub databases: BTreeMap<String, Map<String, Value>>,
    /// Services by name, as written.
    pub services: BTreeMap<String, Map<String, Value>>,
    /// Stores by name, as written.
    pub stores: BTreeMap<String, Map<String, Value>>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, SecretEntry>,
    /// Environments by name; what several files say of one is merged.
    pub environments: BTreeMap<String, Environment>,
    /// Variables by name; a later file wins.
    pub vars: BTreeMap<String, Value>,
    /// How the history is proven to others.
    pub audit: AuditSettings,
    /// How long backups are kept.
    pub retention: Option<Retention>,
    /// Expected backups by name, as written.
    pub backups: BTreeMap<String, Map<String, Value>>,
    /// Where every value stands, by JSON pointer such as `/databases/orders/port`.
    pub places: BTreeMap<String, Place>,
    /// Where every name stands, by the same pointers.
    pub names: BTreeMap<String, Place>,
    /// Entries with faults of their own, by pointer; nothing more is said about them.
    pub poisoned: Vec<String>,
    merged: BTreeMap<String, Value>,
}

/// The sections whose entries are defined once.
const SECTIONS: [&str; 5] = ["databases", "services", "stores", "secrets", "backups"];

impl InventoryFile {
    /// Gives the place of a value or, failing that, of its name.
    #[must_use]
    pub fn place(&self, pointer: &str) -> Place {
        self.places.get(pointer).or_else(|| self.names.get(pointer)).copied().unwrap_or_default()
    }

    /// Gives the place of the name of an entry.
    #[must_use]
    pub fn name_place(&self, pointer: &str) -> Place {
        self.names.get(pointer).copied().unwrap_or_default()
    }

    /// Tells whether any database, service or store is known at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty() && self.services.is_empty() && self.stores.is_empty()
    }

    /// Lines that nobody understands, or that trust nobody for this, would let no proof count.
    fn proof_signers(&self, faults: &mut Diagnostics) {
        let lines = &self.audit.proof_signers;
        let help = "write `NAME ssh-ed25519 AAAA…`, as `ssh-keygen(1)` says under ALLOWED SIGNERS";
        let fault = match AllowedSigners::parse(lines.iter().map(String::as_str)) {
            Ok(signers) if lines.is_empty() || !signers.is_empty() => return,
            Ok(_) => {
                let message = format!("these lines trust nobody for `{NAMESPACE}`, so no proof would count");
                Diagnostic::new(Code::UnknownValue, message).at(self.place("/audit/proof_signers"))
            }
            Err(error) => {
                let place = self.place(&format!("/audit/proof_signers/{}", error.line - 1));
                Diagnostic::new(Code::UnknownValue, format!("it names no allowed signer: {}", error.what)).at(place)
            }
        };
        faults.push(fault.help(help));
    }

    pub(super) fn is_poisoned(&self, pointer: &str) -> bool {
        self.poisoned.iter().any(|poisoned| poisoned == pointer)
    }

    /// Adds the inventory part of a file.
    pub(in crate::language) fn add(&mut self, root: &Node, checked: &Checked, faults: &mut Diagnostics) {
        for section in SECTIONS {
            for entry in root.get(section).map(Node::entries).unwrap_or_default() {
                self.define(section, entry, checked, faults);
            }
        }
        self.add_vars(root, faults);
        if let Some(audit) = self.once("audit", (root, checked), faults) {
            self.audit = audit;
            self.proof_signers(faults);
        }
        if let Some(retention) = self.once("retention", (root, checked), faults) {
            self.retention = Some(retention);
        }
        for entry in root.get("environments").map(Node::entries).unwrap_or_default() {
            self.add_environment(entry, checked, faults);
        }
    }

    /// Adds the variables of a file; a later file wins.
    pub(in crate::language) fn add_vars(&mut self, root: &Node, faults: &mut Diagnostics) {
        for entry in root.get("vars").map(Node::entries).unwrap_or_default() {
            let pointer = format!("/vars/{}", entry.key);
            check_identifier("a variable", entry, faults);
            self.note(&pointer, entry);
            self.vars.insert(entry.key.clone(), entry.value.to_json());
        }
    }

    /// The same inventory without the variables that one file defines.
    pub(in crate::language) fn without_vars_of(&self, file: SourceId) -> Self {
        let mut rest = self.clone();
        rest.vars.retain(|name, _| self.name_place(&format!("/vars/{name}")).source != file);
        rest
    }

    fn note(&mut self, pointer: &str, entry: &Entry) {
        self.names.insert(pointer.to_owned(), entry.key_at);
        for (below, place) in entry.value.key_places() {
            self.names.insert(format!("{pointer}{below}"), place);
        }
        for (below, place) in entry.value.places() {
            self.places.insert(format!("{pointer}{below}"), place);
        }
    }

    fn define(&mut self, section: &str, entry: &Entry, checked: &Checked, faults: &mut Diagnostics) {
        let pointer = format!("/{section}/{}", entry.key);
        if let Some(first) = self.names.get(&pointer) {
            let message = format!("{} `{}` is defined twice", singular(section), entry.key);
            let fault = Diagnostic::new(Code::DuplicateName, message)
                .label(entry.key_at, "defined again here")
                .label(*first, "first defined here")
                .help("keep one; to change an entry for one environment, put the members that differ under `environments`");
            return faults.push(fault);
        }
        match section {
            "secrets" => check_identifier("a secret", entry, faults),
            _ => check_name(singular(section), entry, faults),
        }
        self.note(&pointer, entry);
        if !checked.is_clean(&pointer) {
            self.poisoned.push(pointer.clone());
        }
        let name = entry.key.clone();
        let members = || checked.value.pointer(&pointer).and_then(Value::as_object).cloned().unwrap_or_default();
        match section {
            "databases" => drop(self.databases.insert(name, members())),
            "services" => drop(self.services.insert(name, members())),
            "stores" => drop(self.stores.insert(name, members())),
            "backups" => drop(self.backups.insert(name, members())),
            _ => {
                // A faulty secret stays known by name, so that what refers to it is not called unknown.
                let spec = checked.read(&pointer).unwrap_or(SecretEntry::One(SecretSpec::Prompt(true)));
                self.secrets.insert(name, spec);
            }
        }
    }

    /// One file says it: two would leave open which one is meant. Gives what it says when nothing is wrong with it.
    fn once<T: DeserializeOwned>(
        &mut self,
        key: &str,
        (root, checked): (&Node, &Checked),
        faults: &mut Diagnostics,
    ) -> Option<T> {
        let entry = root.entry(key)?;
        let pointer = format!("/{key}");
        if let Some(first) = self.names.get(&pointer) {
            let fault = Diagnostic::new(Code::DuplicateName, format!("`{key}` is given in two files"))
                .label(entry.key_at, "given again here")
                .label(*first, "first given here")
                .help("keep one");
            faults.push(fault);
            return None;
        }
        self.note(&pointer, entry);
        checked.read(&pointer).filter(|_| checked.is_clean(&pointer))
    }

    fn add_environment(&mut self, entry: &Entry, checked: &Checked, faults: &mut Diagnostics) {
        let pointer = format!("/environments/{}", entry.key);
        check_name("an environment", entry, faults);
        self.note(&pointer, entry);
        let known = self.environments.entry(entry.key.clone()).or_default();
        let was_protected = known.protected;
        if !checked.is_clean(&pointer) {
            self.poisoned.push(pointer);
            return;
        }
        let merged = self.merged.entry(entry.key.clone()).or_insert_with(|| Value::Object(Map::new()));
        merge(merged, checked.value.pointer(&pointer).unwrap_or(&Value::Null));
        if let Ok(environment) = serde_json::from_value::<Environment>(merged.clone()) {
            *known = environment;
            // A second file may add protection, never take it away.
            known.protected |= was_protected;
        }
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

pub(super) fn singular(section: &str) -> &'static str {
    match section {
        "databases" => "the database",
        "services" => "the service",
        "stores" => "the store",
        "backups" => "the expected backup",
        _ => "the secret",
    }
}

/// Tells whether a text may name a runbook, database, service, store, phase or environment.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

fn check_name(what: &str, entry: &Entry, faults: &mut Diagnostics) {
    if !is_name(&entry.key) {
        let message = format!("`{}` cannot name {}", entry.key, what.replace("the ", "a "));
        let fault = Diagnostic::new(Code::BadName, message).at(entry.key_at);
        faults.push(fault.help("lower-case letters, digits, `_` and `-`, beginning with a letter"));
    }
}

pub(in crate::language) fn check_identifier(what: &str, entry: &Entry, faults: &mut Diagnostics) {
    if !crate::base::id::is_identifier(&entry.key) {
        let message = format!("`{}` cannot name {what}", entry.key);
        let fault = Diagnostic::new(Code::BadName, message).at(entry.key_at);
        faults.push(fault.help("lower-case letters, digits and `_`, beginning with a letter"));
    }
}
