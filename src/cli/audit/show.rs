//! `runbook audit show RUN`.

use serde_json::Value;

use crate::cli::{Exit, Failure, wiring};
use crate::event::Event;
use crate::report::mask_text;

/// Arguments of `audit show`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook audit show last\n  runbook audit show last --json | jq -r 'select(.kind.type == \"step_answered\")'"
)]
pub struct Args {
    /// The run: its id, a unique beginning of it, or `last`
    run: String,
    /// Print the journal's own lines
    #[arg(long)]
    json: bool,
}

/// Shows every event, one a line.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let dir = wiring::find_run(&wiring::runs()?, &args.run)?;
    let history = dir.read().map_err(|error| wiring::journal_failure(&error))?;
    for event in &history.events {
        if args.json {
            let line = serde_json::to_string(event).map_err(|error| Failure::new(Exit::Bug, error.to_string()))?;
            out!("{line}");
        } else {
            out!("{}", line(event));
        }
    }
    Ok(Exit::Success)
}

/// Number, time, type, step, then what else the event says, without what only machines read.
fn line(event: &Event) -> String {
    let kind = serde_json::to_value(&event.kind).unwrap_or_default();
    let text = |name: &str| kind.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut line = format!("{:>5}  {}  {:18}  {}", event.seq.0, at(event), text("type"), text("step"));
    for (name, value) in kind.as_object().into_iter().flatten() {
        let is_plain = !["type", "step"].contains(&name.as_str()) && !value.is_null();
        if is_plain {
            line.push_str(&format!("  {name}={}", short(value)));
        }
    }
    let line = mask_text(&line).split(['\n', '\r', '\t']).collect::<Vec<_>>().join(" ");
    line.trim_end().to_owned()
}

fn at(event: &Event) -> String {
    event.at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// A value on one line; an actor as `name@from`, long texts by their beginning.
fn short(value: &Value) -> String {
    const LONGEST: usize = 160;
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Object(members) if members.contains_key("name") && members.len() <= 2 => {
            let part = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default();
            format!("{}@{}", part("name"), part("from"))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
