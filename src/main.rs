//! The `runbook` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all, before any thread and any parser: the process that watches a step's program.
    if std::env::args_os().nth(1).is_some_and(|arg| arg == runbook::supervisor::EARLY_PATH) {
        return runbook::supervisor::main();
    }
    // PostgreSQL's archive_command and restore_command have their own exit codes, whatever goes wrong.
    if std::env::args_os().nth(1).is_some_and(|arg| arg == "wal") {
        return runbook::wal::main(&std::env::args_os().skip(2).collect::<Vec<_>>());
    }
    ExitCode::SUCCESS
}
