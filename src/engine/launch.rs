//! Effects begin here, after the events that announce them are durable.

use std::sync::Arc;
use std::time::Duration;

use super::capability::{Binding, Leash, Purpose, Timing};
use super::check::{Aside, Before, CheckJob};
use super::drive::Driver;
use super::execute::AttemptJob;
use super::flight::{Flight, Landed, Work};
use super::lease::{self, Removal};
use super::recover::RecoverJob;
use super::reporting::{AttemptReporter, Pulse};
use super::settle::{Launch, arguments};
use crate::action::{Foreseen, Interrupted, Reporter};
use crate::base::clock::between;
use crate::base::{Attempt, StepId};
use crate::plan::PlannedStep;
use crate::state::AttemptState;

impl Driver {
    pub(super) fn launch(&mut self, launch: Launch) {
        match launch {
            Launch::Check(at) => self.launch_check(at),
            Launch::Attempt(at, attempt) => self.launch_attempt(at, attempt, None),
            Launch::Recover(at, attempt) => self.launch_recovery(at, attempt),
            Launch::Reattach(at, cut) => self.launch_attempt(at, cut.attempt, Some(cut)),
            Launch::Tell(at, level) => {
                if let Some(flight) = self.flights.get_mut(&at) {
                    flight.tell(level);
                }
            }
            Launch::Remove(resource) => self.launch_removal(resource),
        }
    }

    fn key(&self, step: &StepId) -> String {
        format!("{}/{step}", self.index.plan().run)
    }

    fn reporter(&self, step: &StepId, attempt: Attempt, pulse: &Pulse) -> Arc<dyn Reporter> {
        Arc::new(AttemptReporter {
            step: step.clone(),
            attempt,
            wires: self.wires.clone(),
            pulse: pulse.clone(),
            capabilities: Arc::clone(&self.hands),
        })
    }

    fn launch_check(&mut self, at: usize) {
        let planned = self.index.step(at);
        // A group makes nothing itself, so only its preconditions are looked at.
        let has_check = planned.has_check && !self.index.is_group(at);
        let step = PlannedStep { has_check, ..planned.clone() };
        let Some(state) = self.state.steps.get(&step.id) else { return };
        let (leash, pulse) = (Leash::default(), Pulse::new(Arc::clone(&self.clock)));
        let reporter = self.reporter(&step.id, Attempt(0), &pulse);
        let job = CheckJob {
            with: arguments(state),
            preconditions: state.preconditions.clone(),
            registry: self.registry.clone(),
            hands: Arc::clone(&self.hands),
            clock: Arc::clone(&self.clock),
            timing: Timing::Due,
            before: Before::default(),
            foreseen: Foreseen::default(),
            aside: Some(Aside { leash: leash.clone(), reporter, key: self.key(&step.id) }),
            step,
        };
        self.flights.insert(at, Flight::new(Work::Check, leash, pulse));
        self.tasks.start(at, async move { Landed::Checked(job.make().await) });
    }

    /// Makes an attempt, or waits for one that outlived its engine.
    fn launch_attempt(&mut self, at: usize, attempt: Attempt, cut: Option<Interrupted>) {
        let step = self.index.step(at).clone();
        let Some(state) = self.state.steps.get(&step.id) else { return };
        let Some(action) = self.registry.get(&step.uses).map(Arc::clone) else { return };
        let (leash, pulse) = (Leash::default(), Pulse::new(Arc::clone(&self.clock)));
        let timeout = step.timeout_ms.map(Duration::from_millis);
        let spent = cut.as_ref().map_or(Duration::ZERO, |cut| between(cut.started_at, self.now()));
        let binding = Binding {
            purpose: if cut.is_some() { Purpose::Reattach } else { Purpose::Attempt },
            key: self.key(&step.id),
            reporter: self.reporter(&step.id, attempt, &pulse),
            leash: leash.clone(),
            host: step.host,
            step: step.id,
            attempt,
            timeout,
        };
        let job = AttemptJob {
            action,
            with: arguments(state),
            hands: Arc::clone(&self.hands),
            clock: Arc::clone(&self.clock),
            binding,
            limit: timeout.map(|timeout| timeout.saturating_sub(spent)),
            cut,
        };
        self.flights.insert(at, Flight::new(Work::Attempt(attempt), leash, pulse));
        self.tasks.start(at, async move { Landed::Attempted(job.make().await) });
    }

    fn launch_recovery(&mut self, at: usize, attempt: Attempt) {
        let step = self.index.step(at).clone();
        let Some(state) = self.state.steps.get(&step.id) else { return };
        let Some(action) = self.registry.get(&step.uses).map(Arc::clone) else { return };
        let Some(last) = state.attempts.last() else { return };
        let job = RecoverJob {
            with: arguments(state),
            cut: self.cut(&step.id, last),
            action,
            hands: Arc::clone(&self.hands),
            step,
        };
        let pulse = Pulse::new(Arc::clone(&self.clock));
        self.flights.insert(at, Flight::new(Work::Recover(attempt), Leash::default(), pulse));
        self.tasks.start(at, async move { Landed::Judged(job.judge().await) });
    }

    fn cut(&self, step: &StepId, last: &AttemptState) -> Interrupted {
        Interrupted {
            step: step.clone(),
            attempt: last.number,
            key: last.key.clone(),
            started_at: last.started_at,
            attempt_dir: self.hands.attempt_dir(step, last.number),
        }
    }

    /// Removes what a step registered: a lease by its script, anything else through the action that registered it.
    fn launch_removal(&mut self, resource: String) {
        let Some(known) = self.state.resources.get(&resource).cloned() else { return };
        let Some(at) = self.index.position(&known.step) else { return };
        let step = self.index.step(at);
        let script = lease::script(&known.data).cloned();
        let uses = script.as_ref().map_or(step.uses.as_str(), |_| lease::SHELL);
        let pulse = Pulse::new(Arc::clone(&self.clock));
        let binding = Binding {
            purpose: Purpose::Aside,
            key: self.key(&known.step),
            reporter: self.reporter(&known.step, Attempt(0), &pulse),
            leash: Leash::default(),
            attempt: Attempt(0),
            timeout: Some(lease::REMOVAL_LIMIT),
            host: step.host.clone(),
            step: known.step,
        };
        let removal = Removal {
            resource: resource.clone(),
            data: known.data,
            script,
            action: self.registry.get(uses).map(Arc::clone),
            hands: Arc::clone(&self.hands),
            clock: Arc::clone(&self.clock),
            binding,
        };
        self.tasks.start(at, async move { Landed::Removed { resource, result: removal.make().await } });
    }
}
