//! The loop: decide until nothing is new, sync once, show, launch, wait. It alone owns the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::decide::Picture;
use super::flight::{Flight, Landed};
use super::locking::Held;
use super::operator::Order;
use super::publish::Publisher;
use super::redact::redacted;
use super::reporting::{Fact, Inbox, Wires, wires};
use super::settle::Launch;
use super::start::{Answer, Ending, Engine, EngineError, Left, Presence, Start};
use super::tasks::{TaskEnd, Tasks};
use super::{Capabilities, Frontier, PlanIndex};
use crate::action::Registry;
use crate::base::clock::{after, between};
use crate::base::{StepId, Timestamp};
use crate::event::{Event, EventKind};
use crate::port::{Clock, Control, ControlRequest, Entrance, Journal, Locks};
use crate::state::{Resource, RunState, objectives, subject};

/// How often clocks on the screen move and silences are looked at.
const TICK: Duration = Duration::from_millis(250);

/// Drives one run.
pub(super) struct Driver {
    pub(super) index: PlanIndex,
    pub(super) state: RunState,
    pub(super) frontier: Frontier,
    pub(super) registry: Registry,
    pub(super) hands: Arc<dyn Capabilities>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) wires: Wires,
    pub(super) tasks: Tasks<Landed>,
    pub(super) flights: BTreeMap<usize, Flight>,
    pub(super) answers: BTreeMap<StepId, Answer>,
    /// Steps that asked what became of them when this engine took the run over: an order that was kept for them counts.
    pub(super) asked: BTreeSet<StepId>,
    /// Resources whose removal was tried.
    pub(super) removals: BTreeSet<String>,
    /// The resource that is being removed.
    pub(super) removing: Option<String>,
    /// What follows the next sync besides what is decided.
    pub(super) queued: Vec<Launch>,
    /// Retries that are waited for: when they are due, by both clocks.
    pub(super) alarms: BTreeMap<usize, (Timestamp, Instant)>,
    /// Whether somebody is there to answer.
    pub(super) presence: Presence,
    /// Whether this engine was told to pause, and whoever said so may come back.
    pub(super) paused_here: bool,
    /// Names that only one run may hold.
    pub(super) locks: Arc<dyn Locks>,
    /// Those of them that are held.
    pub(super) held: Held,
    journal: Box<dyn Journal>,
    publisher: Publisher,
    control: Box<dyn Control>,
    inbox: Inbox,
    /// The locks of the whole run, until they are held.
    entrance: Option<Box<dyn Entrance>>,
    synced: Vec<oneshot::Sender<()>>,
    /// Time never goes back below this.
    floor: Timestamp,
    next_tick: Instant,
}

/// What woke the loop.
pub(super) enum Wake {
    Control(ControlRequest),
    Fact(Fact),
    Task(usize, TaskEnd<Landed>),
    Tick,
}

/// Whether the loop goes on.
pub(super) enum Turn {
    On,
    Leave(Left),
}

impl Driver {
    pub(super) fn new(engine: Engine) -> Self {
        let index = PlanIndex::new(engine.plan);
        let state = RunState::default();
        let frontier = Frontier::of(&index, &state);
        let (wires, inbox) = wires();
        let (floor, next_tick) = (engine.clock.now(), engine.clock.monotonic());
        Self {
            index,
            state,
            frontier,
            registry: engine.registry,
            hands: engine.capabilities,
            clock: engine.clock,
            wires,
            tasks: Tasks::new(),
            flights: BTreeMap::new(),
            answers: BTreeMap::new(),
            asked: BTreeSet::new(),
            removals: BTreeSet::new(),
            removing: None,
            queued: Vec::new(),
            alarms: BTreeMap::new(),
            presence: engine.presence,
            paused_here: false,
            locks: engine.locks,
            held: Held::default(),
            journal: engine.journal,
            publisher: Publisher::new(engine.sinks),
            control: engine.control,
            inbox,
            entrance: engine.entrance,
            synced: Vec::new(),
            floor,
            next_tick,
        }
    }

    pub(super) async fn drive(mut self, start: Start) -> Result<Ending, EngineError> {
        let left = self.go_on(start).await;
        self.publisher.close();
        Ok(self.ending(left?))
    }

    async fn go_on(&mut self, start: Start) -> Result<Left, EngineError> {
        self.begin(start)?;
        if let Turn::Leave(left) = self.heed().await? {
            return Ok(left);
        }
        if let Some(entrance) = self.entrance.take()
            && let Turn::Leave(left) = self.enter(entrance).await?
        {
            return Ok(left);
        }
        loop {
            let launches = self.settle()?;
            self.commit()?;
            if self.state.finished.is_some() {
                return Ok(Left::Finished);
            }
            if !self.state.suspended.is_empty() {
                return Ok(Left::Suspended);
            }
            for launch in launches {
                self.launch(launch);
            }
            let wake = self.next().await;
            if let Turn::Leave(left) = self.take(wake)? {
                return Ok(left);
            }
        }
    }

    fn ending(self, how: Left) -> Ending {
        let exit_code = match how {
            Left::Finished => self.state.finished.as_ref().map_or(1, |(_, code, _)| *code),
            Left::Suspended => 13,
            Left::Abandoned => 12,
        };
        Ending { state: self.state, exit_code, how }
    }

    /// The run's time: the wall clock, never going back, and never before a retry whose delay is over.
    pub(super) fn now(&self) -> Timestamp {
        self.floor.max(self.clock.now())
    }

    /// Lets the run's time go on from here.
    pub(super) fn not_before(&mut self, at: Timestamp) {
        self.floor = self.floor.max(at);
    }

    /// Appends events and folds them. They are neither durable nor visible before [`Driver::commit`].
    pub(super) fn record(&mut self, kinds: Vec<EventKind>) -> Result<(), EngineError> {
        if kinds.is_empty() {
            return Ok(());
        }
        let kinds = kinds.into_iter().map(|kind| redacted(kind, &*self.hands)).collect();
        for event in self.journal.append(self.now(), kinds)? {
            self.fold(&event)?;
            self.publisher.hold(event);
        }
        Ok(())
    }

    /// Takes an event into the state and its summary.
    pub(super) fn fold(&mut self, event: &Event) -> Result<(), EngineError> {
        let touched = subject(&event.kind).and_then(|step| self.index.position(step));
        let status = |driver: &Self, at: usize| driver.state.status(&driver.index.step(at).id);
        let before = touched.map(|at| (at, status(self, at)));
        self.state.apply(event)?;
        self.floor = self.floor.max(event.at);
        if let (EventKind::GroupOpened { instances, .. }, Some(at)) = (&event.kind, touched) {
            let made = self.index.fan_out(at, instances);
            self.frontier.admit(&self.index, &made);
        }
        if let Some((at, before)) = before {
            let after = status(self, at);
            self.frontier.observe(&self.index, &self.state, (at, before, after));
        }
        Ok(())
    }

    /// Makes the round durable, then visible.
    pub(super) fn commit(&mut self) -> Result<(), EngineError> {
        if self.publisher.is_waiting() {
            self.journal.sync()?;
            self.publisher.publish();
        }
        self.let_go();
        for waiting in self.synced.drain(..) {
            // Fails only when the attempt that waits is gone.
            let _gone = waiting.send(());
        }
        Ok(())
    }

    /// Everything that is enabled now.
    pub(super) fn enabled(&self) -> Vec<super::Decision> {
        // What is waited for is due by the monotonic clock, whatever somebody set the other one to.
        let monotonic = self.clock.monotonic();
        let waiting = self.alarms.iter().filter(|(_, (_, due))| *due > monotonic).map(|(at, _)| *at).collect();
        self.picture().decide_but(self.now(), &waiting)
    }

    /// What is decided from.
    pub(super) fn picture(&self) -> Picture<'_> {
        let limits = &self.index.plan().limits;
        Picture { index: &self.index, frontier: &self.frontier, state: &self.state, limits }
    }

    pub(super) async fn next(&mut self) -> Wake {
        let Self { control, inbox, tasks, clock, publisher, alarms, next_tick, .. } = self;
        loop {
            let now = clock.monotonic();
            let wake_at = alarms.values().map(|(_, due)| *due).min().map_or(*next_tick, |due| due.min(*next_tick));
            if now >= wake_at {
                return Wake::Tick;
            }
            tokio::select! {
                biased;
                request = control.next() => return Wake::Control(request),
                Some(fact) = inbox.facts.recv() => return Wake::Fact(fact),
                (owner, end) = tasks.next() => return Wake::Task(owner, end),
                Some(update) = inbox.progress.recv() => publisher.progress(&update),
                () = clock.sleep(wake_at.saturating_duration_since(now)) => return Wake::Tick,
            }
        }
    }

    /// Takes what woke the loop and everything else that is there already: one round, one sync.
    pub(super) fn take(&mut self, wake: Wake) -> Result<Turn, EngineError> {
        match wake {
            Wake::Control(request) => return self.obey(request),
            Wake::Fact(fact) => self.keep(fact)?,
            Wake::Task(owner, end) => {
                self.keep_facts()?;
                self.land(owner, end)?;
            }
            Wake::Tick => self.tick()?,
        }
        self.keep_facts()?;
        while let Some((owner, end)) = self.tasks.try_next() {
            self.keep_facts()?;
            self.land(owner, end)?;
        }
        Ok(Turn::On)
    }

    /// Takes the requests that are there before anything is done, such as an answer to a run that was suspended.
    async fn heed(&mut self) -> Result<Turn, EngineError> {
        if self.state.finished.is_some() {
            return Ok(Turn::On);
        }
        loop {
            let request = tokio::select! {
                biased;
                request = self.control.next() => request,
                () = std::future::ready(()) => return Ok(Turn::On),
            };
            if let Turn::Leave(left) = self.obey(request)? {
                return Ok(Turn::Leave(left));
            }
            // A request is gone from its source once the next one is asked for.
            self.commit()?;
        }
    }

    fn obey(&mut self, request: ControlRequest) -> Result<Turn, EngineError> {
        match request {
            ControlRequest::Abandon => return Ok(Turn::Leave(Left::Abandoned)),
            ControlRequest::Detach => {
                self.presence = Presence::Nobody;
                self.publisher.detach_terminal();
            }
            ControlRequest::Act { request, actor, verb, step, reason } => {
                self.act(Order { request, actor, verb, step, reason })?;
            }
            ControlRequest::Answer { step, answer } => self.answer(step, *answer)?,
            ControlRequest::Cancel { actor, level, reason } => {
                self.paused_here = false;
                let harder = self.state.cancel.as_ref().is_none_or(|(known, ..)| *known < level);
                if harder || self.state.paused.is_some() {
                    self.record(vec![EventKind::CancelRequested { actor, level, reason }])?;
                }
            }
        }
        Ok(Turn::On)
    }

    /// Takes what attempts have said so far, before the event that ends one of them.
    fn keep_facts(&mut self) -> Result<(), EngineError> {
        while let Ok(update) = self.inbox.progress.try_recv() {
            self.publisher.progress(&update);
        }
        while let Ok(fact) = self.inbox.facts.try_recv() {
            self.keep(fact)?;
        }
        Ok(())
    }

    fn keep(&mut self, fact: Fact) -> Result<(), EngineError> {
        match fact {
            Fact::Note { step, message, data } => self.record(vec![EventKind::StepNoted { step, message, data }]),
            Fact::Register { step, resource, data, synced } => {
                self.synced.push(synced);
                let expires_at = Some(after(self.now(), Resource::DEFAULT_TTL));
                self.record(vec![EventKind::ResourceRegistered { step, resource, data, expires_at }])
            }
            Fact::Removed { resource } if self.state.resources.contains_key(&resource) => {
                self.record(vec![EventKind::ResourceRemoved { resource }])
            }
            Fact::Removed { .. } => Ok(()),
        }
    }

    fn tick(&mut self) -> Result<(), EngineError> {
        let monotonic = self.clock.monotonic();
        for (until, due) in self.alarms.values() {
            if *due <= monotonic {
                self.floor = self.floor.max(*until);
            }
        }
        self.alarms.retain(|_, (_, due)| *due > monotonic);
        if monotonic >= self.next_tick {
            self.next_tick = monotonic + TICK;
            self.publisher.tick(self.now());
            self.alarm_stalls()?;
            self.warn_of_objectives()?;
        }
        Ok(())
    }

    fn alarm_stalls(&mut self) -> Result<(), EngineError> {
        let mut alarms = Vec::new();
        for (at, flight) in &mut self.flights {
            let step = self.index.step(*at);
            if let Some(silent_ms) = step.stall_ms.and_then(|limit_ms| flight.stalled(limit_ms)) {
                alarms.push(EventKind::StepStalled { step: step.id.clone(), silent_ms });
            }
        }
        self.record(alarms)
    }

    fn warn_of_objectives(&mut self) -> Result<(), EngineError> {
        let (plan, now) = (Arc::clone(self.index.plan()), self.now());
        let Some(incident_at) = plan.incident_at else { return Ok(()) };
        let elapsed_ms = u64::try_from(between(incident_at, now).as_millis()).unwrap_or(u64::MAX);
        let due = objectives::warnings_due(&plan, &self.state, now);
        self.record(due.into_iter().map(|percent| EventKind::ObjectiveWarning { percent, elapsed_ms }).collect())
    }
}
