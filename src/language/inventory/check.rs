//! What one entry of the inventory says about others, and what no schema can say.

mod database;
mod store;

use std::path::Path;

use serde_json::{Map, Value};

use super::file::InventoryFile;
use super::{SecretEntry, SecretSpec};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};

/// The ways in which a service is stopped and started.
const WAYS: [&str; 3] = ["systemd", "command", "pgbouncer"];

impl InventoryFile {
    /// Checks every entry and every override; places and suggestions included.
    #[must_use]
    pub(in crate::language) fn check(&self) -> Diagnostics {
        let mut faults = Diagnostics::default();
        for (name, members) in &self.databases {
            self.database(&format!("/databases/{name}"), members, &mut faults);
        }
        for (name, members) in &self.services {
            self.service(&format!("/services/{name}"), members, &mut faults);
        }
        for (name, members) in &self.stores {
            self.store(&format!("/stores/{name}"), members, &mut faults);
        }
        for (name, entry) in &self.secrets {
            self.secret(&format!("/secrets/{name}"), entry, &mut faults);
        }
        for name in self.environments.keys() {
            self.environment(name, &mut faults);
        }
        self.one_default(&mut faults);
        self.recipients(&mut faults);
        self.alike(&mut faults);
        self.copies_apart(&mut faults);
        self.enclosed_stores(&mut faults);
        self.servers_proven(&mut faults);
        self.audit_settings(&mut faults);
        self.keeping(&mut faults);
        self.expectations(&mut faults);
        faults
    }

    fn audit_settings(&self, faults: &mut Diagnostics) {
        if let Some(store) = &self.audit.ship {
            self.known(Code::UnknownStore, store, "/audit/ship", faults);
        }
        if let Some(key) = &self.audit.sign_key {
            let members = Map::from_iter([("sign_key".to_owned(), Value::String(key.to_string_lossy().into_owned()))]);
            self.absolute("/audit", "sign_key", &members, faults);
        }
    }

    fn service(&self, pointer: &str, members: &Map<String, Value>, faults: &mut Diagnostics) {
        if self.is_poisoned(pointer) {
            return;
        }
        self.host(pointer, members, faults);
        let given: Vec<&str> = WAYS.into_iter().filter(|way| members.contains_key(*way)).collect();
        let secret = members.get("pgbouncer").and_then(|pooler| pooler.get("password")).and_then(Value::as_str);
        if let Some(secret) = secret {
            self.known(Code::UnknownSecret, secret, &format!("{pointer}/pgbouncer/password"), faults);
        }
        let fault = match given.as_slice() {
            [_] => return,
            [] => Diagnostic::new(Code::MissingKey, "a service needs one of `systemd`, `command`, `pgbouncer`")
                .label(self.name_place(pointer), "how is it stopped and started?")
                .help("write `systemd: NAME.service`, or `command: { start: [...], stop: [...], status: [...] }`"),
            [first, second, ..] => {
                let message = "a service takes only one of `systemd`, `command`, `pgbouncer`";
                Diagnostic::new(Code::BadCombination, message)
                    .label(self.place(&format!("{pointer}/{second}")), "excludes the other")
                    .label(self.place(&format!("{pointer}/{first}")), "given here")
                    .help("remove one of them")
            }
        };
        faults.push(fault);
    }

    fn environment(&self, name: &str, faults: &mut Diagnostics) {
        let Some(environment) = self.environments.get(name) else { return };
        let pointer = format!("/environments/{name}");
        let sections = [
            ("databases", &environment.databases, Code::UnknownDatabase),
            ("services", &environment.services, Code::UnknownService),
            ("stores", &environment.stores, Code::UnknownStore),
            ("backups", &environment.backups, Code::UnknownBackup),
        ];
        for (section, entries, code) in sections {
            for (entry, value) in entries {
                let path = format!("{pointer}/{section}/{entry}");
                if let Some(fault) = self.unknown(code, entry) {
                    faults.push(fault.at(self.name_place(&path)));
                }
                let Some(members) = value.as_object() else { continue };
                match section {
                    "databases" => self.database_members(&path, members, faults),
                    "stores" => self.store_members(&path, members, faults),
                    "backups" => self.expected_members(&path, members, faults),
                    _ => self.host(&path, members, faults),
                }
            }
        }
        for (secret, entry) in &environment.secrets {
            self.secret(&format!("{pointer}/secrets/{secret}"), entry, faults);
            if let Some(fault) = self.unknown(Code::UnknownSecret, secret) {
                faults.push(fault.at(self.name_place(&format!("{pointer}/secrets/{secret}"))));
            }
        }
    }

    /// A list of sources has one, and Vault is entered by one door.
    fn secret(&self, pointer: &str, entry: &SecretEntry, faults: &mut Diagnostics) {
        if self.is_poisoned(pointer) {
            return;
        }
        if entry.sources().is_empty() {
            let fault = Diagnostic::new(Code::MissingKey, "the secret has no source").at(self.place(pointer));
            faults.push(fault.help("write at least one: `[ { env: NAME }, { file: /etc/name } ]`"));
        }
        for (index, source) in entry.sources().iter().enumerate() {
            let SecretSpec::Vault(vault) = source else { continue };
            let pointer = match entry {
                SecretEntry::One(_) => format!("{pointer}/vault"),
                SecretEntry::FirstOf(_) => format!("{pointer}/{index}/vault"),
            };
            if vault.token.is_some() && vault.approle.is_some() {
                let message = "a secret of Vault takes only one of `token`, `approle`";
                let fault = Diagnostic::new(Code::BadCombination, message)
                    .label(self.place(&format!("{pointer}/approle")), "excludes the other")
                    .label(self.place(&format!("{pointer}/token")), "given here");
                faults.push(fault.help("remove one of them"));
            }
            if vault.path.starts_with("data/") {
                let message = format!("`{}` begins with `data/`, which is added", vault.path);
                let place = self.place(&format!("{pointer}/path"));
                let help = "write the path as `vault kv get` takes it, without the mount and without `data/`";
                faults.push(Diagnostic::new(Code::UnknownValue, message).at(place).help(help));
            }
        }
    }

    fn one_default(&self, faults: &mut Diagnostics) {
        let mut marked = self.environments.iter().filter(|(_, environment)| environment.default);
        if let (Some((first, _)), Some((second, _))) = (marked.next(), marked.next()) {
            let place = |name: &str| self.place(&format!("/environments/{name}/default"));
            let fault = Diagnostic::new(Code::BadCombination, "two environments are marked `default`")
                .label(place(second), "marked here")
                .label(place(first), "and here")
                .help("only one can be taken when none is named");
            faults.push(fault);
        }
    }

    pub(super) fn host(&self, pointer: &str, members: &Map<String, Value>, faults: &mut Diagnostics) {
        if let Some(host) = members.get("host").and_then(Value::as_str).filter(|host| *host != "local") {
            let message = format!("the host `{host}` cannot be reached: only `local` so far");
            let fault = Diagnostic::new(Code::UnknownValue, message).at(self.place(&format!("{pointer}/host")));
            faults.push(fault.help("run `runbook` on that machine, and remove `host` or write `host: local`"));
        }
    }

    pub(super) fn absolute(&self, pointer: &str, key: &str, members: &Map<String, Value>, faults: &mut Diagnostics) {
        if let Some(path) = members.get(key).and_then(Value::as_str).filter(|path| !Path::new(path).is_absolute()) {
            let fault = Diagnostic::new(Code::UnknownValue, format!("`{path}` is not an absolute path"))
                .at(self.place(&format!("{pointer}/{key}")))
                .help(format!("`{key}` begins with `/`: what it means may not depend on the working folder"));
            faults.push(fault);
        }
    }

    pub(super) fn known(&self, code: Code, name: &str, pointer: &str, faults: &mut Diagnostics) {
        if let Some(fault) = self.unknown(code, name) {
            faults.push(fault.at(self.place(pointer)));
        }
    }

    /// Gives a finding without place when no entry of that kind has the name.
    #[must_use]
    pub(crate) fn unknown(&self, code: Code, name: &str) -> Option<Diagnostic> {
        let (what, known): (_, Vec<&str>) = match code {
            Code::UnknownDatabase => ("database", self.databases.keys().map(String::as_str).collect()),
            Code::UnknownService => ("service", self.services.keys().map(String::as_str).collect()),
            Code::UnknownStore => ("store", self.stores.keys().map(String::as_str).collect()),
            Code::UnknownBackup => ("expected backup", self.backups.keys().map(String::as_str).collect()),
            _ => ("secret", self.secrets.keys().map(String::as_str).collect()),
        };
        if known.contains(&name) {
            return None;
        }
        let fault = Diagnostic::new(code, format!("there is no {what} `{name}`"));
        if !known.is_empty() {
            return Some(fault.suggest(name, known));
        }
        Some(match (what, self.files.is_empty()) {
            ("secret", _) => fault.help(format!("declare it: `secrets: {{ {name}: {{ env: NAME }} }}`")),
            (_, true) => fault.help("no inventory was read: give one with `--inventory FILE`, or `include` it"),
            (_, false) => {
                fault.help(format!("the inventory has no {what} at all; define it in `{}`", self.files.join("`, `")))
            }
        })
    }
}
