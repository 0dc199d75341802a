//! Declared outputs: taken from what a program wrote on standard output, once it succeeded.

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::Value;

use crate::action::{ActionError, CommandOutput};
use crate::language::runbook::OutputSpec;

/// Declared outputs by name.
pub(super) type Outputs = BTreeMap<String, OutputSpec>;

/// How many of the first lines an error shows.
const SHOWN_LINES: usize = 5;
/// How much of a line it shows.
const SHOWN_LETTERS: usize = 200;

/// Takes every declared output; a missing one fails the step for good, since another attempt may do things twice.
pub(super) fn taken(outputs: &Outputs, from: &CommandOutput) -> Result<BTreeMap<String, Value>, ActionError> {
    let mut values = BTreeMap::new();
    for (name, spec) in outputs {
        let value = value(spec, from).map_err(|why| {
            let message = format!("the program succeeded, but its output `{name}` cannot be taken: {why}");
            ActionError::fatal(message).process(from.exit_code, first_lines(&from.stdout))
        })?;
        values.insert(name.clone(), value);
    }
    Ok(values)
}

fn value(spec: &OutputSpec, from: &CommandOutput) -> Result<Value, String> {
    match spec {
        OutputSpec::Text => whole(from).map(Value::String),
        OutputSpec::Lines => Ok(whole(from)?.lines().map(|line| Value::String(line.to_owned())).collect()),
        OutputSpec::Json => json(from),
        OutputSpec::Pointer { json: pointer } => {
            let document = json(from)?;
            let found = document.pointer(pointer).cloned();
            found.ok_or_else(|| format!("the JSON on standard output has nothing at `{pointer}`"))
        }
        OutputSpec::Regex { regex } => {
            let expression = Regex::new(regex).map_err(|error| format!("`{regex}` is no expression: {error}"))?;
            let found = from.stdout_parts().into_iter().find_map(|part| find(&expression, part));
            found.ok_or_else(|| format!("nothing on standard output matches `{regex}`"))
        }
    }
}

/// The first group where the expression has one, else all that it matched.
fn find(expression: &Regex, part: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(part);
    let found = expression.captures(&text)?;
    let wanted = if expression.captures_len() > 1 { found.get(1)? } else { found.get(0)? };
    Some(Value::String(wanted.as_str().to_owned()))
}

fn json(from: &CommandOutput) -> Result<Value, String> {
    let text = whole(from)?;
    serde_json::from_str(&text).map_err(|error| format!("standard output is not JSON: {error}"))
}

/// All of standard output without its last newline.
fn whole(from: &CommandOutput) -> Result<String, String> {
    if from.stdout_cut > 0 {
        return Err(format!("{} bytes in the middle of standard output were not kept", from.stdout_cut));
    }
    let text = String::from_utf8_lossy(&from.stdout);
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

fn first_lines(stdout: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(&stdout[..stdout.len().min(SHOWN_LINES * SHOWN_LETTERS * 4)]);
    text.lines().take(SHOWN_LINES).map(|line| line.chars().take(SHOWN_LETTERS).collect()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Outputs, taken};
    use crate::action::CommandOutput;
    use crate::event::ErrorClass;

    fn outputs(declared: Value) -> Outputs {
        serde_json::from_value(declared).expect("declared outputs")
    }

    fn wrote(stdout: &str) -> CommandOutput {
        CommandOutput { exit_code: Some(0), stdout: stdout.as_bytes().to_vec(), ..CommandOutput::default() }
    }

    #[test]
    fn each_way_gives_a_value_of_its_type() {
        let declared = outputs(json!({ "all": "text", "each": "lines", "tree": "json", "one": { "json": "/a/1" } }));
        let values = taken(&declared, &wrote("{ \"a\": [1,\n2.5] }\n")).expect("values");
        assert_eq!(
            json!(values),
            json!({ "all": "{ \"a\": [1,\n2.5] }", "each": ["{ \"a\": [1,", "2.5] }"],
                "tree": { "a": [1, 2.5] }, "one": 2.5 })
        );
        let declared = outputs(json!({ "v": { "regex": "version (\\S+)" }, "w": { "regex": "1[0-9]" } }));
        assert_eq!(
            json!(taken(&declared, &wrote("version 17.2 ok")).expect("values")),
            json!({ "v": "17.2", "w": "17" })
        );
        assert_eq!(json!(taken(&outputs(json!({ "l": "lines" })), &wrote("")).expect("values")), json!({ "l": [] }));
    }

    #[test]
    fn a_missing_output_fails_for_good_and_shows_the_first_lines() {
        for (declared, stdout, said) in [
            (json!({ "v": { "regex": "x(\\d+)" } }), "none\n", "matches `x(\\d+)`"),
            (json!({ "v": { "regex": "none(x)?" } }), "none\n", "matches"),
            (json!({ "v": "json" }), "none\n", "not JSON"),
            (json!({ "v": { "json": "/b" } }), "{\"a\":1}", "nothing at `/b`"),
        ] {
            let error = taken(&outputs(declared), &wrote(stdout)).expect_err("an error").into_info();
            assert_eq!(error.class, ErrorClass::Fatal);
            assert!(error.message.contains("`v`") && error.message.contains(said), "{}", error.message);
        }
    }

    #[test]
    fn what_was_cut_in_the_middle_is_no_whole_text_but_can_be_searched() {
        let cut = |head: &str, tail: &str| {
            let mut output = wrote(head);
            output.stdout_cut = 7;
            output.stdout.extend(CommandOutput::left_out(7).into_bytes());
            output.stdout.extend(tail.as_bytes());
            output
        };
        for way in ["text", "lines", "json"] {
            let error = taken(&outputs(json!({ "v": way })), &cut("1", "2")).expect_err("an error");
            assert!(error.to_string().contains("7 bytes"), "{error}");
        }
        let found = |regex: &str| taken(&outputs(json!({ "v": { "regex": regex } })), &cut("id=a", "id=b end"));
        assert_eq!(found("id=(b) end").expect("in the tail")["v"], "b");
        assert!(found("(?s)a.*b").is_err(), "nothing is found across what was left out");
        assert!(found("left out").is_err(), "the mark is not the program's");
    }
}
