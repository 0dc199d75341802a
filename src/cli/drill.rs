//! `runbook drill`: the same steps in the `drill` environment, refused when they could touch what is protected.

use std::collections::BTreeSet;

use super::args::{self, Subject};
use super::identity::ThisMachine;
use super::invoke::Invocation;
use super::prepare::{self, Prepared, RunIdentity};
use super::screen::Face;
use super::{Exit, Failure, given};
use crate::action::Mode;
use crate::language::inventory::DRILL;
use crate::plan::guard::{self, Refusal};
use crate::plan::{BoundPlan, Section, UndoPolicy};

/// Arguments of `drill`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook drill full-db-loss -p database=orders\n  runbook drill full-db-loss -p database=orders --json | jq -c .kind\n\nThe targets of every step are computed under `environments.drill` and under every protected environment; a step that would write to something protected is refused before the first step (code 4); so is a drill in which no step takes part.\nWhat the drill creates is removed at its end, also by `runbook resume` after a crash. \nCode 16: the objective was missed, or nothing measured it."
)]
pub struct Args {
    #[command(flatten)]
    subject: Subject,
    /// When a step fails, undo what was done, last first, before `finally`
    #[arg(long)]
    undo_on_failure: bool,
    /// Write events and progress as JSON lines to standard output
    #[arg(long)]
    json: bool,
}

/// Carries a runbook out as a drill.
pub fn run(args: Args) -> Result<Exit, Failure> {
    if args.subject.environment.as_deref().is_some_and(|name| name != DRILL) {
        return Err(Failure::new(Exit::Usage, "a drill always takes the environment `drill`").help("leave out `-e`"));
    }
    let prepared = prepare::load_runbook(&args.subject.runbook, &args.subject.inventory)?;
    prepared.demand_sound()?;
    let invocation = Invocation::new(Face::from(args.json), None)?;
    let identity = RunIdentity::new(Mode::Drill, invocation.runs.root(), args::params(&args.subject)?);
    let mut plan = prepared.bind(&args.subject, &identity)?;
    if args.undo_on_failure {
        plan.undo = UndoPolicy::OnFailure;
    }
    given::tell(&prepared, &plan);
    demand_something(&plan)?;
    demand_harmless(&prepared, &args.subject, &identity, &plan)?;
    let carried = invocation.fresh(plan)?;
    invocation.summary(&carried);
    Ok(carried.exit())
}

/// Refuses (exit 4) a drill of nothing: it would count as one and prove nothing.
fn demand_something(plan: &BoundPlan) -> Result<(), Failure> {
    if plan.section(Section::Body).next().is_some() {
        return Ok(());
    }
    let fact = format!("no step of `{}` takes part in a drill: it would prove nothing; nothing was done", plan.name);
    Err(Failure::new(Exit::Refused, fact)
        .help("its steps are for real runs (`modes: [real]`); `runbook dry-run` checks those"))
}

/// Refuses (exit 4) a drill that could write to what is protected.
pub fn demand_harmless(
    prepared: &Prepared,
    subject: &Subject,
    identity: &RunIdentity,
    plan: &BoundPlan,
) -> Result<(), Failure> {
    let refusals = judge(prepared, subject, identity, plan)?;
    if refusals.is_empty() {
        return Ok(());
    }
    for refusal in &refusals {
        tell!("refused: step `{}`: {}\n  help: {}", refusal.step, refusal.message, refusal.help);
    }
    Err(Failure::new(Exit::Refused, "the drill could touch what it must not; nothing was changed"))
}

/// Holds the drill's targets against those of every protected environment.
fn judge(
    prepared: &Prepared,
    subject: &Subject,
    identity: &RunIdentity,
    plan: &BoundPlan,
) -> Result<Vec<Refusal>, Failure> {
    let mut protected = Vec::new();
    for (name, environment) in &prepared.inventory.environments {
        if environment.protected {
            let real = RunIdentity { mode: Mode::DryRun, ..identity.clone() };
            protected.push((name.clone(), prepared.bind_in(subject, &real, name.clone())?));
        }
    }
    let mut named = BTreeSet::new();
    if let Some(drill) = prepared.inventory.environments.get(DRILL) {
        named.extend(drill.databases.keys().map(|name| format!("database:{name}")));
        named.extend(drill.services.keys().map(|name| format!("service:{name}")));
        named.extend(drill.stores.keys().map(|name| format!("store:{name}")));
    }
    Ok(guard::drill(plan, &named, &protected, &ThisMachine::default()))
}
