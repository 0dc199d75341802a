//! What an entry of `databases` may say, beyond what a schema can.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::base::diagnostic::{Code, Diagnostic, Diagnostics, Place};
use crate::language::inventory::{Database, DebianCluster, Expectation, InventoryFile, SslMode};

/// What only a server whose files are here can have.
const OWN: [&str; 2] = ["pgdata", "os_user"];

impl InventoryFile {
    pub(super) fn database(&self, pointer: &str, members: &Map<String, Value>, faults: &mut Diagnostics) {
        if self.is_poisoned(pointer) {
            return;
        }
        let managed = is_via("managed", members);
        if !managed && !is_via("compose", members) && !members.contains_key("pgdata") {
            let fault = Diagnostic::new(Code::MissingKey, "the key `pgdata` is missing")
                .label(self.name_place(pointer), "needs `pgdata`")
                .help("give the data directory of the server: `pgdata: /var/lib/postgresql/17/main`; a provider's server is `via: { managed: {} }`, one in a container `via: { compose: … }`");
            faults.push(fault);
        }
        for key in OWN.into_iter().filter(|key| managed && members.contains_key(*key)) {
            let fault = Diagnostic::new(Code::BadCombination, format!("a managed server has no `{key}`"))
                .label(self.place(&format!("{pointer}/{key}")), "nothing here can reach its files")
                .label(self.place(&format!("{pointer}/via")), "managed by its provider")
                .help("remove one of them");
            faults.push(fault);
        }
        if members.contains_key("root_cert") && !members.contains_key("sslmode") {
            self.trusts_nothing(pointer, faults);
        }
        self.database_members(pointer, members, faults);
        self.enough(pointer, members, faults);
    }

    pub(super) fn database_members(&self, pointer: &str, members: &Map<String, Value>, faults: &mut Diagnostics) {
        self.host(pointer, members, faults);
        for key in ["pgdata", "socket", "bin", "root_cert"] {
            self.absolute(pointer, key, members, faults);
        }
        if let Some(stanza) = members.get("pgbackrest").and_then(Value::as_object) {
            self.absolute(&format!("{pointer}/pgbackrest"), "config", stanza, faults);
        }
        if let Some(places) = members.get("tablespaces").and_then(Value::as_object) {
            for name in places.keys() {
                self.absolute(&format!("{pointer}/tablespaces"), name, places, faults);
            }
        }
        self.way_in(pointer, members, faults);
        if let Some(stanza) = members.get("pgbackrest").and_then(Value::as_object) {
            self.absolute(&format!("{pointer}/pgbackrest"), "config", stanza, faults);
        }
        let text = |key: &str| members.get(key).and_then(Value::as_str);
        if let Some(store) = text("store") {
            self.known(Code::UnknownStore, store, &format!("{pointer}/store"), faults);
        }
        for key in ["backup_stores", "wal_stores"] {
            for (index, store) in members.get(key).and_then(Value::as_array).into_iter().flatten().enumerate() {
                if let Some(store) = store.as_str() {
                    self.known(Code::UnknownStore, store, &format!("{pointer}/{key}/{index}"), faults);
                }
            }
        }
        if let Some(secret) = text("password") {
            self.known(Code::UnknownSecret, secret, &format!("{pointer}/password"), faults);
        }
        let keys = members.get("erasure").and_then(|erasure| erasure.get("keys")).and_then(Value::as_array);
        for (index, secret) in keys.into_iter().flatten().enumerate() {
            if let Some(secret) = secret.as_str() {
                self.known(Code::UnknownSecret, secret, &format!("{pointer}/erasure/keys/{index}"), faults);
            }
        }
        for (index, service) in members.get("services").and_then(Value::as_array).into_iter().flatten().enumerate() {
            if let Some(service) = service.as_str() {
                self.known(Code::UnknownService, service, &format!("{pointer}/services/{index}"), faults);
            }
        }
        for (index, check) in members.get("checks").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let wanted = check.get("expect").and_then(Value::as_str);
            if let Some(Err(wrong)) = wanted.map(str::parse::<Expectation>) {
                let place = self.place(&format!("{pointer}/checks/{index}/expect"));
                faults.push(Diagnostic::new(Code::UnknownValue, wrong.to_string()).at(place));
            }
        }
    }

    /// In how many stores a file of its WAL must be safe.
    fn enough(&self, pointer: &str, members: &Map<String, Value>, faults: &mut Diagnostics) {
        let Some(wanted) = members.get("wal_at_least").and_then(Value::as_u64) else { return };
        let own = members.get("store").and_then(Value::as_str);
        let further = members.get("wal_stores").and_then(Value::as_array).into_iter().flatten();
        let known = own.into_iter().chain(further.filter_map(Value::as_str).filter(|name| Some(*name) != own)).count();
        if wanted == 0 || wanted > known as u64 {
            let fact = format!("`wal_at_least: {wanted}` does not fit the number of stores of its WAL, {known}");
            let place = self.place(&format!("{pointer}/wal_at_least"));
            faults.push(Diagnostic::new(Code::BadCombination, fact).at(place).help("count `store` and `wal_stores`"));
        }
    }

    /// Where it answers, and whether that is proven.
    fn way_in(&self, pointer: &str, members: &Map<String, Value>, faults: &mut Diagnostics) {
        let text = |key: &str| members.get(key).and_then(Value::as_str);
        if let Some(address) = text("address") {
            self.address(&format!("{pointer}/address"), address, faults);
            if text("socket").is_some_and(|socket| !socket.is_empty()) {
                let fault =
                    Diagnostic::new(Code::BadCombination, "a server is reached by one of `address` and `socket`")
                        .label(self.place(&format!("{pointer}/address")), "excludes the other")
                        .label(self.place(&format!("{pointer}/socket")), "given here")
                        .help("remove one of them");
                faults.push(fault);
            }
        }
        if let Some(compose) = members.get("via").and_then(|via| via.get("compose")).and_then(Value::as_object) {
            for path in ["file", "runbook", "folder"] {
                self.absolute(&format!("{pointer}/via/compose"), path, compose, faults);
            }
        }
        let cluster = members.get("via").and_then(|via| via.get("pg_ctlcluster")).and_then(Value::as_str);
        if let Some(Err(wrong)) = cluster.map(str::parse::<DebianCluster>) {
            let place = self.place(&format!("{pointer}/via/pg_ctlcluster"));
            faults.push(Diagnostic::new(Code::UnknownValue, wrong.to_string()).at(place));
        }
        if members.contains_key("root_cert") && text("sslmode").is_some_and(|mode| mode != "verify-full") {
            self.trusts_nothing(pointer, faults);
        }
    }

    fn address(&self, pointer: &str, address: &str, faults: &mut Diagnostics) {
        let is_number = address.parse::<std::net::IpAddr>().is_ok();
        let is_name = |one: char| one.is_alphanumeric() || "-._".contains(one);
        if is_number || (!address.is_empty() && address.chars().all(is_name)) {
            return;
        }
        let fault = Diagnostic::new(Code::UnknownValue, format!("`{address}` is no name or number of a host"))
            .at(self.place(pointer))
            .help("write the host alone: `address: db.example.org`; the port stands under `port`, a folder of sockets under `socket`");
        faults.push(fault);
    }

    fn trusts_nothing(&self, pointer: &str, faults: &mut Diagnostics) {
        let fault = Diagnostic::new(Code::BadCombination, "`root_cert` proves nothing without `sslmode: verify-full`")
            .at(self.place(&format!("{pointer}/root_cert")))
            .help("add `sslmode: verify-full`: every other mode takes any certificate");
        faults.push(fault);
    }

    /// Whether connections of a protected environment prove who answers at the other end of a network.
    pub(super) fn servers_proven(&self, faults: &mut Diagnostics) {
        let mut told: BTreeMap<String, Diagnostic> = BTreeMap::new();
        for (environment, _) in self.environments.iter().filter(|(_, environment)| environment.protected) {
            // What cannot be put together has faults of its own.
            let Ok(inventory) = self.for_environment(environment) else { continue };
            for (name, entry) in &inventory.databases {
                let Some(address) = unproven(entry) else { continue };
                let message = format!(
                    "`{environment}` is protected, but nothing proves that `{address}` is the server of database `{name}`"
                );
                let fault = Diagnostic::new(Code::UnprovenServer, message).at(self.said(environment, name));
                told.entry(name.clone()).or_insert_with(|| {
                    fault.help(
                        "add `sslmode: verify-full`, and `root_cert: FILE` where an authority of your own signed its certificate",
                    )
                });
            }
        }
        told.into_values().for_each(|fault| faults.push(fault));
    }

    /// Where the address of a database is said: in the environment, else in its own entry.
    fn said(&self, environment: &str, name: &str) -> Place {
        let changed = self.environments.get(environment).and_then(|environment| environment.databases.get(name));
        match changed.is_some_and(|members| members.get("address").is_some()) {
            true => self.place(&format!("/environments/{environment}/databases/{name}/address")),
            false => self.place(&format!("/databases/{name}/address")),
        }
    }
}

/// The address of a server elsewhere that anybody could answer for.
fn unproven(entry: &Database) -> Option<&str> {
    let proven = match entry.sslmode {
        SslMode::VerifyFull => true,
        SslMode::Disable | SslMode::Prefer | SslMode::Require => entry.socket.is_some() || entry.scratch,
    };
    entry.elsewhere().filter(|_| !proven)
}

fn is_via(keeper: &str, members: &Map<String, Value>) -> bool {
    members.get("via").and_then(Value::as_object).is_some_and(|via| via.contains_key(keeper))
}
