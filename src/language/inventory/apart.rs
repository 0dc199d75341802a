//! Where copies lie: one at least away from the database (the 3-2-1 rule).
//!
//! Judged by what is written: a folder lies on the database's own machine, since databases can only be `local`; a mount
//! of another machine's disk cannot be told from here. What counts is what is said to get copies; a store that is merely
//! there has none.

use std::collections::{BTreeMap, BTreeSet};

use super::file::InventoryFile;
use super::{Inventory, StoreEntry, StoreLocation, is_loopback};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};

/// What an event that takes away one copy takes away with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// This machine.
    Machine,
    /// Another machine, or a provider's account in a region.
    Elsewhere(String),
}

impl InventoryFile {
    /// Whether all that a protected environment can write backups to is lost with its database, or with one account.
    pub(super) fn copies_apart(&self, faults: &mut Diagnostics) {
        let mut told: BTreeMap<String, Diagnostic> = BTreeMap::new();
        for (environment, _) in self.environments.iter().filter(|(_, environment)| environment.protected) {
            // What cannot be put together has faults of its own.
            let Ok(inventory) = self.for_environment(environment) else { continue };
            for name in inventory.databases.keys().filter(|name| self.databases.contains_key(*name)) {
                let Some(Together { code, fact, help }) = inventory.copies_together(name) else { continue };
                let fault = Diagnostic::new(code, fact).at(self.place(&format!("/databases/{name}/store")));
                told.entry(name.clone()).or_insert_with(|| fault.help(help));
            }
        }
        told.into_values().for_each(|fault| faults.push(fault));
    }
}

/// That all copies of a database are lost together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Together {
    /// [`Code::CopiesOnOneMachine`] or [`Code::CopiesInOnePlace`].
    pub code: Code,
    /// What is so.
    pub fact: String,
    /// What to do about it.
    pub help: &'static str,
}

impl Inventory {
    /// What takes every copy of a database away at once; `None` where they lie apart, or where it cannot be told.
    #[must_use]
    pub fn copies_together(&self, database: &str) -> Option<Together> {
        let (code, what, help) = lack(self, database)?;
        let is_elsewhere = self.databases.get(database).is_some_and(|entry| entry.elsewhere().is_some());
        // The folders of this machine are no place of a server that is elsewhere.
        if code == Code::CopiesOnOneMachine && is_elsewhere {
            return None;
        }
        Some(Together { code, fact: format!("every copy of the database `{database}` lies {what}"), help })
    }
}

/// The stores that get copies of a database, as its entry and what is expected of its backups say.
fn copied_to<'a>(inventory: &'a Inventory, database: &'a str) -> impl Iterator<Item = &'a StoreEntry> {
    let entry = inventory.databases.get(database);
    let own = entry.into_iter().flat_map(|entry| entry.backup_destinations().chain(entry.archives()));
    let expected = inventory.backups.values().filter(move |expected| expected.source == database);
    let named: BTreeSet<&str> = own.chain(expected.filter_map(|expected| expected.store.as_deref())).collect();
    named.into_iter().filter_map(|name| inventory.stores.get(name))
}

/// What all stores of a database that can be written to have in common.
fn lack(inventory: &Inventory, database: &str) -> Option<(Code, String, &'static str)> {
    let own = inventory.databases.get(database)?.store.as_ref()?;
    inventory.stores.get(own)?;
    let entries = || copied_to(inventory, database).filter(|entry| !entry.read_only);
    let fates: BTreeSet<Fate> = entries().filter_map(fate).collect();
    let all_known = entries().all(|entry| fate(entry).is_some());
    if !all_known || fates.len() != 1 {
        return None;
    }
    match fates.into_iter().next()? {
        Fate::Machine => Some((
            Code::CopiesOnOneMachine,
            "on its own machine".to_owned(),
            "add a store elsewhere (`s3://`, `sftp://`, `az://`, `gs://`) and name it in the entry's `backup_stores` and `wal_stores`; \
             where `store.sync` brings copies to it, say under `backups` that they are expected there",
        )),
        Fate::Elsewhere(where_) => Some((
            Code::CopiesInOnePlace,
            format!("in {where_}"),
            "a second store in another region and account, named in `backup_stores` and `wal_stores`, outlives a mistake, a break-in or an outage of the first",
        )),
    }
}

/// What is lost together with a store; `None` where that is not written.
fn fate(entry: &StoreEntry) -> Option<Fate> {
    Some(match entry.url.parse::<StoreLocation>().ok()? {
        StoreLocation::Folder(_) => Fate::Machine,
        StoreLocation::Sftp(place) if is_loopback(&place.host) => Fate::Machine,
        StoreLocation::Sftp(place) => Fate::Elsewhere(format!("one machine, `{}`", place.host)),
        StoreLocation::S3(place) => Fate::Elsewhere(match (&entry.endpoint, &entry.region) {
            (Some(endpoint), _) => format!("one place, `{endpoint}`"),
            (None, Some(region)) => format!("one account and region, `{region}`{}", account(entry)),
            (None, None) => format!("one bucket, `{}`", place.bucket),
        }),
        StoreLocation::Google(place) => Fate::Elsewhere(format!("one bucket, `{}`", place.bucket)),
        StoreLocation::Azure(place) => Fate::Elsewhere(format!("one container, `{}`", place.bucket)),
    })
}

/// Whose account is asked, as far as the entry says it.
fn account(entry: &StoreEntry) -> String {
    let role = entry.role.as_ref().and_then(|role| role.arn.split(':').nth(4));
    let named = role.or(entry.profile.as_deref());
    let key = entry.credentials.as_ref().and_then(|credentials| credentials.access_key_id.as_deref());
    named.or(key).map(|name| format!(" of `{name}`")).unwrap_or_default()
}
