//! Texts with a form of their own: what is wrong with one, and how it is written.

use crate::base::age::Age;
use crate::base::cron::Cron;
use crate::base::diagnostic::{Code, Diagnostic};
use crate::base::units::{ByteSize, Percent, Span};
use crate::base::zone::Zone;

/// What is wrong with a text in a form that a schema names; `None` when nothing is.
pub(super) fn fault(format: &str, text: &str) -> Option<Diagnostic> {
    let (code, message, help) = match format {
        "runbook-duration" => {
            let help = match text.parse::<u64>() {
                Ok(number) => format!("add a unit: `{number}s`, `{number}m` or `{number}h`"),
                Err(_) => {
                    "whole numbers with `ms`, `s`, `m`, `h` or `d`, largest first: `90s`, `15m`, `1h30m`".to_owned()
                }
            };
            (Code::BadDuration, text.parse::<Span>().err()?.to_string(), help)
        }
        "runbook-age" => {
            let help = "one whole number with `h`, `d`, `w`, `mo` or `y`: `30d`, `12w`, `7y`";
            (Code::BadDuration, text.parse::<Age>().err()?.to_string(), help.to_owned())
        }
        "runbook-size" => {
            let help = "a whole number with an optional unit: `512`, `16MiB`, `5GB`";
            (Code::BadSize, text.parse::<ByteSize>().err()?.to_string(), help.to_owned())
        }
        "runbook-cron" => {
            let error = text.parse::<Cron>().err()?;
            let help = format!("minute, hour, day, month, weekday: `0 2 * * *` is 02:00 every day ({})", error.why);
            (Code::UnknownValue, error.to_string(), help)
        }
        "runbook-timezone" => {
            let help = "a name of the time zone database: `Europe/Berlin`, `UTC`";
            (Code::UnknownValue, text.parse::<Zone>().err()?.to_string(), help.to_owned())
        }
        "runbook-percent" => {
            let help = "a whole number with `%`: `50%`";
            (Code::UnknownValue, text.parse::<Percent>().err()?.to_string(), help.to_owned())
        }
        _ => return None,
    };
    Some(Diagnostic::new(code, message).help(help))
}
