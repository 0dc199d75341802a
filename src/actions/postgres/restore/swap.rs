//! The swap: the old data directory moves aside, the staged one takes its place, by renames only.
//!
//! Crash-safe without a log: what to do next follows from what is on the disk ([`next`]), so that a
//! swap that was cut off anywhere is simply made again. Nothing is ever removed. The data directory
//! moves aside first and in last: in between there is none that could be started half moved.
//! Tablespaces and a linked `pg_wal` move together with it, and the content of a mount point is swapped
//! within it (facts 2.10.5).

use std::path::{Path, PathBuf};

use super::marker;
use crate::action::{ActionError, FileKind, Files, HostError};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::placement::Placement;
use crate::base::RunId;

mod seat;

pub(crate) use seat::{Seat, VERSION, carry_out, holds};
use seat::{rename, there};

/// A seat outside the data directory that a link inside it points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkedSeat {
    /// The link's path within the data directory: `pg_wal` or `pg_tblspc/16385`.
    pub(crate) link: PathBuf,
    /// The folder it leads to.
    pub(crate) seat: Seat,
    /// What it says of the live one.
    pub(crate) says: PathBuf,
}

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum There {
    /// Something.
    Yes,
    /// Nothing.
    No,
}

/// What is on the disk at a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// At the live place.
    pub(crate) live: There,
    /// At the kept place.
    pub(crate) kept: There,
    /// At the staged place.
    pub(crate) staged: There,
}

/// What a seat needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    /// The live folder moves to the kept place.
    Aside,
    /// The staged folder moves to the live place.
    In,
    /// Nothing: the staged folder is in place.
    Done,
}

/// A seat in a state that no interrupted swap leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SwapError {
    /// Somebody made a new folder at the live place after the old one was moved aside.
    #[error("a folder appeared at the live place while the old one is kept and the new one still waits")]
    Intruder,
    /// Neither the live nor the staged folder exists.
    #[error("neither the live nor the staged folder exists")]
    Lost,
}

/// Tells what a seat needs next. Pure.
///
/// # Errors
/// Fails on states that a swap never passes through.
pub(crate) fn next(seen: Seen) -> Result<Move, SwapError> {
    use There::{No, Yes};
    match (seen.live, seen.kept, seen.staged) {
        (Yes, No, Yes) => Ok(Move::Aside),
        (No, No | Yes, Yes) => Ok(Move::In),
        (Yes, No | Yes, No) => Ok(Move::Done),
        (Yes, Yes, Yes) => Err(SwapError::Intruder),
        (No, No | Yes, No) => Err(SwapError::Lost),
    }
}

/// A swap of a data directory with everything it links to.
#[derive(Debug, Clone)]
pub(crate) struct Swap {
    /// The data directory; it always has a staged place.
    pub(crate) data: Seat,
    /// What lies outside.
    pub(crate) linked: Vec<LinkedSeat>,
    /// Folders that are made in a staged one before it moves, each with that one: replay creates tablespaces there.
    pub(crate) made: Vec<(PathBuf, PathBuf)>,
    /// Who owns a folder that has to be made.
    pub(crate) owner: Owner,
}

impl Swap {
    /// Makes the swap, or what is left of it. Blocking.
    ///
    /// # Errors
    /// Fails when a rename fails or a seat is in a state no swap leaves; then nothing is lost, and
    /// the same call goes on from there.
    pub(crate) fn run(&self, files: &dyn Files) -> Result<(), ActionError> {
        self.judge(files)?;
        if self.data.next(files)? == Move::Done {
            return Ok(());
        }
        for (_, folder) in self.made.iter().filter(|(staged, _)| matches!(files.facts(staged), Ok(Some(_)))) {
            self.owner.make_folder(files, folder).map_err(moved)?;
        }
        if self.data.next(files)? == Move::Aside {
            self.data.put_aside(files)?;
        }
        for linked in &self.linked {
            aside(files, &linked.seat)?;
            relink(files, &self.data.kept.join(&linked.link), &linked.seat.kept)?;
        }
        for linked in &self.linked {
            self.bring_in(files, &linked.seat)?;
        }
        if let Some(staged) = &self.data.staged {
            for linked in &self.linked {
                relink(files, &staged.join(&linked.link), &linked.says)?;
            }
        }
        self.data.bring_in(files, &self.owner)
    }

    /// Looks at every seat before anything moves: what cannot be moved is refused while all is in place.
    ///
    /// # Errors
    /// Fails on a seat in a state no swap leaves, on one whose parent is not there, and on one that cannot be moved by itself.
    pub(crate) fn judge(&self, files: &dyn Files) -> Result<(), ActionError> {
        if self.data.next(files)? != Move::Done {
            self.refuse_obstacle(files)?;
        }
        for seat in std::iter::once(&self.data).chain(self.linked.iter().map(|linked| &linked.seat)) {
            movable(files, seat)?;
        }
        for linked in &self.linked {
            if linked.seat.staged.is_some() {
                linked.seat.next(files)?;
            }
        }
        Ok(())
    }

    fn bring_in(&self, files: &dyn Files, seat: &Seat) -> Result<(), ActionError> {
        if seat.staged.is_none() {
            if there(files, &seat.live)? == There::No {
                files.create_dir(&seat.live, 0o700).map_err(moved)?;
                files.chown(&seat.live, self.owner.uid, self.owner.gid).map_err(moved)?;
            }
            return Ok(());
        }
        match seat.next(files)? {
            Move::In => seat.bring_in(files, &self.owner),
            Move::Done => Ok(()),
            Move::Aside => Err(at(&seat.live, SwapError::Intruder)),
        }
    }
}

/// Ends what a swap of `run` left half moved within mount points, before anybody looks at the folders.
///
/// # Errors
/// Fails when a server lives there, and when a name cannot be moved.
pub(crate) async fn settle(
    (cluster, owner): (&Cluster, &Owner),
    run: &RunId,
    files: &dyn Files,
) -> Result<(), ActionError> {
    let seat = |live: &Path, placement: Placement| Seat {
        live: live.to_owned(),
        kept: placement.kept(live, run),
        staged: Some(placement.staged(live, run)),
        placement,
    };
    let data = seat(&cluster.pgdata, cluster.placement(files));
    if data.is_under_way(files)? {
        live::refuse(cluster, files).await?;
        data.settle(files, owner)?;
    }
    for (_, live) in marker::links(files, &data.kept, run).map_err(moved)? {
        let linked = Seat { staged: None, ..seat(&live, Placement::of(files, &live)) };
        linked.settle(files, owner)?;
    }
    Ok(())
}

/// Refuses a place that is on no disk that is there.
fn movable(files: &dyn Files, seat: &Seat) -> Result<(), ActionError> {
    let Some(parent) = seat.live.parent() else { return Ok(()) };
    if there(files, &seat.live)? == There::No && there(files, parent)? == There::No {
        let fact = format!("`{}` is to be made, but its parent folder is not there", seat.live.display());
        return Err(ActionError::fatal(fact).help("mount or make the parent folder; nothing was touched"));
    }
    Ok(())
}

fn aside(files: &dyn Files, seat: &Seat) -> Result<(), ActionError> {
    let due = match seat.staged {
        Some(_) => seat.next(files)? == Move::Aside,
        None => {
            let seen = seat.see(files)?;
            seen.live == There::Yes && seen.kept == There::No && !is_empty(files, &seat.live)?
        }
    };
    if due { seat.put_aside(files) } else { Ok(()) }
}

/// An empty folder holds nothing to keep: maybe this swap made it before it was cut off.
fn is_empty(files: &dyn Files, folder: &Path) -> Result<bool, ActionError> {
    let facts = files.facts(folder).map_err(moved)?;
    let is_folder = facts.is_some_and(|facts| facts.kind == FileKind::Directory);
    Ok(is_folder && files.list(folder).map_err(moved)?.is_empty())
}

/// Points an existing link somewhere else; what is no link stays as it is.
fn relink(files: &dyn Files, link: &Path, target: &Path) -> Result<(), ActionError> {
    let Some(facts) = files.facts(link).map_err(moved)? else { return Ok(()) };
    if facts.kind != FileKind::Symlink || files.read_link(link).map_err(moved)? == target {
        return Ok(());
    }
    let fresh = link.with_extension("runbook-new");
    if files.facts(&fresh).map_err(moved)?.is_some() {
        files.remove_file(&fresh).map_err(moved)?;
    }
    files.symlink(target, &fresh).map_err(moved)?;
    files.chown(&fresh, facts.uid, facts.gid).map_err(moved)?;
    rename(files, &fresh, link)
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn moved(error: HostError) -> ActionError {
    ActionError::fatal("the swap of the data directory stopped; nothing is lost").because(&error)
}

fn at(place: &Path, error: SwapError) -> ActionError {
    ActionError::fatal(format!("cannot swap `{}`", place.display()))
        .because(&error)
        .help("look at the folders ending in `.runbook-old-…` and `.runbook-staged-…` beside it; nothing was removed")
}

#[cfg(test)]
mod tests;
