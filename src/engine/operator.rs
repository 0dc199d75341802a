//! What operators ask of a live run: accepted or refused as an event, then carried out.
//!
//! `OperatorActed` comes first and `RunState::orders` keeps it until the step has moved, so that an engine which
//! dies in between leaves an order that the next one carries out.

use serde_json::Map;

use super::drive::Driver;
use super::frontier::slot;
use super::settle::Launch;
use super::start::{Answer, EngineError};
use crate::base::StepId;
use crate::event::{Actor, EventKind, OperatorVerb, SkipReason};
use crate::plan::{Section, StepKind};
use crate::state::{StepState, StepStatus};

/// Why a step that is being judged once more takes no order: what is found out decides.
const LOOKED_INTO: &str = "what became of it is being looked into; look again in a moment";

/// What is asked, and by whom.
pub(super) struct Order {
    pub(super) request: String,
    pub(super) actor: Actor,
    pub(super) verb: OperatorVerb,
    pub(super) step: Option<StepId>,
    pub(super) reason: String,
}

impl Driver {
    /// Takes what an operator asks, once.
    pub(super) fn act(&mut self, order: Order) -> Result<(), EngineError> {
        if self.state.requests.contains(&order.request) {
            return Ok(());
        }
        let judged = self.judge_order(&order);
        let Order { request, actor, verb, step, reason } = order;
        if let Err(why) = judged {
            return self.record(vec![EventKind::OperatorRefused { request, actor, verb, step, why }]);
        }
        let target = step.clone();
        self.record(vec![EventKind::OperatorActed { request, actor, verb: verb.clone(), step, reason }])?;
        match (&verb, target) {
            (OperatorVerb::Pause, _) => self.paused_here = true,
            (OperatorVerb::Continue, _) => self.paused_here = false,
            (_, Some(step)) => {
                let events = self.carry_out(&step, &verb);
                self.record(events.into_iter().collect())?;
            }
            (_, None) => {}
        }
        Ok(())
    }

    /// The one event that an accepted order leads to; none where it takes a look first.
    pub(super) fn carry_out(&mut self, step: &StepId, verb: &OperatorVerb) -> Option<EventKind> {
        let at = self.index.position(step)?;
        self.call_off_check(step);
        self.alarms.remove(&at);
        match verb {
            OperatorVerb::Retry if self.state.status(step) == StepStatus::Running => {
                self.answers.insert(step.clone(), Answer::Rerun);
                None
            }
            OperatorVerb::Retry => Some(EventKind::StepReleased { step: step.clone() }),
            OperatorVerb::Skip => Some(EventKind::StepSkipped { step: step.clone(), why: SkipReason::ByHand }),
            OperatorVerb::MarkDone { output } => Some(self.done(step, output.clone())),
            OperatorVerb::Pause | OperatorVerb::Continue | OperatorVerb::Answer | OperatorVerb::Cancel => None,
        }
    }

    /// Goes on with an order that the next round finds still open.
    pub(super) fn obey_order(
        &mut self,
        step: &StepId,
        verb: &OperatorVerb,
        out: (&mut Vec<EventKind>, &mut Vec<Launch>),
    ) {
        let event = self.carry_out(step, verb);
        let running = self.state.steps.get(step).filter(|state| state.status == StepStatus::Running);
        match (event, running.map(StepState::last_attempt)) {
            (Some(event), _) => out.0.push(event),
            (None, Some(attempt)) => self.recover(step, attempt, out),
            (None, None) => {}
        }
    }

    fn judge_order(&self, order: &Order) -> Result<(), String> {
        let plan = self.index.plan();
        if plan.protected && order.reason.trim().is_empty() {
            return Err(format!(
                "the environment `{}` is protected, so a reason is needed; add `--reason`",
                plan.environment
            ));
        }
        let step = || order.step.as_ref().ok_or_else(|| "a step is needed".to_owned());
        match &order.verb {
            OperatorVerb::Pause => match &self.state.paused {
                Some((actor, _)) => Err(format!("the run is paused already, by {}", actor.name)),
                None => Ok(()),
            },
            OperatorVerb::Continue if self.state.paused.is_some() => Ok(()),
            OperatorVerb::Continue => Err("the run is not paused".to_owned()),
            OperatorVerb::Retry => self.judge_retry(step()?),
            OperatorVerb::Skip => self.judge_end(step()?, "skipped"),
            OperatorVerb::MarkDone { output } => {
                self.judge_end(step()?, "marked done")?;
                self.judge_undone(step()?)?;
                self.judge_output(step()?, output)
            }
            OperatorVerb::Answer | OperatorVerb::Cancel => Err("it cannot be asked for in this way".to_owned()),
        }
    }

    fn judge_retry(&self, step: &StepId) -> Result<(), String> {
        let at = self.known(step)?;
        let state = self.state.steps.get(step);
        let refused = |why: &str| Err(format!("step `{step}` cannot be tried again: {why}"));
        match self.state.status(step) {
            StepStatus::Held | StepStatus::Waiting => Ok(()),
            StepStatus::Running if self.flights.contains_key(&at) && self.is_ordered(step) => refused(LOOKED_INTO),
            StepStatus::Running if self.asks(at, state) => Ok(()),
            StepStatus::Running => refused("it is running; wait, or cancel the run"),
            StepStatus::Asking if self.index.step(at).kind == StepKind::Manual => {
                refused("it waits to be done; `runbook approve` says that it is")
            }
            StepStatus::Asking => refused("it waits for an answer; `runbook approve` or `runbook deny` gives one"),
            StepStatus::Open => refused("its members are under way; try one of them again"),
            StepStatus::Pending | StepStatus::Resolved | StepStatus::Checked => refused("it has not begun"),
            StepStatus::Succeeded
            | StepStatus::Failed
            | StepStatus::Skipped
            | StepStatus::Cancelled
            | StepStatus::Unknown => refused(&format!("it has ended ({})", self.standing(step))),
        }
    }

    /// Whether it is asked what became of a step: now, or before this engine took the run over and began to judge it.
    fn asks(&self, at: usize, state: Option<&StepState>) -> bool {
        let before = self.asked.contains(&self.index.step(at).id) && !self.flights.contains_key(&at);
        state.is_some_and(|state| state.asks.is_some() || before && state.interrupted)
    }

    /// Whether a step can be ended by hand.
    fn judge_end(&self, step: &StepId, how: &str) -> Result<(), String> {
        let at = self.known(step)?;
        let state = self.state.steps.get(step);
        let refused = |why: &str| Err(format!("step `{step}` cannot be {how}: {why}"));
        if self.index.step(at).kind == StepKind::Approval {
            return refused("it is an approval; `runbook approve --break-glass --reason …` approves alone");
        }
        match self.state.status(step) {
            StepStatus::Pending
            | StepStatus::Resolved
            | StepStatus::Checked
            | StepStatus::Waiting
            | StepStatus::Asking
            | StepStatus::Held => Ok(()),
            StepStatus::Running if self.flights.contains_key(&at) && self.is_ordered(step) => refused(LOOKED_INTO),
            StepStatus::Running if self.asks(at, state) => Ok(()),
            StepStatus::Running => refused("it is running; wait, or cancel the run"),
            StepStatus::Open => refused("its members are under way"),
            StepStatus::Succeeded
            | StepStatus::Failed
            | StepStatus::Skipped
            | StepStatus::Cancelled
            | StepStatus::Unknown => refused(&format!("it has ended ({})", self.standing(step))),
        }
    }

    /// Refuses to take an undo for done before it is decided whether there is anything to undo.
    fn judge_undone(&self, step: &StepId) -> Result<(), String> {
        let is_undo = self.index.step(self.known(step)?).section == Section::Undo;
        match is_undo && self.frontier.open[slot(Section::Body)] > 0 {
            true => Err(format!("step `{step}` cannot be marked done: it is not known yet whether it will be made")),
            false => Ok(()),
        }
    }

    /// Refuses an output that later steps could not read.
    fn judge_output(&self, step: &StepId, output: &Map<String, serde_json::Value>) -> Result<(), String> {
        let Some(planned) = self.index.position(step).map(|at| self.index.step(at)) else { return Ok(()) };
        let schema = self.registry.get(&planned.uses).map(|action| action.output_schema()).unwrap_or_default();
        let known = self.values().nothing(planned);
        let is_sub = self.index.plan().groups.contains_key(step);
        let open = !is_sub && (schema["properties"].is_null() || schema["additionalProperties"].is_object());
        match output.keys().find(|name| !open && !known.contains_key(*name)) {
            Some(name) => {
                let known: Vec<String> = known.keys().map(|name| format!("`{name}`")).collect();
                Err(format!("step `{step}` has no output `{name}`; known outputs: {}", known.join(", ")))
            }
            None => Ok(()),
        }
    }

    /// Whether an order for the step is still being carried out.
    fn is_ordered(&self, step: &StepId) -> bool {
        self.state.orders.contains_key(step)
    }

    /// The position of a step, or what could be meant.
    pub(super) fn known(&self, step: &StepId) -> Result<usize, String> {
        self.index.position(step).ok_or_else(|| {
            let ids = self.index.plan().steps.iter().map(|step| step.id.as_str());
            let near = ids.min_by_key(|id| strsim::damerau_levenshtein(id, step.as_str())).unwrap_or_default();
            format!("there is no step `{step}`; did you mean `{near}`?")
        })
    }

    /// Where a step stands, as a word.
    pub(super) fn standing(&self, step: &StepId) -> String {
        let word = serde_json::to_value(self.state.status(step)).ok();
        word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
    }
}
