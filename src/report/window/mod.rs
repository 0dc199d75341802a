//! What can be recovered, in wall-clock time: a picture for the terminal, and one for a page.
//!
//! The chart is made of facts that somebody read; drawing it reads nothing. Start with [`Chart`].

mod svg;
mod text;

pub use svg::svg;
pub use text::text;

use serde::Serialize;

use crate::base::Timestamp;
use crate::base::clock::{after, between};
use crate::pgformat::{Lsn, SystemId, Timeline};

/// What can be recovered of one cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chart {
    /// The database.
    pub database: String,
    /// The cluster.
    pub system_id: SystemId,
    /// One lane per timeline, oldest first.
    pub lanes: Vec<ChartLane>,
    /// Its base backups, oldest first.
    pub backups: Vec<ChartBackup>,
    /// When it was looked at.
    pub at: Timestamp,
    /// What could not be found out, and what else is worth knowing.
    pub notes: Vec<String>,
}

/// One timeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChartLane {
    /// The timeline.
    pub timeline: Timeline,
    /// The timeline it left.
    pub left: Option<Timeline>,
    /// Where it left it.
    pub fork: Option<Lsn>,
    /// What can be recovered, and what cannot, in order.
    pub spans: Vec<Span>,
}

/// A stretch of time that can be recovered, or that cannot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Span {
    /// Whether it can be recovered.
    pub state: SpanState,
    /// Its first moment; `None` when nothing tells.
    pub from_at: Option<Timestamp>,
    /// Its last moment: that of the newest commit in it.
    pub to_at: Option<Timestamp>,
    /// Its first position.
    pub from: Lsn,
    /// Its last position.
    pub to: Lsn,
    /// Where it comes from, or why there is none.
    pub why: Vec<String>,
}

/// Whether a stretch of time can be recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanState {
    /// Each moment of it.
    Recoverable,
    /// No moment of it.
    Gap,
}

/// A base backup.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChartBackup {
    /// Its id.
    pub id: String,
    /// What it is.
    pub form: BackupForm,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Its timeline.
    pub timeline: Timeline,
    /// Why it cannot be restored.
    pub fault: Option<String>,
}

/// What a backup is: each has a mark of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupForm {
    /// A base backup of ours.
    Base,
    /// A snapshot of a volume.
    Snapshot,
    /// A backup of pgBackRest, whose WAL lies in an archive of its own.
    PgBackRest,
}

impl BackupForm {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base backup",
            Self::Snapshot => "snapshot",
            Self::PgBackRest => "pgBackRest",
        }
    }
}

/// The time that a picture spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Axis {
    begin: Timestamp,
    end: Timestamp,
}

impl Chart {
    /// The time from the first known moment to the look; `None` when no moment is known.
    fn axis(&self) -> Option<Axis> {
        let spans = self.lanes.iter().flat_map(|lane| &lane.spans).flat_map(|span| [span.from_at, span.to_at]);
        let backups = self.backups.iter().map(|backup| Some(backup.ended_at));
        let known: Vec<Timestamp> = spans.chain(backups).flatten().collect();
        let begin = *known.iter().min()?;
        let end = known.into_iter().chain([self.at]).max()?;
        (begin < end).then_some(Axis { begin, end })
    }
}

impl Axis {
    /// Where a moment lies: 0 at the begin, 1 at the end.
    fn place(self, at: Timestamp) -> f64 {
        (between(self.begin, at).as_secs_f64() / between(self.begin, self.end).as_secs_f64()).clamp(0.0, 1.0)
    }

    /// Which of so many equal parts a moment lies in.
    fn part(self, at: Timestamp, parts: usize) -> usize {
        let (gone, all) = (between(self.begin, at).as_micros(), between(self.begin, self.end).as_micros());
        let part = gone.saturating_mul(parts as u128) / all.max(1);
        usize::try_from(part).unwrap_or(usize::MAX).min(parts.saturating_sub(1))
    }

    /// The moment at a place.
    fn moment(self, place: f64) -> Timestamp {
        after(self.begin, between(self.begin, self.end).mul_f64(place))
    }
}

/// A moment to the second, in UTC.
fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A moment that may not be known.
fn told(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "?".to_owned(), moment)
}

#[cfg(test)]
mod tests;
