//! How a server is reached beyond its sessions: what stops and starts it, and where its files are.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Database;

/// How a server is stopped and started. Exactly one member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Via {
    /// By `pg_ctl` as the operating-system user.
    PgCtl(PgCtl),
    /// By a systemd unit.
    Systemd(String),
    /// By Debian's `pg_ctlcluster`: the cluster as `VERSION/NAME`, for example `15/main`. Its configuration lies in
    /// `/etc/postgresql`.
    PgCtlcluster(DebianCluster),
    /// By docker compose: the server runs in a container, `pgdata` is its volume's folder on this machine.
    Compose(Compose),
    /// By a provider: only sessions reach the server, nothing here can touch its files or stop it.
    Managed(Managed),
}

impl Default for Via {
    fn default() -> Self {
        Self::PgCtl(PgCtl::default())
    }
}

/// Settings of `pg_ctl`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PgCtl {
    /// The server's log file; default `log/runbook-startup.log` inside `pgdata`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    /// Further server options, as `pg_ctl -o` takes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<String>,
}

/// A service of a compose project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compose {
    /// The project's compose file, an absolute path.
    pub file: PathBuf,
    /// The project's name. Default: as docker compose takes it from the file and its folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The service that is the server.
    pub service: String,
    /// Where the container has the `runbook` that its server archives and fetches WAL with: a path inside it, usually a
    /// file of this machine that is mounted there. Default `/usr/local/bin/runbook`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<PathBuf>,
    /// The folder of this machine that is mounted into the container for `wal.yaml`, its secrets and its spool. Default:
    /// `runbook-wal` beside the compose file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
}

impl Compose {
    /// Where the container has `runbook`.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.runbook.clone().unwrap_or_else(|| PathBuf::from("/usr/local/bin/runbook"))
    }

    /// The folder of this machine that is mounted for what `wal push` needs.
    #[must_use]
    pub fn wal_folder(&self) -> PathBuf {
        self.folder.clone().unwrap_or_else(|| self.file.with_file_name("runbook-wal"))
    }
}

/// A server of a provider's. It has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Managed {}

/// A cluster as Debian's tools name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct DebianCluster {
    /// The major version.
    pub version: String,
    /// The cluster's name.
    pub name: String,
}

/// A text that names no cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no cluster of Debian's: write version and name as `pg_lsclusters` shows them, `15/main`")]
pub struct NoDebianCluster(String);

impl FromStr for DebianCluster {
    type Err = NoDebianCluster;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let none = || NoDebianCluster(text.to_owned());
        let (version, name) = text.split_once('/').ok_or_else(none)?;
        let is_number = |part: &str| !part.is_empty() && part.chars().all(|one| one.is_ascii_digit());
        let is_version = version.split('.').all(is_number) && version.split('.').count() <= 2;
        let is_name = !name.is_empty()
            && !name.starts_with(['-', '.'])
            && !name.contains(|one: char| one.is_whitespace() || "/'\"".contains(one));
        if !is_version || !is_name {
            return Err(none());
        }
        Ok(Self { version: version.to_owned(), name: name.to_owned() })
    }
}

impl TryFrom<String> for DebianCluster {
    type Error = NoDebianCluster;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DebianCluster> for String {
    fn from(cluster: DebianCluster) -> Self {
        cluster.to_string()
    }
}

impl fmt::Display for DebianCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.version, self.name)
    }
}

impl Database {
    /// Tells whether only sessions reach the server.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        match &self.via {
            Via::Managed(_) => true,
            Via::PgCtl(_) | Via::Systemd(_) | Via::PgCtlcluster(_) | Via::Compose(_) => false,
        }
    }

    /// The address of TCP connections where it is not this machine's own.
    #[must_use]
    pub fn elsewhere(&self) -> Option<&str> {
        self.address.as_deref().filter(|address| !is_loopback(address))
    }

    /// Where it is, in words.
    #[must_use]
    pub fn place(&self) -> String {
        let host = if self.host.is_empty() { "local" } else { &self.host };
        match (self.is_managed(), &self.socket) {
            (true, Some(folder)) => format!("managed, at {}/.s.PGSQL.{}", folder.display(), self.port),
            (true, None) => {
                format!("managed, at {}:{}", self.address.as_deref().unwrap_or("localhost"), self.port)
            }
            (false, _) => format!("{} on host {host}, port {}", self.pgdata.display(), self.port),
        }
    }
}

/// Tells whether an address is always this machine's own.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let address = bare.parse::<std::net::IpAddr>();
    bare.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;

    #[test]
    fn a_cluster_of_debians_is_a_version_and_a_name() {
        let cluster: DebianCluster = "15/main".parse().unwrap();
        assert_eq!((cluster.version.as_str(), cluster.name.as_str()), ("15", "main"));
        assert_eq!(cluster.to_string(), "15/main");
        assert!("9.6/old-one".parse::<DebianCluster>().is_ok());
        for wrong in ["15", "main", "15/", "/main", "15/a b", "15/../x", "x/main", "15/-m", "1.2.3/x"] {
            assert!(wrong.parse::<DebianCluster>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_of_this_machine_is_known_in_every_spelling() {
        for own in ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.9.9.9", "::1", "[::1]"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in ["db", "127.0.0.1.example.org", "10.0.0.1", "localhost.evil"] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
