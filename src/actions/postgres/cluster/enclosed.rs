//! What must not lie in the data of a cluster: the stores of its backups and WAL, and what a run keeps of itself.
//!
//! A restore moves the old data aside, or removes it, and every base backup reads all of it. A store in there would go with
//! the data that it is to bring back; in the restored data its copy, as old as the backup, would be taken for the archive.

use std::path::{Path, PathBuf};

use super::ha_manager::Fact;
use super::layout::Cluster;
use crate::action::by_hand::command_line;
use crate::action::{ActionError, DatabaseRef, ReadFiles, Surroundings};
use crate::language::inventory::{Inventory, StoreEntry, StoreLocation};
use crate::wal::DataFolders;

/// A store by its name.
type Named<'a> = (&'a str, &'a StoreEntry);

/// Says which store of the inventory lies in the data of a cluster, and the way out.
pub(crate) fn store(cluster: &Cluster, inventory: &Inventory, files: &dyn ReadFiles) -> Option<Fact> {
    let data = data(cluster, files)?;
    inventory.stores.iter().find_map(|(name, entry)| judged((name, entry), (cluster, &data), files))
}

/// Says in the data of which database a store lies, and the way out.
pub(crate) fn around(store: Named<'_>, inventory: &Inventory, files: &dyn ReadFiles) -> Option<Fact> {
    let mut clusters = inventory.databases.keys().filter_map(|name| {
        // Where a throw-away cluster would lie is told only within a run.
        Cluster::of(&DatabaseRef(name.clone()), inventory, Path::new("/")).ok()
    });
    clusters.find_map(|cluster| judged(store, (&cluster, &data(&cluster, files)?), files))
}

/// Says which store, or which folder of the run itself, lies in what a restore of a cluster replaces: in its data, or at one
/// of the `places` that are restored too.
pub(crate) fn replaced(
    (cluster, places): (&Cluster, &[PathBuf]),
    about: &Surroundings,
    files: &dyn ReadFiles,
) -> Option<Fact> {
    let data = places.iter().fold(data(cluster, files)?, |data, place| data.and(place, files));
    let mut stores = about.inventory.stores.iter();
    let store = stores.find_map(|(name, entry)| judged((name, entry), (cluster, &data), files));
    store.or_else(|| {
        let folder = data.around(&about.scratch, files)?;
        Some(Fact {
            what: format!(
                "what this run keeps of itself, `{}`, lies in the data of `{}`, `{}`: a restore would take it away with the old \
                 data, its own journal too",
                about.scratch.display(),
                cluster.name,
                folder.display()
            ),
            help: "have the state folder outside of the data (`RUNBOOK_STATE=/path`); nothing was touched".to_owned(),
        })
    })
}

/// Refuses what [`replaced`] finds.
///
/// # Errors
/// Fails when there is any.
pub(crate) fn refuse(
    replaced: (&Cluster, &[PathBuf]),
    about: &Surroundings,
    files: &dyn ReadFiles,
) -> Result<(), ActionError> {
    self::replaced(replaced, about, files).map_or(Ok(()), |fact| Err(ActionError::fatal(fact.what).help(fact.help)))
}

/// What leads on from a store in the data. It is renamed first: what a server pushes while it is copied to another disk would
/// be removed with the rest.
pub(crate) fn way_out(folder: &Path) -> String {
    let aside = super::placement::with_suffix(folder, ".moving");
    let (folder, aside) = (folder.to_string_lossy(), aside.to_string_lossy());
    let (first, then) = (command_line(["mv", &folder, &aside]), command_line(["mv", &aside]));
    format!(
        "move its folder out of the data: `{first}`, so that nothing is stored there meanwhile, then `{then} /A/FOLDER/OUTSIDE`"
    )
}

/// The folders of a cluster's data, in a drill those of the data that it stands in for: what cannot be restored is not proven.
/// `None` where they are not on this machine.
fn data(cluster: &Cluster, files: &dyn ReadFiles) -> Option<DataFolders> {
    let entry = &cluster.entry;
    let pgdata = match (cluster.is_scratch(), &entry.live) {
        (true, Some(live)) => Some(live).filter(|live| matches!(files.facts(live), Ok(Some(_)))),
        (true, None) => None,
        (false, _) => Some(&cluster.pgdata).filter(|_| !cluster.is_managed() && entry.elsewhere().is_none()),
    };
    let own = DataFolders::of(pgdata.filter(|pgdata| pgdata.is_absolute())?, files);
    Some(entry.tablespaces.values().fold(own, |data, place| data.and(place, files)))
}

fn judged((name, entry): Named<'_>, (cluster, data): (&Cluster, &DataFolders), files: &dyn ReadFiles) -> Option<Fact> {
    let Ok(StoreLocation::Folder(folder)) = entry.url.parse::<StoreLocation>() else { return None };
    let around = data.around(&folder, files)?;
    let database = &cluster.name;
    let what = format!(
        "store `{name}`, `{}`, lies in the data of `{database}`, `{}`: a restore would take it away with the old data, backups \
         and WAL, and every base backup holds all earlier ones",
        folder.display(),
        around.display()
    );
    let is_there = matches!(files.facts(&folder), Ok(Some(_)));
    let moved = match is_there {
        false => String::new(),
        true if folder == around => {
            "move what it holds (`.rb-store` and the folder of each prefix) into a folder outside of the data; "
                .to_owned()
        }
        true => format!("{}; ", way_out(&folder)),
    };
    let help = format!(
        "{moved}name a folder outside as `url` of `{name}` in the inventory, and when the server runs \
         `runbook run setup-archiving -p database={database}`: until then its WAL waits in `pg_wal`. Nothing was touched"
    );
    Some(Fact { what, help })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::allow_attributes, reason = "tests")]
    use std::fs;

    use super::*;
    use crate::host::local_files;
    use crate::language::inventory::Database;

    #[test]
    fn a_store_in_the_data_is_told_with_the_way_out_and_one_beside_it_is_not() {
        let home = tempfile::tempdir().unwrap();
        let pgdata = home.path().join("pg");
        fs::create_dir_all(pgdata.join("backups")).unwrap();
        let entry = Database { pgdata: pgdata.clone(), ..Database::default() };
        let said = |folder: PathBuf, entry: &Database| {
            let store = StoreEntry { url: format!("file://{}", folder.display()), ..StoreEntry::default() };
            let inventory = Inventory {
                databases: [("orders".to_owned(), entry.clone())].into(),
                stores: [("primary".to_owned(), store.clone())].into(),
                ..Inventory::default()
            };
            let cluster = Cluster::of(&DatabaseRef("orders".into()), &inventory, Path::new("/run")).unwrap();
            let files = local_files();
            let fact = super::store(&cluster, &inventory, files.as_ref());
            assert_eq!(fact.is_some(), around(("primary", &store), &inventory, files.as_ref()).is_some());
            fact
        };
        let fact = said(pgdata.join("backups"), &entry).unwrap();
        assert!(fact.what.starts_with("store `primary`") && fact.what.contains("in the data of `orders`"), "{fact:?}");
        let moved = format!("`mv {0}/backups {0}/backups.moving`", pgdata.display());
        assert!(fact.help.contains(&moved) && fact.help.contains("setup-archiving -p database=orders"), "{fact:?}");
        let unmade = said(pgdata.join("later"), &entry).unwrap();
        assert!(unmade.help.starts_with("name a folder outside"), "{unmade:?}");
        assert!(!said(pgdata.clone(), &entry).unwrap().help.contains("`mv"), "the data directory itself stays");
        assert_eq!(said(home.path().join("backups"), &entry), None);
        let mapped = [("fast".to_owned(), home.path().join("ts"))].into();
        let spread = Database { tablespaces: mapped, ..entry.clone() };
        assert!(said(home.path().join("ts/backups"), &spread).is_some());
        let drilled = Database { scratch: true, live: Some(pgdata.clone()), pgdata: home.path().into(), ..entry };
        assert!(said(pgdata.join("backups"), &drilled).is_some(), "what could not be restored");
        assert_eq!(said(pgdata.join("backups"), &Database { live: None, ..drilled }), None);
    }
}
