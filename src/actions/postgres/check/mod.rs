//! `postgres.check`: proves a database, and says the value of every check.
//!
//! Start with `planned`: it decides what is proved. `prove` proves it, `basis` knows what content can be compared with.

mod basis;
pub(super) mod by_hand;
mod condition;
mod params;
mod planned;
mod prove;
mod smoke;

pub use params::{
    AheadSequences, AllKeys, AvailableExtensions, CheckBody, CheckItem, CheckOutput, CheckParams, CheckResult,
    CheckSet, EqualFacts, Newest, SameCollations, Smoke, ValidIndexes,
};

use basis::Origin;
use planned::{Planned, What, planned};
use prove::Prover;

use crate::action::{
    Access, Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Findings, Idempotency, Late,
    Mode, ParamFault, PlanContext, RunContext, Target,
};
use crate::actions::backup::vouched::vouched;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::content::FactsDepth;
use crate::actions::postgres::session::integrity;
use crate::actions::postgres::session::maintenance_db::MaintenanceDb;

/// Proves a database.
#[derive(Debug, Clone, Copy, Default)]
pub struct Check;

impl Action for Check {
    const SPEC: ActionSpec = ActionSpec {
        name: "postgres.check",
        summary: "Proves a PostgreSQL database: content, keys, indexes, sequences, freshness, SQL, a smoke test.",
        effect: EffectClass::Read,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: true,
        version: 2,
        examples: &[
            Example {
                title: "The inventory's checks, foreign keys and indexes",
                with: "{ database: orders, checks: [inventory, { name: orphans, foreign_keys: all }, { name: indexes, indexes: valid }, { name: users, sql: SELECT count(*) FROM users, expect: '> 0' }] }",
            },
            Example {
                title: "A restored backup has what was backed up, and the application can work with it",
                with: "{ database: orders, instance: '{{ steps.recover.instance }}', backup: '{{ steps.choose.backup }}', checks: [{ facts: hashes }, { indexes: heapallindexed }, { sequences: ahead }, { extensions: available }, { collations: same }, { smoke: { command: [/opt/app/smoke, --read-only] } }] }",
            },
            Example {
                title: "Tables, thresholds and freshness",
                with: "{ database: orders, checks: [{ tables: [users, sales.orders] }, { rows: { users: '> 100' } }, { newest: { table: sales.orders, column: created_at, within: 1h } }] }",
            },
        ],
    };
    type Params = CheckParams;
    type Output = CheckOutput;

    fn effects(&self, params: &CheckParams, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch)
            .map_err(|error| vec![ParamFault::new("/database", error.to_string())])?;
        let checks = planned(&params.checks, &cluster.entry)?;
        let mut effects = Effects::of(EffectClass::Read);
        if facts_wanted(&checks).is_some() {
            let (store, prefix) =
                cluster.archive().map_err(|error| vec![ParamFault::new("/database", error.to_string())])?;
            if params.backup.is_none() {
                return Err(vec![
                    ParamFault::new("/backup", "a check of `facts` compares with a backup, and none is given")
                        .help("give the one that was restored: `backup: \"{{ steps.choose.backup }}\"`"),
                ]);
            }
            effects = effects.target(Access::Read, Target::Store { name: store.to_owned(), prefix: prefix.to_owned() });
        }
        for check in &checks {
            if let What::Smoke(smoke) = &check.what {
                effects = effects.program(smoke.command[0].clone());
            }
        }
        Ok(effects.target(Access::Read, Target::Database { name: cluster.name }))
    }

    fn by_hand(&self, params: &CheckParams, cx: &PlanContext<'_>) -> Vec<String> {
        by_hand::lines(params, cx).unwrap_or_default()
    }

    async fn check(&self, params: &CheckParams, cx: &CheckContext) -> Result<Findings, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let checks = planned(&params.checks, &cluster.entry).unwrap_or_default();
        if checks.is_empty() {
            let fact = format!("nothing is proved: database `{}` has no checks in the inventory", cluster.name);
            return Ok(Findings::default().warn(fact, "add `checks` to its entry, or name them in the step"));
        }
        let later = || Findings::default().pending("the server is asked when the step starts");
        let handle = params.backup.as_ref().and_then(Late::known).filter(|_| !cx.ahead);
        let (Some(handle), Some(wanted), Some(cluster)) = (handle, facts_wanted(&checks), known(params, cluster, cx)?)
        else {
            return Ok(later());
        };
        let (store, files) = (cx.store(&handle.store)?, cx.host.read_files());
        let vouched = vouched(store.as_ref(), &cx.about.inventory)?;
        let origin = Origin { cluster: &cluster, store: &vouched, files: files.as_ref() };
        let backup = origin.backup(handle).await?;
        let mut session = MaintenanceDb::own(&cluster, cx.about.secrets.as_ref())?.open().await?;
        origin.basis((&backup, wanted), &mut session).await?;
        Ok(Findings::default().pass(format!("the server stands where the facts of backup `{}` hold", handle.id)))
    }

    async fn run(&self, params: &CheckParams, cx: &RunContext) -> Result<CheckOutput, ActionError> {
        let cluster = Cluster::of(&params.database, &cx.about.inventory, &cx.about.scratch)?;
        let cluster = match &params.instance {
            Some(instance) => cluster.serving(instance.get()?, &cx.about.scratch)?,
            None => cluster,
        };
        let checks = planned(&params.checks, &cluster.entry).map_err(|faults| {
            ActionError::fatal(faults.first().map_or_else(String::new, |fault| fault.message.clone()))
        })?;
        let mut prover = Prover { cluster: &cluster, params, cx, taken: None };
        let mut results = Vec::new();
        for check in &checks {
            let one = prover.prove(check);
            let result = tokio::select! {
                result = one => result,
                () = cx.cancel.cancelled() => return Err(ActionError::cancelled("the checks were cancelled")),
            };
            match result {
                Ok(result) => results.push(result),
                Err(error) => {
                    // What was found wrong before stays wrong.
                    if !results.is_empty() {
                        tell(&results, cx);
                    }
                    return Err(error);
                }
            }
        }
        tell(&results, cx);
        judged(results, cx.about.mode).map(|output| CheckOutput { facts: prover.taken, ..output })
    }
}

/// The cluster that is to be proved, once it is known.
fn known(params: &CheckParams, own: Cluster, cx: &CheckContext) -> Result<Option<Cluster>, ActionError> {
    match params.instance.as_ref().map(Late::known) {
        Some(Some(instance)) => own.serving(instance, &cx.about.scratch).map(Some),
        Some(None) => Ok(None),
        None => Ok(Some(own)),
    }
}

/// How deep the deepest check of facts looks; `None` without any.
fn facts_wanted(checks: &[Planned]) -> Option<FactsDepth> {
    let depth = |check: &Planned| if let What::Facts(depth) = &check.what { Some(*depth) } else { None };
    checks.iter().filter_map(depth).max()
}

/// Keeps the table of results: also what passed, and also where something failed.
fn tell(results: &[CheckResult], cx: &RunContext) {
    let passed = results.iter().filter(|result| result.passed).count();
    let unmade = results.iter().filter(|result| result.unproven.is_some()).count();
    let unmade = if unmade == 0 { String::new() } else { format!(", {unmade} could not be made") };
    let message = format!("{passed} of {} checks passed{unmade}", results.len());
    cx.reporter.note(message, serde_json::json!({ "checks": results }));
    // A check of foreign keys that passed says nothing of those.
    let left = results.iter().filter(|result| result.passed).flat_map(|result| &result.details);
    for detail in left.filter(|detail| detail.contains(integrity::NOT_VALID)) {
        cx.reporter.note(detail.clone(), serde_json::Value::Null);
    }
}

/// What the results come to. What could not be made is no fault that was found: it makes a drill inconclusive, and a real
/// run does not take it for passed.
fn judged(results: Vec<CheckResult>, mode: Mode) -> Result<CheckOutput, ActionError> {
    let failed: Vec<String> = results.iter().filter(|result| result.is_bad()).map(describe).collect();
    let why =
        |result: &CheckResult| Some(format!("`{}` could not be made: {}", result.name, result.unproven.as_ref()?));
    let unproven: Vec<String> = results.iter().filter_map(why).collect();
    if failed.is_empty() && (unproven.is_empty() || mode == Mode::Drill) {
        let passed = results.iter().filter(|result| result.passed).count() as u64;
        return Ok(CheckOutput { passed, checks: results, unproven, facts: None });
    }
    let found = match failed.is_empty() {
        true => "nothing was found wrong, but".to_owned(),
        false => format!("{} of {} checks failed: {}", failed.len(), results.len(), failed.join("; ")),
    };
    let fact = match (failed.is_empty(), unproven.is_empty()) {
        (_, true) => found,
        (true, false) => format!("{found} {}", unproven.join("; ")),
        (false, false) => format!("{found}; {}", unproven.join("; ")),
    };
    let values: Vec<String> = results.iter().map(describe).collect();
    Err(ActionError::fatal(fact).process(None, values))
}

fn describe(result: &CheckResult) -> String {
    let details = if result.details.is_empty() { String::new() } else { format!(" ({})", result.details.join(", ")) };
    format!("`{}` is {}, expected {}{details}", result.name, result.value, result.expected)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;

    #[test]
    fn a_failure_lists_every_failed_check_with_its_value() {
        let result = |name: &str, passed| CheckResult {
            name: name.into(),
            passed,
            value: "`0`".into(),
            expected: "`> 0`".into(),
            details: Vec::new(),
            unproven: None,
        };
        let error = judged(vec![result("a", false), result("b", true), result("c", false)], Mode::Drill).unwrap_err();
        assert_eq!(error.to_string(), "2 of 3 checks failed: `a` is `0`, expected `> 0`; `c` is `0`, expected `> 0`");
        let unmade = CheckResult { unproven: Some("no `amcheck`".into()), ..result("d", false) };
        let drilled = judged(vec![result("b", true), unmade.clone()], Mode::Drill).unwrap();
        assert_eq!(
            (drilled.passed, drilled.unproven.as_slice()),
            (1, ["`d` could not be made: no `amcheck`".to_owned()].as_slice())
        );
        let real = judged(vec![result("b", true), unmade.clone()], Mode::Real).unwrap_err();
        assert_eq!(real.to_string(), "nothing was found wrong, but `d` could not be made: no `amcheck`");
        let both = judged(vec![result("a", false), unmade], Mode::Drill).unwrap_err();
        assert!(
            both.to_string().starts_with("1 of 2 checks failed: `a`") && both.to_string().ends_with("no `amcheck`")
        );
    }
}
