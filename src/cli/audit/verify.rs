//! `runbook audit verify RUN…|all`.

use std::path::PathBuf;

use crate::cli::{Exit, Failure, attest, document, wiring};
use crate::journal::audit::{self, Problem, RunAudit};
use crate::journal::{AllowedSigners, Runs, Signed};

/// Arguments of `audit verify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook audit verify all\n  runbook audit verify last --json\n  runbook audit verify all --allowed-signers /etc/runbook/signers\n\nWhat is verified: every line of a journal against its own hash and the one before, the first line against plan.json, each run's start and end against the ledger beside the runs, so that a removed run shows too, and signed heads. `sha256sum`, `jq` and `ssh-keygen` can do the same; docs/audit.md shows how."
)]
pub struct Args {
    /// Runs, each by its id, a unique beginning of it, or `last`; `all` for every one and the ledger [default: all]
    run: Vec<String>,
    /// Who is trusted to sign, as `ssh-keygen -Y verify -f` takes it
    #[arg(long, value_name = "FILE")]
    allowed_signers: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Verifies some runs or all; any problem is exit code 15.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let signers = attest::signers(args.allowed_signers.as_deref())?.unwrap_or_default();
    let runs = wiring::runs()?;
    if args.run.is_empty() || args.run.iter().any(|run| run == "all") {
        return all(&runs, &signers, args.json);
    }
    let mut audits = Vec::new();
    for run in &args.run {
        audits.push(audit::verify_anchored(&runs, &wiring::find_run(&runs, run)?, &signers));
    }
    match (args.json, audits.as_slice()) {
        (true, [one]) => document::write_json(one)?,
        (true, several) => document::write_json(&several)?,
        (false, several) => several.iter().for_each(show),
    }
    Ok(if audits.iter().all(RunAudit::is_ok) { Exit::Success } else { Exit::Journal })
}

fn all(runs: &Runs, signers: &AllowedSigners, json: bool) -> Result<Exit, Failure> {
    let report = audit::verify_all(runs, signers).map_err(wiring::runs_failure)?;
    if json {
        document::write_json(&report)?;
    } else {
        report.runs.iter().for_each(show);
        problems(&report.ledger_problems);
        let verdict = if report.is_ok() { "everything holds together" } else { "NOT everything holds together" };
        out!(
            "{} runs, {} ledger lines, ledger head {}: {verdict}",
            report.runs.len(),
            report.ledger_lines,
            report.ledger_head
        );
    }
    Ok(if report.is_ok() { Exit::Success } else { Exit::Journal })
}

fn show(audit: &RunAudit) {
    let head = audit.head.map_or_else(|| "-".to_owned(), |head| head.to_string());
    let verdict = match (audit.is_ok(), audit.is_unread()) {
        (true, _) => "ok",
        (false, true) => "UNREAD",
        (false, false) => "BROKEN",
    };
    out!("{}  {verdict}  {} events  head {head}  {}", audit.run, audit.events, signed(&audit.signed));
    problems(&audit.problems);
}

/// Whether and by whom, in a few words.
pub fn signed(signed: &Signed) -> String {
    match signed {
        Signed::No => "unsigned".to_owned(),
        Signed::By { principal } => format!("signed by {principal}"),
        Signed::UnknownKey { fingerprint } => format!("signed by {fingerprint}, for which nobody vouches"),
        Signed::Broken => "SIGNATURE BROKEN".to_owned(),
    }
}

fn problems(problems: &[Problem]) {
    for problem in problems {
        out!("  {}", problem.message);
        if let Some(help) = &problem.help {
            out!("    help: {help}");
        }
    }
}
