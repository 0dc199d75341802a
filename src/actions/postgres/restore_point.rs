//! `postgres.restore_point`: a name for this moment, written into the WAL, before something risky is done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::by_hand;
use super::connect::{Endpoint, Session};
use super::facts::{ServerFacts, archives};
use super::layout::Cluster;
use super::name::literal;
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, ParamFault, PlanContext, RunContext, Target,
};
use crate::base::Timestamp;

/// The server keeps no more of a name (`MAXFNAMELEN`).
const NAME_BYTES: usize = 63;

/// Names a moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestorePoint;

/// The arguments of `postgres.restore_point`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestorePointParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// The point's name, for `target_name`; the run's id in it keeps it apart from those of other runs.
    pub name: String,
}

/// The outputs of `postgres.restore_point`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestorePointOutput {
    /// Its name.
    pub name: String,
    /// Its position, for `target_lsn`: where several points have one name, recovery stops at the first.
    pub lsn: String,
    /// The segment that holds it.
    pub segment: String,
    /// When it was made, by the server's clock.
    #[schemars(with = "String")]
    pub at: Timestamp,
}

impl Action for RestorePoint {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.restore_point",
        summary: "Writes a named restore point into the WAL and has its segment archived.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[Example {
            title: "Before a migration",
            with: "{ database: orders, name: 'before-migration-{{ run.id }}' }",
        }],
    };
    type Params = RestorePointParams;
    type Output = RestorePointOutput;

    fn effects(&self, params: &RestorePointParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch)
            .map_err(|error| vec![ParamFault::new("/database", error.to_string())])?;
        if params.name.is_empty() || params.name.len() > NAME_BYTES || params.name.contains('\0') {
            let fact = format!("a restore point's name has 1 to {NAME_BYTES} bytes; the server would cut a longer one");
            return Err(vec![ParamFault::new("/name", fact)]);
        }
        Ok(Effects::of(EffectClass::Write).target(Access::Write, Target::Database { name: cluster.name }))
    }

    fn by_hand(&self, params: &RestorePointParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(cluster) = Cluster::of(&params.database, cx.inventory, cx.scratch) else { return Vec::new() };
        let made = format!("SELECT pg_create_restore_point({})", literal(&params.name));
        let statements = [made.as_str(), "SELECT pg_switch_wal()"];
        statements.map(|statement| by_hand::sql(&cluster, &cluster.dbname, statement)).into()
    }

    async fn check(&self, params: &RestorePointParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let findings = Findings::default();
        if cx.ahead && cluster.is_scratch() {
            return Ok(findings.pending("the server is asked when the step starts"));
        }
        let mut session = Endpoint::of(&cluster, None, cx.about.secrets.as_ref())?.open().await?;
        let facts = ServerFacts::of(&mut session).await?;
        if facts.in_recovery {
            return Ok(findings.refuse("the server is a standby", "make the restore point on its primary"));
        }
        if facts.wal_level == "minimal" {
            return Ok(findings.refuse("`wal_level` is `minimal`", "set `wal_level = replica` and restart the server"));
        }
        let may = "SELECT has_function_privilege('pg_catalog.pg_create_restore_point(text)', 'EXECUTE') \
                   AND has_function_privilege('pg_catalog.pg_switch_wal()', 'EXECUTE')";
        if session.value(may).await? != "t" {
            let help = "GRANT EXECUTE ON FUNCTION pg_create_restore_point(text), pg_switch_wal() TO it";
            return Ok(findings.refuse("the role may not make a restore point", help));
        }
        if !archives(&facts.archiving) && !cluster.is_scratch() {
            return Ok(findings.warn(
                "the server archives no WAL, so nobody can recover to a restore point",
                "set `archive_mode = on` and `archive_command` to `runbook wal push`",
            ));
        }
        Ok(findings.pass("a restore point can be made"))
    }

    async fn run(&self, params: &RestorePointParams, cx: &RunContext) -> Result<RestorePointOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let mut session = Endpoint::of(&cluster, None, cx.about.secrets.as_ref())?.open().await?;
        let output = make(&mut session, &params.name).await?;
        // An idle server would keep its segment for long, and a point that is in no archive is none.
        session.query("SELECT pg_switch_wal()").await?;
        let message = format!("restore point `{}` is at {}, in segment `{}`", output.name, output.lsn, output.segment);
        cx.reporter.note(message, serde_json::json!({ "lsn": output.lsn, "segment": output.segment }));
        Ok(output)
    }
}

async fn make(session: &mut Session, name: &str) -> Result<RestorePointOutput, ActionError> {
    let sql = format!(
        "SELECT p.lsn, pg_walfile_name(p.lsn), to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
         FROM pg_create_restore_point({}) AS p(lsn)",
        literal(name)
    );
    let table = session.query(&sql).await?;
    let strange = || ActionError::fatal("the server's answer makes no sense");
    let text = |column| table.at(0, column).map(ToOwned::to_owned).ok_or_else(strange);
    let at = text(2)?.parse().map_err(|_| strange())?;
    Ok(RestorePointOutput { name: name.to_owned(), lsn: text(0)?, segment: text(1)?, at })
}
