//! Other stores' copies of backups, in the place of those that a store does not have whole.
//!
//! A backup that goes to several stores has the same id in each, and a manifest of its own. What is wrong with one copy
//! says nothing of the others.

use super::query::{is_sound, rests_whole};
use super::{Backup, BackupList, CatalogError, KIND_POSTGRES_BASE, list};
use crate::action::ReadStore;

/// Lists the backups of a store as [`list`] does; one that is known to be damaged or not whole there, or whose manifest
/// cannot be read, is given as the copy of it that one of `others` has whole. Those are read only where that is needed,
/// and one that gives no answer can stand in for nothing. Only base backups have stand-ins: whoever restores dumps and
/// snapshots reads the database's own store.
///
/// # Errors
/// Fails as [`list`] of the first store.
pub async fn list_whole(
    store: &dyn ReadStore,
    prefix: &str,
    others: &[&dyn ReadStore],
) -> Result<BackupList, CatalogError> {
    let own = list(store, prefix).await?;
    if own.damaged.is_empty() && own.backups.iter().all(|backup| is_whole(backup, &own)) {
        return Ok(own);
    }
    let mut found = Vec::new();
    for other in others {
        found.extend(list(*other, prefix).await.ok());
    }
    Ok(stand_in(own, &found))
}

fn is_whole(backup: &Backup, among: &BackupList) -> bool {
    is_sound(backup) && rests_whole(backup, &among.backups)
}

fn stand_in(own: BackupList, others: &[BackupList]) -> BackupList {
    let whole = |wanted: &dyn Fn(&Backup) -> bool| {
        let each = others.iter().flat_map(|other| other.backups.iter().map(move |copy| (copy, other)));
        each.filter(|(copy, other)| copy.manifest.kind == KIND_POSTGRES_BASE && wanted(copy) && is_whole(copy, other))
            .map(|(copy, _)| copy.clone())
            .next()
    };
    let copy_of = |backup: &Backup| {
        let is_same = |copy: &Backup| copy.place() == backup.place() && copy.manifest.source == backup.manifest.source;
        whole(&is_same)
    };
    let mut backups: Vec<Backup> = own.backups.to_vec();
    for backup in backups.iter_mut().filter(|backup| !is_whole(backup, &own)) {
        if let Some(copy) = copy_of(backup) {
            *backup = copy;
        }
    }
    let mut damaged = Vec::new();
    for one in own.damaged {
        match whole(&|copy: &Backup| copy.place().manifest_key().is_ok_and(|key| key == one.key)) {
            Some(copy) => backups.push(copy),
            None => damaged.push(one),
        }
    }
    backups.sort_by(|a, b| (a.manifest.stopped_at, &a.manifest.id).cmp(&(b.manifest.stopped_at, &b.manifest.id)));
    BackupList { backups, damaged }
}
