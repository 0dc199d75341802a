//! What is looked at before the first step: every step's check and programs, and whether the inventory is right about the
//! servers that the plan names. Changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::again::Again;
use super::capabilities::LocalCapabilities;
use super::exit::told;
use super::{Exit, Failure, reap, wiring};
use crate::action::{Access, DatabaseRef, Findings, Registry, Target};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::session::identity_check::{contradictions, strangers};
use crate::base::StepId;
use crate::engine::{Capabilities, Preflight, Timing, preflight};
use crate::event::Verdict;
use crate::plan::{BoundPlan, PlannedStep, Section};
use crate::port::SystemClock;

/// The action that makes a copy beside a live server.
const SIDE: &str = "postgres.side_instance";
/// The action that stops a server.
const STOP: &str = "postgres.stop";
/// The action that may give up the data of a server that must be stopped by then.
const STAGE: &str = "postgres.restore_base";

/// Looks for every step's programs and runs every step's check with late values pending.
pub fn look(
    plan: &Arc<BoundPlan>,
    registry: &Registry,
    hands: &Arc<LocalCapabilities>,
) -> Result<Vec<Preflight>, Failure> {
    let capabilities: Arc<dyn Capabilities> = Arc::clone(hands) as Arc<dyn Capabilities>;
    let mut checked = wiring::block_on(preflight(Arc::clone(plan), registry, capabilities, Arc::new(SystemClock)))?;
    let found = plan.steps.iter().filter_map(|step| Some((step.id.clone(), programs(step, hands)?)));
    for (id, found) in found.collect::<Vec<_>>() {
        add(&mut checked, id, found);
    }
    for (id, found) in wiring::block_on(servers(plan, hands))? {
        add(&mut checked, id, found);
    }
    Ok(checked)
}

fn add(checked: &mut Vec<Preflight>, id: StepId, found: Findings) {
    match checked.iter_mut().find(|(known, _)| *known == id) {
        Some((_, Ok(findings))) => findings.0.extend(found.0),
        // What is wrong with a step's surroundings may be why its check failed.
        Some((_, failed)) => {
            if let Some(error) = failed.as_ref().err().filter(|_| found.refused()) {
                let help = error.info().help.clone().unwrap_or_else(|| "correct what is refused before".to_owned());
                *failed = Ok(found.refuse(told(error), help));
            }
        }
        None => checked.push((id, Ok(found))),
    }
}

/// Looks for the programs a step says it needs; `None` when it names none.
fn programs(step: &PlannedStep, hands: &Arc<LocalCapabilities>) -> Option<Findings> {
    if step.effects.programs.is_empty() {
        return None;
    }
    let host = match hands.read(step, Timing::Ahead) {
        Ok(context) => context.host,
        Err(error) => return Some(Findings::default().refuse(error.to_string(), "check the step's host")),
    };
    let mut findings = Findings::default();
    for program in &step.effects.programs {
        findings = match host.find_program(program) {
            Some(_) => findings,
            None if program.contains('/') && !program.starts_with('/') => {
                findings.pending(format!("`{program}` is looked for in the step's own folder"))
            }
            None => {
                let fact = format!("the program `{program}` is not found on `{}`", host.name());
                let help = "install it, or give its full path";
                // A step with a condition may never need it.
                if step.when.is_some() || step.section == Section::Undo {
                    findings.warn(fact, help)
                } else {
                    findings.refuse(fact, help)
                }
            }
        };
    }
    Some(findings)
}

/// Holds the entries of the databases that the plan names against the servers that answer. Each contradiction refuses the
/// first step that names the database.
async fn servers(plan: &BoundPlan, hands: &Arc<LocalCapabilities>) -> Vec<(StepId, Findings)> {
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    // What is left behind lies in a run's own folder, wherever the server is.
    if reap::is_reaping(plan) {
        return found;
    }
    for step in &plan.steps {
        let works_on_server = !works_on_a_handle(step);
        for name in databases(step).filter(|name| works_on_server && seen.insert(*name)) {
            if let Some(findings) = server(name, step, hands).await {
                found.push((step.id.clone(), findings));
            }
        }
        if let Some(findings) = unstopped(plan, step, hands).await {
            found.push((step.id.clone(), findings));
        }
    }
    found
}

/// Whether a step works on what an earlier step opened: a copy, or a server whose entry that step was held against. Who makes
/// a copy asks the live server for its last WAL only where it is that very cluster.
fn works_on_a_handle(step: &PlannedStep) -> bool {
    step.uses == SIDE || step.with.get("instance").is_some_and(|instance| !instance.is_null())
}

async fn server(name: &str, step: &PlannedStep, hands: &Arc<LocalCapabilities>) -> Option<Findings> {
    // A host that cannot be had is told by the step's own check.
    let cx = hands.read(step, Timing::Ahead).ok()?;
    let held = contradictions(name, &cx.about.inventory, (cx.host.as_ref(), cx.about.secrets.as_ref())).await.ok()?;
    let findings = held.into_iter().fold(Findings::default(), |findings, fact| findings.refuse(fact.what, fact.help));
    let strangers = strangers(name, &cx.about.inventory, cx.host.read_files().as_ref()).ok()?;
    let findings = strangers.into_iter().fold(findings, |findings, fact| findings.warn(fact.what, fact.help));
    (!findings.0.is_empty()).then_some(findings)
}

/// Refuses a step that gives up the data of a server which runs now, and which no step before it stops.
async fn unstopped(plan: &BoundPlan, step: &PlannedStep, hands: &Arc<LocalCapabilities>) -> Option<Findings> {
    let destroys = |(access, target): &(Access, Target)| *access == Access::Destroy && named(target).is_some();
    if step.uses != STAGE || step.section == Section::Undo || !step.effects.targets.iter().any(destroys) {
        return None;
    }
    let name = databases(step).next()?;
    if before(plan, step).any(|earlier| may_stop(earlier, name)) {
        return None;
    }
    let cx = hands.read(step, Timing::Ahead).ok()?;
    let cluster = Cluster::of(&DatabaseRef(name.to_owned()), &cx.about.inventory, &cx.about.scratch).ok()?;
    let signs = live::signs(&cluster, cx.host.read_files().as_ref()).await.ok()?;
    let sign = signs.first()?;
    let fact = format!("the data of `{name}` is to be given up while its server is alive: {sign}");
    let help = format!("stop it in a step before (`{STOP}`), or leave `existing` out to keep the data");
    Some(Findings::default().refuse(fact, help))
}

/// A server is stopped by its own action; what a program does nobody knows.
fn may_stop(step: &PlannedStep, database: &str) -> bool {
    match step.uses.split_once('.') {
        Some(("postgres", _)) => step.uses == STOP && databases(step).any(|name| name == database),
        Some(("service", _)) | None => true,
        Some(_) => false,
    }
}

/// The steps that have ended when a step begins.
fn before<'a>(plan: &'a BoundPlan, step: &'a PlannedStep) -> impl Iterator<Item = &'a PlannedStep> {
    let mut ahead: Vec<&StepId> = step.needs.iter().map(|edge| &edge.from).collect();
    let mut known: BTreeSet<&StepId> = BTreeSet::new();
    while let Some(id) = ahead.pop() {
        if known.insert(id) {
            let needs = plan.step(id).into_iter().flat_map(|step| &step.needs);
            ahead.extend(needs.map(|edge| &edge.from));
        }
    }
    known.into_iter().filter_map(|id| plan.step(id))
}

fn databases(step: &PlannedStep) -> impl Iterator<Item = &str> {
    step.effects.targets.iter().filter_map(|(_, target)| named(target))
}

fn named(target: &Target) -> Option<&str> {
    match target {
        Target::Database { name } => Some(name),
        Target::Path { .. }
        | Target::Port { .. }
        | Target::Service { .. }
        | Target::Store { .. }
        | Target::Url { .. } => None,
    }
}

/// Stops (exit 4) when a check refuses; else gives the facts worth confirming. Commands that are advised are completed.
pub fn judge(checked: &[Preflight], again: &Again) -> Result<Vec<String>, Failure> {
    let say = |word: &str, step: &StepId, message: &str, help: Option<&str>| {
        say(word, step, message, help.map(|help| again.advice(help)).as_deref());
    };
    let mut facts = Vec::new();
    let mut refused = 0;
    for (step, result) in checked {
        match result {
            Ok(findings) => {
                for finding in &findings.0 {
                    match finding.verdict {
                        Verdict::Pass => facts.push(finding.message.clone()),
                        Verdict::Pending => {}
                        Verdict::Warn => say("warning", step, &finding.message, finding.help.as_deref()),
                        Verdict::Refuse => {
                            refused += 1;
                            say("refused", step, &finding.message, finding.help.as_deref());
                        }
                    }
                }
            }
            Err(error) => {
                refused += 1;
                say("refused", step, &told(error), error.info().help.as_deref());
            }
        }
    }
    match refused {
        0 => Ok(facts),
        _ => Err(Failure::new(Exit::Refused, "a check refused before the first step; nothing was changed")),
    }
}

fn say(word: &str, step: &StepId, message: &str, help: Option<&str>) {
    tell!("{word}: step `{step}`: {message}");
    if let Some(help) = help {
        tell!("  help: {help}");
    }
}
