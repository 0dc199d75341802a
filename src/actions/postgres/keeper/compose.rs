//! `docker compose`: the server runs in a container of a project, its data directory is that of a volume.
//!
//! Sessions, dumps, base backups and copies of them need nothing of the container. Its data directory is never
//! written to: which user, which programs and which paths the container has is not known here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::layout::Cluster;
use super::super::server::Server;
use super::{Configuration, Keeper, Runs, UNIT_APPEARS_WITHIN};
use crate::action::by_hand::command_line;
use crate::action::{ActionError, CommandSpec, Host, ReadHost};
use crate::language::inventory::Compose;

/// Where docker keeps its plugins.
const PLUGINS: [&str; 4] = [
    "/usr/libexec/docker/cli-plugins/docker-compose",
    "/usr/lib/docker/cli-plugins/docker-compose",
    "/usr/local/libexec/docker/cli-plugins/docker-compose",
    "/usr/local/lib/docker/cli-plugins/docker-compose",
];
/// How long the server may take to end before docker kills it, in seconds: a last checkpoint takes its time.
const STOPS_WITHIN: &str = "3600";

/// The service that a server is.
pub(super) struct ByCompose<'a>(pub(super) &'a Compose);

impl ByCompose<'_> {
    /// The words of a command, after the program's own.
    fn arguments<'a>(&'a self, verb: &[&'a str]) -> Vec<String> {
        let mut words = vec!["-f".to_owned(), self.0.file.to_string_lossy().into_owned()];
        words.extend(self.0.project.iter().flat_map(|project| ["-p".to_owned(), project.clone()]));
        words.extend(verb.iter().map(|word| (*word).to_owned()));
        words.push(self.0.service.clone());
        words
    }

    /// Prefers docker's plugin; the program of its own stands in where that is not installed.
    fn command(&self, verb: &[&str], host: &dyn ReadHost) -> CommandSpec {
        let files = host.read_files();
        let plugin = PLUGINS.iter().any(|path| matches!(files.facts(Path::new(path)), Ok(Some(_))));
        let spec = match !plugin && host.find_program("docker-compose").is_some() {
            true => CommandSpec::new("docker-compose"),
            false => CommandSpec::new("docker").args(["compose"]),
        };
        let mut spec = spec.args(self.arguments(verb));
        spec.dir = self.0.file.parent().map(Path::to_owned);
        spec
    }

    fn by_hand(&self, verb: &[&str]) -> String {
        command_line(["docker".to_owned(), "compose".to_owned()].into_iter().chain(self.arguments(verb)))
    }
}

impl Keeper for ByCompose<'_> {
    fn program(&self) -> Option<&'static str> {
        Some("docker")
    }

    /// A container that is gone is made anew; one that is there is started as it is.
    fn start(&self, _: &Server<'_>, host: &dyn Host) -> Result<CommandSpec, ActionError> {
        Ok(self.command(&["up", "-d", "--no-deps", "--no-recreate"], host.as_read()))
    }

    fn stop(&self, _: &Server<'_>, host: &dyn ReadHost) -> Result<CommandSpec, ActionError> {
        Ok(self.command(&["stop", "-t", STOPS_WITHIN], host))
    }

    fn start_by_hand(&self, _: &Cluster) -> String {
        self.by_hand(&["up", "-d", "--no-deps", "--no-recreate"])
    }

    fn stop_by_hand(&self, _: &Cluster) -> String {
        self.by_hand(&["stop", "-t", STOPS_WITHIN])
    }

    fn log(&self, cluster: &Cluster) -> PathBuf {
        cluster.pgdata.join("log")
    }

    fn appears_within(&self) -> Duration {
        UNIT_APPEARS_WITHIN
    }

    fn words(&self, _: &Path) -> String {
        String::new()
    }

    fn configuration(&self) -> Configuration {
        Configuration::Unsaid
    }

    fn runs(&self) -> Runs {
        Runs::InContainer
    }
}
