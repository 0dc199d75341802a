//! The picture for a page: one SVG that carries its own style, good in light, dark and on paper.

use std::fmt::Write as _;

use super::{Axis, BackupForm, Chart, ChartLane, Span, SpanState, moment, told};

const WIDTH: f64 = 960.0;
/// Where labels begin.
const LABEL: f64 = 16.0;
/// The least that labels have.
const LEFT: f64 = 110.0;
/// The most that a character of a label takes.
const CHARACTER: f64 = 7.6;
const RIGHT: f64 = 24.0;
const TOP: f64 = 64.0;
const LANE: f64 = 44.0;
const BAR: f64 = 22.0;
const BOTTOM: f64 = 64.0;
/// The least that a span shows, so that no gap is too short to be seen.
const LEAST: f64 = 3.0;
const TICKS: u32 = 3;

const STYLE: &str = "\
.rb-window{--ink:#1d2733;--soft:#5c6a78;--line:#d3dae1;--paper:#fff;--ok:#2e8b5e;--bad:#b3261e;--badbg:#fbe9e7;--mark:#1a5fb4;font-family:system-ui,-apple-system,'Segoe UI',sans-serif;max-width:100%;height:auto}\
@media(prefers-color-scheme:dark){.rb-window{--ink:#e4e9ee;--soft:#9aa7b4;--line:#36424f;--paper:#1a222b;--ok:#46b07c;--bad:#ff8a80;--badbg:#3a1f22;--mark:#7db7ff}}\
@media print{.rb-window{--ink:#000;--soft:#444;--line:#bbb;--paper:#fff;--ok:#2e8b5e;--bad:#b3261e;--badbg:#fff;--mark:#1a5fb4}}\
.rb-window .p{fill:var(--paper)}.rb-window text{fill:var(--soft);font-size:12px}\
.rb-window .t{fill:var(--ink);font-size:16px;font-weight:700}.rb-window .n{fill:var(--ink);font-size:13px;font-weight:600}\
.rb-window .g{stroke:var(--line);stroke-width:1}.rb-window .ok{fill:var(--ok)}\
.rb-window .gap{fill:var(--badbg);stroke:var(--bad);stroke-width:1.2;stroke-dasharray:4 3}\
.rb-window .b{fill:var(--mark)}.rb-window .x{fill:none;stroke:var(--bad);stroke-width:2}";

/// Draws a chart. Needs no outside tool; the same chart gives the same bytes.
#[must_use]
pub fn svg(chart: &Chart) -> String {
    let height = top(chart.lanes.len()) + BOTTOM;
    let title = format!("What can be recovered of {} (cluster {})", chart.database, chart.system_id);
    let title = escape(&title);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"rb-window\" role=\"img\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" \
         width=\"{WIDTH:.0}\" height=\"{height:.0}\"><title>{title}</title><style>{STYLE}</style>\
         <rect class=\"p\" width=\"{WIDTH:.0}\" height=\"{height:.0}\" rx=\"8\"/>\
         <text class=\"t\" x=\"16\" y=\"28\">{title}</text>"
    );
    match chart.axis() {
        None => out.push_str("<text x=\"16\" y=\"52\">nothing: no base backup ended yet</text>"),
        Some(axis) => {
            let plot = Plot::of(chart, axis);
            ticks(&mut out, &plot, height);
            for (index, lane) in chart.lanes.iter().enumerate() {
                row(&mut out, lane, &plot, top(index));
            }
            marks(&mut out, chart, &plot);
            legend(&mut out, &plot, height);
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Where a lane begins.
fn top(lane: usize) -> f64 {
    TOP + LANE * f64::from(u32::try_from(lane).unwrap_or(u32::MAX))
}

/// Where times lie, beside the labels.
struct Plot {
    axis: Axis,
    left: f64,
}

impl Plot {
    /// Leaves the labels the room that the longest takes.
    fn of(chart: &Chart, axis: Axis) -> Self {
        let longest = chart.lanes.iter().filter_map(origin).map(|label| label.chars().count()).max();
        let longest = longest.and_then(|count| u32::try_from(count).ok()).map_or(0.0, f64::from);
        Self { axis, left: LEFT.max(LABEL + longest * CHARACTER + LABEL) }
    }

    /// A share of the plot.
    fn share(&self, place: f64) -> f64 {
        self.left + place * (WIDTH - self.left - RIGHT)
    }

    fn x(&self, at: crate::base::Timestamp) -> f64 {
        self.share(self.axis.place(at))
    }
}

/// Where a timeline comes from, in words.
fn origin(lane: &ChartLane) -> Option<String> {
    let (left, fork) = lane.left.zip(lane.fork)?;
    Some(format!("from {left} at {fork}"))
}

fn ticks(out: &mut String, plot: &Plot, height: f64) {
    let bottom = height - BOTTOM + 4.0;
    for index in 0..=TICKS {
        let place = f64::from(index) / f64::from(TICKS);
        let (x, at) = (plot.share(place), moment(plot.axis.moment(place)));
        let anchor = match index {
            0 => "start",
            TICKS => "end",
            _ => "middle",
        };
        let _ = write!(
            out,
            "<line class=\"g\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{at}</text>",
            TOP - 14.0,
            bottom + 16.0
        );
    }
}

fn row(out: &mut String, lane: &ChartLane, plot: &Plot, y: f64) {
    let middle = y + BAR / 2.0 + 5.0;
    let _ = write!(out, "<text class=\"n\" x=\"{LABEL:.0}\" y=\"{middle:.1}\">timeline {}</text>", lane.timeline);
    if let Some(label) = origin(lane) {
        let _ = write!(out, "<text x=\"{LABEL:.0}\" y=\"{:.1}\">{label}</text>", middle + 15.0);
    }
    // Gaps come last: what can be recovered beside them never covers them.
    for state in [SpanState::Recoverable, SpanState::Gap] {
        for span in lane.spans.iter().filter(|span| span.state == state) {
            bar(out, span, plot, y);
        }
    }
}

fn bar(out: &mut String, span: &Span, plot: &Plot, y: f64) {
    let (Some(from), Some(to)) = (span.from_at.or(span.to_at), span.to_at.or(span.from_at)) else { return };
    let (class, word) = match span.state {
        SpanState::Recoverable => ("ok", "can be recovered"),
        SpanState::Gap => ("gap", "gap"),
    };
    let left = plot.x(from).min(WIDTH - RIGHT - LEAST);
    let width = (plot.x(to) - left).max(LEAST);
    let why = span.why.iter().map(|why| format!("\n{why}")).collect::<String>();
    let tip = format!("{word}: {} to {}\n{} to {}{why}", told(span.from_at), told(span.to_at), span.from, span.to);
    let _ = write!(
        out,
        "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR:.0}\" rx=\"2\"><title>{}</title></rect>",
        escape(&tip)
    );
}

/// Each backup points at its lane; one that cannot be restored is crossed out.
fn marks(out: &mut String, chart: &Chart, plot: &Plot) {
    for backup in &chart.backups {
        let lane = chart.lanes.iter().position(|lane| lane.timeline == backup.timeline).unwrap_or_default();
        let (x, y) = (plot.x(backup.ended_at), top(lane) - 3.0);
        let shape = match backup.fault {
            None => match backup.form {
                BackupForm::Base => format!("<path class=\"b\" d=\"M{:.1} {:.1}h10l-5 8z\">", x - 5.0, y - 8.0),
                BackupForm::Snapshot => format!("<path class=\"b\" d=\"M{x:.1} {:.1}l5 5l-5 5l-5 -5z\">", y - 10.0),
                BackupForm::PgBackRest => {
                    format!("<path class=\"b\" d=\"M{:.1} {:.1}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0\">", x - 4.0, y - 5.0)
                }
            },
            Some(_) => format!("<path class=\"x\" d=\"M{:.1} {:.1}l8 8m0 -8l-8 8\">", x - 4.0, y - 8.0),
        };
        let fault = backup.fault.as_ref().map(|why| format!("\ncannot be restored: {why}")).unwrap_or_default();
        let tip = format!("{} {}\nended {}{fault}", backup.form.name(), backup.id, moment(backup.ended_at));
        let _ = write!(out, "{shape}<title>{}</title></path>", escape(&tip));
    }
}

fn legend(out: &mut String, plot: &Plot, height: f64) {
    let left = plot.left;
    let y = height - 18.0;
    let _ = write!(
        out,
        "<path class=\"b\" d=\"M{left:.0} {:.1}h10l-5 8z\"/><text x=\"{:.0}\" y=\"{y:.1}\">base backup</text>\
         <rect class=\"ok\" x=\"{:.0}\" y=\"{:.1}\" width=\"18\" height=\"11\" rx=\"2\"/><text x=\"{:.0}\" y=\"{y:.1}\">can be recovered</text>\
         <rect class=\"gap\" x=\"{:.0}\" y=\"{:.1}\" width=\"18\" height=\"11\" rx=\"2\"/><text x=\"{:.0}\" y=\"{y:.1}\">gap: cannot be recovered</text>",
        y - 9.0,
        left + 16.0,
        left + 110.0,
        y - 10.0,
        left + 134.0,
        left + 250.0,
        y - 10.0,
        left + 274.0
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
