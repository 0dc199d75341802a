//! `postgres.base_backup`: a base backup in the store, its manifest last.
//!
//! `pg_basebackup` writes tar files with their WAL into the run's scratch folder; each file in them is
//! verified against the server's own `backup_manifest`; then the objects go to the store and our
//! manifest follows as the commit point. A backup without manifest is none.

use std::collections::BTreeSet;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::archive::{self, Shelf};
use super::by_hand;
use super::collect::{self, Collected, Job};
use super::connect::{Endpoint, Session};
use super::copies::Copies;
use super::delivery::{self, Delivery};
use super::facts::{ServerFacts, archives};
use super::layout::Cluster;
use super::owner::Owner;
use super::server::Programs;
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, DatabaseRef, EffectClass, Effects, Example,
    Findings, Idempotency, Interrupted, ParamFault, PlanContext, ReadStore, Recovery, RunContext, StoreError, StoreRef,
    Target,
};
use crate::base::{Timestamp, clock};
use crate::catalog::{self, Backup, BackupPlace, Manifest, PostgresFacts};
use crate::pgformat::{SegmentSize, SystemId};
use crate::transfer::Packing;
use crate::wal::Keys;

/// How long the last WAL of a backup may take to reach the archive (facts 2.10.18).
const ARCHIVED_WITHIN: Duration = Duration::from_secs(60);

/// Takes a base backup.
#[derive(Debug, Clone, Copy, Default)]
pub struct BaseBackup;

/// The arguments of `postgres.base_backup`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaseBackupParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// A label, kept in the backup; default `runbook RUN`.
    #[serde(default)]
    pub label: Option<String>,
    /// `fast` (default) checkpoints at once; `spread` spares the server's disks and takes minutes.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// The most that is read per second, for example `50MB`.
    #[serde(default)]
    pub max_rate: Option<crate::base::units::ByteSize>,
    /// The stores that each get a complete copy. Default: the store of the database.
    #[serde(default)]
    pub stores: Option<Vec<StoreRef>>,
    /// How many of them must have it in the end; those that fail beyond that are noted. Default: all.
    #[serde(default)]
    pub at_least: Option<usize>,
    /// The tier whose retention applies: `daily`, `monthly` …
    #[serde(default)]
    pub tier: Option<String>,
}

/// How the backup's checkpoint is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Checkpoint {
    /// At once.
    #[default]
    Fast,
    /// Spread over time.
    Spread,
}

/// The outputs of `postgres.base_backup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BaseBackupOutput {
    /// The backup.
    pub backup: BackupHandle,
    /// The bytes of its objects as they are stored.
    pub size_bytes: u64,
    /// Where replay begins.
    pub start_lsn: String,
    /// Where it is consistent.
    pub stop_lsn: String,
    /// Its timeline.
    pub timeline: u32,
    /// When it ended, by the server's clock.
    #[schemars(with = "String")]
    pub ended_at: Timestamp,
    /// Whether all WAL it needs was seen in its store; it carries a copy of its own in any case.
    pub wal_archived: bool,
    /// The backup in every store that has it.
    #[serde(default)]
    pub copies: Vec<BackupHandle>,
}

impl Action for BaseBackup {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.base_backup",
        summary: "Takes a verified PostgreSQL base backup into the database's store.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example {
                title: "With a limit on reading",
                with: "{ database: orders, checkpoint: fast, max_rate: 50MB }",
            },
            Example { title: "A tier, for retention", with: "{ database: orders, tier: daily }" },
        ],
    };
    type Params = BaseBackupParams;
    type Output = BaseBackupOutput;

    fn effects(&self, params: &BaseBackupParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let fault = |error: &ActionError| vec![ParamFault::new("/database", error.to_string())];
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).map_err(|error| fault(&error))?;
        cluster.archive().map_err(|error| fault(&error))?;
        if params.max_rate.is_some_and(|rate| !(32 << 10..=1 << 30).contains(&rate.0)) {
            return Err(vec![ParamFault::new("/max_rate", "the rate must lie between `32KiB` and `1GiB`")]);
        }
        let copies = Copies::of(params, &cluster);
        let copies = copies.map_err(|error| vec![ParamFault::new("/stores", error.to_string())])?;
        let mut effects =
            Effects::of(EffectClass::Write).target(Access::Read, Target::Database { name: cluster.name.clone() });
        for name in &copies.names {
            let target = Target::Store { name: (*name).to_owned(), prefix: copies.prefix.to_owned() };
            effects = effects.target(Access::Write, target);
        }
        Ok(effects.hold(cluster.name.clone()))
    }

    fn by_hand(&self, params: &BaseBackupParams, cx: &PlanContext<'_>) -> Vec<String> {
        by_hand::base_backup(params, cx).unwrap_or_default()
    }

    async fn check(&self, params: &BaseBackupParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        if cx.ahead && cluster.is_scratch() {
            return Ok(Findings::default().pending("the scratch instance does not run yet"));
        }
        let copies = Copies::of(params, &cluster)?;
        let mut session = Endpoint::of(&cluster, None, cx.about.secrets.as_ref())?.open().await?;
        let facts = ServerFacts::of(&mut session).await?;
        let findings = judge(&mut session, &facts, Findings::default()).await?;
        Programs::of(&cluster, &facts.major(), cx.host.as_ref())?.verify(&facts.major(), cx.host.as_ref()).await?;
        let space = cx.host.read_files().space(&cx.about.scratch);
        let space =
            space.map_err(|error| ActionError::fatal("the scratch folder cannot be looked at").because(&error))?;
        let mut findings = findings;
        for name in &copies.names {
            findings = usable(name, copies.prefix, cx, findings).await?;
        }
        if space.free_bytes < facts.size_bytes {
            let fact = format!(
                "the scratch folder has {} bytes free, the database has {}",
                space.free_bytes, facts.size_bytes
            );
            return Ok(findings.refuse(fact, "free some space, or move the state folder"));
        }
        Ok(findings.pass(format!("PostgreSQL {} answers, with {} bytes of data", facts.version, facts.size_bytes)))
    }

    async fn run(&self, params: &BaseBackupParams, cx: &RunContext) -> Result<BaseBackupOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let copies = Copies::of(params, &cluster)?;
        let id = catalog::backup_id(&cx.about.run.to_string(), &cx.step.to_string());
        let place = BackupPlace::new(copies.prefix, (catalog::KIND_POSTGRES_BASE, params.tier.as_deref()), &id);
        let mut outcome = copies.there(&place, cx).await?;
        if outcome.backups.len() == copies.names.len() {
            return output(outcome.backups, cx).await;
        }
        let mut session = Endpoint::of(&cluster, None, cx.about.secrets.as_ref())?.open().await?;
        let facts = ServerFacts::of(&mut session).await?;
        let depots = copies.ready(&mut outcome, SystemId(facts.system_id), cx).await;
        if outcome.backups.len() + depots.len() < copies.at_least {
            copies.judge(depots.len(), &mut outcome, cx)?;
        }
        let owner = Owner::of(&cluster, cx.host.as_ref())?;
        let programs = Programs::of(&cluster, &facts.major(), cx.host.as_ref())?;
        let started_at = server_time(&mut session).await?;
        let job =
            Job { cluster: &cluster, params, owner: &owner, programs: &programs, expected_bytes: facts.size_bytes };
        let collected = collect::collect(&job, cx).await?;
        let stopped_at = server_time(&mut session).await?;
        unchanged(&facts, &collected)?;
        let manifest = Manifest {
            run: Some(cx.about.run.to_string()),
            tier: params.tier.clone(),
            environment: Some(cx.about.environment.clone()),
            postgres: Some(described(&facts, &collected)?),
            label: Some(job.label(cx)),
            ..Manifest::new(id, catalog::KIND_POSTGRES_BASE, &cluster.name, (started_at, stopped_at))
        };
        let delivery = Delivery { parts: &collected.parts, depots: &depots, place: &place, cx };
        let arrivals = delivery.run().await?;
        note_slots(&facts, cx);
        if archives(&facts.archiving) {
            wait_archived(&manifest, cx, cluster.archive()?).await?;
        }
        for (depot, arrival) in depots.iter().zip(arrivals) {
            let manifest = arrival.map(|objects| Manifest { objects, ..manifest.clone() });
            copies.commit(&mut outcome, depot, manifest).await;
        }
        copies.judge(0, &mut outcome, cx)?;
        collected.remove(cx);
        output(outcome.backups, cx).await
    }

    async fn recover(
        &self,
        _: &BaseBackupParams,
        _: &Interrupted,
        _: &CheckContext,
    ) -> Result<Recovery<BaseBackupOutput>, ActionError> {
        Ok(Recovery::Rerun)
    }
}

/// Refuses a store that does not answer, or for which nothing can be packed.
pub(super) async fn usable(
    name: &str,
    prefix: &str,
    cx: &CheckContext,
    findings: Findings,
) -> Result<Findings, ActionError> {
    let entry = cx.about.inventory.stores.get(name);
    let packing = entry.map(|entry| Packing::of(entry, cx.about.secrets.as_ref()));
    if let Some(Err(error)) = packing {
        let error = delivery::unpackable(name, &error);
        let why = error.info().causes.join(": ");
        return Ok(findings.refuse(format!("{error}: {why}"), "look at the store's `compression` and `encryption`"));
    }
    match cx.store(name)?.browse(&format!("{prefix}/")).await {
        Ok(_) => Ok(findings),
        Err(error @ StoreError::Unavailable { .. }) => {
            let why = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
            let help =
                "mount it; a store that is used for the first time is made once with `runbook wal init --config FILE`";
            Ok(findings.refuse(format!("{error}{why}"), help))
        }
        Err(error) => Err(archive::failed(&error)),
    }
}

async fn judge(session: &mut Session, facts: &ServerFacts, findings: Findings) -> Result<Findings, ActionError> {
    let mut findings = findings;
    let role = session.value("SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user").await?;
    if role != "t" {
        findings = findings.refuse("the role may not take base backups", "ALTER ROLE … REPLICATION");
    }
    if facts.wal_level == "minimal" {
        findings = findings.refuse("`wal_level` is `minimal`", "set `wal_level = replica` and restart the server");
    }
    let senders =
        session.value("SELECT current_setting('max_wal_senders')::int - count(*) FROM pg_stat_replication").await?;
    if senders.parse::<i64>().unwrap_or_default() < 2 {
        findings =
            findings.refuse(format!("{senders} WAL senders are free, two are needed"), "raise `max_wal_senders`");
    }
    if !archives(&facts.archiving) {
        findings = findings.warn(
            "the server archives no WAL, so only the moment of the backup can be restored",
            "set `archive_mode = on` and `archive_command` to `runbook wal push`",
        );
    }
    Ok(findings)
}

/// Refuses a backup that a new tablespace slipped into.
fn unchanged(facts: &ServerFacts, collected: &Collected) -> Result<(), ActionError> {
    let known: BTreeSet<u32> = facts.tablespaces.iter().map(|tablespace| tablespace.oid).collect();
    match collected.tablespaces().find(|oid| !known.contains(oid)) {
        None => Ok(()),
        Some(made) => {
            let fact = format!("tablespace {made} was created while the backup began");
            Err(ActionError::retryable(fact).help("run the step again"))
        }
    }
}

fn described(facts: &ServerFacts, collected: &Collected) -> Result<PostgresFacts, ActionError> {
    let bytes = facts.wal_segment_bytes;
    let size = u32::try_from(bytes).ok().and_then(SegmentSize::new);
    Ok(PostgresFacts {
        server_version: facts.version.clone(),
        system_id: SystemId(facts.system_id),
        timeline: collected.timeline,
        start_lsn: collected.start,
        stop_lsn: collected.stop,
        segment_size: size.ok_or_else(|| ActionError::fatal(format!("segments of {bytes} bytes are impossible")))?,
        tablespaces: facts.tablespaces.clone(),
        slots: facts.slots.clone(),
        standbys: facts.standbys.clone(),
        data_checksums: Some(facts.data_checksums),
        archiving: Some(facts.archiving.clone()),
        databases: facts.databases.clone(),
    })
}

/// Slots are recorded, since no base backup holds them (facts 2.10.21).
fn note_slots(facts: &ServerFacts, cx: &RunContext) {
    if !facts.slots.is_empty() {
        let names: Vec<&str> = facts.slots.iter().map(|slot| slot.name.as_str()).collect();
        let message = format!("replication slots are recorded, not backed up: {}", names.join(", "));
        cx.reporter.note(message, serde_json::json!({ "slots": names }));
    }
}

pub(super) async fn server_time(session: &mut Session) -> Result<Timestamp, ActionError> {
    let text = session
        .value("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        .await?;
    text.parse().map_err(|_| ActionError::fatal(format!("the server's time `{text}` makes no sense")))
}

/// Waits, bounded, until the WAL of the backup is in the archive; says so when it is not.
async fn wait_archived(manifest: &Manifest, cx: &RunContext, (store, prefix): (&str, &str)) -> Result<(), ActionError> {
    let facts = manifest.cluster().map_err(|error| archive::broken(&error))?;
    let Some(last) = facts.segments().pop() else { return Ok(()) };
    let store = cx.store(store)?;
    let shelf = shelf(facts, store.as_read(), prefix);
    let started = clock::monotonic();
    while !shelf.holds(last).await? {
        if started.elapsed() > ARCHIVED_WITHIN {
            let message = format!(
                "segment `{last}` did not reach the archive within 60s: the backup restores on its own, but not beyond its end"
            );
            cx.reporter.note(message, serde_json::json!({ "segment": last.to_string() }));
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            () = cx.cancel.cancelled() => return Err(ActionError::cancelled("the backup was cancelled before its manifest")),
        }
    }
    Ok(())
}

fn shelf<'a>(facts: &PostgresFacts, store: &'a dyn ReadStore, prefix: &'a str) -> Shelf<'a> {
    Shelf { store, prefix, system_id: facts.system_id, size: facts.segment_size, keys: Keys::none() }
}

async fn output(copies: Vec<Backup>, cx: &RunContext) -> Result<BaseBackupOutput, ActionError> {
    let backup = copies.first().ok_or_else(|| ActionError::fatal("no store has the backup"))?;
    let manifest = &backup.manifest;
    let store = cx.store(&backup.store)?;
    let facts = manifest.cluster().map_err(|error| archive::broken(&error))?;
    let shelf = shelf(facts, store.as_read(), &backup.prefix);
    let mut wal_archived = true;
    for segment in facts.segments() {
        wal_archived = wal_archived && shelf.holds(segment).await?;
    }
    Ok(BaseBackupOutput {
        backup: backup.handle(),
        size_bytes: manifest.size_bytes(),
        start_lsn: facts.start_lsn.to_string(),
        stop_lsn: facts.stop_lsn.to_string(),
        timeline: facts.timeline.0,
        ended_at: manifest.stopped_at,
        wal_archived,
        copies: copies.iter().map(Backup::handle).collect(),
    })
}
