//! What the panel says.

use super::super::phrase::{awaited, millis, tone};
use super::super::progress::Tracker;
use super::super::roster::{Entry, roster, totals};
use super::super::waiting::wanted;
use super::super::{Palette, Tone, mask_text};
use crate::base::Timestamp;
use crate::base::clock::between;
use crate::base::mode::Mode;
use crate::base::units::human_duration;
use crate::language::runbook::Phase;
use crate::plan::render::NodeState;
use crate::plan::{BoundPlan, Section};
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

/// More questions than this are counted, not told.
const MAX_WANTED: usize = 3;
/// Of the members of a larger fan-out, only those are listed that run, wait or went wrong.
const MANY_MEMBERS: usize = 12;

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
    let entries = roster(plan, state);
    let mut lines = vec![String::new(), view.header()];
    lines.extend(view.clocks());
    let below = view.wants();
    let room = screen.rows.saturating_sub(lines.len() + below.len() + 2);
    let worth: Vec<&Entry<'_>> = entries.iter().filter(|entry| is_worth_a_line(entry, &entries)).collect();
    let chosen = choose(&worth, room.saturating_sub(plan.phases.len() + 2));
    let mut heading = None;
    for entry in &chosen {
        let group = (entry.planned.section, entry.planned.phase.as_deref());
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
    lines.extend(below);
    lines.truncate(screen.rows.saturating_sub(1).max(1));
    lines.iter().map(|line| fit(line, screen.columns)).collect()
}

/// Whether an entry has a place in the panel at all: of many instances, not those of which there is nothing to say.
fn is_worth_a_line(entry: &Entry<'_>, all: &[Entry<'_>]) -> bool {
    let quiet = matches!(entry.state, NodeState::Pending | NodeState::Succeeded | NodeState::Skipped);
    let many = |group: &&Entry<'_>| group.members.all > MANY_MEMBERS;
    let fan_out = || all.iter().find(|group| *group.id == entry.planned.id && group.key.is_none());
    entry.key.is_none() || !quiet || !fan_out().is_some_and(|group| many(&group))
}

/// Chooses at most `room` steps, in the order of the plan.
fn choose<'a, 'b>(entries: &[&'a Entry<'b>], room: usize) -> Vec<&'a Entry<'b>> {
    if entries.len() <= room {
        return entries.to_vec();
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
    kept.into_iter().map(|index| entries[index]).collect()
}

struct View<'a> {
    plan: &'a BoundPlan,
    state: &'a RunState,
    tracker: &'a Tracker,
    now: Timestamp,
    palette: Palette,
}

impl View<'_> {
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
        let indent = "  ".repeat(entry.depth.min(5) + 1);
        let name = label(entry);
        let Some(known) = entry.known else {
            return format!("{indent}{glyph} {}", self.palette.paint(Tone::Quiet, &name));
        };
        if let Some(run) = &known.seeded_from {
            return format!(
                "{indent}{}",
                self.palette.paint(Tone::Quiet, &format!("{} {name}  from run {run}", entry.state.glyph()))
            );
        }
        let members = if entry.is_group() { format!("  {}", entry.members.words()) } else { String::new() };
        let elapsed = known
            .started_at
            .filter(|_| known.skipped.is_none())
            .map(|start| between(start, known.ended_at.unwrap_or(self.now)));
        let elapsed = elapsed.map(|elapsed| format!("  {}", human_duration(elapsed))).unwrap_or_default();
        format!("{indent}{glyph} {name}{elapsed}{members}{}{}", self.attempts(entry, known), self.doing(entry, known))
    }

    fn attempts(&self, entry: &Entry<'_>, known: &StepState) -> String {
        let most = entry.planned.retry.as_ref().map(|retry| retry.max_attempts);
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
        let Some(track) = self.tracker.of(&entry.id) else { return String::new() };
        let bar = track.share().map(|share| format!("  {}", bar(share))).unwrap_or_default();
        let amount = track.amount(self.now).map(|amount| format!(" {amount}")).unwrap_or_default();
        let words = if track.words.is_empty() { String::new() } else { format!("  {}", track.words) };
        format!("{bar}{amount}{}", self.palette.paint(Tone::Quiet, &words))
    }

    /// What is wanted of people, what to type, and which locks are waited for.
    fn wants(&self) -> Vec<String> {
        let wanted = wanted(self.plan, self.state);
        let more = wanted.len().saturating_sub(MAX_WANTED);
        let told = wanted.iter().take(MAX_WANTED).flat_map(|wanted| {
            let commands = wanted
                .commands
                .iter()
                .take(1)
                .map(|(_, typed)| format!("    {}", self.palette.paint(Tone::Strong, typed)));
            std::iter::once(self.palette.paint(Tone::Warn, &format!("? {}", wanted.fact))).chain(commands)
        });
        let told = told.chain((more > 0).then(|| format!("  and {more} more: runbook show {}", self.plan.run)));
        let locks = self.state.awaited_locks().map(|wait| {
            let long = human_duration(between(wait.since, self.now));
            self.palette.paint(Tone::Warn, &format!("! {} for {long}", awaited(wait)))
        });
        told.chain(locks.take(MAX_WANTED)).collect()
    }

    fn counts(&self, entries: &[Entry<'_>]) -> String {
        let leaves = || entries.iter().filter(|entry| entry.is_leaf());
        let count = |state: NodeState| leaves().filter(|entry| entry.state == state).count();
        let totals = totals(entries);
        let mut parts = vec![format!("{} of {} steps done", totals.done, totals.all)];
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
        parts.join(" · ")
    }
}

/// What a step is called below its group.
fn label(entry: &Entry<'_>) -> String {
    let id = entry.id.as_str();
    match entry.key {
        Some(key) => mask_text(key),
        None if entry.depth > 0 => id.rsplit('/').next().unwrap_or(id).to_owned(),
        None => id.to_owned(),
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
