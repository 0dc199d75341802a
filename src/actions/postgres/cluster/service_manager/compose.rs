//! `docker compose`: the server runs in a container of a project, its data directory is that of a volume.
//!
//! What is run in the container, and where its files lie here, is [`container`](super::super::container)'s.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::container::Project;
use super::super::layout::Cluster;
use super::super::server::Server;
use super::{Configuration, Runs, ServiceManager, UNIT_APPEARS_WITHIN};
use crate::action::{ActionError, CommandSpec, Host, ReadHost};
use crate::language::inventory::Compose;

/// The container that is there: one that was made anew by a file that changed could have its data elsewhere, and an image
/// makes an empty cluster in an empty volume.
const START: [&str; 4] = ["up", "-d", "--no-deps", "--no-recreate"];
/// The server may take an hour to end before docker kills it: a last checkpoint takes its time.
const STOP: [&str; 3] = ["stop", "-t", "3600"];
/// How many lines of the container's log are looked at.
const LAST: &str = "20";

/// The service that a server is.
pub(super) struct ByCompose<'a>(pub(super) &'a Compose);

impl ServiceManager for ByCompose<'_> {
    fn program(&self) -> Option<&'static str> {
        Some("docker")
    }

    fn start(&self, _: &Server<'_>, host: &dyn Host) -> Result<CommandSpec, ActionError> {
        Ok(Project(self.0).command(&START, &[], host.as_read()))
    }

    fn stop(&self, _: &Server<'_>, host: &dyn ReadHost) -> Result<CommandSpec, ActionError> {
        Ok(Project(self.0).command(&STOP, &[], host))
    }

    fn start_by_hand(&self, _: &Cluster) -> String {
        Project(self.0).by_hand(&START)
    }

    fn stop_by_hand(&self, _: &Cluster) -> String {
        Project(self.0).by_hand(&STOP)
    }

    fn log(&self, cluster: &Cluster) -> PathBuf {
        cluster.pgdata.join("log")
    }

    /// What the server writes before its own log begins goes to docker.
    fn last_words(&self, host: &dyn ReadHost) -> Option<CommandSpec> {
        Some(Project(self.0).command(&["logs", "--no-color", "--tail", LAST], &[], host))
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
