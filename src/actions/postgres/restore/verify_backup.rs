//! `postgres.verify_backup`: a base backup is read to its last byte, without a restore.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spare;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, DatabaseRef, EffectClass, Effects, Example,
    Findings, Idempotency, Late, ParamFault, PlanContext, ReadStore, RunContext, StoreRef, Target,
};
use crate::actions::backup::sighting;
use crate::actions::postgres::backup::inspection::{Inspected, Inspection};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::stores::archive::{self, WalArchive};
use crate::actions::postgres::stores::readable::{self, Reading};
use crate::actions::store::catalog_failed;
use crate::base::{Timestamp, clock};
use crate::catalog::attest::{self, Level, Verdict, Verification};
use crate::catalog::{self, Backup, CatalogError};
use crate::event::ErrorClass;
use crate::pgformat::{SegmentName, WalFileName};

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
    /// Keeps what was found beside the manifest. Default yes; `false` for a store that may only be read. Of a backup that
    /// was found by its `location` nothing is kept.
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
    /// Which stores of its WAL lack some of them that another has: what only one has is lost with it.
    #[serde(default)]
    pub apart: Vec<String>,
}

impl VerifyBackupParams {
    /// Where the copy lies that is read.
    fn place(&self, cluster: &Cluster) -> Result<(String, String), ActionError> {
        let (declared, prefix) = self.declared(cluster)?;
        let found = self.backup.as_ref().and_then(Late::known).filter(|_| self.store.is_none());
        Ok((found.map_or(declared, |handle| handle.store.clone()), prefix))
    }

    /// Where the step says, before it runs, that it writes.
    fn declared(&self, cluster: &Cluster) -> Result<(String, String), ActionError> {
        let (own, prefix) = cluster.archive()?;
        let named = self.store.as_ref().map(|store| store.as_str());
        Ok((named.unwrap_or(own).to_owned(), prefix.to_owned()))
    }

    /// Whether what is found is kept: where another program's backup lies nothing is written, and no catalog would read it.
    fn keeps(&self) -> bool {
        let handle = self.backup.as_ref().and_then(Late::known);
        self.record && handle.is_none_or(|handle| handle.described.is_none())
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
        let (name, prefix) = params.declared(&cluster).map_err(|error| fault(&error))?;
        let target = Target::Store { name, prefix };
        let effects = match params.record {
            true => Effects::of(EffectClass::Write).target(Access::Write, target),
            false => Effects::of(EffectClass::Read).target(Access::Read, target),
        };
        Ok(archive::read(&cluster, spare::read(&cluster, effects)))
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
            Some(handle) => catalog::open_copy(store.as_ref(), &prefix, handle).await.map_err(catalog_failed)?,
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
        reading.judge_answers(findings).await
    }

    async fn run(&self, params: &VerifyBackupParams, cx: &RunContext) -> Result<VerifyBackupOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let (name, prefix) = params.place(&cluster)?;
        let store = cx.store(&name)?;
        let backup = match &params.backup {
            Some(handle) => {
                catalog::open_copy(store.as_read(), &prefix, handle.get()?).await.map_err(catalog_failed)?
            }
            None => readable::newest(store.as_read(), &prefix, &cluster.name).await?.into_iter().next().ok_or_else(
                || ActionError::fatal(format!("store `{name}` has no base backup of `{}`", cluster.name)),
            )?,
        };
        let reading = Reading { store: store.as_read(), backup: &backup, about: &cx.about };
        let (inspected, apart) = match look(reading, &cluster, cx).await {
            Ok(looked) => looked,
            Err(error) => return Err(told_of_others(error, (&cluster, &backup), cx).await),
        };
        if let Some(apart) = apart.first() {
            let help = format!("`runbook wal mend {}` copies them", cluster.name);
            cx.reporter.note(format!("warning: {apart}; {help}"), serde_json::json!({ "apart": apart }));
        }
        let note = note(&backup, &inspected, cx);
        match params.keeps() {
            true if name == params.declared(&cluster)?.0 => {
                attest::verified(store.as_ref(), &backup.place(), &note).await.map_err(catalog_failed)?;
            }
            true => sighting::told(&backup, note, cx),
            false => {}
        }
        conclude(&backup, (&inspected, apart), cx)
    }
}

/// Names the store whose copy could not be read, and one whose copy can.
async fn told_of_others(error: ActionError, (cluster, backup): (&Cluster, &Backup), cx: &RunContext) -> ActionError {
    if error.info().class != ErrorClass::Fatal {
        return error;
    }
    let open = |name: &str| cx.store(name).map(|store| store as Arc<dyn ReadStore>);
    let Ok(Some(other)) = spare::readable(cluster, &backup.handle(), (&cx.about, &open)).await else { return error };
    let help = error.info().help.clone().map_or_else(String::new, |help| format!("{help}; "));
    let own = &backup.store;
    error.help(format!(
        "{help}what store `{own}` has cannot be read here, the copy in `{other}` can: `store: {other}` verifies it"
    ))
}

fn note(backup: &Backup, inspected: &Inspected, cx: &RunContext) -> Verification {
    let faults = inspected.found.faults.clone();
    Verification {
        format: 1,
        manifest: backup.digest,
        level: Level::Content,
        at: clock::now(),
        by: format!("run {}", cx.about.run),
        read_bytes: inspected.read_bytes,
        verdict: if faults.is_empty() { Verdict::Passed } else { Verdict::Failed },
        faults,
    }
}

fn conclude(
    backup: &Backup,
    (inspected, apart): (&Inspected, Vec<String>),
    cx: &RunContext,
) -> Result<VerifyBackupOutput, ActionError> {
    let (id, found) = (&backup.manifest.id, &inspected.found);
    if let Some(first) = found.faults.first() {
        let message = format!("backup `{id}` does not hold: {first}");
        cx.reporter.note(message.clone(), serde_json::json!({ "faults": found.faults }));
        let more = found.faults.len() - 1;
        let message = if more > 0 { format!("{message} (and {more} other faults)") } else { message };
        return Err(ActionError::fatal(message).help("take a new backup now; keep the damaged one until you know why"));
    }
    Ok(VerifyBackupOutput {
        backup: backup.handle(),
        read_bytes: inspected.read_bytes,
        files: found.seen.len() as u64,
        pages: found.pages,
        segments: inspected.segments.iter().map(SegmentName::to_string).collect(),
        apart,
    })
}

/// Reads a whole backup and the WAL that makes it consistent, from whichever store of its cluster's WAL has a segment.
async fn look(
    reading: Reading<'_>,
    cluster: &Cluster,
    cx: &RunContext,
) -> Result<(Inspected, Vec<String>), ActionError> {
    let Reading { store, backup, .. } = reading;
    let facts = Arc::new(backup.manifest.cluster().map_err(|error| archive::broken(&error))?.clone());
    let (_, prefix) = cluster.archive()?;
    let mut others = archive::opened(cluster, |name| cx.store(name))?;
    others.retain(|other| other.as_read().name() != store.name());
    let readers = std::iter::once(store).chain(others.iter().map(|other| other.as_read()));
    let stores = readers.map(|store| (store, archive::keys(&cx.about, store.name()))).collect();
    let (system_id, size) = (facts.system_id, facts.segment_size);
    let wal_archive = WalArchive { stores, prefix, system_id, size };
    let inspection = Inspection { reading, wal_archive, facts, cx, done: Arc::default() };
    let mut inspected = inspection.run().await?;
    match catalog::lineage(store, backup).await {
        Ok(_) => {}
        Err(CatalogError::Torn { what, .. }) => inspected.found.faults.push(what),
        Err(error) => return Err(catalog_failed(error)),
    }
    let apart = apart(&inspection.wal_archive, cluster, &inspected.segments).await?;
    Ok((inspected, apart))
}

/// Tells of each store of a cluster's WAL what it lacks of a backup's segments while another has it.
async fn apart(
    wal_archive: &WalArchive<'_>,
    cluster: &Cluster,
    segments: &[SegmentName],
) -> Result<Vec<String>, ActionError> {
    let mut held = Vec::new();
    for (store, keys) in
        wal_archive.stores.iter().filter(|(store, _)| cluster.entry.archives().any(|name| name == store.name()))
    {
        let own = WalArchive { stores: vec![(*store, *keys)], ..wal_archive.clone() };
        held.push((store.name(), own.names().await?));
    }
    let holds = |names: &BTreeMap<WalFileName, Timestamp>, segment| names.contains_key(&WalFileName::Segment(segment));
    let wanted: Vec<SegmentName> =
        segments.iter().copied().filter(|segment| held.iter().any(|(_, names)| holds(names, *segment))).collect();
    let lacking =
        held.iter().map(|(store, names)| (store, wanted.iter().filter(|segment| !holds(names, **segment)).count()));
    let told = lacking.filter(|(_, count)| *count > 0);
    Ok(told.map(|(store, count)| format!("store `{store}` lacks {count} of its segments, which another has")).collect())
}

/// Proves a backup before what it replaces is given up.
///
/// # Errors
/// Fails when anything of it is wrong or cannot be read.
pub(crate) async fn holds(reading: Reading<'_>, cluster: &Cluster, cx: &RunContext) -> Result<(), ActionError> {
    let (inspected, apart) = look(reading, cluster, cx).await?;
    if !inspected.found.faults.is_empty() {
        sighting::told(reading.backup, note(reading.backup, &inspected, cx), cx);
    }
    conclude(reading.backup, (&inspected, apart), cx).map(|_| ())
}
