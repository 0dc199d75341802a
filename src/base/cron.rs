//! When something is due: cron patterns read in a time zone.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Timestamp;

/// A cron pattern: minute, hour, day, month, weekday.
///
/// Read in a zone, a time that the clocks skip is due when they have been set forward, and one that
/// happens twice is due the first time only.
#[derive(Clone, Debug)]
pub struct Cron(Box<croner::Cron>, String);

/// The text is not a cron pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a cron pattern")]
pub struct ParseCronError {
    text: String,
    /// What is wrong with it.
    pub why: String,
}

impl Cron {
    /// Gives the last time it was due, at `now` or before; `None` when it never was.
    #[must_use]
    pub fn last_due(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let now = now.to_zoned(zone.clone());
        self.0.find_previous_occurrence(&now, true).ok().map(|due| due.timestamp())
    }

    /// Gives the next time it is due after `after`; `None` when it never is again.
    #[must_use]
    pub fn next_due(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let after = after.to_zoned(zone.clone());
        self.0.find_next_occurrence(&after, false).ok().map(|due| due.timestamp())
    }
}

impl FromStr for Cron {
    type Err = ParseCronError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |why: String| ParseCronError { text: text.to_owned(), why };
        if !text.starts_with('@') && text.split_whitespace().count() != 5 {
            return Err(bad("it has not five fields".to_owned()));
        }
        let cron = text.parse().map_err(|error: croner::errors::CronError| bad(error.to_string()))?;
        Ok(Self(Box::new(cron), text.to_owned()))
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}

impl Eq for Cron {}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for Cron {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cron".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "runbook-cron", "examples": ["0 2 * * *"] })
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::Cron;

    fn due(pattern: &str, now: &str) -> (String, String) {
        let zone = TimeZone::get("Europe/Berlin").expect("the zone");
        let (cron, now): (Cron, _) = (pattern.parse().expect("a pattern"), now.parse().expect("a time"));
        let shown = |at: Option<crate::base::Timestamp>| at.map_or("never".to_owned(), |at| at.to_string());
        (shown(cron.last_due(now, &zone)), shown(cron.next_due(now, &zone)))
    }

    #[test]
    fn a_pattern_is_due_by_the_clocks_of_its_zone() {
        let (last, next) = due("0 2 * * *", "2026-07-10T12:00:00Z");
        assert_eq!((last.as_str(), next.as_str()), ("2026-07-10T00:00:00Z", "2026-07-11T00:00:00Z"));
        assert_eq!(due("0 2 * * *", "2026-07-10T00:00:00Z").0, "2026-07-10T00:00:00Z", "due now is due");
    }

    #[test]
    fn an_hour_that_is_skipped_is_due_once_when_the_clocks_were_set_forward() {
        // On 2026-03-29 clocks went from 02:00 to 03:00: 02:30 never was.
        let (last, next) = due("30 2 * * *", "2026-03-29T12:00:00Z");
        assert_eq!((last.as_str(), next.as_str()), ("2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"));
        assert_eq!(due("30 2 * * *", "2026-03-28T12:00:00Z").1, "2026-03-29T01:00:00Z");
    }

    #[test]
    fn an_hour_that_happens_twice_is_due_the_first_time_only() {
        // On 2026-10-25 clocks went from 03:00 back to 02:00: 02:30 was at 00:30 and at 01:30 UTC.
        let (last, next) = due("30 2 * * *", "2026-10-25T12:00:00Z");
        assert_eq!((last.as_str(), next.as_str()), ("2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "daily", "0 2 * *", "0 0 2 * * *", "61 * * * *", "0 25 * * *"] {
            assert!(text.parse::<Cron>().is_err(), "{text}");
        }
    }
}
