//! Holds what a store has against what is expected.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Figures, Finding, Health, Level, Sample};
use crate::base::units::{ByteSize, Percent, human_duration};
use crate::base::{Timestamp, clock};
use crate::language::inventory::{ExpectedBackup, Schedule};

/// Up to how many sizes the median is taken of.
const SIZES: usize = 10;

/// Below how many sizes no median says anything.
const FEWEST: usize = 3;

const MAX_SIZE_CHANGE: Percent = Percent(50);
const GRACE: Duration = Duration::from_secs(3600);
const MIN_ROOM: u32 = 3;

/// How often missed times are counted back at most.
const COUNTED: u64 = 1000;

/// What was seen of an expected backup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// The backups of that source, kind and tier, in any order.
    pub samples: Vec<Sample>,
    /// Manifests under its prefix that cannot be read: one of them may be its newest.
    pub unreadable: u64,
    /// When the newest WAL segment was archived, into whichever store.
    pub newest_wal_at: Option<Timestamp>,
    /// The same for each store, where the WAL goes into several; `Err` for one that gives no answer.
    pub wal_stores: Vec<(String, Result<Option<Timestamp>, String>)>,
    /// The room of the store.
    pub room: Option<Room>,
}

/// The room of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What can still be stored.
    pub free_bytes: u64,
    /// The whole place.
    pub total_bytes: u64,
}

struct Judge<'a> {
    expected: &'a ExpectedBackup,
    now: Timestamp,
    figures: Figures,
    findings: Vec<Finding>,
}

/// Judges one expected backup.
#[must_use]
pub fn judge(
    (name, expected): (&str, &ExpectedBackup),
    schedule: Option<&Schedule>,
    observed: &Observed,
    now: Timestamp,
) -> Health {
    let mut judge = Judge { expected, now, figures: Figures::default(), findings: Vec::new() };
    let mut good: Vec<&Sample> = observed.samples.iter().filter(|sample| sample.is_sound).collect();
    good.sort_by(|a, b| (b.ended_at, &b.id).cmp(&(a.ended_at, &a.id)));
    judge.counted(observed, &good);
    match good.first() {
        None => judge.say(Level::Critical, "there is no good backup".to_owned()),
        Some(newest) => {
            judge.aged(newest, schedule);
            let before: Vec<&Sample> =
                good.iter().skip(1).copied().filter(|sample| sample.dbname == newest.dbname).collect();
            judge.sized(newest, &before);
            judge.roomy((newest, schedule), &good, observed.room);
        }
    }
    judge.databases(&good, schedule);
    judge.attested(&good);
    judge.archived(observed.newest_wal_at);
    judge.apart(&observed.wal_stores);
    let Judge { figures, findings, .. } = judge;
    Health {
        name: name.to_owned(),
        source: expected.source.clone(),
        kind: expected.kind.clone(),
        store: String::new(),
        level: findings.iter().fold(Level::Ok, |worst, finding| worst.worse(finding.level)),
        findings,
        figures,
    }
}

impl Judge<'_> {
    fn say(&mut self, level: Level, message: String) {
        self.findings.push(Finding { level, message });
    }

    fn since(&self, at: Timestamp) -> Duration {
        clock::between(at, self.now)
    }

    fn counted(&mut self, observed: &Observed, good: &[&Sample]) {
        let damaged = (observed.samples.len() - good.len()) as u64;
        self.figures.count = observed.samples.len() as u64 + observed.unreadable;
        self.figures.damaged = damaged + observed.unreadable;
        self.figures.held = observed.samples.iter().filter(|sample| sample.is_held).count() as u64;
        if damaged > 0 {
            self.say(Level::Critical, format!("{damaged} known to be damaged"));
        }
        if observed.unreadable > 0 {
            self.say(Level::Warning, format!("{} with a manifest that cannot be used", observed.unreadable));
        }
    }

    fn aged(&mut self, newest: &Sample, schedule: Option<&Schedule>) {
        let age = self.since(newest.ended_at);
        self.figures.newest = Some(newest.id.clone());
        self.figures.age_s = Some(age.as_secs());
        if newest.ended_at > clock::after(self.now, Duration::from_secs(300)) {
            self.say(Level::Unknown, format!("the newest ended at {}, which is still to come", newest.ended_at));
        }
        if let Some(max) = self.expected.max_age.filter(|max| age > max.0) {
            self.say(Level::Critical, format!("the newest is {} old (max {max})", human_duration(age)));
        }
        let Some(schedule) = schedule else { return };
        self.figures.missed = self.missed(newest, schedule);
        if self.figures.missed > 0 {
            let missed = self.figures.missed;
            self.say(Level::Warning, format!("{missed} missed of {schedule}"));
        }
    }

    /// How many times one was due, and had its grace, since the newest ended.
    fn missed(&self, newest: &Sample, schedule: &Schedule) -> u64 {
        let grace = self.expected.grace.map_or(GRACE, |grace| grace.0);
        let mut due = newest.ended_at;
        for count in 0..COUNTED {
            match schedule.next_due(due) {
                Some(next) if clock::after(next, grace) <= self.now => due = next,
                Some(_) | None => return count,
            }
        }
        COUNTED
    }

    /// Of dumps: each database of the server has its own.
    fn databases(&mut self, good: &[&Sample], schedule: Option<&Schedule>) {
        let newest = newest_of_each(good);
        let is_old = |sample: &Sample, judge: &Self| {
            judge.is_old(sample, schedule).then(|| human_duration(judge.since(sample.ended_at)))
        };
        for dbname in &self.expected.dbnames {
            match newest.get(dbname.as_str()).map(|sample| is_old(sample, self)) {
                None => self.say(Level::Critical, format!("there is no good dump of database `{dbname}`")),
                Some(Some(age)) => {
                    self.say(Level::Critical, format!("the newest dump of database `{dbname}` is {age} old"))
                }
                Some(None) => {}
            }
        }
        let newest_of_all = good.first().and_then(|sample| sample.dbname.as_deref());
        if !self.expected.dbnames.is_empty() {
            return;
        }
        let old = newest.iter().filter(|(dbname, _)| Some(**dbname) != newest_of_all);
        let old: Vec<String> =
            old.filter_map(|(dbname, sample)| Some(format!("`{dbname}` ({})", is_old(sample, self)?))).collect();
        if !old.is_empty() {
            self.say(
                Level::Warning,
                format!(
                    "no newer dump of {}: where one was dropped, `dbnames` names those that are expected",
                    old.join(", ")
                ),
            );
        }
    }

    /// Whether a newer one should be there by now.
    fn is_old(&self, sample: &Sample, schedule: Option<&Schedule>) -> bool {
        self.expected.max_age.is_some_and(|max| self.since(sample.ended_at) > max.0)
            || schedule.is_some_and(|schedule| self.missed(sample, schedule) > 0)
    }

    fn sized(&mut self, newest: &Sample, before: &[&Sample]) {
        self.figures.size_bytes = Some(newest.size_bytes);
        if newest.size_bytes == 0 {
            self.say(Level::Critical, "the newest is empty".to_owned());
        }
        let mut sizes: Vec<u64> = before.iter().take(SIZES).map(|sample| sample.size_bytes).collect();
        sizes.sort_unstable();
        let Some(median) = sizes.get(sizes.len() / 2).copied().filter(|_| sizes.len() >= FEWEST) else { return };
        let change = u128::from(newest.size_bytes.abs_diff(median)) * 100 / u128::from(median.max(1));
        let change = u64::try_from(change).unwrap_or(u64::MAX);
        (self.figures.median_bytes, self.figures.size_change_percent) = (Some(median), Some(change));
        let max = self.expected.max_size_change.unwrap_or(MAX_SIZE_CHANGE);
        if change > u64::from(max.0) {
            let (size, median) = (ByteSize(newest.size_bytes), ByteSize(median));
            self.say(Level::Warning, format!("{size} is {change}% from the median of {median} (max {max})"));
        }
    }

    fn roomy(&mut self, (newest, schedule): (&Sample, Option<&Schedule>), good: &[&Sample], room: Option<Room>) {
        let Some(room) = room else { return };
        self.figures.free_bytes = Some(room.free_bytes);
        let of_each = newest_of_each(good);
        let size_of_newest = |sample: &Sample| {
            let dbname = sample.dbname.as_deref();
            dbname.and_then(|name| of_each.get(name)).map_or(newest.size_bytes, |one| one.size_bytes)
        };
        if let Some((oldest, since)) = good.split_last() {
            let days = clock::between(oldest.ended_at, newest.ended_at).as_secs() / 86_400;
            let stored: u128 = since.iter().map(|sample| u128::from(size_of_newest(sample))).sum();
            if days > 0 && stored > 0 {
                let a_day = stored / u128::from(days);
                self.figures.full_in_days = u64::try_from(u128::from(room.free_bytes) / a_day.max(1)).ok();
            }
        }
        // The next of dumps is one of every database. One that is dumped no more needs no room.
        let set = of_each.values().filter(|sample| !self.is_old(sample, schedule)).map(|sample| sample.size_bytes);
        let next_bytes = set.fold(0, u64::saturating_add).max(newest.size_bytes);
        let wanted = self.expected.min_room.unwrap_or(MIN_ROOM);
        let fits = room.free_bytes / next_bytes.max(1);
        let free = ByteSize(room.free_bytes);
        match fits {
            0 => self.say(Level::Critical, format!("{free} free: the next one does not fit")),
            fits if fits < u64::from(wanted) => {
                self.say(Level::Warning, format!("{free} free: room for {fits} more (min {wanted})"))
            }
            _ => {}
        }
    }

    fn attested(&mut self, good: &[&Sample]) {
        let zone = crate::base::zone::Zone::default();
        let proven = good.iter().filter_map(|sample| sample.proven_at).max();
        let verified = good.iter().filter_map(|sample| sample.verified_at).max();
        self.figures.proof_age_s = proven.map(|at| self.since(at).as_secs());
        self.figures.verification_age_s = verified.map(|at| self.since(at).as_secs());
        let failed = good.iter().filter_map(|sample| Some((sample.failed_at?, &sample.id))).max();
        if let Some((at, id)) = failed.filter(|(at, _)| proven.is_none_or(|proven| *at > proven)) {
            let age = self.since(at);
            self.figures.proof_failed_age_s = Some(age.as_secs());
            let age = human_duration(age);
            let fact = format!("the restore of `{id}` failed its checks {age} ago, and none passed since");
            self.say(Level::Critical, fact);
        }
        let limits = [
            ("restore was proven", proven, self.expected.max_proof_age),
            ("backup was verified", verified.max(proven), self.expected.max_verification_age),
        ];
        for (what, last, limit) in limits {
            let Some(limit) = limit else { continue };
            match last {
                None => self.say(Level::Warning, format!("no {what} yet (max {limit})")),
                Some(at) if at < limit.before(self.now, zone.as_tz()) => {
                    let age = human_duration(self.since(at));
                    self.say(Level::Warning, format!("no {what} for {age} (max {limit})"));
                }
                Some(_) => {}
            }
        }
    }

    fn archived(&mut self, newest: Option<Timestamp>) {
        let age = newest.map(|at| self.since(at));
        self.figures.wal_age_s = age.map(|age| age.as_secs());
        let Some(max) = self.expected.max_wal_age else { return };
        match age {
            None => self.say(Level::Critical, "no WAL is archived".to_owned()),
            Some(age) if age > max.0 => {
                self.say(Level::Critical, format!("the newest WAL is {} old (max {max})", human_duration(age)));
            }
            Some(_) => {}
        }
    }

    /// What only some of several stores have: one loss away from being lost.
    fn apart(&mut self, stores: &[(String, Result<Option<Timestamp>, String>)]) {
        for (store, newest) in stores {
            let newest = match newest {
                Ok(newest) => *newest,
                Err(why) => {
                    self.say(Level::Warning, format!("store `{store}` of its WAL gives no answer: {why}"));
                    continue;
                }
            };
            let age = newest.map(|at| self.since(at));
            match (age, self.expected.max_wal_age) {
                (None, _) => self.say(Level::Warning, format!("store `{store}` has none of its WAL")),
                (Some(age), Some(max)) if age > max.0 => {
                    let age = human_duration(age);
                    self.say(Level::Warning, format!("the newest WAL in store `{store}` is {age} old (max {max})"));
                }
                (Some(_), Some(_) | None) => {}
            }
        }
    }
}

/// Of dumps, the newest of each database; they are sorted newest first.
fn newest_of_each<'a>(good: &[&'a Sample]) -> BTreeMap<&'a str, &'a Sample> {
    let mut newest: BTreeMap<&str, &Sample> = BTreeMap::new();
    for sample in good {
        if let Some(dbname) = &sample.dbname {
            newest.entry(dbname).or_insert(sample);
        }
    }
    newest
}
