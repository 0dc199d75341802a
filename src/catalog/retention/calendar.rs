//! The hours, days, weeks, months and years of a time zone.

use jiff::tz::TimeZone;

use super::Period;
use crate::base::Timestamp;

impl Period {
    /// Names the stretch of the calendar that a moment falls into: `2026-01-28`, `2026-W05`.
    ///
    /// An hour that happens twice is two hours: its offset is part of the name.
    #[must_use]
    pub fn label(self, at: Timestamp, zone: &TimeZone) -> String {
        let local = at.to_zoned(zone.clone());
        match self {
            Self::Hour => local.strftime("%Y-%m-%d %H:00%:z").to_string(),
            Self::Day => local.strftime("%Y-%m-%d").to_string(),
            Self::Week => local.strftime("%G-W%V").to_string(),
            Self::Month => local.strftime("%Y-%m").to_string(),
            Self::Year => local.strftime("%Y").to_string(),
        }
    }
}
