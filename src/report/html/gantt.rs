//! When each step ran, against phases, budgets and the RTO, as inline SVG.

use std::fmt::Write as _;
use std::time::Duration;

use super::figures::name;
use crate::base::clock::{after, between};
use crate::base::units::{Span, human_duration};
use crate::base::{StepId, Timestamp};
use crate::plan::{BoundPlan, Section};
use crate::report::roster::Entry;
use crate::state::{RunState, StepState, StepStatus, Stretch};

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 178.0;
const RIGHT: f64 = 76.0;
const ROW: f64 = 22.0;
const TOP: f64 = 34.0;
/// More steps than this are not drawn; those on the critical path, that failed, and the longest are.
const MAX_ROWS: usize = 60;
/// Distances between marks of the axis, in seconds.
const MARKS: [u64; 17] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400];

/// Draws the timeline; a fan-out is one row. Its classes are styled by the page.
pub(super) fn gantt(plan: &BoundPlan, state: &RunState, entries: &[Entry<'_>]) -> String {
    let axis = Axis::new(plan, state);
    let all: Vec<&Entry<'_>> = entries.iter().filter(|entry| entry.key.is_none()).collect();
    let shown = choose(&all, state);
    let rows = rows(plan, &shown);
    #[expect(clippy::cast_precision_loss, reason = "places in a drawing")]
    let top = |index: usize| TOP + index as f64 * ROW;
    let bottom = top(rows.len());
    let height = bottom + if shown.len() < all.len() { 46.0 } else { 26.0 };
    let mut out = format!(
        "<svg class=\"gantt\" role=\"img\" viewBox=\"0 0 {WIDTH} {height:.0}\"><title>timeline of the steps</title>"
    );
    for (index, _) in rows.iter().enumerate().filter(|(_, row)| !matches!(row, Row::Step(_))) {
        let y = top(index);
        let _ = write!(out, "<rect class=\"band\" x=\"0\" y=\"{y:.0}\" width=\"{WIDTH}\" height=\"{ROW}\"/>");
    }
    axis.marks(&mut out, bottom);
    for stretch in &state.pauses {
        let until = stretch.until.or(state.last_at).unwrap_or(stretch.from);
        rect(&mut out, "paused", (axis.x(stretch.from), axis.x(until)), (TOP, bottom - TOP));
    }
    for (index, row) in rows.iter().enumerate() {
        let y = top(index);
        match row {
            Row::Phase(id) => phase(&mut out, (plan, state), id, (&axis, y)),
            Row::Part(title) => label(&mut out, "p", (0.0, y), title),
            Row::Step(entry) => bar(&mut out, (plan, state), entry, (&axis, y)),
        }
    }
    axis.moments(&mut out, plan, state, bottom);
    if shown.len() < all.len() {
        let _ = write!(
            out,
            "<text class=\"s\" x=\"0\" y=\"{:.0}\">{} of {} steps: the critical path, what failed, and the longest</text>",
            bottom + 40.0,
            shown.len(),
            all.len()
        );
    }
    out.push_str("</svg>");
    out
}

enum Row<'a, 'b> {
    Phase(&'a str),
    Part(&'static str),
    Step(&'a Entry<'b>),
}

fn rows<'a, 'b>(plan: &'a BoundPlan, shown: &[&'a Entry<'b>]) -> Vec<Row<'a, 'b>> {
    let listed = |entry: &Entry<'_>| plan.phases.iter().any(|phase| entry.planned.phase.as_deref() == Some(&phase.id));
    let part = |section: Section| shown.iter().copied().filter(move |entry| entry.planned.section == section);
    let mut rows: Vec<Row<'a, 'b>> = Vec::new();
    for phase in &plan.phases {
        let members = part(Section::Body).filter(|entry| entry.planned.phase.as_deref() == Some(&phase.id));
        let mut members = members.peekable();
        if members.peek().is_some() {
            rows.push(Row::Phase(&phase.id));
            rows.extend(members.map(Row::Step));
        }
    }
    rows.extend(part(Section::Body).filter(|entry| !listed(entry)).map(Row::Step));
    for (section, title) in [(Section::Undo, "Undo"), (Section::Finally, "Finally")] {
        let mut members = part(section).peekable();
        if members.peek().is_some() {
            rows.push(Row::Part(title));
            rows.extend(members.map(Row::Step));
        }
    }
    rows
}

fn choose<'a, 'b>(all: &[&'a Entry<'b>], state: &RunState) -> Vec<&'a Entry<'b>> {
    if all.len() <= MAX_ROWS {
        return all.to_vec();
    }
    let path: &[StepId] = state.finished.as_ref().map_or(&[], |(_, _, figures)| &figures.critical_path);
    let rank = |entry: &Entry<'_>| {
        let known = entry.known;
        let failed = known.is_some_and(|known| matches!(known.status, StepStatus::Failed | StepStatus::Unknown));
        let took = known.and_then(|known| Some(between(known.started_at?, known.ended_at?))).unwrap_or_default();
        std::cmp::Reverse((failed, path.contains(&entry.id), took))
    };
    let mut ranked: Vec<(usize, &Entry<'_>)> = all.iter().copied().enumerate().collect();
    ranked.sort_by_cached_key(|(_, entry)| rank(entry));
    ranked.truncate(MAX_ROWS);
    ranked.sort_by_key(|(index, _)| *index);
    ranked.into_iter().map(|(_, entry)| entry).collect()
}

struct Axis {
    from: Timestamp,
    to: Timestamp,
}

impl Axis {
    fn new(plan: &BoundPlan, state: &RunState) -> Self {
        let start = state.started_at.unwrap_or(plan.started_at);
        let end = state.last_at.unwrap_or(start).max(after(start, Duration::from_millis(1)));
        let zero = plan.incident_at.unwrap_or(start).min(start);
        // A wait that would leave the run itself no room is not drawn in full.
        let from = if between(zero, start) > between(start, end) * 3 / 2 { start } else { zero };
        let deadline = plan.incident_at.zip(plan.objectives.rto).map(|(at, rto)| after(at, rto.0));
        let near = |at: &Timestamp| between(from, *at) * 2 <= between(from, end) * 3;
        Self { from, to: deadline.filter(near).map_or(end, |deadline| deadline.max(end)) }
    }

    fn x(&self, at: Timestamp) -> f64 {
        let share = between(self.from, at).as_secs_f64() / between(self.from, self.to).as_secs_f64().max(0.001);
        LEFT + share.min(1.0) * (WIDTH - LEFT - RIGHT)
    }

    /// Draws the hours and minutes, below everything else.
    fn marks(&self, out: &mut String, bottom: f64) {
        let length = between(self.from, self.to).as_secs();
        let step = MARKS.into_iter().find(|mark| length / mark <= 8).unwrap_or(length.div_ceil(8).max(1));
        for mark in (0..).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            let passed = Duration::from_secs(mark);
            let at = after(self.from, passed);
            if at > self.to {
                break;
            }
            let x = self.x(at);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom:.0}\"/>\
                 <text class=\"s\" x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
                bottom + 16.0,
                Span(passed)
            );
        }
    }

    /// Draws the incident, the start of the run, and the end of the RTO.
    fn moments(&self, out: &mut String, plan: &BoundPlan, state: &RunState, bottom: f64) {
        let start = state.started_at.unwrap_or(plan.started_at);
        let line = |out: &mut String, class: &str, at: Timestamp| {
            let x = self.x(at);
            let _ = write!(out, "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"18\" y2=\"{bottom:.0}\"/>");
        };
        let text = |out: &mut String, class: &str, (x, anchor): (f64, &str), words: &str| {
            let _ =
                write!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"12\" text-anchor=\"{anchor}\">{words}</text>");
        };
        if let Some(incident) = plan.incident_at {
            if incident >= self.from && incident < start {
                let (left, right) = (self.x(incident), self.x(start));
                let _ = write!(
                    out,
                    "<rect class=\"wait\" x=\"{left:.1}\" y=\"20\" width=\"{:.1}\" height=\"7\" rx=\"2\"/>",
                    right - left
                );
                line(out, "moment", incident);
                text(out, "s", (left, "start"), "incident");
                if right - left > 70.0 {
                    text(out, "s", (right, "start"), "start");
                }
            } else if incident < self.from {
                let words = format!("incident {} before the start", human_duration(between(incident, start)));
                text(out, "s", (LEFT, "start"), &words);
            }
        }
        line(out, "moment", start);
        let Some((incident, rto)) = plan.incident_at.zip(plan.objectives.rto) else { return };
        let deadline = after(incident, rto.0);
        if deadline <= self.to {
            line(out, "rto", deadline);
            text(out, "rto", (self.x(deadline), "middle"), &format!("RTO {rto}"));
        } else {
            let left = human_duration(between(self.to, deadline));
            text(out, "s", (WIDTH, "end"), &format!("RTO of {rto} ends {left} later →"));
        }
    }
}

fn phase(out: &mut String, (plan, state): (&BoundPlan, &RunState), id: &str, (axis, y): (&Axis, f64)) {
    label(out, "p", (0.0, y), &cut(name(plan, id), 27));
    let members = plan.steps.iter().filter(|step| step.phase.as_deref() == Some(id));
    let known =
        members.filter_map(|step| state.steps.get(&step.id)).filter(|known| known.status != StepStatus::Skipped);
    let spans: Vec<(Timestamp, Timestamp)> =
        known.filter_map(|known| Some((known.started_at?, known.ended_at.or(state.last_at)?))).collect();
    let Some(start) = spans.iter().map(|(start, _)| *start).min() else { return };
    let Some(end) = spans.iter().map(|(_, end)| *end).max() else { return };
    let budget = plan.phases.iter().find(|phase| phase.id == id).and_then(|phase| phase.budget);
    let allowed = budget.map(|budget| after(start, budget.0));
    rect(out, "phase", (axis.x(start), axis.x(allowed.map_or(end, |at| at.min(end)))), (y + 9.0, 4.0));
    if let Some(allowed) = allowed.filter(|allowed| *allowed < end) {
        rect(out, "over", (axis.x(allowed), axis.x(end)), (y + 9.0, 4.0));
    }
    if let Some(allowed) = allowed.filter(|allowed| *allowed <= axis.to) {
        let x = axis.x(allowed);
        let _ = write!(
            out,
            "<line class=\"budget\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.0}\" y2=\"{:.0}\"><title>budget</title></line>",
            y + 5.0,
            y + 17.0
        );
    }
    label(out, "s", (WIDTH - RIGHT + 8.0, y), &human_duration(between(start, end)));
}

fn bar(out: &mut String, (plan, state): (&BoundPlan, &RunState), entry: &Entry<'_>, (axis, y): (&Axis, f64)) {
    let headed = entry.planned.phase.is_some() || entry.planned.section != Section::Body;
    let mut indent = if headed { 12.0 } else { 0.0 };
    for _ in 0..entry.depth.min(4) {
        indent += 12.0;
    }
    let name = entry.id.as_str();
    let name = if entry.depth > 0 { name.rsplit('/').next().unwrap_or(name) } else { name };
    label(out, "n", (indent, y), &cut(name, 24_usize.saturating_sub(2 * entry.depth.min(4))));
    let Some(known) = entry.known else { return };
    let critical = state.finished.as_ref().is_some_and(|(_, _, figures)| figures.critical_path.contains(&entry.id));
    let until = known.ended_at.or(state.last_at).unwrap_or(plan.started_at);
    if entry.is_group()
        && let Some(start) = known.started_at
    {
        let class = if known.status == StepStatus::Failed { "group failed" } else { "group" };
        rect(out, class, (axis.x(start), axis.x(until)), (y + 7.0, 8.0));
        if entry.planned.for_each.is_some() {
            let (x, anchor) = match axis.x(until) < WIDTH * 0.6 {
                true => (axis.x(until) + 6.0, "start"),
                false if axis.x(start) > WIDTH * 0.45 => (axis.x(start) - 6.0, "end"),
                false => (axis.x(start) + 6.0, "start"),
            };
            let words = entry.members.words();
            let y = y + 15.0;
            let _ = write!(out, "<text class=\"s\" x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{words}</text>");
        }
    }
    attempts(out, (known, critical, until), (axis, y));
    waits(out, "person", (&known.person_waits, until), (axis, y));
    waits(out, "locked", (&known.lock_waits, until), (axis, y));
    let worked = !known.attempts.is_empty() || entry.is_group() || known.question.is_some();
    let took = known.started_at.filter(|_| worked && known.skipped.is_none()).map(|start| between(start, until));
    let words = took.map_or_else(|| known_word(known).to_owned(), human_duration);
    let words = if known.seeded_from.is_some() { "earlier run".to_owned() } else { words };
    label(out, "s", (WIDTH - RIGHT + 8.0, y), &words);
}

fn attempts(out: &mut String, (known, critical, until): (&StepState, bool, Timestamp), (axis, y): (&Axis, f64)) {
    for (index, attempt) in known.attempts.iter().enumerate() {
        let next = known.attempts.get(index + 1).map(|next| next.started_at);
        let ended = attempt.ended_at.or(next).unwrap_or(until);
        let (from, to) = (axis.x(attempt.started_at), axis.x(ended));
        let class = kind(known, next.is_none());
        let outline = if critical && class == "machine" { "machine critical" } else { class };
        rect(out, outline, (from, to), (y + 5.0, 12.0));
        if let Some(next) = next {
            rect(out, "delay", (to, axis.x(next)), (y + 9.0, 4.0));
        }
    }
}

fn waits(out: &mut String, class: &str, (waits, until): (&[Stretch], Timestamp), (axis, y): (&Axis, f64)) {
    for stretch in waits {
        let to = axis.x(stretch.until.unwrap_or(until));
        rect(out, class, (axis.x(stretch.from), to), (y + 5.0, 12.0));
    }
}

fn kind(known: &StepState, last: bool) -> &'static str {
    match known.status {
        _ if !last => "retry",
        StepStatus::Failed | StepStatus::Unknown | StepStatus::Cancelled => "failed",
        StepStatus::Waiting | StepStatus::Held => "retry",
        StepStatus::Pending
        | StepStatus::Resolved
        | StepStatus::Checked
        | StepStatus::Running
        | StepStatus::Open
        | StepStatus::Asking
        | StepStatus::Succeeded
        | StepStatus::Skipped => "machine",
    }
}

fn known_word(known: &StepState) -> &'static str {
    crate::report::phrase::node_state(known.status).as_str()
}

fn rect(out: &mut String, class: &str, (from, to): (f64, f64), (y, height): (f64, f64)) {
    let width = (to - from).max(1.5);
    let _ = write!(
        out,
        "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\" rx=\"2\"/>"
    );
}

fn label(out: &mut String, class: &str, (x, y): (f64, f64), words: &str) {
    let _ = write!(out, "<text class=\"{class}\" x=\"{x:.0}\" y=\"{:.0}\">{}</text>", y + 15.0, escape(words));
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn escape(text: &str) -> String {
    maud::html! { (text) }.into_string()
}
