//! Finds out, before anything is stopped or moved, whether a backup can be read: every object is there, none has
//! to be retrieved first, and our keys fit.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;

use super::archive;
use super::archive::stream_failed;
use crate::action::{
    ActionError, Availability, CheckContext, Findings, ObjectFacts, ReadStore, Secrets, StorageClass, StoreError,
    Surroundings,
};
use crate::catalog::{Backup, Catalog, KIND_POSTGRES_BASE, ManifestObject, ObjectRole};
use crate::language::inventory::{Encryption, Inventory, RetrievalSpeed};
use crate::pgformat::BackupManifest;
use crate::transfer::{Expected, PlainFacts, TransferError, Unpacking, download};

/// No `backup_manifest` is larger: a million files have 150 MB of it.
const LIMIT_BYTES: u64 = 4 << 30;

/// Why a backup that is archived is in nobody's way.
pub(crate) const RETRIEVED_FIRST: &str =
    "a step before this one retrieves it; it is looked at again when the step starts";

/// How many backups are tried, newest first, until one can be read.
pub(crate) const TRIED: usize = 20;

/// What to do about an archived backup.
pub(crate) const RETRIEVE_FIRST: &str =
    "retrieve them first with `backup.retrieve` or `store.retrieve`, or choose a backup that can be read now";

/// What came of looking at something: what was looked for, or what is wrong with it.
pub(crate) type Judged<T> = Result<T, String>;

/// Reads the objects of one backup.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// The store it lies in.
    pub(crate) store: &'a dyn ReadStore,
    /// The backup.
    pub(crate) backup: &'a Backup,
    /// The environment's inventory and secrets.
    pub(crate) about: &'a Surroundings,
}

impl Reading<'_> {
    /// How an object is unpacked, with the keys of its store.
    ///
    /// # Errors
    /// Fails when no key can be had.
    pub(crate) fn unpacking(&self, object: &ManifestObject) -> Result<Unpacking, TransferError> {
        let keys = keys(&self.about.inventory, self.store.name());
        Unpacking::of(&object.encoding, keys, self.about.secrets.as_ref() as &dyn Secrets)
    }

    /// Reads the server's own manifest, proven by its plain digest.
    ///
    /// # Errors
    /// Fails when it is not there, is damaged, or cannot be decrypted.
    pub(crate) async fn server_manifest(&self) -> Result<BackupManifest, ActionError> {
        self.server_manifest_and_text().await.map(|(manifest, _)| manifest)
    }

    /// Reads the server's own manifest, and gives its bytes, too.
    ///
    /// # Errors
    /// Fails as [`Reading::server_manifest`].
    pub(crate) async fn server_manifest_and_text(&self) -> Result<(BackupManifest, Bytes), ActionError> {
        self.judge_server_manifest().await?.map_err(unusable)
    }

    /// Reads the server's own manifest, or says what is wrong with it.
    ///
    /// # Errors
    /// Fails when nothing can be told of it: the store gives no answer, no key fits.
    pub(crate) async fn judge_server_manifest(&self) -> Result<Judged<(BackupManifest, Bytes)>, ActionError> {
        let object = self.backup.manifest.objects.iter().find(|object| object.role == ObjectRole::BackupManifest);
        let Some(object) = object else { return Ok(Err("the backup has no `backup_manifest`".to_owned())) };
        let judged = self.judge_small(object).await?;
        Ok(judged.and_then(|bytes| match BackupManifest::parse(&bytes) {
            Ok(manifest) => Ok((manifest, bytes)),
            Err(error) => Err(format!("`{}` is damaged: {error}", object.name)),
        }))
    }

    /// Reads one object into memory, proven by its plain digest.
    ///
    /// # Errors
    /// Fails when it is not there, is damaged, or cannot be decrypted.
    pub(crate) async fn small(&self, object: &ManifestObject) -> Result<Bytes, ActionError> {
        self.judge_small(object).await?.map_err(unusable)
    }

    /// Reads one object into memory, proven by its plain digest, or says what is wrong with it.
    ///
    /// # Errors
    /// Fails as [`Reading::judge_object`].
    pub(crate) async fn judge_small(&self, object: &ManifestObject) -> Result<Judged<Bytes>, ActionError> {
        if object.plain_facts().size_bytes > LIMIT_BYTES {
            return Ok(Err(format!("`{}` is longer than {LIMIT_BYTES} bytes", object.name)));
        }
        let mut bytes = Vec::new();
        if let Err(fault) = self.judge_object(object, &mut bytes).await? {
            return Ok(Err(fault));
        }
        Ok(Ok(bytes.into()))
    }

    /// Brings the plain bytes of an object, proven by its digests, or says what is wrong with it. What has come before
    /// a fault is not proven.
    ///
    /// # Errors
    /// Fails when nothing can be told of it: the store gives no answer, no key fits.
    pub(crate) async fn judge_object(
        &self,
        object: &ManifestObject,
        target: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<Judged<()>, ActionError> {
        let key = self.backup.manifest.key_of(&self.backup.prefix, object).map_err(|error| archive::broken(&error))?;
        let unpacking = self.unpacking(object).map_err(|error| unread(&error))?;
        let read = download((self.store, &key), &unpacking, expected(object), target, Arc::new(|_| {})).await;
        read.map_or_else(|error| fault_of(&error).map(Err), |_| Ok(Ok(())))
    }

    /// Judges the whole backup without reading more than its small objects.
    ///
    /// # Errors
    /// Fails when the store gives no answer.
    pub(crate) async fn judge(&self, findings: Findings) -> Result<Findings, ActionError> {
        let findings = self.judge_objects(findings).await?;
        if findings.refused() {
            return Ok(findings);
        }
        let id = &self.backup.manifest.id;
        match self.server_manifest().await {
            Ok(_) => Ok(findings.pass(format!("backup `{id}` is complete, and its keys are at hand"))),
            Err(error) => Ok(unreadable(findings, id, &error)),
        }
    }

    /// Judges whether a verification can come to a verdict: what is gone or damaged is for it to say and to keep.
    ///
    /// # Errors
    /// Fails when the store gives no answer.
    pub(crate) async fn judge_answers(&self, findings: Findings) -> Result<Findings, ActionError> {
        const TOLD: &str = "the verification says so, and keeps it beside the backup";
        let id = &self.backup.manifest.id;
        let missing = self.backup.missing_objects(self.store).await.map_err(|error| archive::broken(&error))?;
        if !missing.is_empty() {
            return Ok(findings.warn(format!("backup `{id}` lacks {}", missing.join(", ")), TOLD));
        }
        let findings = self.judge_objects(findings).await?;
        if findings.refused() {
            return Ok(findings);
        }
        match self.judge_server_manifest().await {
            Ok(Ok(_)) => Ok(findings.pass(format!("backup `{id}` can be read, and its keys are at hand"))),
            Ok(Err(fault)) => Ok(findings.warn(fault, TOLD)),
            Err(error) => Ok(unreadable(findings, id, &error)),
        }
    }

    /// Judges whether every object of any backup is there, can be read now, and has a key at hand.
    ///
    /// # Errors
    /// Fails when the store gives no answer.
    pub(crate) async fn judge_objects(&self, findings: Findings) -> Result<Findings, ActionError> {
        let id = &self.backup.manifest.id;
        let missing = self.backup.missing_objects(self.store).await.map_err(|error| archive::broken(&error))?;
        if !missing.is_empty() {
            let fact = format!("backup `{id}` lacks {}", missing.join(", "));
            return Ok(findings.refuse(fact, "choose another backup"));
        }
        if let Some(archived) = self.archived().await? {
            return Ok(findings.refuse(archived.fact, RETRIEVE_FIRST).waiting(archived.wait));
        }
        for object in &self.backup.manifest.objects {
            if let Err(error) = self.unpacking(object) {
                return Ok(unreadable(findings, id, &unread(&error)));
            }
        }
        Ok(findings)
    }

    /// Tells whether what keeps it from being read is that it is archived, and a step before this one brings it back.
    pub(crate) async fn is_brought_back(&self, cx: &CheckContext) -> bool {
        let comes = ["backup.retrieve", "store.retrieve"].into_iter().any(|action| cx.comes_after(action));
        comes && matches!(self.archived().await, Ok(Some(_)))
    }

    /// What must be retrieved before the backup can be read; `None`: nothing.
    ///
    /// # Errors
    /// Fails when the store gives no answer, or an object is gone.
    pub(crate) async fn archived(&self) -> Result<Option<Archived>, ActionError> {
        let mut archived: Vec<ObjectFacts> = Vec::new();
        for object in &self.backup.manifest.objects {
            let key =
                self.backup.manifest.key_of(&self.backup.prefix, object).map_err(|error| archive::broken(&error))?;
            let facts = match self.store.head(&key).await {
                Ok(facts) => facts,
                Err(error @ StoreError::NotFound { .. }) => {
                    return Err(ActionError::fatal("an object of the backup is gone").because(&error));
                }
                Err(error) => return Err(archive::failed(&error)),
            };
            match facts.availability {
                Availability::Ready | Availability::ReadyUntil(_) => {}
                Availability::Archived | Availability::Retrieving => archived.push(facts),
            }
        }
        let speed = speed(&self.about.inventory, self.store.name());
        let wait = |facts: &ObjectFacts| StorageClass::named(facts.storage_class.as_deref()?)?.retrieval(speed);
        let Some(first) = archived.iter().max_by_key(|facts| wait(facts)) else { return Ok(None) };
        let class = first.storage_class.as_deref().unwrap_or("archived");
        let state = match first.availability {
            Availability::Retrieving => "its retrieval is under way",
            Availability::Archived | Availability::Ready | Availability::ReadyUntil(_) => "nobody has asked for it",
        };
        let fact = format!(
            "{} objects of backup `{}` lie in the class `{class}` and cannot be read: {state}, and it takes {}",
            archived.len(),
            self.backup.manifest.id,
            retrieval_time(class, speed)
        );
        Ok(Some(Archived { fact, wait: wait(first) }))
    }
}

fn unreadable(findings: Findings, id: &str, error: &ActionError) -> Findings {
    let causes: String = error.info().causes.iter().map(|cause| format!(": {cause}")).collect();
    let help = error.info().help.clone();
    let help = help.unwrap_or_else(|| "choose another backup".to_owned());
    findings.refuse(format!("backup `{id}` cannot be read: {error}{causes}"), help)
}

/// What must be retrieved before a backup can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Archived {
    /// The fact.
    pub(crate) fact: String,
    /// How long it takes at the longest, where the class is known.
    pub(crate) wait: Option<Duration>,
}

/// What an object must be, stored and plain.
pub(crate) fn expected(object: &ManifestObject) -> Expected {
    let stored = PlainFacts { size_bytes: object.size_bytes, sha256: object.sha256 };
    Expected { stored, plain: object.plain_facts() }
}

/// The newest backups of a cluster, newest first: before one is chosen they tell whether the keys are at hand.
///
/// # Errors
/// Fails when the store gives no answer.
pub(crate) async fn newest(store: &dyn ReadStore, prefix: &str, database: &str) -> Result<Vec<Backup>, ActionError> {
    let list = Catalog::of(store).manifests(prefix, KIND_POSTGRES_BASE).await;
    let list = list.map_err(|error| archive::broken(&error))?;
    let fits = |backup: &Backup| backup.manifest.source == database;
    Ok(list.backups.into_iter().rev().filter(fits).take(TRIED).collect())
}

fn keys<'a>(inventory: &'a Inventory, store: &str) -> Option<&'a Encryption> {
    inventory.stores.get(store)?.encryption.as_ref()
}

fn speed(inventory: &Inventory, store: &str) -> RetrievalSpeed {
    let policy = inventory.stores.get(store).and_then(|entry| entry.retrieval.as_ref());
    policy.map_or_else(RetrievalSpeed::default, |policy| policy.tier)
}

/// How long a retrieval takes, by AWS's documentation of its classes.
fn retrieval_time(class: &str, speed: RetrievalSpeed) -> &'static str {
    match (class == "DEEP_ARCHIVE", speed) {
        (false, RetrievalSpeed::Expedited) => "1 to 5 minutes at the speed `expedited`",
        (false, RetrievalSpeed::Standard) => "3 to 5 hours at the speed `standard`",
        (false, RetrievalSpeed::Bulk) => "5 to 12 hours at the speed `bulk`",
        (true, RetrievalSpeed::Expedited | RetrievalSpeed::Standard) => "up to 12 hours at the speed `standard`",
        (true, RetrievalSpeed::Bulk) => "up to 48 hours at the speed `bulk`",
    }
}

fn unusable(fault: String) -> ActionError {
    ActionError::fatal(fault).help("use another backup").of_damage()
}

/// Tells damage and absence, which are facts about a backup, from everything that leaves them open.
///
/// # Errors
/// Gives back as an error what is no fact: no answer, no permission, no key that fits.
pub(crate) fn fault_of(error: &TransferError) -> Result<String, ActionError> {
    match error {
        TransferError::Damaged { .. } => Ok(error.to_string()),
        TransferError::Store(StoreError::NotFound { key, .. }) => Ok(format!("`{key}` is missing")),
        TransferError::Store(_)
        | TransferError::WrongKey { .. }
        | TransferError::Key(_)
        | TransferError::Io { .. }
        | TransferError::Settings(_) => Err(unread(error)),
    }
}

/// What cannot be unpacked: another backup is the way out, or another key.
pub(crate) fn unread(error: &TransferError) -> ActionError {
    match error {
        TransferError::Damaged { .. } => stream_failed(error).help("use another backup").of_damage(),
        TransferError::WrongKey { .. } | TransferError::Key(_) => stream_failed(error)
            .help("give the right `identities` or password under the store's `encryption` in the inventory"),
        TransferError::Store(_) | TransferError::Io { .. } | TransferError::Settings(_) => stream_failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_class_has_no_fast_way_out() {
        assert_eq!(retrieval_time("GLACIER", RetrievalSpeed::Expedited), "1 to 5 minutes at the speed `expedited`");
        let deep = retrieval_time("DEEP_ARCHIVE", RetrievalSpeed::Expedited);
        assert!(deep.contains("12 hours") && deep.contains("standard"), "{deep}");
    }
}
