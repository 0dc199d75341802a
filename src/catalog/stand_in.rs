//! Other stores' copies of backups, in the place of those that a store does not have whole.
//!
//! A backup that goes to several stores has the same id in each, and a manifest of its own. What is wrong with one copy
//! says nothing of the others.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;

use super::key::{family, family_prefix};
use super::query::{is_sound, rests_whole};
use super::{Backup, BackupList, CatalogError, KIND_POSTGRES_BASE, list};
use crate::action::ReadStore;

/// How long the other stores are waited for, all at once: one may be as dead as what they are to stand in for.
const WITHIN: Duration = Duration::from_secs(60);

/// Lists the backups of a store as [`list`] does; one that is known to be damaged or not whole there, or whose manifest
/// cannot be read, is given as the copy of it that one of `others` has whole. An increment's copy comes with all that it
/// rests on in its store: what the own store has whole of that is listed twice then, the own first. The others are read
/// only where that is needed, and one that gives no answer within a minute can stand in for nothing. Only base backups
/// have stand-ins: whoever restores dumps and snapshots reads the database's own store.
///
/// # Errors
/// Fails as [`list`] of the first store.
pub async fn list_whole(
    store: &dyn ReadStore,
    prefix: &str,
    others: &[&dyn ReadStore],
) -> Result<BackupList, CatalogError> {
    let own = list(store, prefix).await?;
    let below = family_prefix(prefix, &family(KIND_POSTGRES_BASE));
    let mut bases = own.backups.iter().filter(|backup| backup.manifest.kind == KIND_POSTGRES_BASE);
    let is_readable = !own.damaged.iter().any(|one| one.key.as_str().starts_with(&below));
    if is_readable && bases.all(|backup| is_whole(backup, &own)) {
        return Ok(own);
    }
    let found = join_all(others.iter().map(|other| answer(*other, prefix))).await;
    let found: Vec<BackupList> = found.into_iter().flatten().collect();
    Ok(stand_in(own, &found))
}

/// What a store has; `None` when it does not say so in time.
async fn answer(store: &dyn ReadStore, prefix: &str) -> Option<BackupList> {
    tokio::time::timeout(WITHIN, list(store, prefix)).await.ok()?.ok()
}

fn is_whole(backup: &Backup, among: &BackupList) -> bool {
    is_sound(backup) && rests_whole(backup, &among.backups)
}

fn stand_in(own: BackupList, others: &[BackupList]) -> BackupList {
    let whole = |wanted: &dyn Fn(&Backup) -> bool| {
        let each = others.iter().flat_map(|other| other.backups.iter().map(move |copy| (copy, other)));
        each.filter(|(copy, other)| copy.manifest.kind == KIND_POSTGRES_BASE && wanted(copy) && is_whole(copy, other))
            .map(|(copy, other)| (copy.clone(), ancestors(copy, other)))
            .next()
    };
    let copy_of = |backup: &Backup| {
        let is_same = |copy: &Backup| copy.place() == backup.place() && copy.manifest.source == backup.manifest.source;
        whole(&is_same)
    };
    let (mut backups, mut rests): (Vec<Backup>, Vec<Backup>) = (own.backups.to_vec(), Vec::new());
    for backup in backups.iter_mut().filter(|backup| !is_whole(backup, &own)) {
        if let Some((copy, below)) = copy_of(backup) {
            *backup = copy;
            rests.extend(below);
        }
    }
    let mut damaged = Vec::new();
    for one in own.damaged {
        match whole(&|copy: &Backup| copy.place().manifest_key().is_ok_and(|key| key == one.key)) {
            Some((copy, below)) => {
                backups.push(copy);
                rests.extend(below);
            }
            None => damaged.push(one),
        }
    }
    let there = |backup: &Backup| (backup.store.clone(), backup.place());
    let mut listed: BTreeSet<_> = backups.iter().map(there).collect();
    backups.extend(rests.into_iter().filter(|link| listed.insert(there(link))));
    backups.sort_by(|a, b| (a.manifest.stopped_at, &a.manifest.id).cmp(&(b.manifest.stopped_at, &b.manifest.id)));
    BackupList { backups, damaged }
}

/// What a whole backup rests on in its own store.
fn ancestors(backup: &Backup, among: &BackupList) -> Vec<Backup> {
    let mut found: Vec<Backup> = Vec::new();
    let mut next = backup.manifest.parent.as_deref();
    while let Some(parent) = next {
        let is_it = |one: &&Backup| one.manifest.id == parent && one.manifest.source == backup.manifest.source;
        // More links than backups: a circle.
        let link = among.backups.iter().find(is_it).filter(|_| found.len() < among.backups.len());
        found.extend(link.cloned());
        next = link.and_then(|link| link.manifest.parent.as_deref());
    }
    found
}
