//! `postgres.verify_backup`: a base backup is read to its last byte, without a restore.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::archive::{self, Shelf};
use super::inflow::{Inflow, broken};
use super::layout::Cluster;
use super::readable::{self, Reading};
use super::scrutiny::{self, Findings as Found, Scrutiny};
use super::tar_walk::WAL_FOLDER;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, DatabaseRef, EffectClass, Effects, Example,
    Findings, Idempotency, Late, ParamFault, PlanContext, RunContext, StoreRef, Target,
};
use crate::actions::store::catalog_failed;
use crate::base::clock;
use crate::catalog::attest::{self, Level, Verdict, Verification};
use crate::catalog::{self, Backup, CatalogError, ManifestObject, ObjectRole, PostgresFacts};
use crate::event::Progress;
use crate::pgformat::{BackupManifest, SegmentName};

/// Verifies a base backup.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerifyBackup;

/// The arguments of `postgres.verify_backup`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyBackupParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// The backup, as `backup.find` or `postgres.base_backup` gave it. Default: the newest.
    #[serde(default)]
    pub backup: Option<Late<BackupHandle>>,
    /// The store whose copy is read. Default: the one the backup was found in, else the database's.
    #[serde(default)]
    pub store: Option<StoreRef>,
    /// Keeps what was found beside the manifest. Default yes; `false` for a store that may only be read.
    #[serde(default = "yes")]
    pub record: bool,
}

fn yes() -> bool {
    true
}

/// The outputs of `postgres.verify_backup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyBackupOutput {
    /// The backup.
    pub backup: BackupHandle,
    /// The bytes that were read from the store.
    pub read_bytes: u64,
    /// The files that are what the server's manifest says.
    pub files: u64,
    /// The data pages whose own checksum was computed and is right; 0 for a cluster without checksums.
    pub pages: u64,
    /// The WAL segments that make it consistent, each walked record by record.
    pub segments: Vec<String>,
}

impl VerifyBackupParams {
    /// Where the copy lies that is read.
    fn place(&self, cluster: &Cluster) -> Result<(String, String), ActionError> {
        let (own, prefix) = cluster.archive()?;
        let found = self.backup.as_ref().and_then(Late::known).map(|handle| handle.store.clone());
        let named = self.store.as_ref().map(|store| store.as_str().to_owned());
        Ok((named.or(found).unwrap_or_else(|| own.to_owned()), prefix.to_owned()))
    }
}

impl Action for VerifyBackup {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.verify_backup",
        summary: "Reads a base backup to its last byte: digests, files, page checksums, WAL. Restores nothing.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example { title: "The newest one", with: "{ database: orders }" },
            Example {
                title: "The copy in another store, of which nothing is kept",
                with: "{ database: orders, backup: '{{ steps.backup.backup }}', store: offsite, record: false }",
            },
        ],
    };
    type Params = VerifyBackupParams;
    type Output = VerifyBackupOutput;

    fn effects(&self, params: &VerifyBackupParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let fault = |error: &ActionError| vec![ParamFault::new("/database", error.to_string())];
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).map_err(|error| fault(&error))?;
        let (name, prefix) = params.place(&cluster).map_err(|error| fault(&error))?;
        let target = Target::Store { name, prefix };
        Ok(match params.record {
            true => Effects::of(EffectClass::Write).target(Access::Write, target),
            false => Effects::of(EffectClass::Read).target(Access::Read, target),
        })
    }

    fn by_hand(&self, _: &VerifyBackupParams, _: &PlanContext<'_>) -> Vec<String> {
        vec![
            remark("in the folder of the backup:"),
            command_line(["sha256sum", "-c", "SHA256SUMS"]),
            remark("then unpack it with its own `restore.sh` into ‹new folder›, and there:"),
            command_line(["pg_verifybackup", "‹new folder›/data"]),
        ]
    }

    async fn check(&self, params: &VerifyBackupParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let (name, prefix) = params.place(&cluster)?;
        let store = cx.store(&name)?;
        let findings = Findings::default();
        if params.backup.as_ref().is_some_and(|handle| handle.known().is_none()) {
            return Ok(findings.pending("the backup is not chosen yet"));
        }
        let handle = params.backup.as_ref().and_then(Late::known);
        let backup = match handle {
            Some(handle) => {
                catalog::open(store.as_ref(), &prefix, &copy(handle, &name)).await.map_err(catalog_failed)?
            }
            None => match readable::newest(store.as_ref(), &prefix, &cluster.name).await?.into_iter().next() {
                Some(backup) => backup,
                None if cx.ahead => return Ok(findings.pending("there is no backup yet")),
                None => {
                    let fact = format!("store `{name}` has no base backup of `{}`", cluster.name);
                    return Ok(findings.refuse(fact, "take one with `postgres.base_backup`"));
                }
            },
        };
        let reading = Reading { store: store.as_ref(), backup: &backup, about: &cx.about };
        reading.judge(findings).await
    }

    async fn run(&self, params: &VerifyBackupParams, cx: &RunContext) -> Result<VerifyBackupOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let (name, prefix) = params.place(&cluster)?;
        let store = cx.store(&name)?;
        let backup = match &params.backup {
            Some(handle) => {
                let handle = copy(handle.get()?, &name);
                catalog::open(store.as_read(), &prefix, &handle).await.map_err(catalog_failed)?
            }
            None => readable::newest(store.as_read(), &prefix, &cluster.name).await?.into_iter().next().ok_or_else(
                || ActionError::fatal(format!("store `{name}` has no base backup of `{}`", cluster.name)),
            )?,
        };
        let reading = Reading { store: store.as_read(), backup: &backup, about: &cx.about };
        let found = look(reading, cx).await?;
        let note = note(&backup, &found, cx);
        if params.record {
            attest::verified(store.as_ref(), &backup.place(), &note).await.map_err(catalog_failed)?;
        }
        conclude(&backup, &found, cx)
    }
}

/// The same backup in another store.
fn copy(handle: &BackupHandle, store: &str) -> BackupHandle {
    BackupHandle { store: store.to_owned(), ..handle.clone() }
}

fn note(backup: &Backup, found: &Found, cx: &RunContext) -> Verification {
    Verification {
        format: 1,
        manifest: backup.digest,
        level: Level::Content,
        at: clock::now(),
        by: format!("run {}", cx.about.run),
        read_bytes: backup.manifest.size_bytes(),
        verdict: if found.faults.is_empty() { Verdict::Passed } else { Verdict::Failed },
        faults: found.faults.clone(),
    }
}

fn conclude(backup: &Backup, found: &Found, cx: &RunContext) -> Result<VerifyBackupOutput, ActionError> {
    let id = &backup.manifest.id;
    if let Some(first) = found.faults.first() {
        let message = format!("backup `{id}` does not hold: {first}");
        cx.reporter.note(message.clone(), serde_json::json!({ "faults": found.faults }));
        let more = found.faults.len() - 1;
        let message = if more > 0 { format!("{message} (and {more} other faults)") } else { message };
        return Err(ActionError::fatal(message).help("take a new backup now; keep the damaged one until you know why"));
    }
    Ok(VerifyBackupOutput {
        backup: backup.handle(),
        read_bytes: backup.manifest.size_bytes(),
        files: found.seen.len() as u64,
        pages: found.pages,
        segments: found.segments.keys().map(SegmentName::to_string).collect(),
    })
}

/// Reads a whole backup and the WAL that makes it consistent.
async fn look(reading: Reading<'_>, cx: &RunContext) -> Result<Found, ActionError> {
    let backup = reading.backup;
    let facts = Arc::new(backup.manifest.cluster().map_err(|error| archive::broken(&error))?.clone());
    let mut found = contents(reading, &facts, cx).await?;
    let keys = archive::keys(&cx.about, reading.store.name());
    let (system_id, size) = (facts.system_id, facts.segment_size);
    let shelf = Shelf { store: reading.store, prefix: &backup.prefix, system_id, size, keys };
    let missing = fetch_missing(&facts, &mut found, &shelf).await;
    found.faults.extend(missing.or_else(|| scrutiny::walk(&facts, &found.segments)));
    match catalog::lineage(reading.store, backup).await {
        Ok(_) => {}
        Err(CatalogError::Torn { what, .. }) => found.faults.push(what),
        Err(error) => return Err(catalog_failed(error)),
    }
    Ok(found)
}

/// Proves a backup before what it replaces is given up.
///
/// # Errors
/// Fails when anything of it is wrong or cannot be read.
pub(super) async fn holds(reading: Reading<'_>, cx: &RunContext) -> Result<(), ActionError> {
    let found = look(reading, cx).await?;
    conclude(reading.backup, &found, cx).map(|_| ())
}

/// Reads every object. A damaged one is a fault; a store that gives no answer is an error.
async fn contents(reading: Reading<'_>, facts: &Arc<PostgresFacts>, cx: &RunContext) -> Result<Found, ActionError> {
    let backup = reading.backup;
    let mut found = Found::default();
    let manifest: Arc<BackupManifest> = Arc::new(reading.server_manifest().await?);
    let done = Arc::<AtomicU64>::default();
    let total = Some(backup.manifest.objects.iter().map(|object| object.plain_facts().size_bytes).sum());
    for object in &backup.manifest.objects {
        let Some(scrutiny) = scrutiny(object, &manifest, facts) else { continue };
        let work = inspect(reading, object, (scrutiny, Arc::clone(&done)), cx);
        tokio::pin!(work);
        let looked = loop {
            tokio::select! {
                looked = &mut work => break looked,
                () = tokio::time::sleep(Duration::from_millis(250)) => {
                    cx.reporter.progress(Progress::Units { done: done.load(Ordering::Relaxed), total, unit: "bytes" });
                }
            }
        };
        match looked {
            Ok(looked) => found.merge(looked),
            Err(error) if error.info().class == crate::event::ErrorClass::Fatal => found.faults.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    if let Some(missing) = manifest.files.keys().find(|path| !found.seen.contains(*path)) {
        found.faults.push(format!("`{}` is missing in the backup", String::from_utf8_lossy(missing)));
    }
    Ok(found)
}

/// What an object is compared with; `None` for what is no archive.
fn scrutiny(object: &ManifestObject, manifest: &Arc<BackupManifest>, facts: &Arc<PostgresFacts>) -> Option<Scrutiny> {
    let (prefix, listed) = match object.role {
        ObjectRole::Data => (Vec::new(), Some(Arc::clone(manifest))),
        ObjectRole::Tablespace => {
            let place = Path::new("pg_tblspc").join(object.tablespace?.to_string());
            (format!("{}/", place.display()).into_bytes(), Some(Arc::clone(manifest)))
        }
        ObjectRole::Wal => (WAL_FOLDER.to_vec(), None),
        ObjectRole::BackupManifest
        | ObjectRole::Config
        | ObjectRole::Dump
        | ObjectRole::Globals
        | ObjectRole::File
        | ObjectRole::Unknown => return None,
    };
    Some(Scrutiny { prefix, manifest: listed, facts: Arc::clone(facts) })
}

async fn inspect(
    reading: Reading<'_>,
    object: &ManifestObject,
    (scrutiny, done): (Scrutiny, Arc<AtomicU64>),
    cx: &RunContext,
) -> Result<Found, ActionError> {
    let manifest = &reading.backup.manifest;
    let key = manifest.key_of(&reading.backup.prefix, object).map_err(|error| archive::broken(&error))?;
    let unpacking = reading.unpacking(object).map_err(|error| readable::unread(&error))?;
    let body = reading.store.get(&key).await.map_err(|error| archive::failed(&error))?;
    let body = unpacking.open(body, readable::expected(object));
    let own = key.to_string();
    let read = Inflow { body, done }.read(&cx.cancel, move |from| scrutiny.read(&own, from)).await;
    if cx.cancel.is_cancelled() {
        return Err(ActionError::cancelled("the verification was cancelled"));
    }
    read.map_err(|error| broken(key.as_str(), &error))?
}

/// Fetches the WAL that did not come with the backup from the archive; says what is not there either.
async fn fetch_missing(facts: &PostgresFacts, found: &mut Found, shelf: &Shelf<'_>) -> Option<String> {
    let mut fetched = BTreeMap::new();
    for name in facts.segments().into_iter().filter(|name| !found.segments.contains_key(name)) {
        match shelf.segment(name).await {
            Ok(bytes) => drop(fetched.insert(name, bytes)),
            Err(error) => return Some(format!("{error}, and it is not in the backup either")),
        }
    }
    found.segments.extend(fetched);
    None
}
