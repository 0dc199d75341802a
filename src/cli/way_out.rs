//! What else there is where a restore is refused: another store that has the base backups, or dumps that are sound.

use std::collections::BTreeMap;

use super::again::Again;
use super::shelf::Shelf;
use super::site::Site;
use crate::base::Timestamp;
use crate::catalog::{KIND_POSTGRES_BASE, KIND_POSTGRES_DUMP, KIND_POSTGRES_SNAPSHOT};
use crate::report::mask_text;

/// Says what else there is; empty where a sound base backup lies where it is looked for, and where there is nothing.
pub fn lines(site: &Site, database: &str, again: &Again) -> Vec<String> {
    let shelves = site.shelves(database);
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
    let mut lines: Vec<String> = snapshot(&shelves, database, again).into_iter().collect();
    lines.extend(dumps(&shelves, database, again));
    lines
}

/// The newest sound snapshot of a volume, with what it takes to restore it.
fn snapshot(shelves: &[Shelf], database: &str, again: &Again) -> Option<String> {
    let sound = shelves.iter().flat_map(|shelf| shelf.sound(KIND_POSTGRES_SNAPSHOT));
    let newest = sound.max_by_key(|backup| backup.manifest.stopped_at)?;
    let (id, at) = (&newest.manifest.id, newest.manifest.stopped_at);
    let pitr = again.line(["pitr", database]);
    Some(mask_text(&format!(
        "no base backup can be restored, but a snapshot of the volume can: `{id}`, ended {at}. Mount it, then carry out a procedure like \
         `examples/volume-restore.yaml`: `postgres.restore_snapshot` of backup `{id}`, then `postgres.recover`; `{pitr}` shows what \
         else leads back"
    )))
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
