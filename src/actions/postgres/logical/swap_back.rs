//! `postgres.swap_back`: the database that a restore put aside takes its name again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::restore_dump::rename::exchange;
use super::restore_dump::seat::{Seat, suffixed};
use crate::action::by_hand::remark;
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, Late, ParamFault, PlanContext, RunContext, Target,
};
use crate::actions::postgres::cluster::by_hand;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::name::dbname;
use crate::actions::postgres::session::attached::Attached;
use crate::actions::postgres::session::sessions::{beside, number};

/// Swaps back.
#[derive(Debug, Clone, Copy, Default)]
pub struct SwapBack;

/// The arguments of `postgres.swap_back`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwapBackParams {
    /// The database of the inventory: one server.
    pub database: DatabaseRef,
    /// The name that was given to the restored database.
    pub dbname: Late<String>,
    /// The name of the one that was put aside, as `postgres.restore_dump` gave it. Default: as this run named it.
    #[serde(default)]
    pub old_dbname: Option<Late<String>>,
}

/// The outputs of `postgres.swap_back`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SwapBackOutput {
    /// Whether there was anything to swap back.
    pub swapped: bool,
    /// The name of the restored database, which is kept.
    #[serde(default)]
    pub kept: Option<String>,
}

impl Action for SwapBack {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.swap_back",
        summary: "Gives a database that a restore put aside its name again; the restored one is kept.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[Example {
            title: "As the undo of a restore",
            with: "{ database: orders, dbname: '{{ steps.restore.dbname }}', old_dbname: '{{ steps.restore.old_dbname }}' }",
        }],
    };
    type Params = SwapBackParams;
    type Output = SwapBackOutput;

    fn effects(&self, params: &SwapBackParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch)
            .map_err(|error| vec![ParamFault::new("/database", error.to_string())])?;
        let name = params.dbname.known().map(|name| dbname(name));
        if let Some(Err(what)) = name {
            return Err(vec![ParamFault::new("/dbname", what)]);
        }
        Ok(Effects::of(EffectClass::Destroy).target(Access::Destroy, Target::Database { name: cluster.name }))
    }

    fn by_hand(&self, params: &SwapBackParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(cluster) = Cluster::of(&params.database, cx.inventory, cx.scratch) else { return Vec::new() };
        let name = params.dbname.shown(Clone::clone);
        let list = "SELECT datname FROM pg_database ORDER BY 1";
        vec![
            remark("nobody may be connected to either database"),
            by_hand::sql(&cluster, "template1", list),
            by_hand::sql(&cluster, "template1", &format!("ALTER DATABASE \"{name}\" RENAME TO \"‹another name›\"")),
            by_hand::sql(&cluster, "template1", &format!("ALTER DATABASE \"‹the old one›\" RENAME TO \"{name}\"")),
        ]
    }

    async fn check(&self, params: &SwapBackParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let (Some(name), false) = (params.dbname.known(), cluster.is_scratch() || cx.ahead) else {
            return Ok(Findings::default().pending("which databases there are is judged when the step starts"));
        };
        beside(&cluster, name, cx.about.secrets.as_ref()).await?;
        Ok(Findings::default().pass(format!("the server of `{}` answers", cluster.name)))
    }

    async fn run(&self, params: &SwapBackParams, cx: &RunContext) -> Result<SwapBackOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let name = params.dbname.get()?;
        let old = match &params.old_dbname {
            Some(old) => old.get()?.clone(),
            None => Seat::of(name, &cx.about.run).old,
        };
        let mut session = beside(&cluster, name, cx.about.secrets.as_ref()).await?;
        if number(&mut session, &old).await?.is_none() {
            let message = format!("there is no database `{old}`: nothing was swapped, or it is swapped back already");
            cx.reporter.note(message, serde_json::Value::Null);
            return Ok(SwapBackOutput { swapped: false, kept: None });
        }
        let kept = suffixed(name, &format!("_undone_{}", cx.about.run));
        match number(&mut session, name).await? {
            Some(_) => exchange(&mut session, (name, &kept), &old).await?,
            None => {
                let rename = format!(
                    "ALTER DATABASE {} RENAME TO {}",
                    crate::actions::postgres::cluster::name::ident(&old),
                    crate::actions::postgres::cluster::name::ident(name)
                );
                session.query(&rename).await?;
                return Ok(SwapBackOutput { swapped: true, kept: None });
            }
        }
        let message = format!("`{name}` is the database from before the restore; the restored one is kept as `{kept}`");
        cx.reporter.note(message, serde_json::json!({ "kept": kept }));
        Attached::tell(&mut session, (&kept, name), cx.reporter.as_ref()).await;
        Ok(SwapBackOutput { swapped: true, kept: Some(kept) })
    }
}
