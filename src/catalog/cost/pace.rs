//! How often and how large: what the future is guessed from.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Lot, WalLot};
use crate::base::{Timestamp, clock};

/// How many of the newest are looked at.
const LOOKED_AT: usize = 10;

/// How far back the WAL is looked at.
const WAL_DAYS: u64 = 30;

const DAY: u64 = 86_400;

/// What comes sooner after another one is a second try and no pace: two by hand in one second are not millions in a year.
const SHORTEST: Duration = Duration::from_secs(1800);

/// Backups that come after one another: environment, source, kind, tier, and whether they are increments.
pub(super) type SeriesKey = (Option<String>, String, String, Option<String>, bool);

/// What a series of backups goes on with.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// The time between two of them.
    pub(super) every: Duration,
    /// What the next ones will be like.
    pub(super) next: Lot,
}

/// The series of what is there, oldest first each.
pub(super) fn series(lots: &[Lot]) -> BTreeMap<SeriesKey, Vec<&Lot>> {
    let mut series: BTreeMap<SeriesKey, Vec<&Lot>> = BTreeMap::new();
    for lot in lots {
        let one = &lot.candidate;
        let key =
            (one.environment.clone(), one.source.clone(), one.kind.clone(), one.tier.clone(), one.parent.is_some());
        series.entry(key).or_default().push(lot);
    }
    series.values_mut().for_each(|lots| lots.sort_by_key(|lot| lot.candidate.ended_at));
    series
}

/// The pace of a series, oldest first; `None` when no two of the newest are half an hour apart.
pub(super) fn pace(lots: &[&Lot]) -> Option<Pace> {
    let newest = &lots[lots.len().saturating_sub(LOOKED_AT)..];
    let gaps = newest.windows(2).map(|two| clock::between(two[0].candidate.ended_at, two[1].candidate.ended_at));
    let every = median(gaps.filter(|gap| *gap >= SHORTEST).collect())?;
    let mut next: Lot = (*lots.last()?).clone();
    next.candidate.size_bytes = median(newest.iter().map(|lot| lot.candidate.size_bytes).collect())?;
    next.objects = median(newest.iter().map(|lot| lot.objects).collect())?;
    next.candidate.standing.hold = None;
    next.candidate.standing.damage = None;
    Some(Pace { every, next })
}

/// WAL that is archived in a day: objects and bytes; `None` when less than a day of it is there.
pub(super) fn wal_pace(wal: &[WalLot]) -> Option<(f64, f64)> {
    let newest = wal.iter().map(|lot| lot.archived_at).max()?;
    let from = clock::before(newest, Duration::from_secs(WAL_DAYS * DAY));
    let recent = || wal.iter().filter(|lot| lot.archived_at >= from);
    let oldest = recent().map(|lot| lot.archived_at).min()?;
    let days = days(oldest, newest);
    let bytes: u64 = recent().map(|lot| lot.size_bytes).sum();
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    (days >= 1.0).then(|| (recent().count() as f64 / days, bytes as f64 / days))
}

/// Days from one moment to another.
pub(super) fn days(from: Timestamp, to: Timestamp) -> f64 {
    clock::between(from, to).as_secs_f64() / 86_400.0
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> Option<T> {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied()
}
