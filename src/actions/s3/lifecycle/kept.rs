//! What retention keeps below a prefix, as far as a rule that knows only ages can break it.

use std::collections::BTreeMap;

use super::promise;
use crate::action::ReadStore;
use crate::base::{Timestamp, clock};
use crate::catalog::freeze::{self, Freeze};
use crate::catalog::{Backup, Catalog, CatalogError, KIND_POSTGRES_BASE, KIND_POSTGRES_DUMP, family, family_prefix};
use crate::language::inventory::{Database, Inventory};

/// Seconds of a day.
const DAY: u64 = 86_400;

/// What lies below a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Backups with manifests.
    Backups,
    /// The WAL of a cluster.
    Wal,
}

/// A backup that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptBackup {
    /// Its id.
    pub(super) id: String,
    /// Whether a hold keeps it.
    pub(super) held: bool,
    /// Days since it ended.
    pub(super) age_days: u32,
}

/// What retention keeps below a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// The prefix inside the store.
    pub(super) prefix: String,
    /// What lies there.
    pub(super) content: Content,
    /// Of what it is a backup.
    pub(super) source: String,
    /// The longest that any rule keeps one while new ones are made; `None` when there is no end.
    pub(super) longest_days: Option<u32>,
    /// How many are kept whatever their age.
    pub(super) floor: u32,
    /// Those there are, oldest first.
    pub(super) backups: Vec<KeptBackup>,
}

impl Kept {
    /// Whether a rule about a prefix is about some of it.
    pub(super) fn overlaps(&self, prefix: &str) -> bool {
        self.prefix.starts_with(prefix) || prefix.starts_with(&self.prefix)
    }

    /// What a manifest that cannot be read describes: its folder, for ever.
    fn endless(manifest: &str) -> Self {
        let folder = manifest.rsplit_once('/').map_or_else(String::new, |(folder, _)| format!("{folder}/"));
        let (source, content) = (format!("the damaged manifest `{manifest}`"), Content::Backups);
        Self { prefix: folder, content, source, longest_days: None, floor: 0, backups: Vec::new() }
    }

    fn wal(prefix: &str, source: &str) -> Self {
        let (prefix, content) = (family_prefix(prefix, "wal"), Content::Wal);
        Self { prefix, content, source: source.to_owned(), longest_days: None, floor: 0, backups: Vec::new() }
    }
}

/// What is kept in a store: of every backup found there, of every database whose backups are to lie there, of what the
/// inventory expects there, and of every manifest that cannot be read: nobody knows what it keeps. With it, the
/// recoveries that are open there.
pub(super) async fn read(
    store: &dyn ReadStore,
    inventory: &Inventory,
) -> Result<(Vec<Kept>, Vec<Freeze>), CatalogError> {
    let list = Catalog::of(store).everything().await?;
    let mut folders: BTreeMap<String, Vec<Backup>> = BTreeMap::new();
    for backup in list.backups {
        let folder = backup.place().folder();
        let parent = folder.rsplit_once('/').map_or_else(String::new, |(parent, _)| format!("{parent}/"));
        folders.entry(parent).or_default().push(backup);
    }
    let mut kept: Vec<Kept> = folders.iter().map(|(folder, backups)| of_folder(folder, backups, inventory)).collect();
    for damaged in list.damaged {
        kept.push(Kept::endless(damaged.key.as_str()));
    }
    let mut wal: BTreeMap<String, String> =
        folders.values().flatten().map(|backup| (backup.prefix.clone(), backup.manifest.source.clone())).collect();
    let here = |(_, database): &(&String, &Database)| database.archives().any(|name| name == store.name());
    for (name, database) in inventory.databases.iter().filter(here) {
        let prefix = database.prefix.as_ref().unwrap_or(name);
        wal.insert(prefix.clone(), name.clone());
        if database.store.as_deref() != Some(store.name()) {
            continue;
        }
        for kind in [KIND_POSTGRES_BASE, KIND_POSTGRES_DUMP] {
            to_come(&mut kept, (family_prefix(prefix, &family(kind)), name), None, inventory);
        }
    }
    for expected in inventory.backups.values() {
        let Some((_, prefix)) = inventory.place_of(expected).filter(|(there, _)| there == store.name()) else {
            continue;
        };
        let tier = expected.tier.as_ref().map(|tier| format!("{tier}/")).unwrap_or_default();
        let folder = format!("{}{tier}", family_prefix(&prefix, &family(&expected.kind)));
        to_come(&mut kept, (folder, &expected.source), expected.tier.as_deref(), inventory);
    }
    let mut frozen = freeze::frozen(store, "").await?;
    for top in store.browse("").await?.folders {
        let archived = store.browse(&top).await?.folders.iter().any(|folder| *folder == format!("{top}wal/"));
        if archived {
            let prefix = top.trim_end_matches('/').to_owned();
            wal.entry(prefix.clone()).or_insert(prefix);
        }
    }
    for prefix in wal.keys().filter(|prefix| !prefix.is_empty()) {
        frozen.extend(freeze::frozen(store, prefix).await?);
    }
    kept.extend(wal.iter().map(|(prefix, source)| Kept::wal(prefix, source)));
    Ok((kept, frozen))
}

/// A folder in which no backup lies yet is kept as its backups will be.
fn to_come(kept: &mut Vec<Kept>, (folder, source): (String, &str), tier: Option<&str>, inventory: &Inventory) {
    if !kept.iter().any(|kept| kept.prefix == folder) {
        kept.push(Kept { source: source.to_owned(), ..of_tier((&folder, tier), &[], inventory) });
    }
}

/// What is kept in one folder of backups: one kind and one tier.
fn of_folder(folder: &str, backups: &[Backup], inventory: &Inventory) -> Kept {
    of_tier((folder, backups.first().and_then(|backup| backup.manifest.tier.as_deref())), backups, inventory)
}

fn of_tier((folder, tier): (&str, Option<&str>), backups: &[Backup], inventory: &Inventory) -> Kept {
    let now = clock::now();
    let promise = promise::of(inventory, tier, every_days(backups));
    let longest_days = promise.longest_days.map(|days| days.saturating_add(chain_days(backups)));
    Kept {
        prefix: folder.to_owned(),
        content: Content::Backups,
        source: backups.first().map(|backup| backup.manifest.source.clone()).unwrap_or_default(),
        longest_days,
        floor: promise.floor,
        backups: backups
            .iter()
            .map(|backup| KeptBackup {
                id: backup.manifest.id.clone(),
                held: backup.attested.is_held(now),
                age_days: whole_days(backup.manifest.stopped_at, now),
            })
            .collect(),
    }
}

fn whole_days(from: Timestamp, to: Timestamp) -> u32 {
    u32::try_from(clock::between(from, to).as_secs() / DAY).unwrap_or(u32::MAX)
}

/// The longest time between two backups, at least a day: what "the last seven" may mean.
fn every_days(backups: &[Backup]) -> u32 {
    let gaps = backups.windows(2).map(|pair| whole_days(pair[0].manifest.stopped_at, pair[1].manifest.stopped_at) + 1);
    gaps.max().unwrap_or(1)
}

/// The longest time between an increment and the backup its chain begins with: all of it stays as long as it does.
fn chain_days(backups: &[Backup]) -> u32 {
    let by_id: BTreeMap<&str, &Backup> = backups.iter().map(|backup| (backup.manifest.id.as_str(), backup)).collect();
    let start = |backup: &Backup| {
        let mut first = backup.manifest.stopped_at;
        let mut parent = backup.manifest.parent.as_deref();
        // As many steps as there are backups: a circle ends too.
        for _ in backups {
            let Some(next) = parent.and_then(|id| by_id.get(id)) else { break };
            first = next.manifest.stopped_at;
            parent = next.manifest.parent.as_deref();
        }
        first
    };
    let lengths = backups.iter().filter(|backup| backup.manifest.parent.is_some());
    lengths.map(|backup| whole_days(start(backup), backup.manifest.stopped_at) + 1).max().unwrap_or_default()
}
