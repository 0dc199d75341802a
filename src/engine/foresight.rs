//! Which outputs of earlier steps a check ahead of the run waits for, and what those steps' own checks foresaw of them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::scope::Values;
use crate::action::{Expected, Foreseen, Machine, pending};
use crate::plan::PlannedStep;

/// An output that an argument waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Awaited {
    /// As it stands in the argument.
    expression: String,
    /// The step that gives it.
    pub(super) from: usize,
    output: String,
}

/// What was foreseen, by step.
#[derive(Debug, Default)]
pub(super) struct Foresight(BTreeMap<usize, Map<String, Value>>);

impl Foresight {
    /// What is foreseen of the outputs that a check waits for.
    pub(super) fn of(&self, awaited: &[Awaited], machine: Machine) -> Foreseen {
        let expected = |one: &Awaited| {
            let told = self.0.get(&one.from)?.clone();
            Some((one.expression.clone(), Expected { output: one.output.clone(), told }))
        };
        Foreseen::with(awaited.iter().filter_map(expected).collect(), machine)
    }

    /// Learns what the check of a step foresaw.
    pub(super) fn learn(&mut self, at: usize, foreseen: &Foreseen) {
        self.0.insert(at, foreseen.told());
    }
}

/// The outputs that pending arguments are, unchanged: what an expression makes of one is not foreseen.
pub(super) fn awaited(step: &PlannedStep, with: &Value, values: Values<'_>) -> Vec<Awaited> {
    if let Some(expression) = pending(with) {
        let found = output_of(expression).and_then(|(name, output)| {
            let from = values.called(step, name)?;
            Some(Awaited { expression: expression.to_owned(), from, output: output.to_owned() })
        });
        return found.into_iter().collect();
    }
    match with {
        Value::Array(items) => items.iter().flat_map(|item| awaited(step, item, values)).collect(),
        Value::Object(members) => members.values().flat_map(|member| awaited(step, member, values)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// Reads `steps.NAME.OUTPUT`.
fn output_of(expression: &str) -> Option<(&str, &str)> {
    let (name, output) = expression.strip_prefix("steps.")?.split_once('.')?;
    let is_name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (is_name(name) && is_name(output)).then_some((name, output))
}

#[cfg(test)]
mod tests {
    use super::output_of;

    #[test]
    fn only_an_output_as_it_is_can_be_foreseen() {
        assert_eq!(output_of("steps.choose.backup"), Some(("choose", "backup")));
        for other in ["steps.choose", "steps.choose.backup.id", "steps.choose.id ~ 'x'", "params.id", "steps..id"] {
            assert_eq!(output_of(other), None, "{other}");
        }
    }
}
