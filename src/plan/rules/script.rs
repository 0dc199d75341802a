//! What scripts do that is known to lose data.

use serde_json::Value;

use super::Subject;
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::language::runbook::Step;

/// A line with all of these words, what is wrong with it, and what to use in its place.
struct Hazard {
    words: &'static [&'static str],
    fact: &'static str,
    help: &'static str,
}

const HAZARDS: &[Hazard] = &[
    Hazard {
        words: &["recovery.conf"],
        fact: "PostgreSQL 12 and later do not start where there is a `recovery.conf`",
        help: "let `postgres.recover` write the settings of a recovery, and take them out again",
    },
    Hazard {
        words: &["archive_command", "aws s3 cp"],
        fact: "this `archive_command` overwrites what another cluster has archived, and the server does not count its failures",
        help: "let `runbook wal push` archive: it never overwrites, and ends with a code that the server counts",
    },
    Hazard {
        words: &["restore_command", "aws s3 cp"],
        fact: "this `restore_command` ends with 1 also when the network fails, and the server takes that for the end of the WAL",
        help: "let `runbook wal fetch` bring segments: it ends with 1 only for what is surely absent",
    },
];

/// Lines of scripts that lose data.
pub fn hazards(subject: &Subject<'_>) -> Diagnostics {
    let steps = subject.runbook.steps.iter().chain(&subject.runbook.finally);
    steps.filter(|step| !step.poisoned && step.uses.value == "shell").flat_map(of_step).collect()
}

fn of_step(step: &Step) -> Vec<Diagnostic> {
    let script = step.with.get("script").and_then(Value::as_str).unwrap_or_default();
    let lines = || script.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let met = HAZARDS.iter().filter(|hazard| lines().any(|line| hazard.words.iter().all(|word| line.contains(word))));
    let at = step.with_places.get("/script").copied().unwrap_or(step.at);
    met.map(|hazard| Diagnostic::new(Code::HazardInScript, hazard.fact.to_owned()).at(at).help(hazard.help)).collect()
}
