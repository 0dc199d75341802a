//! `postgres.recover`: swaps, rescues, replays and promotes.
//!
//! Every phase finds out from the disk what an earlier attempt did, so that the step can be run again
//! after it was cut off anywhere. Before the swap nothing live is touched; after it the old data is
//! kept and named. In order:
//!
//! 1. refuse a live server;
//! 2. push what the old `pg_wal` holds beyond the archive;
//! 3. decide target and timeline;
//! 4. write the recovery's settings into the staged folder;
//! 5. swap by rename;
//! 6. start the server and follow the replay;
//! 7. hold what was reached against the target; a server that is to wait, waits from here on;
//! 8. remove the settings;
//! 9. prove the archive and archiving on the new timeline, make slots anew, tell what needs work.

use std::path::PathBuf;

use super::attempt::Recovering;
use super::completion::Completed;
use super::{advance, promotion, recover_by_hand, takeover};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency,
    Interrupted, ParamFault, PlanContext, Recovery, RunContext, Target,
};
use crate::actions::postgres::cluster::ha_manager;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::service_manager::Wish;
use crate::actions::postgres::cluster::wal_location::WalLocation;
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::freezing;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::stores::archive;

mod output;
mod params;
mod readiness;
mod target;

pub use output::{InstanceState, RecoverLoss, RecoverOutput};
pub use params::RecoverParams;
use readiness::Readiness;
pub use target::{Landmark, TargetSpec};

/// What leads on where a run is handed what another one staged and did not swap in.
const NOT_OURS: &str = "name with `--from` the step that stages the backup (`postgres.restore_base`) instead: each run swaps in \
                        what it staged itself";

/// Recovers a staged backup.
#[derive(Debug, Clone)]
pub struct Recover {
    /// Our own program, which the server calls to fetch WAL.
    program: PathBuf,
}

impl Recover {
    /// An action whose servers fetch WAL with `program wal fetch`.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self { program }
    }
}

impl Default for Recover {
    /// Servers call the program that runs now.
    fn default() -> Self {
        Self::new(std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/runbook")))
    }
}

impl Action for Recover {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.recover",
        summary: "Swaps in a staged backup, rescues unarchived WAL, replays to the target, and opens it or lets it wait.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example {
                title: "To a point in time",
                with: "{ database: orders, staged: '{{ steps.stage.staged }}', target_time: '2026-01-28T14:30:00Z' }",
            },
            Example {
                title: "Look first: wait just before a transaction",
                with: "{ database: orders, staged: '{{ steps.stage.staged }}', target_xid: 7501, inclusive: false, action: pause }",
            },
            Example {
                title: "Go on from there to a later time, and open",
                with: "{ database: orders, instance: '{{ steps.look.instance }}', target_time: '2026-01-28T14:45:00Z' }",
            },
            Example {
                title: "With WAL that `cp` archived, where it lies",
                with: "{ database: orders, staged: '{{ steps.stage.staged }}', wal_location: { store: primary, prefix: wal } }",
            },
            Example {
                title: "Open it where it waits",
                with: "{ database: orders, instance: '{{ steps.look.instance }}', target: here }",
            },
        ],
    };
    type Params = RecoverParams;
    type Output = RecoverOutput;

    fn effects(&self, params: &RecoverParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let fault = |error: &ActionError| vec![ParamFault::new("/database", error.to_string())];
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).map_err(|error| fault(&error))?;
        cluster.within_reach(Wish::DataDirectory)?;
        let (store, prefix) = cluster.archive().map_err(|error| fault(&error))?;
        params.recovery_target().map_err(|fault| vec![fault])?;
        let archive = Target::Store { name: store.to_owned(), prefix: prefix.to_owned() };
        let database = Target::Database { name: cluster.name.clone() };
        let effects = Effects::of(EffectClass::Destroy);
        let effects = match cluster.is_scratch() {
            true => archive::read(&cluster, effects).target(Access::Read, archive),
            // What is rescued goes into every store of the WAL, and the note that freezes it into those of copies as well.
            false => freezing::written(&cluster, cx.inventory, cluster.service_manager().named(effects)),
        };
        let effects = effects.target(Access::Destroy, database);
        Ok(match &params.wal_location {
            None => effects,
            Some(WalLocation { store, prefix }) => {
                effects.target(Access::Read, Target::Store { name: store.0.clone(), prefix: prefix.clone() })
            }
        })
    }

    fn by_hand(&self, params: &RecoverParams, cx: &PlanContext<'_>) -> Vec<String> {
        recover_by_hand::lines(params, cx).unwrap_or_default()
    }

    async fn check(&self, params: &RecoverParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        Readiness { program: &self.program, params, cx }.judge().await
    }

    async fn run(&self, params: &RecoverParams, cx: &RunContext) -> Result<RecoverOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let recovery_target = params.recovery_target().map_err(|fault| ActionError::fatal(fault.message))?;
        if let Some(fact) = ha_manager::in_charge(&cluster, cx.host.as_read()).await? {
            return Err(ActionError::fatal(fact.what).help(fact.help));
        }
        if let Some(instance) = &params.instance {
            let instance = instance.get()?;
            let cluster = cluster.serving(instance, &cx.about.scratch)?;
            // What it was begun with goes on, unless the step says another place.
            let begun = Marker::read(cx.host.files().as_ref(), &cluster.pgdata)?.and_then(|marker| marker.wal_location);
            let context = RecoveryContext::on(&cluster, &self.program, cx).await?;
            let context = context.reading(params.wal_location.clone().or(begun))?;
            if params.target.landmark == Some(Landmark::Here) {
                return promotion::promote(&context, instance).await;
            }
            return advance::advance(&context, &recovery_target, instance).await;
        }
        let staged = params.staged.as_ref().ok_or_else(|| ActionError::fatal("no staged backup is given"))?;
        let handle = staged.get()?;
        let files = cx.host.files();
        let is_staged_here = handle.dir == cluster.staged(files.as_ref(), &cx.about.run);
        let left = params.unfinished(&cluster, &cx.about.run, files.as_ref())?.filter(|_| !is_staged_here);
        if let Some(marker) = left {
            let location = params.wal_location.clone().or(marker.wal_location.clone());
            let context = RecoveryContext::on(&cluster, &self.program, cx).await?.reading(location)?;
            return takeover::go_on(&context, marker, &recovery_target).await;
        }
        if handle.database != cluster.name || !is_staged_here {
            let fact = format!("`{}` is not where this run stages database `{}`", handle.dir.display(), cluster.name);
            return Err(ActionError::fatal(fact).help(NOT_OURS));
        }
        let context = RecoveryContext::on(&cluster, &self.program, cx).await?.reading(params.wal_location.clone())?;
        Recovering { context, recovery_target }.run().await
    }

    /// Adopts a recovery that was proven, or waits, since before the engine died; every other one goes on where it
    /// was.
    async fn recover(
        &self,
        params: &RecoverParams,
        cut: &Interrupted,
        cx: &CheckContext,
    ) -> Result<Recovery<RecoverOutput>, ActionError> {
        let files = cx.host.read_files();
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let completed = Completed::read(files.as_ref(), &cut.attempt_dir);
        let ours = params.unfinished(&cluster, &cx.about.run, files.as_ref())?;
        let unfinished = match (&ours, &completed) {
            (Some(_), Some(output)) => output.state == InstanceState::Open,
            (Some(_), None) => true,
            (None, Some(_) | None) => false,
        };
        Ok(completed.filter(|_| !unfinished).map_or(Recovery::Rerun, Recovery::Adopt))
    }

    async fn remove(&self, _: &str, data: &serde_json::Value, cx: &RunContext) -> Result<(), ActionError> {
        crate::actions::postgres::cluster::scratch::remove(data, cx).await
    }
}
