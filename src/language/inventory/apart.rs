//! Where copies lie: one at least away from the database (the 3-2-1 rule).
//!
//! Judged by what is written: a folder lies on the database's own machine, since databases can only be `local`; a mount
//! of another machine's disk cannot be told from here.

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
        let mut told: BTreeMap<&str, Diagnostic> = BTreeMap::new();
        for (environment, _) in self.environments.iter().filter(|(_, environment)| environment.protected) {
            // What cannot be put together has faults of its own.
            let Ok(inventory) = self.for_environment(environment) else { continue };
            let Some((code, what, help)) = lack(&inventory) else { continue };
            // The folders of this machine are no place of a server that is elsewhere.
            let here = |name: &String| inventory.databases.get(name).is_none_or(|entry| entry.elsewhere().is_none());
            let judged =
                |name: &String| has_store(&inventory, name) && (code != Code::CopiesOnOneMachine || here(name));
            for (name, _) in self.databases.iter().filter(|(name, _)| judged(name)) {
                let message = format!("every copy of the database `{name}` lies {what}");
                let fault = Diagnostic::new(code, message).at(self.place(&format!("/databases/{name}/store")));
                told.entry(name).or_insert_with(|| fault.help(help));
            }
        }
        told.into_values().for_each(|fault| faults.push(fault));
    }
}

fn has_store(inventory: &Inventory, database: &str) -> bool {
    let store = inventory.databases.get(database).and_then(|database| database.store.as_ref());
    store.is_some_and(|store| inventory.stores.contains_key(store))
}

/// What all stores that can be written to have in common; any of them may get copies by a step.
fn lack(inventory: &Inventory) -> Option<(Code, String, &'static str)> {
    let entries = || inventory.stores.values().filter(|entry| !entry.read_only);
    let fates: BTreeSet<Fate> = entries().filter_map(fate).collect();
    let all_known = entries().all(|entry| fate(entry).is_some());
    if !all_known || fates.len() != 1 {
        return None;
    }
    match fates.into_iter().next()? {
        Fate::Machine => Some((
            Code::CopiesOnOneMachine,
            "on its own machine".to_owned(),
            "add a store elsewhere and name it in the `stores` of the backup steps: `s3://`, `sftp://`, `az://`, `gs://`; \
             or copy to it with `store.sync`",
        )),
        Fate::Elsewhere(where_) => Some((
            Code::CopiesInOnePlace,
            format!("in {where_}"),
            "a second store in another region and account outlives a mistake, a break-in or an outage of the first",
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
