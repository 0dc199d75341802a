//! `postgres.base_backup`: a base backup in the store, its manifest last.
//!
//! The server sends everything over its replication protocol; each file is verified against its own
//! `backup_manifest` while the bytes flow into all stores, and our manifest follows as the commit point. A backup
//! without manifest is none.

use super::base_backup_by_hand;
use super::copies::Copies;
use super::increment;
use super::last_wal;
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    Interrupted, ParamFault, PlanContext, Recovery, RunContext, Target,
};
use crate::actions::postgres::cluster::enclosed;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::movable::{self, Folder};
use crate::actions::postgres::cluster::service_manager::Wish;
use crate::actions::postgres::session::connect::Endpoint;
use crate::actions::postgres::session::facts::ServerFacts;
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::actions::postgres::stores::{archive, archiving_config, tenant};
use crate::catalog::Backup;
use crate::pgformat::SystemId;

mod filling;
mod origin;
mod params;
mod restartpoint;
mod round;
mod taking;

use origin::{judge, same_cluster, source};
pub use params::{BaseBackupOutput, BaseBackupParams, Checkpoint, OnBadPage};
use round::{Others, Round, Server, place};
pub(crate) use taking::server_time;

/// Takes a base backup.
#[derive(Debug, Clone, Copy, Default)]
pub struct BaseBackup;
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
        let source = source(params, &cluster, (&cx.about.inventory, &cx.about.scratch))?;
        for cluster in [&cluster, &source] {
            if let Some(fact) = enclosed::store(cluster, &cx.about.inventory, cx.host.read_files().as_ref()) {
                return Ok(Findings::default().refuse(fact.what, fact.help));
            }
        }
        let mut session = MaintenanceDb::own(&cluster, cx.about.secrets.as_ref())?.open().await?;
        let facts = ServerFacts::of(&mut session).await?;
        let mut findings = judge(&mut session, &facts, Findings::default()).await?;
        let known = (&*cx.about.inventory, cx.about.secrets.as_ref());
        for (fact, help) in archiving_config::otherwise(&cluster, known, &facts.archiving.command) {
            findings = findings.warn(fact, help);
        }
        if cluster.entry.elsewhere().is_none() && !cluster.is_scratch() {
            let folders = Folder::all(&cluster, &cluster.pgdata, &facts.tablespaces);
            if let Some(fact) = movable::obstacle(&folders, cx.host.read_files().as_ref()) {
                findings =
                    findings.warn(format!("a restore over the live data would be refused: {}", fact.what), fact.help);
            }
        }
        let endpoint = Endpoint::of(&source, None, cx.about.secrets.as_ref())?;
        let maintenance_db = MaintenanceDb::own(&source, cx.about.secrets.as_ref())?;
        if let Err(error) = same_cluster((&endpoint, &maintenance_db), &facts, params).await {
            let help = error.info().help.clone().unwrap_or_else(|| "look at `pg_hba.conf` and at the role".to_owned());
            return Ok(findings.refuse(error.in_full(), help));
        }
        findings = increment::judge(params, (&maintenance_db, &facts), (&cluster, cx.host.as_ref()), findings).await?;
        let (usable, judged) = copies.usable(cx, findings).await;
        findings = judge_tenants((&copies, &usable), SystemId(facts.system_id), cx, judged).await;
        if !findings.refused() {
            findings = increment::judge_prior(params, (&cluster, copies.prefix, &usable), cx, findings).await?;
        }
        Ok(findings.pass(format!("PostgreSQL {} answers, with {} bytes of data", facts.version, facts.size_bytes)))
    }

    async fn run(&self, params: &BaseBackupParams, cx: &RunContext) -> Result<BaseBackupOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let copies = Copies::of(params, &cluster)?;
        let place = place(&cx.step.to_string(), (params, &copies), cx);
        let mut outcome = copies.there(&place, cx).await?;
        if outcome.backups.is_empty() {
            let server = Server::of(&cluster, cx).await?;
            let backup_stores = copies.ready(&mut outcome, (&place, SystemId(server.facts.system_id)), cx).await;
            if outcome.backups.is_empty() {
                let round = Round { params, cluster: &cluster, copies: &copies, server: &server, cx };
                let others = Others { needed: copies.at_least, hopeful: 0 };
                round.bring(&place, (backup_stores, others), &mut outcome).await?;
                return output(outcome.backups, &cluster, cx).await;
            }
        }
        // An earlier attempt brought it there, or a store had it all along and gave no answer before.
        if let Some(original) = outcome.backups.first().cloned() {
            filling::complete((params, &cluster, &copies), &mut outcome, &original, cx).await?;
        }
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

/// Judges whether the prefix in the stores is the server's own: a backup beside another cluster's WAL is committed nowhere.
async fn judge_tenants(
    (copies, usable): (&Copies<'_>, &[&str]),
    server: SystemId,
    cx: &CheckContext,
    findings: Findings,
) -> Findings {
    let mut taken = Vec::new();
    for name in usable {
        let Ok(store) = cx.store(name) else { continue };
        taken.extend(tenant::other(&[store], copies.prefix, server).await);
    }
    let is_enough = usable.len() - taken.len() >= copies.at_least;
    taken.into_iter().fold(findings, |findings, (fact, help)| match is_enough {
        true => findings.warn(fact, help),
        false => findings.refuse(fact, help),
    })
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
