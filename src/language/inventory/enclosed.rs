//! A store that lies in the data of a database: what takes the data takes its backups.
//!
//! Judged by what is written; links and tablespaces that only the data directory tells are seen by whoever looks at it.

use std::collections::BTreeMap;
use std::path::Path;

use super::file::InventoryFile;
use super::{BUILT_IN, Database, StoreLocation};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};

impl InventoryFile {
    /// Whether a store lies in or below a data directory or the place of a tablespace.
    pub(super) fn enclosed_stores(&self, faults: &mut Diagnostics) {
        let mut told: BTreeMap<(String, String), Diagnostic> = BTreeMap::new();
        let built_in = [BUILT_IN.to_owned()];
        let named: Vec<&String> = self.environments.keys().collect();
        let environments = if named.is_empty() { built_in.iter().collect() } else { named };
        for environment in environments {
            // What cannot be put together has faults of its own.
            let Ok(inventory) = self.for_environment(environment) else { continue };
            for (name, store) in &inventory.stores {
                let Ok(StoreLocation::Folder(folder)) = store.url.parse::<StoreLocation>() else { continue };
                for (database, entry) in &inventory.databases {
                    let Some(around) = around(entry, &folder) else { continue };
                    let fact = format!(
                        "store `{name}` lies in the data of `{database}`, `{}`: a restore would take it away with the old data, \
                         and every base backup holds all earlier ones",
                        around.display()
                    );
                    let fault = Diagnostic::new(Code::StoreInData, fact)
                        .label(self.place(&format!("/stores/{name}/url")), "lies there")
                        .label(self.place(&format!("/databases/{database}/pgdata")), "and takes it along");
                    let help = "move the store's folder out of the data and name the new place as its `url`, then run \
                                `setup-archiving`; docs/stores.md has the commands. Backups and restores are refused until then";
                    told.entry((name.clone(), database.clone())).or_insert_with(|| fault.help(help));
                }
            }
        }
        told.into_values().for_each(|fault| faults.push(fault));
    }
}

/// The folder of a database's data that a store lies in. A throw-away database stands in for one that has a place, and a server
/// elsewhere has its folders there.
fn around<'a>(entry: &'a Database, folder: &Path) -> Option<&'a Path> {
    if entry.scratch || entry.is_managed() || entry.elsewhere().is_some() {
        return None;
    }
    let places = std::iter::once(&entry.pgdata).chain(entry.tablespaces.values());
    places.filter(|place| place.is_absolute()).find(|place| folder.starts_with(place)).map(std::path::PathBuf::as_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_in_the_data_or_in_a_tablespaces_place_is_told_and_one_beside_it_is_not() {
        let entry = Database {
            pgdata: "/pg".into(),
            tablespaces: [("fast".to_owned(), "/fast/ts".into())].into(),
            ..Database::default()
        };
        for (folder, found) in [
            ("/pg", Some("/pg")),
            ("/pg/backups", Some("/pg")),
            ("/fast/ts/backups", Some("/fast/ts")),
            ("/pg.backups", None),
            ("/fast", None),
        ] {
            assert_eq!(around(&entry, Path::new(folder)), found.map(Path::new), "{folder}");
        }
        let far = Database { address: Some("db.example.org".to_owned()), ..entry.clone() };
        for other in [Database { scratch: true, ..entry }, far, Database::default()] {
            assert_eq!(around(&other, Path::new("/pg/backups")), None);
        }
    }
}
