//! What a place will hold: backups go on coming as they came, retention and lifecycle go on working.
//!
//! The very plan that `prune` carries out is made for each day to come; what it removes is gone, and where old
//! versions are kept or a class has a minimum duration, it is billed for a while longer.

use std::time::Duration;

use serde::Serialize;

use super::pace::{Pace, days, pace, series, wal_pace};
use super::{Ladder, Stock, Tariff, Terms};
use crate::base::{Timestamp, clock};
use crate::catalog::retention::{Candidate, Moment, Policy, Survey, plan};

const DAY: Duration = Duration::from_secs(86_400);

/// One backup with where its objects lie.
#[derive(Debug, Clone)]
pub struct Lot {
    /// The backup, as retention judges it.
    pub candidate: Candidate,
    /// How many objects it has.
    pub objects: u64,
    /// The classes its objects go through.
    pub ladder: Ladder,
}

/// One archived WAL file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalLot {
    /// Its size, as stored.
    pub size_bytes: u64,
    /// When it was archived.
    pub archived_at: Timestamp,
}

/// How long what was deleted stays as an old version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldVersions {
    /// Not at all.
    Gone,
    /// So many days.
    Days(u32),
    /// For ever: no rule removes it.
    ForEver,
}

/// What is known of the place.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// What is pruned; `None`: nothing.
    pub policy: Option<&'a Policy>,
    /// How long deleted objects stay.
    pub old_versions: OldVersions,
    /// What it costs.
    pub tariff: Option<&'a Tariff>,
    /// Today.
    pub now: Timestamp,
    /// How many days are looked ahead.
    pub days: u32,
    /// The classes WAL goes through.
    pub wal_ladder: &'a Ladder,
}

/// What a place will hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outlook {
    /// Backups and WAL.
    pub stock: Stock,
    /// What was deleted and is billed all the same: old versions, minimum durations.
    pub lingering: Stock,
    /// What goes before the minimum duration of its class.
    pub too_short: Vec<TooShort>,
    /// What is counted as it is today, because nothing tells how it goes on.
    pub without_pace: Vec<String>,
}

/// Something that goes before the minimum duration of its class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TooShort {
    /// What it is.
    pub what: String,
    /// The class.
    pub class: String,
    /// How many days it lies in that class.
    pub kept_days: u32,
    /// For how many it is billed.
    pub minimum_days: u32,
}

/// Looks ahead at one place: the backups under a prefix and their WAL.
#[must_use]
pub fn outlook(lots: Vec<Lot>, wal: &[WalLot], ground: Ground<'_>) -> Outlook {
    let mut course = Course { ground, live: Vec::new(), told: Outlook::default() };
    let mut coming = course.coming(&lots);
    course.live = lots;
    coming.sort_by_key(|lot| lot.candidate.ended_at);
    let mut coming = coming.into_iter().peekable();
    for day in 1..=ground.days {
        let today = at(ground.now, day);
        while let Some(lot) = coming.next_if(|lot| lot.candidate.ended_at <= today) {
            course.arrive(lot);
        }
        course.prune(day, today);
    }
    for lot in &course.live {
        let age = whole(days(lot.candidate.ended_at, at(ground.now, ground.days)));
        course.told.stock.add(lot.ladder.at(age).1, (lot.objects, lot.candidate.size_bytes), ground.tariff);
    }
    course.wal(wal);
    course.told.too_short.sort();
    // Of each thing the shortest says enough.
    course.told.too_short.dedup_by(|later, first| (&later.what, &later.class) == (&first.what, &first.class));
    course.told
}

/// The days as they pass.
struct Course<'a> {
    ground: Ground<'a>,
    live: Vec<Lot>,
    told: Outlook,
}

impl Course<'_> {
    /// What will be made, by the pace of each series.
    fn coming(&mut self, lots: &[Lot]) -> Vec<Lot> {
        let end = at(self.ground.now, self.ground.days);
        let mut coming = Vec::new();
        for (number, (_, lots)) in series(lots).into_iter().enumerate() {
            let Some(Pace { every, next }) = pace(&lots) else {
                self.told.without_pace.extend(lots.last().map(|lot| named(&lot.candidate)));
                continue;
            };
            let mut ended_at = clock::after(next.candidate.ended_at.max(clock::before(self.ground.now, every)), every);
            while ended_at <= end {
                let mut lot = next.clone();
                lot.candidate.id = format!("future-{number}-{}", coming.len());
                lot.candidate.ended_at = ended_at;
                lot.candidate.standing.verified_at = next.candidate.standing.verified_at.map(|_| ended_at);
                lot.candidate.standing.proven_at = None;
                coming.push(lot);
                ended_at = clock::after(ended_at, every);
            }
        }
        coming
    }

    /// An increment rests on the newest whole one.
    fn arrive(&mut self, mut lot: Lot) {
        if lot.candidate.parent.is_some() {
            let whole = self.live.iter().map(|other| &other.candidate).filter(|other| other.parent.is_none());
            let mine = whole.filter(|other| other.group() == lot.candidate.group());
            lot.candidate.parent = mine.max_by_key(|other| other.ended_at).map(|other| other.id.clone());
        }
        self.live.push(lot);
    }

    /// Removes what retention or a rule of the bucket lets go on a day.
    fn prune(&mut self, day: u32, today: Timestamp) {
        let mut gone: Vec<Candidate> = Vec::new();
        if let Some(policy) = self.ground.policy {
            let backups = self.live.iter().map(|lot| lot.candidate.clone()).collect();
            let survey = Survey { backups, ..Survey::default() };
            gone.extend(plan(&survey, policy, &Moment::at(today)).remove.into_iter().map(|one| one.backup));
        }
        let expired = |lot: &Lot| {
            lot.ladder.expiry_days.is_some_and(|expiry| whole(days(lot.candidate.ended_at, today)) >= expiry)
        };
        let goes = |lot: &Lot| {
            let same = |one: &Candidate| one.key() == lot.candidate.key();
            expired(lot) || gone.iter().any(same)
        };
        let (removed, live): (Vec<Lot>, Vec<Lot>) =
            std::mem::take(&mut self.live).into_iter().partition(|lot| goes(lot));
        self.live = live;
        for lot in removed {
            let age = whole(days(lot.candidate.ended_at, today));
            let (from, class) = lot.ladder.at(age);
            let lingers = self.lingers(&named(&lot.candidate), class, age - from.min(age));
            if self.ground.days - day < lingers {
                self.told.lingering.add(class, (lot.objects, lot.candidate.size_bytes), self.ground.tariff);
            }
        }
    }

    /// For how many days something is billed after it was deleted.
    fn lingers(&mut self, what: &str, class: &str, kept_days: u32) -> u32 {
        let price = self.ground.tariff.and_then(|tariff| tariff.class(class));
        let minimum_days = Terms::of(class, price).minimum_days;
        if kept_days < minimum_days {
            let (what, class) = (what.to_owned(), class.to_owned());
            self.told.too_short.push(TooShort { what, class, kept_days, minimum_days });
        }
        let version = match self.ground.old_versions {
            OldVersions::Gone => 0,
            OldVersions::Days(days) => days,
            OldVersions::ForEver => u32::MAX,
        };
        version.max(minimum_days.saturating_sub(kept_days))
    }

    /// Adds the WAL that will be there, and what lingers of what went.
    fn wal(&mut self, wal: &[WalLot]) {
        let ground = self.ground;
        let ladder = ground.wal_ladder;
        let Some((objects, bytes)) = wal_pace(wal) else {
            for lot in wal {
                let age = whole(days(lot.archived_at, at(ground.now, ground.days)));
                self.told.stock.add(ladder.at(age).1, (1, lot.size_bytes), ground.tariff);
            }
            if !wal.is_empty() {
                self.told.without_pace.push("WAL".to_owned());
            }
            return;
        };
        let oldest = wal.iter().map(|lot| days(lot.archived_at, ground.now)).fold(0.0, f64::max);
        let all = whole(oldest) + ground.days;
        let kept = self.wal_days().map_or(all, |days| days.min(all));
        for (class, spent) in ladder.spread(kept) {
            self.told.stock.add(class, times((objects, bytes), spent), ground.tariff);
        }
        let lived = ladder.expiry_days.map_or(kept, |expiry| expiry.min(kept));
        if lived < all {
            let (from, class) = ladder.at(lived);
            let lingers = self.lingers("WAL", class, lived - from.min(lived)).min(all - lived);
            self.told.lingering.add(class, times((objects, bytes), lingers), ground.tariff);
        }
    }

    /// How many days of WAL are kept at the end; `None`: all of it.
    fn wal_days(&self) -> Option<u32> {
        let policy = self.ground.policy?;
        let end = at(self.ground.now, self.ground.days);
        let bases = self.live.iter().map(|lot| &lot.candidate).filter(|one| one.cluster.is_some());
        let mut ends: Vec<Timestamp> = bases.map(|one| one.ended_at).collect();
        ends.sort_unstable();
        let (oldest, newest) = (*ends.first()?, *ends.last()?);
        let within = policy.own.wal.as_ref().and_then(|rule| rule.keep_within);
        let begin = within.map_or(oldest, |age| {
            let from = age.before(newest, policy.own.zone().as_tz());
            ends.iter().rev().copied().find(|end| *end <= from).unwrap_or(oldest)
        });
        Some(whole(days(begin, end)).saturating_add(1))
    }
}

fn at(now: Timestamp, day: u32) -> Timestamp {
    clock::after(now, DAY * day)
}

fn named(candidate: &Candidate) -> String {
    let tier = candidate.tier.as_ref().map(|tier| format!(" ({tier})")).unwrap_or_default();
    format!("{} of `{}`{tier}", candidate.kind, candidate.source)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "days; saturates")]
fn whole(days: f64) -> u32 {
    days as u32
}

/// So many days of a pace.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate; saturates")]
fn times((objects, bytes): (f64, f64), days: u32) -> (u64, u64) {
    let days = f64::from(days);
    ((objects * days).ceil() as u64, (bytes * days) as u64)
}

#[cfg(test)]
mod tests;
