//! The demo's cluster: made, filled, killed and destroyed by PostgreSQL's own programs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::{Exit, Failure, wiring};
use crate::action::{ActionError, BoxFuture, CommandOutput, CommandSpec, Host, Reporter, Tie};
use crate::base::redact::Redactor;
use crate::event::Progress;
use crate::host::{self, AttemptBinding, HostSettings};

/// The demo's folder with its cluster, on a socket of its own.
pub struct Cluster {
    home: PathBuf,
    host: Arc<dyn Host>,
    way_out: Arc<dyn Host>,
    bin: PathBuf,
    /// The user the server runs as; `None` when that is us.
    user: Option<String>,
    cancel: CancellationToken,
    interrupted: Arc<AtomicBool>,
}

/// Says nothing: the demo tells its story itself.
struct Silent;

impl Reporter for Silent {
    fn progress(&self, _: Progress) {}
    fn note(&self, _: String, _: serde_json::Value) {}
    fn register(&self, _: String, _: serde_json::Value) -> BoxFuture<'_, Result<(), ActionError>> {
        Box::pin(async { Ok(()) })
    }
    fn removed(&self, _: String) {}
}

impl Cluster {
    /// Finds PostgreSQL's programs and prepares to work below `home`.
    pub fn new(home: &Path, user: Option<String>, interrupted: Arc<AtomicBool>) -> Result<Self, Failure> {
        let cancel = CancellationToken::new();
        let host = bind(&home.join("processes"), cancel.clone())?;
        // The way out must work after an interrupt, too.
        let way_out = bind(&home.join("way-out"), CancellationToken::new())?;
        let bin = programs(host.as_ref())?;
        Ok(Self { home: home.to_owned(), host, way_out, bin, user, cancel, interrupted })
    }

    /// The data directory.
    pub fn pgdata(&self) -> PathBuf {
        self.home.join("data")
    }

    /// A program of the server, as its user.
    fn program(&self, name: &str) -> CommandSpec {
        let mut spec = CommandSpec::new(self.bin.join(name).to_string_lossy());
        spec.user.clone_from(&self.user);
        spec.dir = Some(self.home.clone());
        spec.timeout = Some(Duration::from_secs(300));
        spec
    }

    /// Runs a program and demands success; an interrupt ends it.
    fn run(&self, spec: CommandSpec) -> Result<CommandOutput, Failure> {
        let program = spec.program.clone();
        let ran = wiring::block_on(async {
            let run = self.host.run(spec, Tie::Engine);
            tokio::pin!(run);
            loop {
                tokio::select! {
                    ran = &mut run => break ran,
                    () = tokio::time::sleep(Duration::from_millis(100)) => {
                        if self.interrupted.load(Ordering::Relaxed) {
                            self.cancel.cancel();
                        }
                    }
                }
            }
        })?;
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Failure::new(Exit::Cancelled, "the demo was interrupted"));
        }
        let output = ran.map_err(|error| failed(&format!("`{program}` cannot be run"), &error))?;
        if output.success() {
            return Ok(output);
        }
        let mut failure = Failure::new(Exit::Failed, format!("`{program}` failed"));
        failure.causes = output.tail(10);
        Err(failure)
    }

    /// Makes the cluster, its WAL going to the store through `runbook wal push`.
    pub fn create(&self, program: &Path, config: &Path) -> Result<(), Failure> {
        let pgdata = self.pgdata();
        let initdb = self.program("initdb").args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D"]);
        self.run(initdb.arg(pgdata.to_string_lossy()))?;
        let settings = format!(
            "port = {PORT}\nlisten_addresses = ''\nunix_socket_directories = '{}'\nshared_buffers = 128MB\n\
             max_wal_size = 1GB\nwal_level = replica\narchive_mode = on\narchive_timeout = 60\n\
             archive_command = '\"{}\" wal push --config \"{}\" %p'\n",
            self.home.display(),
            program.display(),
            config.display(),
        );
        let conf = pgdata.join("postgresql.conf");
        let text = std::fs::read_to_string(&conf).map_err(|error| failed("postgresql.conf cannot be read", &error))?;
        #[expect(clippy::disallowed_methods, reason = "a throw-away cluster")]
        std::fs::write(&conf, text + &settings).map_err(|error| failed("postgresql.conf cannot be written", &error))
    }

    /// Starts the server and waits until it answers.
    pub fn start(&self) -> Result<(), Failure> {
        let spec = self.program("pg_ctl").args(["-w", "-t", "60", "-D"]).arg(self.pgdata().to_string_lossy()).arg("-l");
        self.run(spec.arg(self.home.join("server.log").to_string_lossy()).arg("start")).map(drop)
    }

    /// Runs SQL and gives what it prints, columns separated by `|`.
    pub fn sql(&self, text: &str) -> Result<String, Failure> {
        let mut spec =
            self.program("psql").args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres"]);
        spec = spec.arg("-h").arg(self.home.to_string_lossy()).arg("-p").arg(PORT.to_string()).args(["-f", "-"]);
        spec.stdin = text.as_bytes().to_vec();
        let output = self.run(spec)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The server's process, by its pid file.
    fn postmaster(&self) -> Option<rustix::process::Pid> {
        let text = std::fs::read_to_string(self.pgdata().join("postmaster.pid")).ok()?;
        rustix::process::Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
    }

    fn is_running(&self) -> bool {
        self.postmaster().is_some_and(|pid| is_alive(&process(pid)))
    }

    /// Kills the server as a crash would, and waits until it is gone.
    pub fn kill(&self) -> Result<(), Failure> {
        let Some(pid) = self.postmaster() else {
            return Err(Failure::new(Exit::Failed, "the demo's server is not running"));
        };
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)
            .map_err(|error| failed("the server cannot be killed", &error))?;
        let deadline = crate::base::clock::monotonic() + Duration::from_secs(20);
        let proc = process(pid);
        wiring::block_on(async {
            while is_alive(&proc) && crate::base::clock::monotonic() < deadline {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    }

    /// Removes the data directory.
    pub fn destroy(&self) -> Result<(), Failure> {
        std::fs::remove_dir_all(self.pgdata()).map_err(|error| failed("the data directory cannot be removed", &error))
    }

    /// Ends whatever still runs here, also after an interrupt.
    pub fn stop(&self) -> Result<(), Failure> {
        if !self.is_running() {
            return Ok(());
        }
        let stop = self.program("pg_ctl").args(["-w", "-m", "immediate", "-D"]).arg(self.pgdata().to_string_lossy());
        let stopped = wiring::block_on(self.way_out.start_daemon(stop.arg("stop")))?;
        match stopped {
            Ok(output) if output.success() || !self.is_running() => Ok(()),
            Ok(output) => {
                let mut failure = Failure::new(Exit::Failed, "the demo's server cannot be stopped");
                failure.causes = output.tail(5);
                Err(failure)
            }
            Err(error) => Err(failed("the demo's server cannot be stopped", &error)),
        }
    }
}

/// The port in the socket's name; the folder is our own, so it cannot meet another server's.
pub const PORT: u16 = 5432;

/// This machine, its programs ending when `cancel` fires.
fn bind(dir: &Path, cancel: CancellationToken) -> Result<Arc<dyn Host>, Failure> {
    let settings = HostSettings::new(wiring::supervisor()?, wiring::environment_variable("PATH").unwrap_or_default());
    std::fs::create_dir_all(dir).map_err(|error| failed("the demo's folder cannot be made", &error))?;
    let attempt = AttemptBinding {
        dir: dir.to_owned(),
        cancel,
        kill: CancellationToken::new(),
        reporter: Arc::new(Silent),
        redactor: Arc::new(Redactor::default()),
    };
    host::bind("local", &settings, attempt).map_err(|error| failed("this machine cannot be used", &error))
}

fn process(pid: rustix::process::Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()))
}

fn is_alive(proc: &Path) -> bool {
    let state = std::fs::read_to_string(proc.join("stat")).unwrap_or_default();
    state.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')) && proc.exists()
}

/// Finds the folder of PostgreSQL's server programs, the newest version first.
fn programs(host: &dyn Host) -> Result<PathBuf, Failure> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for (root, tail) in [("/usr/lib/postgresql", "bin"), ("/usr/local/lib/postgresql", "bin")] {
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            if let Some(version) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                found.push((version, entry.path().join(tail)));
            }
        }
    }
    found.sort();
    if let Some((_, bin)) = found.into_iter().rev().find(|(_, bin)| bin.join("initdb").is_file()) {
        return Ok(bin);
    }
    let on_path = host.find_program("initdb").and_then(|path| Some(path.canonicalize().ok()?.parent()?.to_owned()));
    on_path.ok_or_else(|| {
        Failure::new(Exit::Refused, "PostgreSQL's server programs (`initdb`, `postgres`) are not installed")
            .help("Debian, Ubuntu: apt-get install postgresql · Fedora: dnf install postgresql-server · macOS: brew install postgresql@17; or `make demo`")
    })
}

fn failed(message: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(Exit::Failed, message).because(error)
}
