//! What was measured of one expected backup.

use serde::Serialize;

use crate::base::Timestamp;

/// One backup as health sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its id.
    pub id: String,
    /// The database that it is a dump of, where it is one.
    pub dbname: Option<String>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The sum of its objects' sizes.
    pub size_bytes: u64,
    /// Whether nothing is known to be wrong with it.
    pub is_sound: bool,
    /// Whether a person holds it.
    pub is_held: bool,
    /// When a restore of it was last proven.
    pub proven_at: Option<Timestamp>,
    /// When a restore of it last failed its checks, where none passed since.
    pub failed_at: Option<Timestamp>,
    /// When its bytes were last found to be right.
    pub verified_at: Option<Timestamp>,
}

/// The figures; ages are counted to the moment of the look.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Figures {
    /// How many there are, good or not.
    pub count: u64,
    /// How many are known to be damaged, manifests that cannot be read included.
    pub damaged: u64,
    /// How many people hold.
    pub held: u64,
    /// The newest good one.
    pub newest: Option<String>,
    /// How long ago the newest good one ended.
    pub age_s: Option<u64>,
    /// Its size.
    pub size_bytes: Option<u64>,
    /// The median size of the good ones before it.
    pub median_bytes: Option<u64>,
    /// How far its size is from the median, in percent of it.
    pub size_change_percent: Option<u64>,
    /// How long ago a restore of one was proven.
    pub proof_age_s: Option<u64>,
    /// How long ago a restore of one failed its checks, where none of any passed since.
    pub proof_failed_age_s: Option<u64>,
    /// How long ago the bytes of one were verified.
    pub verification_age_s: Option<u64>,
    /// How many times one was due and none was taken.
    pub missed: u64,
    /// How long ago the newest WAL segment was archived. An idle server archives none.
    pub wal_age_s: Option<u64>,
    /// The room left, where the store can tell.
    pub free_bytes: Option<u64>,
    /// For how many days the room is enough when backups come and grow as before and none is removed.
    pub full_in_days: Option<u64>,
}
