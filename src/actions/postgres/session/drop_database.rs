//! `postgres.drop_database`: removes a database with all it holds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attached::Attached;
use super::connect::Session;
use super::sessions::{Door, beside, number, set, users, vacate};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, InstanceHandle, Late, ParamFault, PlanContext, RunContext, Target,
};
use crate::actions::postgres::cluster::by_hand;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::name::{self, ident};

/// Databases that a server needs.
const NEEDED: [&str; 3] = ["postgres", "template0", "template1"];

/// Drops a database.
#[derive(Debug, Clone, Copy, Default)]
pub struct DropDatabase;

/// The arguments of `postgres.drop_database`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropDatabaseParams {
    /// The database of the inventory: one server.
    pub database: DatabaseRef,
    /// The instance. Default: the database's own server.
    #[serde(default)]
    pub instance: Option<Late<InstanceHandle>>,
    /// The database within the server that is dropped with all it holds.
    pub dbname: Late<String>,
    /// With `true` a database that is not there is in order.
    #[serde(default)]
    pub if_exists: bool,
    /// What is done about sessions in it: `refuse` (default) or `terminate`.
    #[serde(default)]
    pub sessions: Sessions,
}

/// What is done about sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sessions {
    /// One is an error: somebody still uses it.
    #[default]
    Refuse,
    /// They are ended, and new ones are kept out.
    Terminate,
}

/// The outputs of `postgres.drop_database`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DropDatabaseOutput {
    /// Its name.
    pub dbname: String,
    /// Whether it was there.
    pub dropped: bool,
    /// The sessions that were ended.
    pub terminated: u64,
}

impl Action for DropDatabase {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.drop_database",
        summary: "Drops a database of a PostgreSQL server with all it holds.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::NotIdempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "One that nobody uses", with: "{ database: orders, dbname: shop_old, if_exists: true }" },
            Example { title: "With its sessions", with: "{ database: orders, dbname: shop, sessions: terminate }" },
        ],
    };
    type Params = DropDatabaseParams;
    type Output = DropDatabaseOutput;

    fn effects(&self, params: &DropDatabaseParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch)
            .map_err(|error| vec![ParamFault::new("/database", error.to_string())])?;
        if let Some(Err(what)) = params.dbname.known().map(|dbname| droppable(dbname)) {
            return Err(vec![ParamFault::new("/dbname", what)]);
        }
        Ok(Effects::of(EffectClass::Destroy).target(Access::Destroy, Target::Database { name: cluster.name }))
    }

    fn by_hand(&self, params: &DropDatabaseParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(cluster) = Cluster::of(&params.database, cx.inventory, cx.scratch) else { return Vec::new() };
        let force = if params.sessions == Sessions::Terminate { " WITH (FORCE)" } else { "" };
        let name = params.dbname.shown(|name| ident(name));
        vec![by_hand::sql(&cluster, "postgres", &format!("DROP DATABASE {name}{force}"))]
    }

    async fn check(&self, params: &DropDatabaseParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let own = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let (Some(dbname), false) = (params.dbname.known(), cx.ahead || params.instance.is_some() || own.is_scratch())
        else {
            return Ok(Findings::default().pending("the server is asked when the step starts"));
        };
        let mut session = beside(&own, dbname, cx.about.secrets.as_ref()).await?;
        let findings = Findings::default();
        if number(&mut session, dbname).await?.is_none() {
            let fact = format!("there is no database `{dbname}`");
            return Ok(match params.if_exists {
                true => findings.pass(fact),
                false => findings.refuse(fact, "set `if_exists: true` if that is in order"),
            });
        }
        let findings = Attached::of(&mut session, dbname).await?.judge_drop(dbname, findings);
        Ok(match (users(&mut session, dbname).await?, params.sessions) {
            (0, _) => findings.pass(format!("nobody uses database `{dbname}`")),
            (used, Sessions::Terminate) => findings
                .warn(format!("{used} sessions use database `{dbname}` and will be ended"), "stop what uses it first"),
            (used, Sessions::Refuse) => findings.refuse(
                format!("{used} sessions use database `{dbname}`"),
                "stop what uses it first, or say `sessions: terminate`",
            ),
        })
    }

    async fn run(&self, params: &DropDatabaseParams, cx: &RunContext) -> Result<DropDatabaseOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let cluster = match &params.instance {
            Some(instance) => cluster.serving(instance.get()?, &cx.about.scratch)?,
            None => cluster,
        };
        let dbname = params.dbname.get()?.clone();
        droppable(&dbname).map_err(ActionError::fatal)?;
        let mut session = beside(&cluster, &dbname, cx.about.secrets.as_ref()).await?;
        if number(&mut session, &dbname).await?.is_none() {
            return match params.if_exists {
                true => Ok(DropDatabaseOutput { dbname, dropped: false, terminated: 0 }),
                false => Err(ActionError::fatal(format!("there is no database `{dbname}`"))
                    .help("set `if_exists: true` if that is in order")),
            };
        }
        let terminated = match params.sessions {
            Sessions::Refuse => drop_now(&mut session, &dbname).await.map(|()| 0)?,
            Sessions::Terminate => {
                set(&mut session, &dbname, Door::Shut).await?;
                let dropped = match vacate(&mut session, (&dbname, &dbname)).await {
                    Ok(terminated) => drop_now(&mut session, &dbname).await.map(|()| terminated),
                    Err(error) => Err(error),
                };
                if dropped.is_err() {
                    // It is as usable as before; what made it fail tells more than a door that stays shut.
                    let _ = set(&mut session, &dbname, Door::Open).await;
                }
                dropped?
            }
        };
        Ok(DropDatabaseOutput { dbname, dropped: true, terminated })
    }
}

async fn drop_now(session: &mut Session, dbname: &str) -> Result<(), ActionError> {
    session.query(&format!("DROP DATABASE {}", ident(dbname))).await.map(drop)
}

fn droppable(dbname: &str) -> Result<(), String> {
    match NEEDED.contains(&dbname) {
        true => Err(format!("`{dbname}` is needed by the server itself")),
        false => name::dbname(dbname),
    }
}
