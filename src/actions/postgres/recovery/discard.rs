//! A second try in one run, to an earlier target: the first one, which waits or failed, makes room.
//!
//! It was made by this run from a backup and never opened, so nothing is lost with it; what was there before
//! the first try stays where it is kept. The data directory moves first: where it lies aside, every other folder that
//! is both in place and staged anew is of that try, too.

use std::path::Path;

use crate::action::{ActionError, FileKind, Files, HostError};
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::cluster::pg_control::cannot;
use crate::actions::postgres::cluster::placement::Placement;
use crate::actions::postgres::cluster::settings::{RECOVERY_SIGNAL, STANDBY_SIGNAL};
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::restore::swap::{carry_out, holds};
use crate::base::RunId;

/// Moves the waiting try of this run out of the way of what is `staged`; nothing to do where there is none.
///
/// # Errors
/// Fails when its server does not end, and when a folder cannot be moved.
pub(crate) async fn set_aside(
    context: &RecoveryContext<'_>,
    (staged, waiting): (&Marker, Option<&Marker>),
    files: &dyn Files,
) -> Result<(), ActionError> {
    let (cluster, run) = (context.cluster, &context.cx.about.run);
    if waiting.is_some() && in_recovery(files, &cluster.pgdata).map_err(|error| cannot(&error))? {
        if !live::signs(cluster, files).await?.is_empty() {
            context.server(files)?.stop(context.cx.host.as_ref()).await?;
        }
        aside(files, (&cluster.pgdata, cluster.placement(files)), run).map_err(|error| cannot(&error))?;
        let message = "the first try, which was never opened, makes room for the next".to_owned();
        context.cx.reporter.note(message, serde_json::Value::Null);
    }
    if !is_there(files, &cluster.placement(files).tried(&cluster.pgdata, run)).map_err(|error| cannot(&error))? {
        return Ok(());
    }
    for link in &staged.links {
        let placement = Placement::of(files, &link.live);
        let of_try = holds(files, &link.live, placement).and_then(|live| Ok(live && is_there(files, &link.staged)?));
        if of_try.map_err(|error| cannot(&error))? {
            aside(files, (&link.live, placement), run).map_err(|error| cannot(&error))?;
        }
    }
    Ok(())
}

/// Whether a server never opened since it was restored: it takes the file away when it does.
fn in_recovery(files: &dyn Files, pgdata: &Path) -> Result<bool, HostError> {
    Ok(is_there(files, &pgdata.join(RECOVERY_SIGNAL))? || is_there(files, &pgdata.join(STANDBY_SIGNAL))?)
}

/// Removes what made room, once the next try is in its place.
///
/// # Errors
/// Fails when a folder cannot be removed.
pub(crate) fn remove(context: &RecoveryContext<'_>, marker: &Marker, files: &dyn Files) -> Result<(), ActionError> {
    let cluster = context.cluster;
    let links = marker.links.iter().map(|link| (link.live.as_path(), Placement::of(files, &link.live)));
    for (live, placement) in links.chain([(cluster.pgdata.as_path(), cluster.placement(files))]) {
        let path = placement.tried(live, &context.cx.about.run);
        if is_there(files, &path).map_err(|error| cannot(&error))? {
            files.remove_tree(&path).map_err(|error| cannot(&error))?;
        }
    }
    Ok(())
}

/// All of it is thrown away in the end: what an earlier call left at the target goes at once.
fn aside(files: &dyn Files, (live, placement): (&Path, Placement), run: &RunId) -> Result<(), HostError> {
    let path = placement.tried(live, run);
    match placement {
        Placement::Beside => {
            if is_there(files, &path)? {
                files.remove_tree(&path)?;
            }
            files.rename(live, &path)?;
            live.parent().map_or(Ok(()), |parent| files.sync(parent))
        }
        Placement::Inside => {
            if is_there(files, &path)? {
                for entry in files.list(&path)? {
                    let left = path.join(&entry.name);
                    if entry.facts.kind == FileKind::Directory {
                        files.remove_tree(&left)?;
                    } else {
                        files.remove_file(&left)?;
                    }
                }
            }
            files.create_dir(&path, 0o700)?;
            carry_out(files, live, &path)
        }
    }
}

fn is_there(files: &dyn Files, path: &Path) -> Result<bool, HostError> {
    Ok(files.facts(path)?.is_some())
}
