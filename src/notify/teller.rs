//! What an event means to people: which of them is worth telling, and in which words.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Occasion;
use crate::base::clock::between;
use crate::base::units::human_duration;
use crate::base::{StepId, Timestamp};
use crate::event::{Event, EventKind, Figures, HumanAnswer, Outcome, Question, QuestionKind, SuspendReason};
use crate::language::runbook::{NotifyOn, OnFailure};
use crate::plan::BoundPlan;

/// Follows the events of a run and says what is to be told of them.
pub struct Teller {
    plan: Arc<BoundPlan>,
    started_at: Timestamp,
    /// Questions that were told and are not answered.
    open: BTreeSet<StepId>,
    /// The first failure that ends the run.
    failed: Option<(StepId, String)>,
    cancelled: Option<String>,
}

/// The parts of an occasion that differ.
struct Words {
    on: NotifyOn,
    message: String,
    step: Option<StepId>,
    question: Option<String>,
    command: String,
}

impl Teller {
    /// A teller at the beginning of a run.
    #[must_use]
    pub fn new(plan: Arc<BoundPlan>) -> Self {
        let started_at = plan.started_at;
        Self { plan, started_at, open: BTreeSet::new(), failed: None, cancelled: None }
    }

    /// Tells whether a question of this step still waits.
    #[must_use]
    pub fn is_open(&self, step: &StepId) -> bool {
        self.open.contains(step)
    }

    /// Takes the next event; gives what there is to tell.
    pub fn take(&mut self, event: &Event) -> Option<Occasion> {
        let words = self.words(event)?;
        let mut occasion = Occasion {
            on: words.on,
            seq: event.seq,
            at: event.at,
            elapsed: between(self.started_at, event.at),
            message: words.message,
            step: words.step,
            percent: None,
            outcome: None,
            exit_code: None,
            question: words.question,
            command: words.command,
        };
        if let EventKind::ObjectiveWarning { percent, .. } = &event.kind {
            occasion.percent = Some(*percent);
        }
        if let EventKind::RunFinished { outcome, exit_code, .. } = &event.kind {
            occasion.outcome = Some(outcome_word(*outcome));
            occasion.exit_code = Some(*exit_code);
        }
        Some(occasion)
    }

    fn words(&mut self, event: &Event) -> Option<Words> {
        let name = self.plan.name.clone();
        match &event.kind {
            EventKind::RunStarted(header) => {
                self.started_at = event.at;
                let message = format!("`{name}` started in `{}` by {}", header.environment, header.actor.name);
                Some(self.about_run(NotifyOn::Started, message))
            }
            EventKind::StepAsked { step, question } => Some(self.asked(step, question)),
            EventKind::StepHeld { step, error, .. } => Some(self.held(step, &error.message)),
            EventKind::RunSuspended { waiting } => self.suspended(waiting),
            EventKind::ObjectiveWarning { percent, elapsed_ms } => Some(self.at_risk(*percent, *elapsed_ms)),
            EventKind::StepAnswered { step, answer } => {
                self.open.remove(step);
                self.broke_glass(step, answer)
            }
            EventKind::RunFinished { outcome, figures, .. } => Some(self.finished(*outcome, figures)),
            EventKind::StepFailed { step, error, .. } | EventKind::StepUnknown { step, error, .. } => {
                self.open.remove(step);
                self.note_failure(step, &error.message);
                None
            }
            EventKind::StepReleased { step }
            | EventKind::StepExpired { step, .. }
            | EventKind::StepSucceeded { step, .. }
            | EventKind::StepSkipped { step, .. }
            | EventKind::StepCancelled { step, .. }
            | EventKind::AttemptRecovered { step, .. } => {
                self.open.remove(step);
                None
            }
            EventKind::CancelRequested { actor, reason, .. } => {
                let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                self.cancelled.get_or_insert_with(|| format!("by {}{why}", actor.name));
                None
            }
            EventKind::RunResumed { .. }
            | EventKind::TailCut { .. }
            | EventKind::StepResolved { .. }
            | EventKind::StepChecked { .. }
            | EventKind::AttemptStarted { .. }
            | EventKind::AttemptFailed { .. }
            | EventKind::AttemptAdopted { .. }
            | EventKind::StepStalled { .. }
            | EventKind::GroupOpened { .. }
            | EventKind::StepSeeded { .. }
            | EventKind::LockAwaited { .. }
            | EventKind::LockTaken { .. }
            | EventKind::OperatorActed { .. }
            | EventKind::OperatorRefused { .. }
            | EventKind::PlanAmended { .. }
            | EventKind::StepNoted { .. }
            | EventKind::ResourceRegistered { .. }
            | EventKind::ResourceRemoved { .. }
            | EventKind::Unknown => None,
        }
    }

    fn about_run(&self, on: NotifyOn, message: String) -> Words {
        let command = match on {
            NotifyOn::Failed | NotifyOn::Succeeded => format!("runbook show {}", self.plan.run),
            NotifyOn::Started | NotifyOn::RtoAtRisk | NotifyOn::ApprovalNeeded | NotifyOn::BrokeGlass => {
                format!("runbook show {} --follow", self.plan.run)
            }
        };
        Words { on, message, step: None, question: None, command }
    }

    fn asked(&mut self, step: &StepId, question: &Question) -> Words {
        self.open.insert(step.clone());
        let (name, run) = (&self.plan.name, &self.plan.run);
        let what = match question.kind {
            QuestionKind::Approval => "asks for approval",
            QuestionKind::Manual => "has to be done by a person",
        };
        Words {
            on: NotifyOn::ApprovalNeeded,
            message: format!("step `{step}` of `{name}` {what}: {}", question.prompt),
            step: Some(step.clone()),
            question: Some(question.prompt.clone()),
            command: format!("runbook approve {run} {step} --as NAME"),
        }
    }

    fn held(&mut self, step: &StepId, error: &str) -> Words {
        self.open.insert(step.clone());
        let (name, run) = (&self.plan.name, &self.plan.run);
        Words {
            on: NotifyOn::ApprovalNeeded,
            message: format!("step `{step}` of `{name}` failed and waits for a person: {error}"),
            step: Some(step.clone()),
            question: Some(error.to_owned()),
            command: self.plan.with_reason(format!("runbook retry {run} {step}")),
        }
    }

    /// A question that was told when it was asked is not told again.
    fn suspended(&mut self, waiting: &[SuspendReason]) -> Option<Words> {
        let new: Vec<&SuspendReason> = waiting.iter().filter(|reason| !self.open.contains(&reason.step)).collect();
        self.open.extend(new.iter().map(|reason| reason.step.clone()));
        let first = new.first()?;
        let questions: Vec<String> =
            new.iter().map(|reason| format!("step `{}`: {}", reason.step, reason.question)).collect();
        let questions = questions.join("; ");
        Some(Words {
            on: NotifyOn::ApprovalNeeded,
            message: format!("`{}` waits for a person: {questions}", self.plan.name),
            step: (new.len() == 1).then(|| first.step.clone()),
            question: Some(questions),
            command: format!("runbook resume {}", self.plan.run),
        })
    }

    fn at_risk(&self, percent: u32, elapsed_ms: u64) -> Words {
        let name = &self.plan.name;
        let rto = self.plan.objectives.rto.map(|rto| format!(" of {rto}")).unwrap_or_default();
        let passed = human_duration(std::time::Duration::from_millis(elapsed_ms));
        let message = match percent {
            100.. => format!("the RTO{rto} of `{name}` is used up, {passed} after the incident"),
            _ => format!("{percent} % of the RTO{rto} of `{name}` are used up, {passed} after the incident"),
        };
        self.about_run(NotifyOn::RtoAtRisk, message)
    }

    fn broke_glass(&self, step: &StepId, answer: &HumanAnswer) -> Option<Words> {
        let reason = answer.break_glass.as_ref()?;
        let message = format!("{} broke the glass at step `{step}` of `{}`: {reason}", answer.by.name, self.plan.name);
        Some(Words { step: Some(step.clone()), ..self.about_run(NotifyOn::BrokeGlass, message) })
    }

    /// What is tolerated does not end the run.
    fn note_failure(&mut self, step: &StepId, error: &str) {
        let tolerated = self.plan.step(step).is_some_and(|planned| planned.on_failure == OnFailure::Continue);
        if !tolerated && self.failed.is_none() {
            self.failed = Some((step.clone(), error.to_owned()));
        }
    }

    fn finished(&self, outcome: Outcome, figures: &Figures) -> Words {
        let name = &self.plan.name;
        let took = human_duration(std::time::Duration::from_millis(figures.run_ms));
        let at = self.failed.as_ref().map(|(step, error)| format!(" at step `{step}`: {error}")).unwrap_or_default();
        let (on, message) = match outcome {
            Outcome::Succeeded => (NotifyOn::Succeeded, format!("`{name}` succeeded in {took}")),
            Outcome::SucceededWithExceptions => {
                let count = figures.exceptions.len();
                (NotifyOn::Succeeded, format!("`{name}` succeeded in {took}, with {count} exceptions"))
            }
            Outcome::Failed => (NotifyOn::Failed, format!("`{name}` failed after {took}{at}")),
            Outcome::FailedUnknown => {
                (NotifyOn::Failed, format!("`{name}` failed after {took}, and an outcome is unknown{at}"))
            }
            Outcome::Cancelled => {
                let who = self.cancelled.as_ref().map(|who| format!(" {who}")).unwrap_or_default();
                (NotifyOn::Failed, format!("`{name}` was cancelled after {took}{who}"))
            }
            Outcome::ObjectiveMissed => (NotifyOn::Failed, format!("`{name}` missed its objective; it took {took}")),
            Outcome::Inconclusive => {
                let why = match figures.rpo_target_ms.is_some() && figures.rpo.is_none() {
                    true => "measured no loss, so it proves no RPO",
                    false => "had nothing to bring back, so it proves nothing",
                };
                (NotifyOn::Failed, format!("`{name}` {why}; it took {took}"))
            }
        };
        let step = self.failed.as_ref().filter(|_| on == NotifyOn::Failed).map(|(step, _)| step.clone());
        Words { step, ..self.about_run(on, message) }
    }
}

/// An outcome as the journal writes it.
fn outcome_word(outcome: Outcome) -> String {
    serde_json::to_value(outcome).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::Teller;
    use crate::base::{Digest, EventSeq};
    use crate::event::{Event, EventKind};
    use crate::language::runbook::NotifyOn;
    use crate::notify::Occasion;
    use crate::plan::fixture;
    use crate::plan::notify::EVENT;

    /// What is told of events, given as the journal writes them.
    fn told(events: &[Value]) -> Vec<Occasion> {
        let plan = Arc::new(fixture::plan(vec![fixture::step("a", "shell"), fixture::step("b", "shell")]));
        let mut teller = Teller::new(Arc::clone(&plan));
        let event = |(index, kind): (usize, &Value)| Event {
            seq: EventSeq(index as u64 + 1),
            at: fixture::start(),
            run: plan.run.clone(),
            prev: Digest::default(),
            kind: serde_json::from_value::<EventKind>(kind.clone()).expect("an event"),
            hash: Digest::default(),
        };
        events.iter().enumerate().filter_map(|indexed| teller.take(&event(indexed))).collect()
    }

    fn asked(step: &str) -> Value {
        json!({ "type": "step_asked", "step": step, "question": {
            "kind": "approval", "prompt": "go on?", "quorum": 1, "initiator": "may_approve", "on_timeout": "pause",
        } })
    }

    fn suspended(steps: &[&str]) -> Value {
        let waiting: Vec<Value> = steps.iter().map(|step| json!({ "step": step, "question": "what now?" })).collect();
        json!({ "type": "run_suspended", "waiting": waiting })
    }

    #[test]
    fn a_question_is_told_once_until_it_is_answered() {
        let answer = json!({ "type": "step_answered", "step": "a", "answer": {
            "request": "r", "by": { "name": "kim" }, "verdict": "yes", "seen": Digest::default(),
        } });
        let told =
            told(&[asked("a"), suspended(&["a"]), suspended(&["a", "b"]), suspended(&["b"]), answer, asked("a")]);
        let seen: Vec<_> = told.iter().map(|told| (told.seq.0, told.step.as_ref().map(ToString::to_string))).collect();
        let step = |name: &str| Some(name.to_owned());
        assert_eq!(seen, [(1, step("a")), (3, step("b")), (6, step("a"))]);
        assert!(told.iter().all(|told| told.on == NotifyOn::ApprovalNeeded));
        assert!(told[0].command.starts_with("runbook approve ") && told[0].message.contains("go on?"), "{:?}", told[0]);
    }

    #[test]
    fn a_broken_glass_a_used_up_objective_and_a_cancelled_run_are_told_in_words() {
        let glass = json!({ "type": "step_answered", "step": "a", "answer": {
            "request": "r", "by": { "name": "kim" }, "verdict": "yes", "seen": Digest::default(), "break_glass": "alone",
        } });
        let warning = |percent: u32| json!({ "type": "objective_warning", "percent": percent, "elapsed_ms": 60_000 });
        let cancel =
            json!({ "type": "cancel_requested", "actor": { "name": "kim" }, "level": "graceful", "reason": "no" });
        let end = json!({ "type": "run_finished", "outcome": "cancelled", "exit_code": 12, "figures": {
            "run_ms": 1000, "machine_ms": 0, "retry_ms": 0, "waiting_ms": 0,
        } });
        let told = told(&[glass, warning(50), warning(100), cancel, end]);
        let words: Vec<&str> = told.iter().map(|told| told.message.as_str()).collect();
        assert!(words[0].contains("kim broke the glass at step `a`") && words[0].ends_with(": alone"), "{words:?}");
        assert!(words[1].starts_with("50 % of the RTO") && words[2].contains("is used up"), "{words:?}");
        assert_eq!((told[1].percent, told[2].percent), (Some(50), Some(100)));
        assert!(words[3].contains("was cancelled after 1.0s by kim: no"), "{words:?}");
        assert_eq!((told[3].on, told[3].exit_code), (NotifyOn::Failed, Some(12)));
    }

    #[test]
    fn templates_see_every_member_of_an_event_and_bodies_only_those_with_a_meaning() {
        let plan = fixture::plan(vec![fixture::step("a", "shell")]);
        let told = &told(&[asked("a")])[0];
        let template = told.to_template(&plan);
        let names: Vec<&str> = template.as_object().expect("members").keys().map(String::as_str).collect();
        assert_eq!(names, EVENT);
        assert_eq!(template["percent"], json!(""));
        assert!(told.to_body(&plan).get("percent").is_none());
    }
}
