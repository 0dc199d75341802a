//! Steps that people make: what is asked, what answers come to, what follows when there are none.

use serde_json::{Map, Value, json};

use super::decide::{Decision, Picture};
use super::drive::Driver;
use super::resolve::failed_arguments;
use super::settle::arguments;
use super::start::{EngineError, Presence};
use crate::action::{ActionError, ApprovalArgs, ApprovalOutput, ManualArgs, ManualOutput};
use crate::base::clock::between;
use crate::base::units::Span;
use crate::base::{Attempt, StepId, Timestamp};
use crate::event::{
    ErrorClass, ErrorInfo, EventKind, HumanAnswer, HumanVerdict, OnTimeout, Question, QuestionKind, SuspendReason,
};
use crate::language::runbook::OnFailure;
use crate::plan::{BoundPlan, PlannedStep, StepKind};
use crate::state::{StepState, StepStatus};

/// What the answers so far come to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict<'a> {
    /// More answers are needed.
    Open,
    /// Enough people said yes.
    Yes,
    /// Somebody said no.
    No(&'a HumanAnswer),
    /// Nobody answered in time, and that settles it.
    Late(OnTimeout),
}

/// Judges the answers to a question.
pub(super) fn verdict(state: &StepState) -> Verdict<'_> {
    let Some(question) = &state.question else { return Verdict::Open };
    let answers = || state.answers.iter().map(|(_, answer)| answer);
    if let Some(no) = answers().find(|answer| answer.verdict == HumanVerdict::No) {
        return Verdict::No(no);
    }
    let enough = answers().count() >= usize::try_from(question.quorum).unwrap_or(usize::MAX);
    if enough || answers().any(|answer| answer.break_glass.is_some()) {
        return Verdict::Yes;
    }
    match question.on_timeout {
        OnTimeout::Abort | OnTimeout::Continue if state.expired => Verdict::Late(question.on_timeout),
        OnTimeout::Abort | OnTimeout::Continue | OnTimeout::Pause => Verdict::Open,
    }
}

/// Decides for a step that asks.
pub(super) fn next(step: &PlannedStep, state: &StepState, now: Timestamp) -> Option<Decision> {
    let step = step.id.clone();
    if verdict(state) != Verdict::Open {
        return Some(Decision::Conclude { step });
    }
    let until = state.question.as_ref().and_then(|question| question.until).filter(|_| !state.expired)?;
    Some(if until > now { Decision::Wait { step, until } } else { Decision::Expire { step } })
}

/// Each step that only a person can bring on, with what to type.
pub(super) fn waiting(picture: &Picture<'_>) -> Vec<SuspendReason> {
    let plan = picture.index.plan();
    let mut waiting: Vec<SuspendReason> = picture
        .active()
        .filter_map(|(_, step, state)| {
            let question = asked(plan, step, state)?;
            Some(SuspendReason { step: step.id.clone(), question })
        })
        .collect();
    if picture.state.paused.is_some() && waiting.is_empty() {
        let mut steps = picture.index.positions().map(|at| picture.index.step(at));
        let open = steps.find(|step| !picture.state.status(&step.id).is_terminal());
        let way = plan.with_reason(format!("runbook continue {}", plan.run));
        let question = format!("the run is paused; `{way}` goes on");
        waiting.extend(open.map(|step| SuspendReason { step: step.id.clone(), question }));
    }
    waiting
}

fn asked(plan: &BoundPlan, step: &PlannedStep, state: &StepState) -> Option<String> {
    let (run, id) = (&plan.run, &step.id);
    if let (StepStatus::Asking, Some(question)) = (state.status, &state.question) {
        let way = format!("`runbook approve {run} {id}` or `runbook deny {run} {id} --comment WHY`");
        let prompt = question.prompt.lines().next().unwrap_or_default();
        return Some(format!("{}; {way}", prompt.trim_end_matches('.')));
    }
    if state.status == StepStatus::Held {
        let why = state.error.as_ref().map_or("it failed", |error| error.message.as_str());
        let retry = plan.with_reason(format!("runbook retry {run} {id}"));
        return Some(match step.kind {
            StepKind::Approval => format!("{why}; `{retry}` asks again, `cancel` ends the run"),
            StepKind::Manual | StepKind::Action | StepKind::Runbook => {
                format!("{why}; `{retry}`, `skip`, `mark-done` or `cancel`")
            }
        });
    }
    state.asks.clone()
}

/// The question of a resolved step as it is asked at `now`.
fn question(step: &PlannedStep, state: &StepState, now: Timestamp) -> Result<Question, ActionError> {
    let with = arguments(state);
    match step.kind {
        StepKind::Approval => {
            let args: ApprovalArgs = serde_json::from_value(with).map_err(|error| failed_arguments(step, &error))?;
            match args.faults().into_iter().next() {
                Some(fault) => Err(ActionError::fatal(fault.message)),
                None => args.question(now),
            }
        }
        StepKind::Manual => {
            let args: ManualArgs = serde_json::from_value(with).map_err(|error| failed_arguments(step, &error))?;
            args.question()
        }
        StepKind::Action | StepKind::Runbook => Err(ActionError::fatal("this step asks nobody")),
    }
}

impl Driver {
    pub(super) fn ask(&self, step: &StepId) -> Option<EventKind> {
        let at = self.index.position(step)?;
        let state = self.state.steps.get(step)?;
        Some(match question(self.index.step(at), state, self.now()) {
            Ok(question) => EventKind::StepAsked { step: step.clone(), question: Box::new(question) },
            Err(error) => self.ended_badly(at, 0, error.into_info()),
        })
    }

    pub(super) fn expire(&self, step: &StepId) -> Option<EventKind> {
        let state = self.state.steps.get(step)?;
        Some(EventKind::StepExpired { step: step.clone(), after_ms: self.open_for_ms(state) })
    }

    /// What the answers to a question, or their absence, came to.
    pub(super) fn conclude(&mut self, step: &StepId) -> Option<EventKind> {
        let at = self.index.position(step)?;
        self.alarms.remove(&at);
        let state = self.state.steps.get(step)?;
        let elapsed_ms = self.open_for_ms(state);
        let succeeded =
            |output| EventKind::StepSucceeded { step: step.clone(), attempt: Attempt(1), output, elapsed_ms };
        Some(match verdict(state) {
            Verdict::Open => return None,
            Verdict::Yes | Verdict::Late(OnTimeout::Continue | OnTimeout::Pause) => succeeded(output(state)),
            Verdict::No(answer) => self.ended_badly(at, elapsed_ms, denied(state, answer)),
            Verdict::Late(OnTimeout::Abort) => {
                // A clock is looked at a little late: nobody wants to read `15m3ms`.
                let shown_ms = if elapsed_ms < 1000 { elapsed_ms } else { elapsed_ms / 1000 * 1000 };
                let open = Span(std::time::Duration::from_millis(shown_ms));
                let error = ErrorInfo::new(ErrorClass::Timeout, format!("nobody answered within `{open}`"));
                self.ended_badly(at, elapsed_ms, error)
            }
        })
    }

    fn open_for_ms(&self, state: &StepState) -> u64 {
        let open = state.asked_at.map_or(std::time::Duration::ZERO, |asked_at| between(asked_at, self.now()));
        u64::try_from(open.as_millis()).unwrap_or(u64::MAX)
    }

    fn ended_badly(&self, at: usize, elapsed_ms: u64, error: ErrorInfo) -> EventKind {
        let step = self.index.step(at).id.clone();
        self.or_held(at, EventKind::StepFailed { step, attempt: Attempt(0), error, elapsed_ms })
    }

    /// Under `on_failure: pause` a step that failed, or may have, is held for a person, unless what is around it ends.
    pub(super) fn or_held(&self, at: usize, event: EventKind) -> EventKind {
        let planned = self.index.step(at);
        if planned.on_failure != OnFailure::Pause || self.picture().ending(at).is_some() {
            return event;
        }
        match event {
            EventKind::StepFailed { step, attempt, error, elapsed_ms } => {
                EventKind::StepHeld { step, attempt, error, elapsed_ms }
            }
            EventKind::StepUnknown { step, attempt, error } => {
                EventKind::StepHeld { step, attempt, error, elapsed_ms: 0 }
            }
            other => other,
        }
    }

    /// Takes an answer, or says why it is none.
    pub(super) fn answer(&mut self, step: StepId, answer: HumanAnswer) -> Result<(), EngineError> {
        if self.state.requests.contains(&answer.request) {
            return Ok(());
        }
        let event = match self.judge_answer(&step, &answer) {
            Ok(inputs) => EventKind::StepAnswered { step, answer: Box::new(HumanAnswer { inputs, ..answer }) },
            Err(why) => EventKind::OperatorRefused {
                request: answer.request,
                actor: answer.by,
                verb: crate::event::OperatorVerb::Answer,
                step: Some(step),
                why,
            },
        };
        self.record(vec![event])
    }

    /// Whether the engine leaves a run that only people can bring on.
    pub(super) fn leaves(&self) -> bool {
        self.flights.is_empty() && self.presence == Presence::Nobody && !self.paused_here
    }
}

fn denied(state: &StepState, answer: &HumanAnswer) -> ErrorInfo {
    let manual = state.question.as_ref().is_some_and(|question| question.kind == QuestionKind::Manual);
    let what = if manual { "not done, says" } else { "denied by" };
    let said = if answer.comment.is_empty() { String::new() } else { format!(": {}", answer.comment) };
    ErrorInfo::new(ErrorClass::Fatal, format!("{what} {}{said}", answer.by.name))
}

/// What the step gives to later ones.
fn output(state: &StepState) -> Value {
    let answers = || state.answers.iter().map(|(_, answer)| answer);
    let by: Vec<String> = answers().map(|answer| answer.by.name.clone()).collect();
    let said: Vec<&str> = answers().map(|answer| answer.comment.as_str()).filter(|said| !said.is_empty()).collect();
    let inputs: Map<String, Value> = answers().flat_map(|answer| answer.inputs.clone()).collect();
    let manual = state.question.as_ref().is_some_and(|question| question.kind == QuestionKind::Manual);
    let (comment, approved) = (said.join("; "), verdict(state) == Verdict::Yes);
    if manual {
        json!(ManualOutput { by: by.join(", "), comment, inputs, done: true })
    } else {
        json!(ApprovalOutput { approved, by, comment, inputs })
    }
}
