//! `runbook undo RUN`: a new run that reverses what an earlier one did.

use super::again::Again;
use super::earlier::{self, Earlier};
use super::invoke::Invocation;
use super::screen::Face;
use super::{Exit, Failure, superseded, undone, wiring};
use crate::action::Mode;
use crate::base::{RunId, StepId, clock};
use crate::engine::{foresee, wanted_undos};
use crate::event::{EventKind, OriginPurpose, RunOrigin};
use crate::journal::{RunDir, RunStatus, RunSummary};
use crate::plan::{BoundPlan, Section, UndoPolicy};

/// Arguments of `undo`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook undo last                                  reverse everything it did, last first\n  runbook undo last --to stop_apps --confirm production\n\nIt is a run of its own, with its own journal: nothing is written into the old one. What was undone before is\nnot undone again; when an undo fails, those before it are left, and `runbook undo` once more goes on with them.\nA recovery has no undo: where one came to its end, that is said, with where the data from before lies, and the code is 5."
)]
pub struct Args {
    /// The run to reverse: its id, a unique beginning of it, or `last`
    run: String,
    /// Reverse only this step and what ended after it
    #[arg(long, value_name = "STEP")]
    to: Option<String>,
    /// Go on although the plan of this later run cannot be read and it may have replaced the same data; repeatable
    #[arg(long, value_name = "RUN", requires = "reason")]
    despite: Vec<String>,
    /// Why; kept in the journal
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Confirms it in a protected environment: its name
    #[arg(long, value_name = "ENVIRONMENT")]
    confirm: Option<String>,
    /// Write events and progress as JSON lines to standard output
    #[arg(long)]
    json: bool,
}

/// Reverses what an earlier run did.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let invocation = Invocation::new(Face::from(args.json), args.confirm.clone())?;
    let earlier = Earlier::read(wiring::find_run(&invocation.runs, &args.run)?)?;
    demand_undoable(&earlier)?;
    let despite = despite(&args, &invocation)?;
    let passed = superseded::refuse_undo(&invocation.runs, (&earlier.dir, &earlier.plan), &despite)?;
    let undoings = earlier::undoings(&invocation.runs, earlier.dir.id())?;
    let to = args.to.as_deref().map(|name| target(&earlier, name)).transpose()?;
    demand_ended(&earlier, &undoings)?;
    let plan = plan(&earlier, &invocation, (to, reason(args.reason, &passed)));
    let seeds = earlier::to_undo(&earlier, undoings.clone())?;
    demand_something(&plan, &seeds, (&earlier, &undoings))?;
    let carried = invocation.seeded(plan, seeds)?;
    invocation.summary(&carried);
    let lasting = undone::replaced_for_good(&earlier.plan, &earlier.state);
    lasting.iter().for_each(|one| one.tell(&Again::of_plan(&earlier.plan)));
    Ok(match carried.exit() {
        // All of its undos went well, and what matters most has none.
        Exit::Success if !lasting.is_empty() => Exit::Exceptions,
        other => other,
    })
}

/// The runs that are not to be in the way, with a reason.
fn despite(args: &Args, invocation: &Invocation) -> Result<Vec<RunId>, Failure> {
    if !args.despite.is_empty() && args.reason.trim().is_empty() {
        return Err(Failure::new(Exit::Usage, "`--despite` wants a reason").help("add `--reason TEXT`"));
    }
    let find = |text: &String| wiring::find_run(&invocation.runs, text).map(|dir| dir.id().clone());
    args.despite.iter().map(find).collect()
}

/// The reason as the journal keeps it, with the runs that were passed over.
fn reason(given: String, passed: &[RunId]) -> String {
    if passed.is_empty() {
        return given;
    }
    let runs: Vec<String> = passed.iter().map(|run| format!("`{run}`")).collect();
    format!("{given} (despite run {}, whose plan could not be read)", runs.join(", "))
}

/// Refuses (exit 4) a run that cannot be reversed as a whole.
fn demand_undoable(earlier: &Earlier) -> Result<(), Failure> {
    let run = earlier.dir.id();
    if earlier.plan.mode != Mode::Real {
        let message = format!("run `{run}` was a {}, and only a real run is undone", earlier.plan.mode.as_str());
        return Err(Failure::new(Exit::Refused, message).help("what a drill creates it removes itself"));
    }
    match &earlier.plan.origin {
        Some(RunOrigin { run: of, purpose: OriginPurpose::Undo, .. }) => {
            let message = format!("run `{run}` itself undoes run `{of}`; nothing was changed");
            Err(Failure::new(Exit::Refused, message).help("to do again what was undone, start a new run"))
        }
        Some(RunOrigin { run: of, purpose: OriginPurpose::Reap, .. }) => {
            let message = format!("run `{run}` removed what run `{of}` had left behind; nothing was changed");
            Err(Failure::new(Exit::Refused, message).help("what a lease stood for cannot be brought back by an undo"))
        }
        Some(RunOrigin { purpose: OriginPurpose::Seed, .. }) | None => earlier.demand_finished(),
    }
}

/// Refuses (exit 4) while another run that undoes the same one has not ended.
fn demand_ended(earlier: &Earlier, undoings: &[RunDir]) -> Result<(), Failure> {
    for dir in undoings {
        if let RunStatus::Finished { .. } = RunSummary::of(dir).status {
            continue;
        }
        let message = format!("run `{}` undoes run `{}` and has not ended", dir.id(), earlier.dir.id());
        let help = format!("`runbook resume {}` goes on with it; nothing was changed", dir.id());
        return Err(Failure::new(Exit::Refused, message).help(help));
    }
    Ok(())
}

/// The step to go back to, which must have ended.
fn target(earlier: &Earlier, name: &str) -> Result<StepId, Failure> {
    let step: StepId = name.parse().map_err(|error: crate::base::id::ParseIdError| {
        Failure::new(Exit::Usage, error.to_string()).help("`runbook show RUN` names the steps")
    })?;
    let run = earlier.dir.id();
    if earlier.planned(&step).is_none_or(|planned| planned.section != Section::Body) {
        return Err(Failure::new(Exit::Usage, format!("run `{run}` has no step `{name}`"))
            .help(format!("`runbook show {run}` names its steps")));
    }
    Ok(step)
}

/// The old run's plan as one that undoes it.
fn plan(earlier: &Earlier, invocation: &Invocation, (to, reason): (Option<StepId>, String)) -> BoundPlan {
    let now = clock::now();
    let run = RunId::generate(now);
    let mut plan = earlier.plan.clone();
    plan.origin = Some(RunOrigin {
        run: earlier.dir.id().clone(),
        purpose: OriginPurpose::Undo,
        started_at: Some(plan.started_at),
        step: to.clone(),
        reason,
    });
    plan.scratch = invocation.runs.root().join("scratch").join(run.as_str());
    plan.steps.retain(|step| step.section != Section::Finally);
    // Two of them at the same time would reverse everything twice.
    plan.locks.push(format!("undo:{}", earlier.dir.id()));
    plan.undo = UndoPolicy::Now { to };
    (plan.run, plan.started_at, plan.actor, plan.incident_at) = (run, now, wiring::actor(), None);
    plan
}

/// Refuses (exit 4) when nothing is left to reverse, and names the run that did it.
fn demand_something(
    plan: &BoundPlan,
    seeds: &[EventKind],
    (earlier, undoings): (&Earlier, &[RunDir]),
) -> Result<(), Failure> {
    let foreseen = foresee(plan, &super::invoke::header(plan, crate::base::Digest::default()), seeds)
        .map_err(|error| Failure::new(Exit::Journal, "the run cannot be undone as it stands").because(&error))?;
    if plan.steps.iter().any(|step| step.section == Section::Undo && foreseen.may_make(plan, step)) {
        return Ok(());
    }
    let run = earlier.dir.id();
    let any = plan.steps.iter().map(|step| &step.id).filter(|id| id.undone().is_some());
    let done_by = undoings.last().map(|dir| dir.id().clone());
    Err(match (done_by, wanted_undos(plan, &foreseen.state, any).is_empty()) {
        (Some(by), false) => {
            Failure::new(Exit::Refused, format!("run `{run}` was undone by run `{by}`; nothing was changed"))
                .help(format!("`runbook show {by}` shows what it did"))
        }
        (None, false) => Failure::new(Exit::Refused, format!("run `{run}` undid itself; nothing was changed"))
            .help(format!("`runbook show {run}` shows it")),
        (_, true) => Failure::new(Exit::Refused, format!("run `{run}` did nothing that could be undone"))
            .help("a step is undone by its `undo`, once it ran; nothing was changed"),
    })
}
