//! Carries a prune out: each deletion is told before it begins and again when it is done.
//!
//! What turns out to be needed stays, and with it what it rests on: its chain, and its WAL.

use std::collections::BTreeSet;

use serde_json::json;

use super::order::{Order, PlannedBackup};
use super::{PruneOutput, PruneParams, help, open};
use crate::action::{ActionError, ObjectKey, RunContext, Store, StoreError, Unfinished};
use crate::actions::store::{catalog_failed, store_failed};
use crate::base::{Digest, Timestamp, clock};
use crate::catalog::attest::attested;
use crate::catalog::survey::{Orphan, WalObject};
use crate::catalog::{Backup, BackupPlace, CatalogError, load, read_small};
use crate::event::Progress;

/// The largest object that is looked at to tell whether it is a manifest.
const MANIFEST_LIMIT: u64 = 64 << 20;

/// How many segments are deleted before it is asked again whether a recovery has begun.
const SEGMENTS_AT_ONCE: usize = 100;

/// What deletes.
pub(super) struct Carrier<'a> {
    store: &'a dyn Store,
    cx: &'a RunContext,
    prefix: &'a str,
    params: &'a PruneParams,
}

/// Whether a backup may go right now.
enum Now {
    /// It is the one that was planned.
    Same,
    /// Its manifest is gone: an earlier attempt began, or somebody else did.
    Begun,
    /// It stays.
    Spared(String),
}

impl<'a> Carrier<'a> {
    pub(super) fn new(store: &'a dyn Store, cx: &'a RunContext, prefix: &'a str, params: &'a PruneParams) -> Self {
        Self { store, cx, prefix, params }
    }

    /// Deletes backups, then WAL, then what was left behind. What an earlier attempt has deleted is no difference.
    pub(super) async fn carry_out(&self, order: &Order, kept: usize) -> Result<PruneOutput, ActionError> {
        let mut done = PruneOutput { kept: kept as u64, ..PruneOutput::default() };
        let (mut needed, mut stays) = (BTreeSet::new(), BTreeSet::new());
        for (index, backup) in order.backups.iter().enumerate() {
            self.go_on()?;
            self.progress(index, order.backups.len());
            let kept = order.kept.get(backup);
            let why = match (kept, needed.contains(&backup.id)) {
                (Some(why), _) => Some(why.clone()),
                (None, true) => Some("a backup that stays rests on it".to_owned()),
                (None, false) => self.backup(backup, &mut done).await?,
            };
            if let Some(why) = why {
                self.note(format!("backup `{}` stays: {why}", backup.id), json!({ "backup": backup.id }));
                done.spared.push(format!("{}: {why}", backup.id));
                // One that is kept by the plan is counted there.
                done.kept += u64::from(kept.is_none());
                needed.extend(order.bonds.below(&backup.id));
                stays.insert(backup.id.as_str());
            }
        }
        let is_free = |object: &&WalObject| !stays.iter().any(|id| order.bonds.needs(id, object));
        self.wal(&order.wal.iter().filter(is_free).collect::<Vec<_>>(), &mut done).await?;
        for orphan in &order.orphans {
            self.go_on()?;
            self.orphan(orphan, &mut done).await?;
        }
        for one in &order.unfinished {
            self.go_on()?;
            self.unfinished(one, &mut done).await?;
        }
        Ok(done)
    }

    fn go_on(&self) -> Result<(), ActionError> {
        if self.cx.cancel.is_cancelled() {
            return Err(ActionError::cancelled("it was told to end; what is left can be pruned again"));
        }
        Ok(())
    }

    /// Stops where a recovery has begun since: it may read what was planned to go.
    async fn unfrozen(&self) -> Result<(), ActionError> {
        match open(self.params, (self.store.as_read(), self.prefix), &self.cx.about.run).await? {
            Some(freeze) => {
                let fact = format!("{}; what is not gone yet stays", freeze.fact());
                Err(ActionError::fatal(fact).help(help(&freeze)))
            }
            None => Ok(()),
        }
    }

    fn progress(&self, done: usize, of: usize) {
        let (done, total) = (done as u64, Some(of as u64));
        self.cx.reporter.progress(Progress::Units { done, total, unit: "backups" });
    }

    /// Deletes one backup, or says why it stays.
    async fn backup(&self, planned: &PlannedBackup, done: &mut PruneOutput) -> Result<Option<String>, ActionError> {
        let place = BackupPlace::new(self.prefix, (&planned.kind, planned.tier.as_deref()), &planned.id);
        let manifest = place.manifest_key().map_err(catalog_failed)?;
        match self.look(planned, &place, &manifest).await? {
            Now::Spared(why) => return Ok(Some(why)),
            Now::Same => {
                self.unfrozen().await?;
                let message = format!("deletes backup `{}`", planned.id);
                self.note(message, json!({ "backup": planned.id, "manifest": planned.manifest }));
                self.store.delete(&manifest).await.map_err(store_failed)?;
            }
            Now::Begun => {}
        }
        let freed = self.folder(&format!("{}/", place.folder())).await?;
        self.note(format!("backup `{}` is gone", planned.id), json!({ "backup": planned.id, "freed_bytes": freed }));
        done.removed.push(planned.id.clone());
        done.freed_bytes += freed;
        Ok(None)
    }

    /// Looks once more, right before the deletion.
    async fn look(&self, planned: &PlannedBackup, place: &BackupPlace, key: &ObjectKey) -> Result<Now, ActionError> {
        let backup = match load(self.store.as_read(), place).await {
            Ok(backup) => backup,
            Err(CatalogError::Store(StoreError::NotFound { .. })) => return self.begun(planned, place).await,
            Err(CatalogError::Damaged { what, .. }) => {
                return Ok(Now::Spared(format!("its manifest is damaged: {what}")));
            }
            Err(error) => return Err(catalog_failed(error)),
        };
        if backup.digest != planned.manifest {
            return Ok(Now::Spared("its manifest is not the one that was planned".to_owned()));
        }
        let now = clock::now();
        if let Some(why) = self.held(place, backup.digest, now).await? {
            return Ok(Now::Spared(why));
        }
        let own: BTreeSet<ObjectKey> = own_keys(&backup).collect();
        for object in std::iter::once(key).chain(&own) {
            if let Some(why) = self.locked(object, now).await? {
                return Ok(Now::Spared(why));
            }
        }
        Ok(self.inside(place, &own).await?.map_or(Now::Same, Now::Spared))
    }

    /// A folder without the manifest that was planned is the rest of that backup, unless something else lies in it.
    async fn begun(&self, planned: &PlannedBackup, place: &BackupPlace) -> Result<Now, ActionError> {
        if place.family == "wal" {
            return Ok(Now::Spared("WAL lies there, and no backup".to_owned()));
        }
        if let Some(why) = self.held(place, planned.manifest, clock::now()).await? {
            return Ok(Now::Spared(why));
        }
        Ok(self.inside(place, &BTreeSet::new()).await?.map_or(Now::Begun, Now::Spared))
    }

    async fn held(&self, place: &BackupPlace, manifest: Digest, now: Timestamp) -> Result<Option<String>, ActionError> {
        let said = attested(self.store.as_read(), place, manifest).await.map_err(catalog_failed)?;
        let hold = said.hold.as_ref().and_then(|hold| hold.lasting(now));
        Ok(hold.map(|hold| format!("held: {} by {}", hold.reason, hold.by)))
    }

    /// Names another backup inside the folder of this one: an id may be a tier's name, and a manifest may lie.
    async fn inside(&self, place: &BackupPlace, own: &BTreeSet<ObjectKey>) -> Result<Option<String>, ActionError> {
        let folder = format!("{}/", place.folder());
        for facts in self.store.list(&folder).await.map_err(store_failed)? {
            if !is_nested_manifest(&folder, &facts.key) {
                continue;
            }
            if !own.contains(&facts.key) || self.is_manifest(&facts.key).await? {
                return Ok(Some(format!("`{}` lies inside its folder: look at it", facts.key)));
            }
        }
        Ok(None)
    }

    /// Tells a backup's manifest from a file that is only called so.
    async fn is_manifest(&self, key: &ObjectKey) -> Result<bool, ActionError> {
        match read_small(self.store.as_read(), key, MANIFEST_LIMIT).await {
            Ok(text) => Ok(Backup::of(self.store.name(), key, &text).is_ok()),
            Err(CatalogError::Damaged { .. }) => Ok(false),
            Err(error) => Err(catalog_failed(error)),
        }
    }

    /// Why the store itself would keep an object.
    async fn locked(&self, key: &ObjectKey, now: Timestamp) -> Result<Option<String>, ActionError> {
        let Some(locks) = self.store.locks() else { return Ok(None) };
        let protection = match locks.protection(key).await {
            Ok(protection) => protection,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(store_failed(error)),
        };
        if protection.legal_hold {
            return Ok(Some(format!("the store has a legal hold on `{key}`")));
        }
        let until = protection.locked_until.filter(|until| *until > now);
        Ok(until.map(|until| format!("the store locks `{key}` until {until}")))
    }

    /// Deletes everything in a folder; what was attested goes last.
    async fn folder(&self, folder: &str) -> Result<u64, ActionError> {
        let mut listed = self.store.list(folder).await.map_err(store_failed)?;
        listed.sort_by_key(|facts| (facts.key.as_str() == format!("{folder}hold.json"), facts.key.clone()));
        let mut freed = 0;
        for facts in listed {
            self.store.delete(&facts.key).await.map_err(store_failed)?;
            freed += facts.size_bytes;
        }
        Ok(freed)
    }

    async fn wal(&self, objects: &[&WalObject], done: &mut PruneOutput) -> Result<(), ActionError> {
        let (Some(first), Some(last)) = (objects.first(), objects.last()) else { return Ok(()) };
        let (first, last) = (first.segment.name.to_string(), last.segment.name.to_string());
        let message = format!("deletes {} WAL segments from `{first}` to `{last}`", objects.len());
        self.note(message, json!({ "first": first, "last": last, "segments": objects.len() }));
        for (index, object) in objects.iter().enumerate() {
            self.go_on()?;
            if index % SEGMENTS_AT_ONCE == 0 {
                self.unfrozen().await?;
            }
            if let Some(why) = self.locked(&object.key, clock::now()).await? {
                self.note(
                    format!("segment `{}` stays: {why}", object.segment.name),
                    json!({ "key": object.key.as_str() }),
                );
                continue;
            }
            self.store.delete(&object.key).await.map_err(store_failed)?;
            done.wal_segments += 1;
            done.freed_bytes += object.segment.size_bytes;
        }
        self.note(format!("{} WAL segments are gone", done.wal_segments), json!({ "segments": done.wal_segments }));
        Ok(())
    }

    async fn orphan(&self, orphan: &Orphan, done: &mut PruneOutput) -> Result<(), ActionError> {
        let listed = self.store.list(&orphan.folder).await.map_err(store_failed)?;
        if let Some(new) = listed.iter().find(|facts| !orphan.keys.contains(&facts.key)) {
            let why = format!("`{}` was written since", new.key);
            self.note(format!("`{}` stays: {why}", orphan.folder), json!({ "folder": orphan.folder }));
            done.spared.push(format!("{}: {why}", orphan.folder));
            return Ok(());
        }
        self.unfrozen().await?;
        let message = format!("deletes `{}`, which has no manifest", orphan.folder);
        self.note(message, json!({ "folder": orphan.folder, "objects": orphan.keys.len() }));
        for key in &orphan.keys {
            self.store.delete(key).await.map_err(store_failed)?;
        }
        done.orphans += 1;
        done.freed_bytes += orphan.size_bytes;
        Ok(())
    }

    async fn unfinished(&self, one: &Unfinished, done: &mut PruneOutput) -> Result<(), ActionError> {
        let data = json!({ "key": one.key.as_str(), "size_bytes": one.size_bytes });
        if self.store.discard(one).await.map_err(store_failed)? {
            self.note(format!("what was begun of `{}` and never finished is gone", one.key), data);
            done.unfinished += 1;
            done.freed_bytes += one.size_bytes;
        } else {
            self.note(format!("what was begun of `{}` stays: its writer is at work", one.key), data);
        }
        Ok(())
    }

    fn note(&self, message: String, data: serde_json::Value) {
        self.cx.reporter.note(message, data);
    }
}

/// Tells whether a key below a folder is that of a manifest further below.
fn is_nested_manifest(folder: &str, key: &ObjectKey) -> bool {
    key.as_str().strip_prefix(folder).is_some_and(|rest| rest.ends_with("/manifest.json"))
}

/// The objects that lie in the backup's own folder: those of an imported one stay where they are.
fn own_keys(backup: &crate::catalog::Backup) -> impl Iterator<Item = ObjectKey> {
    let own = backup.manifest.objects.iter().filter(|object| object.key.is_none());
    own.filter_map(|object| backup.manifest.key_of(&backup.prefix, object).ok())
}
