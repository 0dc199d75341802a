//! The old data directory of a recovery: at the live place, or where this run keeps it already.

use std::path::{Path, PathBuf};

use super::marker;
use crate::action::{FileKind, HostError, ReadFiles};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::linked::followed;
use crate::actions::postgres::cluster::placement::Placement;
use crate::base::RunId;
use crate::pgformat::{ControlFile, SystemId};

/// An old data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Old {
    /// Where it lies now.
    pub(crate) dir: PathBuf,
}

impl Old {
    /// Finds it; `None` when there is none: it was lost, or this is another machine.
    ///
    /// # Errors
    /// Fails when its place cannot be looked at.
    pub(crate) fn find(cluster: &Cluster, run: &RunId, files: &dyn ReadFiles) -> Result<Option<Self>, HostError> {
        for dir in [cluster.kept(files, run), cluster.pgdata.clone()] {
            if files.facts(&dir)?.is_some() {
                return Ok(Some(Self { dir }));
            }
        }
        Ok(None)
    }

    /// The folder of its WAL; `None` when it has none.
    ///
    /// A swap moves a linked `pg_wal` aside before it turns the link: cut off in between, the link leads
    /// nowhere, and the folder is at its kept place.
    ///
    /// # Errors
    /// Fails when the folder cannot be looked at.
    pub(crate) fn wal(&self, run: &RunId, files: &dyn ReadFiles) -> Result<Option<PathBuf>, HostError> {
        let own = self.dir.join("pg_wal");
        let Some(facts) = files.facts(&own)? else { return Ok(None) };
        if facts.kind != FileKind::Symlink {
            return Ok(Some(own));
        }
        let target = followed(&marker::target(files, &self.dir, Path::new("pg_wal"), run)?, files);
        for place in [Placement::of(files, &target).kept(&target, run), target] {
            if files.facts(&place)?.is_some() {
                return files.canonical(&place).map(Some);
            }
        }
        Ok(None)
    }

    /// Tells whether it still lists its tablespaces; a half-deleted one does not.
    ///
    /// # Errors
    /// Fails when it cannot be looked at.
    pub(crate) fn lists_tablespaces(&self, files: &dyn ReadFiles) -> Result<bool, HostError> {
        Ok(files.facts(&self.dir.join("pg_tblspc"))?.is_some())
    }

    /// The cluster that it holds, where that is another one: made anew by `initdb` or `pg_upgrade`, or in this place by mistake.
    pub(crate) fn of_another(&self, cluster: SystemId, files: &dyn ReadFiles) -> Option<SystemId> {
        self.control(files).map(|control| control.system_id).filter(|theirs| *theirs != cluster)
    }

    /// What its `pg_control` says; `None` when there is none that can be read.
    pub(crate) fn control(&self, files: &dyn ReadFiles) -> Option<ControlFile> {
        control(files, &self.dir)
    }
}

fn control(files: &dyn ReadFiles, pgdata: &Path) -> Option<ControlFile> {
    let bytes = files.read(&pgdata.join(ControlFile::PATH), 1 << 16).ok()?;
    ControlFile::parse(&bytes).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::local_files;

    #[test]
    fn a_linked_pg_wal_is_found_also_when_the_swap_was_cut_off_before_its_link_was_turned() {
        let home = tempfile::tempdir().unwrap();
        let run: RunId = "20260128-143002-3fa9c1".parse().unwrap();
        let (dir, wal) = (home.path().join("data"), home.path().join("wal"));
        fs::create_dir(&dir).unwrap();
        fs::create_dir(&wal).unwrap();
        symlink(&wal, dir.join("pg_wal")).unwrap();
        let old = Old { dir };
        let files = local_files();
        assert_eq!(old.wal(&run, files.as_ref()).unwrap(), Some(wal.canonicalize().unwrap()));
        let kept = Placement::Beside.kept(&wal, &run);
        fs::rename(&wal, &kept).unwrap();
        assert_eq!(old.wal(&run, files.as_ref()).unwrap(), Some(kept.canonicalize().unwrap()));
        fs::remove_dir(&kept).unwrap();
        assert_eq!(old.wal(&run, files.as_ref()).unwrap(), None);
    }
}
