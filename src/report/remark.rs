//! Exceptions with who caused them, and why.

use super::phrase::{exception, one_line};
use crate::base::StepId;
use crate::event::{ExceptionKind, OperatorVerb, Outcome};
use crate::state::objectives::{DamagedCopy, LackingStore, damaged, lacking};
use crate::state::{RunState, StepState};

/// Something that makes a run less than a plain success.
pub(super) struct Remark {
    /// The step.
    pub(super) step: StepId,
    /// What.
    pub(super) kind: ExceptionKind,
    /// Who, where a person did it.
    pub(super) by: Option<String>,
    /// Why, in that person's words.
    pub(super) reason: Option<String>,
}

impl Remark {
    /// Says it after the name of the step: `left out by a person (dora: the mirror is down)`.
    pub(super) fn words(&self) -> String {
        let words = exception(self.kind);
        let reason = self.reason.as_deref().map(one_line).filter(|reason| !reason.is_empty());
        match (self.by.as_deref().map(one_line), reason) {
            (Some(by), Some(reason)) => format!("{words} ({by}: {reason})"),
            (Some(by), None) => format!("{words} ({by})"),
            (None, Some(reason)) => format!("{words} ({reason})"),
            (None, None) => words.to_owned(),
        }
    }
}

/// Gives the exceptions of a run that ended, whatever its outcome.
pub(super) fn remarks(state: &RunState) -> Vec<Remark> {
    let Some((_, _, figures)) = &state.finished else { return Vec::new() };
    figures.exceptions.iter().map(|(step, kind)| remark(state, step, *kind)).collect()
}

/// Gives those of them that are worth telling: all of a success, and what people did in any case.
pub(super) fn told(state: &RunState) -> Vec<Remark> {
    let of_success = matches!(
        state.finished.as_ref().map(|(outcome, _, _)| *outcome),
        Some(Outcome::SucceededWithExceptions | Outcome::ObjectiveMissed | Outcome::Inconclusive)
    );
    let by_people = |kind: ExceptionKind| match kind {
        ExceptionKind::MarkedDone
        | ExceptionKind::LeftOut
        | ExceptionKind::BrokeGlass
        | ExceptionKind::Unapproved
        | ExceptionKind::LeftBehind
        | ExceptionKind::DamagedCopy
        | ExceptionKind::LackingCopy => true,
        ExceptionKind::Skipped | ExceptionKind::Tolerated | ExceptionKind::Finally => false,
    };
    remarks(state).into_iter().filter(|remark| of_success || by_people(remark.kind)).collect()
}

/// Names the copies that a step found damaged.
fn copies(known: &StepState) -> String {
    let words: Vec<String> = damaged(known).iter().map(DamagedCopy::words).collect();
    words.join("; ")
}

/// Names the stores that a step did not reach.
fn unreached(known: &StepState) -> String {
    let words: Vec<String> = lacking(known).iter().map(LackingStore::words).collect();
    words.join("; ")
}

fn remark(state: &RunState, step: &StepId, kind: ExceptionKind) -> Remark {
    let acted = |wanted: fn(&OperatorVerb) -> bool| {
        let acts = state.acts.operators.iter().rev();
        let mut of_step = acts.filter(|act| act.refused.is_none() && act.step.as_ref() == Some(step));
        of_step.find(|act| wanted(&act.verb)).map(|act| (act.actor.name.clone(), act.reason.clone()))
    };
    let known = state.steps.get(step);
    let glass = || {
        let answers = known?.answers.iter();
        answers.rev().find_map(|(_, answer)| Some((answer.by.name.clone(), answer.break_glass.clone()?)))
    };
    let error = || Some(known?.error.as_ref()?.message.clone());
    let (by, reason) = match kind {
        ExceptionKind::MarkedDone => acted(|verb| matches!(verb, OperatorVerb::MarkDone { .. })).unzip(),
        ExceptionKind::LeftOut => acted(|verb| matches!(verb, OperatorVerb::Skip)).unzip(),
        ExceptionKind::BrokeGlass => glass().unzip(),
        ExceptionKind::Tolerated | ExceptionKind::Finally => (None, error()),
        ExceptionKind::DamagedCopy => (None, known.map(copies)),
        ExceptionKind::LackingCopy => (None, known.map(unreached)),
        ExceptionKind::Skipped | ExceptionKind::Unapproved | ExceptionKind::LeftBehind => (None, None),
    };
    Remark { step: step.clone(), kind, by, reason }
}
