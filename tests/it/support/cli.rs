//! The real binary with a state folder and a working folder of its own, both gone when it is dropped.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something holds; panics with `what` when it never does.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A script that says it began and runs until the gate is open, two minutes at most.
pub fn gated(began: &Path, gate: &Path) -> String {
    format!(
        "touch '{}'; for _ in $(seq 2400); do if test -e '{}'; then exit 0; fi; sleep 0.05; done; exit 99",
        began.display(),
        gate.display()
    )
}

/// One user of the program: a state folder, a working folder, an environment.
pub struct Cli {
    dir: tempfile::TempDir,
    vars: Vec<(String, String)>,
    spawned: AtomicU32,
}

impl Cli {
    /// An empty working folder and no history.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("rbcli").tempdir_in("/tmp").expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        for folder in ["work", "said"] {
            fs::create_dir(dir.path().join(folder)).expect("a folder");
        }
        Self { dir, vars: Vec::new(), spawned: AtomicU32::new(0) }
    }

    /// With a runbook called `runbook.yaml`.
    pub fn with(runbook: &str) -> Self {
        let cli = Self::new();
        cli.file("runbook.yaml", runbook);
        cli
    }

    /// Sets a variable of the program's environment.
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Everything of this user.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A place in the working folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Writes a file of the working folder.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(&path, text).expect("a file");
        path
    }

    /// Reads a file of the working folder; empty when it is not there.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runbook"));
        command.args(args).current_dir(self.path("")).stdin(Stdio::null());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.dir()).env("USER", "tester").env("RUNBOOK_STATE", self.state());
        command.envs(self.vars.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the program to its end.
    pub fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Ran {
        let output = self.command(args).output().expect("the program starts");
        Ran {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts the program and comes back at once.
    pub fn spawn<A: AsRef<OsStr>>(&self, args: &[A]) -> Live {
        let number = self.spawned.fetch_add(1, Ordering::Relaxed);
        let said = self.dir().join("said");
        let [out, err] = ["out", "err"].map(|name| said.join(format!("{number}.{name}")));
        let mut command = self.command(args);
        command.stdout(File::create(&out).expect("a file")).stderr(File::create(&err).expect("a file"));
        Live { child: command.spawn().expect("the program starts"), out, err }
    }

    /// The folders of all runs, oldest first.
    pub fn runs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.state().join("runs")).into_iter().flatten().flatten();
        let visible = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
        let mut runs: Vec<PathBuf> = visible.map(|entry| entry.path()).collect();
        runs.sort();
        runs
    }

    /// The folder of the only run.
    #[track_caller]
    pub fn only_run(&self) -> PathBuf {
        match self.runs().as_slice() {
            [one] => one.clone(),
            several => panic!("one run is expected, not {several:?}"),
        }
    }

    /// The id of the only run.
    #[track_caller]
    pub fn id(&self) -> String {
        self.only_run().file_name().expect("a name").to_string_lossy().into_owned()
    }

    /// The whole lines of the only run's journal.
    pub fn journal(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.only_run().join("journal.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The only run as `show --json` tells it.
    #[track_caller]
    pub fn shown(&self) -> Value {
        self.run(&["show", "last", "--json"]).ends(0).json()
    }

    /// The status of a step of the only run.
    #[track_caller]
    pub fn status(&self, step: &str) -> String {
        let shown = self.shown();
        let steps = shown["steps"].as_array().expect("steps");
        let found =
            steps.iter().find(|found| found["id"] == step).unwrap_or_else(|| panic!("no `{step}` in {shown:#}"));
        found["status"].as_str().unwrap_or_else(|| panic!("no status in {found:#}")).to_owned()
    }
}

/// Every file below a folder with its size, mode, time of change and content.
pub fn listing(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let mut lines = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            let facts = entry.path().symlink_metadata().expect("metadata");
            let content = if facts.is_file() { fs::read(entry.path()).unwrap_or_default() } else { Vec::new() };
            lines.push(format!(
                "{} {:o} {} {}.{} {}",
                entry.path().display(),
                facts.mode(),
                facts.len(),
                facts.mtime(),
                facts.mtime_nsec(),
                runbook::base::Digest::of(&content)
            ));
            if facts.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    lines.sort();
    lines
}

/// Processes whose command line names a folder.
pub fn processes_of(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&*folder.to_string_lossy())).collect()
}

/// How the program ended, and what it said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Demands an exit code.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Demands words on standard error.
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(self.err.contains(words), "`{words}` is missing in stderr:\n{}\nstdout:\n{}", self.err, self.out);
        self
    }

    /// Demands words on standard output.
    #[track_caller]
    pub fn prints(self, words: &str) -> Self {
        assert!(self.out.contains(words), "`{words}` is missing in stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Reads standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in stdout:\n{}", self.out))
    }
}

/// The program while it runs; killed when it is dropped.
pub struct Live {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Live {
    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("the program lives");
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said on standard error so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// What it wrote to standard output so far.
    pub fn printed(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// Tells whether it still runs.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Ran {
        until("the program ends", || !self.lives());
        self.ended()
    }

    /// Kills it as a crash would; tells whether it was still running.
    pub fn kill(mut self) -> bool {
        let lived = self.lives();
        let _ = self.child.kill();
        self.ended().code.is_none() && lived
    }

    fn ended(&mut self) -> Ran {
        let status = self.child.wait().expect("a child");
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        Ran { code: status.code(), out: read(&self.out), err: read(&self.err) }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
