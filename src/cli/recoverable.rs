//! Which database's store is looked at for a recovery, and how it is opened.

use std::path::Path;
use std::sync::Arc;

use super::exit::told;
use super::site::{Site, machine, no_database};
use super::{Exit, Failure};
use crate::action::{ActionError, DatabaseRef, Secrets};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::recovery::foresight::{Lookout, remnant};
use crate::base::{RunId, clock};
use crate::wal::outlook::Remnant;
pub use crate::wal::outlook::{ClusterView, LookError, Recoverable};

/// The databases that are meant: the one named, else every one that has a store.
///
/// # Errors
/// Fails when there is none of that name, or none with a store (exit 2).
pub fn databases(site: &Site, named: Option<&str>) -> Result<Vec<String>, Failure> {
    let all = &site.inventory.databases;
    if let Some(name) = named {
        let entry = all.get(name).ok_or_else(|| no_database(name, &site.inventory))?;
        return match entry.store {
            Some(_) if entry.is_managed() => Err(managed(name)),
            Some(_) => Ok(vec![name.to_owned()]),
            None => Err(Failure::new(Exit::Usage, format!("database `{name}` has no store"))
                .help("add `store: NAME` to its entry in the inventory")),
        };
    }
    let with_store = all.iter().filter(|(_, entry)| entry.store.is_some() && !entry.scratch && !entry.is_managed());
    let names: Vec<String> = with_store.map(|(name, _)| name.clone()).collect();
    if names.is_empty() {
        let help =
            "add `databases: { NAME: { pgdata: …, store: NAME } }`, or name an inventory with `--inventory FILE`";
        return Err(Failure::new(Exit::Usage, "the inventory has no database with a store").help(help));
    }
    Ok(names)
}

/// Neither base backups nor WAL of a provider's server are here.
fn managed(name: &str) -> Failure {
    Failure::new(
        Exit::Usage,
        format!("database `{name}` is managed: its provider keeps its WAL, none of it is archived here"),
    )
    .help(format!(
        "its points in time are the provider's; its dumps are listed by `runbook backups list`, and `runbook restore {name}` \
         brings one back"
    ))
}

/// The one database that is meant.
///
/// # Errors
/// Fails when none is named and there are several (exit 2).
pub fn database(site: &Site, named: Option<&str>) -> Result<String, Failure> {
    let mut names = databases(site, named)?;
    match names.len() {
        1 => Ok(names.swap_remove(0)),
        _ => Err(Failure::new(Exit::Usage, "several databases have a store: say which one is meant")
            .help(format!("known: {}", names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")))),
    }
}

/// Counts WAL as well that only the database's server has, beyond the archive. Where that cannot be seen from here it says
/// so: what is told is then told by the archive alone.
pub async fn with_server(found: Recoverable, site: &Site) -> (Recoverable, Option<String>) {
    match left(&found, site).await {
        Ok(remnant) => (found.and(remnant), None),
        Err(why) => {
            let note = format!("what the server has not archived yet is not seen here ({why}); a recovery counts it");
            (found, Some(note))
        }
    }
}

async fn left(found: &Recoverable, site: &Site) -> Result<Option<Remnant>, String> {
    let words = |error: ActionError| told(&error);
    if found.entry.is_managed() || found.entry.pgdata.as_os_str().is_empty() {
        return Ok(None);
    }
    // What lies on another machine is told by that machine alone.
    if let Some(address) = found.entry.elsewhere() {
        return Err(format!("its server is on another machine, `{address}`"));
    }
    let name = DatabaseRef(found.database.clone());
    let cluster = Cluster::of(&name, &site.inventory, Path::new("/")).map_err(words)?;
    let stores = found.entry.archives().map(|store| site.read_store(store));
    let stores = stores.collect::<Result<_, Failure>>().map_err(|failure| failure.message)?;
    let files = machine().map_err(|failure| failure.message)?.read_files();
    // No run has moved anything aside for this one.
    let run = RunId::generate(clock::now());
    remnant(&Lookout { cluster: &cluster, run: &run, stores, files }).await.map_err(words)
}

impl Recoverable {
    /// Looks at the store of a database.
    ///
    /// # Errors
    /// Fails when the inventory makes no sense of it.
    pub fn open(site: &Site, name: &str) -> Result<Self, Failure> {
        let entry = site.inventory.databases.get(name).ok_or_else(|| no_database(name, &site.inventory))?;
        let open = |store: &str| Ok((site.read_store(store)?, site.store_entry(store)?.clone()));
        let stores = entry.archives().map(open).collect::<Result<Vec<_>, Failure>>()?;
        // Nothing else hangs on a store that only has copies.
        let others = entry.backup_destinations().filter(|open_store| Some(*open_store) != entry.store.as_deref());
        let copies = others.filter_map(|open_store| site.read_store(open_store).ok()).collect();
        Ok(Self::of((name, entry), stores, Arc::clone(&site.vault) as Arc<dyn Secrets>).with_copies(copies))
    }
}
