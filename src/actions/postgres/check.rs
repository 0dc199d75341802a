//! `postgres.check`: proves a database, and says the value of every check.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::by_hand;
use super::connect::{Endpoint, Session};
use super::expect::Expectation;
use super::integrity::{self, Proof};
use super::layout::Cluster;
use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings,
    Idempotency, InstanceHandle, Late, ParamFault, PlanContext, RunContext, Target,
};
use crate::event::Progress;
use crate::language::inventory::SqlCheck;

/// Proves a database.
#[derive(Debug, Clone, Copy, Default)]
pub struct Check;

/// The arguments of `postgres.check`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckParams {
    /// The database of the inventory.
    pub database: DatabaseRef,
    /// The instance to prove, as `postgres.recover` gave it; default: the one of the inventory.
    #[serde(default)]
    pub instance: Option<Late<InstanceHandle>>,
    /// What is proved; default: the database's own checks.
    #[serde(default = "own_checks")]
    pub checks: Vec<CheckItem>,
}

/// One check or set of checks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum CheckItem {
    /// A set with a name.
    Set(CheckSet),
    /// One check.
    One(Box<CheckBody>),
}

/// A set of checks with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckSet {
    /// The `checks` of the database in the inventory.
    Inventory,
}

/// One check: exactly one of `foreign_keys`, `indexes` and `sql`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckBody {
    /// A name for reports.
    pub name: String,
    /// `all`: no foreign key has a row without its parent.
    pub foreign_keys: Option<AllKeys>,
    /// `valid`: no index is invalid; B-trees are walked where `amcheck` is installed.
    pub indexes: Option<ValidIndexes>,
    /// A statement; its first column of the first row is judged.
    pub sql: Option<String>,
    /// What the value must be: `> 0`, `= 42`, `= 'text'`; absent: at least one row.
    pub expect: Option<String>,
    /// The database within the server; default: for `sql` the inventory's `dbname`, else all.
    pub dbname: Option<String>,
}

/// Which foreign keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllKeys {
    /// All that the database promises.
    All,
}

/// What indexes must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValidIndexes {
    /// Valid.
    Valid,
}

/// The outputs of `postgres.check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckOutput {
    /// Each check with its value.
    pub checks: Vec<CheckResult>,
    /// How many passed.
    pub passed: u64,
}

/// One check's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckResult {
    /// Its name.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// The value found, in words for proofs.
    pub value: String,
    /// What was expected.
    pub expected: String,
    /// What is wrong, or could not be judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

fn own_checks() -> Vec<CheckItem> {
    vec![CheckItem::Set(CheckSet::Inventory)]
}

/// One thing to prove, decided.
#[derive(Debug, Clone, PartialEq)]
enum Planned {
    Keys { name: String, dbname: Option<String> },
    Indexes { name: String, dbname: Option<String> },
    Sql { name: String, dbname: Option<String>, sql: String, expect: Option<Expectation>, shown: String },
}

impl Action for Check {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.check",
        summary: "Proves a PostgreSQL database: SQL with expectations, foreign keys, indexes.",
        effect: EffectClass::Read,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 1,
        examples: &[Example {
            title: "The inventory's checks, foreign keys and indexes",
            with: "{ database: orders, checks: [inventory, { name: orphans, foreign_keys: all }, { name: indexes, indexes: valid }, { name: users, sql: SELECT count(*) FROM users, expect: '> 0' }] }",
        }],
    };
    type Params = CheckParams;
    type Output = CheckOutput;

    fn effects(&self, params: &CheckParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch)
            .map_err(|error| vec![ParamFault::new("/database", error.to_string())])?;
        planned(&params.checks, &cluster.entry.checks)?;
        Ok(Effects::of(EffectClass::Read).target(Access::Read, Target::Database { name: cluster.name }))
    }

    fn by_hand(&self, params: &CheckParams, cx: &PlanContext<'_>) -> Vec<String> {
        by_hand::check(params, cx).unwrap_or_default()
    }

    async fn check(&self, params: &CheckParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        if planned(&params.checks, &cluster.entry.checks).is_ok_and(|checks| checks.is_empty()) {
            let fact = format!("nothing is proved: database `{}` has no checks in the inventory", cluster.name);
            return Ok(Findings::default().warn(fact, "add `checks` to its entry, or name them in the step"));
        }
        Ok(Findings::default().pending("the server is asked when the step starts"))
    }

    async fn run(&self, params: &CheckParams, cx: &RunContext) -> Result<CheckOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let cluster = match &params.instance {
            Some(instance) => cluster.serving(instance.get()?, &cx.about.scratch)?,
            None => cluster,
        };
        let checks = planned(&params.checks, &cluster.entry.checks).map_err(|faults| {
            ActionError::fatal(faults.first().map_or_else(String::new, |fault| fault.message.clone()))
        })?;
        let mut results = Vec::new();
        for check in &checks {
            let one = prove(check, &cluster, cx);
            let result = tokio::select! {
                result = one => result?,
                () = cx.cancel.cancelled() => return Err(ActionError::cancelled("the checks were cancelled")),
            };
            results.push(result);
        }
        judged(results)
    }
}

fn judged(results: Vec<CheckResult>) -> Result<CheckOutput, ActionError> {
    let failed: Vec<String> = results.iter().filter(|result| !result.passed).map(describe).collect();
    if failed.is_empty() {
        return Ok(CheckOutput { passed: results.len() as u64, checks: results });
    }
    let fact = format!("{} of {} checks failed: {}", failed.len(), results.len(), failed.join("; "));
    let values: Vec<String> = results.iter().map(describe).collect();
    Err(ActionError::fatal(fact).process(None, values))
}

fn describe(result: &CheckResult) -> String {
    let details = if result.details.is_empty() { String::new() } else { format!(" ({})", result.details.join(", ")) };
    format!("`{}` is {}, expected {}{details}", result.name, result.value, result.expected)
}

fn planned(items: &[CheckItem], own: &[SqlCheck]) -> Result<Vec<Planned>, Vec<ParamFault>> {
    let mut checks = Vec::new();
    let mut faults = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("/checks/{index}");
        match item {
            CheckItem::Set(CheckSet::Inventory) => {
                for check in own {
                    let made = sql(&check.name, check.dbname.as_ref(), &check.sql, check.expect.as_deref());
                    made.map(|made| checks.push(made)).unwrap_or_else(|why| faults.push(ParamFault::new(&path, why)));
                }
            }
            CheckItem::One(body) => match one(body) {
                Ok(check) => checks.push(check),
                Err(why) => faults.push(ParamFault::new(&path, why)),
            },
        }
    }
    if faults.is_empty() { Ok(checks) } else { Err(faults) }
}

fn one(body: &CheckBody) -> Result<Planned, String> {
    let name = |default: &str| if body.name.is_empty() { default.to_owned() } else { body.name.clone() };
    let dbname = body.dbname.clone();
    match (&body.foreign_keys, &body.indexes, &body.sql) {
        (Some(AllKeys::All), None, None) if body.expect.is_none() => {
            Ok(Planned::Keys { name: name("foreign_keys"), dbname })
        }
        (None, Some(ValidIndexes::Valid), None) if body.expect.is_none() => {
            Ok(Planned::Indexes { name: name("indexes"), dbname })
        }
        (None, None, Some(text)) => sql(&name(text), dbname.as_ref(), text, body.expect.as_deref()),
        _ => Err("a check has exactly one of `foreign_keys`, `indexes` and `sql`; `expect` goes with `sql`".to_owned()),
    }
}

fn sql(name: &str, dbname: Option<&String>, text: &str, expect: Option<&str>) -> Result<Planned, String> {
    let parsed = expect.map(str::parse::<Expectation>).transpose().map_err(|error| error.to_string())?;
    let shown = expect.map_or_else(|| "at least one row".to_owned(), |expect| format!("`{expect}`"));
    Ok(Planned::Sql { name: name.to_owned(), dbname: dbname.cloned(), sql: text.to_owned(), expect: parsed, shown })
}

async fn prove(check: &Planned, cluster: &Cluster, cx: &RunContext) -> Result<CheckResult, ActionError> {
    match check {
        Planned::Keys { name, dbname } => {
            cx.reporter.progress(Progress::Doing { text: format!("check `{name}`: foreign keys") });
            let proof = everywhere(cluster, dbname.as_deref(), cx, Kind::Keys).await?;
            Ok(proved(name, &proof, "foreign keys hold"))
        }
        Planned::Indexes { name, dbname } => {
            cx.reporter.progress(Progress::Doing { text: format!("check `{name}`: indexes") });
            let proof = everywhere(cluster, dbname.as_deref(), cx, Kind::Indexes).await?;
            Ok(proved(name, &proof, "indexes are valid"))
        }
        Planned::Sql { name, dbname, sql, expect, shown } => {
            cx.reporter.progress(Progress::Doing { text: format!("check `{name}`") });
            let mut session = open(cluster, dbname.as_deref(), cx).await?;
            session.query("BEGIN READ ONLY").await?;
            session.types(sql).await?;
            let table = session.query(sql).await?;
            let passed = match expect {
                Some(expect) => expect.holds(table.first()),
                None => !table.rows.is_empty(),
            };
            let value = match expect {
                Some(_) => table.first().map_or_else(|| "null".to_owned(), |value| format!("`{value}`")),
                None => format!("{} rows", table.rows.len()),
            };
            Ok(CheckResult { name: name.clone(), passed, value, expected: shown.clone(), details: Vec::new() })
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Keys,
    Indexes,
}

async fn everywhere(
    cluster: &Cluster,
    dbname: Option<&str>,
    cx: &RunContext,
    kind: Kind,
) -> Result<Proof, ActionError> {
    let names = match dbname {
        Some(name) => vec![name.to_owned()],
        None => integrity::databases(&mut open(cluster, None, cx).await?).await?,
    };
    let mut whole = Proof { looked_at: 0, faults: Vec::new(), notes: Vec::new() };
    for name in names {
        let mut session = open(cluster, Some(&name), cx).await?;
        integrity::begin(&mut session).await?;
        let part = match kind {
            Kind::Keys => integrity::foreign_keys(&mut session).await?,
            Kind::Indexes => integrity::indexes(&mut session).await?,
        };
        whole.looked_at += part.looked_at;
        whole.faults.extend(part.faults.into_iter().map(|fault| format!("{name}: {fault}")));
        whole.notes.extend(part.notes.into_iter().map(|note| format!("{name}: {note}")));
    }
    Ok(whole)
}

fn proved(name: &str, proof: &Proof, what: &str) -> CheckResult {
    let bad = proof.faults.len();
    CheckResult {
        name: name.to_owned(),
        passed: bad == 0,
        value: format!("{bad} faults in {}", proof.looked_at),
        expected: format!("all {what}"),
        details: proof.faults.iter().chain(&proof.notes).cloned().collect(),
    }
}

async fn open(cluster: &Cluster, dbname: Option<&str>, cx: &RunContext) -> Result<Session, ActionError> {
    Endpoint::of(cluster, dbname, cx.about.secrets.as_ref())?.open().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;

    #[test]
    fn the_checks_of_a_step_read_as_the_language_page_writes_them() {
        let json = serde_json::json!({ "database": "orders", "checks": [
            "inventory", { "name": "orphans", "foreign_keys": "all" }, { "name": "indexes", "indexes": "valid" },
            { "name": "users", "sql": "SELECT 1", "expect": "> 0" } ] });
        let params: CheckParams = serde_json::from_value(json).unwrap();
        let own = [SqlCheck { name: "n".into(), sql: "SELECT 1".into(), expect: None, dbname: None }];
        assert_eq!(planned(&params.checks, &own).unwrap().len(), 4);
    }

    #[test]
    fn a_check_of_two_kinds_or_with_a_bad_expectation_is_a_fault_at_its_place() {
        let both = CheckBody { foreign_keys: Some(AllKeys::All), sql: Some("SELECT 1".into()), ..CheckBody::default() };
        let bad = CheckBody { sql: Some("SELECT 1".into()), expect: Some("many".into()), ..CheckBody::default() };
        let items = [CheckItem::One(Box::new(both)), CheckItem::One(Box::new(bad))];
        let faults = planned(&items, &[]).unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(), ["/checks/0", "/checks/1"]);
    }

    #[test]
    fn a_failure_lists_every_failed_check_with_its_value() {
        let result = |name: &str, passed| CheckResult {
            name: name.into(),
            passed,
            value: "`0`".into(),
            expected: "`> 0`".into(),
            details: Vec::new(),
        };
        let error = judged(vec![result("a", false), result("b", true), result("c", false)]).unwrap_err();
        assert_eq!(error.to_string(), "2 of 3 checks failed: `a` is `0`, expected `> 0`; `c` is `0`, expected `> 0`");
    }
}
