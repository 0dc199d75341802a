//! The first events of an engine: a new run, or one taken over.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::drive::Driver;
use super::seed::{Foreseen, foresee, missing};
use super::start::{Answer, EngineError, Resume, Start};
use super::{Frontier, PlanIndex};
use crate::base::{Attempt, StepId};
use crate::event::{EventKind, RecoverDecision, RunHeader};
use crate::plan::StepKind;
use crate::state::{RunState, StepStatus};

impl Driver {
    /// Writes nothing unless everything the rest of the run needs is there.
    pub(super) fn begin(&mut self, start: Start) -> Result<(), EngineError> {
        match start {
            Start::Fresh(header) => self.begin_with(*header, Vec::new()),
            Start::Seeded(seeded) => self.begin_with(seeded.header, seeded.seeds),
            Start::Resume(resume) => self.take_over(*resume),
        }
    }

    /// The start and what the run takes from an earlier one become durable together.
    fn begin_with(&mut self, header: RunHeader, seeds: Vec<EventKind>) -> Result<(), EngineError> {
        self.require_everything(&foresee(self.index.plan(), &header, &seeds)?)?;
        let start = EventKind::RunStarted(Box::new(header));
        self.record(std::iter::once(start).chain(seeds).collect())
    }

    fn take_over(&mut self, resume: Resume) -> Result<(), EngineError> {
        self.state = RunState::fold(&resume.events)?;
        self.index = PlanIndex::of(Arc::clone(self.index.plan()), &self.state);
        self.frontier = Frontier::of(&self.index, &self.state);
        if self.state.finished.is_some() {
            return Ok(());
        }
        let seeds = missing(&self.state, resume.seeds);
        self.require_everything(&Foreseen::after(&self.state, self.index.plan(), &seeds)?)?;
        for step in resume.answers.keys() {
            if self.state.status(step) != StepStatus::Running {
                return Err(EngineError::Answer { step: step.clone() });
            }
        }
        if let Some(at) = self.state.last_at {
            self.not_before(at);
        }
        let asking = self.state.steps.iter().filter(|(_, known)| known.asks.is_some());
        self.asked = asking.map(|(step, _)| step.clone()).collect();
        let cut = resume.cut_bytes.map(|bytes| EventKind::TailCut { bytes });
        let resumed = EventKind::RunResumed { actor: resume.actor, pid: resume.pid, version: resume.version };
        self.record(cut.into_iter().chain([resumed]).chain(resume.amended).chain(seeds).collect())?;
        // Taking over moves checked steps back to resolved, so the summary is made anew.
        self.frontier = Frontier::of(&self.index, &self.state);
        // Each is given when its step is judged, and that is done anew: what still ran may be over by now.
        self.answers = resume.answers;
        Ok(())
    }

    /// What a person's answer means.
    pub(super) fn answered(&self, step: &StepId, answer: Answer) -> Vec<EventKind> {
        let attempt = self.state.steps.get(step).map_or(Attempt(0), crate::state::StepState::last_attempt);
        match answer {
            Answer::Rerun => vec![EventKind::AttemptRecovered {
                step: step.clone(),
                attempt,
                decision: RecoverDecision::Rerun,
                why: "a person said that it did not happen".to_owned(),
            }],
            Answer::Done { output } => vec![self.done(step, output.into_iter().collect())],
        }
    }

    /// A person says that the step is done; outputs that are not given are null.
    pub(super) fn done(&self, step: &StepId, output: serde_json::Map<String, Value>) -> EventKind {
        let at = self.index.position(step);
        let mut all = at.map(|at| self.values().nothing(self.index.step(at))).unwrap_or_default();
        all.extend(output);
        let all = Value::Object(all);
        EventKind::StepSucceeded { step: step.clone(), attempt: Attempt(0), output: all, elapsed_ms: 0 }
    }

    /// Looks for every action and secret that steps which may still be made need.
    fn require_everything(&self, foreseen: &Foreseen) -> Result<(), EngineError> {
        let mut secrets = BTreeSet::new();
        let plan = self.index.plan();
        for step in plan.steps.iter().filter(|step| foreseen.may_make(plan, step)) {
            if step.kind == StepKind::Action && self.registry.get(&step.uses).is_none() {
                return Err(EngineError::Action { step: step.id.clone(), uses: step.uses.clone() });
            }
            secrets.extend(step.secrets.iter());
        }
        for name in secrets {
            self.hands.secret(name).map_err(|source| EngineError::Secret { name: name.clone(), source })?;
        }
        Ok(())
    }
}
