//! `runbook logs RUN [STEP]`: what the processes of a run's steps wrote.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::{Exit, Failure, wiring};
use crate::base::{Attempt, StepId};
use crate::journal::RunDir;
use crate::report::html::{LogSource, LogTail};

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook logs last\n  runbook logs last recover\n  runbook logs last recover --attempt 2 --stderr"
)]
pub struct Args {
    /// The run: its id, a unique beginning of it, or `last`
    run: String,
    /// Only this step
    step: Option<String>,
    /// Only this attempt
    #[arg(long)]
    attempt: Option<u32>,
    /// Only standard error
    #[arg(long, conflicts_with = "stdout")]
    stderr: bool,
    /// Only standard output
    #[arg(long)]
    stdout: bool,
}

/// Prints the captured output.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let dir = wiring::find_run(&wiring::runs()?, &args.run)?;
    let (plan, _) = dir.plan().map_err(|error| wiring::journal_failure(&error))?;
    if let Some(step) = &args.step
        && !plan.steps.iter().any(|planned| planned.id.as_str() == step)
    {
        let steps: Vec<&str> = plan.steps.iter().map(|step| step.id.as_str()).collect();
        return Err(Failure::new(Exit::Usage, format!("run `{}` has no step `{step}`", dir.id()))
            .help(format!("its steps: {}", steps.join(", "))));
    }
    let mut shown = 0;
    for step in plan.steps.iter().filter(|step| args.step.as_deref().is_none_or(|wanted| wanted == step.id.as_str())) {
        for (number, folder) in attempts(&dir.attempts().join(step.id.folder())) {
            if args.attempt.is_some_and(|wanted| wanted != number) {
                continue;
            }
            for file in captured(&folder) {
                let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                if args.stderr && !name.contains("stderr") || args.stdout && !name.contains("stdout") {
                    continue;
                }
                shown += print(&file, &format!("{} · attempt {number} · {name}", step.id), args.step.is_some())?;
            }
        }
    }
    if shown == 0 {
        tell!("nothing was written by {}", args.step.as_deref().unwrap_or("any step's processes"));
    }
    Ok(Exit::Success)
}

fn attempts(folder: &Path) -> Vec<(u32, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut attempts: Vec<(u32, PathBuf)> =
        entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))).collect();
    attempts.sort();
    attempts
}

/// Finds captured streams, those of nested processes included, in a stable order.
fn captured(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| {
                let name = name.to_string_lossy();
                name.contains("stdout") || name.contains("stderr")
            }) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn print(file: &Path, title: &str, single: bool) -> Result<usize, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Journal, format!("`{}` cannot be read", file.display())).because(&error)
    };
    let bytes = std::fs::read(file).map_err(failed)?;
    if bytes.is_empty() {
        return Ok(0);
    }
    if !single || title.contains("stderr") {
        tell!("── {title}");
    }
    let mut out = std::io::stdout();
    let written =
        out.write_all(&bytes).and_then(|()| if bytes.ends_with(b"\n") { Ok(()) } else { out.write_all(b"\n") });
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(failed(error)),
        _ => Ok(1),
    }
}

/// Finds a step of which an attempt still runs.
///
/// # Errors
/// Fails where a folder cannot be read: what is not looked at may run. One that is not there holds nothing.
pub fn running_step(attempts: &Path) -> std::io::Result<Option<String>> {
    for step in entries(attempts)? {
        for attempt in entries(&step)? {
            let is_attempt = attempt.file_name().is_some_and(|name| name.to_string_lossy().parse::<u32>().is_ok());
            if is_attempt && crate::supervisor::still_runs(&attempt)? {
                let name = step.file_name().unwrap_or_default();
                return Ok(Some(name.to_string_lossy().into_owned()));
            }
        }
    }
    Ok(None)
}

/// What lies in a folder; nothing where there is none.
fn entries(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The kept output of a run's attempts, for reports.
pub struct Attempts(PathBuf);

impl Attempts {
    /// The attempts of a run.
    pub fn of(dir: &RunDir) -> Self {
        Self(dir.attempts())
    }
}

/// How much of an attempt's output a report shows.
const TAIL_BYTES: usize = 8 * 1024;

impl LogSource for Attempts {
    fn tail(&self, step: &StepId, attempt: Attempt) -> Option<LogTail> {
        let mut text = String::new();
        let mut omitted_bytes = 0;
        for file in captured(&self.0.join(step.folder()).join(attempt.to_string())) {
            let bytes = std::fs::read(file).ok()?;
            let start = bytes.len().saturating_sub(TAIL_BYTES);
            omitted_bytes += start as u64;
            text.push_str(&String::from_utf8_lossy(&bytes[start..]));
        }
        (!text.trim().is_empty()).then_some(LogTail { text, omitted_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::running_step;

    #[test]
    fn a_folder_of_attempts_that_cannot_be_read_is_not_one_in_which_nothing_runs() {
        let dir = tempfile::tempdir().expect("a folder");
        let attempts = dir.path().join("attempts");
        assert_eq!(running_step(&attempts).expect("none was made"), None);
        std::fs::create_dir(&attempts).expect("a folder");
        std::fs::File::create(attempts.join("notes")).expect("a file");
        assert_eq!(running_step(&attempts).expect("reads"), None);
        let step = attempts.join("a");
        std::os::unix::fs::symlink(&step, &step).expect("a link to itself");
        assert!(running_step(&attempts).is_err(), "what is not looked at may run");
    }
}
