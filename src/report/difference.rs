//! What differs between two plans or runs, in lines for people.

use serde_json::Value;

use super::{Palette, Tone, mask_text};
use crate::plan::{Change, Comparison, StepChange, ValueChange};

/// The longest value shown in full.
const MOST_CHARS: usize = 120;

/// One fact per line: files, inputs, steps.
#[must_use]
pub fn lines(comparison: &Comparison) -> Vec<String> {
    let files = comparison.files.iter().map(|file| match file.change {
        Change::New => format!("file `{}` is new", file.name),
        Change::Gone => format!("file `{}` is gone", file.name),
        Change::Changed => format!("file `{}` was changed", file.name),
    });
    let inputs = comparison.inputs.iter().map(|input| format!("{} {}", noun(&input.path), change(input)));
    let steps = comparison.steps.iter().flat_map(step);
    files.chain(inputs).chain(steps).collect()
}

/// What became of a step.
#[must_use]
pub fn step(step: &StepChange) -> Vec<String> {
    match step.change {
        Change::New => vec![format!("step `{}` is new", step.id)],
        Change::Gone => vec![format!("step `{}` is gone", step.id)],
        Change::Changed => step.parts.iter().map(|part| format!("step `{}`: {}", step.id, part_of(part))).collect(),
    }
}

fn part_of(part: &ValueChange) -> String {
    if part.path == "fingerprint" {
        return "its fingerprint differs: a value it was given, or the version of its action".to_owned();
    }
    format!("`{}` {}", part.path, change(part))
}

/// From what to what.
#[must_use]
pub fn change(change: &ValueChange) -> String {
    match (&change.old, &change.new) {
        (Value::Null, new) => format!("is new: {}", shown(new)),
        (old, Value::Null) => format!("is gone, it was {}", shown(old)),
        (old, new) => format!("was {} and is {}", shown(old), shown(new)),
    }
}

/// The words for a path of a plan.
fn noun(path: &str) -> String {
    let named = |rest: &str, what: &str| format!("{what} `{rest}`");
    match path.split_once('.') {
        Some(("params", rest)) => named(rest, "parameter"),
        Some(("vars", rest)) => named(rest, "variable"),
        Some(("env_vars", rest)) => named(rest, "environment variable"),
        Some(("inventory", rest)) => named(rest, "inventory entry"),
        Some(_) | None => format!("`{}`", path.replace('_', " ")),
    }
}

/// A value on one line, short.
#[must_use]
pub fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.replace('\n', "⏎"),
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    let text = mask_text(&text);
    if text.chars().count() > MOST_CHARS {
        return format!("`{}…`", text.chars().take(MOST_CHARS).collect::<String>());
    }
    format!("`{text}`")
}

/// A unified difference in colour.
#[must_use]
pub fn painted(diff: &str, palette: Palette) -> String {
    let line = |line: &str| match line.as_bytes().first() {
        Some(b'-') => palette.paint(Tone::Bad, line),
        Some(b'+') => palette.paint(Tone::Good, line),
        Some(b'@') => palette.paint(Tone::Quiet, line),
        Some(_) | None => line.to_owned(),
    };
    diff.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::lines;
    use crate::plan::{Change, Comparison, StepChange, ValueChange};

    #[test]
    fn differences_read_as_sentences() {
        let value = |path: &str, old, new| ValueChange { path: path.to_owned(), old, new };
        let comparison = Comparison {
            files: Vec::new(),
            inputs: vec![value("params.database", json!("a"), json!("b")), value("vars.x", json!(null), json!(1))],
            steps: vec![StepChange {
                id: "copy".parse().expect("an id"),
                change: Change::Changed,
                parts: vec![value("when", json!("true"), json!(null)), value("fingerprint", json!("1"), json!("2"))],
            }],
        };
        let told = lines(&comparison);
        assert_eq!(told[0], "parameter `database` was `a` and is `b`");
        assert_eq!(told[1], "variable `x` is new: `1`");
        assert_eq!(told[2], "step `copy`: `when` is gone, it was `true`");
        assert!(told[3].contains("fingerprint differs"), "{told:?}");
    }
}
