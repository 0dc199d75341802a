//! Stages a backup from another store of the database where the copy that was chosen turns out to be of no use.
//!
//! A backup that went to several stores has one manifest in each. Damage is found while it is read, long after the
//! choice: whoever waits for the restore is served by the whole copy, not by an older backup or by an error.

use std::sync::Arc;

use serde_json::json;

use super::existing::Existing;
use super::restore_base::{RestoreBaseOutput, place};
use super::stage::{Unstaged, stage};
use crate::action::{
    Access, ActionError, BackupHandle, CheckContext, Effects, Findings, ReadStore, RunContext, Surroundings, Target,
};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::stores::archive;
use crate::actions::postgres::stores::readable::{Reading, TRIED};
use crate::catalog::{self, Backup, KIND_POSTGRES_BASE, Query};
use crate::event::ErrorClass;

/// Stages the chosen copy as [`stage`] does, and where the copy itself is of no use, the first other one that can be
/// staged. What would be the same with any copy, as a place without room, is an error at once.
///
/// # Errors
/// Fails with what the chosen copy failed with, when no other store has a copy that can be staged.
pub(crate) async fn stage_whole(
    cluster: &Cluster,
    handle: &BackupHandle,
    existing: Existing,
    cx: &RunContext,
) -> Result<RestoreBaseOutput, ActionError> {
    let error = match stage(cluster, handle, existing, cx).await {
        Err(Unstaged::Copy(error)) if error.info().class == ErrorClass::Fatal => error,
        Err(Unstaged::Copy(error) | Unstaged::Place(error)) => return Err(error),
        Ok(staged) => return Ok(staged),
    };
    let (mut neither, mut unasked) = (Vec::new(), Vec::new());
    for name in others(cluster, handle) {
        let copy = match copy(cluster, handle, name, cx).await {
            Ok(Some(copy)) => copy,
            Ok(None) => continue,
            Err(error) => {
                let words = format!("whether store `{name}` has a whole copy is not known: {}", error.in_full());
                unasked.push((words, error.info().class));
                continue;
            }
        };
        let message = format!(
            "backup `{}` cannot be restored from store `{}` ({}): its copy in store `{name}` is tried",
            handle.id,
            handle.store,
            error.in_full()
        );
        cx.reporter.note(message, json!({ "backup": handle.id, "damaged_in": handle.store, "taken_from": name }));
        match stage(cluster, &copy, existing, cx).await {
            Err(Unstaged::Copy(other)) if other.info().class == ErrorClass::Fatal => {
                let message = format!("the copy in store `{name}` cannot be restored either: {}", other.in_full());
                neither.push(message.clone());
                cx.reporter.note(message, json!({ "backup": handle.id, "damaged_in": name }));
            }
            Err(Unstaged::Copy(error) | Unstaged::Place(error)) => return Err(error),
            Ok(staged) => return Ok(staged),
        }
    }
    // A store that gives no answer now may have it whole: the step asks again. One that cannot be opened here never will.
    if !unasked.is_empty() {
        let words: Vec<&str> = unasked.iter().map(|(words, _)| words.as_str()).collect();
        let (id, store) = (&handle.id, &handle.store);
        let fact = format!("backup `{id}` cannot be restored from store `{store}`, and {}", words.join("; "));
        let told = match unasked.iter().any(|(_, class)| *class == ErrorClass::Retryable) {
            true => ActionError::retryable(fact),
            false => ActionError::fatal(fact),
        };
        let advice = error.info().help.clone().into_iter().chain(neither).collect::<Vec<_>>().join("; ");
        let told = told.because(&error);
        return Err(if advice.is_empty() { told } else { told.help(advice) });
    }
    if neither.is_empty() {
        return Err(error);
    }
    let advice = error.info().help.iter().cloned().chain(neither).collect::<Vec<_>>().join("; ");
    Err(error.help(advice))
}

/// Adds that the other stores of the database's backups are read.
pub(crate) fn read(cluster: &Cluster, effects: Effects) -> Effects {
    let Ok((own, prefix)) = cluster.archive() else { return effects };
    cluster.entry.backup_destinations().filter(|name| *name != own).fold(effects, |effects, name| {
        effects.target(Access::Read, Target::Store { name: name.to_owned(), prefix: prefix.to_owned() })
    })
}

/// The newest backups of a database that a search may choose from, newest first, each with its store: none that is known to
/// be damaged, but for it the copy that another store has whole.
///
/// # Errors
/// Fails when the database's own store gives no answer.
pub(crate) async fn choosable(
    cluster: &Cluster,
    cx: &CheckContext,
) -> Result<Vec<(Arc<dyn ReadStore>, Backup)>, ActionError> {
    let (own, prefix) = cluster.archive()?;
    let own = cx.store(own)?;
    let copies = copies(cluster, cx)?;
    let others: Vec<&dyn ReadStore> = copies.iter().map(|copy| &**copy).collect();
    let list = catalog::list_whole(&*own, prefix, &others).await.map_err(|error| archive::broken(&error))?;
    let query =
        Query { source: Some(cluster.name.clone()), kind: Some(KIND_POSTGRES_BASE.to_owned()), ..Query::default() };
    let newest = query.fitting(list).into_iter().rev().take(TRIED);
    let with_store = newest.map(|backup| {
        let store = copies.iter().find(|copy| copy.name() == backup.store).unwrap_or(&own);
        (Arc::clone(store), backup)
    });
    Ok(with_store.collect())
}

/// How a store is opened by its name, to read it.
pub(crate) type OpenStore<'a> = dyn Fn(&str) -> Result<Arc<dyn ReadStore>, ActionError> + Sync + 'a;

/// The first other store whose copy of a backup can be read, as far as a look tells.
///
/// # Errors
/// Fails when that store gives no answer.
pub(crate) async fn readable(
    cluster: &Cluster,
    handle: &BackupHandle,
    (about, open): (&Surroundings, &OpenStore<'_>),
) -> Result<Option<String>, ActionError> {
    let (_, prefix) = place(cluster, handle)?;
    for name in others(cluster, handle) {
        let Ok(store) = open(name) else { continue };
        let Ok(copy) = catalog::open_copy(store.as_ref(), prefix, handle).await else { continue };
        let Ok(links) = catalog::lineage(store.as_ref(), &copy).await else { continue };
        let mut judged = Findings::default();
        for link in &links {
            judged = Reading { store: store.as_ref(), backup: link, about }.judge(judged).await?;
        }
        if !judged.refused() {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

/// The other stores that a database's backups go to, as far as they can be opened.
///
/// # Errors
/// Fails when the database names no store.
pub(crate) fn copies(cluster: &Cluster, cx: &CheckContext) -> Result<Vec<Arc<dyn ReadStore>>, ActionError> {
    let (own, _) = cluster.archive()?;
    let names = cluster.entry.backup_destinations().filter(|name| *name != own);
    Ok(names.filter_map(|name| cx.store(name).ok()).collect())
}

/// The other stores that may have a copy: none of what another program stored.
fn others<'a>(cluster: &'a Cluster, handle: &'a BackupHandle) -> impl Iterator<Item = &'a str> {
    cluster.entry.backup_destinations().filter(|name| *name != handle.store && handle.described.is_none())
}

/// The copy in one of them; `None` when it has none that is of use.
///
/// # Errors
/// Fails when the store cannot be opened or gives no answer.
async fn copy(
    cluster: &Cluster,
    handle: &BackupHandle,
    store: &str,
    cx: &RunContext,
) -> Result<Option<BackupHandle>, ActionError> {
    let (_, prefix) = place(cluster, handle)?;
    let store = cx.store(store)?;
    match catalog::open_copy(store.as_read(), prefix, handle).await {
        Ok(backup) => Ok(Some(backup.handle())),
        Err(error) => match archive::broken(&error) {
            error if error.info().class == ErrorClass::Fatal => Ok(None),
            error => Err(error),
        },
    }
}
