//! `postgres.base_backup`: a base backup in the store, its manifest last.
//!
//! The server sends everything over its replication protocol; each file is verified against its own
//! `backup_manifest` while the bytes flow into all stores, and our manifest follows as the commit point. A backup
//! without manifest is none.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::archive;
use super::bad_page;
use super::base_backup_by_hand;
use super::collect::{Collected, Job};
use super::connect::{Endpoint, Session};
use super::copies::Copies;
use super::delivery::{Arrivals, Delivery};
use super::facts::{ServerFacts, archives};
use super::increment::{self, Prior, Wanted};
use super::keeper::Wish;
use super::last_wal;
use super::layout::Cluster;
use super::outside::Outside;
use super::replication::Wire;
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, DatabaseRef, EffectClass, Effects, Example,
    Findings, Idempotency, Interrupted, Late, ParamFault, PlanContext, Recovery, RunContext, StoreRef, Target,
};
use crate::base::{Timestamp, clock};
use crate::catalog::{self, Backup, BackupPlace, Manifest, PostgresFacts};
use crate::language::inventory::Inventory;
use crate::pgformat::{Change, SegmentSize, SystemId};

/// How long a server is asked again that takes no sessions after it has sent everything.
const ASKED_AGAIN_FOR: Duration = Duration::from_secs(60);

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
    /// The stores that each get a complete copy. Default: `store` and `backup_stores` of the database.
    #[serde(default)]
    pub stores: Option<Vec<StoreRef>>,
    /// How many of them must have it in the end; those that fail beyond that are noted. Default: all.
    #[serde(default)]
    pub at_least: Option<usize>,
    /// The tier whose retention applies: `daily`, `monthly` …
    #[serde(default)]
    pub tier: Option<String>,
    /// The entry of a standby of the same cluster that the data is read from, to spare the primary.
    #[serde(default)]
    pub source: Option<DatabaseRef>,
    /// Takes only what changed since another backup, on which it then rests (PostgreSQL 17 on, with `summarize_wal`).
    /// Without any backup to rest on it is full.
    #[serde(default)]
    pub incremental: bool,
    /// The backup that an incremental one rests on. Default: the newest whole base backup.
    #[serde(default)]
    pub parent: Option<Late<BackupHandle>>,
    /// What a page with a wrong checksum does: `fail` (default) keeps no backup, `note` keeps it and records the pages.
    #[serde(default)]
    pub on_bad_page: OnBadPage,
}

/// What a page with a wrong checksum does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadPage {
    /// The step fails, and there is no backup.
    #[default]
    Fail,
    /// The backup is kept; its manifest names the pages.
    Note,
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
    /// The backup that this one rests on; null for a full one.
    #[serde(default)]
    pub parent: Option<String>,
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
            Example {
                title: "From a standby, into two stores",
                with: "{ database: orders, source: orders_standby, stores: [primary, offsite], at_least: 1 }",
            },
            Example { title: "A tier, for retention", with: "{ database: orders, tier: daily }" },
            Example { title: "What changed since the newest backup", with: "{ database: orders, incremental: true }" },
        ],
    };
    type Params = BaseBackupParams;
    type Output = BaseBackupOutput;

    fn effects(&self, params: &BaseBackupParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let fault = |error: &ActionError| vec![ParamFault::new("/database", error.to_string())];
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).map_err(|error| fault(&error))?;
        cluster.within_reach(Wish::BaseBackup)?;
        cluster.archive().map_err(|error| fault(&error))?;
        if params.max_rate.is_some_and(|rate| !(32 << 10..=1 << 30).contains(&rate.0)) {
            return Err(vec![ParamFault::new("/max_rate", "the rate must lie between `32KiB` and `1GiB`")]);
        }
        if params.parent.is_some() && !params.incremental {
            return Err(vec![ParamFault::new(
                "/parent",
                "only an incremental backup rests on another: add `incremental: true`",
            )]);
        }
        let copies = Copies::of(params, &cluster);
        let copies = copies.map_err(|error| vec![ParamFault::new("/stores", error.to_string())])?;
        let mut effects =
            Effects::of(EffectClass::Write).target(Access::Read, Target::Database { name: cluster.name.clone() });
        if let Some(source) = &params.source {
            let source = Cluster::of(source, cx.inventory, cx.scratch);
            let source = source.map_err(|error| vec![ParamFault::new("/source", error.to_string())])?;
            source.within_reach(Wish::BaseBackup)?;
            effects = effects.target(Access::Read, Target::Database { name: source.name });
        }
        for name in &copies.names {
            let target = Target::Store { name: (*name).to_owned(), prefix: copies.prefix.to_owned() };
            effects = effects.target(Access::Write, target);
        }
        Ok(archive::read(&cluster, effects).hold(cluster.name.clone()))
    }

    fn by_hand(&self, params: &BaseBackupParams, cx: &PlanContext<'_>) -> Vec<String> {
        base_backup_by_hand::lines(params, cx).unwrap_or_default()
    }

    async fn check(&self, params: &BaseBackupParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        if cx.ahead && cluster.is_scratch() {
            return Ok(Findings::default().pending("the scratch instance does not run yet"));
        }
        let copies = Copies::of(params, &cluster)?;
        let mut session = Endpoint::of(&cluster, None, cx.about.secrets.as_ref())?.open().await?;
        let facts = ServerFacts::of(&mut session).await?;
        let mut findings = judge(&mut session, &facts, Findings::default()).await?;
        let source = source(params, &cluster, (&cx.about.inventory, &cx.about.scratch))?;
        let endpoint = Endpoint::of(&source, None, cx.about.secrets.as_ref())?;
        if let Err(error) = same_cluster(&endpoint, &facts, params).await {
            let help = error.info().help.clone().unwrap_or_else(|| "look at `pg_hba.conf` and at the role".to_owned());
            return Ok(findings.refuse(error.in_full(), help));
        }
        findings = increment::judge(params, (&endpoint, &facts), findings).await?;
        let (usable, judged) = copies.usable(cx, findings).await;
        findings = judged;
        if !findings.refused() {
            findings = increment::judge_prior(params, (&cluster, copies.prefix, &usable), cx, findings).await?;
        }
        Ok(findings.pass(format!("PostgreSQL {} answers, with {} bytes of data", facts.version, facts.size_bytes)))
    }

    async fn run(&self, params: &BaseBackupParams, cx: &RunContext) -> Result<BaseBackupOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let copies = Copies::of(params, &cluster)?;
        let id = catalog::backup_id(&cx.about.run.to_string(), &cx.step.to_string());
        let place = BackupPlace::new(copies.prefix, (catalog::KIND_POSTGRES_BASE, params.tier.as_deref()), &id);
        let mut outcome = copies.there(&place, cx).await?;
        if let Some(original) = outcome.backups.first().cloned() {
            copies.complete(&mut outcome, &original, cx).await?;
            return output(outcome.backups, &cluster, cx).await;
        }
        let primary = Endpoint::of(&cluster, None, cx.about.secrets.as_ref())?;
        let facts = ServerFacts::of(&mut primary.open().await?).await?;
        let mut depots = copies.ready(&mut outcome, (&place, SystemId(facts.system_id)), cx).await;
        // A store had it all along, and gave no answer before.
        if let Some(original) = outcome.backups.first().cloned() {
            copies.complete(&mut outcome, &original, cx).await?;
            return output(outcome.backups, &cluster, cx).await;
        }
        let wanted = Wanted { params, cluster: &cluster, facts: &facts, place: &place, prefix: copies.prefix, cx };
        let prior = wanted.prior(&mut depots, &mut outcome).await?;
        copies.judge(depots.len(), &mut outcome, cx)?;
        let delivery = Delivery { depots: &depots, place: &place, needed: copies.at_least };
        let (mut arrivals, clock) = (Arrivals::new(&depots), clock::monotonic());
        let taking =
            Taking { params, cluster: &cluster, primary: &primary, facts: &facts, prior, delivery: &delivery, cx };
        let taken = taking.take(&mut arrivals).await;
        if arrivals.whole() < copies.at_least && !cx.cancel.is_cancelled() {
            copies.fail(&depots, arrivals, &mut outcome);
            copies.judge(0, &mut outcome, cx)?;
            return output(outcome.backups, &cluster, cx).await;
        }
        let manifest = taking.manifest(id, taken?)?;
        let arrivals = arrivals.into_inner();
        delivery.close(&arrivals, clock.elapsed(), cx);
        note_slots(&facts, cx);
        if params.source.is_some() {
            last_wal::switch(&primary, cx).await;
        }
        if archives(&facts.archiving) {
            last_wal::wait(&manifest, cx, &cluster).await?;
        }
        for (depot, arrival) in depots.iter().zip(arrivals) {
            let manifest = arrival.map(|objects| Manifest { objects, ..manifest.clone() });
            copies.commit(&mut outcome, depot, manifest).await;
        }
        copies.judge(0, &mut outcome, cx)?;
        output(outcome.backups, &cluster, cx).await
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

/// A backup that is being taken.
struct Taking<'a> {
    params: &'a BaseBackupParams,
    cluster: &'a Cluster,
    primary: &'a Endpoint,
    facts: &'a ServerFacts,
    prior: Option<Prior>,
    delivery: &'a Delivery<'a>,
    cx: &'a RunContext,
}

/// What was taken, and when.
struct Taken {
    collected: Collected,
    label: String,
    started_at: Timestamp,
    stopped_at: Timestamp,
}

impl Taking<'_> {
    /// Streams everything into the stores and judges it. No session is kept open meanwhile: it would be idle for hours,
    /// and servers, poolers and firewalls end such.
    async fn take(&self, arrivals: &mut Arrivals) -> Result<Taken, ActionError> {
        let Self { params, cluster, primary, facts, ref prior, delivery, cx } = *self;
        let source = source(params, cluster, (&cx.about.inventory, &cx.about.scratch))?;
        let endpoint = Endpoint::of(&source, None, cx.about.secrets.as_ref())?;
        same_cluster(&endpoint, facts, params).await?;
        let started_at = server_time(&mut primary.open().await?).await?;
        let job = Job { params, facts, endpoint: &endpoint, delivery, prior: prior.as_ref(), cx };
        let mut collected = job.run(arrivals).await?;
        // Without it all that was streamed is lost.
        let mut session = primary.open_within(ASKED_AGAIN_FOR, &cx.cancel).await?;
        let (stopped_at, outside) = (server_time(&mut session).await?, Outside::of(&mut session).await?);
        drop(session);
        unchanged(facts, &collected)?;
        bad_page::judge(&mut collected.bad_pages, params.on_bad_page, cluster, cx).await?;
        outside.bring(delivery, arrivals, (cluster, cx)).await;
        Ok(Taken { collected, label: job.label(), started_at, stopped_at })
    }

    fn manifest(&self, id: String, taken: Taken) -> Result<Manifest, ActionError> {
        let Taken { collected, label, started_at, stopped_at } = taken;
        Ok(Manifest {
            run: Some(self.cx.about.run.to_string()),
            tier: self.params.tier.clone(),
            environment: Some(self.cx.about.environment.clone()),
            parent: self.prior.as_ref().map(|prior| prior.id.clone()),
            postgres: Some(described(self.facts, &collected)?),
            label: Some(label),
            ..Manifest::new(id, catalog::KIND_POSTGRES_BASE, &self.cluster.name, (started_at, stopped_at))
        })
    }
}

/// Whether the role is told where the server's files are and who streams from it (manual, "Predefined Roles").
const SEES_ALL: &str = "SELECT pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') \
 AND pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')";

async fn judge(session: &mut Session, facts: &ServerFacts, findings: Findings) -> Result<Findings, ActionError> {
    let mut findings = findings;
    let role = session.value("SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user").await?;
    if role != "t" {
        findings = findings.refuse("the role may not take base backups", "ALTER ROLE … REPLICATION");
    }
    if session.value(SEES_ALL).await? != "t" {
        findings = findings.warn(
            "the role does not see all settings and statistics: configuration files outside the data directory, the \
             libraries that the server loads and its standbys are not in the backup",
            "GRANT pg_monitor TO it",
        );
    }
    if facts.wal_level == "minimal" {
        findings = findings.refuse("`wal_level` is `minimal`", "set `wal_level = replica` and restart the server");
    }
    let senders =
        session.value("SELECT current_setting('max_wal_senders')::int - count(*) FROM pg_stat_replication").await?;
    if senders.parse::<i64>().unwrap_or_default() < 1 {
        findings = findings.refuse("no WAL sender is free", "raise `max_wal_senders`");
    }
    if !facts.major().has(Change::BackupManifest) {
        let fact = format!("PostgreSQL {} gives no `backup_manifest`, so nothing could be verified", facts.version);
        findings = findings.refuse(fact, "upgrade to PostgreSQL 13 or newer");
    }
    if !archives(&facts.archiving) {
        findings = findings.warn(
            "the server archives no WAL, so only the moment of the backup can be restored",
            "set `archive_mode = on` and `archive_command` to `runbook wal push`",
        );
    }
    Ok(findings)
}

/// The server that the data is read from.
fn source(
    params: &BaseBackupParams,
    cluster: &Cluster,
    (inventory, scratch): (&Inventory, &Path),
) -> Result<Cluster, ActionError> {
    params.source.as_ref().map_or_else(|| Ok(cluster.clone()), |source| Cluster::of(source, inventory, scratch))
}

/// Proves that the source answers for replication, and that another entry is a standby of this very cluster.
async fn same_cluster(endpoint: &Endpoint, facts: &ServerFacts, params: &BaseBackupParams) -> Result<(), ActionError> {
    let mut wire = Wire::open(endpoint).await?;
    let told = wire.rows("IDENTIFY_SYSTEM").await?;
    let system_id = told.first().and_then(|row| row.first()).cloned().flatten().unwrap_or_default();
    if system_id != facts.system_id.to_string() {
        let fact = format!("cluster {system_id} answers for replication where cluster {} is wanted", facts.system_id);
        return Err(
            ActionError::fatal(fact).help("see which server listens there, and whether a pooler stands between")
        );
    }
    let Some(source) = &params.source else { return Ok(()) };
    if endpoint.open().await?.value("SELECT pg_is_in_recovery()").await? != "t" {
        let fact = format!("database `{}` is no standby", source.as_str());
        return Err(ActionError::fatal(fact).help("leave `source` out, or name the entry of a standby"));
    }
    Ok(())
}

/// Refuses a backup that a new tablespace slipped into.
fn unchanged(facts: &ServerFacts, collected: &Collected) -> Result<(), ActionError> {
    let known: BTreeSet<u32> = facts.tablespaces.iter().map(|tablespace| tablespace.oid).collect();
    match collected.tablespaces.iter().find(|oid| !known.contains(oid)) {
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
        preload_libraries: facts.preload_libraries.clone(),
        bad_pages: collected.bad_pages.iter().map(ToString::to_string).collect(),
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

async fn output(copies: Vec<Backup>, cluster: &Cluster, cx: &RunContext) -> Result<BaseBackupOutput, ActionError> {
    let backup = copies.first().ok_or_else(|| ActionError::fatal("no store has the backup"))?;
    let manifest = &backup.manifest;
    let facts = manifest.cluster().map_err(|error| archive::broken(&error))?;
    let wal_archived = last_wal::is_archived(manifest, cx, cluster).await;
    Ok(BaseBackupOutput {
        backup: backup.handle(),
        size_bytes: manifest.size_bytes(),
        start_lsn: facts.start_lsn.to_string(),
        stop_lsn: facts.stop_lsn.to_string(),
        timeline: facts.timeline.0,
        ended_at: manifest.stopped_at,
        wal_archived,
        parent: manifest.parent.clone(),
        copies: copies.iter().map(Backup::handle).collect(),
    })
}
