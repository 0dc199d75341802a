//! Series of dumps that age no more: their ages are counted from their own newest one, and no newer one comes.
//!
//! Whether the database was dropped or its dumps fail only a person knows, so nothing of them is removed for that: it is said.

use std::collections::BTreeMap;
use std::fmt;

use super::{Candidate, DumpSeries};
use crate::base::Timestamp;
use crate::base::units::ByteSize;

/// How much older than the newest dump of the same server the newest of a series is before it is said: longer than the month
/// that dumps lie apart at most.
const STALLED_DAYS: i64 = 35;

/// A series of dumps that others of its server have left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stalled {
    /// What it is a backup of.
    pub source: String,
    /// The series.
    pub series: DumpSeries,
    /// When the newest of it ended.
    pub newest_at: Timestamp,
    /// How many of it stay.
    pub count: usize,
    /// Their sizes together, in bytes.
    pub size_bytes: u64,
}

/// Finds them among what stays.
pub(super) fn stalled(kept: &[&Candidate]) -> Vec<Stalled> {
    let mut newest: BTreeMap<(Option<&str>, &str, &str), Timestamp> = BTreeMap::new();
    let mut all: BTreeMap<_, Stalled> = BTreeMap::new();
    for one in kept {
        let (Some(series), (environment, source, kind, _)) = (&one.dump, one.group()) else { continue };
        if one.is_sound() {
            let at = newest.entry((environment, source, kind)).or_insert(one.ended_at);
            *at = one.ended_at.max(*at);
        }
        let stalled = all.entry(one.group()).or_insert_with(|| Stalled {
            source: source.to_owned(),
            series: series.clone(),
            newest_at: one.ended_at,
            count: 0,
            size_bytes: 0,
        });
        stalled.newest_at = stalled.newest_at.max(one.ended_at);
        stalled.count += 1;
        stalled.size_bytes += one.size_bytes;
    }
    let is_left = |(environment, source, kind): (Option<&str>, &str, &str), one: &Stalled| {
        let newest = newest.get(&(environment, source, kind));
        newest.is_some_and(|newest| (newest.as_second() - one.newest_at.as_second()) / 86_400 > STALLED_DAYS)
    };
    let left =
        all.into_iter().filter(|((environment, source, kind, _), one)| is_left((*environment, source, kind), one));
    left.map(|(_, one)| one).collect()
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, series, newest_at, count, size_bytes } = self;
        let of = match series {
            DumpSeries::Whole(_) | DumpSeries::Part(_) => format!("dumps of {series} of `{source}`"),
            DumpSeries::Imported(_) => format!("imported dumps {series} of `{source}`"),
        };
        write!(
            f,
            "{of}: the newest is of {newest_at}, others of that server have newer ones. Ages are counted from it, so {count} \
             ({}) stay for good; where no more of them will come, a person removes them",
            ByteSize(*size_bytes)
        )
    }
}
