//! One folder of a swap with its neighbours, and how its content moves: by one rename, or entry by entry within a
//! mount point.
//!
//! Within a mount point a folder whose name ends in `.part` says that its content is just being moved, so that a swap that
//! was cut off goes on in the same direction. `PG_VERSION` leaves first and comes last but one: no server starts from
//! what is half moved. Our own marker comes last, since it says that all is there.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::{Move, Seen, There, at, moved, next};
use crate::action::{ActionError, FileKind, Files, HostError, ReadFiles};
use crate::actions::postgres::cluster::layout::MARKER;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::placement::{Placement, is_foreign, under_way};
use crate::actions::postgres::cluster::settings::{RECOVERY_SIGNAL, STANDBY_SIGNAL};

/// Without this file a folder is no data directory, and no server starts in it.
pub(crate) const VERSION: &str = "PG_VERSION";

/// A folder with its two neighbours during a swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seat {
    /// Where the server looks.
    pub(crate) live: PathBuf,
    /// Where what was there before is kept.
    pub(crate) kept: PathBuf,
    /// Where the new content waits; `None`: an empty folder takes the place.
    pub(crate) staged: Option<PathBuf>,
    /// Where the neighbours lie.
    pub(crate) placement: Placement,
}

impl Seat {
    /// What is on the disk. Content that is on its way counts where it comes from.
    pub(super) fn see(&self, files: &dyn ReadFiles) -> Result<Seen, ActionError> {
        let kept = there(files, &self.kept)?;
        let staged = self.staged.as_deref();
        match self.placement {
            Placement::Beside => {
                let staged = staged.map_or(Ok(There::No), |path| there(files, path))?;
                Ok(Seen { live: there(files, &self.live)?, kept, staged })
            }
            Placement::Inside => {
                let coming = staged.map_or(Ok(There::No), |path| there(files, &under_way(path)))?;
                let staged = staged.map_or(Ok(There::No), |path| there(files, path))?;
                let live = match (coming, there(files, &under_way(&self.kept))?) {
                    (There::Yes, There::Yes | There::No) => There::No,
                    (There::No, There::Yes) => There::Yes,
                    (There::No, There::No) => filled(files, &self.live)?,
                };
                let staged = if coming == There::Yes { coming } else { staged };
                Ok(Seen { live, kept, staged })
            }
        }
    }

    /// Tells what it needs next.
    pub(super) fn next(&self, files: &dyn ReadFiles) -> Result<Move, ActionError> {
        next(self.see(files)?).map_err(|error| at(&self.live, error))
    }

    /// Moves the live content to the kept place.
    pub(super) fn put_aside(&self, files: &dyn Files) -> Result<(), ActionError> {
        match self.placement {
            Placement::Beside => rename(files, &self.live, &self.kept),
            Placement::Inside => {
                let part = under_way(&self.kept);
                let facts = files.facts(&self.live).map_err(moved)?;
                files.create_dir(&part, 0o700).map_err(moved)?;
                if let Some(facts) = facts {
                    files.chown(&part, facts.uid, facts.gid).map_err(moved)?;
                }
                files.sync(&self.live).map_err(moved)?;
                carry_out(files, &self.live, &part).map_err(moved)?;
                rename(files, &part, &self.kept)
            }
        }
    }

    /// Moves the staged content to the live place, which is empty.
    pub(super) fn bring_in(&self, files: &dyn Files, owner: &Owner) -> Result<(), ActionError> {
        let Some(staged) = &self.staged else { return Ok(()) };
        match self.placement {
            Placement::Beside => rename(files, staged, &self.live),
            Placement::Inside => {
                let part = under_way(staged);
                if there(files, &part)? == There::No {
                    rename(files, staged, &part)?;
                }
                carry_in(files, &part, &self.live).map_err(moved)?;
                files.remove_tree(&part).map_err(moved)?;
                files.chown(&self.live, owner.uid, owner.gid).map_err(moved)?;
                files.chmod(&self.live, 0o700).map_err(moved)?;
                files.sync(&self.live).map_err(moved)
            }
        }
    }

    /// Ends what was cut off within a mount point: afterwards its content lies in one place.
    ///
    /// # Errors
    /// Fails when a name cannot be moved; the same call goes on from there.
    pub(super) fn settle(&self, files: &dyn Files, owner: &Owner) -> Result<(), ActionError> {
        if self.placement == Placement::Beside {
            return Ok(());
        }
        if there(files, &under_way(&self.kept))? == There::Yes {
            self.put_aside(files)?;
        }
        if let Some(staged) = &self.staged
            && there(files, &under_way(staged))? == There::Yes
        {
            return self.bring_in(files, owner);
        }
        Ok(())
    }

    /// Whether its content is just on its way.
    pub(super) fn is_under_way(&self, files: &dyn ReadFiles) -> Result<bool, ActionError> {
        let places = std::iter::once(&self.kept).chain(&self.staged);
        for place in places {
            if self.placement == Placement::Inside && there(files, &under_way(place))? == There::Yes {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether a folder within a mount point, or a folder at all, holds anything.
///
/// # Errors
/// Fails when it cannot be looked at.
pub(crate) fn holds(files: &dyn ReadFiles, live: &Path, placement: Placement) -> Result<bool, HostError> {
    let Some(facts) = files.facts(live)? else { return Ok(false) };
    match placement {
        Placement::Beside => Ok(true),
        Placement::Inside if facts.kind != FileKind::Directory => Ok(false),
        Placement::Inside => Ok(!content(files, live)?.is_empty()),
    }
}

/// Moves the content of a mount point into a folder within.
///
/// # Errors
/// Fails when a name cannot be moved; the same call goes on from there.
pub(crate) fn carry_out(files: &dyn Files, live: &Path, to: &Path) -> Result<(), HostError> {
    let mut names = content(files, live)?;
    names.sort_by_key(|name| if name == VERSION { 0 } else { rank(name) });
    for name in &names {
        files.rename(&live.join(name), &to.join(name))?;
        if name == VERSION {
            files.sync(live)?;
        }
    }
    files.sync(to)?;
    files.sync(live)
}

fn carry_in(files: &dyn Files, from: &Path, live: &Path) -> Result<(), HostError> {
    let mut names: Vec<OsString> = files.list(from)?.into_iter().map(|entry| entry.name).collect();
    names.sort_by_key(|name| rank(name));
    for name in &names {
        if name == VERSION || name == MARKER {
            files.sync(live)?;
        }
        files.rename(&from.join(name), &live.join(name))?;
    }
    files.sync(live)
}

/// Who goes after whom: what tells that a recovery is under way stays longest.
fn rank(name: &OsStr) -> u8 {
    match name.to_str() {
        Some(RECOVERY_SIGNAL | STANDBY_SIGNAL) => 2,
        Some(VERSION) => 3,
        Some(MARKER) => 4,
        Some(_) | None => 1,
    }
}

/// The names of a mount point's content, without our own folders in it.
fn content(files: &dyn ReadFiles, live: &Path) -> Result<Vec<OsString>, HostError> {
    let names = files.list(live)?.into_iter().map(|entry| entry.name);
    Ok(names.filter(|name| !is_foreign(name)).collect())
}

fn filled(files: &dyn ReadFiles, live: &Path) -> Result<There, ActionError> {
    Ok(if holds(files, live, Placement::Inside).map_err(moved)? { There::Yes } else { There::No })
}

pub(super) fn there(files: &dyn ReadFiles, path: &Path) -> Result<There, ActionError> {
    Ok(if files.facts(path).map_err(moved)?.is_some() { There::Yes } else { There::No })
}

pub(super) fn rename(files: &dyn Files, from: &Path, to: &Path) -> Result<(), ActionError> {
    files.rename(from, to).map_err(moved)?;
    to.parent().map_or(Ok(()), |parent| files.sync(parent)).map_err(moved)
}
