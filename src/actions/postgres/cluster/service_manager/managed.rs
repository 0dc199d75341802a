//! A provider: nothing here can touch the server, only sessions reach it. Steps that want more are refused before they
//! come here, by [`Wish`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::layout::Cluster;
use super::super::server::Server;
use super::{Configuration, ServiceManager, Wish};
use crate::action::by_hand::remark;
use crate::action::{ActionError, CommandSpec, Host, ReadHost};

/// The provider that keeps a server.
pub(super) struct ByProvider;

fn impossible(cluster: &Cluster) -> ActionError {
    let fact = format!("`{}` is managed: nothing here can {}", cluster.name, Wish::Power.words());
    ActionError::fatal(fact).help(Wish::Power.instead())
}

impl ServiceManager for ByProvider {
    fn program(&self) -> Option<&'static str> {
        None
    }

    fn start(&self, server: &Server<'_>, _: &dyn Host) -> Result<CommandSpec, ActionError> {
        Err(impossible(server.cluster))
    }

    fn stop(&self, server: &Server<'_>, _: &dyn ReadHost) -> Result<CommandSpec, ActionError> {
        Err(impossible(server.cluster))
    }

    fn start_by_hand(&self, _: &Cluster) -> String {
        remark("start it with the provider's own command")
    }

    fn stop_by_hand(&self, _: &Cluster) -> String {
        remark("stop it with the provider's own command")
    }

    fn log(&self, cluster: &Cluster) -> PathBuf {
        cluster.pgdata.join("log")
    }

    fn appears_within(&self) -> Duration {
        Duration::ZERO
    }

    fn words(&self, _: &Path) -> String {
        String::new()
    }

    fn configuration(&self) -> Configuration {
        Configuration::Unsaid
    }
}
