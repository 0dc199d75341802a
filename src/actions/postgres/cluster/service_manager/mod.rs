//! What keeps a server: starts it, stops it, knows where its configuration and its first words are.
//!
//! Everything that differs between the members of `via` stands here, one file each. To add one, write its file and its
//! arm in [`Cluster::service_manager`].

mod compose;
mod managed;
mod pg_ctl;
mod pg_ctlcluster;
mod systemd;
mod wish;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ha_manager::Fact;
use super::layout::Cluster;
use super::live;
use super::server::Server;
use super::settings;
use crate::action::{
    Access, ActionError, CommandSpec, DatabaseRef, EffectClass, Effects, Host, ParamFault, PlanContext, ReadFiles,
    ReadHost, Target,
};
use crate::language::inventory::Via;
use compose::ByCompose;
use managed::ByProvider;
use pg_ctl::ByPgCtl;
use pg_ctlcluster::ByPgCtlcluster;
use systemd::BySystemd;
pub(crate) use wish::Wish;

/// No configuration file is larger.
const CONFIGURATION_BYTES: u64 = 16 << 20;
/// How long a server that was started directly may take until its first process is there.
const APPEARS_WITHIN: Duration = Duration::from_secs(15);
/// The same for a unit, which may run other programs first.
const UNIT_APPEARS_WITHIN: Duration = Duration::from_secs(120);

/// What keeps one server.
pub(crate) trait ServiceManager: Send + Sync {
    /// The program beside PostgreSQL's own that stops and starts it.
    fn program(&self) -> Option<&'static str>;

    /// Gives what starts the server and ends at once, ready or not. Makes the folder of its log where it wants one.
    ///
    /// # Errors
    /// Fails when that folder cannot be made, and where nothing here can start it.
    fn start(&self, server: &Server<'_>, host: &dyn Host) -> Result<CommandSpec, ActionError>;

    /// Gives what stops the server and waits for it.
    ///
    /// # Errors
    /// Fails where nothing here can stop it.
    fn stop(&self, server: &Server<'_>, host: &dyn ReadHost) -> Result<CommandSpec, ActionError>;

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

    /// What tells the last words that the server wrote elsewhere than into a file.
    fn last_words(&self, host: &dyn ReadHost) -> Option<CommandSpec> {
        let _ = host;
        None
    }

    /// Where the server's configuration is.
    fn configuration(&self) -> Configuration;

    /// Where the server's processes and programs are.
    fn runs(&self) -> Runs {
        Runs::Here
    }

    /// Adds the programs that it calls.
    fn named(&self, effects: Effects) -> Effects {
        self.program().into_iter().fold(effects, Effects::program)
    }
}

/// Where a server's processes and programs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runs {
    /// On the host itself.
    Here,
    /// In a container: its user and its programs are of no use outside.
    InContainer,
}

/// Where a server's configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Configuration {
    /// In its data directory.
    Inside,
    /// In this file.
    At(PathBuf),
    /// Only what starts it knows.
    Unsaid,
}

impl Cluster {
    /// What keeps its server.
    pub(crate) fn service_manager(&self) -> Box<dyn ServiceManager + '_> {
        match &self.via {
            Via::PgCtl(settings) => Box::new(ByPgCtl(settings)),
            Via::Systemd(unit) => Box::new(BySystemd(unit)),
            Via::PgCtlcluster(cluster) => Box::new(ByPgCtlcluster(cluster)),
            Via::Compose(service) => Box::new(ByCompose(service)),
            Via::Managed(_) => Box::new(ByProvider),
        }
    }

    /// Says when its server would find no configuration with the data that lies in `pgdata`, or one of another server:
    /// some systems keep it outside the data directory.
    pub(crate) fn lacks_configuration(&self, files: &dyn ReadFiles, pgdata: &Path) -> Option<Fact> {
        if self.is_scratch() {
            return None;
        }
        match self.service_manager().configuration() {
            Configuration::Unsaid => None,
            Configuration::At(file) => match self.within_pgdata(&file, files) {
                Some(inside) if !matches!(files.facts(&pgdata.join(&inside)), Ok(Some(_))) => Some(Fact {
                    what: format!(
                        "the backup holds no `{}`, which `via` names as the configuration of its server",
                        inside.display()
                    ),
                    help: "correct `options` under `via: { pg_ctl: … }`".to_owned(),
                }),
                Some(_) => None,
                None => self.misconfigured(files),
            },
            Configuration::Inside => match files.facts(&pgdata.join("postgresql.conf")) {
                Ok(Some(_)) => None,
                Ok(None) | Err(_) => Some(Fact {
                    what: "the backup holds no `postgresql.conf`: its server had it outside the data directory, or behind a link"
                        .to_owned(),
                    help: format!(
                        "put it at `{}`, or add `options: \"-c config_file=…\"` under `via: {{ pg_ctl: … }}` where it is kept \
                         elsewhere; then go on",
                        self.pgdata.join("postgresql.conf").display()
                    ),
                }),
            },
        }
    }

    /// Where a file lies within the data directory, be that there or not; also where it is named through a link to it.
    pub(crate) fn within_pgdata(&self, file: &Path, files: &dyn ReadFiles) -> Option<PathBuf> {
        let is_it =
            |folder: &&Path| *folder == self.pgdata || files.read_link(folder).is_ok_and(|place| place == self.pgdata);
        let folder = file.ancestors().skip(1).find(is_it)?;
        file.strip_prefix(folder).ok().map(Path::to_owned)
    }

    /// Says when a configuration outside the data directory is gone, or names another data directory.
    pub(crate) fn misconfigured(&self, files: &dyn ReadFiles) -> Option<Fact> {
        let file = match self.service_manager().configuration() {
            Configuration::At(file) => file,
            Configuration::Inside | Configuration::Unsaid => return None,
        };
        let Ok(bytes) = files.read(&file, CONFIGURATION_BYTES) else {
            let what = format!("the configuration `{}` cannot be read", file.display());
            let help =
                "put it back first: `postgres.restore_base` with `config_files: missing` does where the backup has it";
            return Some(Fact { what, help: help.to_owned() });
        };
        let named = settings::last_value(&String::from_utf8_lossy(&bytes), "data_directory").map(PathBuf::from)?;
        let real = |path: &Path| files.canonical(path).unwrap_or_else(|_| path.to_owned());
        if real(&named) == real(&self.pgdata) {
            return None;
        }
        let (named, ours) = (named.display(), self.pgdata.display());
        let what = format!("`{}` is of the data directory `{named}`, but `{}` has `{ours}`", file.display(), self.name);
        Some(Fact { what, help: "correct `pgdata` or `via` of the database in the inventory".to_owned() })
    }
}

/// The effects of stopping or starting the server of a database.
///
/// # Errors
/// Fails when the inventory has no such database.
pub(crate) fn effects(database: &DatabaseRef, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
    let cluster = Cluster::of(database, cx.inventory, cx.scratch)
        .map_err(|error| vec![ParamFault::new("/database", error.to_string())])?;
    cluster.within_reach(Wish::Power)?;
    let effects = cluster.service_manager().named(Effects::of(EffectClass::Write));
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
