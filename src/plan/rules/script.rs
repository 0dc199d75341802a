//! What scripts do that is known to lose data.

use serde_json::Value;

use super::Subject;
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::language::runbook::Step;

/// A command that loses data, what is wrong with it, and what to use in its place.
struct Hazard {
    /// Whether a whole command, without line breaks, does it.
    does: fn(&str) -> bool,
    fact: &'static str,
    help: &'static str,
}

const HAZARDS: &[Hazard] = &[
    Hazard {
        does: |command| command.contains("recovery.conf"),
        fact: "PostgreSQL 12 and later do not start where there is a `recovery.conf`",
        help: "let `postgres.recover` write the settings of a recovery, and take them out again",
    },
    Hazard {
        does: |command| has(command, &["archive_command", "aws s3 cp"]),
        fact: "this `archive_command` overwrites what another cluster has archived, and the server does not count its failures",
        help: "let `runbook wal push` archive: it never overwrites, and ends with a code that the server counts",
    },
    Hazard {
        does: |command| has(command, &["restore_command", "aws s3 cp"]),
        fact: "this `restore_command` ends with 1 also when the network fails, and the server takes that for the end of the WAL",
        help: "let `runbook wal fetch` bring segments: it ends with 1 only for what is surely absent",
    },
    Hazard {
        does: |command| dumps(command) && pipes_in_another_shell(command),
        fact: "the shell that is started here does not see that the dump fails: the end of a pipe alone counts, and it is 0",
        help: "take `postgres.dump`; or begin the inner script with `set -o pipefail`, as `run:` does for its own lines",
    },
    Hazard {
        does: |command| dumps(command) && ["|| true", "|| :"].iter().any(|forgiven| command.contains(forgiven)),
        fact: "a dump that failed is kept as one that did not: its failure is forgiven",
        help: "take `postgres.dump`, which proves what it has stored; or let the failure end the step",
    },
    Hazard {
        does: |command| {
            has(command, &["find", "wal", "-mtime"]) && ["-delete", "rm "].iter().any(|word| command.contains(word))
        },
        fact: "WAL is removed by its age, and a backup that is kept longer cannot be recovered beyond its own end",
        help: "let `backup.prune` remove it: it keeps the WAL that a kept backup can use",
    },
];

fn has(command: &str, words: &[&str]) -> bool {
    words.iter().all(|word| command.contains(word))
}

fn dumps(command: &str) -> bool {
    ["pg_dump", "pg_basebackup"].iter().any(|program| command.contains(program))
}

/// `run:` and `shell` are strict; what they start is not.
fn pipes_in_another_shell(command: &str) -> bool {
    let Some(at) = ["sh -c ", "ssh ", "sh -lc "].iter().filter_map(|shell| command.find(shell)).min() else {
        return false;
    };
    command[at..].replace("||", "").contains('|') && !command.contains("pipefail")
}

/// Commands of scripts that lose data.
pub fn hazards(subject: &Subject<'_>) -> Diagnostics {
    let steps = subject.runbook.steps.iter().chain(&subject.runbook.finally);
    steps.filter(|step| !step.poisoned).flat_map(of_step).collect()
}

fn of_step(step: &Step) -> Vec<Diagnostic> {
    let (commands, pointer) = commands(step);
    let met = HAZARDS.iter().filter(|hazard| commands.iter().any(|command| (hazard.does)(command)));
    let at = step.with_places.get(pointer).copied().unwrap_or(step.at);
    met.map(|hazard| Diagnostic::new(Code::HazardInScript, hazard.fact.to_owned()).at(at).help(hazard.help)).collect()
}

/// The commands of a step, each on one line, and where they stand; none for a step that runs none.
pub(super) fn commands(step: &Step) -> (Vec<String>, &'static str) {
    match step.uses.value.as_str() {
        "shell" => {
            let script = step.with.get("script").and_then(Value::as_str).unwrap_or_default().replace("\\\n", " ");
            let lines = script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            (lines.map(str::to_owned).collect(), "/script")
        }
        "exec" => {
            let words = step.with.get("argv").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            (vec![words.collect::<Vec<_>>().join(" ")], "/argv")
        }
        _ => (Vec::new(), ""),
    }
}
