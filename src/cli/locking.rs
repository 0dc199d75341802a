//! The locks that keep two runs off the same thing: taken before anything is changed, held to the end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Exit, Failure, logs, wiring};
use crate::action::EffectClass;
use crate::base::{RunId, clock};
use crate::event::CancelLevel;
use crate::journal::{RunStatus, RunSummary, Runs, Verb, control};
use crate::lock::FileLocks;
use crate::plan::BoundPlan;
use crate::port::{Entered, Entrance, Entry, LockError, LockGuard, Locks as _};

/// For how long a run that was told to make room may take to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a lock is tried again meanwhile.
const EVERY: Duration = Duration::from_millis(200);

/// What is done about a live run that holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Courtesy {
    /// It is left alone.
    #[default]
    Yield,
    /// It is told to end, unless it replaces something itself.
    Preempt,
}

/// The guards of a run's locks; free when the last one who keeps them is gone.
pub type Guards = Arc<Mutex<Vec<Box<dyn LockGuard>>>>;

/// Lets go of everything in order, so that nobody takes this run for a dead one.
pub fn release(guards: &Guards) {
    let held = std::mem::take(&mut *guards.lock().unwrap_or_else(PoisonError::into_inner));
    held.into_iter().for_each(|guard| guard.release());
}

/// The locks of one run.
pub struct RunLocks {
    files: FileLocks,
    runs: Runs,
    plan: Arc<BoundPlan>,
    guards: Guards,
    /// What was not simply free, until the engine tells it.
    taken: Vec<Entered>,
    /// Since when the run waits in the engine.
    waiting: Option<Instant>,
}

/// Why a lock cannot be had now.
enum Obstacle {
    /// A live run holds it.
    Held { lock: String, holder: String, pid: u32 },
    /// The engine of the run that held it is gone, and a step of it runs on.
    StillUsed { lock: String, run: RunId, step: String },
    /// The lock cannot be used.
    Unusable(LockError),
}

impl RunLocks {
    /// Knows the locks of a plan; none is taken yet.
    pub fn of(runs: &Runs, plan: &Arc<BoundPlan>) -> Result<Self, Failure> {
        let files = FileLocks::open(runs.root())
            .map_err(|error| Failure::new(Exit::Journal, "the folder of locks cannot be used").because(&error))?;
        let (runs, plan) = (runs.clone(), Arc::clone(plan));
        Ok(Self { files, runs, plan, guards: Guards::default(), taken: Vec::new(), waiting: None })
    }

    /// Keeps what is held beyond the engine's end.
    pub fn guards(&self) -> Guards {
        Arc::clone(&self.guards)
    }

    /// Takes the locks before anything is changed. Those that may be queued for are left to the engine.
    ///
    /// # Errors
    /// Names who holds one of the others (exit 14).
    pub fn take(&mut self, courtesy: Courtesy) -> Result<(), Failure> {
        let asked_at = clock::monotonic();
        let mut asked: Vec<(RunId, String)> = Vec::new();
        loop {
            let obstacle = match self.try_all() {
                Ok(mut taken) => {
                    let waited_ms = millis(asked_at.elapsed());
                    taken.extend(asked.into_iter().map(|(run, lock)| {
                        let preempted = Some(run.to_string());
                        Entered { lock, over: None, preempted, waited_ms }
                    }));
                    self.taken = taken;
                    return Ok(());
                }
                Err(obstacle) => obstacle,
            };
            match (&obstacle, courtesy) {
                (Obstacle::Held { lock, holder, .. }, Courtesy::Preempt) => {
                    let holder = self.preempt(lock, holder, &mut asked)?;
                    if asked_at.elapsed() >= PATIENCE {
                        let message = format!("run `{holder}` was told to make room and still holds `{lock}`");
                        return Err(Failure::new(Exit::Locked, message).help(format!(
                            "`runbook show {holder} --follow` shows what it does; nothing was changed"
                        )));
                    }
                    wiring::block_on(async { tokio::time::sleep(EVERY).await })?;
                }
                (Obstacle::Held { lock, .. }, Courtesy::Yield) if self.plan.queued_locks.contains(lock) => {
                    return Ok(());
                }
                (Obstacle::Held { .. } | Obstacle::StillUsed { .. } | Obstacle::Unusable(_), _) => {
                    return Err(self.refusal(obstacle));
                }
            }
        }
    }

    /// Takes all locks or none; those that are not queued for come first.
    fn try_all(&self) -> Result<Vec<Entered>, Obstacle> {
        let mut guards = Vec::new();
        match self.try_each(&mut guards) {
            Ok(entered) => {
                *self.guards.lock().unwrap_or_else(PoisonError::into_inner) = guards;
                Ok(entered)
            }
            Err(obstacle) => {
                guards.into_iter().for_each(|guard| guard.release());
                Err(obstacle)
            }
        }
    }

    fn try_each(&self, guards: &mut Vec<Box<dyn LockGuard>>) -> Result<Vec<Entered>, Obstacle> {
        let queued = |name: &&String| self.plan.queued_locks.contains(*name);
        let names = self.plan.locks.iter().filter(|name| !queued(name)).chain(self.plan.locks.iter().filter(queued));
        let mut entered = Vec::new();
        for name in names {
            let unusable = |source: std::io::Error| Obstacle::Unusable(LockError::File { name: name.clone(), source });
            // A live holder is the usual obstacle, and is told without reading its journal.
            if let Some(held) = self.files.holder(name).map_err(unusable)? {
                return Err(Obstacle::Held { lock: name.clone(), holder: held.run, pid: held.pid });
            }
            let over = self.left_behind(name, unusable)?;
            match self.files.acquire(name, &self.plan.run) {
                Ok(guard) => guards.push(guard),
                Err(LockError::Held { name, holder, pid }) => {
                    return Err(Obstacle::Held { lock: name, holder, pid });
                }
                Err(error @ LockError::File { .. }) => return Err(Obstacle::Unusable(error)),
            }
            if let Some(over) = over {
                let (lock, over) = (name.clone(), Some(over.to_string()));
                entered.push(Entered { lock, over, preempted: None, waited_ms: 0 });
            }
        }
        Ok(entered)
    }

    /// Gives the dead run that held a lock last. A step outlives its engine, and the engine's locks do not: what a
    /// dead engine left running keeps others out.
    fn left_behind(
        &self,
        lock: &str,
        unusable: impl Fn(std::io::Error) -> Obstacle,
    ) -> Result<Option<RunId>, Obstacle> {
        let last = self.files.last_holder(lock).map_err(&unusable)?;
        let last = last.and_then(|holder| holder.run.parse::<RunId>().ok());
        let Some(run) = last.filter(|run| *run != self.plan.run) else { return Ok(None) };
        let dir = self.runs.dir(&run);
        let over = match RunSummary::of(&dir).status {
            RunStatus::Finished { .. } | RunStatus::Live => return Ok(None),
            RunStatus::Suspended => None,
            RunStatus::NeverStarted | RunStatus::Interrupted | RunStatus::Unread { .. } | RunStatus::Damaged { .. } => {
                Some(run.clone())
            }
        };
        match logs::running_step(&dir.attempts()).map_err(unusable)? {
            Some(step) => Err(Obstacle::StillUsed { lock: lock.to_owned(), run, step }),
            None => Ok(over),
        }
    }

    /// Tells the holder to end, once, if it only reads or writes; gives who it is.
    fn preempt(&mut self, lock: &str, holder: &str, asked: &mut Vec<(RunId, String)>) -> Result<RunId, Failure> {
        let refuse = |why: String| {
            Failure::new(Exit::Locked, why)
                .help(format!("`runbook show {holder} --follow` shows it; nothing was changed"))
        };
        let unknown = || refuse(format!("`{lock}` is locked by `{holder}`, which is no run of this history"));
        let run: RunId = holder.parse().map_err(|_| unknown())?;
        if asked.iter().any(|(known, _)| *known == run) {
            return Ok(run);
        }
        let dir = self.runs.dir(&run);
        let (theirs, _) = dir.plan().map_err(|_| unknown())?;
        if let Some(step) = theirs.steps.iter().find(|step| step.effects.class == EffectClass::Destroy) {
            let what = format!("step `{}` of run `{run}` (`{}`) replaces data", step.id, theirs.name);
            return Err(refuse(format!("`{lock}` is held and cannot be preempted: {what}")));
        }
        let reason = format!("preempted by run {} of {}", self.plan.run, self.plan.name);
        let verb = Verb::Cancel { actor: wiring::actor(), level: CancelLevel::Graceful, reason };
        control::send(&dir.control(), &verb)
            .map_err(|error| refuse(format!("run `{run}` cannot be told to make room")).because(&error))?;
        tell!("run {run} of {} holds `{lock}` and was told to make room; waiting for its end", theirs.name);
        asked.push((run.clone(), lock.to_owned()));
        Ok(run)
    }

    fn refusal(&self, obstacle: Obstacle) -> Failure {
        match obstacle {
            Obstacle::Held { lock, holder, pid } => {
                let who = self.describe(&lock, &holder, pid);
                Failure::new(Exit::Locked, format!("`{lock}` is locked by run `{holder}`{who}"))
                    .help(format!("`runbook show {holder} --follow` shows it; nothing was changed"))
            }
            Obstacle::StillUsed { lock, run, step } => {
                let message =
                    format!("`{lock}` is still used: step `{step}` of run `{run}` runs on after its engine ended");
                Failure::new(Exit::Locked, message).help(format!(
                    "`runbook resume {run}` waits for it, `runbook cancel {run}` first ends it; nothing was changed"
                ))
            }
            Obstacle::Unusable(error) => {
                let held = "what may still run keeps its lock until somebody knows: `runbook runs`, `runbook show RUN`";
                let help = format!("{}; {held}", wiring::state_help());
                Failure::new(Exit::Journal, error.to_string()).because(&error).help(help)
            }
        }
    }

    /// Says of a holder what its plan and its lock tell.
    fn describe(&self, lock: &str, holder: &str, pid: u32) -> String {
        let since = self.files.holder(lock).ok().flatten().filter(|known| known.run == holder);
        let since = since.map(|known| format!(" since {}", known.since.strftime("%F %T UTC"))).unwrap_or_default();
        let plan = holder.parse().ok().and_then(|run| self.runs.dir(&run).plan().ok());
        let plan = plan.map(|(plan, _)| format!(" of `{}`, started by {}", plan.name, plan.actor.name));
        format!("{}{since} (process {pid})", plan.unwrap_or_default())
    }
}

impl Entrance for RunLocks {
    fn enter(&mut self) -> Result<Entry, LockError> {
        let is_inside = !self.guards.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if is_inside || self.plan.locks.is_empty() {
            return Ok(Entry::Inside(std::mem::take(&mut self.taken)));
        }
        let since = *self.waiting.get_or_insert_with(clock::monotonic);
        match self.try_all() {
            Ok(over) => {
                let waited_ms = millis(since.elapsed());
                let entered = |lock: &String| Entered {
                    lock: lock.clone(),
                    over: over.iter().find(|entered| entered.lock == *lock).and_then(|entered| entered.over.clone()),
                    preempted: None,
                    waited_ms,
                };
                Ok(Entry::Inside(self.plan.locks.iter().map(entered).collect()))
            }
            Err(Obstacle::Held { lock, holder, .. }) => Ok(Entry::Held { lock, holder }),
            Err(Obstacle::StillUsed { lock, run, .. }) => Ok(Entry::Held { lock, holder: run.to_string() }),
            Err(Obstacle::Unusable(error)) => Err(error),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
