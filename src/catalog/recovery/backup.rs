//! Base backups as recoveries begin with them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::base::Timestamp;
use crate::catalog::{Backup, KIND_POSTGRES_BASE, KIND_POSTGRES_SNAPSHOT, Manifest, ManifestObject, PostgresFacts};
use crate::pgformat::{Lsn, SegmentName, SystemId, Timeline};

/// The backup a recovery begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Its timeline.
    pub timeline: Timeline,
    /// Where replay begins.
    pub start: Lsn,
    /// Where it is consistent.
    pub stop: Lsn,
    /// When it ended, by the primary's clock.
    pub ended_at: Timestamp,
}

/// A base backup with all that it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseBackup {
    /// Its id.
    pub id: String,
    /// Its kind: it says what restores it.
    pub kind: String,
    /// The cluster.
    pub system_id: SystemId,
    /// Where replay begins and is consistent.
    pub base: Base,
    /// The segments that came with it: its own recovery finds them without the archive.
    pub embedded: BTreeSet<SegmentName>,
    /// What it rests on, from the full backup to itself. One alone for a full backup.
    pub chain: Vec<String>,
    /// The stored bytes of the chain: what a restore reads.
    pub stored_bytes: u64,
    /// The plain bytes of the chain: what a restore writes.
    pub plain_bytes: u64,
    /// What of that is written into tablespaces outside the data directory.
    pub tablespaces: Vec<TablespaceSize>,
    /// Why it cannot be restored; `None` when nothing is known to be wrong.
    pub fault: Option<String>,
}

/// A tablespace outside the data directory, and what a restore writes into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TablespaceSize {
    /// Its name.
    pub name: String,
    /// Where the backup had it.
    pub location: String,
    /// The plain bytes of the chain.
    pub plain_bytes: u64,
}

impl Base {
    /// The base of a physical backup; `None` for one of another kind.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Option<Self> {
        let facts = manifest.postgres.as_ref()?;
        let (timeline, start, stop) = (facts.timeline, facts.start_lsn, facts.stop_lsn);
        Some(Self { timeline, start, stop, ended_at: manifest.stopped_at })
    }
}

/// Makes recoveries' beginnings of the physical backups in a list, oldest first.
///
/// An increment is as good as the weakest of what it rests on.
#[must_use]
pub fn base_backups(list: &[Backup]) -> Vec<BaseBackup> {
    let kinds = [KIND_POSTGRES_BASE, KIND_POSTGRES_SNAPSHOT];
    let physical = list.iter().filter(|backup| kinds.contains(&backup.manifest.kind.as_str()));
    let by_id: BTreeMap<Link<'_>, &Backup> = physical.map(|backup| (link(backup), backup)).collect();
    let mut all: Vec<BaseBackup> = by_id.values().filter_map(|backup| of(backup, &by_id)).collect();
    let order = |backup: &BaseBackup| (backup.base.ended_at, backup.id.clone(), backup.fault.is_some());
    all.sort_by_key(order);
    // Copies of one backup in several stores are one beginning, the best of them.
    all.dedup_by(|next, kept| next.id == kept.id);
    all
}

/// The store and the id of a backup: a restore reads the links of one store.
type Link<'a> = (&'a str, &'a str);

fn link(backup: &Backup) -> Link<'_> {
    (&backup.store, &backup.manifest.id)
}

fn of(backup: &Backup, by_id: &BTreeMap<Link<'_>, &Backup>) -> Option<BaseBackup> {
    let manifest = &backup.manifest;
    let (facts, base) = (manifest.postgres.as_ref()?, Base::of(manifest)?);
    let (links, of_others) = links(backup, by_id);
    let fault = weakness(backup).or(of_others);
    let objects = || links.iter().flat_map(|link| &link.manifest.objects);
    let within = |oid: u32| objects().filter(move |object| object.tablespace == Some(oid));
    let tablespaces = facts.tablespaces.iter().map(|one| TablespaceSize {
        name: one.name.clone(),
        location: one.location.clone(),
        plain_bytes: within(one.oid).map(|object| object.plain_facts().size_bytes).sum(),
    });
    Some(BaseBackup {
        id: manifest.id.clone(),
        kind: manifest.kind.clone(),
        system_id: facts.system_id,
        base,
        embedded: embedded(manifest, facts),
        stored_bytes: objects().map(|object| object.size_bytes).sum(),
        plain_bytes: objects().map(|object| object.plain_facts().size_bytes).sum(),
        tablespaces: tablespaces.collect(),
        chain: links.iter().rev().map(|link| link.manifest.id.clone()).collect(),
        fault,
    })
}

/// Says of each increment of a list, by its store and id, that rests on what cannot be restored, why that is so.
#[must_use]
pub fn weak_increments(list: &[Backup]) -> BTreeMap<(String, String), String> {
    let by_id: BTreeMap<Link<'_>, &Backup> = list.iter().map(|backup| (link(backup), backup)).collect();
    let key = |backup: &Backup| (backup.store.clone(), backup.manifest.id.clone());
    list.iter().filter_map(|backup| Some((key(backup), links(backup, &by_id).1?))).collect()
}

/// A backup with all that it rests on, and what is known to be wrong with that.
fn links<'a>(backup: &'a Backup, by_id: &BTreeMap<Link<'_>, &'a Backup>) -> (Vec<&'a Backup>, Option<String>) {
    let (mut links, mut fault) = (vec![backup], None);
    let mut next = backup.manifest.parent.as_deref();
    while let Some(parent) = next {
        match by_id.get(&(backup.store.as_str(), parent)) {
            // More links than backups: a circle.
            Some(_) if links.len() > by_id.len() => {
                fault = Some(format!("what it rests on leads in a circle over `{parent}`"));
                break;
            }
            Some(link) => {
                let of_parent = weakness(link).map(|why| format!("it rests on `{parent}`: {why}"));
                fault = fault.or(of_parent);
                links.push(*link);
                next = link.manifest.parent.as_deref();
            }
            None => {
                fault = Some(format!("it rests on `{parent}`, which is not there"));
                break;
            }
        }
    }
    (links, fault)
}

/// What is known to be wrong with one backup by itself.
fn weakness(backup: &Backup) -> Option<String> {
    if !backup.missing.is_empty() {
        return Some(format!("{} of its objects are missing or have another size", backup.missing.len()));
    }
    backup.attested.is_damaged().then(|| "its last verification found it damaged".to_owned())
}

fn embedded(manifest: &Manifest, facts: &PostgresFacts) -> BTreeSet<SegmentName> {
    let has_wal = manifest.objects.iter().any(ManifestObject::has_wal);
    if has_wal { facts.segments().into_iter().collect() } else { BTreeSet::new() }
}
