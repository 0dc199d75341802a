//! The local machine as a host: programs run under supervisors, files are the file system's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_util::sync::CancellationToken;

use super::files::LocalFiles;
use super::program::find_program;
use super::user;
use crate::action::{BoxFuture, CommandOutput, CommandSpec, Fate, Files, Host, HostError, ReadFiles, ReadHost, Tie};
use crate::base::redact::Redactor;
use crate::host::{AttemptBinding, HostSettings};
use crate::supervisor::{AttemptFate, Launcher, Life, RunAs, Task, fate};

/// The name of the engine's own machine.
const NAME: &str = "local";

/// The local machine, reading only.
#[derive(Clone)]
pub struct LocalReader {
    settings: HostSettings,
    launcher: Launcher,
}

/// The local machine, bound to one attempt.
pub struct LocalHost {
    reader: LocalReader,
    attempt: AttemptBinding,
    /// How many programs it has run.
    programs: AtomicU32,
}

impl LocalHost {
    /// Opens the machine for checks.
    #[must_use]
    pub fn reader(settings: &HostSettings) -> Arc<dyn ReadHost> {
        Arc::new(LocalReader::new(settings))
    }

    /// Opens the machine for one attempt.
    #[must_use]
    pub fn bind(settings: &HostSettings, attempt: AttemptBinding) -> Arc<dyn Host> {
        Arc::new(Self { reader: LocalReader::new(settings), attempt, programs: AtomicU32::new(0) })
    }

    /// A file of its own for each program of the attempt: `1-pg_basebackup.stderr`.
    fn errors_of(&self, program: &str) -> PathBuf {
        let number = self.programs.fetch_add(1, Ordering::Relaxed) + 1;
        let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
        self.attempt.dir.join(format!("{number}-{name}.stderr"))
    }

    async fn supervise(&self, spec: CommandSpec, life: Life) -> Result<CommandOutput, HostError> {
        let mut task = self.reader.task(spec, life, &self.attempt.redactor)?;
        task.keep_stderr = Some(self.errors_of(&task.spec.program));
        let session = self.reader.launcher.launch(&task)?;
        drop(task);
        let reporter = Arc::clone(&self.attempt.reporter);
        session.wait(&self.attempt.cancel, &self.attempt.kill, &move |line| reporter.progress(line)).await
    }
}

impl LocalReader {
    pub(super) fn new(settings: &HostSettings) -> Self {
        Self { settings: settings.clone(), launcher: Launcher::new(settings.supervisor.clone()) }
    }

    pub(super) fn launcher(&self) -> &Launcher {
        &self.launcher
    }

    pub(super) fn task(&self, spec: CommandSpec, life: Life, redactor: &Redactor) -> Result<Task, HostError> {
        let run_as = self.run_as(&spec)?;
        Ok(Task {
            spec,
            life,
            run_as,
            grace: self.settings.grace,
            keep_stderr: None,
            redactor: redactor.clone(),
            search_path: self.settings.search_path.clone(),
        })
    }

    /// The user to become; `None` when it is the own one already.
    fn run_as(&self, spec: &CommandSpec) -> Result<Option<RunAs>, HostError> {
        let Some(name) = &spec.user else { return Ok(None) };
        let refused = |what: String| HostError::Spawn {
            program: spec.program.clone(),
            source: std::io::Error::new(std::io::ErrorKind::PermissionDenied, what),
        };
        let Some(user) = user::find(name, self)? else {
            return Err(refused(format!("there is no user `{name}`")));
        };
        let own = self.effective_uid();
        if user.uid == own {
            return Ok(None);
        }
        if own != 0 {
            return Err(refused(format!("only root can become user `{name}`")));
        }
        Ok(Some(user))
    }
}

impl ReadHost for LocalReader {
    fn name(&self) -> &str {
        NAME
    }

    fn read_files(&self) -> Arc<dyn ReadFiles> {
        Arc::new(LocalFiles)
    }

    fn find_program(&self, name: &str) -> Option<PathBuf> {
        find_program(name, &self.settings.search_path)
    }

    fn probe(&self, spec: CommandSpec) -> BoxFuture<'_, Result<CommandOutput, HostError>> {
        Box::pin(async move {
            let session = self.launcher.launch(&self.task(spec, Life::Probe, &self.settings.redactor)?)?;
            let never = CancellationToken::new();
            session.wait(&never, &never, &|_| {}).await
        })
    }

    fn user(&self, name: &str) -> Result<Option<(u32, u32)>, HostError> {
        Ok(user::find(name, self)?.map(|user| (user.uid, user.gid)))
    }

    fn effective_uid(&self) -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn fate(&self, dir: &Path) -> Result<Fate, HostError> {
        Ok(match fate(dir)? {
            AttemptFate::NeverStarted => Fate::NeverStarted,
            AttemptFate::Running(_) => Fate::Running,
            AttemptFate::Ended(result) => Fate::Ended(result),
            AttemptFate::Lost { program, alive } if alive.is_empty() => {
                Fate::Lost { why: format!("the process that watched `{program}` is gone without a record") }
            }
            AttemptFate::Lost { program, alive } => Fate::Unwatched {
                why: format!("the process that watched `{program}` is gone; {} unwatched", still_running(&alive)),
            },
        })
    }
}

fn still_running(pids: &[u32]) -> String {
    let named: Vec<String> = pids.iter().take(5).map(u32::to_string).collect();
    match pids.len() {
        1 => format!("process {} still runs", named.join(", ")),
        count @ 2..=5 => format!("{count} processes ({}) still run", named.join(", ")),
        count => format!("{count} processes ({} …) still run", named.join(", ")),
    }
}

impl ReadHost for LocalHost {
    fn name(&self) -> &str {
        NAME
    }

    fn read_files(&self) -> Arc<dyn ReadFiles> {
        Arc::new(LocalFiles)
    }

    fn find_program(&self, name: &str) -> Option<PathBuf> {
        self.reader.find_program(name)
    }

    fn probe(&self, spec: CommandSpec) -> BoxFuture<'_, Result<CommandOutput, HostError>> {
        Box::pin(async move {
            let task = self.reader.task(spec, Life::Probe, &self.attempt.redactor)?;
            let session = self.reader.launcher.launch(&task)?;
            session.wait(&self.attempt.cancel, &self.attempt.kill, &|_| {}).await
        })
    }

    fn user(&self, name: &str) -> Result<Option<(u32, u32)>, HostError> {
        self.reader.user(name)
    }

    fn effective_uid(&self) -> u32 {
        self.reader.effective_uid()
    }

    fn fate(&self, dir: &Path) -> Result<Fate, HostError> {
        self.reader.fate(dir)
    }
}

impl Host for LocalHost {
    fn files(&self) -> Arc<dyn Files> {
        Arc::new(LocalFiles)
    }

    fn run(&self, spec: CommandSpec, tie: Tie) -> BoxFuture<'_, Result<CommandOutput, HostError>> {
        let life = match tie {
            Tie::Engine => Life::Engine,
            Tie::Attempt => Life::Attempt { dir: self.attempt.dir.clone() },
        };
        Box::pin(self.supervise(spec, life))
    }

    /// What the starting program leaves running may go on writing to its output: it is thrown away.
    fn start_daemon(&self, spec: CommandSpec) -> BoxFuture<'_, Result<CommandOutput, HostError>> {
        Box::pin(self.supervise(spec, Life::Daemon))
    }

    fn adopt(&self, dir: &Path) -> BoxFuture<'_, Result<CommandOutput, HostError>> {
        let dir = dir.to_owned();
        Box::pin(async move {
            let reporter = Arc::clone(&self.attempt.reporter);
            let show = move |line| reporter.progress(line);
            match fate(&dir)? {
                AttemptFate::Running(running) => running.wait(&self.attempt.cancel, &self.attempt.kill, &show).await,
                AttemptFate::Ended(result) => result,
                AttemptFate::Lost { program, .. } => Err(HostError::Lost { program }),
                AttemptFate::NeverStarted => Err(HostError::Lost { program: dir.display().to_string() }),
            }
        })
    }

    fn as_read(&self) -> &dyn ReadHost {
        self
    }
}
