//! `runbook audit export`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use crate::base::clock;
use crate::cli::{Exit, Failure, args, wiring};
use crate::journal::export::{self, ExportError, ExportFormat, Period};

/// Arguments of `audit export`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook audit export --since 30d -o events.jsonl\n  runbook audit export --since 2026-01-01T00:00:00Z --until 2026-04-01T00:00:00Z --format csv -o q1.csv\n\nEvery journal is verified while it is written. A broken one is written up to the broken line, then named; the exit code is 15."
)]
pub struct Args {
    /// Only events since: a point in time, or how long ago (`30d`)
    #[arg(long, value_name = "TIME|DURATION")]
    since: Option<String>,
    /// Only events before
    #[arg(long, value_name = "TIME|DURATION")]
    until: Option<String>,
    /// How they are written
    #[arg(long, value_enum, default_value_t = Form::Jsonl)]
    format: Form,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Form {
    /// One JSON object a line, with the journal's own line inside
    Jsonl,
    /// A table with a heading
    Csv,
}

/// Writes the events of all runs.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let now = clock::now();
    let moment = |text: &Option<String>| text.as_deref().map(|text| args::moment(text, now)).transpose();
    let period = Period { since: moment(&args.since)?, until: moment(&args.until)? };
    let format = match args.format {
        Form::Jsonl => ExportFormat::Jsonl,
        Form::Csv => ExportFormat::Csv,
    };
    let runs = wiring::runs()?;
    let unwritten = |error: std::io::Error| Failure::new(Exit::Usage, "the export cannot be written").because(&error);
    let mut out: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(BufWriter::new(File::create(path).map_err(unwritten)?)),
        None => Box::new(BufWriter::new(std::io::stdout())),
    };
    let written = export::export(&runs, &period, format, &mut out);
    let exported = match written.and_then(|done| out.flush().map(|()| done).map_err(ExportError::Output)) {
        Ok(exported) => exported,
        Err(ExportError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(Exit::Success),
        Err(ExportError::Output(error)) => return Err(unwritten(error)),
        Err(ExportError::Runs(error)) => return Err(wiring::runs_failure(error)),
    };
    tell!("{} events of {} runs", exported.events, exported.runs);
    for (run, what) in &exported.problems {
        tell!("BROKEN  {run}: {what}");
    }
    Ok(if exported.problems.is_empty() { Exit::Success } else { Exit::Journal })
}
