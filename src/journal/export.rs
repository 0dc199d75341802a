//! Every event of every run for other systems, verified while it is written, in memory that does not grow.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write};

use super::audit::{chained, removed};
use super::chain::Chain;
use super::file::JOURNAL_FILE;
use super::ledger::LedgerContent;
use super::reader;
use super::run::RunDir;
use super::runs::{Runs, RunsError};
use crate::base::seal::whole_line_prefix;
use crate::base::{RunId, Timestamp};
use crate::event::{Event, EventKind, RunHeader};

/// No line of a journal is longer.
const LONGEST_LINE: u64 = 64 << 20;

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// `{ "name", "mode", "environment", "host", "event": … }`, one a line; the event is the journal's own line.
    Jsonl,
    /// One row an event, the columns of [`COLUMNS`].
    Csv,
}

/// The columns of the CSV form. Cells that a spreadsheet would take for a formula begin with an apostrophe.
pub const COLUMNS: [&str; 14] = [
    "run",
    "seq",
    "at",
    "type",
    "step",
    "attempt",
    "actor",
    "from",
    "name",
    "mode",
    "environment",
    "outcome",
    "message",
    "hash",
];

/// Which events: those not before `since` and before `until`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Period {
    /// The first moment.
    pub since: Option<Timestamp>,
    /// The moment after the last one.
    pub until: Option<Timestamp>,
}

impl Period {
    fn has(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

/// What was written, and what does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// Number of runs read.
    pub runs: usize,
    /// Number of events written.
    pub events: u64,
    /// What does not hold, by run. A broken journal was written up to the line before.
    pub problems: BTreeMap<RunId, String>,
}

/// Nothing more can be written or read at all.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The list of runs or the ledger cannot be read.
    #[error(transparent)]
    Runs(#[from] RunsError),
    /// The output cannot be written.
    #[error("the export cannot be written")]
    Output(#[source] io::Error),
}

/// Writes the events of all runs, oldest run first.
///
/// # Errors
/// Fails when the list of runs cannot be read or the output not be written. What does not hold is in the result.
pub fn export(
    runs: &Runs,
    period: &Period,
    format: ExportFormat,
    out: &mut dyn Write,
) -> Result<Exported, ExportError> {
    let mut exported = Exported::default();
    let ledger = runs.ledger().read().map_err(RunsError::from)?;
    let mut ids = runs.ids()?;
    ids.reverse();
    if format == ExportFormat::Csv {
        out.write_all(format!("{}\r\n", COLUMNS.join(",")).as_bytes()).map_err(ExportError::Output)?;
    }
    for id in ids {
        exported.runs += 1;
        let mut run = RunExport { period, format, out, written: 0 };
        let verdict = run.write(&runs.dir(&id), &ledger);
        exported.events += run.written;
        match verdict {
            Ok(()) => {}
            Err(Stopped::Output(error)) => return Err(ExportError::Output(error)),
            Err(Stopped::Broken(what)) => drop(exported.problems.insert(id, what)),
        }
    }
    let gone = removed(&ledger, runs).into_iter();
    exported
        .problems
        .extend(gone.map(|audit| (audit.run, "the ledger knows the run, but its folder is gone".to_owned())));
    Ok(exported)
}

/// Why a run was not written to its end.
enum Stopped {
    Output(io::Error),
    Broken(String),
}

struct RunExport<'a> {
    period: &'a Period,
    format: ExportFormat,
    out: &'a mut dyn Write,
    written: u64,
}

impl RunExport<'_> {
    fn write(&mut self, dir: &RunDir, ledger: &LedgerContent) -> Result<(), Stopped> {
        let broken = |error: &dyn std::error::Error| Stopped::Broken(chained(error));
        let mut chain = reader::chain_of(dir.path()).map_err(|error| broken(&error))?;
        let file = File::open(dir.path().join(JOURNAL_FILE)).map_err(|error| broken(&error))?;
        let mut file = BufReader::new(file);
        let mut header: Option<RunHeader> = None;
        let mut line = Vec::new();
        loop {
            line.clear();
            (&mut file).take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(|error| broken(&error))?;
            let whole = match line.strip_suffix(b"\n") {
                Some(whole) => whole,
                // A torn tail was never durable; a whole line that only lacks its newline counts.
                None if whole_line_prefix(&line) == Some(line.len()) => &line,
                None => break,
            };
            let event = chain
                .verify(whole)
                .map_err(|fault| Stopped::Broken(format!("event {} does not hold: {fault}", chain.seq().next())))?;
            if let EventKind::RunStarted(found) = &event.kind {
                header = Some((**found).clone());
            }
            if let (Some(header), true) = (&header, self.period.has(event.at)) {
                self.line(header, &event, whole).map_err(Stopped::Output)?;
                self.written += 1;
            }
        }
        anchored(&chain, ledger)
    }

    fn line(&mut self, header: &RunHeader, event: &Event, line: &[u8]) -> io::Result<()> {
        match self.format {
            ExportFormat::Jsonl => {
                let facts = serde_json::json!({
                    "name": header.name,
                    "mode": header.mode,
                    "environment": header.environment,
                    "host": header.host,
                });
                let facts = facts.to_string();
                self.out.write_all(facts.strip_suffix('}').unwrap_or(&facts).as_bytes())?;
                self.out.write_all(b",\"event\":")?;
                self.out.write_all(line)?;
                self.out.write_all(b"}\n")
            }
            ExportFormat::Csv => {
                let cells = cells(header, event).map(|cell| quoted(&cell));
                self.out.write_all(format!("{}\r\n", cells.join(",")).as_bytes())
            }
        }
    }
}

/// Holds what was read against the anchors of the ledger.
fn anchored(chain: &Chain, ledger: &LedgerContent) -> Result<(), Stopped> {
    let broken = |what: &str| Err(Stopped::Broken(what.to_owned()));
    match ledger.started(chain.run()) {
        Some(plan) if plan != chain.plan() => return broken("`plan.json` is not the one the ledger anchored"),
        Some(_) | None => {}
    }
    match ledger.finished(chain.run()) {
        Some((seq, head)) if (seq, head) != (chain.seq(), chain.head()) => {
            broken("the journal does not end where the ledger anchored it")
        }
        Some(_) | None => Ok(()),
    }
}

fn cells(header: &RunHeader, event: &Event) -> [String; 14] {
    let kind = serde_json::to_value(&event.kind).unwrap_or_default();
    let text = |path: &str| match kind.pointer(path) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(serde_json::Value::Number(number)) => number.to_string(),
        Some(_) | None => String::new(),
    };
    let first = |paths: &[&str]| paths.iter().map(|path| text(path)).find(|text| !text.is_empty()).unwrap_or_default();
    [
        event.run.to_string(),
        event.seq.to_string(),
        event.at.to_string(),
        text("/type"),
        text("/step"),
        text("/attempt"),
        first(&["/actor/name", "/answer/by/name"]),
        first(&["/actor/from", "/answer/by/from"]),
        header.name.clone(),
        header.mode.as_str().to_owned(),
        header.environment.clone(),
        text("/outcome"),
        first(&["/message", "/error/message", "/reason", "/why", "/question/prompt", "/answer/comment"]),
        event.hash.to_string(),
    ]
}

/// One cell by RFC 4180.
fn quoted(cell: &str) -> String {
    let cell = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}
