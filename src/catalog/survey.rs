//! Reads what retention judges: everything that lies under one prefix of a store.

use std::collections::{BTreeMap, BTreeSet};

use super::attest::Level;
use super::key::{family, family_prefix};
use super::retention::{Attestations, Candidate, ClusterSpan, DamagedManifest, DumpSeries, Survey, WalSegment};
use super::{Backup, BackupList, Catalog, CatalogError, IMPORTED, KIND_POSTGRES_DUMP, Manifest, list, wal_file_of};
use crate::action::{ObjectFacts, ObjectKey, ReadStore, Unfinished};
use crate::base::Timestamp;
use crate::pgformat::{SystemId, WalFileName};

/// What lies under a prefix.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Holdings {
    /// Backups and damaged manifests.
    pub list: BackupList,
    /// The objects that hold WAL segments, packed ones included.
    pub wal: Vec<WalObject>,
    /// Folders of backups that were never committed, or whose manifest is gone.
    pub orphans: Vec<Orphan>,
    /// What writers began and did not finish; some of them may be at work.
    pub unfinished: Vec<Unfinished>,
    /// Why a folder without a manifest is not among the orphans though it looks like one.
    pub spared: Vec<String>,
}

/// An object that holds an archived segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalObject {
    /// Its key.
    pub key: ObjectKey,
    /// The cluster.
    pub system_id: SystemId,
    /// The segment.
    pub segment: WalSegment,
}

/// Objects where a backup would lie, without a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// What their keys begin with, a `/` at the end.
    pub folder: String,
    /// The objects.
    pub keys: Vec<ObjectKey>,
    /// Their sizes together.
    pub size_bytes: u64,
    /// When the newest of them was written, by the store's clock.
    pub newest_at: Timestamp,
}

/// Reads everything under a prefix.
///
/// # Errors
/// Fails when the store does.
pub async fn holdings(store: &dyn ReadStore, prefix: &str) -> Result<Holdings, CatalogError> {
    let list = list(store, prefix).await?;
    let wal = wal(store, prefix).await?;
    let mut orphans = orphans(store, prefix, &list).await?;
    let spared = if orphans.is_empty() { Vec::new() } else { spare(store, &mut orphans).await? };
    let below = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let unfinished = store.unfinished(&below).await?;
    Ok(Holdings { list, wal, orphans, unfinished, spared })
}

/// Lists the archived segments under a prefix, of whatever cluster.
///
/// # Errors
/// Fails when the store does.
pub async fn wal(store: &dyn ReadStore, prefix: &str) -> Result<Vec<WalObject>, CatalogError> {
    let folder = family_prefix(prefix, "wal");
    let listed = store.list(&folder).await?;
    Ok(listed.into_iter().filter_map(|facts| wal_object(&folder, facts)).collect())
}

/// Leaves alone what any backup of the store may consist of: an imported one names objects under other prefixes.
async fn spare(store: &dyn ReadStore, orphans: &mut Vec<Orphan>) -> Result<Vec<String>, CatalogError> {
    let all = Catalog::of(store).everything().await?;
    let mut spared = Vec::new();
    if let Some(damaged) = all.damaged.first() {
        let (count, key) = (all.damaged.len(), &damaged.key);
        for orphan in orphans.drain(..) {
            let folder = orphan.folder;
            spared.push(format!("`{folder}`: {count} damaged manifests, such as `{key}`, may name what lies in it"));
        }
        return Ok(spared);
    }
    let named: Vec<(&str, &str)> = all.backups.iter().flat_map(named).collect();
    orphans.retain(|orphan| {
        let user = named.iter().find(|(_, named)| orphan.keys.iter().any(|key| is_named(key.as_str(), named)));
        spared.extend(user.map(|(id, _)| format!("`{}`: backup `{id}` consists of what lies in it", orphan.folder)));
        user.is_none()
    });
    Ok(spared)
}

/// The keys outside its folder that a backup consists of, with its id.
fn named(backup: &Backup) -> impl Iterator<Item = (&str, &str)> {
    let keys = backup.manifest.objects.iter().filter_map(|object| object.key.as_deref());
    keys.map(|key| (backup.manifest.id.as_str(), key))
}

/// Whether a key is the one that a manifest names: as the manifest's own store sees it, which may begin deeper.
fn is_named(key: &str, named: &str) -> bool {
    key.strip_suffix(named).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

impl Holdings {
    /// What retention judges.
    #[must_use]
    pub fn survey(&self, now: Timestamp) -> Survey {
        let mut wal: BTreeMap<SystemId, Vec<WalSegment>> = BTreeMap::new();
        for object in &self.wal {
            wal.entry(object.system_id).or_default().push(object.segment);
        }
        let damaged = |one: &super::DamagedBackup| DamagedManifest { key: one.key.to_string(), why: one.why.clone() };
        Survey {
            backups: self.list.backups.iter().map(|backup| candidate(backup, now)).collect(),
            damaged: self.list.damaged.iter().map(damaged).collect(),
            wal,
            elsewhere: BTreeMap::new(),
        }
    }
}

/// A backup as retention judges it.
#[must_use]
pub fn candidate(backup: &Backup, now: Timestamp) -> Candidate {
    let manifest = &backup.manifest;
    let cluster = manifest.postgres.as_ref().map(|facts| ClusterSpan {
        system_id: facts.system_id,
        timeline: facts.timeline,
        start: facts.start_lsn,
        stop: facts.stop_lsn,
        segment_size: facts.segment_size,
    });
    Candidate {
        id: manifest.id.clone(),
        manifest: backup.digest,
        source: manifest.source.clone(),
        kind: manifest.kind.clone(),
        tier: manifest.tier.clone(),
        environment: manifest.environment.clone(),
        dump: series(manifest),
        parent: manifest.parent.clone(),
        ended_at: manifest.stopped_at,
        size_bytes: manifest.size_bytes(),
        cluster,
        standing: standing(backup, now),
    }
}

/// Which dumps it is one of. Of one that another program made only the name tells it, as far as it is no date.
fn series(manifest: &Manifest) -> Option<DumpSeries> {
    let is_imported = manifest.kind == KIND_POSTGRES_DUMP && manifest.id.starts_with(IMPORTED);
    match &manifest.dump {
        Some(facts) if facts.partial => Some(DumpSeries::Part(facts.dbname.clone())),
        Some(facts) => Some(DumpSeries::Whole(facts.dbname.clone())),
        None => is_imported.then(|| DumpSeries::Imported(undated(&manifest.id))),
    }
}

/// The id of a dump that was imported, without the moment that its name tells: `shop_#.dump` of `shop_20261119_030000.dump`. What else
/// has digits in it may be a database's name.
fn undated(id: &str) -> String {
    let is_moment = |at: usize| {
        let bytes = id.as_bytes().get(at..at + MOMENT.len());
        bytes.is_some_and(|bytes| {
            let fits = |(byte, wanted): (&u8, u8)| if wanted == b'0' { byte.is_ascii_digit() } else { *byte == wanted };
            bytes.iter().zip(MOMENT.bytes()).all(fits)
        })
    };
    match (0..id.len()).rev().find(|at| is_moment(*at)) {
        Some(at) => format!("{}_#{}", &id[..at], &id[at + MOMENT.len()..]),
        None => id.to_owned(),
    }
}

/// How a dated name tells its moment: year, month and day, then hour, minute and second.
const MOMENT: &str = "_00000000_000000";

fn standing(backup: &Backup, now: Timestamp) -> Attestations {
    let attested = &backup.attested;
    let held = attested.hold.as_ref().and_then(|hold| hold.lasting(now));
    let verified = attested.last_verified.as_ref();
    let failed = verified.filter(|_| attested.is_damaged());
    let damage = match (backup.missing.is_empty(), failed) {
        (false, _) => Some(format!("missing or of another size: {}", backup.missing.join(", "))),
        (true, Some(note)) => Some(format!("the verification of {} failed", note.at)),
        (true, None) => None,
    };
    Attestations {
        verified_at: verified.filter(|note| note.holds(Level::Digests)).map(|note| note.at),
        proven_at: attested.proven_at(),
        hold: held.map(|hold| format!("{} by {}", hold.reason, hold.by)),
        damage,
    }
}

fn wal_object(folder: &str, facts: ObjectFacts) -> Option<WalObject> {
    let rest = facts.key.as_str().strip_prefix(folder)?;
    let (system_id, rest) = rest.split_once('/')?;
    let (timeline, object) = rest.split_once('/')?;
    let (WalFileName::Segment(name), _) = wal_file_of(object)? else { return None };
    let system_id = SystemId(system_id.parse().ok()?);
    let segment = WalSegment { name, size_bytes: facts.size_bytes, archived_at: facts.modified_at };
    (name.timeline().hex() == timeline).then_some(WalObject { key: facts.key, system_id, segment })
}

/// Objects of backups that are none, by the folder that the backup would have.
async fn orphans(store: &dyn ReadStore, prefix: &str, list: &BackupList) -> Result<Vec<Orphan>, CatalogError> {
    let whole = list.backups.iter().map(|backup| format!("{}/", backup.place().folder()));
    let broken =
        list.damaged.iter().filter_map(|one| Some(one.key.as_str().rsplit_once('/')?.0)).map(|f| format!("{f}/"));
    let folders: BTreeSet<String> = whole.chain(broken).collect();
    let tiers: BTreeSet<&str> = list.backups.iter().filter_map(|backup| backup.manifest.tier.as_deref()).collect();
    let kinds = list.backups.iter().map(|backup| family(&backup.manifest.kind));
    let families: BTreeSet<String> = kinds.chain(["base", "dump", "files"].map(str::to_owned)).collect();
    let elsewhere = list.backups.iter().flat_map(|backup| &backup.manifest.objects);
    let elsewhere: BTreeSet<&str> = elsewhere.filter_map(|object| object.key.as_deref()).collect();
    let mut found: BTreeMap<String, Orphan> = BTreeMap::new();
    for name in &families {
        let family = family_prefix(prefix, name);
        for facts in store.list(&family).await? {
            let key = facts.key.as_str();
            if elsewhere.contains(key) || folders.iter().any(|folder| key.starts_with(folder)) {
                continue;
            }
            let Some(folder) = folder_of(&family, key, &tiers) else { continue };
            let orphan = found.entry(folder.clone()).or_insert_with(|| Orphan {
                folder,
                keys: Vec::new(),
                size_bytes: 0,
                newest_at: Timestamp::MIN,
            });
            orphan.size_bytes += facts.size_bytes;
            orphan.newest_at = orphan.newest_at.max(facts.modified_at);
            orphan.keys.push(facts.key);
        }
    }
    // A folder that also holds backups is a tier that none of them names: what lies in it is not one thing.
    found.retain(|folder, _| !folders.iter().any(|whole| whole.starts_with(folder.as_str())));
    // Nor is one with manifests or WAL in it: a family's folder may be the prefix of another source.
    let is_others = |key: &ObjectKey| {
        let below = key.as_str().strip_prefix(prefix).unwrap_or_default();
        below.ends_with("/manifest.json") || below.contains("/wal/")
    };
    found.retain(|_, orphan| !orphan.keys.iter().any(is_others));
    Ok(found.into_values().collect())
}

fn folder_of(family: &str, key: &str, tiers: &BTreeSet<&str>) -> Option<String> {
    let rest = key.strip_prefix(family)?;
    let (first, below) = rest.split_once('/')?;
    if !tiers.contains(first) {
        return Some(format!("{family}{first}/"));
    }
    let (second, _) = below.split_once('/')?;
    Some(format!("{family}{first}/{second}/"))
}

#[cfg(test)]
mod tests {
    use super::undated;

    #[test]
    fn dated_names_of_one_database_are_one_series() {
        assert_eq!(undated("imported-shop_20261119_030000=2edump"), "imported-shop_#=2edump");
        assert_eq!(undated("imported-shop_20261120_030001=2edump"), "imported-shop_#=2edump");
        let tenant = |number: &str| undated(&format!("imported-tenant{number}_20261120_030001=2edump"));
        assert_ne!(tenant("01"), tenant("02"));
        assert_eq!(undated("imported-old=2edump"), "imported-old=2edump");
    }
}
