//! The `runbook` program.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any thread and any parser: the process that watches a step's program, and what PostgreSQL calls.
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(first) if first == runbook::supervisor::EARLY_PATH => runbook::supervisor::main(),
        Some(first) if first == "wal" => runbook::wal::main(&args.collect::<Vec<OsString>>()),
        _ => runbook::cli::main(),
    }
}
