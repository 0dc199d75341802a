//! The rules of a run, written down again from the language's pages: slow, simple, and knowing nothing of the engine.
//!
//! It is told every durable event with the time on the monotonic clock. An event that the rules do not allow is a
//! fault, and so is time that passes while the rules demand something.

use std::time::Duration;

use runbook::event::{CancelLevel, EventKind, OperatorVerb, RecoverDecision, SkipReason};
use runbook::language::runbook::OnFailure;
use runbook::plan::Strictness;

use super::case::{Case, Deed, Kind, Sketch, TIMEOUT, name};

/// How long what is told to end may take, by how hard it is told.
const GRACE: Duration = Duration::from_secs(12);
const KILL_GRACE: Duration = Duration::from_secs(3);
/// How often a lock of another run is tried again.
const LOOK: Duration = Duration::from_millis(250);

type Checked = Result<(), String>;

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Place {
    Pending,
    /// Its values are known.
    Ready,
    Running {
        since: Duration,
        adopted: bool,
    },
    /// Its engine died.
    Cut,
    /// A person has to say what became of it.
    Asked,
    /// The next attempt starts not before the first time and not after the second, which are one unless the wall clock
    /// was set and another engine has only that to go by.
    Waiting {
        from: Duration,
        until: Duration,
        delay: Duration,
    },
    Held {
        unknown: bool,
    },
    Ended(End),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Succeeded,
    MarkedDone,
    Failed,
    Unknown,
    Cancelled,
    Skipped(Why),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    When,
    Need,
    Aborted,
    Cancelled,
    ByHand,
}

pub struct Model<'a> {
    case: &'a Case,
    pub places: Vec<Place>,
    /// Attempts announced, and failures that count, by step.
    pub attempts: Vec<u32>,
    failures: Vec<u32>,
    /// What operators ordered and is not carried out yet.
    orders: Vec<Option<OperatorVerb>>,
    /// The first cancel and the first hard one.
    cancel: Option<Duration>,
    kill: Option<Duration>,
    now: Duration,
    suspended: bool,
    pub finished: Option<u8>,
}

fn demand(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl<'a> Model<'a> {
    pub fn new(case: &'a Case) -> Self {
        let count = case.steps.len();
        Self {
            case,
            places: vec![Place::Pending; count],
            attempts: vec![0; count],
            failures: vec![0; count],
            orders: vec![None; count],
            cancel: None,
            kill: None,
            now: Duration::ZERO,
            suspended: false,
            finished: None,
        }
    }

    fn step(&self, at: usize) -> &'a Sketch {
        &self.case.steps[at]
    }

    fn all(&self) -> std::ops::Range<usize> {
        0..self.places.len()
    }

    fn end(&self, at: usize) -> Option<End> {
        match self.places[at] {
            Place::Ended(end) => Some(end),
            _ => None,
        }
    }

    fn is_running(&self, at: usize) -> bool {
        matches!(self.places[at], Place::Running { .. })
    }

    /// An untolerated failure of the body ends it; so does a cancel.
    fn aborted(&self) -> bool {
        let failed = |at: usize| matches!(self.end(at), Some(End::Failed | End::Unknown));
        self.all().any(|at| failed(at) && !self.step(at).last && self.step(at).on_failure != OnFailure::Continue)
    }

    fn ending(&self, at: usize) -> bool {
        !self.step(at).last && (self.cancel.is_some() || self.aborted())
    }

    fn cancelled(&self, at: usize) -> bool {
        !self.step(at).last && self.cancel.is_some()
    }

    /// Whether an edge is satisfied; `None` while that is open.
    fn satisfied(&self, (from, how): (usize, Strictness)) -> Option<bool> {
        let tolerated = self.step(from).on_failure == OnFailure::Continue;
        self.end(from).map(|end| match (how, end) {
            (Strictness::Any, _) | (_, End::Succeeded | End::MarkedDone) => true,
            (Strictness::Settled, End::Skipped(_)) => true,
            (Strictness::Settled, End::Failed | End::Unknown) => tolerated,
            (Strictness::Settled, End::Cancelled) | (Strictness::Success, _) => false,
        })
    }

    /// Whether all edges are satisfied; `None` while that is open.
    fn met(&self, at: usize) -> Option<bool> {
        let needs: Option<Vec<bool>> = self.step(at).needs.iter().map(|need| self.satisfied(*need)).collect();
        needs.map(|needs| needs.into_iter().all(|met| met))
    }

    /// Whether the section's turn has come.
    fn is_open(&self, at: usize) -> bool {
        !self.step(at).last || self.all().all(|other| self.step(other).last || self.end(other).is_some())
    }

    fn may_begin(&self, at: usize) -> bool {
        self.places[at] == Place::Pending && self.is_open(at) && self.met(at) == Some(true) && !self.ending(at)
    }

    /// Whether a running step of this run, or one that may still run, holds a lock that the step wants.
    fn locked(&self, at: usize) -> bool {
        let holds = |other: usize| matches!(self.places[other], Place::Running { .. } | Place::Cut | Place::Asked);
        let shares = |other: usize| self.step(other).locks.iter().any(|lock| self.step(at).locks.contains(lock));
        self.all().any(|other| other != at && holds(other) && shares(other))
    }

    fn locked_elsewhere(&self, at: usize, when: Duration) -> bool {
        let until = self.case.foreign_ms.map(Duration::from_millis);
        self.step(at).locks.contains(&"tape") && until.is_some_and(|until| when < until)
    }

    fn running(&self) -> usize {
        self.all().filter(|at| self.is_running(*at)).count()
    }

    /// Places taken: what runs, and what waits for a lock before its first attempt.
    fn taken(&self) -> usize {
        self.running() + self.all().filter(|at| self.places[*at] == Place::Ready).count()
    }

    /// Whether a place is free until then; a retry that is due keeps one while it waits for a lock.
    fn free(&self, until: Duration) -> bool {
        let locked = |at: usize| self.locked(at) || self.locked_elsewhere(at, self.now.saturating_sub(LOOK));
        let waits = |at: &usize| matches!(self.places[*at], Place::Waiting { from, .. } if from < until) && locked(*at);
        self.taken() + self.all().filter(waits).count() < self.case.parallel && !self.in_doubt()
    }

    /// Whether nothing new may begin, because nobody knows what an engine left.
    fn in_doubt(&self) -> bool {
        self.places.iter().any(|place| matches!(place, Place::Cut | Place::Asked))
    }

    /// Takes what an operator says of a step whose fate nobody knows.
    pub fn told(&mut self, at: usize, verb: OperatorVerb) {
        self.orders[at] = Some(verb);
    }

    /// Takes an event.
    pub fn take(&mut self, at: Duration, kind: &EventKind) -> Checked {
        if at > self.now {
            self.rest(at)?;
            self.now = at;
        }
        demand(self.finished.is_none(), || "something happens after the end".to_owned())?;
        let index = |step: &runbook::base::StepId| -> usize { step.as_str()[1..].parse().expect("a known step") };
        match kind {
            EventKind::RunStarted(_) | EventKind::LockAwaited { .. } | EventKind::LockTaken { .. } => Ok(()),
            EventKind::RunResumed { .. } => {
                self.resumed();
                Ok(())
            }
            EventKind::CancelRequested { level, .. } => {
                self.cancel.get_or_insert(at);
                if *level == CancelLevel::Now {
                    self.kill.get_or_insert(at);
                }
                Ok(())
            }
            EventKind::OperatorActed { verb, step: Some(step), .. } => {
                self.orders[index(step)] = Some(verb.clone());
                Ok(())
            }
            EventKind::StepResolved { step, .. } => self.resolved(index(step)),
            EventKind::AttemptStarted { step, attempt, .. } => self.started(index(step), attempt.0),
            EventKind::AttemptFailed { step, attempt, retry_in_ms, .. } => {
                self.failed_attempt(index(step), attempt.0, *retry_in_ms)
            }
            EventKind::AttemptAdopted { step, .. } => self.adopted(index(step)),
            EventKind::AttemptRecovered { step, decision, .. } => self.recovered(index(step), decision),
            EventKind::StepSucceeded { step, attempt, .. } => self.succeeded(index(step), attempt.0),
            EventKind::StepFailed { step, attempt, .. } => self.given_up(index(step), attempt.0, End::Failed),
            EventKind::StepUnknown { step, attempt, .. } => self.given_up(index(step), attempt.0, End::Unknown),
            EventKind::StepHeld { step, attempt, .. } => self.held(index(step), attempt.0),
            EventKind::StepCancelled { step, confirmed, .. } => self.ended_by_cancel(index(step), *confirmed),
            EventKind::StepSkipped { step, why } => self.skipped(index(step), why),
            EventKind::StepReleased { step } => self.released(index(step)),
            EventKind::RunSuspended { .. } => self.suspend(),
            EventKind::RunFinished { exit_code, .. } => self.finish(*exit_code),
            other => Err(format!("no rule speaks of {other:?}")),
        }
        .map_err(|what| format!("{what}, at {at:?}: {kind:?}"))?;
        demand(self.running() <= self.case.parallel, || format!("{} steps run at once", self.running()))
    }

    fn resumed(&mut self) {
        self.suspended = false;
        for at in self.all() {
            self.places[at] = match self.places[at] {
                Place::Running { .. } | Place::Cut | Place::Asked => Place::Cut,
                // Another engine knows the due time by the wall clock alone, which may have been set.
                Place::Waiting { from, delay, .. } if !self.case.jumps.is_empty() => {
                    Place::Waiting { from: from.min(self.now), until: self.now + delay, delay }
                }
                other => other,
            };
        }
    }

    fn resolved(&mut self, at: usize) -> Checked {
        // A step that an operator releases before any attempt may get other values.
        let again = matches!(self.places[at], Place::Waiting { .. }) && self.attempts[at] == 0;
        demand(again || self.may_begin(at), || "it may not begin".to_owned())?;
        demand(!self.in_doubt(), || "something begins while it is unknown what an engine left".to_owned())?;
        demand(self.step(at).wants, || "its `when` is false".to_owned())?;
        demand(self.taken() < self.case.parallel, || "no place is free".to_owned())?;
        let earlier = (0..at).find(|earlier| self.may_begin(*earlier));
        demand(self.case.parallel > 1 || earlier.is_none(), || {
            format!("{} stands before it", name(earlier.unwrap_or(0)))
        })?;
        self.places[at] = Place::Ready;
        Ok(())
    }

    fn started(&mut self, at: usize, attempt: u32) -> Checked {
        let due = match self.places[at] {
            Place::Ready => !self.ending(at),
            Place::Waiting { from, .. } => self.now >= from && !self.cancelled(at),
            _ => false,
        };
        demand(due, || format!("it may not start: {:?}", self.places[at]))?;
        demand(!self.in_doubt(), || "something starts while it is unknown what an engine left".to_owned())?;
        demand(attempt == self.attempts[at] + 1, || format!("attempt {} is next", self.attempts[at] + 1))?;
        let locked = self.locked(at) || self.locked_elsewhere(at, self.now);
        demand(!locked, || "another holds its lock".to_owned())?;
        self.attempts[at] = attempt;
        self.places[at] = Place::Running { since: self.now, adopted: false };
        Ok(())
    }

    /// The attempt that is under way, judged by an engine that was there or by one that came after.
    fn deed(&self, at: usize, attempt: u32) -> Result<Deed, String> {
        let under_way = match self.places[at] {
            Place::Running { .. } => true,
            Place::Cut => self.step(at).kind == Kind::Kept,
            _ => false,
        };
        demand(under_way && attempt == self.attempts[at], || format!("no such attempt: {:?}", self.places[at]))?;
        Ok(self.step(at).deed(attempt))
    }

    /// Whether an attempt ends now as it was going to; one that was adopted began anew or was over already.
    fn in_time(&self, at: usize, takes: Duration) -> Checked {
        let Place::Running { since, adopted } = self.places[at] else { return Ok(()) };
        let exact = self.now == since + takes;
        demand(exact || adopted && self.now <= since + takes, || format!("it began at {since:?} and takes {takes:?}"))
    }

    fn retries(&self, at: usize, deed: Deed) -> bool {
        let covered = match deed {
            Deed::Retryable | Deed::Hang => true,
            Deed::Unknown => self.step(at).kind == Kind::Again,
            Deed::Succeed | Deed::Take(_) | Deed::Fatal => false,
        };
        // What ended because it was told to is not made again.
        let told = self.cancelled(at) && self.is_running(at) && deed == Deed::Hang;
        covered && !told && self.failures[at] + 1 < self.step(at).tries
    }

    fn failed_attempt(&mut self, at: usize, attempt: u32, retry_in_ms: u64) -> Checked {
        let deed = self.deed(at, attempt)?;
        demand(self.retries(at, deed), || format!("{deed:?} is not tried again"))?;
        self.in_time(at, if deed == Deed::Hang { TIMEOUT } else { Duration::ZERO })?;
        // 1 s, then twice as long each time, a minute at most, spread by a tenth.
        let plain = 1000_u64 << self.failures[at].min(6);
        let fits = (plain * 9 / 10..=plain * 11 / 10 + 1).contains(&retry_in_ms) && retry_in_ms <= 60_000;
        demand(fits, || format!("a delay of about {plain} ms is due"))?;
        self.failures[at] += 1;
        let due = self.now + Duration::from_millis(retry_in_ms);
        self.places[at] = Place::Waiting { from: due, until: due, delay: Duration::from_millis(retry_in_ms) };
        Ok(())
    }

    fn adopted(&mut self, at: usize) -> Checked {
        let fits = self.places[at] == Place::Cut && self.step(at).kind == Kind::Kept;
        demand(fits, || format!("nothing is left to adopt: {:?}", self.places[at]))?;
        self.places[at] = Place::Running { since: self.now, adopted: true };
        Ok(())
    }

    fn recovered(&mut self, at: usize, decision: &RecoverDecision) -> Checked {
        let person = self.orders[at].take_if(|verb| *verb == OperatorVerb::Retry).is_some();
        let allowed = match (decision, self.step(at).kind) {
            (RecoverDecision::Rerun, Kind::Again | Kind::Kept) | (RecoverDecision::Ask, Kind::Once) => true,
            (RecoverDecision::Rerun, Kind::Once) => person,
            (RecoverDecision::Adopt { .. }, Kind::Kept) => true,
            (RecoverDecision::Adopt { .. }, Kind::Again | Kind::Once) | (RecoverDecision::Ask, _) => false,
        };
        let open = matches!(self.places[at], Place::Cut | Place::Asked);
        demand(open && allowed, || format!("that is not how it is judged: {:?}", self.places[at]))?;
        self.places[at] = match decision {
            RecoverDecision::Rerun => Place::Waiting { from: self.now, until: self.now, delay: Duration::ZERO },
            RecoverDecision::Ask => Place::Asked,
            RecoverDecision::Adopt { .. } => Place::Cut,
        };
        Ok(())
    }

    fn succeeded(&mut self, at: usize, attempt: u32) -> Checked {
        if attempt == 0 {
            let ordered = matches!(self.orders[at].take(), Some(OperatorVerb::MarkDone { .. }));
            let open = matches!(self.places[at], Place::Held { .. } | Place::Asked | Place::Cut);
            demand(ordered && open, || "nobody said that it is done".to_owned())?;
            self.places[at] = Place::Ended(End::MarkedDone);
            return Ok(());
        }
        match self.deed(at, attempt)? {
            Deed::Succeed => self.in_time(at, Duration::ZERO)?,
            Deed::Take(ms) => self.in_time(at, Duration::from_millis(ms))?,
            other => return Err(format!("{other:?} is no success")),
        }
        self.places[at] = Place::Ended(End::Succeeded);
        Ok(())
    }

    /// What an attempt comes to when it is not tried again.
    fn verdict(&self, at: usize, attempt: u32) -> Result<End, String> {
        let deed = self.deed(at, attempt)?;
        // Where the engine died in between, the record says only that it was told to end.
        let told = deed == Deed::Hang && self.places[at] == Place::Cut;
        demand(told || !self.retries(at, deed), || format!("{deed:?} is tried again"))?;
        self.in_time(at, if deed == Deed::Hang { TIMEOUT } else { Duration::ZERO })?;
        match deed {
            Deed::Fatal | Deed::Retryable | Deed::Hang => Ok(End::Failed),
            Deed::Unknown => Ok(End::Unknown),
            Deed::Succeed | Deed::Take(_) => Err(format!("{deed:?} is no failure")),
        }
    }

    fn pauses(&self, at: usize) -> bool {
        self.step(at).on_failure == OnFailure::Pause && !self.ending(at)
    }

    fn given_up(&mut self, at: usize, attempt: u32, end: End) -> Checked {
        let doubtful = matches!(self.places[at], Place::Asked | Place::Held { unknown: true });
        if doubtful && end == End::Unknown {
            // The end of the run does not tell what became of it.
            demand(self.ending(at), || "a person may still say what became of it".to_owned())?;
        } else {
            let verdict = self.verdict(at, attempt)?;
            demand(verdict == end, || format!("it is {verdict:?}"))?;
            demand(!self.pauses(at), || "it is held for an operator".to_owned())?;
        }
        self.places[at] = Place::Ended(end);
        Ok(())
    }

    fn held(&mut self, at: usize, attempt: u32) -> Checked {
        let verdict = self.verdict(at, attempt)?;
        demand(self.pauses(at), || "nobody is asked about it".to_owned())?;
        self.places[at] = Place::Held { unknown: verdict == End::Unknown };
        Ok(())
    }

    fn released(&mut self, at: usize) -> Checked {
        let ordered = self.orders[at].take() == Some(OperatorVerb::Retry);
        demand(ordered && matches!(self.places[at], Place::Held { .. }), || "nobody released it".to_owned())?;
        self.failures[at] = 0;
        self.places[at] = Place::Waiting { from: self.now, until: self.now, delay: Duration::ZERO };
        Ok(())
    }

    /// When an attempt that was told to end is given up, if it was told.
    fn dropped_at(&self, at: usize) -> Option<Duration> {
        let Place::Running { since, .. } = self.places[at] else { return None };
        let cancel = self.cancel.filter(|_| !self.step(at).last)?;
        let kill = self.kill.map(|kill| kill.max(since) + KILL_GRACE);
        let grace = cancel.max(since) + GRACE;
        Some(kill.map_or(grace, |kill| kill.min(grace)))
    }

    fn ended_by_cancel(&mut self, at: usize, confirmed: bool) -> Checked {
        match self.places[at] {
            Place::Running { since, .. } => {
                demand(self.cancelled(at), || "nobody cancelled it".to_owned())?;
                let told = self.cancel.map(|cancel| cancel.max(since));
                let when = if confirmed { told } else { self.dropped_at(at) };
                demand(when == Some(self.now), || format!("it ends at {when:?}"))?;
                let hangs = self.step(at).deed(self.attempts[at]) == Deed::Hang;
                demand(hangs == confirmed, || "what hangs ends when it is told to, and nothing else does".to_owned())?;
            }
            Place::Ready | Place::Waiting { .. } => demand(self.cancelled(at), || "nobody cancelled it".to_owned())?,
            Place::Held { unknown: false } => demand(self.ending(at), || "an operator may still come".to_owned())?,
            Place::Cut => demand(self.cancelled(at), || "nobody cancelled it".to_owned())?,
            other => return Err(format!("a cancel does not end it: {other:?}")),
        }
        self.places[at] = Place::Ended(End::Cancelled);
        Ok(())
    }

    fn skipped(&mut self, at: usize, why: &SkipReason) -> Checked {
        let fresh = self.places[at] == Place::Pending;
        let (allowed, why) = match why {
            SkipReason::When => (self.may_begin(at) && !self.step(at).wants, Why::When),
            SkipReason::Need { step } => {
                let broken =
                    |need: &(usize, Strictness)| name(need.0) == step.as_str() && self.satisfied(*need) == Some(false);
                (fresh && self.is_open(at) && self.step(at).needs.iter().any(broken), Why::Need)
            }
            SkipReason::Aborted => {
                let new = fresh || self.places[at] == Place::Ready;
                (new && !self.step(at).last && self.aborted(), Why::Aborted)
            }
            SkipReason::Cancelled => (fresh && self.cancelled(at), Why::Cancelled),
            SkipReason::ByHand => {
                let open = matches!(self.places[at], Place::Held { .. } | Place::Asked | Place::Cut);
                (open && self.orders[at].take() == Some(OperatorVerb::Skip), Why::ByHand)
            }
            other => return Err(format!("no rule speaks of {other:?}")),
        };
        demand(allowed, || "it is not to be skipped".to_owned())?;
        self.places[at] = Place::Ended(End::Skipped(why));
        Ok(())
    }

    /// Time passes: nothing that the rules demand may be left.
    fn rest(&self, until: Duration) -> Checked {
        if self.suspended || self.finished.is_some() {
            return Ok(());
        }
        for at in self.all() {
            let fault = self.left(at, until);
            demand(fault.is_none(), || {
                format!(
                    "{} is {:?} from {:?} to {until:?}: {}",
                    name(at),
                    self.places[at],
                    self.now,
                    fault.unwrap_or("")
                )
            })?;
        }
        let over = self.all().all(|at| self.end(at).is_some());
        demand(!over, || format!("everything is over at {:?}, and the run goes on", self.now))
    }

    /// What is left undone about a step while time passes.
    fn left(&self, at: usize, until: Duration) -> Option<&'static str> {
        let free = self.free(until);
        let fault = |holds: bool, what| holds.then_some(what);
        match self.places[at] {
            Place::Pending if !self.is_open(at) => None,
            Place::Pending if self.met(at) == Some(false) || self.ending(at) => Some("it is not skipped"),
            Place::Pending => fault(self.met(at) == Some(true) && free, "it does not begin"),
            Place::Ready if self.ending(at) => Some("it is not given up"),
            Place::Ready if self.in_doubt() || self.locked(at) => None,
            Place::Ready => fault(!self.locked_elsewhere(at, until.saturating_sub(LOOK)), "it does not start"),
            Place::Waiting { .. } if self.cancelled(at) => Some("it is not cancelled"),
            Place::Waiting { until: due, .. } => {
                let can = free && !self.locked(at) && !self.locked_elsewhere(at, until.saturating_sub(LOOK));
                fault(can && due < until, "its time has come")
            }
            Place::Held { .. } => fault(self.ending(at), "the run is ending"),
            Place::Cut => Some("it is not judged"),
            Place::Asked => fault(self.cancelled(at), "the run is ending"),
            Place::Running { since, .. } => self.overdue(at, since, until),
            Place::Ended(_) => None,
        }
    }

    fn overdue(&self, at: usize, since: Duration, until: Duration) -> Option<&'static str> {
        let own = match self.step(at).deed(self.attempts[at]) {
            Deed::Take(ms) => since + Duration::from_millis(ms),
            Deed::Hang if self.cancelled(at) => since,
            Deed::Hang => since + TIMEOUT,
            Deed::Succeed | Deed::Retryable | Deed::Fatal | Deed::Unknown => since,
        };
        if own < until {
            return Some("it has ended");
        }
        self.dropped_at(at).filter(|drop| *drop < until).map(|_| "it was told to end")
    }

    fn suspend(&mut self) -> Checked {
        let people = self.all().any(|at| matches!(self.places[at], Place::Held { .. } | Place::Asked));
        demand(people && self.running() == 0, || "nobody is waited for, or something runs".to_owned())?;
        for at in self.all().filter(|at| !matches!(self.places[*at], Place::Held { .. } | Place::Asked)) {
            let waits = matches!(self.places[at], Place::Waiting { .. });
            let goes_on = waits && !self.in_doubt() || self.left(at, self.now + Duration::from_nanos(1)).is_some();
            demand(!goes_on, || format!("{} can go on: {:?}", name(at), self.places[at]))?;
        }
        self.suspended = true;
        Ok(())
    }

    fn finish(&mut self, exit_code: u8) -> Checked {
        demand(self.all().all(|at| self.end(at).is_some()), || "not everything is over".to_owned())?;
        demand(exit_code == self.exit_code(), || format!("the exit code is {}", self.exit_code()))?;
        self.finished = Some(exit_code);
        Ok(())
    }

    /// An unknown end outweighs a failure, a failure a cancel, and what is tolerated or left out is an exception.
    fn exit_code(&self) -> u8 {
        let body = self.all().filter(|at| !self.step(*at).last);
        let required: Vec<End> =
            body.filter(|at| self.step(*at).on_failure != OnFailure::Continue).filter_map(|at| self.end(at)).collect();
        let any = |end: End| required.contains(&end);
        if any(End::Unknown) {
            return 11;
        }
        if any(End::Failed) || any(End::Skipped(Why::Aborted)) && self.cancel.is_none() {
            return 10;
        }
        if any(End::Cancelled) || any(End::Skipped(Why::Cancelled)) || any(End::Skipped(Why::Aborted)) {
            return 12;
        }
        if self.all().any(|at| self.is_exception(at)) { 5 } else { 0 }
    }

    fn is_exception(&self, at: usize) -> bool {
        match self.places[at] {
            Place::Ended(End::Succeeded | End::Skipped(Why::When)) => false,
            Place::Ended(_) => true,
            _ => false,
        }
    }
}
