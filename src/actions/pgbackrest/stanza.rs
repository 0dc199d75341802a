//! A stanza: how pgBackRest is called for a database, and by whom.
//!
//! It runs as the server's user with a clean environment: what it needs stands in its own configuration, which is
//! also all that the server gives it when it archives. No secret is ever put on its command line.

use std::path::PathBuf;
use std::time::Duration;

use super::failure;
use super::view::{self, StanzaStatus};
use crate::action::{ActionError, CommandOutput, CommandSpec, ReadHost, RunContext, Tie};
use crate::actions::postgres::cluster::layout::{Cluster, Ground};
use crate::actions::postgres::cluster::owner::Owner;
use crate::actions::postgres::cluster::settings::shell_word;
use crate::pgformat::SegmentName;

/// The program.
pub(super) const PROGRAM: &str = "pgbackrest";
/// Nothing but the answer on standard output.
pub(super) const QUIET: &str = "--log-level-console=off";
/// Each file with how far it is.
pub(super) const TELLING: &str = "--log-level-console=detail";
/// How long a question may take: the repository may lie far away.
const ANSWERS_WITHIN: Duration = Duration::from_secs(300);
/// Where programs are found; also what a server that `pg_ctl` started has.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stanza of the inventory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stanza {
    /// Its name.
    pub(super) name: String,
    config: Option<PathBuf>,
    /// The repository that is read; `None` for all.
    pub(super) repo: Option<u32>,
    /// The folder of a throw-away cluster: nothing is left outside of it.
    apart: Option<PathBuf>,
    cluster: Cluster,
}

impl Stanza {
    /// Finds the stanza of a database.
    ///
    /// # Errors
    /// Fails when its entry names none.
    pub(super) fn of(cluster: &Cluster) -> Result<Self, ActionError> {
        let entry = cluster.entry.pgbackrest.as_ref().ok_or_else(|| {
            ActionError::fatal(format!("database `{}` has no stanza of pgBackRest", cluster.name))
                .help("add `pgbackrest: { stanza: NAME }` to its entry in the inventory")
        })?;
        let apart = match &cluster.ground {
            Ground::Own => None,
            Ground::Scratch(root) => Some(root.clone()),
        };
        let (name, config, repo) = (entry.stanza.clone(), entry.config.clone(), entry.repo);
        Ok(Self { name, config, repo, apart, cluster: cluster.clone() })
    }

    /// The words of a command: the options of the stanza, those of the command, the command itself, its arguments.
    pub(super) fn words(&self, (command, options): (&str, &[String]), arguments: &[&str]) -> Vec<String> {
        let mut words = vec![PROGRAM.to_owned()];
        words.extend(self.config.iter().map(|config| format!("--config={}", config.display())));
        // What lists or reads files of a repository takes no stanza.
        if !command.starts_with("repo-") {
            words.push(format!("--stanza={}", self.name));
        }
        // What it says is told apart from what it prints, whatever its version and its configuration are.
        words.push("--log-level-stderr=warn".to_owned());
        words.extend(options.iter().cloned());
        words.extend(self.apart_from(command));
        words.push(command.to_owned());
        words.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        words
    }

    /// What keeps the calls of a drill out of the way of production's: no log of theirs, no lock, no spool.
    fn apart_from(&self, command: &str) -> Vec<String> {
        let Some(root) = &self.apart else { return Vec::new() };
        let mut words = vec!["--log-level-file=off".to_owned()];
        if matches!(command, "restore" | "archive-get") {
            words.push(format!("--lock-path={}", root.join("lock").display()));
        }
        words
    }

    /// A call as the server's user.
    pub(super) fn call(&self, owner: &Owner, words: Vec<String>) -> CommandSpec {
        let mut words = words.into_iter();
        let mut spec = owner.command(words.next().unwrap_or_default()).args(words);
        spec.inherit_env = false;
        spec.dir = Some(PathBuf::from("/"));
        spec.env("PATH", SEARCH_PATH).env("LC_ALL", "C")
    }

    /// Asks for something and gives what it prints. Changes nothing.
    ///
    /// # Errors
    /// Fails as pgBackRest does, in its words, with what to do about it.
    pub(super) async fn ask(&self, host: &dyn ReadHost, words: Vec<String>) -> Result<Vec<u8>, ActionError> {
        let command = named(&words);
        let output = self.ended(host, words).await?;
        if !output.success() {
            return Err(failure::of(&command, &output));
        }
        if output.stdout_cut > 0 {
            return Err(ActionError::fatal(format!("the answer of `{command}` is too long")));
        }
        Ok(output.stdout)
    }

    /// Asks for something and gives its end, good or not.
    ///
    /// # Errors
    /// Fails when the program cannot be run.
    pub(super) async fn ended(&self, host: &dyn ReadHost, words: Vec<String>) -> Result<CommandOutput, ActionError> {
        let owner = Owner::of(&self.cluster, host)?;
        let mut spec = self.call(&owner, words);
        spec.timeout = Some(ANSWERS_WITHIN);
        host.probe(spec).await.map_err(|error| failure::unrun(&error))
    }

    /// Runs something to its end; what it says is shown as it comes.
    ///
    /// # Errors
    /// Fails as pgBackRest does, and when it is cancelled: its whole tree is ended then.
    pub(super) async fn run(&self, words: Vec<String>, cx: &RunContext) -> Result<CommandOutput, ActionError> {
        let command = named(&words);
        let owner = Owner::of(&self.cluster, cx.host.as_read())?;
        let ended = cx.host.run(self.call(&owner, words), Tie::Engine).await;
        if cx.cancel.is_cancelled() {
            return Err(ActionError::cancelled(format!("`{command}` was cancelled and ended")));
        }
        let output = ended.map_err(|error| failure::unrun(&error))?;
        if output.success() { Ok(output) } else { Err(failure::of(&command, &output)) }
    }

    /// What pgBackRest has of the stanza.
    ///
    /// # Errors
    /// Fails when it gives no answer that makes sense.
    pub(super) async fn look(&self, host: &dyn ReadHost) -> Result<StanzaStatus, ActionError> {
        let mut options = self.reading();
        options.extend([QUIET, "--output=json"].map(str::to_owned));
        let text = self.ask(host, self.words(("info", &options), &[])).await?;
        view::parse(&self.name, &text)
    }

    /// The same where another repository than that of the inventory is asked.
    pub(super) fn in_repository(self, repo: Option<u32>) -> Self {
        Self { repo: repo.or(self.repo), ..self }
    }

    /// What pgBackRest has of the stanza, and the stanza as far as it can be read: where a repository is not in order,
    /// the first that is. A server that asks them all would take the end of the living one's archive for a fault of the
    /// dead one's, and never end its recovery.
    ///
    /// # Errors
    /// Fails as [`Self::look`].
    pub(super) async fn readable(self, host: &dyn ReadHost) -> Result<Readable, ActionError> {
        let standing = self.look(host).await?;
        let Some(repo) = standing.first_sound().filter(|_| self.repo.is_none()) else {
            return Ok(Readable { stanza: self, standing, told: None });
        };
        let told = standing
            .unsound()
            .map(|unsound| format!("stanza `{}` is read from repository {repo} alone: {unsound}", standing.stanza));
        let stanza = self.in_repository(Some(repo));
        let standing = stanza.look(host).await?;
        Ok(Readable { stanza, standing, told })
    }

    /// The options of whatever reads.
    pub(super) fn reading(&self) -> Vec<String> {
        self.repo.iter().map(|repo| format!("--repo={repo}")).collect()
    }

    /// What the server fetches WAL with while it recovers in `pgdata`.
    ///
    /// pgBackRest ends with 1 for a segment that is not there, and with codes up to 125 for everything that went wrong.
    /// The server takes each of them for the end of the archive and opens with what came later missing, so all but 1
    /// become 126, which ends the recovery instead (facts 2.2.4). A standby only asks again: it gets them as they are.
    pub(super) fn restore_command(&self, program: &std::path::Path, waits: Waits) -> String {
        let mut options = self.reading();
        options.push(format!("--pg1-path={}", self.cluster.pgdata.display()));
        options.push(QUIET.to_owned());
        // What is fetched ahead lies in a spool that all servers of the stanza share.
        options.extend(self.apart.is_some().then(|| "--no-archive-async".to_owned()));
        let mut words = self.words(("archive-get", &options), &[]);
        words[0] = program.to_string_lossy().into_owned();
        let words: Vec<String> = words.iter().map(|word| shell_word(&word.replace('%', "%%"))).collect();
        let get = format!("{} %f \"%p\"", words.join(" "));
        match waits {
            Waits::AsStandby => get,
            Waits::Not => format!("{get}; code=$?; test $code -le 1 && exit $code; exit 126"),
        }
    }
}

/// A stanza that is read.
pub(super) struct Readable {
    /// The stanza, of the repositories that are read.
    pub(super) stanza: Stanza,
    /// What is there.
    pub(super) standing: StanzaStatus,
    /// Which repositories are left out, and why.
    pub(super) told: Option<String>,
}

/// Has a command of the server's give nothing behind a segment, nor of newer timelines: it is absent then. Without the
/// system's `expr` the recovery ends.
pub(super) fn within(get: String, through: Option<SegmentName>) -> String {
    let Some(through) = through else { return get };
    format!("LC_ALL=C expr \"x%f\" \"<=\" x{through} >/dev/null; case $? in 0) {get};; 1) exit 1;; *) exit 126;; esac")
}

/// The command among the words of a call, for messages.
fn named(words: &[String]) -> String {
    let command = words.iter().skip(1).find(|word| !word.starts_with("--"));
    format!("pgbackrest {}", command.map(String::as_str).unwrap_or_default())
}

/// Whether a server in recovery waits for WAL that is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// It goes on asking.
    AsStandby,
    /// It ends its recovery.
    Not,
}
