//! One rule against the backups it speaks of.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::plan::Reasons;
use super::{Candidate, KeepReason, Period};
use crate::base::Timestamp;
use crate::language::inventory::{KeepRule, KeepUntil};

/// What a rule is held against.
pub(super) struct Bench<'a, 'z> {
    /// The good backups that it speaks of, newest first.
    pub backups: Vec<&'a Candidate>,
    /// What ages are counted from.
    pub anchor: Timestamp,
    /// The zone whose calendar counts.
    pub zone: &'z TimeZone,
    /// When the newest backup of the source and kind ended that was verified or proven.
    pub verified_until: Option<Timestamp>,
}

/// Names what a rule keeps, each with every reason.
pub(super) fn keep<'a>(rule: &KeepRule, bench: &Bench<'a, '_>, kept: &mut Reasons<'a>) {
    let mut note = |backup: &'a Candidate, reason| kept.entry(backup.key()).or_default().push(reason);
    if let Some(count) = rule.keep_last {
        for (index, backup) in bench.backups.iter().take(as_usize(count)).enumerate() {
            note(backup, KeepReason::Last(index + 1, count));
        }
    }
    if let Some(age) = rule.keep_within {
        let from = age.before(bench.anchor, bench.zone);
        for backup in bench.backups.iter().filter(|backup| backup.ended_at >= from) {
            note(backup, KeepReason::Within(age));
        }
    }
    if rule.keep_until == Some(KeepUntil::Verified) {
        let is_safe = |backup: &&&Candidate| bench.verified_until.is_some_and(|until| until > backup.ended_at);
        for backup in bench.backups.iter().filter(|backup| !is_safe(backup)) {
            note(backup, KeepReason::Unverified);
        }
    }
    for (period, count) in periods(rule) {
        let mut seen = BTreeSet::new();
        for backup in &bench.backups {
            let label = period.label(backup.ended_at, bench.zone);
            if seen.len() == as_usize(count) {
                break;
            }
            if seen.insert(label.clone()) {
                note(backup, KeepReason::Bucket(period, label));
            }
        }
    }
}

fn periods(rule: &KeepRule) -> impl Iterator<Item = (Period, u32)> {
    let counts = [
        (Period::Hour, rule.hourly),
        (Period::Day, rule.daily),
        (Period::Week, rule.weekly),
        (Period::Month, rule.monthly),
        (Period::Year, rule.yearly),
    ];
    counts.into_iter().filter_map(|(period, count)| Some((period, count?)))
}

fn as_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
