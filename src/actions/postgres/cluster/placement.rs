//! Where a folder that a restore replaces has its neighbours: beside it, or inside it where it is a mount point.
//!
//! No rename moves a mount point, and what lies beside one lies on another disk. So the staged and the kept content lie
//! in folders within, under names that begin with `pgsql_tmp`: neither base backups nor `pg_rewind` take such a
//! folder along (manual, "Streaming Replication Protocol", `BASE_BACKUP`).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::action::{FileKind, ReadFiles};
use crate::base::{RunId, mounts};

/// What the names of our folders within a mount point begin with.
pub(crate) const INSIDE: &str = "pgsql_tmp.runbook-";
const KEPT: &str = "old-";
const STAGED: &str = "staged-";
/// What the name of a folder ends with whose content is just being moved.
const UNDER_WAY: &str = ".part";

/// Where the neighbours of a folder lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// In the same parent folder: it is swapped by rename.
    Beside,
    /// In the folder itself, which is a mount point: its content is swapped.
    Inside,
}

impl Placement {
    /// Looks whether `live` is a mount point: it lies on another device than its parent, or the system lists it as one.
    pub(crate) fn of(files: &dyn ReadFiles, live: &Path) -> Self {
        let facts = |path: &Path| files.facts(path).ok().flatten();
        let (Some(own), Some(parent)) = (facts(live), live.parent().and_then(facts)) else { return Self::Beside };
        if own.kind != FileKind::Directory {
            return Self::Beside;
        }
        if own.device != parent.device || is_listed(files, live) { Self::Inside } else { Self::Beside }
    }

    /// The place that a restore of `run` fills for `live`.
    pub(crate) fn staged(self, live: &Path, run: &RunId) -> PathBuf {
        self.place(live, &format!("{STAGED}{run}"))
    }

    /// The place that keeps what was in `live` before `run`.
    pub(crate) fn kept(self, live: &Path, run: &RunId) -> PathBuf {
        self.place(live, &format!("{KEPT}{run}"))
    }

    /// The place for configuration files that a restore of `run` brings from outside of `live`.
    pub(crate) fn config(self, live: &Path, run: &RunId) -> PathBuf {
        self.place(live, &format!("config-{run}"))
    }

    /// Where a person puts what `run` recovered, to take the old data back.
    pub(crate) fn abandoned(self, live: &Path, run: &RunId) -> PathBuf {
        self.place(live, &format!("abandoned-{run}"))
    }

    /// Where a try of `run` makes room for the next.
    pub(crate) fn tried(self, live: &Path, run: &RunId) -> PathBuf {
        self.place(live, &format!("tried-{run}"))
    }

    fn place(self, live: &Path, name: &str) -> PathBuf {
        match self {
            Self::Beside => with_suffix(live, &format!(".runbook-{name}")),
            Self::Inside => live.join(format!("{INSIDE}{name}")),
        }
    }
}

/// The place whose content is just being moved to or from `place`.
pub(crate) fn under_way(place: &Path) -> PathBuf {
    with_suffix(place, UNDER_WAY)
}

/// Gives back the live place of a kept one; any other path as it is.
pub(crate) fn unkept(path: &Path, run: &RunId) -> PathBuf {
    if path.file_name() == Some(OsStr::new(&format!("{INSIDE}{KEPT}{run}"))) {
        return path.parent().map_or_else(|| path.to_owned(), Path::to_owned);
    }
    let suffix = format!(".runbook-{KEPT}{run}");
    path.to_str().and_then(|text| text.strip_suffix(&suffix)).map_or_else(|| path.to_owned(), PathBuf::from)
}

/// Gives back the live place of a staged one; any other path as it is.
pub(crate) fn unstaged(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name.starts_with(&format!("{INSIDE}{STAGED}")) {
        return path.parent().map_or_else(|| path.to_owned(), Path::to_owned);
    }
    path.with_file_name(name.split(".runbook-").next().unwrap_or_default())
}

/// Whether a name within a mount point is none of the content: one of our own folders, or the file system's.
pub(crate) fn is_foreign(name: &OsStr) -> bool {
    name.as_bytes().starts_with(INSIDE.as_bytes()) || name == "lost+found"
}

/// The path with something appended to its last name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, ToOwned::to_owned);
    name.push(suffix);
    path.with_file_name(name)
}

/// A bind mount may lie on its parent's own device.
fn is_listed(files: &dyn ReadFiles, live: &Path) -> bool {
    let Ok(live) = files.canonical(live) else { return false };
    let Ok(list) = files.read(Path::new(mounts::LIST), 16 << 20) else { return false };
    mounts::places(&list).any(|place| place == live)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;

    fn run() -> RunId {
        "20260128-143002-3fa9c1".parse().unwrap()
    }

    #[test]
    fn neighbours_of_a_mount_point_lie_inside_and_lead_back_to_it() {
        let live = Path::new("/data/main");
        for placement in [Placement::Beside, Placement::Inside] {
            assert_eq!(unkept(&placement.kept(live, &run()), &run()), live, "{placement:?}");
            assert_eq!(unstaged(&placement.staged(live, &run())), live, "{placement:?}");
        }
        assert!(Placement::Inside.kept(live, &run()).starts_with(live));
        assert!(is_foreign(Placement::Inside.staged(live, &run()).file_name().unwrap()));
        assert!(is_foreign(OsStr::new("lost+found")) && !is_foreign(OsStr::new("pgsql_tmp")));
    }
}
