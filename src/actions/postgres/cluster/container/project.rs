//! The commands of `docker compose` and `docker` for one service.

use std::path::Path;

use crate::action::by_hand::command_line;
use crate::action::{CommandSpec, ReadHost};
use crate::language::inventory::Compose;

/// Where docker keeps its plugins.
const PLUGINS: [&str; 4] = [
    "/usr/libexec/docker/cli-plugins/docker-compose",
    "/usr/lib/docker/cli-plugins/docker-compose",
    "/usr/local/libexec/docker/cli-plugins/docker-compose",
    "/usr/local/lib/docker/cli-plugins/docker-compose",
];

/// Makes the container and its volumes, and starts nothing.
pub(super) const MAKE: [&str; 4] = ["up", "--no-start", "--no-deps", "--no-recreate"];
/// The same, and makes a container anew that is not what the file says any more.
pub(super) const RENEW: [&str; 3] = ["up", "--no-start", "--no-deps"];

/// The service that a server is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Project<'a>(pub(crate) &'a Compose);

/// The program that stands for compose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    /// `docker compose`.
    Plugin,
    /// `docker-compose`, which older systems have.
    Own,
}

impl Project<'_> {
    /// Prefers docker's plugin; the program of its own stands in where that is not installed.
    fn program(host: &dyn ReadHost) -> Program {
        let files = host.read_files();
        let plugin = PLUGINS.iter().any(|path| matches!(files.facts(Path::new(path)), Ok(Some(_))));
        if !plugin && host.find_program("docker-compose").is_some() { Program::Own } else { Program::Plugin }
    }

    /// The words of a command: what goes before the service, and what after it.
    fn words(&self, before: &[&str], after: &[String]) -> Vec<String> {
        let mut words = vec!["-f".to_owned(), self.0.file.to_string_lossy().into_owned()];
        words.extend(self.0.project.iter().flat_map(|project| ["-p".to_owned(), project.clone()]));
        words.extend(before.iter().map(|word| (*word).to_owned()));
        words.push(self.0.service.clone());
        words.extend(after.iter().cloned());
        words
    }

    /// A command on the service.
    pub(crate) fn command(&self, before: &[&str], after: &[String], host: &dyn ReadHost) -> CommandSpec {
        let spec = match Self::program(host) {
            Program::Own => CommandSpec::new("docker-compose"),
            Program::Plugin => CommandSpec::new("docker").args(["compose"]),
        };
        let mut spec = spec.args(self.words(before, after));
        spec.dir = self.0.file.parent().map(Path::to_owned);
        spec
    }

    /// What lists the service's containers, whether they run or not; those that `run` made may be among them.
    pub(crate) fn list(&self, host: &dyn ReadHost) -> CommandSpec {
        match Self::program(host) {
            // Its `-a` adds those of `run`.
            Program::Own => self.command(&["ps", "-q"], &[], host),
            Program::Plugin => self.command(&["ps", "-a", "-q"], &[], host),
        }
    }

    /// The same command as a person types it.
    pub(crate) fn by_hand(&self, before: &[&str]) -> String {
        command_line(["docker".to_owned(), "compose".to_owned()].into_iter().chain(self.words(before, &[])))
    }
}
