//! The local host in a folder of its own, and what tests ask of processes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runbook::action::{
    ActionError, BoxFuture, CheckContext, CommandOutput, CommandSpec, ErasedAction, Foreseen, Host, Interrupted, Mode,
    ReadHost, Reporter, RunContext, Secrets, Surroundings,
};
use runbook::base::Attempt;
use runbook::base::clock::{self, monotonic};
use runbook::base::redact::Redactor;
use runbook::base::secret::SecretText;
use runbook::event::Progress;
use runbook::host::{AttemptBinding, HostSettings, LocalHost};
use runbook::language::inventory::Inventory;
use tokio_util::sync::CancellationToken;

use super::recovery::Known;

/// Takes progress and remembers the lines.
#[derive(Default)]
pub struct Lines(pub Mutex<Vec<String>>);

impl Reporter for Lines {
    fn progress(&self, progress: Progress) {
        if let Progress::Output { line, .. } = progress {
            self.0.lock().unwrap().push(line);
        }
    }
    fn note(&self, message: String, _: serde_json::Value) {
        self.0.lock().unwrap().push(format!("note: {message}"));
    }
    fn register(&self, _: String, _: serde_json::Value) -> BoxFuture<'_, Result<(), ActionError>> {
        Box::pin(async { Ok(()) })
    }
    fn removed(&self, _: String) {}
}

/// A local host in a folder of its own.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub settings: HostSettings,
    pub cancel: CancellationToken,
    pub kill: CancellationToken,
    pub lines: Arc<Lines>,
    pub redactor: Arc<Redactor>,
}

impl Bench {
    pub fn new() -> Self {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_runbook"));
        let mut settings = HostSettings::new(binary, "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        settings.grace = Duration::from_secs(5);
        Self {
            dir: tempfile::tempdir().unwrap(),
            settings,
            cancel: CancellationToken::new(),
            kill: CancellationToken::new(),
            lines: Arc::default(),
            redactor: Arc::default(),
        }
    }

    pub fn grace(mut self, millis: u64) -> Self {
        self.settings.grace = Duration::from_millis(millis);
        self
    }

    pub fn secret(mut self, value: &str) -> Self {
        self.redactor = Arc::new(Redactor::new([SecretText::new(value.to_owned())]));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn attempt(&self) -> PathBuf {
        let dir = self.path("attempt");
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    pub fn host(&self) -> Arc<dyn Host> {
        let binding = AttemptBinding {
            dir: self.attempt(),
            cancel: self.cancel.clone(),
            kill: self.kill.clone(),
            reporter: Arc::clone(&self.lines) as Arc<dyn Reporter>,
            redactor: Arc::clone(&self.redactor),
        };
        LocalHost::bind(&self.settings, binding)
    }

    pub fn reader(&self) -> Arc<dyn ReadHost> {
        LocalHost::reader(&self.settings)
    }

    /// A bash script that runs in the bench's folder.
    pub fn bash(&self, script: &str) -> CommandSpec {
        let mut spec = CommandSpec::new("bash").args(["-c", script]);
        spec.dir = Some(self.dir.path().to_owned());
        spec
    }

    /// Reads the process number that a script left in a file.
    pub async fn pid(&self, name: &str) -> u32 {
        let path = self.path(name);
        until(|| std::fs::read_to_string(&path).ok()?.trim().parse().ok()).await
    }
}

/// Waits for a condition of another process; fails after a deadline.
pub async fn until<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = monotonic() + Duration::from_secs(20);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(monotonic() < deadline, "the condition never came true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat[stat.rfind(')').unwrap()..].starts_with(") Z")
}

/// Ends a process that a test left running on purpose.
pub fn end(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

pub fn text(output: &CommandOutput) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// Secrets of a run that has none.
struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, name: &str) -> Result<SecretText, ActionError> {
        Err(ActionError::fatal(format!("no secret `{name}` is declared")))
    }
}

fn no_store<T>(name: &str) -> Result<T, ActionError> {
    Err(ActionError::fatal(format!("no store `{name}` is declared")))
}

impl Bench {
    /// What every context tells.
    fn about(&self, inventory: Inventory) -> Surroundings {
        Surroundings {
            run: "20260128-143002-3fa9c1".parse().unwrap(),
            steps_of: "20260128-143002-3fa9c1".parse().unwrap(),
            mode: Mode::Real,
            environment: "production".to_owned(),
            inventory: Arc::new(inventory),
            scratch: self.path("scratch"),
            incident_at: clock::now(),
            began_at: clock::now(),
            secrets: Arc::new(NoSecrets),
            erasures: Arc::new(runbook::action::NoErasures),
        }
    }

    /// The context of an attempt.
    pub fn run_context(&self, inventory: Inventory) -> RunContext {
        RunContext {
            about: self.about(inventory),
            step: "step".parse().unwrap(),
            attempt: Attempt(1),
            key: "key".to_owned(),
            host: self.host(),
            stores: Arc::new(no_store),
            reporter: Arc::clone(&self.lines) as Arc<dyn Reporter>,
            cancel: self.cancel.clone(),
            timeout: None,
            attempt_dir: self.attempt(),
        }
    }

    /// The context of an attempt that has these secrets.
    pub fn run_context_with(&self, inventory: Inventory, secrets: BTreeMap<String, String>) -> RunContext {
        let cx = self.run_context(inventory);
        RunContext { about: Surroundings { secrets: Arc::new(Known(secrets)), ..cx.about }, ..cx }
    }

    /// The context of a check or a recovery.
    pub fn check_context(&self, inventory: Inventory) -> CheckContext {
        CheckContext {
            about: self.about(inventory),
            host: self.reader(),
            stores: Arc::new(no_store),
            ahead: false,
            changed_stores: BTreeSet::new(),
            foreseen: Foreseen::default(),
            actions_before: BTreeSet::new(),
        }
    }

    /// The attempt as a resumed run finds it.
    pub fn interrupted(&self) -> Interrupted {
        Interrupted {
            step: "step".parse().unwrap(),
            attempt: Attempt(1),
            key: "key".to_owned(),
            started_at: clock::now(),
            attempt_dir: self.attempt(),
        }
    }
}

/// An action by its name, as the engine holds it.
pub fn action(name: &str) -> Arc<dyn ErasedAction> {
    Arc::clone(runbook::actions::registry().get(name).unwrap())
}
