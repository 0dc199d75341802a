//! When each step ran, against phases, budgets and the RTO, as inline SVG.

use std::fmt::Write as _;
use std::time::Duration;

use super::figures::name;
use crate::base::clock::{after, between};
use crate::base::units::{Span, human_duration};
use crate::base::{StepId, Timestamp};
use crate::plan::{BoundPlan, PlannedStep, Section};
use crate::report::phrase::is_idle_undo;
use crate::state::{RunState, StepState, StepStatus};

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 178.0;
const RIGHT: f64 = 76.0;
const ROW: f64 = 22.0;
const TOP: f64 = 34.0;
/// More steps than this are not drawn; those on the critical path, that failed, and the longest are.
const MAX_ROWS: usize = 60;
/// Distances between marks of the axis, in seconds.
const MARKS: [u64; 17] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400];

/// Draws the timeline. Its classes are styled by the page.
pub(super) fn gantt(plan: &BoundPlan, state: &RunState) -> String {
    let axis = Axis::new(plan, state);
    let shown = choose(plan, state);
    let rows = rows(plan, &shown);
    #[expect(clippy::cast_precision_loss, reason = "places in a drawing")]
    let bottom = TOP + rows.len() as f64 * ROW;
    let height = bottom + if shown.len() < told(plan, state).count() { 46.0 } else { 26.0 };
    let mut out = format!(
        "<svg class=\"gantt\" role=\"img\" viewBox=\"0 0 {WIDTH} {height:.0}\"><title>timeline of the steps</title>"
    );
    #[expect(clippy::cast_precision_loss, reason = "places in a drawing")]
    let top = |index: usize| TOP + index as f64 * ROW;
    for (index, _) in rows.iter().enumerate().filter(|(_, row)| matches!(row, Row::Phase(_))) {
        let y = top(index);
        let _ = write!(out, "<rect class=\"band\" x=\"0\" y=\"{y:.0}\" width=\"{WIDTH}\" height=\"{ROW}\"/>");
    }
    axis.marks(&mut out, bottom);
    for (index, row) in rows.iter().enumerate() {
        let y = top(index);
        match row {
            Row::Phase(id) => phase(&mut out, (plan, state), id, (&axis, y)),
            Row::Step(step) => bar(&mut out, (plan, state), step, (&axis, y)),
        }
    }
    axis.moments(&mut out, plan, state, bottom);
    if shown.len() < told(plan, state).count() {
        let _ = write!(
            out,
            "<text class=\"s\" x=\"0\" y=\"{:.0}\">{} of {} steps: the critical path, what failed, and the longest</text>",
            bottom + 40.0,
            shown.len(),
            told(plan, state).count()
        );
    }
    out.push_str("</svg>");
    out
}

enum Row<'a> {
    Phase(&'a str),
    Step(&'a PlannedStep),
}

fn rows<'a>(plan: &'a BoundPlan, shown: &[&'a PlannedStep]) -> Vec<Row<'a>> {
    let listed = |step: &PlannedStep| plan.phases.iter().any(|phase| step.phase.as_deref() == Some(&phase.id));
    let body = |step: &&PlannedStep| step.section == Section::Body;
    let mut rows: Vec<Row<'a>> = Vec::new();
    for phase in &plan.phases {
        let mut members =
            shown.iter().copied().filter(body).filter(|step| step.phase.as_deref() == Some(&phase.id)).peekable();
        if members.peek().is_some() {
            rows.push(Row::Phase(&phase.id));
            rows.extend(members.map(Row::Step));
        }
    }
    rows.extend(shown.iter().copied().filter(body).filter(|step| !listed(step)).map(Row::Step));
    rows.extend(shown.iter().copied().filter(|step| !body(step)).map(Row::Step));
    rows
}

/// The steps that a report speaks of.
fn told<'a>(plan: &'a BoundPlan, state: &RunState) -> impl Iterator<Item = &'a PlannedStep> {
    plan.steps.iter().filter(|step| !is_idle_undo(step, state))
}

fn choose<'a>(plan: &'a BoundPlan, state: &RunState) -> Vec<&'a PlannedStep> {
    let all: Vec<&PlannedStep> = told(plan, state).collect();
    if all.len() <= MAX_ROWS {
        return all;
    }
    let path: &[StepId] = state.finished.as_ref().map_or(&[], |(_, _, figures)| &figures.critical_path);
    let rank = |step: &PlannedStep| {
        let known = state.steps.get(&step.id);
        let failed = known.is_some_and(|known| matches!(known.status, StepStatus::Failed | StepStatus::Unknown));
        let took = known.and_then(|known| Some(between(known.started_at?, known.ended_at?))).unwrap_or_default();
        std::cmp::Reverse((failed, path.contains(&step.id), took))
    };
    let mut ranked: Vec<(usize, &PlannedStep)> = all.into_iter().enumerate().collect();
    ranked.sort_by_cached_key(|(_, step)| rank(step));
    ranked.truncate(MAX_ROWS);
    ranked.sort_by_key(|(index, _)| *index);
    ranked.into_iter().map(|(_, step)| step).collect()
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

fn bar(out: &mut String, (plan, state): (&BoundPlan, &RunState), step: &PlannedStep, (axis, y): (&Axis, f64)) {
    let indent = if step.phase.is_some() && step.section == Section::Body { 12.0 } else { 0.0 };
    label(out, "n", (indent, y), &cut(step.id.as_str(), 24));
    let Some(known) = state.steps.get(&step.id) else { return };
    let critical = state.finished.as_ref().is_some_and(|(_, _, figures)| figures.critical_path.contains(&step.id));
    let until = known.ended_at.or(state.last_at).unwrap_or(plan.started_at);
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
    if let Some(start) = known.started_at.filter(|_| !known.attempts.is_empty()) {
        label(out, "s", (WIDTH - RIGHT + 8.0, y), &human_duration(between(start, until)));
    } else {
        label(out, "s", (WIDTH - RIGHT + 8.0, y), known_word(known));
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
