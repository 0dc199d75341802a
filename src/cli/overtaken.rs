//! Ends a run that a newer one has overtaken: it is not gone on with, and nothing of it is undone, since what it would put
//! back lies below what the newer one did.

use super::invoke::{Invocation, fold};
use super::{Exit, Failure, superseded, wiring};
use crate::base::{Attempt, RunId, StepId, clock};
use crate::engine::{Ending, Left};
use crate::event::{Actor, CancelLevel, EventKind, Outcome, SkipReason};
use crate::journal::RunDir;
use crate::plan::BoundPlan;
use crate::port::Journal as _;
use crate::state::{RunState, StepStatus, objectives};

impl Invocation {
    /// Ends an overtaken run that no engine drives: its journal says who ended it and which run overtook it. No step of it
    /// runs any more, `finally` and undo included. `None` where no newer run has worked on the same database.
    ///
    /// # Errors
    /// Fails when the run is live (exit 14), when it has ended (exit 2), and when the journal fails (exit 15).
    pub fn end_overtaken(
        &self,
        dir: RunDir,
        (actor, level, reason): (Actor, CancelLevel, &str),
    ) -> Result<Option<RunId>, Failure> {
        let broken = |error| wiring::journal_failure(&error);
        let (plan, _) = dir.plan().map_err(broken)?;
        let Some(by) = superseded::overtaken_by(&self.runs, &dir, &plan)? else { return Ok(None) };
        let lock = dir.lock().map_err(wiring::runs_failure)?;
        let mut opened = dir.resume_journal(&lock).map_err(broken)?;
        let mut state = fold(&opened.events)?;
        if state.finished.is_some() {
            return Err(Failure::new(Exit::Usage, format!("run `{}` has ended", dir.id())));
        }
        let because = match reason {
            "" => format!("overtaken by run `{by}`: nothing of it was gone on with or undone"),
            reason => format!("{reason} (overtaken by run `{by}`: nothing of it was gone on with or undone)"),
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let mut kinds = vec![
            EventKind::RunResumed { actor: actor.clone(), pid: std::process::id(), version },
            EventKind::CancelRequested { actor, level, reason: because },
        ];
        kinds.extend(ends(&plan, &state));
        let mut write = |state: &mut RunState, kinds| {
            let events = opened.journal.append(clock::now(), kinds).map_err(broken)?;
            let applied = events.iter().try_for_each(|event| state.apply(event));
            applied.map_err(|error| Failure::new(Exit::Journal, "the run cannot be ended as it stands").because(&error))
        };
        write(&mut state, kinds)?;
        let mut figures = Box::new(objectives::figures(&plan, &state, clock::now()));
        figures.exceptions.extend(objectives::left_behind(&state));
        let (outcome, exit_code) = (Outcome::Cancelled, Exit::Cancelled as u8);
        write(&mut state, vec![EventKind::RunFinished { outcome, exit_code, figures }])?;
        opened.journal.sync().map_err(broken)?;
        let ending = Ending { state, exit_code, how: Left::Finished };
        self.conclude(&dir, &plan, &ending)?;
        drop(lock);
        Ok(Some(by))
    }
}

/// The end of each step that has none. Of an attempt that was running nobody knows whether its processes are gone.
fn ends(plan: &BoundPlan, state: &RunState) -> Vec<EventKind> {
    let began = state.steps.keys();
    let never = plan.steps.iter().map(|step| &step.id).filter(|id| !state.steps.contains_key(*id));
    began.chain(never).filter_map(|step| end(step, state)).collect()
}

fn end(step: &StepId, state: &RunState) -> Option<EventKind> {
    let step = step.clone();
    let last = state.steps.get(&step).and_then(|known| known.attempts.last());
    let attempt = last.map_or(Attempt(0), |last| last.number);
    match state.status(&step) {
        StepStatus::Pending => Some(EventKind::StepSkipped { step, why: SkipReason::Cancelled }),
        StepStatus::Running => Some(EventKind::StepCancelled { step, attempt, confirmed: false }),
        StepStatus::Resolved
        | StepStatus::Checked
        | StepStatus::Waiting
        | StepStatus::Open
        | StepStatus::Asking
        | StepStatus::Held => Some(EventKind::StepCancelled { step, attempt, confirmed: true }),
        StepStatus::Succeeded
        | StepStatus::Failed
        | StepStatus::Skipped
        | StepStatus::Cancelled
        | StepStatus::Unknown => None,
    }
}
