//! What commands are put together from: the environment, the state folder, the runtime.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use super::{Exit, Failure};
use crate::base::machine;
use crate::base::units::ByteSize;
use crate::engine::Presence;
use crate::event::Actor;
use crate::journal::{Leases, RootFacts, RunDir, Runs, RunsError, choose_root, probe_system_root};
use crate::port::JournalError;

/// Reads one variable of the environment: the only place in the command line that does.
#[expect(clippy::disallowed_methods, reason = "the command line's one home of the environment")]
pub fn environment_variable(name: &str) -> Option<String> {
    std::env::var_os(name).and_then(|value| value.into_string().ok())
}

/// Captures the whole environment, for secret providers.
#[expect(clippy::disallowed_methods, reason = "the command line's one home of the environment")]
pub fn environment() -> std::collections::BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Tells whether somebody is there to answer: a person at a terminal sees and types.
pub fn presence() -> Presence {
    let there = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if there { Presence::SomebodyThere } else { Presence::Nobody }
}

/// Chooses the folder of the history of runs; nothing is created.
pub fn state_root() -> Result<PathBuf, Failure> {
    let facts = RootFacts {
        explicit: environment_variable("RUNBOOK_STATE").map(PathBuf::from),
        system: probe_system_root(),
        xdg_state_home: environment_variable("XDG_STATE_HOME").map(PathBuf::from),
        home: environment_variable("HOME").map(PathBuf::from),
    };
    choose_root(&facts)
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()).help("set `RUNBOOK_STATE` to an absolute path"))
}

/// Opens the history of runs and creates what is missing.
pub fn runs() -> Result<Runs, Failure> {
    Runs::open(state_root()?).map_err(runs_failure)
}

/// Opens the history of runs if there is one; nothing is created.
pub fn existing_runs() -> Result<Option<Runs>, Failure> {
    let root = state_root()?;
    if root.join("runs").is_dir() { Runs::open(root).map(Some).map_err(runs_failure) } else { Ok(None) }
}

/// Finds a run by id, unique beginning, or `last`.
pub fn find_run(runs: &Runs, text: &str) -> Result<RunDir, Failure> {
    runs.find(text).map_err(runs_failure)
}

/// Everything that runs created and that has to be removed in the end.
pub fn leases(runs: &Runs) -> Result<Leases, Failure> {
    Leases::read(runs).map_err(runs_failure)
}

/// Turns an error of the history into an exit.
pub fn runs_failure(error: RunsError) -> Failure {
    let (exit, help) = match &error {
        RunsError::Unknown { suggestions, .. } => (Exit::Usage, listed(suggestions, "`runbook runs` lists them all")),
        RunsError::Ambiguous { matches, .. } => (Exit::Usage, listed(matches, "give more of the id")),
        RunsError::Live { .. } => {
            (Exit::Locked, "follow it with `runbook show RUN --follow`, end it with `runbook cancel RUN`".to_owned())
        }
        RunsError::File { .. } | RunsError::Ledger(_) | RunsError::Journal(_) => {
            let anew = "where nothing of the same databases runs, waits or was recovered on this machine, `RUNBOOK_STATE=/another/folder` before \
                        the command begins with a history, locks and freezes of its own";
            (Exit::Journal, format!("{}; {anew}", state_help()))
        }
    };
    let mut failure = Failure::new(exit, error.to_string()).help(help);
    if let Some(source) = std::error::Error::source(&error) {
        failure = failure.because(source);
    }
    failure
}

/// What to do where the state folder takes nothing: which one it is, and its room.
pub fn state_help() -> String {
    let Ok(root) = state_root() else { return "`RUNBOOK_STATE` must name an absolute path".to_owned() };
    let there = root.ancestors().find(|folder| folder.is_dir());
    let disk = there.and_then(|folder| rustix::fs::statvfs(folder).ok());
    let free = disk.map(|disk| format!(" ({} free)", ByteSize(disk.f_bavail * disk.f_frsize))).unwrap_or_default();
    format!("check space{free} and permissions of the state folder `{}`", root.display())
}

fn listed(runs: &[crate::base::RunId], otherwise: &str) -> String {
    if runs.is_empty() {
        return otherwise.to_owned();
    }
    let names: Vec<String> = runs.iter().map(|run| format!("`{run}`")).collect();
    format!("perhaps {}; {otherwise}", names.join(", "))
}

/// Turns a journal's error into an exit.
pub fn journal_failure(error: &JournalError) -> Failure {
    let mut failure = Failure::new(Exit::Journal, error.to_string());
    if let Some(source) = std::error::Error::source(error) {
        failure = failure.because(source);
    }
    failure.help("`runbook audit verify RUN` says what holds together; nothing was changed")
}

/// Who runs the command: the account, and where it sits.
pub fn actor() -> Actor {
    let name = ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| environment_variable(name))
        .filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| format!("uid {}", rustix::process::geteuid().as_raw()));
    let seat = match terminal() {
        Some(terminal) => format!("{name}@{} {terminal}", machine::name()),
        None => format!("{name}@{}", machine::name()),
    };
    Actor { name, from: seat }.as_text()
}

/// Who acts when a name was given: the account and its place are kept beside it.
pub fn actor_as(name: Option<&str>) -> Result<Actor, Failure> {
    let account = actor();
    match name.map(str::trim) {
        None => Ok(account),
        Some("") => {
            Err(Failure::new(Exit::Usage, "`--as` names nobody").help("write a name, or leave it out for the account"))
        }
        Some(name) => Ok(Actor { name: name.to_owned(), ..account }.as_text()),
    }
}

/// The terminal in front of which somebody sits.
fn terminal() -> Option<String> {
    let name = rustix::termios::ttyname(std::io::stdin(), Vec::new())
        .or_else(|_| rustix::termios::ttyname(std::io::stderr(), Vec::new()));
    name.ok().and_then(|name| name.into_string().ok())
}

/// The program's own path, for supervisors and for PostgreSQL's `restore_command`.
pub fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::new(Exit::Bug, "the program does not know its own path").because(&error))
}

/// What is executed as supervisor. On Linux this names the very program that runs now, also after its file
/// was replaced by an upgrade.
pub fn supervisor() -> Result<PathBuf, Failure> {
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() { Ok(own) } else { program() }
}

/// Runs a future to its end on a small runtime.
pub fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let runtime = runtime()?;
    let output = runtime.block_on(future);
    runtime.block_on(crate::store::deferred_cleanups());
    runtime.shutdown_background();
    Ok(output)
}

/// Runs a future to its end on a worker of a small runtime: it and the tasks it starts wake each other without
/// waking another thread, which for a run of many short steps is a good part of the time.
pub fn block_on_worker<F>(future: F) -> Result<F::Output, Failure>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let runtime = runtime()?;
    let ended = runtime.block_on(runtime.spawn(future));
    runtime.block_on(crate::store::deferred_cleanups());
    runtime.shutdown_background();
    ended.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => Failure::new(Exit::Bug, "the runtime ended before its task").because(&error),
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Bug, "the runtime cannot be started").because(&error))
}
