//! Settings that a server in recovery must not have smaller than the one whose WAL it replays (facts 2.3.7).
//!
//! With a smaller one the server refuses to start, or pauses in the middle of the replay. `pg_control` says what is
//! needed: as of the backup, in the lost server's own copy as of its end, and, where a setting was raised in between,
//! as soon as replay meets the change.

use std::path::Path;

use super::server::Programs;
use super::settings::shell_word;
use super::{layout::Cluster, owner::Owner};
use crate::action::ReadHost;
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
    /// The data directory.
    pub(crate) pgdata: &'a Path,
}

impl Configured<'_> {
    /// Finds the settings that are too small; none where its configuration cannot be found from here: then the
    /// server itself says so.
    pub(crate) async fn short_of(&self, needed: ServerLimits, host: &dyn ReadHost) -> Vec<Short> {
        let mut short = Vec::new();
        for (name, needed) in named(needed) {
            let Some(value) = self.value(name, host).await else { continue };
            if value < needed {
                short.push(Short { name, value, needed });
            }
        }
        short
    }

    /// What the server itself makes of its configuration.
    async fn value(&self, name: &str, host: &dyn ReadHost) -> Option<i32> {
        let options = self.cluster.keeper().words(self.pgdata);
        let (postgres, pgdata) = (self.programs.path("postgres"), self.pgdata.to_string_lossy());
        let line = format!("exec {} -D {} {options} -C {name}", shell_word(&postgres), shell_word(&pgdata));
        let mut spec = self.owner.command("sh").args(["-c", &line]);
        spec.dir = Some("/".into());
        let output = host.probe(spec).await.ok().filter(crate::action::CommandOutput::success)?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
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
