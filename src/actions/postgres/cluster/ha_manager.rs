//! Programs that start, stop and promote a server by themselves: Patroni, repmgr, Pacemaker.
//!
//! One that goes on watching would start the server in the middle of a recovery, or promote a standby beside it. So
//! a recovery is refused until it is told to keep its hands off (facts 2.10.21).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::layout::Cluster;
use super::patroni::{self, Attention};
use super::script;
use crate::action::{ActionError, CommandOutput, CommandSpec, ReadFiles, ReadHost};

/// Where Pacemaker keeps what it looks after.
const CIB: &str = "/var/lib/pacemaker/cib/cib.xml";
const READ_BYTES: u64 = 8 << 20;

/// Something that stands against an action, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    /// What is so.
    pub(crate) what: String,
    /// What to do.
    pub(crate) help: String,
}

/// The programs that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HaManager {
    Patroni,
    Repmgr,
    Pacemaker,
}

impl HaManager {
    const ALL: [Self; 3] = [Self::Patroni, Self::Repmgr, Self::Pacemaker];

    /// The name of its process.
    fn process(self) -> &'static str {
        match self {
            Self::Patroni => "patroni",
            Self::Repmgr => "repmgrd",
            Self::Pacemaker => "pacemakerd",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Patroni => "pause it first (`patronictl pause --wait`), and resume it when this is done",
            Self::Repmgr => "pause it on every node (`repmgr service pause`) and stop `repmgrd` here first",
            Self::Pacemaker => "put it into maintenance first (`pcs property set maintenance-mode=true`)",
        }
    }
}

/// A running HA manager.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Running {
    manager: HaManager,
    pid: u32,
    args: Vec<String>,
}

/// Refuses to stop or to start a server that something else looks after.
///
/// # Errors
/// Fails with what looks after it, and when the host's processes cannot be listed.
pub(crate) async fn refuse(cluster: &Cluster, host: &dyn ReadHost) -> Result<(), ActionError> {
    match in_charge(cluster, host).await? {
        Some(fact) => Err(ActionError::fatal(fact.what).help(fact.help)),
        None => Ok(()),
    }
}

/// Says which program looks after the cluster and is not paused; `None` where nothing does, for a cluster that is
/// thrown away, and for a managed one.
///
/// # Errors
/// Fails when the host's processes cannot be listed.
pub(crate) async fn in_charge(cluster: &Cluster, host: &dyn ReadHost) -> Result<Option<Fact>, ActionError> {
    if cluster.is_scratch() || cluster.is_managed() {
        return Ok(None);
    }
    let files = host.read_files();
    for running in running(files.as_ref())? {
        let configuration = configuration(&running, files.as_ref());
        // One that has ended meanwhile looks after nothing, and where it worked cannot be seen any more.
        if configuration.is_none() && recognized(running.pid, files.as_ref()).as_ref() != Some(&running) {
            continue;
        }
        if !looks_after(&running, configuration.as_deref(), (&cluster.pgdata, files.as_ref())) {
            continue;
        }
        let help = match running.manager {
            HaManager::Patroni => {
                match patroni::attention(configuration.as_deref(), &cluster.pgdata, files.as_ref()).await {
                    Attention::Paused => continue,
                    Attention::Watching => running.manager.help().to_owned(),
                    Attention::Unknown { why } => {
                        format!(
                            "{}; whether it is paused cannot be seen ({why}): else stop it here",
                            running.manager.help()
                        )
                    }
                }
            }
            HaManager::Pacemaker if in_maintenance(host).await => continue,
            // What repmgr was told stands in the server's memory, and the server is down.
            HaManager::Repmgr | HaManager::Pacemaker => running.manager.help().to_owned(),
        };
        let name = running.manager.process();
        let what = format!(
            "`{name}` (process {}) looks after database `{}`: it would start or promote a server in the middle",
            running.pid, cluster.name
        );
        return Ok(Some(Fact { what, help }));
    }
    Ok(None)
}

fn running(files: &dyn ReadFiles) -> Result<Vec<Running>, ActionError> {
    let Ok(Some(_)) = files.facts(Path::new("/proc/self")) else { return Ok(Vec::new()) };
    let entries = files
        .list(Path::new("/proc"))
        .map_err(|error| ActionError::retryable("the processes of the host cannot be listed").because(&error))?;
    let pids = entries.iter().filter_map(|entry| entry.name.to_str()?.parse::<u32>().ok());
    Ok(pids.filter_map(|pid| recognized(pid, files)).collect())
}

fn recognized(pid: u32, files: &dyn ReadFiles) -> Option<Running> {
    let line = files.read(Path::new(&format!("/proc/{pid}/cmdline")), 64 << 10).ok()?;
    let args: Vec<String> =
        line.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
    let name = script::carried_out(&args)?;
    let manager = HaManager::ALL.into_iter().find(|one| name == one.process())?;
    Some(Running { manager, pid, args })
}

/// What it was told at its start, where it can be read.
fn configuration(running: &Running, files: &dyn ReadFiles) -> Option<String> {
    let path = match running.manager {
        HaManager::Pacemaker => Some(PathBuf::from(CIB)),
        HaManager::Patroni | HaManager::Repmgr => {
            let named = running.args.iter().skip(1).rev().map(PathBuf::from).find(|path| has_ending(path));
            // One that does not begin at the root counts from where the program works.
            named.map(|path| PathBuf::from(format!("/proc/{}/cwd", running.pid)).join(path))
        }
    };
    let bytes = files.read(&path?, READ_BYTES).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether it looks after this data directory. What its configuration does not say counts as yes.
fn looks_after(running: &Running, configuration: Option<&str>, (pgdata, files): (&Path, &dyn ReadFiles)) -> bool {
    let Some(text) = configuration else { return true };
    let places = [pgdata.to_owned(), files.canonical(pgdata).unwrap_or_else(|_| pgdata.to_owned())];
    let named = |place: &PathBuf| text.contains(place.to_string_lossy().trim_end_matches('/'));
    let silent = match running.manager {
        HaManager::Patroni => !text.contains("data_dir"),
        HaManager::Repmgr => !text.contains("data_directory"),
        HaManager::Pacemaker => false,
    };
    silent || places.iter().any(named)
}

fn has_ending(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml" || ending == "conf")
}

async fn in_maintenance(host: &dyn ReadHost) -> bool {
    let mut spec = CommandSpec::new("crm_attribute").args(["--query", "--quiet", "--name", "maintenance-mode"]);
    spec.timeout = Some(Duration::from_secs(20));
    let answer = host.probe(spec).await.ok().filter(CommandOutput::success);
    answer.is_some_and(|answer| String::from_utf8_lossy(&answer.stdout).trim() == "true")
}
