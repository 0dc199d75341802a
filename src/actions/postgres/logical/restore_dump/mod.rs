//! `postgres.restore_dump`: a dump becomes a database again: beside, compared, then named.
//!
//! Nothing is touched before the dump lies here whole and `pg_restore` has listed it. It is loaded into a database of
//! another name, made from `template0` with the locale and owner the dumped one had; the state that no dump holds is
//! given to it; content and state are compared with what was recorded. Only then does it take the name, in one
//! transaction, and what had the name is kept. Start with [`attempt`].

mod arrival;
mod attempt;
mod by_hand;
mod load;
mod outlook;
mod params;
pub(crate) mod rename;
mod roles;
pub(crate) mod seat;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::attempt::Attempt;
pub use self::params::{RestoreDumpParams, RestoreMode, Roles};
use self::seat::Seat;
pub use self::seat::{is_fresh as is_half_loaded, is_old as is_kept_old};
use super::scratch_server;
use crate::action::{
    Access, Action, ActionError, ActionSpec, BackupHandle, CheckContext, EffectClass, Effects, Example, Findings,
    Idempotency, InstanceHandle, Interrupted, ParamFault, PlanContext, ReadStore, Recovery, RunContext, Surroundings,
    Target,
};
use crate::actions::backup::find_check::STILL_TO_COME;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::scratch;
use crate::actions::postgres::restore::restore_base::place;
use crate::actions::postgres::stores::archive;
use crate::actions::postgres::stores::readable::Reading;
use crate::base::Timestamp;
use crate::catalog::{self, Backup, KIND_POSTGRES_DUMP, Manifest};
use crate::event::Coverage;
use crate::pgformat::major_text;

/// Restores a dump.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreDump;

/// The outputs of `postgres.restore_dump`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreDumpOutput {
    /// The name the restored database has.
    pub dbname: String,
    /// The name of the one that had it before, where it was kept.
    #[serde(default)]
    pub old_dbname: Option<String>,
    /// The server it is in, for `postgres.check`.
    pub instance: InstanceHandle,
    /// The backup.
    pub backup: BackupHandle,
    /// The moment the data shows, by the clock of the server it was dumped from.
    #[schemars(with = "String")]
    pub taken_at: Timestamp,
    /// The tables that were counted; 0 where an earlier attempt did it.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// What was compared with the facts of the dump.
    pub compared: Compared,
    /// The roles that were made.
    pub roles: Vec<String>,
    /// What the loss figure rests on.
    pub loss: RestoredLoss,
}

/// What was compared with the facts of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compared {
    /// Rows of each table and the schema.
    Counts,
    /// Also a hash over all rows of each table.
    Hashes,
    /// Nothing: the dump has no facts.
    #[default]
    Nothing,
    /// An earlier attempt of this step compared it.
    Earlier,
}

/// What is known about loss: everything after the moment of the dump is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoredLoss {
    /// What the figure rests on.
    pub coverage: Coverage,
    /// The moment of the dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub newest_commit_at: Option<Timestamp>,
}

impl Action for RestoreDump {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.restore_dump",
        summary: "Restores a PostgreSQL dump beside, compares it with what was dumped, and swaps it in by rename.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example {
                title: "Swap it in and keep the old one",
                with: "{ database: orders, backup: '{{ steps.choose.backup }}', jobs: 4 }",
            },
            Example {
                title: "Beside the live one, for a look",
                with: "{ database: orders, backup: '{{ steps.choose.backup }}', dbname: shop, mode: beside }",
            },
        ],
    };
    type Params = RestoreDumpParams;
    type Output = RestoreDumpOutput;

    fn effects(&self, params: &RestoreDumpParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let fault = |error: &ActionError| vec![ParamFault::new("/database", error.to_string())];
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).map_err(|error| fault(&error))?;
        let (store, prefix) = cluster.archive().map_err(|error| fault(&error))?;
        let faults = params.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let from = Target::Store { name: store.to_owned(), prefix: prefix.to_owned() };
        let (class, access) = match params.mode {
            RestoreMode::Beside => (EffectClass::Write, Access::Write),
            RestoreMode::Swap | RestoreMode::Replace | RestoreMode::Into => (EffectClass::Destroy, Access::Destroy),
        };
        let into = Target::Database { name: cluster.name };
        Ok(Effects::of(class).target(Access::Read, from).target(access, into))
    }

    fn by_hand(&self, params: &RestoreDumpParams, cx: &PlanContext<'_>) -> Vec<String> {
        by_hand::lines(params, cx).unwrap_or_default()
    }

    async fn check(&self, params: &RestoreDumpParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let own = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let Some(handle) = cx.foreseen.of(&params.backup) else {
            return outlook::judge(params, &own, cx).await;
        };
        let (store_name, prefix) = place(&own, &handle)?;
        let store = cx.store(store_name)?;
        let backup = opened(store.as_ref(), prefix, &own, &handle).await?;
        let findings = outlook::readable((store.as_ref(), &backup), cx, Findings::default()).await?;
        if findings.refused() {
            return Ok(if cx.may_still_change(store_name) { findings.softened(STILL_TO_COME) } else { findings });
        }
        let judged = outlook::server(params, (&own, &backup.manifest), cx, findings.clone()).await;
        match judged {
            // A step before this one may bring the server.
            Err(error) if cx.ahead => Ok(findings.warn(error.to_string(), "it is asked again when the step starts")),
            judged => judged,
        }
    }

    async fn run(&self, params: &RestoreDumpParams, cx: &RunContext) -> Result<RestoreDumpOutput, ActionError> {
        let own = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let handle = params.backup.get()?;
        let (store, prefix) = place(&own, handle)?;
        let store = cx.store(store)?;
        let backup = opened(store.as_read(), prefix, &own, handle).await?;
        let cluster = serving(params, &cx.about)?;
        if cluster.is_scratch() && cluster.side.is_none() {
            scratch_server::ensure(&cluster, &major(&backup.manifest), cx).await?;
        }
        let seat = Seat::of(&dbname(params, &backup.manifest)?, &cx.about.run);
        let reading = Reading { store: store.as_read(), backup: &backup, about: &cx.about };
        let attempt = Attempt { cluster: &cluster, params, reading, handle, seat, cx };
        attempt.run().await
    }

    async fn recover(
        &self,
        params: &RestoreDumpParams,
        _: &Interrupted,
        _: &CheckContext,
    ) -> Result<Recovery<RestoreDumpOutput>, ActionError> {
        Ok(match params.mode {
            // The numbers of the databases tell the next attempt how far this one came.
            RestoreMode::Swap | RestoreMode::Replace | RestoreMode::Beside => Recovery::Rerun,
            RestoreMode::Into => Recovery::Ask { why: "the dump may have been loaded into the database".to_owned() },
        })
    }

    async fn remove(&self, _: &str, data: &serde_json::Value, cx: &RunContext) -> Result<(), ActionError> {
        scratch::remove(data, cx).await
    }
}

/// The server that is restored into.
fn serving(params: &RestoreDumpParams, about: &Surroundings) -> Result<Cluster, ActionError> {
    let cluster = Cluster::of(&params.database, &about.inventory, &about.scratch)?;
    match &params.instance {
        Some(instance) => cluster.serving(instance.get()?, &about.scratch),
        None => Ok(cluster),
    }
}

/// Opens the very dump that was chosen, of this database.
async fn opened(
    store: &dyn ReadStore,
    prefix: &str,
    cluster: &Cluster,
    handle: &BackupHandle,
) -> Result<Backup, ActionError> {
    if handle.database != cluster.name || handle.kind != KIND_POSTGRES_DUMP || handle.store != store.name() {
        let fact = format!("backup `{}` is a `{}` of database `{}`", handle.id, handle.kind, handle.database);
        return Err(ActionError::fatal(format!("{fact}, not a dump of `{}` in its store", cluster.name))
            .help("say `kind: postgres.dump` where the backup is found"));
    }
    catalog::open(store, prefix, handle).await.map_err(|error| archive::broken(&error))
}

/// The name in the end.
fn dbname(params: &RestoreDumpParams, manifest: &Manifest) -> Result<String, ActionError> {
    let dumped = manifest.dump.as_ref().map(|dump| dump.dbname.clone());
    params.dbname.clone().or(dumped).ok_or_else(|| {
        ActionError::fatal("the backup does not say which database it was dumped from")
            .help("say `dbname`: the name the restored database shall have")
    })
}

/// Tells the major version of the server that a dump was taken of.
///
/// # Errors
/// Fails when the backup is no dump of this database, or the store gives no answer.
pub(crate) async fn major_of(cluster: &Cluster, handle: &BackupHandle, cx: &RunContext) -> Result<String, ActionError> {
    let (store, prefix) = place(cluster, handle)?;
    let store = cx.store(store)?;
    let backup = opened(store.as_read(), prefix, cluster, handle).await?;
    Ok(major(&backup.manifest))
}

fn major(manifest: &Manifest) -> String {
    let version = manifest.dump.as_ref().map(|dump| dump.server_version.as_str()).unwrap_or_default();
    major_text(version).to_owned()
}
