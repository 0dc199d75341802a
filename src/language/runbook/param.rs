//! Values of parameters: what a type takes, from a file and from the command line.

use serde_json::Value;

use super::arguments::Judges;
use super::{Located, Param, ParamType};
use crate::base::Timestamp;
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::base::units::{ByteSize, Span};
use crate::language::document::{Node, plain};
use crate::language::template;
use crate::language::time::{TimeError, parse_time};

/// The value does not fit the parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParamError {
    /// The code of a diagnostic about it.
    pub code: Code,
    /// One fact, a lower-case fragment.
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
}

impl ParamError {
    fn new(code: Code, message: String) -> Self {
        Self { code, message, help: None }
    }
}

impl Param {
    /// Reads a value as this parameter's type: timestamps become UTC, texts of `-p name=value` become numbers.
    ///
    /// Names of inventory entries are texts here; whether they exist is asked elsewhere.
    ///
    /// # Errors
    /// Says why the value does not fit.
    pub fn read(&self, value: &Value, now: Timestamp) -> Result<Value, ParamError> {
        let read = self.kind.read(value, now)?;
        let fits = |allowed: &Value| *allowed == read || self.kind.read(allowed, now).is_ok_and(|value| value == read);
        if self.allowed.is_empty() || self.allowed.iter().any(fits) {
            return Ok(read);
        }
        let known: Vec<String> = self.allowed.iter().map(|value| format!("`{}`", plain(value))).collect();
        let error = ParamError::new(Code::UnknownValue, format!("`{}` is not one of the values allowed", plain(value)));
        Err(ParamError { help: Some(format!("allowed: {}", known.join(", "))), ..error })
    }
}

impl ParamType {
    /// Names the type for people.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::String => "a text",
            Self::Int => "a whole number",
            Self::Number => "a number",
            Self::Bool => "`true` or `false`",
            Self::Timestamp => "a point in time",
            Self::Duration => "a duration such as `15m`",
            Self::Size => "a size such as `16MiB`",
            Self::Database => "the name of a database",
            Self::Service => "the name of a service",
            Self::Store => "the name of a store",
        }
    }

    fn read(self, value: &Value, now: Timestamp) -> Result<Value, ParamError> {
        let wrong = || {
            let message = format!("{} is wanted, not `{}`", self.describe(), plain(value));
            ParamError::new(Code::WrongType, message)
        };
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return Err(wrong()),
        };
        let kept = || Value::String(text.clone());
        match self {
            Self::String => Ok(kept()),
            Self::Int => text.parse::<i64>().map(Value::from).map_err(|_| wrong()),
            Self::Number => {
                let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
                number.and_then(|_| serde_json::from_str(&text).ok()).filter(Value::is_number).ok_or_else(wrong)
            }
            Self::Bool => text.parse::<bool>().map(Value::from).map_err(|_| wrong()),
            Self::Timestamp => match parse_time(&text, now) {
                Ok(at) => Ok(Value::String(at.to_string())),
                Err(error) => Err(of_time(&error)),
            },
            Self::Duration => text.parse::<Span>().map(|_| kept()).map_err(|error| ParamError {
                help: Some("whole numbers with `ms`, `s`, `m`, `h` or `d`: `90s`, `15m`, `1h30m`".to_owned()),
                ..ParamError::new(Code::BadDuration, error.to_string())
            }),
            Self::Size => text.parse::<ByteSize>().map(|_| kept()).map_err(|error| ParamError {
                help: Some("a whole number with an optional unit: `512`, `16MiB`, `5GB`".to_owned()),
                ..ParamError::new(Code::BadSize, error.to_string())
            }),
            Self::Database | Self::Service | Self::Store if text.is_empty() => Err(wrong()),
            Self::Database | Self::Service | Self::Store => Ok(kept()),
        }
    }
}

fn of_time(error: &TimeError) -> ParamError {
    ParamError { code: error.code(), message: error.to_string(), help: Some(error.help()) }
}

/// Checks a declaration: its default and its allowed values are of its type.
pub(super) fn check(
    name: &Located<String>,
    param: &Param,
    (node, judges): (&Node, Judges<'_>),
    faults: &mut Diagnostics,
) {
    if name.value == "incident_at" && param.kind != ParamType::Timestamp {
        let at = node.get("type").map_or(name.at, |node| node.at);
        let fault = Diagnostic::new(Code::WrongType, "`incident_at` is reserved and must have the type `timestamp`");
        faults.push(fault.at(at).help("RTO and RPO count from it"));
    }
    for (index, value) in param.allowed.iter().enumerate() {
        if let Err(error) = param.kind.read(value, Timestamp::UNIX_EPOCH) {
            let at = node.get("enum").and_then(|list| list.items().get(index)).map_or(name.at, |item| item.at);
            faults.push(finding(error).at(at));
        }
    }
    let (Some(default), Some(place)) = (&param.default, node.get("default")) else { return };
    if default.as_str().is_some_and(template::is_template) {
        return;
    }
    match param.read(default, Timestamp::UNIX_EPOCH) {
        Err(error) => faults.push(finding(error).at(place.at)),
        Ok(value) => {
            let code = match param.kind {
                ParamType::Database => Code::UnknownDatabase,
                ParamType::Service => Code::UnknownService,
                ParamType::Store => Code::UnknownStore,
                _ => return,
            };
            let unknown = value.as_str().and_then(|name| judges.inventory.unknown(code, name));
            if let Some(fault) = unknown {
                faults.push(fault.at(place.at));
            }
        }
    }
}

fn finding(error: ParamError) -> Diagnostic {
    let fault = Diagnostic::new(error.code, error.message);
    match error.help {
        Some(help) => fault.help(help),
        None => fault,
    }
}
