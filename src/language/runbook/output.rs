//! `outputs`: what later steps get of what a program wrote on standard output.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::step::Source;
use super::{Located, Step};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::base::id::is_identifier;
use crate::language::document::{Entry, Node, child};
use crate::language::template::is_template;

/// Outputs that every `exec` and `shell` step has, and what each step has.
const OWN: [&str; 4] = ["exit_code", "status", "stderr", "stdout"];
/// What a step with `for_each` gives besides the lists of its instances' outputs.
const KEYS: &str = "keys";

/// How an output is taken from what a program wrote on standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OutputSpec {
    /// All of it, without the last newline.
    Text,
    /// Its lines, as a list.
    Lines,
    /// All of it, read as JSON.
    Json,
    /// The value at this JSON pointer.
    #[serde(untagged)]
    Pointer {
        /// The pointer, such as `/items/0`.
        json: String,
    },
    /// What a regular expression finds: its first group, else all of it.
    #[serde(untagged)]
    Regex {
        /// The expression.
        regex: String,
    },
}

impl JsonSchema for OutputSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OutputSpec".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let tagged = |key: &str, description: &str| {
            json_schema!({
                "type": "object",
                "properties": { key: { "type": "string", "description": description } },
                "required": [key],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "description": "How an output is taken from what a program wrote on standard output.",
            "anyOf": [
                {
                    "type": "string",
                    "enum": ["text", "lines", "json"],
                    "description": "All of it without the last newline, its lines as a list, or read as JSON.",
                },
                tagged("json", "The value at this JSON pointer, such as `/items/0`."),
                tagged("regex", "What this expression finds: its first group, else all of it."),
            ],
        })
    }
}

/// The declared outputs in the order written.
pub(super) fn lower(step: &Step, source: &Source<'_>, faults: &mut Diagnostics) -> Vec<(Located<String>, OutputSpec)> {
    let entries = source.node.get("outputs").map(Node::entries).unwrap_or_default();
    let mut outputs = Vec::with_capacity(entries.len());
    for entry in entries {
        check_name(entry, step, faults);
        let pointer = child(&format!("{}/outputs", source.pointer), &entry.key);
        let Some(spec) = source.checked.read::<OutputSpec>(&pointer) else { continue };
        check_spec(&spec, entry, faults);
        outputs.push((Located { value: entry.key.clone(), at: entry.key_at }, spec));
    }
    outputs
}

fn check_name(entry: &Entry, step: &Step, faults: &mut Diagnostics) {
    let name = entry.key.as_str();
    let is_own = OWN.contains(&name) || (step.for_each.is_some() && name == KEYS);
    let fault = match (is_own, is_identifier(name)) {
        (true, _) => Diagnostic::new(Code::DuplicateName, format!("the step has an output `{name}` of its own"))
            .help("give the declared one another name"),
        (false, false) => Diagnostic::new(Code::BadName, format!("`{name}` cannot name an output"))
            .help("lower-case letters, digits and `_`, beginning with a letter"),
        (false, true) => return,
    };
    faults.push(fault.at(entry.key_at));
}

fn check_spec(spec: &OutputSpec, entry: &Entry, faults: &mut Diagnostics) {
    let at = |key: &str| entry.value.get(key).map_or(entry.value.at, |value| value.at);
    match spec {
        OutputSpec::Text | OutputSpec::Lines | OutputSpec::Json => {}
        OutputSpec::Pointer { json: text } | OutputSpec::Regex { regex: text } if is_template(text) => {
            let message = "how an output is taken is literal, never a template";
            let fault = Diagnostic::new(Code::TemplateSyntax, message).at(entry.value.at);
            faults.push(fault.help("to find a brace, write `\\{`"));
        }
        OutputSpec::Pointer { json } => {
            if !json.is_empty() && !json.starts_with('/') {
                let fault = Diagnostic::new(Code::UnknownValue, format!("`{json}` is not a JSON pointer"));
                let path = json.trim_start_matches(['$', '.']).replace('.', "/");
                faults.push(fault.at(at("json")).help(format!("write `/{path}`")));
            }
        }
        OutputSpec::Regex { regex } => {
            if let Err(error) = regex_lite::Regex::new(regex) {
                let message = format!("`{regex}` is not a regular expression: {error}");
                let fault = Diagnostic::new(Code::UnknownValue, message).at(at("regex"));
                faults.push(fault.help("put it in single quotes, so that `\\` stays as it is"));
            }
        }
    }
}
