//! Lengths of time by the calendar: `30d`, `12w`, `6mo`, `7y`; seven years are no number of days.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Timestamp;

/// How old something may be: one whole number with `h`, `d`, `w`, `mo` or `y`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Age {
    count: u32,
    unit: AgeUnit,
}

/// What an [`Age`] counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum AgeUnit {
    Hours,
    Days,
    Weeks,
    Months,
    Years,
}

/// The text is not an age.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an age")]
pub struct ParseAgeError(String);

const UNITS: [(&str, AgeUnit); 5] = [
    ("h", AgeUnit::Hours),
    ("d", AgeUnit::Days),
    ("w", AgeUnit::Weeks),
    ("mo", AgeUnit::Months),
    ("y", AgeUnit::Years),
];

impl Age {
    /// Gives the moment that is this long before `anchor`. Hours are exact; everything longer goes back by the
    /// calendar of `zone` to the *beginning* of that day, so that nothing is ever too old a few hours early.
    ///
    /// Never goes back when `anchor` goes on. Saturates at the beginning of representable time.
    #[must_use]
    pub fn before(self, anchor: Timestamp, zone: &TimeZone) -> Timestamp {
        let count = i64::from(self.count);
        let span = match self.unit {
            AgeUnit::Hours => {
                let hours = jiff::SignedDuration::from_hours(count);
                return anchor.checked_sub(hours).unwrap_or(Timestamp::MIN);
            }
            AgeUnit::Days => jiff::Span::new().try_days(count),
            AgeUnit::Weeks => jiff::Span::new().try_weeks(count),
            AgeUnit::Months => jiff::Span::new().try_months(count),
            AgeUnit::Years => jiff::Span::new().try_years(count),
        };
        let day = span.and_then(|span| zone.to_datetime(anchor).date().checked_sub(span));
        day.and_then(|day| day.to_zoned(zone.clone())).map_or(Timestamp::MIN, |start| start.timestamp())
    }
}

impl FromStr for Age {
    type Err = ParseAgeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseAgeError(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, unit) = trimmed.split_at(digits);
        let unit = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?.1;
        let count = number.parse().ok().filter(|count| *count > 0).ok_or_else(bad)?;
        Ok(Self { count, unit })
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = UNITS.iter().find(|(_, unit)| *unit == self.unit).map_or("", |(name, _)| name);
        write!(f, "{}{name}", self.count)
    }
}

impl Serialize for Age {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for Age {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Age".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "runbook-age", "examples": ["30d", "7y"] })
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::Age;
    use crate::base::Timestamp;

    fn before(age: &str, anchor: &str) -> String {
        let zone = TimeZone::get("Europe/Berlin").expect("the zone");
        let age: Age = age.parse().expect("an age");
        age.before(anchor.parse().expect("a time"), &zone).to_string()
    }

    #[test]
    fn seven_years_are_seven_years_by_the_calendar() {
        assert_eq!(before("7y", "2026-03-10T12:00:00Z"), "2019-03-09T23:00:00Z");
        assert_eq!(before("1y", "2024-02-29T12:00:00Z"), "2023-02-27T23:00:00Z");
        assert_eq!(before("1mo", "2026-03-31T12:00:00Z"), "2026-02-27T23:00:00Z");
    }

    #[test]
    fn days_begin_at_midnight_of_the_zone_and_hours_are_exact() {
        assert_eq!(before("1d", "2026-03-30T12:00:00Z"), "2026-03-28T23:00:00Z", "the clocks went forward between");
        assert_eq!(before("24h", "2026-03-30T12:00:00Z"), "2026-03-29T12:00:00Z");
        assert_eq!(before("2w", "2026-11-01T12:00:00Z"), "2026-10-17T22:00:00Z", "and back between");
    }

    #[test]
    fn an_age_is_written_as_it_is_read_and_nothing_else_is_one() {
        for text in ["1h", "30d", "12w", "6mo", "7y"] {
            assert_eq!(text.parse::<Age>().expect(text).to_string(), text);
        }
        for text in ["", "7", "y", "0d", "-1d", "1d12h", "5m", "7 y", "1.5y"] {
            assert!(text.parse::<Age>().is_err(), "{text}");
        }
        let far: Age = "4000000000y".parse().expect("an age");
        assert_eq!(far.before("2026-01-01T00:00:00Z".parse().expect("a time"), &TimeZone::UTC), Timestamp::MIN);
    }
}
