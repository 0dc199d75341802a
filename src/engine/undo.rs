//! What is undone, and in which order: the last step that ended first, one at a time.
//!
//! Pure. A step that reverses another one is decided about once the body is settled; its retries, its recovery and
//! its end are those of any step.

use std::collections::BTreeSet;

use super::decide::{Decision, Picture};
use super::frontier::slot;
use crate::base::{EventSeq, StepId};
use crate::event::{Outcome, SeededEnd, SkipReason};
use crate::plan::{BoundPlan, PlannedStep, Section, UndoPolicy};
use crate::state::{RunState, StepEnd, StepState, objectives};

/// Tells whether a step ran or may have run, so that it may have to be reversed.
#[must_use]
pub fn may_have_run(step: &StepState) -> bool {
    match step.status.end() {
        Some(StepEnd::Succeeded) => true,
        Some(StepEnd::Failed | StepEnd::Unknown | StepEnd::Cancelled | StepEnd::Skipped) => {
            let seeded = step.seeded_end.is_some_and(|end| end != SeededEnd::Skipped);
            seeded || !step.attempts.is_empty()
        }
        None => false,
    }
}

/// Names the steps of the section `undo` that the plan and its body's ends ask for and that have not begun,
/// with the moment the step that each reverses ended.
#[must_use]
pub fn wanted<'a>(
    plan: &BoundPlan,
    state: &RunState,
    pending: impl Iterator<Item = &'a StepId>,
) -> Vec<(EventSeq, &'a StepId)> {
    let Some(reach) = Reach::of(plan, state) else { return Vec::new() };
    // The instances of a fan-out are reversed one by one, not the step that stands for them.
    let fan_outs: BTreeSet<&StepId> =
        plan.steps.iter().filter(|step| step.for_each.is_some()).map(|step| &step.id).collect();
    let ended = |undo: &StepId| {
        let of = undo.undone().filter(|of| !fan_outs.contains(of))?;
        let step = state.steps.get(&of).filter(|step| may_have_run(step))?;
        reach.covers(&of, step).then_some(step.ended_seq)
    };
    pending.filter_map(|undo| Some((ended(undo)?, undo))).collect()
}

/// How far back a run is undone.
enum Reach<'a> {
    Everything,
    /// A step with its members, and what ended after it.
    To(&'a StepId, EventSeq),
}

impl<'a> Reach<'a> {
    /// `None` when nothing is undone.
    fn of(plan: &'a BoundPlan, state: &RunState) -> Option<Self> {
        match &plan.undo {
            UndoPolicy::Never => None,
            UndoPolicy::OnFailure => match objectives::outcome(plan, state).0 {
                Outcome::Failed | Outcome::FailedUnknown => Some(Self::Everything),
                Outcome::Succeeded
                | Outcome::SucceededWithExceptions
                | Outcome::Cancelled
                | Outcome::ObjectiveMissed
                | Outcome::Inconclusive => None,
            },
            UndoPolicy::Now { to: None } => Some(Self::Everything),
            UndoPolicy::Now { to: Some(to) } => {
                let ended = state.steps.get(to).filter(|step| step.status.is_terminal())?;
                Some(Self::To(to, ended.ended_seq))
            }
        }
    }

    fn covers(&self, step: &StepId, known: &StepState) -> bool {
        match self {
            Self::Everything => true,
            // The members of a group end before it does.
            Self::To(to, since) => {
                let inside = step.as_str().strip_prefix(to.as_str());
                known.ended_seq >= *since || inside.is_some_and(|rest| rest.starts_with(['/', '[']))
            }
        }
    }
}

/// Tells whether a plan may come to make a step at all: the undo of a step that is never reversed needs nothing.
pub(super) fn may_be_made(plan: &BoundPlan, state: &RunState, step: &PlannedStep) -> bool {
    match (step.section, &plan.undo) {
        (Section::Body | Section::Finally, _) | (Section::Undo, UndoPolicy::OnFailure) => true,
        (Section::Undo, UndoPolicy::Never) => false,
        (Section::Undo, UndoPolicy::Now { .. }) => {
            let instances = step.id.undone().and_then(|of| state.steps.get(&of)).map_or(&[][..], |of| &of.instances);
            let ids: Vec<StepId> = instances.iter().map(|instance| instance.step.undo()).collect();
            let made = |id: &&StepId| !state.status(id).is_terminal();
            !wanted(plan, state, ids.iter().chain([&step.id]).filter(made)).is_empty()
        }
    }
}

impl Picture<'_> {
    /// Decides for the steps of the section `undo` that nothing happened to yet; the body is settled.
    pub(super) fn open_undo(&self, decisions: &mut Vec<Decision>, slots: usize) {
        if self.is_undoing() {
            return;
        }
        let pending = &self.frontier.pending[slot(Section::Undo)];
        let ids = pending.iter().map(|at| &self.index.step(*at).id);
        let mut wanted = wanted(self.index.plan(), self.state, ids.clone());
        wanted.sort_unstable();
        let skip = |step: &StepId, why| Decision::Skip { step: step.clone(), why };
        let known: BTreeSet<&StepId> = wanted.iter().map(|(_, id)| *id).collect();
        let idle = ids.filter(|id| !known.contains(id));
        decisions.extend(idle.map(|id| skip(id, SkipReason::NothingToUndo)));
        let over = match self.stopping(Section::Undo) {
            Some(_) => Some(SkipReason::Cancelled),
            None => self.frontier.undo_stopped.then_some(SkipReason::UndoStopped),
        };
        match (over, wanted.last()) {
            (Some(why), _) => decisions.extend(wanted.iter().map(|(_, id)| skip(id, why.clone()))),
            (None, Some((_, last))) if slots > 0 => {
                decisions.push(Decision::Resolve { step: (*last).clone() });
            }
            (None, Some(_) | None) => {}
        }
    }

    /// Whether a step is being reversed now.
    fn is_undoing(&self) -> bool {
        self.frontier.active.iter().any(|at| self.index.step(*at).section == Section::Undo)
    }
}
