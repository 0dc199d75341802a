//! `runbook show RUN`.

use std::sync::Arc;

use super::again::Again;
use super::onward::Onward;
use super::screen::{self, Face};
use super::{Exit, Failure, earlier, invoke, operate, wiring};
use crate::base::clock;
use crate::journal::{RunDir, RunSummary, follow};
use crate::plan::BoundPlan;
use crate::report::{json, summary};
use crate::state::RunState;

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook show last\n  runbook show last --follow       attach to a live run, from any terminal\n  runbook show last --json | jq .figures"
)]
pub struct Args {
    /// The run: its id, a unique beginning of it, or `last`
    run: String,
    /// Follow a live run to its end; ends with the run's own exit code
    #[arg(short, long)]
    follow: bool,
    /// Print JSON; with --follow, events as JSON lines
    #[arg(long)]
    json: bool,
}

/// Shows a run, or follows it live.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let runs = wiring::runs()?;
    let dir = wiring::find_run(&runs, &args.run)?;
    if args.follow {
        return attach(&dir, Face::from(args.json));
    }
    let (plan, _) = dir.plan().map_err(|error| wiring::journal_failure(&error))?;
    let history = dir.read().map_err(|error| wiring::journal_failure(&error))?;
    let state = invoke::fold(&history.events)?;
    if args.json {
        let text = json::render(&plan, &state).map_err(|error| Failure::new(Exit::Bug, error.to_string()))?;
        super::document::write(&text, None)?;
        return Ok(Exit::Success);
    }
    let kept = operate::kept(&dir, &state)?;
    let is_live = state.finished.is_none() && dir.is_live().map_err(wiring::runs_failure)?;
    let status = RunSummary::of(&dir).status;
    let drive = match state.finished {
        Some(_) => summary::Drive::Engine,
        None if is_live => summary::Drive::Engine,
        None => drive(&Onward::of(&runs, &dir, (&plan, &state, &status))?),
    };
    let answered = kept.iter().filter_map(operate::step_of).collect();
    let places = summary::Places { drive, kept: answered, ..places(&dir, &plan) };
    out_part!("{}", summary::render(&plan, &state, &places, screen::out_palette()));
    if !kept.is_empty() {
        out!("\nkept, and not taken yet: `runbook resume {}` takes it", dir.id());
        kept.iter().for_each(|verb| out!("  {}", operate::in_words(verb)));
    }
    for undoing in earlier::undoings(&runs, dir.id())? {
        out!("\n{}", undone_by(&undoing));
    }
    if is_live {
        out!("\nit is running; `runbook show {} --follow` attaches", dir.id());
    }
    Ok(Exit::Success)
}

/// Who drives a run that has not ended.
fn drive(onward: &Onward) -> summary::Drive {
    match onward {
        Onward::Follow => summary::Drive::Engine,
        Onward::Answer | Onward::Resume => summary::Drive::Nobody,
        Onward::Kept => summary::Drive::Kept,
        Onward::End => summary::Drive::Ending,
        Onward::Overtaken { .. } => summary::Drive::Overtaken,
    }
}

/// Says what a later run has undone of this one.
fn undone_by(undoing: &RunDir) -> String {
    let summary = RunSummary::of(undoing);
    let back_to = summary.origin.and_then(|origin| origin.step).map(|step| format!(" back to `{step}`"));
    format!("undone{} by run {}: {}", back_to.unwrap_or_default(), undoing.id(), super::runs::status(&summary.status))
}

fn places(dir: &RunDir, plan: &BoundPlan) -> summary::Places {
    let report = Some(dir.report()).filter(|path| path.is_file());
    let inventories = Some(Again::inventories(plan));
    summary::Places { run_dir: Some(dir.path().to_owned()), report, inventories, ..summary::Places::default() }
}

/// Shows every event of a run as it becomes durable.
fn attach(dir: &RunDir, face: Face) -> Result<Exit, Failure> {
    let (plan, _) = dir.plan().map_err(|error| wiring::journal_failure(&error))?;
    let plan = Arc::new(plan);
    let mut state = RunState::default();
    let mut sinks = screen::sinks(face, &plan, RunState::default());
    let mut following = follow(dir.path()).map_err(|error| wiring::journal_failure(&error))?;
    let seen = wiring::block_on(async {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(250));
        loop {
            let next = tokio::select! {
                next = following.next() => next.map_err(|error| wiring::journal_failure(&error))?,
                _ = ticks.tick() => {
                    sinks.iter_mut().for_each(|sink| sink.tick(clock::now()));
                    continue;
                }
            };
            let Some(events) = next else { return Ok::<_, Failure>(()) };
            for event in events {
                state.apply(&event).map_err(|illegal| {
                    Failure::new(Exit::Journal, format!("event {} of the journal makes no sense", event.seq))
                        .because(&illegal)
                })?;
                sinks.retain_mut(|sink| sink.event(&event).is_ok());
            }
        }
    })?;
    sinks.iter_mut().for_each(|sink| sink.close());
    seen?;
    if face == Face::People {
        tell!("\n{}", summary::render(&plan, &state, &places(dir, &plan), screen::palette()));
    }
    match &state.finished {
        Some((_, code, _)) => Ok(invoke::exit_of(*code)),
        None if !state.suspended.is_empty() => Ok(Exit::Suspended),
        None => Err(Failure::new(Exit::Failed, "the engine is gone and the run is not finished")
            .help(format!("go on with `runbook resume {}`", dir.id()))),
    }
}
