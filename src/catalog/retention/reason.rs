//! Why a backup stays, and why nothing is removed at all.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Known;
use crate::base::age::Age;
use crate::base::units::human_duration;
use crate::base::{Timestamp, clock};

/// Why a backup stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepReason {
    /// It is the newest good one of its source and kind.
    Newest,
    /// Without it there would be too few good ones.
    Floor(usize),
    /// No newer one has been restored in a proof.
    LastProven,
    /// A person holds it.
    Held(String),
    /// It is known to be damaged: only a person removes it.
    Damaged(String),
    /// No rule speaks of its tier.
    Unruled(Option<String>),
    /// No policy speaks of its environment.
    OtherEnvironment(String),
    /// `keep_last`: its place among the last, from 1.
    Last(usize, u32),
    /// `keep_within`.
    Within(Age),
    /// The newest of an hour, day, week, month or year.
    Bucket(Period, String),
    /// `keep_until: verified`.
    Unverified,
    /// Another one that is kept is an increment to it.
    NeededBy(String),
    /// The time is in doubt.
    Refused,
    /// It is dated in the future by so much, so nobody knows how old it is.
    FromTheFuture(Duration),
}

/// A stretch of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week from Monday on, as ISO 8601 counts them.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// Why nothing at all is removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This machine's clock is behind a time that has been.
    #[error("this machine's clock says {now}, but {} at {}, {} later: the clock is wrong, or it was", known.what, known.at,
        human_duration(clock::between(*now, known.at)))]
    ClockWentBack {
        /// The clock.
        now: Timestamp,
        /// The later time.
        known: Known,
    },
    /// A backup ended in the future.
    #[error("backup `{id}` ended at {ended_at}, but this machine's clock says {now}, {} earlier: one of two clocks is wrong",
        human_duration(clock::between(*now, *ended_at)))]
    FromTheFuture {
        /// The backup.
        id: String,
        /// When it says it ended.
        ended_at: Timestamp,
        /// The clock.
        now: Timestamp,
    },
}

impl Refusal {
    /// The ways out of every doubt about the time.
    pub const HELP: &'static str = "if this machine's clock is wrong, set it right; if it is right and another one was not, \
         `runbook backups prune --despite-clock REASON` (in a runbook, `despite_clock`) prunes all the same: what is \
         dated in the future stays and counts for nothing; nothing was removed";
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("the newest good one"),
            Self::Floor(count) => write!(f, "never below {count} good ones"),
            Self::LastProven => f.write_str("the newest that a restore has proven"),
            Self::Held(why) => write!(f, "held: {why}"),
            Self::Damaged(what) => write!(f, "damaged ({what}): only a person removes it"),
            Self::Unruled(Some(tier)) => write!(f, "no rule speaks of tier `{tier}`"),
            Self::Unruled(None) => f.write_str("no rule speaks of backups without a tier"),
            Self::OtherEnvironment(name) => write!(f, "the inventory has no environment `{name}`"),
            Self::Last(place, of) => write!(f, "keep_last: {place} of {of}"),
            Self::Within(age) => write!(f, "keep_within: {age}"),
            Self::Bucket(period, label) => write!(f, "{period}: {label}"),
            Self::Unverified => f.write_str("keep_until: verified, and no later one is"),
            Self::NeededBy(child) => write!(f, "needed by its increment `{child}`"),
            Self::Refused => f.write_str("the time is in doubt"),
            Self::FromTheFuture(by) => {
                write!(f, "dated {} in the future, so its age is not known", human_duration(*by))
            }
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        })
    }
}
