//! The action: what it may touch, what it finds ahead, what it does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::apply;
use super::params::{ArchivingMode, ConfigureArchivingOutput, ConfigureArchivingParams, Restart};
use super::place::{self, Place, archive_command};
use super::want::{keeps_promise, wanted};
use super::work::Work;
use crate::action::by_hand::remark;
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    ParamFault, PlanContext, ReadStore, RunContext, Target,
};
use crate::actions::postgres::cluster::by_hand;
use crate::actions::postgres::cluster::container::ServerHost;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::service_manager::Wish;
use crate::actions::postgres::restore::marker::Marker;
use crate::base::RunId;
use crate::language::inventory::Via;

/// Has a server archive its WAL.
#[derive(Debug, Clone)]
pub struct ConfigureArchiving {
    /// Our own program, which the server calls to archive a segment.
    pub(super) program: PathBuf,
}

impl ConfigureArchiving {
    /// An action whose servers archive with `program wal push`.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self { program }
    }
}

impl Default for ConfigureArchiving {
    /// Servers call the program that runs now.
    fn default() -> Self {
        Self::new(std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/runbook")))
    }
}

impl Action for ConfigureArchiving {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.configure_archiving",
        summary: "Has a server archive its WAL into its store, and proves that a segment arrives.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example { title: "Tell what differs", with: "{ database: orders, mode: plan }" },
            Example {
                title: "Archive at least every minute",
                with: "{ database: orders, archive_timeout: 1m, rpo: 5m, restart: allowed }",
            },
        ],
    };
    type Params = ConfigureArchivingParams;
    type Output = ConfigureArchivingOutput;

    fn effects(&self, params: &Self::Params, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let fault = |error: ActionError| vec![ParamFault::new("/database", error.to_string())];
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).map_err(fault)?;
        cluster.within_reach(Wish::Archiving)?;
        if cluster.is_scratch() {
            let fact = format!("`{}` is thrown away here: it archives nothing", cluster.name);
            return Err(vec![ParamFault::new("/database", fact)]);
        }
        // What is put back is what was there, whatever it keeps.
        if !params.puts_back() {
            keeps_promise(params, cluster.entry.rpo).map_err(|fault| vec![fault])?;
        }
        let names = place::stores(params, &cluster).map_err(|error| {
            let fault = ParamFault::new("/stores", error.to_string());
            vec![error.info().help.iter().fold(fault, |fault, help| fault.help(help.clone()))]
        })?;
        let at_least = params.at_least.or(cluster.entry.wal_at_least);
        if at_least.is_some_and(|wanted| !(1..=names.len()).contains(&wanted)) {
            return Err(vec![ParamFault::new("/at_least", "a number from 1 to the number of stores is wanted")]);
        }
        let place = Place::of(params, &cluster).map_err(|error| vec![ParamFault::new("/folder", error.to_string())])?;
        let (_, prefix) = cluster.archive().map_err(fault)?;
        let database = Target::Database { name: cluster.name.clone() };
        if params.mode == ArchivingMode::Plan && params.put_back.is_some() {
            let fact = "`mode: plan` changes nothing, so it puts nothing back";
            return Err(vec![ParamFault::new("/put_back", fact)]);
        }
        if params.mode == ArchivingMode::Plan {
            return Ok(Effects::of(EffectClass::Read).target(Access::Read, database));
        }
        let path = Target::Path { host: cx.host.to_owned(), path: place.folder };
        let mut effects = Effects::of(EffectClass::Write).target(Access::Write, database).target(Access::Write, path);
        for name in names {
            effects = effects.target(Access::Write, Target::Store { name, prefix: prefix.to_owned() });
        }
        let inside = cluster.is_contained();
        Ok(match params.restart {
            Restart::Allowed => cluster.service_manager().named(effects),
            Restart::Refused | Restart::Later if inside => cluster.service_manager().named(effects),
            Restart::Refused | Restart::Later => effects,
        })
    }

    fn by_hand(&self, params: &Self::Params, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(cluster) = Cluster::of(&params.database, cx.inventory, cx.scratch) else { return Vec::new() };
        let Ok(place) = Place::of(params, &cluster) else { return Vec::new() };
        let sql = |statement: &str| by_hand::sql(&cluster, "postgres", statement);
        let mut lines = vec![remark(&format!(
            "write `{}` as docs/wal.md says, for the server's user alone",
            place.config().display()
        ))];
        let command = match &cluster.via {
            Via::Compose(compose) => {
                lines.push(remark(
                    "its container must have that folder as `/etc/runbook`, and `runbook` (docs/servers.md)",
                ));
                archive_command(&compose.program(), Path::new("/etc/runbook/wal.yaml"))
            }
            Via::PgCtl(_) | Via::Systemd(_) | Via::PgCtlcluster(_) | Via::Managed(_) => {
                archive_command(&self.program, &place.config())
            }
        };
        for wanted in wanted(params, &command) {
            lines.push(sql(&format!("ALTER SYSTEM SET {} = '{}'", wanted.name, wanted.value.replace('\'', "''"))));
        }
        lines.push(remark("restart the server if `pending_restart` is true for any of them in pg_settings; else:"));
        lines.push(sql("SELECT pg_reload_conf()"));
        lines.push(sql("SELECT txid_current(); SELECT pg_switch_wal()"));
        lines.push(remark("last_archived_wal must become that segment:"));
        lines.push(sql("SELECT last_archived_wal, last_failed_wal FROM pg_stat_archiver"));
        lines
    }

    async fn check(&self, params: &Self::Params, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let findings = Findings::default();
        if params.puts_back() {
            return Ok(findings.pending("the settings are put back when the step starts"));
        }
        let work = Work::new(self, params, &cluster);
        let work = match work.looked(cx.host.as_ref(), &cx.about).await {
            Ok(work) => work,
            Err(error) if cx.ahead && error.info().class == crate::event::ErrorClass::Retryable => {
                return Ok(findings.pending("the server is asked when the step starts"));
            }
            Err(error) => return Err(error),
        };
        let stores = work.stores(|name| cx.store(name))?;
        let work = work.settled(&stores).await?;
        let findings = match work.changes.as_slice() {
            [] if !work.rewrites.is_empty() => findings,
            [] => findings.pass(format!("`{}` is set to archive as it shall", cluster.name)),
            changes => changes.iter().fold(findings, |findings, change| findings.pass(change.to_string())),
        };
        let findings = work.rewrites.iter().fold(findings, |findings, rewrite| findings.pass(rewrite.clone()));
        let findings = work.cautions.into_iter().fold(findings, |findings, (fact, help)| findings.warn(fact, help));
        Ok(work.faults.into_iter().fold(findings, |findings, (fact, help)| findings.refuse(fact, help)))
    }

    async fn run(&self, params: &Self::Params, cx: &RunContext) -> Result<Self::Output, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let mut work = Work::new(self, params, &cluster);
        if params.puts_back() {
            let Some(before) = &params.put_back else { return Err(untold(&cx.about.steps_of)) };
            work.server_host = ServerHost::of(&cluster, cx.host.as_read()).await?;
            return work.put_back(before.get()?, cx).await;
        }
        if params.mode != ArchivingMode::Plan && params.restart == Restart::Allowed {
            apply::started_again(&cluster, cx).await?;
        }
        let work = work.looked(cx.host.as_ref(), &cx.about).await?;
        let stores = work.stores(|name| Ok(cx.store(name)? as Arc<dyn ReadStore>))?;
        let work = work.settled(&stores).await?;
        let refused = |(fact, help): &(String, String)| ActionError::fatal(fact.clone()).help(help.clone());
        if params.mode == ArchivingMode::Plan {
            work.tell(cx);
            return work.output(BTreeMap::new()).map_err(|error| work.faults.first().map_or(error, refused));
        }
        if let Some(fault) = work.faults.first() {
            return Err(refused(fault));
        }
        let archives = work.run(cx).await?;
        unproven(&cluster, cx)?;
        Ok(archives)
    }
}

/// What is said of an undo that does not know what was set before.
fn untold(undone: &RunId) -> ActionError {
    ActionError::fatal("what was set before is not told: the step to undo did not come to its end; no setting was changed").help(
        format!(
            "`runbook show {undone}` tells under `worth knowing` what was set before, and whether it was put back; else put it back with \
             `ALTER SYSTEM SET` or `RESET`"
        ),
    )
}

/// Says that the recovery which opened this server is still to be proven: nothing else makes its slots anew and ends it.
fn unproven(cluster: &Cluster, cx: &RunContext) -> Result<(), ActionError> {
    let marker = Marker::read(cx.host.read_files().as_ref(), &cluster.pgdata)?;
    if let Some(Marker { run, .. }) = marker.filter(|marker| marker.has_opened() && marker.run != cx.about.run) {
        let message = format!(
            "warning: the recovery of run `{run}`, which opened this server, was not proven to its end: the same command as \
             then with `--from` and `--of {run}` goes on from there, and nothing is restored again"
        );
        cx.reporter.note(message, serde_json::json!({ "unproven": run }));
    }
    Ok(())
}
