//! `runbook evidence RUN -o FILE` and `runbook evidence verify BUNDLE`.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use super::audit::signed;
use super::{Exit, Failure, attest, invoke, wiring};
use crate::journal::evidence::{self, EvidenceError, Extra, Finality, Limits, Verified};
use crate::journal::{RunDir, SignKey, Signed};
use crate::plan::BoundPlan;
use crate::state::RunState;

/// Arguments of `evidence`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  runbook evidence last -o restore-test.tar.zst\n  runbook evidence verify restore-test.tar.zst --allowed-signers signers\n\nA bundle holds the frozen definition, the journal, what programs wrote, verdicts, approvals, digests, versions and the ledger's lines, with a manifest that names the SHA-256 of each. Its README.txt says how to verify it with common tools."
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The run: its id, a unique beginning of it, or `last`
    #[arg(required = true)]
    run: Option<String>,
    /// The bundle
    #[arg(short, long, value_name = "FILE", required = true)]
    output: Option<PathBuf>,
    /// Also of a run that has not ended; the bundle says so
    #[arg(long)]
    unfinished: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Verify a bundle, offline, from nothing but the file
    Verify(VerifyArgs),
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// The bundle
    bundle: PathBuf,
    /// Who is trusted to sign, as `ssh-keygen -Y verify -f` takes it; then an unsigned bundle does not hold
    #[arg(long, value_name = "FILE")]
    allowed_signers: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Makes or verifies a bundle.
pub fn run(args: Args) -> Result<Exit, Failure> {
    match (args.command, args.run, args.output) {
        (Some(Command::Verify(args)), ..) => verify(&args),
        (None, Some(run), Some(output)) => {
            make(&run, &output, if args.unfinished { Finality::MayGoOn } else { Finality::Finished })
        }
        (None, ..) => {
            Err(Failure::new(Exit::Usage, "a run and a file are needed").help("`runbook evidence RUN -o FILE`"))
        }
    }
}

fn make(run: &str, output: &Path, finality: Finality) -> Result<Exit, Failure> {
    let runs = wiring::runs()?;
    let dir = wiring::find_run(&runs, run)?;
    let (plan, _) = dir.plan().map_err(|error| wiring::journal_failure(&error))?;
    // A key that is configured and cannot sign is said now, not when the auditor asks.
    let key = attest::key_path(&plan.inventory.audit).map(|path| SignKey::open(&path)).transpose();
    let key = key.map_err(|error| attest::key_failure(&error))?;
    let unwritten = |error: std::io::Error| {
        Failure::new(Exit::Usage, format!("`{}` cannot be written", output.display())).because(&error)
    };
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut staged = tempfile::NamedTempFile::new_in(folder).map_err(unwritten)?;
    let extras = |plan: &BoundPlan, state: &RunState| report(&dir, plan, state);
    let manifest = {
        let mut out = BufWriter::new(staged.as_file_mut());
        evidence::write((&runs, &dir), finality, key.as_ref(), &extras, &mut out).map_err(failure)?
    };
    staged.as_file().sync_all().map_err(unwritten)?;
    staged.persist(output).map_err(|error| unwritten(error.error))?;
    let by = key.map_or_else(|| "unsigned".to_owned(), |key| format!("signed with {}", key.fingerprint()));
    tell!("{}: {} members, {by}", output.display(), manifest.members.len());
    for (name, size) in &manifest.left_out {
        tell!("warning: `{name}` is left out: {size} bytes, or its name is too long; the manifest says so");
    }
    Ok(Exit::Success)
}

fn report(dir: &RunDir, plan: &BoundPlan, state: &RunState) -> Vec<Extra> {
    vec![Extra { name: "report.html", bytes: invoke::html_report(dir, plan, state).into_bytes() }]
}

fn failure(error: EvidenceError) -> Failure {
    match error {
        EvidenceError::Live(run) => Failure::new(Exit::Locked, format!("run `{run}` is live"))
            .help(format!("`runbook show {run} --follow` waits for its end")),
        EvidenceError::Unfinished(run) => Failure::new(Exit::Usage, format!("run `{run}` has not ended"))
            .help(format!("`runbook resume {run}` goes on with it; `--unfinished` makes a bundle that says so")),
        EvidenceError::Journal(error) => wiring::journal_failure(&error),
        EvidenceError::Runs(error) => wiring::runs_failure(error),
        error @ (EvidenceError::Empty(_) | EvidenceError::Signature(_)) => Failure::new(Exit::Usage, error.to_string()),
        error @ (EvidenceError::Fold(_) | EvidenceError::Files(_) | EvidenceError::File { .. }) => {
            let failure = Failure::new(Exit::Journal, error.to_string());
            match std::error::Error::source(&error) {
                Some(source) => failure.because(source),
                None => failure,
            }
        }
    }
}

fn verify(args: &VerifyArgs) -> Result<Exit, Failure> {
    let signers = attest::signers(args.allowed_signers.as_deref())?;
    let file = File::open(&args.bundle).map_err(|error| {
        Failure::new(Exit::Usage, format!("`{}` cannot be read", args.bundle.display())).because(&error)
    })?;
    let verified = evidence::verify(BufReader::new(file), signers.as_ref(), &Limits::default());
    if args.json {
        let text =
            serde_json::to_string_pretty(&verified).map_err(|error| Failure::new(Exit::Bug, error.to_string()))?;
        out!("{text}");
    } else {
        show(&verified);
    }
    Ok(if verified.is_ok() { Exit::Success } else { Exit::Journal })
}

fn show(verified: &Verified) {
    if let Some(manifest) = &verified.manifest {
        let ended = super::runs::outcome_words(manifest.outcome);
        out!("run {} of `{}`: {ended} at {}", manifest.run, manifest.name, manifest.at);
        out!("{} members, {} events, head {}", manifest.members.len(), manifest.seq, manifest.head);
        out!("bundle {}; head of the run {}", signed(&verified.signed), signed(&verified.head_signed));
        if !manifest.finished {
            out!("UNFINISHED: the run had not ended when the bundle was made");
        }
        for (name, size) in &manifest.left_out {
            out!("left out: `{name}` ({size} bytes)");
        }
    }
    for fault in &verified.faults {
        match &fault.member {
            Some(member) => out!("BROKEN  `{member}`: {}", fault.message),
            None => out!("BROKEN  {}", fault.message),
        }
    }
    let whole = matches!(verified.signed, Signed::By { .. });
    match (verified.is_ok(), whole) {
        (true, true) => out!("everything holds together"),
        (true, false) => out!("everything holds together; without a trusted signature, its maker is not proven"),
        (false, _) => out!("NOT everything holds together"),
    }
}
