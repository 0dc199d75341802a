//! `postgres.create_database`: an empty database within a server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sessions::{beside, number};
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, InstanceHandle, Late, ParamFault, PlanContext, RunContext, Surroundings, Target,
};
use crate::actions::postgres::cluster::by_hand;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::name::{self, ident, literal};

/// Creates a database.
#[derive(Debug, Clone, Copy, Default)]
pub struct CreateDatabase;

/// The arguments of `postgres.create_database`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDatabaseParams {
    /// The database of the inventory: one server.
    pub database: DatabaseRef,
    /// The instance. Default: the database's own server.
    #[serde(default)]
    pub instance: Option<Late<InstanceHandle>>,
    /// The name of the new database within the server.
    pub dbname: String,
    /// The role it belongs to. Default: the one that creates it.
    #[serde(default)]
    pub owner: Option<String>,
    /// The encoding, for example `UTF8`. Default: the template's.
    #[serde(default)]
    pub encoding: Option<String>,
    /// The locale, for example `C` or `de_DE.utf8`. Default: the template's.
    #[serde(default)]
    pub locale: Option<String>,
    /// The template. Default: `template0` with an encoding or locale, else `template1`.
    #[serde(default)]
    pub template: Option<String>,
    /// With `true` a database of that name that is there already is in order, whatever it holds.
    #[serde(default)]
    pub if_missing: bool,
}

/// The outputs of `postgres.create_database`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreateDatabaseOutput {
    /// Its name.
    pub dbname: String,
    /// Whether it was created now.
    pub created: bool,
}

impl CreateDatabaseParams {
    fn statement(&self) -> String {
        let usual = if self.encoding.is_some() || self.locale.is_some() { "template0" } else { "template1" };
        let template = ident(self.template.as_deref().unwrap_or(usual));
        let mut words = vec![format!("CREATE DATABASE {} TEMPLATE {template}", ident(&self.dbname))];
        words.extend(self.owner.as_ref().map(|owner| format!("OWNER {}", ident(owner))));
        words.extend(self.encoding.as_ref().map(|encoding| format!("ENCODING {}", literal(encoding))));
        let locale = |locale| format!("LC_COLLATE {0} LC_CTYPE {0}", literal(locale));
        words.extend(self.locale.as_deref().map(locale));
        words.join(" ")
    }

    fn cluster(&self, about: &Surroundings) -> Result<Cluster, ActionError> {
        let cluster = Cluster::of(&self.database, &about.inventory, &about.scratch)?;
        match &self.instance {
            Some(instance) => cluster.serving(instance.get()?, &about.scratch),
            None => Ok(cluster),
        }
    }
}

impl Action for CreateDatabase {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.create_database",
        summary: "Creates an empty database within a PostgreSQL server.",
        effect: EffectClass::Write,
        idempotency: Idempotency::NotIdempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "With an owner", with: "{ database: orders, dbname: shop, owner: app }" },
            Example {
                title: "With its own locale",
                with: "{ database: orders, dbname: shop, encoding: UTF8, locale: C, if_missing: true }",
            },
        ],
    };
    type Params = CreateDatabaseParams;
    type Output = CreateDatabaseOutput;

    fn effects(&self, params: &CreateDatabaseParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch)
            .map_err(|error| vec![ParamFault::new("/database", error.to_string())])?;
        name::dbname(&params.dbname).map_err(|what| vec![ParamFault::new("/dbname", what)])?;
        Ok(Effects::of(EffectClass::Write).target(Access::Write, Target::Database { name: cluster.name }))
    }

    fn by_hand(&self, params: &CreateDatabaseParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(cluster) = Cluster::of(&params.database, cx.inventory, cx.scratch) else { return Vec::new() };
        vec![by_hand::sql(&cluster, "postgres", &params.statement())]
    }

    async fn check(&self, params: &CreateDatabaseParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let own = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        if cx.ahead || params.instance.is_some() || own.is_scratch() {
            return Ok(Findings::default().pending("the server is asked when the step starts"));
        }
        let mut session = beside(&own, &params.dbname, cx.about.secrets.as_ref()).await?;
        let findings = Findings::default();
        let may = session.value("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user").await?;
        let there = number(&mut session, &params.dbname).await?.is_some();
        Ok(match (there, may.as_str()) {
            (true, _) if params.if_missing => findings.pass(format!("database `{}` is there", params.dbname)),
            (true, _) => findings.refuse(
                format!("database `{}` is there already", params.dbname),
                "choose another name, or set `if_missing: true` if that is in order",
            ),
            (false, "t") => findings.pass(format!("database `{}` can be created", params.dbname)),
            (false, _) => findings.refuse("the role may not create databases", "ALTER ROLE … CREATEDB"),
        })
    }

    async fn run(&self, params: &CreateDatabaseParams, cx: &RunContext) -> Result<CreateDatabaseOutput, ActionError> {
        let cluster = params.cluster(&cx.about)?;
        let mut session = beside(&cluster, &params.dbname, cx.about.secrets.as_ref()).await?;
        let dbname = params.dbname.clone();
        if params.if_missing && number(&mut session, &dbname).await?.is_some() {
            return Ok(CreateDatabaseOutput { dbname, created: false });
        }
        session.query(&params.statement()).await?;
        Ok(CreateDatabaseOutput { dbname, created: true })
    }
}
