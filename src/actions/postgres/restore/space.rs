//! Whether a restore fits: the data, each tablespace and a linked `pg_wal` count on the file system they will lie on, and
//! so does the WAL that the recovery keeps there for a while. WAL that is fetched ahead makes sure of its room by itself.

use std::path::{Path, PathBuf};

use super::marker;
use crate::action::ReadFiles;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::linked::followed;
use crate::actions::postgres::cluster::placement::Placement;
use crate::base::RunId;
use crate::base::units::ByteSize;
use crate::catalog::{Backup, Manifest, ManifestObject, ObjectRole};
use crate::wal::outlook::BESIDE_REPLAY;

/// The WAL that a server in recovery may keep in `pg_wal` between two restartpoints, a rule of thumb: half of the default
/// of `max_wal_size` (manual, "WAL Configuration"). So much of what there is to replay it keeps in any case: every segment
/// that it fetches stays until a restartpoint.
const REPLAYED_BYTES: u64 = 512 << 20;

/// What is known of the WAL that will be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replay {
    /// Nothing yet.
    Unknown,
    /// So many bytes of segments.
    Bytes(u64),
}

impl Replay {
    /// What the server may have of WAL at most, with what it has `beside` the replayed.
    fn most(self, beside: u64) -> u64 {
        match self {
            Self::Unknown => beside + 2 * REPLAYED_BYTES,
            Self::Bytes(bytes) => beside + bytes.min(2 * REPLAYED_BYTES),
        }
    }

    /// What the server has of WAL in any case, with what it has `beside` the replayed, and what it may keep on top.
    fn kept(self, beside: u64) -> [u64; 2] {
        match self {
            Self::Unknown => [beside, REPLAYED_BYTES.saturating_sub(beside)],
            Self::Bytes(bytes) => {
                let least = bytes.min(REPLAYED_BYTES);
                // A restartpoint needs a while itself.
                [least + beside, bytes.min(2 * REPLAYED_BYTES) - least]
            }
        }
    }
}

/// What a restore needs on one file system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Need {
    device: u64,
    path: PathBuf,
    /// What it writes.
    bytes: u64,
    /// The WAL without which its recovery cannot end.
    least: u64,
    /// What the recovery may need on top.
    reserve: u64,
    /// The WAL that may lie there at most.
    most: u64,
}

/// Whether a restore fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It does.
    Well,
    /// The backup does, but the recovery after it may run out of space.
    Tightly(String),
    /// It does not.
    Not(String),
}

/// Where a restore would write.
pub(crate) struct Site<'a> {
    /// The cluster.
    pub(crate) cluster: &'a Cluster,
    /// The run.
    pub(crate) run: &'a RunId,
    /// The files there.
    pub(crate) files: &'a dyn ReadFiles,
}

/// What lies side by side while a backup is restored: itself; with increments each of them, and what becomes of them, for
/// which the full one stands.
pub(crate) fn parts(links: &[Backup]) -> Vec<&Manifest> {
    let all = links.iter().map(|link| &link.manifest);
    let whole = links.first().filter(|_| links.len() > 1).map(|link| &link.manifest);
    all.chain(whole).collect()
}

impl Site<'_> {
    /// Says whether `manifests`, which are restored side by side, fit when `gain` comes free on each device before.
    pub(crate) fn fit(&self, manifests: &[&Manifest], gain: &[(u64, u64)], replay: Replay) -> Fit {
        let wal = self.wal();
        let mut needs: Vec<Need> = Vec::new();
        for (manifest, object) in manifests.iter().flat_map(|one| one.objects.iter().map(move |object| (one, object))) {
            let place = self.place(manifest, object, &wal);
            self.add(&mut needs, &place, [object.plain_facts().size_bytes, 0, 0, 0]);
        }
        let segments = manifests.iter().filter_map(|manifest| Some(manifest.postgres.as_ref()?.segment_size.bytes()));
        let beside = segments.max().unwrap_or_default() * BESIDE_REPLAY;
        let [least, reserve] = replay.kept(beside);
        self.add(&mut needs, &wal, [0, least, reserve, replay.most(beside)]);
        let judged = needs.into_iter().map(|need| self.judge(&need, gain));
        judged.fold(Fit::Well, |worst, fit| match (worst, fit) {
            (Fit::Not(fact), _) | (_, Fit::Not(fact)) => Fit::Not(fact),
            (Fit::Tightly(fact), _) | (_, Fit::Tightly(fact)) => Fit::Tightly(fact),
            (Fit::Well, Fit::Well) => Fit::Well,
        })
    }

    /// Where WAL will lie: where a link of the old data directory leads, which a restore keeps.
    fn wal(&self) -> PathBuf {
        let own = self.cluster.pgdata.join("pg_wal");
        if self.cluster.is_scratch() {
            return own;
        }
        let links = marker::links(self.files, &self.cluster.pgdata, self.run).unwrap_or_default();
        links.into_iter().find(|(link, _)| link == Path::new("pg_wal")).map_or(own, |(_, place)| place)
    }

    fn place(&self, manifest: &Manifest, object: &ManifestObject, wal: &Path) -> PathBuf {
        if object.role == ObjectRole::Wal {
            return wal.to_owned();
        }
        let tablespace =
            object.tablespace.and_then(|oid| manifest.postgres.as_ref()?.tablespaces.iter().find(|one| one.oid == oid));
        tablespace
            .map_or_else(|| self.cluster.pgdata.clone(), |one| followed(&self.cluster.tablespace(one), self.files))
    }

    fn add(&self, needs: &mut Vec<Need>, place: &Path, [bytes, least, reserve, most]: [u64; 4]) {
        let above = match Placement::of(self.files, place) {
            Placement::Beside => 1,
            Placement::Inside => 0,
        };
        let device = |path: &Path| Some((path.to_owned(), self.files.facts(path).ok()??.device));
        let Some((path, device)) = place.ancestors().skip(above).find_map(device) else { return };
        match needs.iter_mut().find(|need| need.device == device) {
            Some(need) => {
                (need.bytes, need.least) = (need.bytes + bytes, need.least + least);
                (need.reserve, need.most) = (need.reserve + reserve, need.most + most);
            }
            None => needs.push(Need { device, path, bytes, least, reserve, most }),
        }
    }

    fn judge(&self, need: &Need, gain: &[(u64, u64)]) -> Fit {
        let gained: u64 = gain.iter().filter(|(device, _)| *device == need.device).map(|(_, bytes)| bytes).sum();
        let Ok(space) = self.files.space(&need.path) else { return Fit::Well };
        let free = space.free_bytes.saturating_add(gained);
        let with = if gained > 0 { " with what is removed first" } else { "" };
        let (shown, needed) = (ByteSize(free), ByteSize(need.bytes));
        let fact = format!("`{}` has {shown} free{with}, the backup needs {needed}", need.path.display());
        let least = need.bytes.saturating_add(need.least);
        // Later looks know more of the WAL: what is freed for this one shall do for them.
        let most = ByteSize(need.bytes.saturating_add(need.most));
        if free < least {
            let wal = format!(", and its replay at least {} of WAL", ByteSize(need.least));
            let wal = if need.least > 0 { wal } else { String::new() };
            return Fit::Not(format!("{fact}{wal}: {most} free is room for all of it"));
        }
        match free < least.saturating_add(need.reserve) {
            true => {
                Fit::Tightly(format!("{fact}, and its replay may keep {} of WAL", ByteSize(need.least + need.reserve)))
            }
            false => Fit::Well,
        }
    }
}
