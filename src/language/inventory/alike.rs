//! Two entries of `databases` that mean one server, or one place in a store.

use std::collections::BTreeMap;

use super::file::InventoryFile;
use super::{BUILT_IN, Database};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};

impl InventoryFile {
    /// Plans and proofs go by the entry's name: of two entries for one data directory each would restore what the
    /// other one guards. And one place in a store takes the WAL of one cluster alone.
    pub(super) fn alike(&self, faults: &mut Diagnostics) {
        let mut told: BTreeMap<(String, String, &'static str), Diagnostic> = BTreeMap::new();
        let built_in = [BUILT_IN.to_owned()];
        let named: Vec<&String> = self.environments.keys().collect();
        let environments = if named.is_empty() { built_in.iter().collect() } else { named };
        for environment in environments {
            // What cannot be put together has faults of its own.
            let Ok(inventory) = self.for_environment(environment) else { continue };
            let all: Vec<(&String, &Database)> =
                inventory.databases.iter().filter(|(_, entry)| !entry.scratch).collect();
            for (at, (name, entry)) in all.iter().enumerate() {
                for (earlier, other) in &all[..at] {
                    let Some((key, message, help)) = likeness((name, entry), (earlier, other)) else { continue };
                    let place = |database: &str| self.place(&format!("/databases/{database}/{key}"));
                    let fault = Diagnostic::new(Code::SharedPlace, message)
                        .label(place(name), "here")
                        .label(place(earlier), "and here");
                    told.entry(((*earlier).clone(), (*name).clone(), key)).or_insert_with(|| fault.help(help));
                }
            }
        }
        told.into_values().for_each(|fault| faults.push(fault));
    }
}

fn likeness(
    (name, entry): (&str, &Database),
    (earlier, other): (&str, &Database),
) -> Option<(&'static str, String, &'static str)> {
    let has_place = !entry.is_managed() && !other.is_managed() && !entry.pgdata.as_os_str().is_empty();
    // Behind tunnels two machines have one address and one path, and differ in the port alone.
    let place = |entry: &Database| (entry.pgdata.clone(), entry.host.clone(), entry.address.clone(), entry.port);
    if has_place && place(entry) == place(other) {
        let message = format!("`{earlier}` and `{name}` have one data directory, `{}`", entry.pgdata.display());
        let help = "an entry is one server with all its databases: keep one of the two, and name a database within it where a \
                    step, a check or a query takes `dbname`";
        return Some(("pgdata", message, help));
    }
    let prefix = |name: &str, entry: &Database| entry.prefix.clone().unwrap_or_else(|| name.to_owned());
    let (mine, theirs) = (prefix(name, entry), prefix(earlier, other));
    let both = entry.store.as_ref().filter(|store| Some(*store) == other.store.as_ref() && mine == theirs)?;
    let message = format!("`{earlier}` and `{name}` have one place for their backups, `{mine}` in store `{both}`");
    let help = "give each server a `prefix` of its own; only a standby has that of its primary";
    Some(("store", message, help))
}
