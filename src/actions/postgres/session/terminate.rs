//! `postgres.terminate_connections`: ends sessions of a database and proves that they are gone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sessions::{beside, end, of};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, InstanceHandle, Late, ParamFault, PlanContext, RunContext, Target,
};
use crate::actions::postgres::cluster::by_hand;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::name::literal;
use crate::base::units::Span;

/// Ends sessions.
#[derive(Debug, Clone, Copy, Default)]
pub struct TerminateConnections;

/// The arguments of `postgres.terminate_connections`. Each narrows down whose sessions are ended.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminateConnectionsParams {
    /// The database of the inventory: one server.
    pub database: DatabaseRef,
    /// The instance. Default: the database's own server.
    #[serde(default)]
    pub instance: Option<Late<InstanceHandle>>,
    /// The database within the server. Default: the `dbname` of the inventory.
    #[serde(default)]
    pub dbname: Option<String>,
    /// Only sessions of this role.
    #[serde(default)]
    pub role: Option<String>,
    /// Only sessions with this `application_name`.
    #[serde(default)]
    pub application: Option<String>,
    /// Only sessions that have done nothing for so long.
    #[serde(default)]
    pub idle_for: Option<Span>,
}

/// The outputs of `postgres.terminate_connections`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TerminateConnectionsOutput {
    /// How many were ended.
    pub terminated: u64,
}

impl TerminateConnectionsParams {
    /// The condition for the sessions that are meant.
    fn whose(&self, cluster: &Cluster) -> String {
        let mut all = vec![of(self.dbname.as_ref().unwrap_or(&cluster.dbname))];
        all.extend(self.role.as_ref().map(|role| format!("usename = {}", literal(role))));
        all.extend(self.application.as_ref().map(|name| format!("application_name = {}", literal(name))));
        let idle = |span: Span| {
            format!("state LIKE 'idle%' AND state_change < now() - interval '{} seconds'", span.0.as_secs())
        };
        all.extend(self.idle_for.map(idle));
        all.join(" AND ")
    }
}

impl Action for TerminateConnections {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.terminate_connections",
        summary: "Ends sessions of a PostgreSQL database and waits until they are gone.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "All of a database", with: "{ database: orders, dbname: shop }" },
            Example {
                title: "Forgotten ones of an application",
                with: "{ database: orders, dbname: shop, application: reports, idle_for: 10m }",
            },
        ],
    };
    type Params = TerminateConnectionsParams;
    type Output = TerminateConnectionsOutput;

    fn effects(&self, params: &TerminateConnectionsParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch)
            .map_err(|error| vec![ParamFault::new("/database", error.to_string())])?;
        Ok(Effects::of(EffectClass::Write).target(Access::Write, Target::Database { name: cluster.name }))
    }

    fn by_hand(&self, params: &TerminateConnectionsParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(cluster) = Cluster::of(&params.database, cx.inventory, cx.scratch) else { return Vec::new() };
        let statement = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {}",
            params.whose(&cluster)
        );
        vec![by_hand::sql(&cluster, "postgres", &statement)]
    }

    async fn check(&self, params: &TerminateConnectionsParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let own = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        if cx.ahead || params.instance.is_some() || own.is_scratch() {
            return Ok(Findings::default().pending("the server is asked when the step starts"));
        }
        let dbname = params.dbname.as_ref().unwrap_or(&own.dbname);
        let mut session = beside(&own, dbname, cx.about.secrets.as_ref()).await?;
        let may = session
            .value("SELECT rolsuper OR pg_has_role(current_user, 'pg_signal_backend', 'MEMBER') FROM pg_roles WHERE rolname = current_user")
            .await?;
        Ok(match may.as_str() {
            "t" => Findings::default().pass("the role may end sessions"),
            _ => Findings::default().warn(
                "the role may end its own sessions only",
                "GRANT pg_signal_backend TO the role; sessions of superusers need a superuser",
            ),
        })
    }

    async fn run(
        &self,
        params: &TerminateConnectionsParams,
        cx: &RunContext,
    ) -> Result<TerminateConnectionsOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let cluster = match &params.instance {
            Some(instance) => cluster.serving(instance.get()?, &cx.about.scratch)?,
            None => cluster,
        };
        let dbname = params.dbname.as_ref().unwrap_or(&cluster.dbname);
        let mut session = beside(&cluster, dbname, cx.about.secrets.as_ref()).await?;
        let terminated = end(&mut session, &params.whose(&cluster)).await?;
        Ok(TerminateConnectionsOutput { terminated })
    }
}
