//! A systemd unit.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::layout::Cluster;
use super::super::server::Server;
use super::{Configuration, ServiceManager, UNIT_APPEARS_WITHIN};
use crate::action::by_hand::command_line;
use crate::action::{ActionError, CommandSpec, Host, ReadHost};

/// The unit that keeps a server.
pub(super) struct BySystemd<'a>(pub(super) &'a str);

impl ServiceManager for BySystemd<'_> {
    fn program(&self) -> Option<&'static str> {
        Some("systemctl")
    }

    fn start(&self, _: &Server<'_>, _: &dyn Host) -> Result<CommandSpec, ActionError> {
        Ok(CommandSpec::new("systemctl").args(["start", "--no-block", self.0]))
    }

    fn stop(&self, _: &Server<'_>, _: &dyn ReadHost) -> Result<CommandSpec, ActionError> {
        Ok(CommandSpec::new("systemctl").args(["stop", self.0]))
    }

    fn start_by_hand(&self, _: &Cluster) -> String {
        command_line(["systemctl", "start", self.0])
    }

    fn stop_by_hand(&self, _: &Cluster) -> String {
        command_line(["systemctl", "stop", self.0])
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
}
