//! What keeps a server: starts it, stops it, knows where its configuration and its first words are.
//!
//! Everything that differs between the members of `via` stands here, one file each. To add one, write its file and its
//! arm in [`Cluster::keeper`].

mod pg_ctl;
mod systemd;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::layout::Cluster;
use super::live;
use super::overseer::Fact;
use super::server::Server;
use crate::action::{
    Access, ActionError, CommandSpec, DatabaseRef, EffectClass, Effects, Host, ParamFault, PlanContext, ReadFiles,
    ReadHost, Target,
};
use crate::language::inventory::Via;
use pg_ctl::ByPgCtl;
use systemd::BySystemd;

/// How long a server that was started directly may take until its first process is there.
const APPEARS_WITHIN: Duration = Duration::from_secs(15);
/// The same for a unit, which may run other programs first.
const UNIT_APPEARS_WITHIN: Duration = Duration::from_secs(120);

/// What keeps one server.
pub(crate) trait Keeper: Send + Sync {
    /// The program beside PostgreSQL's own that stops and starts it.
    fn program(&self) -> Option<&'static str>;

    /// Gives what starts the server and ends at once, ready or not. Makes the folder of its log where it wants one.
    ///
    /// # Errors
    /// Fails when that folder cannot be made.
    fn start(&self, server: &Server<'_>, host: &dyn Host) -> Result<CommandSpec, ActionError>;

    /// Gives what stops the server and waits for it.
    fn stop(&self, server: &Server<'_>, host: &dyn ReadHost) -> CommandSpec;

    /// What a person types to start it.
    fn start_by_hand(&self, cluster: &Cluster) -> String;

    /// What a person types to stop it.
    fn stop_by_hand(&self, cluster: &Cluster) -> String;

    /// Where the server's first words go.
    fn log(&self, cluster: &Cluster) -> PathBuf;

    /// How long it may take until the server's first process is there.
    fn appears_within(&self) -> Duration;

    /// Further words of the server's command line in a data directory, as a shell takes them.
    fn words(&self, pgdata: &Path) -> String;

    /// Where the server's configuration is.
    fn configuration(&self) -> Configuration;

    /// Adds the programs that it calls.
    fn named(&self, effects: Effects) -> Effects {
        self.program().into_iter().fold(effects, Effects::program)
    }
}

/// Where a server's configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Configuration {
    /// In its data directory.
    Inside,
    /// Only what starts it knows.
    Unsaid,
}

impl Cluster {
    /// What keeps its server.
    pub(crate) fn keeper(&self) -> Box<dyn Keeper + '_> {
        match &self.via {
            Via::PgCtl(settings) => Box::new(ByPgCtl(settings)),
            Via::Systemd(unit) => Box::new(BySystemd(unit)),
        }
    }

    /// Says when its server would find no configuration with the data that lies in `pgdata`: some systems keep it
    /// outside the data directory.
    pub(crate) fn lacks_configuration(&self, files: &dyn ReadFiles, pgdata: &Path) -> Option<Fact> {
        if self.is_scratch() {
            return None;
        }
        match self.keeper().configuration() {
            Configuration::Unsaid => None,
            Configuration::Inside => match files.facts(&pgdata.join("postgresql.conf")) {
                Ok(Some(_)) => None,
                Ok(None) | Err(_) => Some(Fact {
                    what: "the backup holds no `postgresql.conf`: its server keeps it outside the data directory"
                        .to_owned(),
                    help: "add `options: \"-c config_file=…\"` under `via: { pg_ctl: … }`".to_owned(),
                }),
            },
        }
    }
}

/// The effects of stopping or starting the server of a database.
///
/// # Errors
/// Fails when the inventory has no such database.
pub(crate) fn effects(database: &DatabaseRef, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
    let cluster = Cluster::of(database, cx.inventory, cx.scratch)
        .map_err(|error| vec![ParamFault::new("/database", error.to_string())])?;
    let effects = cluster.keeper().named(Effects::of(EffectClass::Write));
    Ok(effects.target(Access::Write, Target::Database { name: cluster.name }))
}

/// Tells a postmaster whose pid file is gone, and which no program finds any more, to stop; `None` where there is a pid
/// file or no postmaster.
fn by_signal(server: &Server<'_>, files: &dyn ReadFiles) -> Option<CommandSpec> {
    if live::PidFile::read(files, &server.cluster.pgdata).is_some() {
        return None;
    }
    let inside = live::processes(&server.cluster.pgdata, files);
    let postmaster = inside.iter().find(|pid| parent(**pid, files).is_none_or(|up| !inside.contains(&up)))?;
    Some(server.owner.command("kill").args(["-INT".to_owned(), postmaster.to_string()]))
}

fn parent(pid: u32, files: &dyn ReadFiles) -> Option<u32> {
    let stat = files.read(Path::new(&format!("/proc/{pid}/stat")), 4096).ok()?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    stat.rsplit_once(") ")?.1.split_whitespace().nth(1)?.parse().ok()
}

/// A program in a clean environment: no secret of the engine's own reaches the server.
fn clean(mut spec: CommandSpec) -> CommandSpec {
    spec.inherit_env = false;
    spec.dir = Some(PathBuf::from("/"));
    spec.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LC_MESSAGES", "C")
}
