//! `pgbackrest.restore`: pgBackRest restores beside the live data, then the same recovery as `postgres.recover`'s.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::choice::choice;
use super::remainder::Remainder;
use super::restoring::Restoring;
use super::stanza::{PROGRAM, Readable, Stanza};
use super::{info, staging};
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, InstanceHandle, Interrupted, Late, ParamFault, PlanContext, Recovery, RunContext, Target,
};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::server::Programs;
use crate::actions::postgres::cluster::service_manager::Wish;
use crate::actions::postgres::cluster::{ha_manager, live};
use crate::actions::postgres::recovery::completion::Completed;
use crate::actions::postgres::recovery::recover::{InstanceState, Landmark, RecoverOutput, TargetSpec};
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::restore::neighbours;
use crate::actions::postgres::restore::recovery_target::Ending;
use crate::actions::postgres::restore::recovery_target::RecoveryTarget;

/// Restores a backup of pgBackRest and recovers it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Restore;

/// The arguments of `pgbackrest.restore`: at most one target; `instance` only to open what waits.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// The label of a backup. Default: the newest one that leads to the target.
    #[serde(default)]
    pub backup: Option<String>,
    /// An instance that an earlier step of this run left waiting, to be opened where it is (`target: here`).
    #[serde(default)]
    pub instance: Option<Late<InstanceHandle>>,
    /// Where replay ends.
    #[serde(flatten)]
    pub target: TargetSpec,
    /// What becomes of the server: `promote` (default), `pause` or `standby`.
    #[serde(default)]
    pub action: Option<Ending>,
    /// With `true` the live data directory itself is made the backup by changing what differs: needs no second place
    /// and is faster, and **the old data is gone**. Default: the old data is kept beside.
    #[serde(default)]
    pub delta: bool,
    /// How many processes restore. Default: as pgBackRest's configuration says.
    #[serde(default)]
    pub processes: Option<u32>,
}

impl RestoreParams {
    /// Where it is to end, and how: by the rules of `postgres.recover`.
    pub(super) fn recovery_target(&self) -> Result<RecoveryTarget, ParamFault> {
        if self.instance.is_some() && (self.target.landmark != Some(Landmark::Here) || self.backup.is_some()) {
            return Err(ParamFault::new(
                "",
                "`instance` is opened where it waits: write `target: here` and nothing else",
            ));
        }
        self.target.recovery_target(self.action.unwrap_or_default(), self.instance.as_ref())
    }
}

impl Action for Restore {
    const SPEC: ActionSpec = ActionSpec {
        name: "pgbackrest.restore",
        summary: "Restores with pgBackRest beside the live data, swaps, replays to the target, and opens it or lets it wait.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example { title: "The newest state there is", with: "{ database: orders }" },
            Example { title: "To a point in time", with: "{ database: orders, target_time: '2026-01-28T14:30:00Z' }" },
            Example {
                title: "Look first: wait just before a transaction",
                with: "{ database: orders, target_xid: 7501, inclusive: false, action: pause }",
            },
            Example {
                title: "Open it where it waits",
                with: "{ database: orders, instance: '{{ steps.look.instance }}', target: here }",
            },
            Example { title: "No room for two copies", with: "{ database: orders, delta: true, processes: 8 }" },
        ],
    };
    type Params = RestoreParams;
    type Output = RecoverOutput;

    fn effects(&self, params: &RestoreParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let (cluster, _) = info::stanza(&params.database, cx)?;
        cluster.within_reach(Wish::Foreign)?;
        params.recovery_target().map_err(|fault| vec![fault])?;
        let effects = cluster.service_manager().named(Effects::of(EffectClass::Destroy).program(PROGRAM));
        Ok(effects.target(Access::Destroy, Target::Database { name: cluster.name }))
    }

    fn by_hand(&self, params: &RestoreParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok((cluster, stanza)) = info::stanza(&params.database, cx) else { return Vec::new() };
        let place = cluster.pgdata.display();
        let mut options = vec!["--type=‹default, time, lsn, name, xid or immediate›".to_owned()];
        options.extend(params.backup.iter().map(|label| format!("--set={label}")));
        options.extend(["--target=‹where it ends, none for default›", "--target-action=promote"].map(str::to_owned));
        vec![
            remark("with the server stopped; as the server's user:"),
            command_line(["mv", &place.to_string(), &format!("{place}.old")]),
            remark("push every WAL file of the old pg_wal that the repository lacks (`pgbackrest archive-push FILE`)"),
            command_line(stanza.words(("restore", &options), &[])),
            remark("start the server; it is back when pg_is_in_recovery() is false and the timeline is a new one"),
            command_line(stanza.words(("check", &[]), &[])),
        ]
    }

    async fn check(&self, params: &RestoreParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let (stanza, files) = (Stanza::of(&cluster)?, cx.host.read_files());
        Owner::of(&cluster, cx.host.as_ref())?;
        let findings = Findings::default();
        if let Some(fact) = ha_manager::in_charge(&cluster, cx.host.as_ref()).await? {
            return Ok(findings.refuse(fact.what, fact.help));
        }
        if params.instance.is_some() {
            return Ok(findings.pending("what waits is looked at when the step starts"));
        }
        let ours = Marker::read(files.as_ref(), &cluster.pgdata)?.is_some_and(|marker| marker.run == cx.about.run);
        if !cx.ahead && !ours {
            live::refuse(&cluster, files.as_ref()).await?;
        }
        if let Some((fact, help)) = staging::misfit(&cluster, params, files.as_ref())? {
            return Ok(findings.refuse(fact, help));
        }
        let recovery_target = params.recovery_target().map_err(|fault| ActionError::fatal(fact_of(&fault)))?;
        let Readable { stanza, standing, told } = stanza.readable(cx.host.as_ref()).await?;
        let findings = match told {
            Some(told) => {
                findings.warn(told, "what only those repositories have is not restored: look at `pgbackrest info`")
            }
            None => findings,
        };
        if let Some((fact, help)) = staging::of_another(&cluster, &standing, files.as_ref()) {
            return Ok(findings.refuse(fact, help));
        }
        let chosen = choice(&stanza, &standing, (&recovery_target, params.backup.as_deref()), &cx.host).await?;
        let version = &chosen.listed.version;
        Programs::of(&cluster, version, cx.host.as_ref())?.verify(version, cx.host.as_ref()).await?;
        if !ours && let Some(fact) = staging::short_of_space(&cluster, params, &chosen.listed, files.as_ref()) {
            let help = format!(
                "free some space, or restore with `delta: true`, which keeps no old data: `-p delta=true` of \
                 `full-db-loss-pgbackrest`, `runbook restore {} --existing delta`",
                cluster.name
            );
            return Ok(findings.refuse(fact, help));
        }
        let findings = match params.delta && !cluster.is_scratch() {
            true => findings.warn(
                "the old data is changed in place and gone with the first file",
                "leave `delta` out where there is room for two copies: then the old data is kept",
            ),
            false => findings,
        };
        let remainder =
            Remainder { cluster: &cluster, stanza: &stanza, chosen: &chosen, recovery_target: &recovery_target, cx };
        let findings = if ours { findings } else { remainder.judge(findings).await? };
        if findings.refused() {
            return Ok(findings);
        }
        let tablespaces = chosen.tablespaces(&stanza, cx.host.as_ref()).await?;
        let findings = neighbours::judge((&cluster, &tablespaces), &cx.about, files.as_ref(), findings);
        let findings = findings.pass(chosen.words());
        Ok(match cx.ahead {
            true => findings.pending("the server is looked at when the step starts"),
            false => findings.pass("no server is alive"),
        })
    }

    async fn run(&self, params: &RestoreParams, cx: &RunContext) -> Result<RecoverOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        if let Some(fact) = ha_manager::in_charge(&cluster, cx.host.as_read()).await? {
            return Err(ActionError::fatal(fact.what).help(fact.help));
        }
        let recovery_target = params.recovery_target().map_err(|fault| ActionError::fatal(fact_of(&fault)))?;
        let Readable { stanza, told, .. } = Stanza::of(&cluster)?.readable(cx.host.as_read()).await?;
        if let Some(told) = told {
            cx.reporter.note(format!("warning: {told}"), serde_json::Value::Null);
        }
        let restoring = Restoring { cluster: &cluster, stanza, params, recovery_target, cx };
        match &params.instance {
            Some(instance) => restoring.open(instance.get()?).await,
            None => restoring.run().await,
        }
    }

    /// Adopts a recovery that was proven, or waits, since before the engine died; every other one goes on where it was.
    async fn recover(
        &self,
        params: &RestoreParams,
        cut: &Interrupted,
        cx: &CheckContext,
    ) -> Result<Recovery<RecoverOutput>, ActionError> {
        let files: Arc<_> = cx.host.read_files();
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let completed = Completed::read(files.as_ref(), &cut.attempt_dir);
        let ours = Marker::read(files.as_ref(), &cluster.pgdata)?.filter(|marker| marker.run == cx.about.run);
        let unfinished = ours.is_some() && completed.as_ref().is_none_or(|output| output.state == InstanceState::Open);
        Ok(completed.filter(|_| !unfinished).map_or(Recovery::Rerun, Recovery::Adopt))
    }

    async fn remove(&self, _: &str, data: &serde_json::Value, cx: &RunContext) -> Result<(), ActionError> {
        crate::actions::postgres::cluster::scratch::remove(data, cx).await
    }
}

fn fact_of(fault: &ParamFault) -> String {
    fault.message.clone()
}
