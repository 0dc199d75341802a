//! The `runbook` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all, before any thread and any parser: the process that watches a step's program.
    let first = std::env::args_os().nth(1);
    if first.as_ref().is_some_and(|arg| arg == runbook::supervisor::EARLY_PATH) {
        return runbook::supervisor::main();
    }
    runbook::cli::main()
}
