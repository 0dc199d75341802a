//! What archiving came to.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::base::Timestamp;
use crate::catalog::health::{Finding, Level};
use crate::pgformat::{Lsn, Timeline};

/// How the archiving of one database stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArchivingStatus {
    /// The database.
    pub database: String,
    /// The worst of the findings.
    pub level: Level,
    /// What is wrong; empty when nothing is.
    pub findings: Vec<Finding>,
    /// What was measured.
    pub figures: Figures,
}

/// The figures.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Figures {
    /// The cluster whose WAL lies under the prefix, where that is not the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_cluster: Option<String>,
    /// The newest segment of the archive.
    pub last_archived: Option<String>,
    /// The position up to which the archive has everything the server wrote.
    pub archived_to: Option<Lsn>,
    /// The position up to which the server wrote.
    pub written_to: Option<Lsn>,
    /// How many bytes of WAL only the server has.
    pub lag_bytes: Option<u64>,
    /// How long the oldest commit waits that only the server has; zero when none waits.
    pub lag_s: Option<u64>,
    /// What may be lost at most, in seconds.
    pub rpo_s: Option<u64>,
    /// How many files wait to be archived.
    pub ready: Option<u64>,
    /// Since when the oldest of them waits.
    pub ready_since: Option<Timestamp>,
    /// How many failures the server counts.
    pub failed: Option<u64>,
    /// How many files each store of its archiving lacks that others have, by URL; null when none is known to lack any and
    /// what the server archives with could not be read.
    pub owed: Option<BTreeMap<String, usize>>,
    /// Why the archiver's own notes of that could not be read; null when they were.
    pub owed_unread: Option<String>,
    /// The size of `pg_wal`.
    pub wal_bytes: Option<u64>,
    /// The room left beside it.
    pub free_bytes: Option<u64>,
    /// The timeline the server writes.
    pub timeline: Option<Timeline>,
    /// The timelines of the archive.
    pub timelines: Vec<Timeline>,
    /// Gaps of the archive, the newest last.
    pub gaps: Vec<String>,
}
