//! `postgres.restore_point`: a name for this moment, written into the WAL, before something risky is done.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::by_hand::remark;
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, ParamFault, PlanContext, RunContext, Target,
};
use crate::actions::postgres::cluster::by_hand;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::name::literal;
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::facts::{ServerFacts, archives};
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;
use crate::actions::postgres::stores::archive;
use crate::actions::postgres::stores::handover::{self, Handover, Handovers};
use crate::base::Timestamp;
use crate::base::units::Span;
use crate::event::{ErrorClass, Progress};
use crate::pgformat::{Lsn, SegmentName, SegmentSize};

/// How long its segment may take to reach the archive where nobody says otherwise.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(60);

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
    /// How long its segment may take to reach the archive. Default `1m`.
    #[serde(default)]
    pub within: Option<Span>,
    /// What becomes of the step when it takes longer.
    #[serde(default)]
    pub on_late: OnLate,
}

/// What becomes of a restore point whose segment is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLate {
    /// It is said, and the step succeeds.
    #[default]
    Note,
    /// The step fails: nothing risky begins before there is a way back.
    Fail,
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
    /// Whether its segment was seen in the archive. A throw-away instance has none.
    #[serde(default)]
    pub archived: bool,
}

impl Action for RestorePoint {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.restore_point",
        summary: "Writes a named restore point into the WAL and waits until its segment is archived.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[
            Example {
                title: "Before a migration",
                with: "{ database: orders, name: 'before-migration-{{ run.id }}' }",
            },
            Example {
                title: "No migration without a way back",
                with: "{ database: orders, name: 'before-{{ run.id }}', within: 2m, on_late: fail }",
            },
        ],
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
        let effects = Effects::of(EffectClass::Write);
        let effects = effects.target(Access::Write, Target::Database { name: cluster.name.clone() });
        Ok(match cluster.archive() {
            Ok((store, prefix)) if !cluster.is_scratch() => {
                let store = Target::Store { name: store.to_owned(), prefix: prefix.to_owned() };
                archive::read(&cluster, effects.target(Access::Read, store))
            }
            Ok(_) | Err(_) => effects,
        })
    }

    fn by_hand(&self, params: &RestorePointParams, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(cluster) = Cluster::of(&params.database, cx.inventory, cx.scratch) else { return Vec::new() };
        let made = format!("SELECT pg_create_restore_point({})", literal(&params.name));
        let archived = "SELECT last_archived_wal FROM pg_stat_archiver";
        let sql = |statement: &str| by_hand::sql(&cluster, &cluster.dbname, statement);
        let late = remark("until it is the segment of the restore point, or a later one:");
        vec![sql(&made), sql("SELECT pg_switch_wal()"), late, sql(archived)]
    }

    async fn check(&self, params: &RestorePointParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let findings = Findings::default();
        if cx.ahead && cluster.is_scratch() {
            return Ok(findings.pending("the server is asked when the step starts"));
        }
        let mut session = MaintenanceDb::own(&cluster, cx.about.secrets.as_ref())?.open().await?;
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
            let fact = "the server archives no WAL, so nobody can recover to a restore point";
            let help = "set `archive_mode = on` and `archive_command` to `runbook wal push`";
            return Ok(match params.on_late {
                OnLate::Note => findings.warn(fact, help),
                OnLate::Fail => findings.refuse(fact, help),
            });
        }
        Ok(findings.pass("a restore point can be made"))
    }

    async fn run(&self, params: &RestorePointParams, cx: &RunContext) -> Result<RestorePointOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let mut session = MaintenanceDb::own(&cluster, cx.about.secrets.as_ref())?.open().await?;
        let facts = ServerFacts::of(&mut session).await?;
        let (output, segment) = make(&mut session, &params.name, handover::size(&facts)?).await?;
        // An idle server would keep its segment for long, and a point that is in no archive is none.
        session.query("SELECT pg_switch_wal()").await?;
        let message = format!("restore point `{}` is at {}, in segment `{}`", output.name, output.lsn, output.segment);
        cx.reporter.note(message, serde_json::json!({ "lsn": output.lsn, "segment": output.segment }));
        cx.reporter.progress(Progress::Doing { text: format!("waiting for `{segment}` in the archive") });
        let within = params.within.map_or(ARCHIVED_WITHIN, |span| span.0);
        let handed = Handovers::of(&cluster, cx, &facts).wait(&mut session, segment, within).await;
        let fact = match handed {
            Ok(Handover::Archived) => return Ok(RestorePointOutput { archived: true, ..output }),
            Ok(Handover::None) if cluster.is_scratch() => return Ok(output),
            Ok(Handover::None) => "the server archives no WAL".to_owned(),
            Ok(Handover::Late) => format!("segment `{segment}` did not reach the archive within {}", Span(within)),
            Err(error) if error.info().class == ErrorClass::Cancelled => return Err(error),
            Err(error) => format!("whether segment `{segment}` reached the archive is not known: {error}"),
        };
        let fact = format!("{fact}: nobody can recover to the restore point before its WAL is archived");
        match params.on_late {
            OnLate::Note => cx.reporter.note(format!("warning: {fact}"), serde_json::Value::Null),
            OnLate::Fail => {
                let help = "look at `runbook wal status` and the server's log; the restore point itself does no harm";
                return Err(ActionError::fatal(fact).help(help));
            }
        }
        Ok(output)
    }
}

/// Makes the point. The segment is computed here: at a boundary `pg_walfile_name` answers otherwise before PostgreSQL 17
/// than since.
async fn make(
    session: &mut Session,
    name: &str,
    size: SegmentSize,
) -> Result<(RestorePointOutput, SegmentName), ActionError> {
    let sql = format!(
        "SELECT p.lsn, pg_walfile_name(p.lsn), to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
         FROM pg_create_restore_point({}) AS p(lsn)",
        literal(name)
    );
    let table = session.query(&sql).await?;
    let strange = || ActionError::fatal("the server's answer makes no sense");
    let text = |column| table.at(0, column).map(ToOwned::to_owned).ok_or_else(strange);
    let at = text(2)?.parse().map_err(|_| strange())?;
    let lsn: Lsn = text(0)?.parse().map_err(|_| strange())?;
    let named: SegmentName = text(1)?.parse().map_err(|_| strange())?;
    let segment = SegmentName::new(named.timeline(), size.number_of(Lsn(lsn.0.saturating_sub(1))), size);
    let output =
        RestorePointOutput { name: name.to_owned(), lsn: text(0)?, segment: segment.to_string(), at, archived: false };
    Ok((output, segment))
}
