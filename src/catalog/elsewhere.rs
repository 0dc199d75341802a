//! What other stores hold of the clusters whose WAL lies in a store that gets none of their backups.
//!
//! Nothing in such a store says which of its WAL is needed, and a backup of the cluster may lie in any store of the
//! inventory: whoever prunes there asks them all. One that gives no answer, or shows less than it must have, may hold one.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::retention::{Candidate, Elsewhere, Survey, WalSegment};
use super::survey::{candidate, wal};
use super::{Backup, Catalog, CatalogError};
use crate::action::ReadStore;
use crate::base::Timestamp;
use crate::language::inventory::{Database, Inventory};
use crate::pgformat::SystemId;

/// A store of the inventory besides the one at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Further {
    /// Its name.
    pub store: String,
    /// Whether backups of the database go there.
    pub gets_backups: bool,
    /// Whether WAL of the database goes there.
    pub gets_wal: bool,
}

/// Gives the other stores of the inventory where the one at hand gets WAL of a database under this prefix and none of its
/// backups; `None` where it is no such store.
#[must_use]
pub fn further(inventory: &Inventory, (store, prefix): (&str, &str)) -> Option<Vec<Further>> {
    let lies_there = |(name, entry): &(&String, &Database)| entry.prefix.as_ref().unwrap_or(name) == prefix;
    let databases: Vec<&Database> = inventory.databases.iter().filter(lies_there).map(|(_, entry)| entry).collect();
    let backups = |store: &str| databases.iter().any(|entry| entry.backup_destinations().any(|name| name == store));
    let archives = |store: &str| databases.iter().any(|entry| entry.archives().any(|name| name == store));
    if backups(store) || !archives(store) {
        return None;
    }
    let others = inventory.stores.keys().filter(|name| *name != store);
    Some(
        others
            .map(|name| Further { store: name.clone(), gets_backups: backups(name), gets_wal: archives(name) })
            .collect(),
    )
}

/// Completes what a store holds by what the others hold of the clusters of which it has WAL and no backup. `open` opens one
/// of them, or says why not.
pub async fn complete(
    survey: &mut Survey,
    (further, prefix): (&[Further], &str),
    open: impl Fn(&str) -> Result<Arc<dyn ReadStore>, String>,
    now: Timestamp,
) {
    let own: BTreeSet<SystemId> =
        survey.backups.iter().filter_map(|backup| backup.cluster).map(|span| span.system_id).collect();
    let open_ones: BTreeSet<SystemId> = survey.wal.keys().filter(|cluster| !own.contains(cluster)).copied().collect();
    if open_ones.is_empty() {
        return;
    }
    let found = read(further, prefix, open).await;
    for cluster in open_ones {
        let told = match &found {
            Ok(found) => of(cluster, found, now),
            Err(why) => Elsewhere::Unknown(why.clone()),
        };
        survey.elsewhere.insert(cluster, told);
    }
}

/// What one store holds.
struct Found<'a> {
    store: &'a Further,
    backups: Vec<Backup>,
    wal: Vec<(SystemId, WalSegment)>,
}

async fn read<'a>(
    further: &'a [Further],
    prefix: &str,
    open: impl Fn(&str) -> Result<Arc<dyn ReadStore>, String>,
) -> Result<Vec<Found<'a>>, String> {
    let mut all = Vec::new();
    for one in further {
        let silent = |why: String| {
            format!("store `{}` gives no answer, and it may have a backup that needs this WAL: {why}", one.store)
        };
        let store = open(&one.store).map_err(silent)?;
        all.push(read_one(one, &*store, prefix).await.map_err(|error| silent(error.to_string()))??);
    }
    Ok(all)
}

async fn read_one<'a>(
    further: &'a Further,
    store: &dyn ReadStore,
    prefix: &str,
) -> Result<Result<Found<'a>, String>, CatalogError> {
    let list = Catalog::of(store).everything().await?;
    if let Some(damaged) = list.damaged.first() {
        return Ok(Err(format!(
            "the manifest `{}` in store `{}` cannot be read ({}), so nothing says which WAL that backup needs",
            damaged.key, further.store, damaged.why
        )));
    }
    let segments = if further.gets_wal { wal(store, prefix).await? } else { Vec::new() };
    let wal = segments.into_iter().map(|object| (object.system_id, object.segment)).collect();
    Ok(Ok(Found { store: further, backups: list.backups, wal }))
}

/// What all of them hold of one cluster. Where backups of it go one must lie.
fn of(cluster: SystemId, found: &[Found<'_>], now: Timestamp) -> Elsewhere {
    let mut backups: Vec<Candidate> = Vec::new();
    for one in found {
        let here = one.backups.iter().map(|backup| candidate(backup, now));
        let before = backups.len();
        backups.extend(here.filter(|backup| backup.cluster.is_some_and(|span| span.system_id == cluster)));
        if one.store.gets_backups && backups.len() == before {
            let store = &one.store.store;
            let why =
                format!("store `{store}`, which gets the backups, shows none of this cluster: it may be the wrong one");
            return Elsewhere::Unknown(why);
        }
    }
    let wal = found.iter().flat_map(|one| &one.wal);
    Elsewhere::Known { backups, wal: wal.filter(|(id, _)| *id == cluster).map(|(_, segment)| *segment).collect() }
}

#[cfg(test)]
mod tests {
    use super::{Further, further};
    use crate::language::inventory::{Database, Inventory, StoreEntry};

    #[test]
    fn only_a_store_that_gets_wal_and_no_backups_asks_the_others() {
        let text = |name: &str| name.to_owned();
        let orders = Database {
            store: Some(text("primary")),
            backup_stores: vec![text("second")],
            wal_stores: vec![text("second"), text("copy")],
            ..Database::default()
        };
        let stores = ["primary", "second", "copy", "other"].map(|name| (text(name), StoreEntry::default()));
        let inventory =
            Inventory { stores: stores.into(), databases: [(text("orders"), orders)].into(), ..Inventory::default() };
        for place in [("primary", "orders"), ("second", "orders"), ("other", "orders"), ("copy", "users")] {
            assert_eq!(further(&inventory, place), None, "{place:?}");
        }
        let one = |store: &str, gets: bool| Further { store: text(store), gets_backups: gets, gets_wal: gets };
        let asked = vec![one("other", false), one("primary", true), one("second", true)];
        assert_eq!(further(&inventory, ("copy", "orders")), Some(asked));
    }
}
