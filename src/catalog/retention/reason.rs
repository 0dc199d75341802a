//! Why a backup stays, and why nothing is removed at all.

use std::fmt;

use serde::Serialize;

use crate::base::Timestamp;
use crate::base::age::Age;

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
    #[error("this machine's clock says {now}, but the history of runs knows {known}: the clock went back")]
    ClockWentBack {
        /// The clock.
        now: Timestamp,
        /// The later time.
        known: Timestamp,
    },
    /// A backup ended in the future.
    #[error("backup `{id}` ended at {ended_at}, but this machine's clock says {now}: one of two clocks is wrong")]
    FromTheFuture {
        /// The backup.
        id: String,
        /// When it says it ended.
        ended_at: Timestamp,
        /// The clock.
        now: Timestamp,
    },
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
