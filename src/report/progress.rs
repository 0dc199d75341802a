//! What running attempts last said, and how long they still need.

use std::collections::BTreeMap;
use std::time::Duration;

use super::phrase::one_line;
use crate::base::clock::{after, between};
use crate::base::units::{ByteSize, human_duration};
use crate::base::{StepId, Timestamp};
use crate::event::{Progress, ProgressUpdate};

/// The last progress of each running step.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    tracks: BTreeMap<StepId, Track>,
}

/// The last progress of one attempt.
#[derive(Debug, Default)]
pub(super) struct Track {
    attempt: u32,
    units: Option<Units>,
    /// What it is doing, or the last line it wrote, on one line.
    pub(super) words: String,
}

#[derive(Debug)]
struct Units {
    first: (Timestamp, u64),
    done: u64,
    total: Option<u64>,
    unit: &'static str,
}

impl Tracker {
    /// Takes an update; `now` is the time of the last tick.
    pub(super) fn update(&mut self, update: &ProgressUpdate, now: Timestamp) {
        let track = self.tracks.entry(update.step.clone()).or_default();
        if track.attempt != update.attempt.0 {
            *track = Track { attempt: update.attempt.0, ..Track::default() };
        }
        match &update.progress {
            Progress::Units { done, total, unit } => {
                let first = match &track.units {
                    Some(units) if units.unit == *unit && units.done <= *done => units.first,
                    Some(_) | None => (now, *done),
                };
                track.units = Some(Units { first, done: *done, total: *total, unit });
            }
            Progress::Output { line, .. } => track.words = one_line(line),
            Progress::Doing { text } => track.words = one_line(text),
        }
    }

    /// Forgets a step that ended.
    pub(super) fn forget(&mut self, step: &StepId) {
        self.tracks.remove(step);
    }

    pub(super) fn of(&self, step: &StepId) -> Option<&Track> {
        self.tracks.get(step)
    }
}

impl Track {
    /// Gives the share done, 0 to 1, where the whole is known.
    #[expect(clippy::cast_precision_loss, reason = "a share for a bar")]
    pub(super) fn share(&self) -> Option<f64> {
        let units = self.units.as_ref()?;
        let total = units.total.filter(|total| *total > 0)?;
        Some((units.done as f64 / total as f64).min(1.0))
    }

    /// Gives how far it is in words: `45% (53.1 GiB of 118.0 GiB), about 7m 10s left`.
    pub(super) fn amount(&self, now: Timestamp) -> Option<String> {
        let units = self.units.as_ref()?;
        let count = |number: u64| match units.unit {
            "bytes" => ByteSize(number).to_string(),
            unit => format!("{number} {unit}"),
        };
        let Some(total) = units.total else { return Some(count(units.done)) };
        let percent = self.share().map_or(0.0, |share| (share * 100.0).floor());
        let left = self.left(now).map(|left| format!(", about {} left", human_duration(left))).unwrap_or_default();
        Some(format!("{percent:.0}% ({} of {}){left}", count(units.done), count(total)))
    }

    /// Estimates the time left from the mean speed since the first update.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn left(&self, now: Timestamp) -> Option<Duration> {
        let units = self.units.as_ref()?;
        let rest = units.total?.checked_sub(units.done).filter(|rest| *rest > 0)?;
        let gained = units.done.checked_sub(units.first.1).filter(|gained| *gained > 0)?;
        let passed = between(units.first.0, now);
        // A few seconds of history tell nothing.
        if now < after(units.first.0, Duration::from_secs(3)) {
            return None;
        }
        let seconds = passed.as_secs_f64() * rest as f64 / gained as f64;
        (seconds < 864_000.0).then(|| Duration::from_secs(Duration::from_secs_f64(seconds).as_secs()))
    }
}
