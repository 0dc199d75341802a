//! Points in time as people write them: `2026-01-28T15:30:00Z`, `14:30 Europe/Berlin`, `5m ago`.
//!
//! A time that depends on the machine that reads it, or that happened twice or never, is refused.

use jiff::civil::{DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::base::Timestamp;
use crate::base::diagnostic::Code;
use crate::base::units::Span;

/// The text is no point in time that means the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not understood at all.
    #[error("`{0}` is not a point in time")]
    Malformed(String),
    /// No offset and no zone.
    #[error("`{0}` has no offset: it means another time on another machine")]
    WithoutOffset(String),
    /// The zone is not in this machine's database.
    #[error("the time zone `{0}` is not known here")]
    UnknownZone(String),
    /// The clocks were set back: the hour happened twice.
    #[error("`{text}` happened twice, when the clocks were set back: at {first} and at {second}")]
    Twice {
        /// What was written.
        text: String,
        /// The first moment, in UTC.
        first: Timestamp,
        /// The second moment, in UTC.
        second: Timestamp,
    },
    /// The clocks were set forward: the time never was.
    #[error("`{0}` never was: the clocks were set forward over it")]
    Never(String),
    /// A time of day without a date that is still to come today.
    #[error("`{0}` is still to come today")]
    StillToCome(String),
}

impl TimeError {
    /// The code of a diagnostic about it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::WithoutOffset(_) => Code::TimestampWithoutOffset,
            Self::Malformed(_) | Self::UnknownZone(_) | Self::Twice { .. } | Self::Never(_) | Self::StillToCome(_) => {
                Code::BadTimestamp
            }
        }
    }

    /// What to do next.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Malformed(_) => "write `2026-01-28T15:30:00Z`, `14:30 Europe/Berlin` or `5m ago`".to_owned(),
            Self::WithoutOffset(text) => format!("add `Z`, `+01:00` or a zone: `{text} Europe/Berlin`"),
            Self::UnknownZone(_) => "use a name such as `Europe/Berlin`, or an offset such as `+01:00`".to_owned(),
            Self::Twice { first, second, .. } => format!("write the one you mean: `{first}` or `{second}`"),
            Self::Never(_) => "write the time with its offset, such as `+01:00` or `Z`".to_owned(),
            Self::StillToCome(text) => format!("write the date as well: `2026-01-28 {text}`"),
        }
    }
}

/// Reads a point in time; `now` is what `ago` and a time of day without a date refer to.
///
/// # Errors
/// Says why the text does not name exactly one moment.
pub fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, TimeError> {
    let text = text.trim();
    if text == "now" {
        return Ok(now);
    }
    if let Some(span) = text.strip_suffix("ago") {
        return ago(text, span, now);
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    match text.rsplit_once(char::is_whitespace) {
        Some((local, zone)) if zone.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            zoned(text, local.trim(), zone, now)
        }
        Some(_) | None if local_time(text).is_some() => Err(TimeError::WithoutOffset(text.to_owned())),
        Some(_) | None => Err(TimeError::Malformed(text.to_owned())),
    }
}

fn ago(text: &str, span: &str, now: Timestamp) -> Result<Timestamp, TimeError> {
    let bad = || TimeError::Malformed(text.to_owned());
    let span: Span = span.trim().parse().map_err(|_| bad())?;
    let span = jiff::SignedDuration::try_from(span.0).map_err(|_| bad())?;
    now.checked_sub(span).map_err(|_| bad())
}

enum Local {
    At(DateTime),
    TimeOfDay(Time),
}

fn local_time(text: &str) -> Option<Local> {
    let has_date = text.contains('-');
    if has_date {
        return text.parse::<DateTime>().ok().map(Local::At);
    }
    let time = text.parse::<Time>().ok().filter(|_| text.contains(':'))?;
    Some(Local::TimeOfDay(time))
}

fn zoned(text: &str, local: &str, zone: &str, now: Timestamp) -> Result<Timestamp, TimeError> {
    let local = local_time(local).ok_or_else(|| TimeError::Malformed(text.to_owned()))?;
    let zone = TimeZone::get(zone).map_err(|_| TimeError::UnknownZone(zone.to_owned()))?;
    let at = match &local {
        Local::At(at) => *at,
        Local::TimeOfDay(time) => zone.to_datetime(now).date().to_datetime(*time),
    };
    let ambiguous = zone.to_ambiguous_timestamp(at);
    let moment = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => {
            ambiguous.unambiguous().map_err(|_| TimeError::Malformed(text.to_owned()))?
        }
        AmbiguousOffset::Gap { .. } => return Err(TimeError::Never(text.to_owned())),
        AmbiguousOffset::Fold { .. } => {
            let bad = |_| TimeError::Malformed(text.to_owned());
            let first = ambiguous.earlier().map_err(bad)?;
            let second = ambiguous.later().map_err(bad)?;
            return Err(TimeError::Twice { text: text.to_owned(), first, second });
        }
    };
    if matches!(local, Local::TimeOfDay(_)) && moment > now {
        return Err(TimeError::StillToCome(text.to_owned()));
    }
    Ok(moment)
}

#[cfg(test)]
mod tests {
    use super::{TimeError, parse_time};
    use crate::base::Timestamp;

    fn read(text: &str) -> Result<String, TimeError> {
        let now: Timestamp = "2026-01-28T15:30:00Z".parse().expect("now");
        parse_time(text, now).map(|at| at.to_string())
    }

    #[test]
    fn every_form_of_the_manual_is_one_moment() {
        for (text, utc) in [
            ("2026-01-28T15:30:00Z", "2026-01-28T15:30:00Z"),
            ("2026-01-28T15:30:00+02:00", "2026-01-28T13:30:00Z"),
            ("2026-01-28 14:30 Europe/Berlin", "2026-01-28T13:30:00Z"),
            ("2026-07-01 14:30:05 Europe/Berlin", "2026-07-01T12:30:05Z"),
            ("14:30 Europe/Berlin", "2026-01-28T13:30:00Z"),
            ("5m ago", "2026-01-28T15:25:00Z"),
            ("1h30m ago", "2026-01-28T14:00:00Z"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(utc), "{text}");
        }
    }

    #[test]
    fn a_time_without_offset_is_refused() {
        for text in ["2026-01-28T15:30:00", "2026-01-28 15:30", "14:30", "2026-01-28"] {
            assert!(matches!(read(text), Err(TimeError::WithoutOffset(_))), "{text}: {:?}", read(text));
        }
    }

    #[test]
    fn an_hour_that_happened_twice_or_never_is_refused() {
        let twice = read("2025-10-26 02:30 Europe/Berlin");
        assert!(matches!(twice, Err(TimeError::Twice { .. })), "{twice:?}");
        let never = read("2025-03-30 02:30 Europe/Berlin");
        assert!(matches!(never, Err(TimeError::Never(_))), "{never:?}");
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in ["", "yesterday", "15:30 Mars/Phobos", "soon ago", "25:00 Europe/Berlin", "14", "-5m ago"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(matches!(read("20:00 Europe/Berlin"), Err(TimeError::StillToCome(_))));
    }
}
