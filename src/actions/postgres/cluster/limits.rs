//! Settings that a server in recovery must not have smaller than the one whose WAL it replays (facts 2.3.7).
//!
//! With a smaller one the server refuses to start, or pauses in the middle of the replay. `pg_control` says what is
//! needed: as of the backup, in the lost server's own copy as of its end, and, where a setting was raised in between,
//! as soon as replay meets the change.

use std::path::Path;

use super::container::ServerHost;
use super::layout::Cluster;
use super::owner::Owner;
use super::server::Programs;
use super::settings::shell_word;
use crate::action::{CommandSpec, ReadHost};
use crate::pgformat::ServerLimits;

/// A setting that is too small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Short {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its value.
    pub(crate) value: i32,
    /// What the WAL needs.
    pub(crate) needed: i32,
}

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is {}, the WAL needs {}", self.name, self.value, self.needed)
    }
}

/// The greater of each.
pub(crate) fn greatest(one: ServerLimits, other: ServerLimits) -> ServerLimits {
    ServerLimits {
        max_connections: one.max_connections.max(other.max_connections),
        max_worker_processes: one.max_worker_processes.max(other.max_worker_processes),
        max_wal_senders: one.max_wal_senders.max(other.max_wal_senders),
        max_prepared_transactions: one.max_prepared_transactions.max(other.max_prepared_transactions),
        max_locks_per_transaction: one.max_locks_per_transaction.max(other.max_locks_per_transaction),
    }
}

/// A server that is to start, or runs, in a data directory.
pub(crate) struct Configured<'a> {
    /// The cluster.
    pub(crate) cluster: &'a Cluster,
    /// Who runs it.
    pub(crate) owner: &'a Owner,
    /// Its programs.
    pub(crate) programs: &'a Programs,
    /// Where it lives.
    pub(crate) server_host: &'a ServerHost,
    /// The data directory.
    pub(crate) pgdata: &'a Path,
}

impl Configured<'_> {
    /// Finds the settings that are too small; none where its configuration cannot be found from here: then the
    /// server itself says so.
    pub(crate) async fn short_of(&self, needed: ServerLimits, host: &dyn ReadHost) -> Vec<Short> {
        let needed = named(needed);
        let values = self.texts(&needed.map(|(name, _)| name), host).await;
        let values = values.into_iter().map(|value| value.and_then(|text| text.parse().ok()));
        let short = |((name, needed), value): ((&'static str, i32), Option<i32>)| {
            value.filter(|value| *value < needed).map(|value| Short { name, value, needed })
        };
        needed.into_iter().zip(values).filter_map(short).collect()
    }

    /// What the server itself makes of its configuration, in the order of `names`; empty for what its version does not have.
    pub(crate) async fn texts(&self, names: &[&str], host: &dyn ReadHost) -> Vec<Option<String>> {
        let server = self.server_host.server(self.pgdata).unwrap_or_else(|| {
            let options = self.cluster.service_manager().words(self.pgdata);
            let (postgres, pgdata) = (self.programs.path("postgres"), self.pgdata.to_string_lossy());
            format!("{} -D {} {options}", shell_word(&postgres), shell_word(&pgdata))
        });
        let line = format!("for name in {}; do {server} -C \"$name\" || echo; done", names.join(" "));
        let mut spec = CommandSpec::new("sh").args(["-c", &line]);
        spec.dir = Some("/".into());
        let output = host.probe(self.server_host.command(self.owner, spec, host)).await;
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let values: Vec<Option<String>> = text.lines().map(|line| Some(line.trim().to_owned())).collect();
        // A line for each name, or nothing is known of any.
        if values.len() == names.len() { values } else { vec![None; names.len()] }
    }
}

/// Each by its name.
pub(crate) fn named(limits: ServerLimits) -> [(&'static str, i32); 5] {
    [
        ("max_connections", limits.max_connections),
        ("max_worker_processes", limits.max_worker_processes),
        ("max_wal_senders", limits.max_wal_senders),
        ("max_prepared_transactions", limits.max_prepared_transactions),
        ("max_locks_per_transaction", limits.max_locks_per_transaction),
    ]
}

/// As lines of a configuration.
pub(crate) fn raised(short: &[Short]) -> Vec<(String, String)> {
    short.iter().map(|one| (one.name.to_owned(), one.needed.to_string())).collect()
}

/// As words.
pub(crate) fn words(short: &[Short]) -> String {
    short.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
