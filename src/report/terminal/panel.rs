//! What the panel says.

use super::super::phrase::{is_idle_undo, millis, node_state, tone};
use super::super::progress::Tracker;
use super::super::{Palette, Tone};
use crate::base::Timestamp;
use crate::base::clock::between;
use crate::base::mode::Mode;
use crate::base::units::human_duration;
use crate::language::runbook::Phase;
use crate::plan::render::NodeState;
use crate::plan::{BoundPlan, PlannedStep, Section};
use crate::state::{RunState, StepState, StepStatus};

/// The terminal at one moment.
#[derive(Debug, Clone, Copy)]
pub(in crate::report) struct Screen {
    /// Characters in a line.
    pub(in crate::report) columns: usize,
    /// Lines.
    pub(in crate::report) rows: usize,
    /// The time to measure by.
    pub(in crate::report) now: Timestamp,
}

/// Where a step of the panel stands, in the order in which steps are given room.
struct Entry<'a> {
    step: &'a PlannedStep,
    known: Option<&'a StepState>,
    state: NodeState,
}

/// Gives the lines of the panel: never more than the screen has, none wider.
///
/// All steps are listed under their phases where there is room; else those that run, those that
/// went wrong, the latest that ended, and the next ones, with the rest counted.
#[must_use]
pub(in crate::report) fn panel(
    plan: &BoundPlan,
    state: &RunState,
    tracker: &Tracker,
    (screen, palette): (Screen, Palette),
) -> Vec<String> {
    let view = View { plan, state, tracker, now: screen.now, palette };
    let told = plan.steps.iter().filter(|step| !is_idle_undo(step, state));
    let entries: Vec<Entry<'_>> = told.map(|step| view.entry(step)).collect();
    let mut lines = vec![String::new(), view.header()];
    lines.extend(view.clocks());
    let room = screen.rows.saturating_sub(lines.len() + 2);
    let chosen = choose(&entries, room.saturating_sub(plan.phases.len() + 2));
    let mut heading = None;
    for entry in &chosen {
        let group = (entry.step.section, entry.step.phase.as_deref());
        if heading != Some(group) {
            match group {
                (Section::Undo, _) => lines.push(palette.paint(Tone::Strong, "undo")),
                (_, Some(phase)) => lines.push(view.phase(phase)),
                (Section::Finally, None) => lines.push(palette.paint(Tone::Strong, "finally")),
                (Section::Body, None) => {}
            }
        }
        heading = Some(group);
        lines.push(view.step(entry));
    }
    lines.push(view.counts(&entries));
    lines.truncate(screen.rows.saturating_sub(1).max(1));
    lines.iter().map(|line| fit(line, screen.columns)).collect()
}

/// Chooses at most `room` steps, in the order of the plan.
fn choose<'a, 'b>(entries: &'a [Entry<'b>], room: usize) -> Vec<&'a Entry<'b>> {
    if entries.len() <= room {
        return entries.iter().collect();
    }
    let ended = |entry: &Entry<'_>| entry.known.and_then(|known| known.ended_at);
    let mut ranked: Vec<(usize, std::cmp::Reverse<Option<Timestamp>>, usize)> = entries
        .iter()
        .enumerate()
        .map(|(index, entry)| {
            let rank = match entry.state {
                NodeState::Running | NodeState::Asking => 0,
                NodeState::Failed | NodeState::Unknown => 1,
                NodeState::Pending => 2,
                NodeState::Succeeded | NodeState::Cancelled | NodeState::Skipped => 3,
            };
            (rank, std::cmp::Reverse(ended(entry)), index)
        })
        .collect();
    ranked.sort_unstable();
    let waiting = ranked.iter().position(|(rank, _, _)| *rank >= 2).unwrap_or(ranked.len()).min(room);
    let next = ranked.iter().filter(|(rank, _, _)| *rank == 2).take((room - waiting).div_ceil(2));
    let recent = ranked.iter().filter(|(rank, _, _)| *rank == 3).take((room - waiting) / 2);
    let mut kept: Vec<usize> = ranked[..waiting].iter().chain(next).chain(recent).map(|(_, _, index)| *index).collect();
    kept.sort_unstable();
    kept.into_iter().map(|index| &entries[index]).collect()
}

struct View<'a> {
    plan: &'a BoundPlan,
    state: &'a RunState,
    tracker: &'a Tracker,
    now: Timestamp,
    palette: Palette,
}

impl<'a> View<'a> {
    fn entry(&self, step: &'a PlannedStep) -> Entry<'a> {
        let known = self.state.steps.get(&step.id);
        Entry { step, known, state: node_state(known.map_or(StepStatus::Pending, |known| known.status)) }
    }

    fn header(&self) -> String {
        let plan = self.plan;
        let name = self.palette.paint(Tone::Strong, &plan.name);
        let banner = match (plan.mode, plan.protected) {
            (Mode::Drill, _) => self.palette.paint(Tone::Banner, " DRILL "),
            (Mode::DryRun, _) => self.palette.paint(Tone::Banner, " DRY RUN "),
            (Mode::Real, true) => self.palette.paint(Tone::Banner, " PROTECTED "),
            (Mode::Real, false) => String::new(),
        };
        let gap = if banner.is_empty() { "" } else { "  " };
        format!("{name}{gap}{banner}  {} in `{}`  {}", plan.mode.as_str().replace('_', " "), plan.environment, plan.run)
    }

    /// The run's clock and the countdown of the RTO.
    fn clocks(&self) -> Option<String> {
        let started = self.state.started_at?;
        let running = format!("running {}", human_duration(between(started, self.now)));
        let (Some(incident), Some(rto)) = (self.plan.incident_at, self.plan.objectives.rto) else {
            return Some(running);
        };
        let used = between(incident, self.now);
        let countdown = if used > rto.0 {
            self.palette.paint(Tone::Bad, &format!("RTO of {rto} OVER by {}", human_duration(used - rto.0)))
        } else {
            let tone = match used * 100 / 80 > rto.0 {
                true => Tone::Warn,
                false => Tone::Good,
            };
            self.palette.paint(tone, &format!("RTO {} left of {rto}", human_duration(rto.0 - used)))
        };
        Some(format!("{running} · {} since the incident · {countdown}", human_duration(used)))
    }

    fn phase(&self, id: &str) -> String {
        let known = self.plan.phases.iter().find(|phase| phase.id == id);
        let name = known.filter(|phase| !phase.name.is_empty()).map_or(id, |phase| phase.name.as_str());
        let name = self.palette.paint(Tone::Strong, name);
        let elapsed = self.phase_elapsed(id);
        match (elapsed, known.and_then(|phase: &Phase| phase.budget)) {
            (None, None) => name,
            (None, Some(budget)) => format!("{name}  {}", self.palette.paint(Tone::Quiet, &format!("budget {budget}"))),
            (Some(elapsed), None) => format!("{name}  {}", millis(elapsed)),
            (Some(elapsed), Some(budget)) => {
                let over = u128::from(elapsed) > budget.0.as_millis();
                let text = format!("{} / {budget}", millis(elapsed));
                format!("{name}  {}", if over { self.palette.paint(Tone::Bad, &text) } else { text })
            }
        }
    }

    fn phase_elapsed(&self, id: &str) -> Option<u64> {
        let members = self.plan.steps.iter().filter(|step| step.phase.as_deref() == Some(id));
        let known = members.filter_map(|step| self.state.steps.get(&step.id));
        let mut bounds: Option<(Timestamp, Timestamp)> = None;
        for step in known.filter(|step| step.status != StepStatus::Skipped) {
            let (Some(start), end) = (step.started_at, step.ended_at.unwrap_or(self.now)) else { continue };
            bounds = Some(bounds.map_or((start, end), |(first, last)| (first.min(start), last.max(end))));
        }
        let (first, last) = bounds?;
        u64::try_from(between(first, last).as_millis()).ok()
    }

    fn step(&self, entry: &Entry<'_>) -> String {
        let glyph = self.palette.paint(tone(entry.state), entry.state.glyph());
        let name = &entry.step.id;
        let Some(known) = entry.known else {
            return format!("  {glyph} {}", self.palette.paint(Tone::Quiet, name.as_str()));
        };
        let elapsed = known.started_at.map(|start| between(start, known.ended_at.unwrap_or(self.now)));
        let elapsed = elapsed.map(human_duration).unwrap_or_default();
        format!("  {glyph} {name}  {elapsed}{}{}", self.attempts(entry, known), self.doing(entry, known))
    }

    fn attempts(&self, entry: &Entry<'_>, known: &StepState) -> String {
        let most = entry.step.retry.as_ref().map(|retry| retry.max_attempts);
        match (known.attempts.len(), most) {
            (0 | 1, _) => String::new(),
            (count, Some(most)) => format!("  attempt {count}/{most}"),
            (count, None) => format!("  attempt {count}"),
        }
    }

    fn doing(&self, entry: &Entry<'_>, known: &StepState) -> String {
        match known.status {
            StepStatus::Running => {}
            StepStatus::Waiting => {
                let left = known.retry_at.map(|at| human_duration(between(self.now, at))).unwrap_or_default();
                return self.palette.paint(Tone::Warn, &format!("  next attempt in {left}"));
            }
            StepStatus::Asking => return self.palette.paint(Tone::Warn, "  waits for a person"),
            StepStatus::Held => return self.palette.paint(Tone::Warn, "  failed; retry, skip, mark-done or cancel"),
            StepStatus::Pending
            | StepStatus::Open
            | StepStatus::Resolved
            | StepStatus::Checked
            | StepStatus::Succeeded
            | StepStatus::Failed
            | StepStatus::Skipped
            | StepStatus::Cancelled
            | StepStatus::Unknown => return String::new(),
        }
        let Some(track) = self.tracker.of(&entry.step.id) else { return String::new() };
        let bar = track.share().map(|share| format!("  {}", bar(share))).unwrap_or_default();
        let amount = track.amount(self.now).map(|amount| format!(" {amount}")).unwrap_or_default();
        let words = if track.words.is_empty() { String::new() } else { format!("  {}", track.words) };
        format!("{bar}{amount}{}", self.palette.paint(Tone::Quiet, &words))
    }

    fn counts(&self, entries: &[Entry<'_>]) -> String {
        let count = |state: NodeState| entries.iter().filter(|entry| entry.state == state).count();
        let mut parts = vec![format!("{} of {} steps done", count(NodeState::Succeeded), entries.len())];
        let rest = [
            NodeState::Running,
            NodeState::Asking,
            NodeState::Failed,
            NodeState::Unknown,
            NodeState::Skipped,
            NodeState::Cancelled,
        ];
        for state in rest {
            match count(state) {
                0 => {}
                some => parts.push(self.palette.paint(tone(state), &format!("{some} {}", state.as_str()))),
            }
        }
        for waiting in &self.state.suspended {
            parts.push(self.palette.paint(Tone::Warn, &format!("`{}` waits for a person", waiting.step)));
        }
        parts.join(" · ")
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share between 0 and 1")]
fn bar(share: f64) -> String {
    const WIDTH: usize = 16;
    let full = ((share * WIDTH as f64).floor() as usize).min(WIDTH);
    format!("{}{}", "█".repeat(full), "░".repeat(WIDTH - full))
}

/// Cuts a line to the given width; colour codes take no room, wide characters take two places.
pub(in crate::report) fn fit(line: &str, columns: usize) -> String {
    let mut out = String::with_capacity(line.len());
    let mut used = 0;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            out.push(c);
            for code in chars.by_ref() {
                out.push(code);
                if code == 'm' {
                    break;
                }
            }
            continue;
        }
        let width = if u32::from(c) >= 0x1100 && !('\u{2000}'..='\u{2bff}').contains(&c) { 2 } else { 1 };
        if used + width > columns.saturating_sub(1) {
            out.push('…');
            if line.contains('\x1b') {
                out.push_str("\x1b[0m");
            }
            return out;
        }
        used += width;
        out.push(c);
    }
    out
}
