//! What else there is where a restore is refused: another store that has the base backups, or dumps that are sound.

use std::collections::BTreeMap;

use super::again::Again;
use super::site::Site;
use super::{attest, wiring};
use crate::base::Timestamp;
use crate::catalog::attest::Vouched;
use crate::catalog::{Backup, Catalog, KIND_POSTGRES_BASE, KIND_POSTGRES_DUMP};
use crate::report::mask_text;

/// What the stores of a database have, each by its name, the database's own first; why one tells nothing.
struct Shelf {
    store: String,
    backups: Result<Vec<Backup>, String>,
}

/// Says what else there is; empty where a sound base backup lies where it is looked for, and where there is nothing.
pub fn lines(site: &Site, database: &str, again: &Again) -> Vec<String> {
    let shelves = shelves(site, database);
    let has_base = |shelf: &Shelf| shelf.sound(KIND_POSTGRES_BASE).next().is_some();
    let Some((own, others)) = shelves.split_first() else { return Vec::new() };
    if has_base(own) {
        return Vec::new();
    }
    if let Some(other) = others.iter().find(|shelf| has_base(shelf)) {
        // Its damaged copies are passed over for those of other stores; a store that tells nothing is not.
        let tells_nothing = own.of_kind(KIND_POSTGRES_BASE).next().is_none();
        return tells_nothing.then(|| elsewhere(site, database, (own, other))).into_iter().collect();
    }
    dumps(&shelves, database, again)
}

fn shelves(site: &Site, database: &str) -> Vec<Shelf> {
    let Some(entry) = site.inventory.databases.get(database) else { return Vec::new() };
    let prefix = entry.prefix.as_deref().unwrap_or(database);
    let listed = |store: &str| Shelf { store: store.to_owned(), backups: listed(site, (store, prefix), database) };
    entry.backup_destinations().map(listed).collect()
}

fn listed(site: &Site, (store, prefix): (&str, &str), database: &str) -> Result<Vec<Backup>, String> {
    let reader = site.read_store(store).map_err(|failure| failure.in_full())?;
    let vouched =
        Vouched::of(reader.as_ref(), &site.inventory.audit.proof_signers).map_err(|error| error.to_string())?;
    let list = wiring::block_on(async { Catalog::of(&vouched).list(prefix).await });
    let list = list.map_err(|failure| failure.in_full())?.map_err(|error| attest::chain(&error))?;
    Ok(list.backups.into_iter().filter(|backup| backup.manifest.source == database).collect())
}

fn is_sound(backup: &Backup) -> bool {
    backup.missing.is_empty() && !backup.attested.is_damaged()
}

impl Shelf {
    fn of_kind<'a>(&'a self, kind: &'static str) -> impl Iterator<Item = &'a Backup> {
        self.backups.iter().flatten().filter(move |backup| backup.manifest.kind == kind)
    }

    /// What it has of a kind and nothing is known against.
    fn sound<'a>(&'a self, kind: &'static str) -> impl Iterator<Item = &'a Backup> {
        self.of_kind(kind).filter(|backup| is_sound(backup))
    }
}

/// The store to restore from where the database's own tells nothing: on a lost machine, a lost disk.
fn elsewhere(site: &Site, database: &str, (own, other): (&Shelf, &Shelf)) -> String {
    let newest = other.sound(KIND_POSTGRES_BASE).max_by_key(|backup| backup.manifest.stopped_at);
    let newest = newest.map(|backup| format!("`{}`, ended {}", backup.manifest.id, backup.manifest.stopped_at));
    let entry = site.inventory.databases.get(database);
    let has_wal = entry.is_some_and(|entry| entry.archives().any(|name| name == other.store));
    let wal = match has_wal {
        true => "; the WAL goes there as well",
        false => {
            "; the inventory sends no WAL there, so only the state at the end of a backup may come back: `--to ID`"
        }
    };
    format!(
        "store `{0}` has the base backup {1}{wal}. Where `{2}` is lost or empty, say `store: {0}` in the entry of `{database}` in place of \
         it, take `{2}` out of its other stores, and restore again",
        other.store,
        newest.unwrap_or_default(),
        own.store
    )
}

/// The newest sound dump of each database within the server, with what restores it.
fn dumps(shelves: &[Shelf], database: &str, again: &Again) -> Vec<String> {
    let mut newest: BTreeMap<&str, (Timestamp, &str, &str)> = BTreeMap::new();
    for shelf in shelves {
        for backup in shelf.sound(KIND_POSTGRES_DUMP) {
            let Some(dump) = backup.manifest.dump.as_ref().filter(|dump| !dump.partial) else { continue };
            let found = (backup.manifest.started_at, backup.manifest.id.as_str(), shelf.store.as_str());
            let known = newest.entry(dump.dbname.as_str()).or_insert(found);
            if known.0 < found.0 {
                *known = found;
            }
        }
    }
    let mut lines = Vec::new();
    if !newest.is_empty() {
        lines.push(
            "no base backup can be restored, but dumps are sound: each brings one database back as it was then, into a server \
             that runs (a new one where the old one is lost)"
                .to_owned(),
        );
    }
    for (dbname, (at, id, store)) in newest {
        let (database, named) = (format!("database={database}"), format!("dbname={dbname}"));
        let backup = format!("backup={id}");
        let words = ["run", "restore-dump", "-p", &database, "-p", &named, "-p", &backup, "-p", "incident_at=now"];
        // Whoever restores a dump reads the database's own store.
        let first = match shelves.first().is_some_and(|own| own.store == store) {
            true => String::new(),
            false => format!(" only, so say `store: {store}` in the entry first"),
        };
        lines.push(format!("  `{dbname}` as of {at}, in `{store}`{first}: {}", again.change(words)));
    }
    let damaged = shelves.iter().flat_map(|shelf| shelf.of_kind(KIND_POSTGRES_BASE).map(move |backup| (shelf, backup)));
    if let Some((shelf, backup)) = damaged.max_by_key(|(_, backup)| backup.manifest.stopped_at) {
        lines.push(format!(
            "the damaged base backup lies in `{}` of store `{}`; its `restore.sh` refuses what is damaged, and its `RESTORE.md` has the \
             commands that unpack by hand what lies before the damage",
            backup.place().folder(),
            shelf.store
        ));
    }
    lines.iter().map(|line| mask_text(line)).collect()
}
