//! `postgres.around_snapshot`: one session holds the server in backup mode while a program takes a snapshot.
//!
//! The backup counts only when that very session ends it: a session that is lost takes the backup mode with it, and
//! pages that were written half would be in the snapshot without the WAL that mends them.

use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::by_hand::command_line;
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, CommandSpec, DatabaseRef, EffectClass,
    Effects, Example, Findings, Idempotency, Interrupted, ParamFault, PlanContext, Recovery, RunContext, Target, Tie,
};
use crate::actions::postgres::backup::base_backup::{Checkpoint, server_time};
use crate::actions::postgres::backup::copies::Copies;
use crate::actions::postgres::backup::delivery::{Arrivals, Delivery, Item};
use crate::actions::postgres::backup::last_wal::{self, Whereabouts};
use crate::actions::postgres::cluster::by_hand;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::name::literal;
use crate::actions::postgres::cluster::service_manager::Wish;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::facts::{ServerFacts, archives};
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::base::Timestamp;
use crate::catalog::{
    self, Backup, BackupPlace, KIND_POSTGRES_SNAPSHOT, Manifest, ObjectRole, PostgresFacts, Snapshot,
};
use crate::pgformat::{BackupLabel, Change, Lsn, SegmentSize, SystemId, Timeline};

/// How long the last WAL may take into the archive, without which the snapshot is worth nothing.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(120);

/// Takes a backup by a snapshot.
#[derive(Debug, Clone, Copy, Default)]
pub struct AroundSnapshot;

/// The arguments of `postgres.around_snapshot`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AroundSnapshotParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// The program that takes the snapshot, and its arguments; no secrets here. It must snapshot the data directory and
    /// every tablespace at once, or copy them one after the other.
    pub argv: Vec<String>,
    /// Where the snapshot is found again: a volume, a device, a folder. Default: the first line that the program writes.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// A label, kept in the backup; default `runbook RUN`.
    #[serde(default)]
    pub label: Option<String>,
    /// `fast` (default) checkpoints at once; `spread` spares the server's disks and takes minutes.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// How many of its stores must get the label; default all.
    #[serde(default)]
    pub at_least: Option<usize>,
    /// The tier whose retention applies: `daily`, `monthly` … Retention forgets the label; the snapshot itself is deleted
    /// by whoever keeps it.
    #[serde(default)]
    pub tier: Option<String>,
}

/// The outputs of `postgres.around_snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AroundSnapshotOutput {
    /// The backup.
    pub backup: BackupHandle,
    /// Where its snapshot is found.
    pub snapshot: String,
    /// Where replay begins.
    pub start_lsn: String,
    /// Where it is consistent.
    pub stop_lsn: String,
    /// Its timeline.
    pub timeline: u32,
    /// When it ended, by the server's clock.
    #[schemars(with = "String")]
    pub ended_at: Timestamp,
}

impl Action for AroundSnapshot {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.around_snapshot",
        summary: "Holds the server in backup mode while a program takes a snapshot, and keeps its label as a backup.",
        effect: EffectClass::Write,
        idempotency: Idempotency::NotIdempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[Example {
            title: "A snapshot of a logical volume",
            with: "{ database: orders, argv: [lvcreate, --snapshot, --size, 20G, --name, orders_nightly, /dev/vg0/orders], snapshot: /dev/vg0/orders_nightly }",
        }],
    };
    type Params = AroundSnapshotParams;
    type Output = AroundSnapshotOutput;

    fn effects(&self, params: &AroundSnapshotParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let fault = |error: &ActionError| vec![ParamFault::new("/database", error.to_string())];
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).map_err(|error| fault(&error))?;
        cluster.within_reach(Wish::BaseBackup)?;
        let (store, prefix) = cluster.archive().map_err(|error| fault(&error))?;
        let Some(program) = params.argv.first().filter(|program| !program.is_empty()) else {
            return Err(vec![ParamFault::new("/argv", "the program that takes the snapshot is missing")]);
        };
        let target = Target::Store { name: store.to_owned(), prefix: prefix.to_owned() };
        let effects = Effects::of(EffectClass::Write).target(Access::Write, target).program(program);
        Ok(effects.target(Access::Read, Target::Database { name: cluster.name.clone() }).hold(cluster.name))
    }

    fn by_hand(&self, params: &AroundSnapshotParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(cluster) = Cluster::of(&params.database, cx.inventory, cx.scratch) else { return Vec::new() };
        let start = format!("SELECT pg_backup_start({}, true)", literal(params.label.as_deref().unwrap_or("by hand")));
        vec![
            crate::action::by_hand::remark(
                "all in one session; before PostgreSQL 15 it is pg_start_backup(…, true, false):",
            ),
            by_hand::sql(&cluster, &cluster.dbname, &start),
            format!("\\! {}", command_line(&params.argv)),
            by_hand::sql(&cluster, &cluster.dbname, "SELECT * FROM pg_backup_stop()"),
            crate::action::by_hand::remark("keep `labelfile` as `backup_label` and `spcmapfile` as `tablespace_map`"),
        ]
    }

    async fn check(&self, params: &AroundSnapshotParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let findings = Findings::default();
        if cx.ahead && cluster.is_scratch() {
            return Ok(findings.pending("the scratch instance does not run yet"));
        }
        let mut session = MaintenanceDb::own(&cluster, cx.about.secrets.as_ref())?.open().await?;
        let facts = ServerFacts::of(&mut session).await?;
        if facts.in_recovery {
            return Ok(findings.refuse("the server is a standby", "take the snapshot on its primary"));
        }
        if !archives(&facts.archiving) {
            let fact = "the server archives no WAL, and a snapshot carries none: it could never be made consistent";
            return Ok(findings.refuse(fact, "set `archive_mode = on` and `archive_command` to `runbook wal push`"));
        }
        let start = if facts.major().has(Change::BackupFunctions) {
            "pg_backup_start(text, boolean)"
        } else {
            "pg_start_backup(text, boolean, boolean)"
        };
        let may = format!("SELECT has_function_privilege('pg_catalog.{start}', 'EXECUTE')");
        if session.value(&may).await? != "t" {
            return Ok(
                findings.refuse("the role may not begin a backup", format!("GRANT EXECUTE ON FUNCTION {start} TO it"))
            );
        }
        let copies = Copies::named((None, params.at_least), &cluster)?;
        let (_, mut findings) = copies.usable(cx, findings).await;
        if let Some(told) = outside(&facts) {
            findings = findings.warn(told, "have the program take their file systems as well, the data directory first; `postgres.restore_snapshot` wants each under `tablespaces`");
        }
        Ok(findings.pass(format!("PostgreSQL {} answers and archives", facts.version)))
    }

    async fn run(&self, params: &AroundSnapshotParams, cx: &RunContext) -> Result<AroundSnapshotOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let copies = Copies::named((None, params.at_least), &cluster)?;
        let id = catalog::backup_id(&cx.about.run.to_string(), &cx.step.to_string());
        let place = BackupPlace::new(copies.prefix, (KIND_POSTGRES_SNAPSHOT, params.tier.as_deref()), &id);
        let mut outcome = copies.there(&place, cx).await?;
        if let Some(backup) = outcome.backups.first() {
            return output(backup);
        }
        let mut session = MaintenanceDb::own(&cluster, cx.about.secrets.as_ref())?.open().await?;
        let facts = ServerFacts::of(&mut session).await?;
        if !archives(&facts.archiving) {
            return Err(ActionError::fatal("the server archives no WAL, and a snapshot carries none"));
        }
        let backup_stores = copies.ready(&mut outcome, (&place, SystemId(facts.system_id)), cx).await;
        if let Some(backup) = outcome.backups.first() {
            return output(backup);
        }
        copies.judge(backup_stores.len(), &mut outcome, cx)?;
        if let Some(told) = outside(&facts) {
            cx.reporter.note(format!("warning: {told}"), serde_json::Value::Null);
        }
        let taken = Taking { params, facts: &facts, cx }.take(&mut session).await?;
        let delivery = Delivery { backup_stores: &backup_stores, place: &place, needed: 1 };
        let mut arrivals = Arrivals::new(&backup_stores);
        for (name, text) in taken.files() {
            delivery.bring_small(&Item::new(name, ObjectRole::File), &text, &mut arrivals).await;
        }
        let manifest = manifest(&taken, (id, &cluster, &facts), (params, cx))?;
        let last = last_wal::whereabouts(&manifest, ARCHIVED_WITHIN, cx, &cluster).await?;
        if let Some(apart) = last.as_ref().and_then(Whereabouts::apart) {
            cx.reporter.note(format!("warning: {apart}: see `runbook wal status`"), serde_json::Value::Null);
        }
        if let Some(last) = last.filter(|last| last.there.is_empty()) {
            let fact = format!(
                "segment `{}` did not reach the archive within {}s, so the snapshot is no backup",
                last.segment,
                ARCHIVED_WITHIN.as_secs()
            );
            return Err(
                ActionError::fatal(fact).help("see `runbook wal status`; take another snapshot when archiving works")
            );
        }
        for (backup_store, arrival) in backup_stores.iter().zip(arrivals.into_inner()) {
            let manifest = arrival.map(|objects| Manifest { objects, ..manifest.clone() });
            let manifest = manifest.map_err(ActionError::from);
            copies.commit(&mut outcome, backup_store, manifest).await;
        }
        copies.judge(0, &mut outcome, cx)?;
        output(outcome.backups.first().ok_or_else(|| ActionError::fatal("no store has the backup"))?)
    }

    /// A label that was not kept is lost: the snapshot beside it is no backup, and another one is taken.
    async fn recover(
        &self,
        _: &AroundSnapshotParams,
        _: &Interrupted,
        _: &CheckContext,
    ) -> Result<Recovery<AroundSnapshotOutput>, ActionError> {
        let why = "the session that held the backup is gone, so the snapshot, if there is one, is no backup".to_owned();
        Ok(Recovery::Ask { why })
    }
}

/// Names the tablespaces, which lie outside the data directory.
fn outside(facts: &ServerFacts) -> Option<String> {
    let told = facts.tablespaces.iter().map(|space| format!("`{}` (`{}`)", space.name, space.location));
    let told = told.collect::<Vec<_>>().join(", ");
    let fact = "lie outside the data directory: a snapshot without them is no backup";
    (!told.is_empty()).then(|| format!("tablespaces {told} {fact}"))
}

/// A backup that is being taken.
struct Taking<'a> {
    params: &'a AroundSnapshotParams,
    facts: &'a ServerFacts,
    cx: &'a RunContext,
}

/// What the server gave.
struct Taken {
    snapshot: String,
    label: String,
    spaces: String,
    start: Lsn,
    stop: Lsn,
    timeline: Timeline,
    started_at: Timestamp,
    stopped_at: Timestamp,
}

impl Taking<'_> {
    async fn take(&self, session: &mut Session) -> Result<Taken, ActionError> {
        let Self { params, facts, cx } = *self;
        // Idle it is for as long as the program runs.
        let unlimited = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'";
        session.query(unlimited).await?;
        let started_at = server_time(session).await?;
        let label = literal(&params.label.clone().unwrap_or_else(|| format!("runbook {}", cx.about.run)));
        let fast = params.checkpoint == Checkpoint::Fast;
        let (start, stop) = match facts.major().has(Change::BackupFunctions) {
            true => (
                format!("SELECT pg_backup_start({label}, {fast})"),
                "SELECT lsn, labelfile, spcmapfile FROM pg_backup_stop(false)",
            ),
            false => (
                format!("SELECT pg_start_backup({label}, {fast}, false)"),
                "SELECT lsn, labelfile, spcmapfile FROM pg_stop_backup(false, false)",
            ),
        };
        session.query(&start).await?;
        cx.reporter.note("the server is in backup mode".to_owned(), serde_json::Value::Null);
        let said = self.snapshot().await?;
        let ended = session.query(stop).await.map_err(|error| {
            let fact = "the session that held the backup did not end it, so the snapshot is no backup";
            ActionError::fatal(fact).because(&error).help("delete that snapshot and take another")
        })?;
        let stopped_at = server_time(session).await?;
        let text = |column: usize| ended.at(0, column).unwrap_or_default().to_owned();
        let (stop, label, spaces) = (text(0), text(1), text(2));
        let strange = || ActionError::fatal("the server's label of the backup makes no sense");
        let told = BackupLabel::parse(&label).map_err(|error| strange().because(&error))?;
        Ok(Taken {
            snapshot: params.snapshot.clone().unwrap_or(said),
            start: told.start,
            stop: stop.parse().map_err(|_| strange())?,
            timeline: told.start_timeline.ok_or_else(strange)?,
            label,
            spaces,
            started_at,
            stopped_at,
        })
    }

    /// Runs the program; gives the first line it wrote.
    async fn snapshot(&self) -> Result<String, ActionError> {
        let (argv, cx) = (&self.params.argv, self.cx);
        let program = argv.first().map(String::as_str).unwrap_or_default();
        let spec = CommandSpec::new(program).args(argv.iter().skip(1).cloned());
        let failed = |error: crate::action::HostError| {
            ActionError::fatal(format!("the snapshot was not taken: `{program}` did not end well")).because(&error)
        };
        let output = cx.host.run(spec, Tie::Engine).await.map_err(failed)?;
        if !output.success() {
            let code = output.exit_code.map_or_else(|| "a signal".to_owned(), |code| format!("code {code}"));
            let fact =
                format!("the snapshot was not taken: `{program}` ended with {code}: {}", output.tail(3).join("; "));
            return Err(ActionError::fatal(fact).help("the server is out of backup mode again; nothing was kept"));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned);
        match line {
            None if self.params.snapshot.is_none() => {
                let fact = format!("`{program}` wrote nothing that tells where the snapshot is");
                Err(ActionError::fatal(fact).help("say it with `snapshot`"))
            }
            line => Ok(line.unwrap_or_default()),
        }
    }
}

impl Taken {
    /// What a restore must add to the snapshot.
    fn files(&self) -> Vec<(&'static str, Bytes)> {
        let label = ("backup_label", Bytes::from(self.label.clone().into_bytes()));
        let spaces =
            (!self.spaces.is_empty()).then(|| ("tablespace_map", Bytes::from(self.spaces.clone().into_bytes())));
        std::iter::once(label).chain(spaces).collect()
    }
}

fn manifest(
    taken: &Taken,
    (id, cluster, facts): (String, &Cluster, &ServerFacts),
    (params, cx): (&AroundSnapshotParams, &RunContext),
) -> Result<Manifest, ActionError> {
    let bytes = facts.wal_segment_bytes;
    let size = u32::try_from(bytes).ok().and_then(SegmentSize::new);
    let segment_size = size.ok_or_else(|| ActionError::fatal(format!("segments of {bytes} bytes are impossible")))?;
    Ok(Manifest {
        run: Some(cx.about.run.to_string()),
        tier: params.tier.clone(),
        environment: Some(cx.about.environment.clone()),
        label: params.label.clone(),
        snapshot: Some(Snapshot { place: taken.snapshot.clone(), pgdata: cluster.pgdata.display().to_string() }),
        postgres: Some(PostgresFacts {
            server_version: facts.version.clone(),
            system_id: SystemId(facts.system_id),
            timeline: taken.timeline,
            start_lsn: taken.start,
            stop_lsn: taken.stop,
            segment_size,
            tablespaces: facts.tablespaces.clone(),
            slots: facts.slots.clone(),
            standbys: facts.standbys.clone(),
            data_checksums: Some(facts.data_checksums),
            archiving: Some(facts.archiving.clone()),
            databases: facts.databases.clone(),
            preload_libraries: facts.preload_libraries.clone(),
            bad_pages: Vec::new(),
            configuration: None,
        }),
        ..Manifest::new(id, KIND_POSTGRES_SNAPSHOT, &cluster.name, (taken.started_at, taken.stopped_at))
    })
}

fn output(backup: &Backup) -> Result<AroundSnapshotOutput, ActionError> {
    let manifest = &backup.manifest;
    let facts = manifest.cluster().map_err(|error| crate::actions::postgres::stores::archive::broken(&error))?;
    Ok(AroundSnapshotOutput {
        backup: backup.handle(),
        snapshot: manifest.snapshot.as_ref().map(|snapshot| snapshot.place.clone()).unwrap_or_default(),
        start_lsn: facts.start_lsn.to_string(),
        stop_lsn: facts.stop_lsn.to_string(),
        timeline: facts.timeline.0,
        ended_at: manifest.stopped_at,
    })
}
