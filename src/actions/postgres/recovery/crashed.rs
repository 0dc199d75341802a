//! A server that went down at work, on data that is still its own: a start brings it back by crash recovery, in seconds and
//! with every commit. Nothing is to be restored before that was tried.

use std::path::{Path, PathBuf};

use crate::action::{FileKind, ReadFiles};
use crate::actions::postgres::cluster::ha_manager::Fact;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::pg_control;
use crate::actions::postgres::cluster::server::with_programs;
use crate::actions::postgres::restore::dismantled;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::restore::swap::VERSION;
use crate::base::units::ByteSize;
use crate::pgformat::{ClusterState, ControlFile, SegmentName};

/// What a data directory has that is not simply that of a server which crashed: a backup that was laid down, a standby, a recovery.
const SIGNALS: [&str; 4] = ["backup_label", "standby.signal", "recovery.signal", "recovery.conf"];

/// What no server starts without.
const FOLDERS: [&str; 4] = ["base", "global", "pg_xact", "pg_wal"];

/// Whether the data is that of a server which crashed, as far as a look tells: its own, whole, with the WAL that crash recovery
/// begins at (manual, "WAL Internals").
pub(super) fn is_one(cluster: &Cluster, files: &dyn ReadFiles) -> bool {
    let is_there = |name: &str| matches!(files.facts(&cluster.pgdata.join(name)), Ok(Some(_)));
    let is_own =
        Marker::read(files, &cluster.pgdata).is_ok_and(|marker| marker.is_none_or(|marker| marker.has_opened()));
    let Ok(control) = pg_control::control(files, &cluster.pgdata) else { return false };
    let was_at_work = match control.state {
        ClusterState::InProduction | ClusterState::ShuttingDown | ClusterState::InCrashRecovery => true,
        ClusterState::Startup
        | ClusterState::ShutDown
        | ClusterState::ShutDownInRecovery
        | ClusterState::InArchiveRecovery => false,
    };
    is_own
        && was_at_work
        && !control.backup_end_required
        && !dismantled::is_one(files, &cluster.pgdata)
        && is_there(VERSION)
        && FOLDERS.iter().all(|name| is_there(name))
        && !SIGNALS.iter().any(|name| is_there(name))
        && has_its_wal(cluster, &control, files)
        && spaces(cluster, files).iter().all(|place| matches!(files.facts(place), Ok(Some(_))))
}

/// What is said of such a server before its data is moved aside; `None` of any other.
pub(super) fn told(cluster: &Cluster, files: &dyn ReadFiles) -> Option<Fact> {
    if cluster.is_scratch() || !is_one(cluster, files) {
        return None;
    }
    let found = with_programs(cluster, files);
    let start = found.service_manager().start_by_hand(&found);
    let full = full_disks(cluster, files).iter().map(|disk| format!("; {disk}")).collect::<String>();
    Some(Fact {
        what: format!(
            "the server of `{}` does not run, but it was at work until it went down, and its data looks whole{full}",
            cluster.name
        ),
        help: format!(
            "read its log and start it first: `{start}`; crash recovery brings back every commit, and takes seconds or minutes. \
             Restore only if it does not come up"
        ),
    })
}

/// The disks of a data directory and of its `pg_wal` on which no segment of WAL can be made any more, in words.
pub(super) fn full_disks(cluster: &Cluster, files: &dyn ReadFiles) -> Vec<String> {
    let control = pg_control::control(files, &cluster.pgdata);
    let least = control.map_or(16 << 20, |control: ControlFile| control.segment_size.bytes());
    let mut devices = Vec::new();
    let mut full = Vec::new();
    for place in [cluster.pgdata.clone(), wal(cluster, files)] {
        // What lies behind a link counts, as on the disk that it lies on.
        let Ok(place) = files.canonical(&place) else { continue };
        let (Ok(Some(facts)), Ok(space)) = (files.facts(&place), files.space(&place)) else { continue };
        if devices.contains(&facts.device) {
            continue;
        }
        devices.push(facts.device);
        // Some file systems of a network tell nothing at all.
        if space.total_bytes > 0 && space.free_bytes < least {
            let free = ByteSize(space.free_bytes);
            full.push(format!(
                "the disk of `{}` is full ({free} free): make room first, but never in `pg_wal`",
                place.display()
            ));
        }
    }
    full
}

fn wal(cluster: &Cluster, files: &dyn ReadFiles) -> PathBuf {
    followed(&cluster.pgdata, "pg_wal", files)
}

/// A folder of the data directory, where a link leads if it is one.
fn followed(pgdata: &Path, name: &str, files: &dyn ReadFiles) -> PathBuf {
    let place = pgdata.join(name);
    match files.facts(&place) {
        Ok(Some(facts)) if facts.kind == FileKind::Symlink => {
            files.read_link(&place).map_or(place, |target| pgdata.join(target))
        }
        Ok(_) | Err(_) => place,
    }
}

/// Whether the segment is there that crash recovery begins in. On which timeline does not matter: the newest checkpoint may be
/// from before a promotion.
fn has_its_wal(cluster: &Cluster, control: &ControlFile, files: &dyn ReadFiles) -> bool {
    let size = control.segment_size;
    let wanted = size.number_of(control.redo);
    let names = files.list(&wal(cluster, files)).unwrap_or_default();
    let mut segments = names.iter().filter_map(|entry| entry.name.to_str()?.parse::<SegmentName>().ok());
    segments.any(|name| name.number(size) == wanted)
}

/// Where the links of its tablespaces lead.
fn spaces(cluster: &Cluster, files: &dyn ReadFiles) -> Vec<PathBuf> {
    let folder = cluster.pgdata.join("pg_tblspc");
    let links = files.list(&folder).unwrap_or_default();
    links.iter().map(|link| followed(&folder, &link.name.to_string_lossy(), files)).collect()
}
