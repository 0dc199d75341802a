//! Plans built by hand, so that a test of the engine reads as a specification.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runbook::action::{
    ActionError, BoxFuture, CheckContext, EffectClass, Effects, Foreseen, Interrupted, Mode, RunContext, Secrets,
    Surroundings,
};
use runbook::base::secret::SecretText;
use runbook::base::units::Span;
use runbook::base::{Attempt, Digest, StepId, Timestamp};
use runbook::engine::{
    Answer, Binding, Capabilities, Ending, Engine, EngineError, Presence, ProbeAnswer, Resume, Seeded, Start, Timing,
};
use runbook::event::{Actor, CancelLevel, Event, EventKind, FORMAT, ProgressUpdate, RunHeader, SeededEnd};
use runbook::journal::memory::{Fault, MemoryJournal};
use runbook::language::inventory::{Inventory, SecretSpec};
use runbook::language::runbook::{Creation, Objectives, OnFailure, OnUnknown, Retry};
use runbook::plan::{
    BoundPlan, Edge, ForEach, GroupScope, Limits, PlannedStep, Section, StepKind, Strictness, UndoPolicy,
};
use runbook::port::{Clock, Control, ControlRequest, Journal, Sink, SinkError};
use runbook::state::{RunState, StepStatus};
use serde_json::{Value, json};

use super::clock::ManualClock;
use super::fake::{Act, World, registry};
use super::lock::SharedLocks;
use super::nowhere::Nowhere;

pub const SECRET: &str = "correct horse battery";

/// One step of a scenario.
pub struct Draft {
    pub planned: PlannedStep,
    acts: Vec<Act>,
}

impl Draft {
    fn new(id: &str, section: Section) -> Self {
        let planned = PlannedStep {
            id: id.parse().expect("a step id"),
            name: id.to_owned(),
            description: String::new(),
            section,
            phase: None,
            uses: "fake.once".to_owned(),
            with: json!({}),
            needs: Vec::new(),
            when: None,
            preconditions: Vec::new(),
            timeout_ms: None,
            stall_ms: None,
            retry: None,
            on_failure: OnFailure::Abort,
            on_unknown: OnUnknown::Ask,
            effects: Effects::of(EffectClass::Write),
            host: "local".to_owned(),
            secrets: Vec::new(),
            has_check: false,
            declares_drill: false,
            kind: StepKind::Action,
            group: None,
            for_each: None,
            item: None,
            always: false,
            locks: Vec::new(),
            creates: Vec::new(),
            fingerprint: Digest::of(id.as_bytes()),
        };
        Self { planned, acts: Vec::new() }
    }

    fn edges(mut self, steps: &[&str], strictness: Strictness) -> Self {
        let edge = |from: &&str| Edge { from: from.parse().expect("a step id"), strictness };
        self.planned.needs = steps.iter().map(edge).collect();
        self
    }
    pub fn needs(self, steps: &[&str]) -> Self {
        self.edges(steps, Strictness::Success)
    }
    pub fn after_any(self, steps: &[&str]) -> Self {
        self.edges(steps, Strictness::Any)
    }
    pub fn uses(mut self, action: &str) -> Self {
        self.planned.uses = action.to_owned();
        if action == "fake.read" {
            self.planned.effects = Effects::of(EffectClass::Read);
        }
        self
    }
    pub fn does(mut self, acts: &[Act]) -> Self {
        self.acts = acts.to_vec();
        self
    }
    pub fn with(mut self, with: Value) -> Self {
        self.planned.with = with;
        self
    }
    pub fn when(mut self, expression: &str) -> Self {
        self.planned.when = Some(expression.to_owned());
        self
    }
    pub fn requires(mut self, precondition: Value) -> Self {
        self.planned.preconditions.push(precondition);
        self
    }
    pub fn approval(mut self, with: Value) -> Self {
        self.planned.kind = StepKind::Approval;
        self.uses("approval").with(with)
    }
    pub fn manual(mut self, with: Value) -> Self {
        self.planned.kind = StepKind::Manual;
        self.uses("manual").with(with)
    }
    /// Creates something that the script of its name removes.
    pub fn creates(mut self, destroy: &str) -> Self {
        let (name, ttl) = (format!("thing{}", self.planned.creates.len()), Span(Duration::from_secs(60)));
        self.planned.creates.push(Creation { name, destroy: destroy.to_owned(), ttl });
        self
    }
    pub fn pauses(mut self) -> Self {
        self.planned.on_failure = OnFailure::Pause;
        self
    }
    pub fn locks(mut self, names: &[&str]) -> Self {
        self.planned.locks = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }
    pub fn checked(mut self) -> Self {
        self.planned.has_check = true;
        self
    }
    pub fn tolerated(mut self) -> Self {
        self.planned.on_failure = OnFailure::Continue;
        self
    }
    /// Fans out over these items.
    pub fn for_each(mut self, items: Value) -> Self {
        self.planned.for_each = Some(ForEach { items, max_parallel: None });
        self
    }
    pub fn at_once(mut self, max_parallel: u32) -> Self {
        self.planned.for_each.iter_mut().for_each(|fan_out| fan_out.max_parallel = Some(max_parallel));
        self
    }
    /// Belongs to the sub-runbook that this step stands for.
    pub fn inside(mut self, group: &str) -> Self {
        self.planned.group = Some(group.parse().expect("a step id"));
        self
    }
    /// Runs also when its group is ending.
    pub fn always(mut self) -> Self {
        self.planned.always = true;
        self
    }
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.planned.timeout_ms = Some(u64::try_from(limit.as_millis()).expect("a short limit"));
        self
    }
    pub fn stall(mut self, limit: Duration) -> Self {
        self.planned.stall_ms = Some(u64::try_from(limit.as_millis()).expect("a short limit"));
        self
    }
    pub fn tries(mut self, max_attempts: u32) -> Self {
        self.planned.retry = Some(Retry { max_attempts, ..Retry::default() });
        self
    }
}

/// A plan, a world and what is asked of the run while it goes on.
pub struct Scenario {
    pub plan: BoundPlan,
    pub world: World,
    cancels: Vec<(Duration, ControlRequest)>,
    probe: ProbeAnswer,
    presence: Presence,
    pub locks: SharedLocks,
    seeds: Vec<EventKind>,
}

/// A run as far as one engine brought it.
pub struct Played {
    pub result: Result<Ending, EngineError>,
    pub journal: MemoryJournal,
    pub shown: Vec<Event>,
}

impl Scenario {
    pub fn new() -> Self {
        let at: Timestamp = "2026-01-28T14:30:02Z".parse().expect("a time");
        let secrets = BTreeMap::from([("key".to_owned(), SecretSpec::Env("KEY".to_owned()).into())]);
        let plan = BoundPlan {
            format: FORMAT,
            run: "20260128-143002-3fa9c1".parse().expect("a run id"),
            name: "scenario".to_owned(),
            description: String::new(),
            owner: String::new(),
            controls: Vec::new(),
            mode: Mode::Real,
            environment: "default".to_owned(),
            protected: false,
            actor: actor(),
            started_at: at,
            incident_at: None,
            objectives: Objectives::default(),
            phases: Vec::new(),
            params: BTreeMap::from([("who".to_owned(), json!("orders"))]),
            vars: BTreeMap::new(),
            inventory: Inventory { secrets, ..Inventory::default() },
            scratch: PathBuf::from("/nowhere"),
            steps: Vec::new(),
            limits: Limits { max_parallel: 4 },
            locks: Vec::new(),
            queued_locks: BTreeSet::new(),
            groups: BTreeMap::new(),
            env_vars: BTreeMap::new(),
            undo: UndoPolicy::Never,
            origin: None,
            notify: Vec::new(),
            sources: Vec::new(),
        };
        let world = World::new(ManualClock::starting_at(at));
        let probe = ProbeAnswer::Unclear("no probe".to_owned());
        let locks = SharedLocks::new(&world.clock);
        Self { plan, world, cancels: Vec::new(), probe, presence: Presence::Nobody, locks, seeds: Vec::new() }
    }

    fn add(mut self, draft: Draft) -> Self {
        self.world.script(draft.planned.id.as_str(), draft.acts);
        self.plan.steps.push(draft.planned);
        self
    }
    /// Adds a body step that starts at once unless it says otherwise.
    pub fn step(self, id: &str, shape: impl FnOnce(Draft) -> Draft) -> Self {
        self.add(shape(Draft::new(id, Section::Body)))
    }
    /// Adds a body step that follows the one above.
    pub fn then(self, id: &str, shape: impl FnOnce(Draft) -> Draft) -> Self {
        let body = self.plan.steps.iter().rfind(|step| step.section == Section::Body);
        let above: Vec<String> = body.map(|step| step.id.to_string()).into_iter().collect();
        let above: Vec<&str> = above.iter().map(String::as_str).collect();
        let draft = Draft::new(id, Section::Body).edges(&above, Strictness::Settled);
        self.add(shape(draft))
    }
    pub fn finally(self, id: &str, shape: impl FnOnce(Draft) -> Draft) -> Self {
        self.add(shape(Draft::new(id, Section::Finally)))
    }
    /// Adds a step that stands for a sub-runbook with these outputs.
    pub fn group(mut self, id: &str, outputs: Value, shape: impl FnOnce(Draft) -> Draft) -> Self {
        let mut draft = shape(Draft::new(id, Section::Body));
        draft.planned.kind = StepKind::Runbook;
        draft.planned.uses = "runbook".to_owned();
        let scope = GroupScope {
            name: id.to_owned(),
            file: format!("{id}.yaml"),
            params: BTreeMap::from([("who".to_owned(), json!(format!("the who of {id}")))]),
            vars: BTreeMap::new(),
            outputs: outputs.as_object().cloned().unwrap_or_default().into_iter().collect(),
        };
        self.plan.groups.insert(draft.planned.id.clone(), scope);
        self.add(draft)
    }
    /// What a step that the plan does not hold does: an instance.
    pub fn does(self, step: &str, acts: &[Act]) -> Self {
        self.world.script(step, acts.to_vec());
        self
    }
    pub fn parallel(mut self, max_parallel: usize) -> Self {
        self.plan.limits = Limits { max_parallel };
        self
    }
    pub fn probe(mut self, answer: ProbeAnswer) -> Self {
        self.probe = answer;
        self
    }
    /// Counts the recovery time from the start of the run.
    pub fn rto(mut self, rto: Duration) -> Self {
        self.plan.incident_at = Some(self.plan.started_at);
        self.plan.objectives.rto = Some(Span(rto));
        self
    }
    /// Somebody watches the run.
    pub fn attended(mut self) -> Self {
        self.presence = Presence::SomebodyThere;
        self
    }
    pub fn protected(mut self) -> Self {
        self.plan.protected = true;
        self
    }
    /// Asks something of the run; what is due first is asked first.
    pub fn ask(mut self, after: Duration, request: ControlRequest) -> Self {
        self.put(after, request);
        self
    }
    pub fn put(&mut self, after: Duration, request: ControlRequest) {
        let at = self.cancels.partition_point(|(due, _)| *due <= after);
        self.cancels.insert(at, (after, request));
    }
    /// The same plan in a world of its own, with nobody there.
    pub fn twin(&self) -> Self {
        let world = World::new(ManualClock::starting_at(self.plan.started_at));
        let locks = SharedLocks::new(&world.clock);
        let (probe, seeds) = (self.probe.clone(), self.seeds.clone());
        Self { plan: self.plan.clone(), world, cancels: Vec::new(), probe, presence: Presence::Nobody, locks, seeds }
    }
    /// Nobody asks anything of the engines that follow.
    pub fn unasked(mut self) -> Self {
        self.cancels.clear();
        self
    }
    pub fn cancel(self, after: Duration, level: CancelLevel) -> Self {
        self.ask(after, ControlRequest::Cancel { actor: actor(), level, reason: "a test".to_owned() })
    }

    pub fn header(&self) -> RunHeader {
        RunHeader {
            format: FORMAT,
            name: self.plan.name.clone(),
            mode: self.plan.mode,
            environment: self.plan.environment.clone(),
            actor: actor(),
            pid: 1,
            host: "here".to_owned(),
            version: "0".to_owned(),
            plan: digest(),
            incident_at: self.plan.incident_at,
            locks: None,
            origin: None,
        }
    }

    pub fn start(&self) -> Start {
        match self.seeds.is_empty() {
            true => Start::Fresh(Box::new(self.header())),
            false => Start::Seeded(Box::new(Seeded { header: self.header(), seeds: self.seeds.clone() })),
        }
    }

    /// Adds a step that reverses the one above it.
    pub fn undo(self, shape: impl FnOnce(Draft) -> Draft) -> Self {
        let of = self.plan.steps.last().expect("a step above").id.clone();
        self.add(shape(Draft::new(of.undo().as_str(), Section::Undo)))
    }
    pub fn undoes(mut self, policy: UndoPolicy) -> Self {
        self.plan.undo = policy;
        self
    }
    /// The run builds on an earlier one in which the step ended so.
    pub fn seed(mut self, step: &str, end: SeededEnd) -> Self {
        let (step, of) = (step.parse().expect("a step id"), "20260101-000000-000000".parse().expect("a run id"));
        self.seeds.push(EventKind::StepSeeded { step, of, end, output: json!({ "value": "seeded" }) });
        self
    }

    pub fn run(&self) -> Played {
        self.run_until(None)
    }

    /// Runs with a journal that breaks.
    pub fn run_until(&self, fault: Option<Fault>) -> Played {
        let journal = MemoryJournal::new(self.plan.run.clone(), digest());
        let journal = fault.into_iter().fold(journal, MemoryJournal::with_fault);
        self.play(journal, self.start(), Vec::new())
    }

    /// Runs without the sink that looks into the journal at every event.
    pub fn run_quietly(&self) -> Played {
        let journal = MemoryJournal::new(self.plan.run.clone(), digest());
        let result = self.drive(Box::new(journal.clone()), Start::Fresh(Box::new(self.header())), Vec::new());
        Played { result, journal, shown: Vec::new() }
    }

    /// Runs into this journal of a plan with this digest.
    pub fn run_into(&self, journal: Box<dyn Journal>, plan: Digest) -> Result<Ending, EngineError> {
        let header = RunHeader { plan, ..self.header() };
        self.drive(journal, Start::Fresh(Box::new(header)), Vec::new())
    }

    /// Goes on where an engine left it, as another engine.
    pub fn resume(&self, played: &Played, answers: &[(&str, Answer)]) -> Played {
        self.resume_until(played, answers, None)
    }

    pub fn resume_until(&self, played: &Played, answers: &[(&str, Answer)], fault: Option<Fault>) -> Played {
        let (events, journal) = played.journal.reopen().expect("the journal holds together");
        let journal = fault.into_iter().fold(journal, MemoryJournal::with_fault);
        if events.is_empty() {
            return self.play(journal, self.start(), Vec::new());
        }
        let resume = self.takeover(events, answers);
        self.play(journal, Start::Resume(Box::new(resume)), Vec::new())
    }

    /// What another engine goes on with.
    pub fn takeover(&self, events: Vec<Event>, answers: &[(&str, Answer)]) -> Resume {
        let answer = |(step, answer): &(&str, Answer)| (step.parse().expect("a step id"), answer.clone());
        Resume {
            events,
            actor: actor(),
            pid: 2,
            version: "0".to_owned(),
            cut_bytes: None,
            answers: answers.iter().map(answer).collect(),
            seeds: self.seeds.clone(),
            amended: None,
        }
    }

    /// Runs with these sinks beside the recording one.
    pub fn run_before(&self, sinks: Vec<Box<dyn Sink>>) -> Played {
        let journal = MemoryJournal::new(self.plan.run.clone(), digest());
        self.play(journal, Start::Fresh(Box::new(self.header())), sinks)
    }

    fn play(&self, journal: MemoryJournal, start: Start, mut sinks: Vec<Box<dyn Sink>>) -> Played {
        let shown = Shown { events: Arc::default(), journal: journal.clone() };
        sinks.push(Box::new(shown.clone()));
        let result = self.drive(Box::new(journal.clone()), start, sinks);
        let shown = shown.events.lock().expect("not poisoned").clone();
        Played { result, journal, shown }
    }

    pub fn drive(
        &self,
        journal: Box<dyn Journal>,
        start: Start,
        sinks: Vec<Box<dyn Sink>>,
    ) -> Result<Ending, EngineError> {
        let clock = self.world.clock.clone();
        let control = Script { clock: clock.clone(), requests: self.cancels.clone().into() };
        let engine = Engine {
            plan: Arc::new(self.plan.clone()),
            registry: registry(&self.world),
            journal,
            sinks,
            clock: Arc::new(clock.clone()),
            control: Box::new(control),
            capabilities: self.hands(),
            locks: Arc::new(self.locks.clone()),
            presence: self.presence,
            entrance: None,
        };
        on_manual_time(&clock, engine.run(start))
    }

    pub fn hands(&self) -> Arc<dyn Capabilities> {
        Arc::new(Hands { plan: Arc::new(self.plan.clone()), probe: self.probe.clone() })
    }
}

/// Runs a future on one thread; whenever everything waits, the clock jumps.
pub fn on_manual_time<T>(clock: &ManualClock, future: impl Future<Output = T>) -> T {
    let clock = clock.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().on_thread_park(move || clock.jump()).build();
    runtime.expect("a runtime").block_on(future)
}

impl Played {
    pub fn ending(&self) -> &Ending {
        self.result.as_ref().expect("the engine left in order")
    }
    pub fn state(&self) -> &RunState {
        &self.ending().state
    }
    pub fn status(&self, step: &str) -> StepStatus {
        self.state().status(&step.parse().expect("a step id"))
    }
    pub fn statuses(&self) -> BTreeMap<StepId, StepStatus> {
        self.state().steps.iter().map(|(id, state)| (id.clone(), state.status)).collect()
    }
    /// Expects an exit code, with the journal in the message when it differs.
    pub fn ends(self, exit_code: u8) -> Self {
        let told = self.journal.events();
        let kinds: Vec<&EventKind> = told.iter().map(|event| &event.kind).collect();
        assert_eq!(self.ending().exit_code, exit_code, "{kinds:#?}");
        self
    }
    pub fn kinds(&self) -> Vec<EventKind> {
        self.journal.events().into_iter().map(|event| event.kind).collect()
    }
}

pub fn actor() -> Actor {
    Actor { name: "tester".to_owned(), from: String::new() }
}

fn digest() -> Digest {
    Digest::of(b"plan")
}

/// A sink that keeps what it sees and holds the journal to "durable before visible".
#[derive(Clone)]
struct Shown {
    events: Arc<Mutex<Vec<Event>>>,
    journal: MemoryJournal,
}

impl Sink for Shown {
    fn event(&mut self, event: &Event) -> Result<(), SinkError> {
        assert!(self.journal.events().iter().any(|durable| durable.seq == event.seq), "shown before durable");
        self.events.lock().expect("not poisoned").push(event.clone());
        Ok(())
    }
    fn progress(&mut self, _: &ProgressUpdate) {}
}

/// Requests at given times after the start.
struct Script {
    clock: ManualClock,
    requests: VecDeque<(Duration, ControlRequest)>,
}

impl Control for Script {
    fn next(&mut self) -> BoxFuture<'_, ControlRequest> {
        Box::pin(async move {
            loop {
                let Some((at, request)) = self.requests.front().cloned() else { return std::future::pending().await };
                let elapsed = self.clock.elapsed();
                if elapsed >= at {
                    self.requests.pop_front();
                    return request;
                }
                self.clock.sleep(at.saturating_sub(elapsed)).await;
            }
        })
    }
}

/// Capabilities over nothing but the scenario.
struct Hands {
    plan: Arc<BoundPlan>,
    probe: ProbeAnswer,
}

impl Secrets for Hands {
    fn get(&self, name: &str) -> Result<SecretText, ActionError> {
        match name {
            "key" => Ok(SecretText::new(SECRET.to_owned())),
            other => Err(ActionError::fatal(format!("nothing gives `{other}`"))),
        }
    }
}

impl Hands {
    fn about(&self) -> Surroundings {
        Surroundings {
            run: self.plan.run.clone(),
            steps_of: self.plan.run.clone(),
            mode: self.plan.mode,
            environment: self.plan.environment.clone(),
            inventory: Arc::new(self.plan.inventory.clone()),
            scratch: self.plan.scratch.clone(),
            incident_at: self.plan.started_at,
            began_at: self.plan.started_at,
            secrets: Arc::new(Hands { plan: Arc::clone(&self.plan), probe: self.probe.clone() }),
            erasures: Arc::new(runbook::action::NoErasures),
        }
    }
}

impl Capabilities for Hands {
    fn bind(&self, binding: Binding) -> Result<RunContext, ActionError> {
        Ok(RunContext {
            about: self.about(),
            attempt_dir: self.attempt_dir(&binding.step, binding.attempt),
            step: binding.step,
            attempt: binding.attempt,
            key: binding.key,
            host: Arc::new(Nowhere),
            stores: Arc::new(|name| Err(ActionError::fatal(format!("no store `{name}`")))),
            reporter: binding.reporter,
            cancel: binding.leash.cancel,
            timeout: binding.timeout,
        })
    }
    fn read(&self, _: &PlannedStep, timing: Timing) -> Result<CheckContext, ActionError> {
        Ok(CheckContext {
            about: self.about(),
            host: Arc::new(Nowhere),
            stores: Arc::new(|name| Err(ActionError::fatal(format!("no store `{name}`")))),
            ahead: timing == Timing::Ahead,
            changed_stores: BTreeSet::new(),
            foreseen: Foreseen::default(),
            actions_before: BTreeSet::new(),
        })
    }
    fn attempt_dir(&self, step: &StepId, attempt: Attempt) -> PathBuf {
        PathBuf::from(format!("/nowhere/attempts/{step}/{attempt}"))
    }
    fn secret(&self, name: &str) -> Result<SecretText, ActionError> {
        Secrets::get(self, name)
    }
    fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if text.contains(SECRET) { text.replace(SECRET, "***").into() } else { text.into() }
    }
    fn probe<'a>(
        &'a self,
        _: &'a PlannedStep,
        _: &'a Interrupted,
        _: &'a str,
    ) -> BoxFuture<'a, Result<ProbeAnswer, ActionError>> {
        Box::pin(async { Ok(self.probe.clone()) })
    }
}
