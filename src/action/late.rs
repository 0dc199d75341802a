//! Arguments whose value may be known only when the step starts.

use serde::de::{self, Deserialize, Deserializer};
use serde_json::Value;

/// A value that may still be pending at bind and in checks before the first step.
///
/// Only arguments of this type accept outputs of other steps. A pending value is encoded as
/// `{"$late": "steps.stage.staged"}`; when the step starts every value is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Late<T> {
    /// Known.
    Known(T),
    /// Not known yet; the expression it will come from.
    Pending(String),
}

/// The member that marks a pending value.
pub const LATE_KEY: &str = "$late";

impl<T> Late<T> {
    /// Gives the value if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Pending(_) => None,
        }
    }

    /// Gives the value of a step that runs.
    ///
    /// # Errors
    /// Fails (fatally) when it is pending, which a running step never sees.
    pub fn get(&self) -> Result<&T, super::ActionError> {
        match self {
            Self::Known(value) => Ok(value),
            Self::Pending(expression) => {
                Err(super::ActionError::fatal(format!("the value of `{expression}` is not known yet")))
            }
        }
    }

    /// Makes the marker of a pending value.
    #[must_use]
    pub fn marker(expression: &str) -> Value {
        serde_json::json!({ LATE_KEY: expression })
    }
}

/// Tells whether a JSON value is the marker of a pending value, and gives its expression.
#[must_use]
pub fn pending(value: &Value) -> Option<&str> {
    match value {
        Value::Object(map) if map.len() == 1 => map.get(LATE_KEY).and_then(Value::as_str),
        _ => None,
    }
}

impl<'de, T: de::DeserializeOwned> Deserialize<'de> for Late<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if let Some(expression) = pending(&value) {
            return Ok(Self::Pending(expression.to_owned()));
        }
        // A parameter or an output keeps its type; where a text is wanted, a number stands for its own digits.
        let text = matches!(value, Value::Number(_) | Value::Bool(_)).then(|| Value::String(value.to_string()));
        let known = serde_json::from_value(value).or_else(|error| match text {
            Some(text) => serde_json::from_value(text).map_err(|_| error),
            None => Err(error),
        });
        known.map(Self::Known).map_err(de::Error::custom)
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for Late<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Late_{}", T::schema_name()).into()
    }
    /// The schema of the value, marked `x-late`.
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let inner = T::json_schema(generator);
        let mut schema = inner;
        schema.insert("x-late".to_owned(), Value::Bool(true));
        schema
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Late;

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> Option<T> {
        match serde_json::from_value(value).ok()? {
            Late::Known(known) => Some(known),
            Late::Pending(_) => None,
        }
    }

    #[test]
    fn a_number_or_a_truth_value_is_its_own_text_where_a_text_is_wanted() {
        assert_eq!(read::<String>(json!(14)).as_deref(), Some("14"));
        assert_eq!(read::<String>(json!(true)).as_deref(), Some("true"));
        assert_eq!(read::<i64>(json!(14)), Some(14));
        assert_eq!(read::<bool>(json!("true")), None);
        assert_eq!(read::<String>(json!(["a"])), None);
    }
}
