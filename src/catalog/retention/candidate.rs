//! What a plan judges: backups, damaged manifests and archived WAL, as they were found.

use std::collections::BTreeMap;
use std::fmt;

use crate::base::{Digest, Timestamp};
use crate::pgformat::{Lsn, SegmentName, SegmentSize, SystemId, Timeline};

/// One committed backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id, unique among those of its source, kind and tier.
    pub id: String,
    /// SHA-256 of its manifest: the very backup that is meant.
    pub manifest: Digest,
    /// What it was taken of.
    pub source: String,
    /// Its kind.
    pub kind: String,
    /// Its tier.
    pub tier: Option<String>,
    /// The environment it was taken in.
    pub environment: Option<String>,
    /// Which dumps it is one of, where it is a dump.
    pub dump: Option<DumpSeries>,
    /// The backup it is an increment to.
    pub parent: Option<String>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The sum of its objects' sizes.
    pub size_bytes: u64,
    /// The WAL it needs, where it is a physical backup.
    pub cluster: Option<ClusterSpan>,
    /// What was attested of it.
    pub standing: Attestations,
}

/// Dumps that are of the same: each is a series of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DumpSeries {
    /// Of a whole database of the server.
    Whole(String),
    /// Of a part of that database.
    Part(String),
    /// That another program made, by their file names without the moment.
    Imported(String),
}

impl fmt::Display for DumpSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(dbname) => write!(f, "database `{dbname}`"),
            Self::Part(dbname) => write!(f, "a part of database `{dbname}`"),
            Self::Imported(name) => write!(f, "`{name}`"),
        }
    }
}

/// The WAL that makes a physical backup consistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterSpan {
    /// The cluster.
    pub system_id: SystemId,
    /// The timeline it was taken on.
    pub timeline: Timeline,
    /// Where replay begins.
    pub start: Lsn,
    /// Where the data is consistent.
    pub stop: Lsn,
    /// The size of a segment.
    pub segment_size: SegmentSize,
}

/// What was attested of a backup since it was made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attestations {
    /// When its bytes were last found to be right.
    pub verified_at: Option<Timestamp>,
    /// When a restore of it was last proven.
    pub proven_at: Option<Timestamp>,
    /// Who holds it, and why.
    pub hold: Option<String>,
    /// What was found damaged in it.
    pub damage: Option<String>,
}

/// A folder with a manifest that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DamagedManifest {
    /// The key of the manifest.
    pub key: String,
    /// What is wrong.
    pub why: String,
}

/// One archived segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalSegment {
    /// Its name.
    pub name: SegmentName,
    /// Its size, as stored.
    pub size_bytes: u64,
    /// When it was archived, by the store's clock.
    pub archived_at: Timestamp,
}

/// Everything under one prefix of a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// Backups, in any order.
    pub backups: Vec<Candidate>,
    /// Manifests that cannot be used.
    pub damaged: Vec<DamagedManifest>,
    /// Archived segments by cluster, in any order.
    pub wal: BTreeMap<SystemId, Vec<WalSegment>>,
    /// Of clusters whose WAL lies here and whose backups go to other stores: what those hold.
    pub elsewhere: BTreeMap<SystemId, Elsewhere>,
}

/// What other stores hold of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// All of it.
    Known {
        /// Every backup of it, whatever a rule says of it there.
        backups: Vec<Candidate>,
        /// Its archived segments.
        wal: Vec<WalSegment>,
    },
    /// Not all of it can be told, and why.
    Unknown(String),
}

/// An environment, a source, a kind, and of a dump its series.
pub type CandidateGroup<'a> = (Option<&'a str>, &'a str, &'a str, Option<&'a DumpSeries>);

/// A group, an id and the tier it is unique in.
pub type CandidateKey<'a> = (CandidateGroup<'a>, &'a str, Option<&'a str>);

impl Candidate {
    /// Who shares the rules' counts, a floor and a newest one with it: environment, source, kind, and of dumps the series: the dump
    /// of one database says nothing of another.
    #[must_use]
    pub fn group(&self) -> CandidateGroup<'_> {
        (self.environment.as_deref(), &self.source, &self.kind, self.dump.as_ref())
    }

    /// What tells it from all others.
    #[must_use]
    pub fn key(&self) -> CandidateKey<'_> {
        (self.group(), &self.id, self.tier.as_deref())
    }

    /// Tells whether nothing is known to be wrong with it.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.standing.damage.is_none()
    }
}
