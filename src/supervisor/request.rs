//! What a supervisor is asked to do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::action::CommandSpec;
use crate::base::redact::Redactor;

/// How a program's tree is tied to the engine and to the end of its main process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Life {
    /// Outlives the engine. After success what it left running is left alone and recorded.
    Attempt {
        /// The attempt's folder; only one program ever starts in it.
        dir: PathBuf,
    },
    /// Ends with the engine. After success what it left running is left alone and recorded.
    Engine,
    /// Ends with the engine, and whatever the program leaves running is ended too.
    Probe,
    /// Starts a daemon: only the starting program is ever ended, the rest never.
    Daemon,
}

/// How hard a tree is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndLevel {
    /// TERM, and KILL after the grace.
    Terminate,
    /// KILL at once.
    Kill,
}

/// The user a program runs as, in numbers. It starts in `/` unless its task names a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAs {
    /// The name, for `USER` and `LOGNAME`.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of the user's own group.
    pub gid: u32,
    /// The numbers of all groups.
    pub groups: Vec<u32>,
    /// The home folder, for `HOME`.
    pub home: PathBuf,
}

/// A program to supervise.
#[derive(Debug, Clone)]
pub struct Task {
    /// The program.
    pub spec: CommandSpec,
    /// How its life is tied.
    pub life: Life,
    /// The user to become; `None` keeps the own one.
    pub run_as: Option<RunAs>,
    /// Time between TERM and KILL.
    pub grace: Duration,
    /// Where its standard error is kept for people; a program with an attempt's folder keeps it there anyway.
    pub keep_stderr: Option<PathBuf>,
    /// What is masked in its output.
    pub redactor: Redactor,
    /// The search path when the program's own environment has none.
    pub search_path: String,
}

/// A task as it goes over the socket. Holds secrets: never written to a file, never shown.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) program: String,
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) inherit_env: bool,
    pub(super) dir: Option<PathBuf>,
    pub(super) life: Life,
    pub(super) run_as: Option<RunAs>,
    pub(super) keep_stderr: Option<PathBuf>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) grace_ms: u64,
    pub(super) secrets: Vec<String>,
    pub(super) search_path: String,
}

impl Request {
    pub(super) fn of(task: &Task) -> Self {
        let spec = &task.spec;
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            program: spec.program.clone(),
            args: spec.args.clone(),
            env: spec.env.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect(),
            inherit_env: spec.inherit_env,
            dir: spec.dir.clone(),
            life: task.life.clone(),
            run_as: task.run_as.clone(),
            keep_stderr: task.keep_stderr.clone(),
            timeout_ms: spec.timeout.map(millis),
            grace_ms: millis(task.grace),
            secrets: task.redactor.values().iter().map(|value| value.reveal().to_owned()).collect(),
            search_path: task.search_path.clone(),
        }
    }
}
