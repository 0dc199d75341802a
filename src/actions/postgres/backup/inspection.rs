//! One base backup, read to its last byte and held against what its manifests say. Nothing of it is written anywhere.
//!
//! Damage and absence are findings. A store that does not answer or refuses, a key that does not fit, are errors: they
//! say nothing about the backup, so nothing may be kept of them beside it.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::tar_verifier::{Findings, TarVerifier};
use super::wal_proof::WalProof;
use crate::action::{ActionError, RunContext};
use crate::actions::postgres::stores::archive::{self, WalArchive};
use crate::actions::postgres::stores::inflow::Inflow;
use crate::actions::postgres::stores::readable::{self, Judged, Reading};
use crate::catalog::{ManifestObject, ObjectRole, PostgresFacts};
use crate::event::Progress;
use crate::pgformat::{BackupManifest, SegmentName};
use crate::transfer::TransferError;

/// What was found in a backup.
#[derive(Debug, Default)]
pub(crate) struct Inspected {
    /// What was found in its archives, and all that is wrong.
    pub(crate) found: Findings,
    /// The bytes of the objects that were read whole, as they are stored.
    pub(crate) read_bytes: u64,
    /// The segments of WAL that make it consistent, in order; empty when something is wrong.
    pub(crate) segments: Vec<SegmentName>,
}

impl Inspected {
    fn fault(mut self, what: String) -> Self {
        self.found.faults.push(what);
        self
    }

    fn is_sound(&self) -> bool {
        self.found.faults.is_empty()
    }
}

/// What an object is held against.
enum Part {
    /// Files that the server's manifest lists.
    Files(TarVerifier),
    /// WAL, record by record.
    Wal,
    /// Its own digests.
    Bytes,
}

/// A backup that is read.
pub(crate) struct Inspection<'a> {
    /// The backup in its store.
    pub(crate) reading: Reading<'a>,
    /// The archive of its cluster, for the WAL that did not come with it.
    pub(crate) wal_archive: WalArchive<'a>,
    /// What its manifest says of the cluster.
    pub(crate) facts: Arc<PostgresFacts>,
    /// The attempt.
    pub(crate) cx: &'a RunContext,
    /// Plain bytes read so far.
    pub(crate) done: Arc<AtomicU64>,
}

impl Inspection<'_> {
    /// Reads it.
    ///
    /// # Errors
    /// Fails when the store gives no answer or no key fits; what is wrong with the backup is no failure.
    pub(crate) async fn run(&self) -> Result<Inspected, ActionError> {
        let inspected = Inspected::default();
        let manifest = match self.watched(self.reading.judge_server_manifest()).await? {
            Ok((manifest, _)) => Arc::new(manifest),
            Err(fault) => return Ok(inspected.fault(fault)),
        };
        let (mut inspected, proof) = self.objects(&manifest, inspected).await?;
        let missing = manifest.files.keys().find(|path| !inspected.found.seen.contains(*path));
        if let Some(missing) = missing.filter(|_| inspected.is_sound()) {
            return Ok(inspected.fault(format!("`{}` is missing in the backup", String::from_utf8_lossy(missing))));
        }
        let Some(proof) = proof.filter(|_| inspected.is_sound()) else { return Ok(inspected) };
        match self.rest_of_wal(proof).await? {
            Ok(segments) => inspected.segments = segments,
            Err(fault) => return Ok(inspected.fault(fault)),
        }
        Ok(inspected)
    }

    /// Reads every object once; with the walk through the WAL as far as it came, unless it met a fault.
    async fn objects(
        &self,
        manifest: &Arc<BackupManifest>,
        mut inspected: Inspected,
    ) -> Result<(Inspected, Option<WalProof>), ActionError> {
        let mut proof = Some(WalProof::new(self.tar_verifier((Vec::new(), false), manifest)));
        for object in &self.reading.backup.manifest.objects {
            let judged = match self.part(object, manifest) {
                Part::Files(tar_verifier) => {
                    let read = self.read(object, move |key, from| tar_verifier.read(key, from)).await?;
                    let read = read.map(|found| inspected.found.merge(found));
                    match proof.take_if(|_| object.holds_wal && read.is_ok()) {
                        Some(walk) => self.walk(object, walk).await?.map(|walk| proof = Some(walk)),
                        None => read,
                    }
                }
                Part::Wal => match proof.take() {
                    Some(walk) => self.walk(object, walk).await?.map(|mut walk| {
                        inspected.found.merge(walk.beside());
                        proof = Some(walk);
                    }),
                    None => self.bytes(object).await?,
                },
                Part::Bytes => self.bytes(object).await?,
            };
            match judged {
                Ok(()) => inspected.read_bytes += object.size_bytes,
                Err(fault) => inspected.found.faults.push(fault),
            }
        }
        Ok((inspected, proof))
    }

    fn tar_verifier(&self, (prefix, holds_wal): (Vec<u8>, bool), manifest: &Arc<BackupManifest>) -> TarVerifier {
        let (facts, parent) = (Arc::clone(&self.facts), self.reading.backup.manifest.parent.clone());
        TarVerifier { prefix, manifest: Arc::clone(manifest), facts, holds_wal, parent }
    }

    fn part(&self, object: &ManifestObject, manifest: &Arc<BackupManifest>) -> Part {
        let files = |prefix| Part::Files(self.tar_verifier((prefix, object.holds_wal), manifest));
        match object.role {
            ObjectRole::Data => files(Vec::new()),
            ObjectRole::Tablespace => {
                let oid = object.tablespace.map_or_else(String::new, |oid| oid.to_string());
                files(format!("{}/", Path::new("pg_tblspc").join(oid).display()).into_bytes())
            }
            ObjectRole::Wal => Part::Wal,
            ObjectRole::BackupManifest
            | ObjectRole::Config
            | ObjectRole::Dump
            | ObjectRole::Globals
            | ObjectRole::File
            | ObjectRole::Unknown => Part::Bytes,
        }
    }

    async fn bytes(&self, object: &ManifestObject) -> Result<Judged<()>, ActionError> {
        let judged = self.watched(self.reading.judge_object(object, &mut tokio::io::sink())).await?;
        self.done.fetch_add(object.plain_facts().size_bytes, Ordering::Relaxed);
        Ok(judged)
    }

    async fn walk(&self, object: &ManifestObject, proof: WalProof) -> Result<Judged<WalProof>, ActionError> {
        let read = self.read(object, move |key, from| proof.read(key, from)).await?;
        Ok(read.and_then(|walked| walked))
    }

    /// Walks the segments that the backup does not have, from the archive, and those that lie in it in another order.
    async fn rest_of_wal(&self, mut proof: WalProof) -> Result<Judged<Vec<SegmentName>>, ActionError> {
        while let Some(name) = proof.due() {
            if !proof.came_early(name) {
                let judged = match self.watched(self.wal_archive.judge_segment(name)).await? {
                    Ok(bytes) => proof.take(name, &bytes),
                    Err(why) => Err(format!("the WAL segment `{name}` is not in the backup, and {why}")),
                };
                match judged {
                    Ok(()) => continue,
                    Err(fault) => return Ok(Err(fault)),
                }
            }
            let objects = &self.reading.backup.manifest.objects;
            for object in objects.iter().filter(|object| object.has_wal()) {
                proof = match self.walk(object, proof).await? {
                    Ok(proof) => proof,
                    Err(fault) => return Ok(Err(fault)),
                };
            }
            if proof.due() == Some(name) {
                return Err(ActionError::retryable(format!("the WAL segment `{name}` went while the backup was read")));
            }
        }
        Ok(Ok(proof.walked()))
    }

    /// Reads an object by code that blocks.
    async fn read<T: Send + 'static>(
        &self,
        object: &ManifestObject,
        reader: impl FnOnce(&str, &mut dyn Read) -> T + Send + 'static,
    ) -> Result<Judged<T>, ActionError> {
        let Reading { store, backup, .. } = self.reading;
        let key = backup.manifest.key_of(&backup.prefix, object).map_err(|error| archive::broken(&error))?;
        let unpacking = self.reading.unpacking(object).map_err(|error| readable::unread(&error))?;
        let body = match store.get(&key).await {
            Ok(body) => unpacking.open(body, readable::expected(object)),
            Err(error) => return readable::fault_of(&TransferError::Store(error)).map(Err),
        };
        let own = key.to_string();
        let inflow = Inflow { body, done: Arc::clone(&self.done) };
        let reading = async {
            match inflow.read(&self.cx.cancel, move |from| Ok(reader(&own, from))).await {
                Ok(made) => made.map(Ok),
                Err(error) => readable::fault_of(&TransferError::of_reading(key.as_str(), error)).map(Err),
            }
        };
        self.watched(reading).await
    }

    /// Tells how far it is while something is read, and ends it when it is cancelled.
    async fn watched<T>(&self, work: impl Future<Output = Result<T, ActionError>>) -> Result<T, ActionError> {
        let objects = &self.reading.backup.manifest.objects;
        let total: u64 = objects.iter().map(|object| object.plain_facts().size_bytes).sum();
        let cancelled = || ActionError::cancelled("the verification was cancelled");
        tokio::pin!(work);
        loop {
            tokio::select! {
                made = &mut work => return if self.cx.cancel.is_cancelled() { Err(cancelled()) } else { made },
                () = self.cx.cancel.cancelled() => return Err(cancelled()),
                () = tokio::time::sleep(Duration::from_millis(250)) => {
                    let done = self.done.load(Ordering::Relaxed).min(total);
                    self.cx.reporter.progress(Progress::Units { done, total: Some(total), unit: "bytes" });
                }
            }
        }
    }
}
