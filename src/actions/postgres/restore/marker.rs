//! What a restore leaves in a data directory until its recovery is proven.
//!
//! The file is written last when a backup is staged: a folder without it is not complete. It moves
//! with the data directory in the swap and is removed when the recovery is proven, so that a
//! recovery that was cut off finds out from the disk how far it came.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::flushed::Flushed;
use super::recovery_target::AskedTarget;
use super::swap::{LinkedSeat, Seat};
use crate::action::{ActionError, BackupHandle, Files, HostError, ReadFiles, Waits};
use crate::actions::postgres::cluster::layout::{Cluster, MARKER};
use crate::actions::postgres::cluster::linked::followed;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::placement::{self, Placement};
use crate::actions::postgres::cluster::wal_location::WalLocation;
use crate::base::{RunId, Timestamp};
use crate::catalog::GivenUp;
use crate::pgformat::{Lsn, SegmentName, SegmentSize, SystemId, Timeline};

/// A staged backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// The run that staged it.
    pub(crate) run: RunId,
    /// The backup.
    pub(crate) backup: BackupHandle,
    /// Where replay begins.
    pub(crate) start: Lsn,
    /// Where the backup is consistent.
    pub(crate) stop: Lsn,
    /// The backup's timeline.
    pub(crate) timeline: Timeline,
    /// The cluster.
    pub(crate) system_id: SystemId,
    /// Its segment size.
    pub(crate) segment_size: SegmentSize,
    /// When the backup began, by the primary's clock, or how far the standby was then that it was read from; `None` in a
    /// marker of an earlier version.
    #[serde(default)]
    pub(crate) started_at: Option<Timestamp>,
    /// When the backup ended, by the primary's clock.
    pub(crate) ended_at: Timestamp,
    /// Folders outside the data directory.
    pub(crate) links: Vec<Link>,
    /// The last position known to be flushed by the old server; set by the recovery before the swap.
    #[serde(default)]
    pub(crate) last_flushed: Option<Lsn>,
    /// The timeline of that position; in a marker of an earlier version the one that is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_flushed_on: Option<Timeline>,
    /// What the replay is measured against; set by the recovery before the swap.
    #[serde(default)]
    pub(crate) course: Option<Course>,
    /// Whether the server was told a target, which it then must have reached; set before the swap.
    #[serde(default)]
    pub(crate) to_target: bool,
    /// What was asked for, which is confirmed also where the server was told another thing; set before the swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) asked: Option<AskedTarget>,
    /// Whether that target is another one than a time, so that only what was reached tells how much it gave up.
    #[serde(default)]
    pub(crate) by_landmark: bool,
    /// What the live server of a drill holds beyond the archive, where it tells.
    #[serde(default)]
    pub(crate) remains: Option<Remains>,
    /// The segments that came with the backup.
    #[serde(default)]
    pub(crate) embedded: Vec<String>,
    /// Where the WAL lies that another program archived, if the recovery reads such; set before the swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wal_location: Option<WalLocation>,
    /// The timeline that this recovery opened before the end of the WAL, and stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) given_up: Option<GivenUp>,
    /// What the recovered server waits for; `None` while it is not there yet, and when it is to open.
    #[serde(default)]
    pub(crate) waits: Option<Waiting>,
    /// What was seen of the recovered server when it had opened; `None` before, and in a marker of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) opened: Option<Opened>,
}

/// What the replay is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Course {
    /// Where it began.
    pub(crate) start: Lsn,
    /// Where it is expected to end, where that is known.
    pub(crate) end: Option<Lsn>,
    /// The timeline before the promotion.
    pub(crate) timeline: Timeline,
    /// What a replay to the end of the archive has passed at its end: the end of the last record there was. With a
    /// target, and as earlier versions wrote it, where the last segment begins.
    #[serde(default)]
    pub(crate) floor: Option<Lsn>,
    /// When the last promotion on the way was, where somebody read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) promoted_at: Option<Timestamp>,
    /// When the first commit was made, or later, that another timeline got while the one that is followed was written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lost_since: Option<Timestamp>,
}

/// What lies on the live server beyond the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Remains {
    /// No commit.
    Nothing,
    /// Commits, the first of them at this time by the primary's clock.
    Since(Timestamp),
}

/// A recovery that reached its target and waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// What for.
    pub(crate) waits: Waits,
    /// Where replay is.
    pub(crate) reached: Lsn,
    /// The newest commit that was replayed, by the primary's clock.
    pub(crate) newest_commit: Option<Timestamp>,
}

/// A recovered server that has opened with all it was to replay: what it tells only until it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opened {
    /// The timeline that began there.
    pub(crate) timeline: Timeline,
    /// The newest commit that was replayed, by the primary's clock.
    pub(crate) newest_commit: Option<Timestamp>,
    /// Whether less came back than the lost server is known to have flushed, though no target asked for less.
    pub(crate) is_short: bool,
}

/// A folder outside the data directory that a link in it points to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// The link's path within the data directory.
    pub(crate) link: PathBuf,
    /// Where the folder is to live.
    pub(crate) live: PathBuf,
    /// Where it is staged.
    pub(crate) staged: PathBuf,
    /// What the link says where that is another path: one that is itself a link, or a relative one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) named: Option<PathBuf>,
}

impl Link {
    /// What the link in the data directory is to say.
    pub(crate) fn says(&self) -> &Path {
        self.named.as_deref().unwrap_or(&self.live)
    }

    /// The tablespace's number, when the link is one.
    pub(crate) fn tablespace(&self) -> Option<u32> {
        self.link.strip_prefix("pg_tblspc").ok()?.to_str()?.parse().ok()
    }
}

impl Marker {
    /// The last position known to be flushed by the old server.
    pub(crate) fn flushed(&self) -> Option<Flushed> {
        let followed = || self.course.map_or(self.timeline, |course| course.timeline);
        let timeline = self.last_flushed_on.unwrap_or_else(followed);
        self.last_flushed.map(|lsn| Flushed { timeline, lsn })
    }

    /// Remembers what the old server is known to have flushed, unless more of it is known already.
    #[must_use]
    pub(crate) fn having_flushed(self, flushed: Option<Flushed>) -> Self {
        let flushed = self.flushed().max(flushed);
        let (last_flushed, last_flushed_on) = (flushed.map(|one| one.lsn), flushed.map(|one| one.timeline));
        Self { last_flushed, last_flushed_on, ..self }
    }

    /// Whether its server has opened and was not given up: its data is its own from then on, also while nobody has proven that
    /// it archives.
    pub(crate) fn has_opened(&self) -> bool {
        self.opened.is_some() && self.given_up.is_none()
    }

    /// The segments that came with the backup.
    pub(crate) fn embedded(&self) -> BTreeSet<SegmentName> {
        self.embedded.iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// Reads the marker of a data directory; `None` when it has none.
    ///
    /// # Errors
    /// Fails when the file is there and makes no sense.
    pub(crate) fn read(files: &dyn ReadFiles, pgdata: &Path) -> Result<Option<Self>, ActionError> {
        let path = pgdata.join(MARKER);
        if !matches!(files.facts(&path), Ok(Some(_))) {
            return Ok(None);
        }
        let bytes = files.read(&path, 1 << 20).map_err(|error| unreadable(&path).because(&error))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|error| unreadable(&path).because(&error))
    }

    /// Writes the marker durably.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub(crate) fn write(&self, files: &dyn Files, pgdata: &Path, owner: &Owner) -> Result<(), ActionError> {
        let path = pgdata.join(MARKER);
        let cannot =
            |error: HostError| ActionError::retryable(format!("cannot write `{}`", path.display())).because(&error);
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| unreadable(&path).because(&error))?;
        files.replace_for(&path, &bytes, 0o600, owner.ids()).map_err(cannot)
    }

    /// Everything that moves with the data directory, what only the old cluster has included.
    pub(crate) fn seats(&self, old: &[(PathBuf, PathBuf)], run: &RunId, files: &dyn ReadFiles) -> Vec<LinkedSeat> {
        let seat = |live: &Path, staged: Option<PathBuf>| {
            let placement = Placement::of(files, live);
            Seat { live: live.to_owned(), kept: placement.kept(live, run), staged, placement }
        };
        let own = self.links.iter();
        let own = own.map(|link| LinkedSeat {
            link: link.link.clone(),
            seat: seat(&link.live, Some(link.staged.clone())),
            says: link.says().to_owned(),
        });
        let others = old.iter().filter(|(_, live)| self.links.iter().all(|link| link.live != *live));
        let others =
            others.map(|(link, live)| LinkedSeat { link: link.clone(), seat: seat(live, None), says: live.clone() });
        own.chain(others).collect()
    }
}

/// Lists the links of a data directory to folders outside: tablespaces and `pg_wal`, as link and live folder, which is no
/// link itself.
///
/// # Errors
/// Fails when a folder cannot be read.
pub(crate) fn links(files: &dyn ReadFiles, pgdata: &Path, run: &RunId) -> Result<Vec<(PathBuf, PathBuf)>, HostError> {
    let found = targets(files, pgdata, run)?;
    Ok(found.into_iter().map(|(link, target)| (link, followed(&target, files))).collect())
}

/// The same with what each link says, which may be a link itself.
///
/// # Errors
/// Fails when a folder cannot be read.
pub(crate) fn targets(files: &dyn ReadFiles, pgdata: &Path, run: &RunId) -> Result<Vec<(PathBuf, PathBuf)>, HostError> {
    let mut found = Vec::new();
    if files.facts(pgdata)?.is_none() {
        return Ok(found);
    }
    let mut candidates = vec![PathBuf::from("pg_wal")];
    let tablespaces = pgdata.join("pg_tblspc");
    if files.facts(&tablespaces)?.is_some() {
        let names = files.list(&tablespaces)?.into_iter().map(|entry| entry.name);
        candidates.extend(names.map(|name| Path::new("pg_tblspc").join(name)));
    }
    for link in candidates {
        let path = pgdata.join(&link);
        if files.facts(&path)?.is_some_and(|facts| facts.kind == crate::action::FileKind::Symlink) {
            let target = placement::unkept(&target(files, pgdata, &link, run)?, run);
            found.push((link, target));
        }
    }
    Ok(found)
}

/// Where a link in a data directory leads: a relative one from the live place, wherever a swap keeps its directory.
///
/// # Errors
/// Fails when it cannot be read.
pub(crate) fn target(files: &dyn ReadFiles, pgdata: &Path, link: &Path, run: &RunId) -> Result<PathBuf, HostError> {
    let said = files.read_link(&pgdata.join(link))?;
    if said.is_absolute() {
        return Ok(said);
    }
    let live = placement::unkept(pgdata, run);
    let folder = live.join(link.parent().unwrap_or_else(|| Path::new("")));
    let mut place = files.canonical(&folder).unwrap_or(folder);
    for part in said.components() {
        match part {
            Component::ParentDir => {
                let _not_the_root = place.pop();
            }
            Component::Normal(name) => place.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(place)
}

/// Writes `tablespace_map`, which the server obeys at its first start after a base backup.
///
/// # Errors
/// Fails when the file cannot be written.
pub(crate) fn write_tablespace_map(
    files: &dyn Files,
    pgdata: &Path,
    places: &[(u32, PathBuf)],
    owner: &Owner,
) -> Result<(), HostError> {
    let path = pgdata.join("tablespace_map");
    let lines = places.iter().map(|(oid, place)| {
        let place = place.to_string_lossy().replace('\\', "\\\\").replace('\n', "\\\n");
        format!("{oid} {place}\n")
    });
    files.replace_for(&path, lines.collect::<String>().as_bytes(), 0o600, owner.ids())
}

/// Tells whether a cluster's staged folder of this run is complete.
///
/// # Errors
/// Fails when the marker makes no sense.
pub(crate) fn staged(files: &dyn ReadFiles, cluster: &Cluster, run: &RunId) -> Result<Option<Marker>, ActionError> {
    Ok(Marker::read(files, &cluster.staged(files, run))?.filter(|marker| marker.run == *run))
}

fn unreadable(path: &Path) -> ActionError {
    ActionError::fatal(format!("`{}` makes no sense", path.display()))
}
