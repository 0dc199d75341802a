//! `runbook diff`: two runs, two plans, or one of each.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::screen::{self, paint};
use super::{Exit, Failure, frozen, invoke, wiring};
use crate::base::StepId;
use crate::base::units::human_duration;
use crate::plan::{BoundPlan, Change, Comparison, ValueChange, compare, leaves};
use crate::report::{Tone, difference};
use crate::state::{RunState, StepState, StepStatus};

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook diff 20260128-143002-3fa9c1 last\n  runbook diff approved.plan last        what was approved, and what ran\n  runbook diff A B --json | jq '.steps[] | select(.ratio > 2) | .id'\n\nDefinition (text by text), inputs, versions, and step by step: new, gone, changed, how it ended, how long it took, which outputs differ. Code 0, whether anything differs or not."
)]
pub struct Args {
    /// A run (its id, a unique beginning of it, or `last`) or a plan file
    old: String,
    /// The other one
    new: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One of the two.
struct Side {
    name: String,
    version: String,
    plan: BoundPlan,
    /// `None` for a plan that was not carried out.
    state: Option<RunState>,
}

/// One step on both sides.
#[derive(Serialize)]
struct StepDifference {
    id: StepId,
    change: Option<Change>,
    parts: Vec<ValueChange>,
    status: [Option<StepStatus>; 2],
    elapsed_ms: [Option<u64>; 2],
    /// The second duration divided by the first.
    ratio: Option<f64>,
    outputs: Vec<ValueChange>,
}

/// Compares two runs or plans.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let (old, new) = (side(&args.old)?, side(&args.new)?);
    let comparison = compare(&old.plan, &new.plan);
    let steps = steps(&comparison, &old, &new);
    if args.json {
        let document = json!({
            "old": told(&old),
            "new": told(&new),
            "files": comparison.files,
            "inputs": comparison.inputs,
            "steps": steps,
        });
        out!("{document:#}");
    } else {
        print(&comparison, &steps, (&old, &new));
    }
    Ok(Exit::Success)
}

fn side(name: &str) -> Result<Side, Failure> {
    if let Some(file) = frozen::read(name)? {
        return Ok(Side { name: name.to_owned(), version: file.program, plan: file.plan, state: None });
    }
    let runs = wiring::existing_runs()?;
    let runs = runs.ok_or_else(|| Failure::new(Exit::Usage, format!("there is no run `{name}`, and no plan file")))?;
    let dir = wiring::find_run(&runs, name)?;
    let (plan, _) = dir.plan().map_err(|error| wiring::journal_failure(&error))?;
    let history = dir.read().map_err(|error| wiring::journal_failure(&error))?;
    let state = invoke::fold(&history.events)?;
    let version = state.header.as_ref().map(|header| header.version.clone()).unwrap_or_default();
    Ok(Side { name: dir.id().to_string(), version, plan, state: Some(state) })
}

fn told(side: &Side) -> Value {
    let finished = side.state.as_ref().and_then(|state| state.finished.as_ref());
    json!({
        "name": side.name,
        "version": side.version,
        "runbook": side.plan.name,
        "mode": side.plan.mode,
        "environment": side.plan.environment,
        "actor": side.plan.actor,
        "at": side.plan.started_at,
        "outcome": finished.map(|(outcome, ..)| outcome),
        "exit_code": finished.map(|(_, code, _)| code),
        "elapsed_ms": elapsed(side),
    })
}

fn elapsed(side: &Side) -> Option<u64> {
    let state = side.state.as_ref()?;
    let span = crate::base::clock::between(state.started_at?, state.last_at?);
    u64::try_from(span.as_millis()).ok()
}

/// Steps of which anything is known to differ, or that took time on both sides.
fn steps(comparison: &Comparison, old: &Side, new: &Side) -> Vec<StepDifference> {
    let mut ids: Vec<&StepId> = new.plan.steps.iter().map(|step| &step.id).collect();
    ids.extend(old.plan.steps.iter().map(|step| &step.id).filter(|id| new.plan.step(id).is_none()));
    let mut instances = members(old, &ids);
    instances.extend(members(new, &ids).into_iter().filter(|id| !members(old, &ids).contains(id)));
    let all = ids.into_iter().cloned().chain(instances);
    all.map(|id| difference_of(id, comparison, (old, new))).collect()
}

/// Steps that stand in no plan: the instances of a `for_each`.
fn members(side: &Side, planned: &[&StepId]) -> Vec<StepId> {
    let known = side.state.iter().flat_map(|state| state.steps.keys());
    known.filter(|id| !planned.contains(id)).cloned().collect()
}

fn difference_of(id: StepId, comparison: &Comparison, sides: (&Side, &Side)) -> StepDifference {
    let state = |side: &Side| -> Option<StepState> { side.state.as_ref()?.steps.get(&id).cloned() };
    let (old, new) = (state(sides.0), state(sides.1));
    let took = [took(old.as_ref()), took(new.as_ref())];
    let mut outputs = Vec::new();
    if let (Some(old), Some(new)) = (&old, &new)
        && let (Some(old), Some(new)) = (&old.output, &new.output)
    {
        leaves("", old, new, &mut outputs);
    }
    let change = comparison.steps.iter().find(|change| change.id == id);
    StepDifference {
        change: change.map(|change| change.change),
        parts: change.map(|change| change.parts.clone()).unwrap_or_default(),
        status: [old.map(|state| state.status), new.map(|state| state.status)],
        ratio: ratio(took),
        elapsed_ms: took,
        outputs,
        id,
    }
}

/// The time of all attempts.
fn took(state: Option<&StepState>) -> Option<u64> {
    let attempts = &state?.attempts;
    let known: Vec<u64> = attempts.iter().filter_map(|attempt| attempt.elapsed_ms).collect();
    (!known.is_empty()).then(|| known.iter().sum())
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(took: [Option<u64>; 2]) -> Option<f64> {
    match took {
        [Some(old), Some(new)] if old > 0 => Some((new as f64 / old as f64 * 100.0).round() / 100.0),
        [Some(_) | None, Some(_) | None] => None,
    }
}

fn print(comparison: &Comparison, steps: &[StepDifference], (old, new): (&Side, &Side)) {
    for (sign, side) in [("-", old), ("+", new)] {
        let ended = side.state.as_ref().map_or("a plan".to_owned(), |state| match &state.finished {
            Some((outcome, code, _)) => format!("{} (code {code})", word(outcome)),
            None => "not finished".to_owned(),
        });
        let took =
            elapsed(side).map(|ms| format!(", {}", human_duration(Duration::from_millis(ms)))).unwrap_or_default();
        let (plan, version) = (&side.plan, &side.version);
        out!(
            "{sign} {}  {} in {}, by {} with version {version}: {ended}{took}",
            side.name,
            plan.name,
            plan.environment,
            plan.actor.name
        );
    }
    for file in &comparison.files {
        out!("\n--- {}\n+++ {}", file.name, file.name);
        out!("{}", difference::painted(&file.diff, screen::out_palette()));
    }
    let inputs = Comparison { inputs: comparison.inputs.clone(), ..Comparison::default() };
    let lines = difference::lines(&inputs);
    if !lines.is_empty() {
        out!("\ninputs");
        lines.iter().for_each(|line| out!("  {line}"));
    }
    out!("\nsteps");
    steps.iter().for_each(print_step);
    if comparison.is_empty() {
        tell!("definition and inputs are the same");
    }
}

fn print_step(step: &StepDifference) {
    let status = |at: usize| step.status[at].map_or("-".to_owned(), |status| word(&status));
    let took = |at: usize| step.elapsed_ms[at].map_or("-".to_owned(), |ms| human_duration(Duration::from_millis(ms)));
    let how = if status(0) == status(1) { status(0) } else { format!("{} → {}", status(0), status(1)) };
    let ratio = step.ratio.map(|ratio| format!(" (× {ratio})")).unwrap_or_default();
    let tone = if step.status[0] == step.status[1] { Tone::Quiet } else { Tone::Warn };
    out!("  {:24}  {}  {} → {}{ratio}", step.id.as_str(), paint(tone, &how), took(0), took(1));
    match step.change {
        Some(Change::New) => out!("    is new"),
        Some(Change::Gone) => out!("    is gone"),
        Some(Change::Changed) | None => {}
    }
    for (what, changes) in [("", &step.parts), ("output ", &step.outputs)] {
        for change in changes {
            out!("    {what}`{}` {}", change.path, difference::change(change));
        }
    }
}

/// A name as the journal writes it, in words.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().replace('_', " ")
}
