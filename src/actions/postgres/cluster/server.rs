//! Stops and starts a server by what keeps it, and finds its programs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::container::ServerHost;
use super::layout::Cluster;
use super::live;
use super::owner::Owner;
use super::service_manager::Runs;
use crate::action::{ActionError, CommandSpec, Host, ReadFiles, ReadHost, RunContext, Tie};
use crate::base::clock;
use crate::language::inventory::Via;

/// How long a stopped server may take to be gone after its stop command said so.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// How long what keeps its log may take to answer.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// Folders that packages put the programs of a major version into.
const FOLDERS: [&str; 4] = [
    "/usr/lib/postgresql/{}/bin",
    "/usr/pgsql-{}/bin",
    "/usr/local/pgsql-{}/bin",
    "/opt/homebrew/opt/postgresql@{}/bin",
];

/// What puts a full backup and its increments together, from PostgreSQL 17 on.
pub(crate) const COMBINE: &str = "pg_combinebackup";

/// The programs of one major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Finds the programs of the version that a data directory is of.
    ///
    /// # Errors
    /// Fails when there are none, naming where they were looked for.
    pub(crate) fn of(cluster: &Cluster, major: &str, host: &dyn ReadHost) -> Result<Self, ActionError> {
        if let Some(installed) = Self::installed(cluster, major, host) {
            return Ok(installed);
        }
        let found = host.find_program("pg_ctl").and_then(|path| path.parent().map(Path::to_owned));
        found.map(|folder| Self { folder }).ok_or_else(|| {
            ActionError::fatal(format!("the programs of PostgreSQL {major} are not on host `{}`", host.name()))
                .help("install the server package of that version, or set `bin` of the database in the inventory")
        })
    }

    /// The programs of that very version: those that the entry names, else where packages put them.
    pub(crate) fn installed(cluster: &Cluster, major: &str, host: &dyn ReadHost) -> Option<Self> {
        let is_there = |folder: &PathBuf| host.find_program(&folder.join("postgres").to_string_lossy()).is_some();
        let packaged = || FOLDERS.iter().map(|pattern| PathBuf::from(pattern.replace("{}", major))).find(is_there);
        cluster.entry.bin.clone().or_else(packaged).map(|folder| Self { folder })
    }

    /// The programs as the search path finds them, for a server whose version nothing tells any more.
    pub(crate) fn of_any_version(cluster: &Cluster) -> Self {
        Self { folder: cluster.entry.bin.clone().unwrap_or_default() }
    }

    /// The path of one of them.
    pub(crate) fn path(&self, program: &str) -> String {
        self.folder.join(program).to_string_lossy().into_owned()
    }

    /// Says that increments cannot be put together here, and what to install; `None` where they can.
    pub(crate) fn cannot_combine(&self, major: &str, host: &dyn ReadHost) -> Option<(String, String)> {
        let program = self.path(COMBINE);
        host.find_program(&program).is_none().then(|| {
            let fact = format!("`{program}` is not there, which puts incremental backups together");
            let help = format!(
                "install the server package of PostgreSQL {major} on this machine (Debian: `postgresql-{major}`, RPMs of the PGDG: \
                 `postgresql{major}-server`)"
            );
            (fact, help)
        })
    }

    /// Refuses programs of another major version: they cannot read the data.
    ///
    /// # Errors
    /// Fails when `postgres --version` cannot be run or tells another version.
    pub(crate) async fn verify(&self, major: &str, host: &dyn ReadHost) -> Result<(), ActionError> {
        let program = self.path("postgres");
        let mut spec = CommandSpec::new(&program).args(["--version"]);
        spec.timeout = Some(Duration::from_secs(20));
        let output = host.probe(spec).await.map_err(|error| failed(&program).because(&error))?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if version_of(&text) == Some(major) {
            return Ok(());
        }
        let fact = format!("`{program}` is `{text}`, but the data is of version {major}");
        Err(ActionError::fatal(fact).help("set `bin` of the database in the inventory"))
    }
}

/// The same cluster with the folder where packages have put the programs of its version, for a command that a person types: no
/// search path has that folder as a rule. Where it is not there the search path is left to tell.
pub(crate) fn with_programs(cluster: &Cluster, files: &dyn ReadFiles) -> Cluster {
    let mut found = cluster.clone();
    if cluster.entry.bin.is_none()
        && !cluster.is_contained()
        && let Ok(major) = major(files, &cluster.pgdata)
    {
        let is_there = |folder: &PathBuf| matches!(files.facts(&folder.join("pg_ctl")), Ok(Some(_)));
        found.entry.bin = FOLDERS.iter().map(|pattern| PathBuf::from(pattern.replace("{}", &major))).find(is_there);
    }
    found
}

/// The major version in what a program answers to `--version`: `postgres (PostgreSQL) 15.18`.
pub(crate) fn version_of(text: &str) -> Option<&str> {
    let number = text.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()
}

/// Reads the major version of a data directory.
///
/// # Errors
/// Fails when it has no `PG_VERSION`.
pub(crate) fn major(files: &dyn ReadFiles, pgdata: &Path) -> Result<String, ActionError> {
    let bytes = files
        .read(&pgdata.join("PG_VERSION"), 64)
        .map_err(|error| ActionError::fatal(format!("`{}` is no data directory", pgdata.display())).because(&error))?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// A server with all that is needed to stop and start it.
pub(crate) struct Server<'a> {
    /// The cluster.
    pub(crate) cluster: &'a Cluster,
    /// Who runs it.
    pub(crate) owner: Owner,
    /// Its programs.
    pub(crate) programs: Programs,
    /// Further options of the server's command line.
    pub(crate) options: Vec<String>,
}

impl<'a> Server<'a> {
    /// Takes hold of a cluster's server, with the programs of its version; of one whose data is gone with those that
    /// the search path finds.
    ///
    /// # Errors
    /// Fails when its user or its programs cannot be found.
    pub(crate) fn of(cluster: &'a Cluster, host: &dyn ReadHost) -> Result<Self, ActionError> {
        let (owner, programs) = match cluster.service_manager().runs() {
            Runs::InContainer => (Owner::engine(host), Programs::of_any_version(cluster)),
            Runs::Here => {
                let programs = match major(host.read_files().as_ref(), &cluster.pgdata) {
                    Ok(version) => Programs::of(cluster, &version, host)?,
                    Err(_) => Programs::of_any_version(cluster),
                };
                (Owner::of(cluster, host)?, programs)
            }
        };
        Ok(Self { cluster, owner, programs, options: Vec::new() })
    }

    /// Refuses programs of another version than the data, where it is they that start the server: it could be stopped and not
    /// started again. A unit or a container starts its own.
    ///
    /// # Errors
    /// Fails as [`Programs::verify`], and names the folder of the programs that the server runs by, where it runs.
    pub(crate) async fn verify(&self, host: &dyn ReadHost) -> Result<(), ActionError> {
        match &self.cluster.via {
            Via::PgCtl(_) => {}
            Via::Systemd(_) | Via::PgCtlcluster(_) | Via::Compose(_) | Via::Managed(_) => return Ok(()),
        }
        let files = host.read_files();
        let Ok(version) = major(files.as_ref(), &self.cluster.pgdata) else { return Ok(()) };
        let Err(error) = self.programs.verify(&version, host).await else { return Ok(()) };
        let running = live::PidFile::read(files.as_ref(), &self.cluster.pgdata)
            .and_then(|file| files.read_link(Path::new(&format!("/proc/{}/exe", file.pid))).ok())
            .filter(|program| program.file_name().is_some_and(|name| name == "postgres"));
        Err(match running.as_deref().and_then(Path::parent) {
            Some(folder) => error.help(format!(
                "the server that runs there has its own in `{0}`: set `bin: {0}` of the database in the inventory",
                folder.display()
            )),
            None => error,
        })
    }

    /// Starts the server and returns as soon as it was started, ready or not. It outlives the run. A container that is gone
    /// is made anew first.
    ///
    /// # Errors
    /// Fails when the starting program fails, and when the data of its container lies elsewhere than the inventory says:
    /// nothing is started then.
    pub(crate) async fn start(&self, host: &dyn Host) -> Result<(), ActionError> {
        ServerHost::made(self.cluster, host).await?;
        let spec = self.cluster.service_manager().start(self, host)?;
        let program = spec.program.clone();
        let output = host
            .start_daemon(self.cluster.scratch_settings.around(spec, host.as_read()))
            .await
            .map_err(|error| failed(&program).because(&error))?;
        if output.success() {
            return Ok(());
        }
        Err(failed(&program).process(output.exit_code, output.tail(20)))
    }

    /// Says where a server that was started here writes, where whoever kept it before may have had it write elsewhere:
    /// `pg_ctl` is told a file at each start.
    pub(crate) fn tell_log(&self, cx: &RunContext) {
        let is_own = self.cluster.is_scratch() || self.cluster.side.is_some();
        match &self.cluster.via {
            Via::PgCtl(_) if !is_own => {
                let (name, log) = (&self.cluster.name, self.cluster.service_manager().log(self.cluster));
                let message = format!(
                    "the server of `{name}` was started and writes to `{}` what its own `logging_collector` does not take; \
                     `via.pg_ctl.log` of its entry names another file",
                    log.display()
                );
                cx.reporter.note(message, serde_json::json!({ "log": log }));
            }
            Via::PgCtl(_) | Via::Systemd(_) | Via::PgCtlcluster(_) | Via::Compose(_) | Via::Managed(_) => {}
        }
    }

    /// Stops the server and waits until every sign of it is gone.
    ///
    /// # Errors
    /// Fails when it does not end; then the signs that are left are named.
    pub(crate) async fn stop(&self, host: &dyn Host) -> Result<(), ActionError> {
        let spec = self.cluster.service_manager().stop(self, host.as_read())?;
        let program = spec.program.clone();
        let output = host.run(spec, Tie::Engine).await.map_err(|error| failed(&program).because(&error))?;
        let gone = self.wait_gone(host).await;
        if gone.is_err() && !output.success() {
            return Err(failed(&program).process(output.exit_code, output.tail(20)));
        }
        gone
    }

    async fn wait_gone(&self, host: &dyn Host) -> Result<(), ActionError> {
        let files = host.read_files();
        let started = clock::monotonic();
        loop {
            let signs = live::signs(self.cluster, files.as_ref()).await?;
            if signs.is_empty() {
                return Ok(());
            }
            if started.elapsed() > GONE_WITHIN {
                let list: Vec<String> = signs.iter().map(ToString::to_string).collect();
                let fact = format!("the server of `{}` was stopped, but {}", self.cluster.name, list.join("; "));
                return Err(ActionError::retryable(fact));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The last lines that the server wrote, wherever it writes them.
    pub(crate) async fn last_words(&self, host: &dyn ReadHost) -> Vec<String> {
        let Some(spec) = self.cluster.service_manager().last_words(host) else {
            return self.log_tail(host.read_files().as_ref());
        };
        let told = host.probe(CommandSpec { timeout: Some(TOLD_WITHIN), ..spec }).await;
        let text = told.map(|told| String::from_utf8_lossy(&told.stdout).into_owned()).unwrap_or_default();
        text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
    }

    /// The last lines that the server wrote into its files.
    pub(crate) fn log_tail(&self, files: &dyn ReadFiles) -> Vec<String> {
        let mut logs = vec![self.cluster.service_manager().log(self.cluster)];
        if let Ok(entries) = files.list(&self.cluster.pgdata.join("log")) {
            let newest = entries.iter().rev().find(|entry| entry.name.to_string_lossy().starts_with("postgresql"));
            logs.extend(newest.map(|entry| self.cluster.pgdata.join("log").join(&entry.name)));
        }
        let tails = logs.iter().filter_map(|path| files.read(path, 16 << 20).ok());
        let texts: Vec<String> = tails.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect();
        let lines: Vec<&str> = texts.iter().flat_map(|text| text.lines()).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(20)..].iter().map(|line| (*line).to_owned()).collect()
    }
}

fn failed(program: &str) -> ActionError {
    ActionError::retryable(format!("`{program}` failed"))
}
