//! The WAL that came with a backup, held against the archive before anything is restored from both.
//!
//! A recovery takes what the archive has under a name before what came with the backup, so that both must be of one history.
//! Here a difference counts only when it is proven: the last segment of a standby's backup is cut short, and a segment that a
//! recovery rescued is as well, without being another one. What cannot be read says nothing, and is for others to tell.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use tar::Archive;
use tokio_util::sync::CancellationToken;

use crate::action::{ActionError, ReadStore};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::stores::archive::{self, WalArchive};
use crate::actions::postgres::stores::inflow::Inflow;
use crate::actions::postgres::stores::other_history::OtherHistory;
use crate::actions::postgres::stores::readable::{self, Reading};
use crate::base::Digest;
use crate::catalog::{self, ManifestObject, ObjectRole, PostgresFacts};
use crate::pgformat::{SegmentName, SegmentScan, SegmentSize};
use crate::wal::{Standing, standings};

/// The most WAL of a backup that is read before a step begins.
const LITTLE_BYTES: u64 = 128 << 20;
/// The most that is read while somebody waits for the data. Only the backup of a busy server that took hours has more; it was
/// held against the archive when it was taken.
const MORE_BYTES: u64 = 512 << 20;

/// How much may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// What takes seconds, for a check.
    Little,
    /// What takes no minute, for a restore.
    More,
}

impl Effort {
    fn most_bytes(self) -> u64 {
        match self {
            Self::Little => LITTLE_BYTES,
            Self::More => MORE_BYTES,
        }
    }
}

/// The stores of a cluster's WAL, those that can be opened.
///
/// # Errors
/// Fails when the database names none.
pub(crate) fn stores(
    cluster: &Cluster,
    open: impl Fn(&str) -> Result<Arc<dyn ReadStore>, ActionError>,
) -> Result<Vec<Arc<dyn ReadStore>>, ActionError> {
    let (own, _) = cluster.archive()?;
    Ok(std::iter::once(own).chain(cluster.further()).filter_map(|name| open(name).ok()).collect())
}

/// Finds a segment of which the archive proves other records than the backup; `None` where nothing does.
pub(crate) async fn rival(
    reading: Reading<'_>,
    (cluster, stores): (&Cluster, &[Arc<dyn ReadStore>]),
    effort: Effort,
    cancel: &CancellationToken,
) -> Option<OtherHistory> {
    let (facts, (_, prefix)) = (reading.backup.manifest.postgres.as_ref()?, cluster.archive().ok()?);
    let own_wal = OwnWal { reading, facts, cancel };
    if own_wal.size_bytes() > effort.most_bytes() {
        return None;
    }
    let mut digests = None;
    for store in stores {
        let (store, place) = (store.as_ref(), (prefix, facts.system_id));
        // As a rule nothing of a backup that is not archived yet is there, and nothing need be read.
        let there = catalog::wal_keys_of(store, prefix, facts.system_id, &facts.segments()).await;
        if there.is_ok_and(|there| there.is_empty()) {
            continue;
        }
        if digests.is_none() {
            let all = facts.segments().into_iter().collect();
            digests = Some(own_wal.read(all, |bytes| Digest::of(&bytes)).await?);
        }
        let Ok(standings) = standings(store, place, digests.as_ref()?).await else { continue };
        let stores = vec![(store, archive::keys(reading.about, store.name()))];
        let wal_archive = WalArchive { stores, prefix, system_id: facts.system_id, size: facts.segment_size };
        if let Some(segment) = own_wal.apart(&wal_archive, standings).await {
            return Some(OtherHistory { segment, store: store.name().to_owned() });
        }
    }
    None
}

/// The WAL of a backup.
struct OwnWal<'a> {
    reading: Reading<'a>,
    facts: &'a PostgresFacts,
    cancel: &'a CancellationToken,
}

impl OwnWal<'_> {
    fn objects(&self) -> impl Iterator<Item = &ManifestObject> {
        self.reading.backup.manifest.objects.iter().filter(|object| object.role == ObjectRole::Wal)
    }

    fn size_bytes(&self) -> u64 {
        self.objects().map(|object| object.plain_facts().size_bytes).sum()
    }

    /// Finds the first segment that is of another history, of those that are not the same as the archive's. Histories that
    /// have parted do not meet again: the first one and the last one tell.
    async fn apart(
        &self,
        wal_archive: &WalArchive<'_>,
        standings: Vec<(SegmentName, Standing)>,
    ) -> Option<SegmentName> {
        let is_doubtful =
            |(_, standing): &&(SegmentName, Standing)| matches!(standing, Standing::Other | Standing::Begun);
        let doubtful: Vec<&(SegmentName, Standing)> = standings.iter().filter(is_doubtful).collect();
        let looked: BTreeSet<SegmentName> =
            doubtful.first().into_iter().chain(doubtful.last()).map(|(name, _)| *name).collect();
        if looked.is_empty() {
            return None;
        }
        let size = self.facts.segment_size;
        for (name, own) in self.read(looked, |bytes| bytes).await? {
            let Ok(Ok(archived)) = wal_archive.judge_segment(name).await else { continue };
            let proven = tokio::task::spawn_blocking(move || have_parted((name, size), &own, &archived)).await;
            if proven.unwrap_or_default() {
                return Some(name);
            }
        }
        None
    }

    /// Reads some segments; `None` when that cannot be done.
    async fn read<T: Send + 'static>(
        &self,
        wanted: BTreeSet<SegmentName>,
        take: impl Fn(Vec<u8>) -> T + Clone + Send + 'static,
    ) -> Option<BTreeMap<SegmentName, T>> {
        let mut all = BTreeMap::new();
        for object in self.objects() {
            let Reading { store, backup, .. } = self.reading;
            let key = backup.manifest.key_of(&backup.prefix, object).ok()?;
            let unpacking = self.reading.unpacking(object).ok()?;
            let body = unpacking.open(store.get(&key).await.ok()?, readable::expected(object));
            let (wanted, take, size) = (wanted.clone(), take.clone(), self.facts.segment_size);
            let inflow = Inflow { body, done: Arc::default() };
            let reading = inflow.read(self.cancel, move |from| {
                unpacked(from, (&wanted, size), take).map_err(|error| ActionError::fatal(error.to_string()))
            });
            all.extend(reading.await.ok()?.ok()?);
        }
        Some(all)
    }
}

/// Takes some segments out of an archive of WAL. Blocking.
fn unpacked<T>(
    from: &mut dyn Read,
    (wanted, size): (&BTreeSet<SegmentName>, SegmentSize),
    take: impl Fn(Vec<u8>) -> T,
) -> std::io::Result<BTreeMap<SegmentName, T>> {
    let mut all = BTreeMap::new();
    for entry in Archive::new(from).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let own = path.strip_prefix("./").unwrap_or(&path);
        let own = own.strip_prefix("pg_wal").unwrap_or(own);
        let name: Option<SegmentName> = own.to_str().and_then(|name| name.parse().ok());
        let Some(name) = name.filter(|name| wanted.contains(name)) else { continue };
        let mut bytes = Vec::new();
        entry.by_ref().take(size.bytes()).read_to_end(&mut bytes)?;
        all.insert(name, take(bytes));
    }
    Ok(all)
}

/// Whether two copies of a segment prove different records.
fn have_parted((name, size): (SegmentName, SegmentSize), own: &[u8], archived: &[u8]) -> bool {
    let (ours, theirs) = (SegmentScan::of(name, size, own), SegmentScan::of(name, size, archived));
    !SegmentScan::agree((&ours, own), (&theirs, archived))
}
