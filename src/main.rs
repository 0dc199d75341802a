//! The `runbook` program.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any thread and any parser: the process that watches a step's program, and what PostgreSQL calls.
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(first) if first == runbook::supervisor::EARLY_PATH => runbook::supervisor::main(),
        Some(first) if first == "wal" => wal(&args.collect::<Vec<OsString>>()),
        _ => {
            // What PostgreSQL calls ends soon and uses its blocks again: to map each anew would cost it processor time.
            runbook_malloc::bound();
            runbook::cli::main()
        }
    }
}

/// What is for people is parsed as any command. Everything else keeps the contract with the server: mistyped in a
/// `restore_command`, a usage error of ours would read as the end of the WAL.
fn wal(args: &[OsString]) -> ExitCode {
    const FOR_PEOPLE: [&str; 8] = ["status", "verify", "mend", "give-up", "search", "help", "--help", "-h"];
    let first = args.first().and_then(|first| first.to_str());
    if first.is_some_and(|first| FOR_PEOPLE.contains(&first)) { runbook::cli::main() } else { runbook::wal::main(args) }
}
