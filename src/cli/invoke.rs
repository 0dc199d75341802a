//! Carries a bound plan out: preflight, confirmation, locks, journal, engine, ledger, report, summary.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::again::Again;
use super::amend::Amendment;
use super::capabilities::LocalCapabilities;
use super::exit::told;
use super::locking::{Courtesy, RunLocks, release};
use super::screen::{self, Face};
use super::signals::LiveControl;
use super::{
    Exit, Failure, aftermath, ahead, attest, confirm, earlier, freeze, notifier, prompt, reap, restored, scratch,
    sighted, superseded, undone, wiring,
};
use crate::action::{ActionError, Registry};
use crate::base::{Digest, StepId, machine};
use crate::engine::{
    Answer, Capabilities, Ending, Engine, EngineError, Left, Presence, Resume, Seeded, Start, foresee,
};
use crate::event::{Event, EventKind, FORMAT, Outcome, RunHeader};
use crate::host::{HostSettings, SecretCommand};
use crate::journal::{ControlDir, RunDir, RunLock, Runs, audit};
use crate::language::inventory::Inventory;
use crate::lock::FileLocks;
use crate::plan::BoundPlan;
use crate::port::{Entrance, Journal, SystemClock};
use crate::report::{html, summary};
use crate::state::RunState;
use crate::vault::{NoPrompt, Prompt, Sources, TerminalPrompt, Vault};

/// What every way of running needs.
pub struct Invocation {
    /// The actions.
    pub registry: Registry,
    /// The history of runs.
    pub runs: Runs,
    /// What is shown.
    pub face: Face,
    /// The word given with `--confirm`.
    pub confirm: Option<String>,
    /// What is done about a live run that holds a lock.
    pub courtesy: Courtesy,
    /// Whether somebody is there to answer.
    pub presence: Presence,
}

/// How a run went.
pub struct Carried {
    /// The run's folder.
    pub dir: RunDir,
    /// The frozen plan.
    pub plan: Arc<BoundPlan>,
    /// How it ended.
    pub ending: Ending,
}

impl Invocation {
    /// An invocation of this program.
    pub fn new(face: Face, confirm: Option<String>) -> Result<Self, Failure> {
        Ok(Self {
            registry: crate::actions::registry(),
            runs: wiring::runs()?,
            face,
            confirm,
            courtesy: Courtesy::Yield,
            presence: wiring::presence(),
        })
    }

    /// Starts a new run and carries it to its end.
    ///
    /// # Errors
    /// Refuses before the first step (exit 4, 14), and fails when the journal does (exit 15).
    pub fn fresh(&self, plan: BoundPlan) -> Result<Carried, Failure> {
        self.seeded(plan, Vec::new())
    }

    /// Starts a new run that builds on an earlier one.
    ///
    /// # Errors
    /// As [`Invocation::fresh`]; also when the earlier run was undone meanwhile (exit 4).
    pub fn seeded(&self, plan: BoundPlan, seeds: Vec<EventKind>) -> Result<Carried, Failure> {
        let plan = Arc::new(plan);
        let rest = Arc::new(rest(&plan, &seeds)?);
        let hands = hands(&plan, self.runs.dir(&plan.run).attempts(), self.face)?;
        let missing = missing_secrets(&rest, &hands);
        for (name, error) in &missing {
            tell!("refused: {}\n  help: provide the secret `{name}` and try again", told(error));
        }
        let facts = ahead::judge(&ahead::look(&rest, &self.registry, &hands)?, &Again::of_plan(&plan))?;
        if !missing.is_empty() {
            return Err(Failure::new(Exit::Refused, "a secret has no value; nothing was changed"));
        }
        // What is left behind was agreed to when it was created, and `reap` asks on its own.
        if plan.mode == crate::action::Mode::Real && !reap::is_reaping(&plan) {
            confirm::demand(&rest, self.confirm.as_deref(), &facts)?;
        }
        freeze::refuse(&self.runs, &plan, self.presence)?;
        let locks = self.locks(&plan)?;
        let _origin = reap::hold(&self.runs, &plan)?;
        if let Some(origin) = &plan.origin
            && earlier::seeds(&self.runs, &plan, origin)? != seeds
        {
            let message = format!("another run has changed what is left of run `{}`; nothing was changed", origin.run);
            return Err(Failure::new(Exit::Refused, message).help("try again"));
        }
        let created = self.runs.create(&plan).map_err(wiring::runs_failure)?;
        let start = begin(&plan, created.plan, seeds);
        let opened = Opened { dir: created.dir, plan, journal: Box::new(created.journal), hands };
        self.drive(opened, start, RunState::default(), (Some(locks), created.lock))
    }

    /// Goes on with a run that another engine left, from here on by another plan if one is given.
    ///
    /// # Errors
    /// Fails when that plan does not fit what has begun (exit 4), when the run is live (exit 14), when an answer fits no question (exit 2), when the journal is broken (exit 15).
    pub fn resume(
        &self,
        dir: RunDir,
        answers: BTreeMap<StepId, Answer>,
        with: Option<&Amendment>,
    ) -> Result<Carried, Failure> {
        let lock = dir.lock().map_err(wiring::runs_failure)?;
        let (plan, digest) = dir.plan().map_err(|error| wiring::journal_failure(&error))?;
        let opened = dir.resume_journal(&lock).map_err(|error| wiring::journal_failure(&error))?;
        let state = fold(&opened.events)?;
        if let (Some((outcome, ..)), Some(step)) = (&state.finished, answers.keys().next()) {
            let message =
                format!("run `{}` has ended ({}): nothing is asked about step `{step}`", dir.id(), name_of(*outcome));
            return Err(Failure::new(Exit::Usage, message).help("to go on after a failure, start a new run"));
        }
        if let (Some((outcome, ..)), Face::People) = (&state.finished, self.face) {
            let (id, how) = (dir.id(), name_of(*outcome));
            tell!(
                "run `{id}` had ended before ({how}): nothing is left to be resumed. A run that was ended before its plan was"
            );
            tell!("written left nothing behind: start it again. How `{id}` ended:");
        }
        let seeds = self.left_to_seed(&plan, &opened.events, &state)?;
        let amended = with.map(|with| with.apply((&plan, &state), &dir, &lock)).transpose()?;
        let (plan, amended) = amended.map_or((plan, None), |(plan, event)| (plan, Some(event)));
        let plan = Arc::new(plan);
        // A finished run changes nothing any more, so it needs no lock on what it once changed.
        let locks = if state.finished.is_some() { None } else { Some(self.locks(&plan)?) };
        let _origin = if state.finished.is_none() { reap::hold(&self.runs, &plan)? } else { None };
        if state.finished.is_none() {
            superseded::refuse(&self.runs, &dir, &plan)?;
            freeze::refuse(&self.runs, &plan, self.presence)?;
        }
        let hands = hands(&plan, dir.attempts(), self.face)?;
        let start = if opened.events.is_empty() {
            // Whoever created the run may have died before it was anchored.
            self.runs.ledger().start(dir.id(), digest).map_err(|error| wiring::runs_failure(error.into()))?;
            begin(&plan, digest, seeds)
        } else {
            Start::Resume(Box::new(Resume {
                events: opened.events,
                actor: wiring::actor(),
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                cut_bytes: None,
                answers,
                seeds,
                amended,
            }))
        };
        let opened = Opened { dir, plan, journal: Box::new(opened.journal), hands };
        self.drive(opened, start, state, (locks, lock))
    }

    /// What a run that was cut off at its very start still takes from an earlier one.
    fn left_to_seed(&self, plan: &BoundPlan, events: &[Event], state: &RunState) -> Result<Vec<EventKind>, Failure> {
        // An amended plan is not the one that the seeds were held against.
        let amended = events.iter().any(|event| matches!(event.kind, EventKind::PlanAmended { .. }));
        match &plan.origin {
            Some(origin) if state.finished.is_none() && !amended => match earlier::seeds(&self.runs, plan, origin) {
                // They were written in one round: with one of them there, all are.
                Err(_) if state.steps.values().any(|step| step.seeded_from.is_some()) => Ok(Vec::new()),
                found => found,
            },
            Some(_) | None => Ok(Vec::new()),
        }
    }

    /// Takes the run's locks, or leaves those that may be waited for to the engine.
    fn locks(&self, plan: &Arc<BoundPlan>) -> Result<RunLocks, Failure> {
        let mut locks = RunLocks::of(&self.runs, plan)?;
        locks.take(self.courtesy)?;
        Ok(locks)
    }

    fn drive(
        &self,
        opened: Opened,
        start: Start,
        state: RunState,
        (locks, lock): (Option<RunLocks>, RunLock),
    ) -> Result<Carried, Failure> {
        let Opened { dir, plan, journal, hands } = opened;
        let guards = locks.as_ref().map(RunLocks::guards);
        let entrance = locks.map(|locks| Box::new(locks) as Box<dyn Entrance>);
        let (mut sinks, answers) = prompt::attended(self.face, &plan, state);
        let outstanding = notifier::start((&dir, &plan), (&self.registry, &hands), notifier::past(&start), &mut sinks);
        let (registry, control, presence) = (self.registry.clone(), ControlDir::new(dir.control()), self.presence);
        let engine_plan = Arc::clone(&plan);
        let locks = FileLocks::open(self.runs.root())
            .map_err(|error| Failure::new(Exit::Journal, "the folder of locks cannot be used").because(&error))?;
        let ran = wiring::block_on_worker(async move {
            let engine = Engine {
                plan: engine_plan,
                registry,
                journal,
                sinks,
                clock: Arc::new(SystemClock),
                // Listens to signals, for which it must be made inside the runtime.
                control: Box::new(LiveControl::new(control, answers)?),
                capabilities: hands,
                locks: Arc::new(locks),
                presence,
                entrance,
            };
            Ok::<_, Failure>(engine.run(start).await)
        })??;
        notifier::finish(outstanding, ran.as_ref().ok().map(|ending| ending.how));
        let ending = ran.map_err(|error| engine_failure(&error, &dir))?;
        if ending.how == Left::Finished {
            self.conclude(&dir, &plan, &ending)?;
            guards.iter().for_each(release);
        }
        drop((guards, lock));
        Ok(Carried { dir, plan, ending })
    }

    /// Anchors the end in the ledger and writes the report; both may be missing after a crash and are completed here.
    pub(super) fn conclude(&self, dir: &RunDir, plan: &BoundPlan, ending: &Ending) -> Result<(), Failure> {
        // The history is let go before the report reads it again.
        let last = dir.read().map_err(|error| wiring::journal_failure(&error))?.events.pop();
        if let Some(last) = &last {
            self.runs.ledger().finish(last).map_err(|error| {
                Failure::new(Exit::Journal, "the ledger cannot be written; the run itself is complete").because(&error)
            })?;
        }
        scratch::clear(&self.runs, plan, &ending.state)?;
        // A report can be made again from the journal: its failure neither hides the run's outcome nor changes it.
        if let Err(failure) = write_report(dir, plan, &ending.state) {
            tell!("warning: {}: {}", failure.message, failure.causes.join(": "));
            tell!("  help: `runbook report {} --html -o FILE` writes it elsewhere", dir.id());
        }
        if let Some(last) = &last {
            attest::prove(&self.runs, dir, plan, last);
            restored::keep_all(plan, &ending.state);
            sighted::keep_all(plan, &ending.state);
            undone::lift(&self.runs, plan, &ending.state);
        }
        Ok(())
    }

    /// Tells how the run ended, for people.
    pub fn summary(&self, carried: &Carried) {
        if self.face == Face::People {
            let report = Some(carried.dir.report()).filter(|path| path.is_file());
            let places = summary::Places {
                run_dir: Some(carried.dir.path().to_owned()),
                report,
                inventories: Some(Again::inventories(&carried.plan)),
                ..summary::Places::default()
            };
            tell!("\n{}", summary::render(&carried.plan, &carried.ending.state, &places, screen::palette()));
            aftermath::tell(&self.runs, &carried.plan, &carried.ending.state);
        }
    }
}

/// The first event of a run, with what it takes from an earlier one.
fn begin(plan: &BoundPlan, digest: Digest, seeds: Vec<EventKind>) -> Start {
    let header = header(plan, digest);
    match plan.origin {
        Some(_) => Start::Seeded(Box::new(Seeded { header, seeds })),
        None => Start::Fresh(Box::new(header)),
    }
}

/// The plan with only those steps that a run with these seeds may come to make.
fn rest(plan: &BoundPlan, seeds: &[EventKind]) -> Result<BoundPlan, Failure> {
    let foreseen = foresee(plan, &header(plan, Digest::default()), seeds)
        .map_err(|error| Failure::new(Exit::Journal, "the earlier run cannot be built on").because(&error))?;
    let mut rest = plan.clone();
    rest.steps.retain(|step| foreseen.may_make(plan, step));
    Ok(rest)
}

/// The engine's hands for a plan. `attempts` is where attempts keep their files.
pub fn hands(plan: &BoundPlan, attempts: PathBuf, face: Face) -> Result<Arc<LocalCapabilities>, Failure> {
    let (vault, state) = (vault(&plan.inventory, face)?, wiring::state_root()?);
    Ok(Arc::new(LocalCapabilities::new(plan, (attempts, &state), settings()?, vault)))
}

/// What programs are started with.
pub fn settings() -> Result<HostSettings, Failure> {
    Ok(HostSettings::new(wiring::supervisor()?, wiring::environment_variable("PATH").unwrap_or_default()))
}

/// The secrets of an inventory; nothing is fetched yet.
pub fn vault(inventory: &Inventory, face: Face) -> Result<Arc<Vault>, Failure> {
    let command = SecretCommand::new(&settings()?);
    let prompt: Box<dyn Prompt> = match face {
        Face::People => Box::new(TerminalPrompt),
        Face::Json => Box::new(NoPrompt),
    };
    let sources = Sources {
        environment: wiring::environment(),
        prompt,
        command: Box::new(move |argv: &[String]| command.run(argv)),
        warn: Box::new(|error| tell!("warning: {}; another source is asked", told(error))),
    };
    Ok(Arc::new(Vault::new(inventory.secrets.clone(), sources)))
}

/// Fetches every secret the plan needs and gives those that have no value, with what the provider said.
pub fn missing_secrets(plan: &BoundPlan, hands: &LocalCapabilities) -> Vec<(String, ActionError)> {
    let names: BTreeSet<&String> = plan.steps.iter().flat_map(|step| &step.secrets).collect();
    names.into_iter().filter_map(|name| Some((name.clone(), hands.secret(name).err()?))).collect()
}

struct Opened {
    dir: RunDir,
    plan: Arc<BoundPlan>,
    journal: Box<dyn Journal>,
    hands: Arc<LocalCapabilities>,
}

impl Carried {
    /// The code the process ends with.
    pub fn exit(&self) -> Exit {
        exit_of(self.ending.exit_code)
    }
}

/// An outcome as the journal writes it.
fn name_of(outcome: Outcome) -> String {
    serde_json::to_value(outcome).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Maps a run's code to the frozen list.
pub fn exit_of(code: u8) -> Exit {
    [
        Exit::Success,
        Exit::Usage,
        Exit::Invalid,
        Exit::Refused,
        Exit::Exceptions,
        Exit::Failed,
        Exit::FailedUnknown,
        Exit::Cancelled,
        Exit::Suspended,
        Exit::Locked,
        Exit::Journal,
        Exit::Objective,
    ]
    .into_iter()
    .find(|exit| *exit as u8 == code)
    .unwrap_or(Exit::Bug)
}

/// Writes the HTML report beside the journal.
pub fn write_report(dir: &RunDir, plan: &BoundPlan, state: &RunState) -> Result<(), Failure> {
    let text = html_report(dir, plan, state);
    #[expect(clippy::disallowed_methods, reason = "the report can be written again from the journal")]
    std::fs::write(dir.report(), text).map_err(|error| {
        Failure::new(Exit::Journal, "the report cannot be written; the run itself is complete").because(&error)
    })
}

/// Renders the HTML report of a run.
pub fn html_report(dir: &RunDir, plan: &BoundPlan, state: &RunState) -> String {
    let verdict = audit::verify_run(dir);
    let head = html::AuditHead { events: verdict.events, last_hash: verdict.head, plan: verdict.plan };
    html::render(plan, state, &super::logs::Attempts::of(dir), &head)
}

/// What is known when a run of a plan starts.
pub fn header(plan: &BoundPlan, digest: Digest) -> RunHeader {
    RunHeader {
        format: FORMAT,
        name: plan.name.clone(),
        mode: plan.mode,
        environment: plan.environment.clone(),
        actor: plan.actor.clone(),
        pid: std::process::id(),
        host: machine::name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        plan: digest,
        incident_at: plan.incident_at,
        locks: Some(plan.locks.iter().cloned().collect()),
        origin: plan.origin.clone(),
    }
}

fn engine_failure(error: &EngineError, dir: &RunDir) -> Failure {
    let failure = Failure::new(exit_of(error.exit_code()), error.to_string());
    let failure = match std::error::Error::source(error) {
        Some(source) => failure.because(source),
        None => failure,
    };
    match error {
        EngineError::Journal(_) | EngineError::History(_) => {
            failure.help(format!("make the journal writable again, then `runbook resume {}`", dir.id()))
        }
        EngineError::Lock(_) => failure.help(format!("check the state folder, then `runbook resume {}`", dir.id())),
        EngineError::Secret { .. } => failure.help("provide the secret and try again; nothing was changed"),
        EngineError::Action { .. } => failure.help("use the version of `runbook` that made the plan"),
        EngineError::Answer { .. } => failure.help(format!("`runbook show {}` says which steps ask", dir.id())),
    }
}

/// Tells, without keeping them, the events of a run.
pub fn fold(events: &[Event]) -> Result<RunState, Failure> {
    RunState::fold(events)
        .map_err(|error| Failure::new(Exit::Journal, "the journal does not tell a possible run").because(&error))
}
