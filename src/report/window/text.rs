//! The picture for the terminal.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Axis, BackupForm, Chart, ChartLane, Span, SpanState, moment, told};
use crate::base::clock::between;
use crate::base::units::human_duration;
use crate::report::mask_text;
use crate::report::palette::{Palette, Tone};

/// Draws a chart in so many columns.
#[must_use]
pub fn text(chart: &Chart, columns: usize, palette: Palette) -> String {
    let mut out = String::new();
    let title = format!("{} (cluster {})", mask_text(&chart.database), chart.system_id);
    let _ = writeln!(out, "{}", palette.paint(Tone::Strong, &title));
    if chart.lanes.is_empty() {
        let _ = writeln!(out, "  nothing: no base backup and no archived WAL");
    }
    if let Some(axis) = chart.axis() {
        picture(&mut out, chart, axis, (columns, palette));
    }
    for lane in &chart.lanes {
        facts(&mut out, lane, palette);
    }
    for backup in chart.backups.iter().filter(|backup| backup.fault.is_some()) {
        let why = backup.fault.as_deref().unwrap_or_default();
        let _ = writeln!(out, "  backup `{}` cannot be restored: {}", mask_text(&backup.id), mask_text(why));
    }
    for note in &chart.notes {
        let _ = writeln!(out, "  note: {}", mask_text(note));
    }
    out
}

const LABEL: usize = 13;
const BROKEN: char = '✗';
const THERE: char = '█';
const GAP: char = '░';

fn picture(out: &mut String, chart: &Chart, axis: Axis, (columns, palette): (usize, Palette)) {
    let width = columns.saturating_sub(LABEL + 3).clamp(20, 120);
    let mut marks = vec![' '; width];
    for backup in &chart.backups {
        marks[axis.part(backup.ended_at, width)] = if backup.fault.is_some() { BROKEN } else { mark(backup.form) };
    }
    let marks: String = marks.into_iter().collect();
    let _ = writeln!(out, "  {:LABEL$}{}", "base backups", marks.trim_end());
    let forms: BTreeSet<BackupForm> = chart.backups.iter().map(|backup| backup.form).collect();
    if forms.iter().any(|form| *form != BackupForm::Base) {
        let words: Vec<String> = forms.iter().map(|form| format!("{} {}", mark(*form), form.name())).collect();
        let _ = writeln!(out, "  {:LABEL$}{}", "", words.join("   "));
    }
    for lane in &chart.lanes {
        let bar = bar(lane, axis, width, palette);
        let _ = writeln!(out, "  {:LABEL$}{bar}", format!("timeline {}", lane.timeline));
    }
    let (begin, end) = (moment(axis.begin), moment(axis.end));
    let room = width.saturating_sub(end.len());
    let _ = writeln!(out, "  {:LABEL$}{begin:room$}{end}", "");
}

fn mark(form: BackupForm) -> char {
    match form {
        BackupForm::Base => '▼',
        BackupForm::Snapshot => '◆',
        BackupForm::PgBackRest => '●',
    }
}

/// One lane. A gap is never hidden by what can be recovered beside it: it keeps at least one column.
fn bar(lane: &ChartLane, axis: Axis, width: usize, palette: Palette) -> String {
    let mut cells = vec![None; width];
    for state in [SpanState::Recoverable, SpanState::Gap] {
        for span in lane.spans.iter().filter(|span| span.state == state) {
            let (Some(from), Some(to)) = (span.from_at.or(span.to_at), span.to_at.or(span.from_at)) else { continue };
            let (from, to) = (axis.part(from, width), axis.part(to, width));
            cells[from..=to.max(from)].fill(Some(state));
        }
    }
    let paint = |state: Option<SpanState>, count: usize| match state {
        None => " ".repeat(count),
        Some(SpanState::Recoverable) => palette.paint(Tone::Good, &THERE.to_string().repeat(count)),
        Some(SpanState::Gap) => palette.paint(Tone::Bad, &GAP.to_string().repeat(count)),
    };
    let runs = cells.chunk_by(|a, b| a == b).map(|run| paint(run[0], run.len()));
    runs.collect::<String>().trim_end().to_owned()
}

fn facts(out: &mut String, lane: &ChartLane, palette: Palette) {
    let left = lane.left.zip(lane.fork).map(|(left, fork)| format!(", left timeline {left} at {fork}"));
    let _ = writeln!(out, "timeline {}{}", lane.timeline, left.unwrap_or_default());
    if lane.spans.is_empty() {
        let _ = writeln!(out, "  no WAL of its own");
    }
    for span in &lane.spans {
        let _ = writeln!(out, "  {}", line(span, palette));
        let why = span.why.iter().map(|why| format!("      {}\n", mask_text(why)));
        out.extend(why);
    }
}

fn line(span: &Span, palette: Palette) -> String {
    let word = match span.state {
        SpanState::Recoverable => palette.paint(Tone::Good, "from"),
        SpanState::Gap => palette.paint(Tone::Bad, "GAP "),
    };
    let long = match (span.from_at, span.to_at) {
        (Some(from), Some(to)) => human_duration(between(from, to)),
        (Some(_) | None, _) => "?".to_owned(),
    };
    format!("{word} {} to {}  ({long}, {} to {})", told(span.from_at), told(span.to_at), span.from, span.to)
}
