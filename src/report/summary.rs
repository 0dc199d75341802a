//! The closing summary: what a manager asks first, then what an operator does next.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::downtime::left_down;
use super::next::{commands, is_unjudged};
use super::phrase::{self, chosen, chosen_words, error_lines, millis, one_line};
use super::remark::told;
use super::roster::{Entry, roster, totals};
use super::waiting::wanted;
use super::{Palette, Tone, outcome_sentence};
use crate::base::clock::between;
use crate::base::units::human_duration;
use crate::base::{EventSeq, StepId};
use crate::event::{Figures, OriginPurpose, Outcome, SkipReason};
use crate::language::runbook::OnFailure;
use crate::plan::BoundPlan;
use crate::plan::render::NodeState;
use crate::state::{RunState, StepState, StepStatus, UndoState};

/// More notes than this are counted, not told; the report has them all.
const MAX_NOTES: usize = 12;
/// More steps than this are left out of a list in the middle.
const MAX_PATH: usize = 12;

/// Where the run's files are.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The run's directory, with its journal and the output of its steps.
    pub run_dir: Option<PathBuf>,
    /// The HTML report, where one was written.
    pub report: Option<PathBuf>,
    /// Who drives it; of no account once it is over.
    pub drive: Drive,
    /// The steps that an answer or an order is kept for.
    pub kept: Vec<StepId>,
    /// The inventories that a new run must be told here, to mean those of this one; `None` for a reader who may be anywhere: then
    /// each is named that was not included.
    pub inventories: Option<Vec<PathBuf>>,
}

/// Who drives a run that is not over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Drive {
    /// An engine, for all that is known.
    #[default]
    Engine,
    /// Nobody.
    Nobody,
    /// Nobody, and whoever does takes what people answered and ordered meanwhile.
    Kept,
    /// Nobody, and a person has ordered its end.
    Ending,
    /// Nobody ever again: a later run works on the same data.
    Overtaken,
}

/// Writes the summary of a run that ended or waits. A missed objective comes first.
#[must_use]
pub fn render(plan: &BoundPlan, state: &RunState, places: &Places, palette: Palette) -> String {
    let mut out = String::new();
    let tone = state.finished.as_ref().map_or(Tone::Warn, |(outcome, _, _)| phrase::outcome_tone(*outcome));
    if let Some((_, _, figures)) = &state.finished {
        for miss in phrase::rto_miss(figures).into_iter().chain(phrase::rpo_miss(figures)) {
            let _ = writeln!(out, "{}", palette.paint(Tone::Bad, &miss));
        }
    }
    let _ = writeln!(out, "{}", palette.paint(tone, &outcome_sentence(plan, state)));
    let _ = writeln!(out, "\n  run      {}, {}, by {}", plan.run, phrase::mode(plan), plan.actor.name);
    if let Some((outcome, _, figures)) = &state.finished {
        objectives(&mut out, (plan, state), (*outcome, figures), palette);
        phases(&mut out, plan, figures, palette);
        path(&mut out, figures);
        exceptions(&mut out, state, palette);
    }
    let wanted = wanted(plan, state);
    let entries = roster(plan, state);
    approvals(&mut out, &entries);
    if state.finished.is_none() {
        standing(&mut out, state, &entries);
    }
    undone(&mut out, plan, state, palette);
    for down in left_down(plan, state) {
        let _ = writeln!(out, "\n{}", palette.paint(Tone::Bad, &down.words()));
    }
    if !wanted.is_empty() {
        let _ = writeln!(out, "\n{}", palette.paint(Tone::Warn, "waits for a person"));
    }
    for wanted in &wanted {
        let _ = writeln!(out, "  {}", wanted.fact);
    }
    trouble(&mut out, (&entries, state), places, palette);
    notes(&mut out, state, &entries);
    out.push_str("\nnext\n");
    for (what, command) in commands(plan, state, places) {
        let _ = writeln!(out, "  {what:10}{}", palette.paint(Tone::Strong, &command));
    }
    out
}

fn objectives(
    out: &mut String,
    (plan, state): (&BoundPlan, &RunState),
    (outcome, figures): (Outcome, &Figures),
    palette: Palette,
) {
    let verdict = |missed: bool| match missed {
        true => palette.paint(Tone::Bad, "MISSED"),
        false => palette.paint(Tone::Good, "met"),
    };
    match (figures.rto_ms, figures.rto_target_ms) {
        (Some(measured), Some(target)) => {
            let (measured_text, target_text) = (millis(measured), chosen(target));
            let _ =
                writeln!(out, "  RTO      {measured_text}, objective {target_text}: {}", verdict(measured > target));
        }
        (Some(measured), None) => {
            let _ = writeln!(out, "  RTO      {}, no objective", millis(measured));
        }
        (None, Some(target)) => {
            let why = match plan.incident_at.zip(state.last_at) {
                None => "the runbook names no incident".to_owned(),
                Some((incident, ended)) => {
                    format!("{}, {}", no_recovery(outcome), left(target, between(incident, ended)))
                }
            };
            let _ = writeln!(out, "  RTO      not measured against {}: {why}", chosen(target));
        }
        (None, None) => {}
    }
    let (machine, retry, waiting) = (millis(figures.machine_ms), millis(figures.retry_ms), millis(figures.waiting_ms));
    let waits = [("locks", figures.lock_ms), ("people", figures.human_ms)];
    let waits = waits.iter().filter(|(_, ms)| *ms > 0).map(|(name, ms)| format!(" · {name} {}", millis(*ms)));
    let waits: String = waits.collect();
    let _ = writeln!(out, "           machine {machine} · retries {retry}{waits} · waiting {waiting}");
    match (&figures.rpo, figures.rpo_target_ms) {
        (Some(loss), target) => {
            let judged =
                target.map(|target| format!(", objective {}: {}", chosen(target), verdict(loss.unwanted_ms > target)));
            let words = phrase::loss_words(loss);
            let _ = writeln!(out, "  RPO      {words}{} ({})", judged.unwrap_or_default(), phrase::loss_basis(loss));
            if let Some(words) = chosen_words(loss) {
                let _ = writeln!(out, "           {words}");
            }
        }
        (None, Some(target)) => {
            let _ = writeln!(out, "  RPO      not measured against {}", chosen(target));
        }
        (None, None) => {}
    }
}

fn left(target_ms: u64, used: Duration) -> String {
    match Duration::from_millis(target_ms).checked_sub(used) {
        Some(left) => format!("{} were left at the end", human_duration(left)),
        None => {
            format!("already {} over at the end", human_duration(used.saturating_sub(Duration::from_millis(target_ms))))
        }
    }
}

fn no_recovery(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Failed | Outcome::FailedUnknown | Outcome::Cancelled => "service is not proven to be back",
        Outcome::Succeeded | Outcome::SucceededWithExceptions | Outcome::ObjectiveMissed | Outcome::Inconclusive => {
            "a required step did not run"
        }
    }
}

fn phases(out: &mut String, plan: &BoundPlan, figures: &Figures, palette: Palette) {
    if figures.phases.is_empty() {
        return;
    }
    let name = |id: &str| {
        let known = plan.phases.iter().find(|phase| phase.id == id && !phase.name.is_empty());
        known.map_or_else(|| id.to_owned(), |phase| phase.name.clone())
    };
    let width = figures.phases.iter().map(|phase| name(&phase.phase).chars().count()).max().unwrap_or(0).max(5);
    let _ = writeln!(out, "\n  {:width$}  {:>9}  {:>7}", "phase", "took", "budget");
    for phase in &figures.phases {
        let over = phase.budget_ms.and_then(|budget| phase.elapsed_ms.checked_sub(budget)).filter(|over| *over > 0);
        let budget = phase.budget_ms.map_or_else(|| "–".to_owned(), chosen);
        let _ = write!(out, "  {:width$}  {:>9}  {budget:>7}", name(&phase.phase), millis(phase.elapsed_ms));
        match over {
            Some(over) => {
                let _ = writeln!(out, "  {}", palette.paint(Tone::Bad, &format!("{} over", millis(over))));
            }
            None => out.push('\n'),
        }
    }
}

fn path(out: &mut String, figures: &Figures) {
    let names: Vec<&str> = figures.critical_path.iter().map(crate::base::StepId::as_str).collect();
    if names.is_empty() {
        return;
    }
    let text = if names.len() > MAX_PATH {
        let (head, tail) = (&names[..MAX_PATH / 2], &names[names.len() - MAX_PATH / 2..]);
        format!("{} → … {} more … → {}", head.join(" → "), names.len() - MAX_PATH, tail.join(" → "))
    } else {
        names.join(" → ")
    };
    let _ = writeln!(out, "\n  decided by {text}");
}

fn exceptions(out: &mut String, state: &RunState, palette: Palette) {
    let remarks = told(state);
    if remarks.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{}", palette.paint(Tone::Warn, "exceptions"));
    for remark in remarks.iter().take(MAX_NOTES) {
        let _ = writeln!(out, "  `{}` {}", remark.step, remark.words());
    }
    more(out, remarks.len(), MAX_NOTES);
}

/// Says who answered what.
fn approvals(out: &mut String, entries: &[Entry<'_>]) {
    let answered = entries.iter().filter_map(|entry| Some((&entry.id, entry.known?)));
    let answers = answered.flat_map(|(id, known)| known.answers.iter().map(move |(_, answer)| (id, answer)));
    let lines: Vec<String> = answers.map(|(id, answer)| format!("`{id}` {}", phrase::answer(answer))).collect();
    if lines.is_empty() {
        return;
    }
    out.push_str("\nanswers\n");
    for line in lines.iter().take(MAX_NOTES) {
        let _ = writeln!(out, "  {line}");
    }
    more(out, lines.len(), MAX_NOTES);
}

fn more(out: &mut String, all: usize, shown: usize) {
    if all > shown {
        let _ = writeln!(out, "  and {} more in the report", all - shown);
    }
}

fn trouble(out: &mut String, (entries, state): (&[Entry<'_>], &RunState), places: &Places, palette: Palette) {
    let broken: Vec<(&Entry<'_>, &StepState, &str)> = entries.iter().filter_map(broken).collect();
    for (entry, known, word) in broken.iter().take(MAX_NOTES) {
        let head = format!("{word}: `{}` ({})", entry.id, entry.planned.uses);
        let _ = writeln!(out, "\n{}", palette.paint(Tone::Bad, &head));
        if let Some(error) = &known.error {
            for line in error_lines(error) {
                let _ = writeln!(out, "  {line}");
            }
            for line in error.output_tail.iter().rev().take(10).rev() {
                let _ = writeln!(out, "  | {}", one_line(line));
            }
        }
        if let (Some(dir), Some(attempt)) = (&places.run_dir, known.attempts.last()) {
            let log = dir.join("attempts").join(entry.id.folder()).join(attempt.number.to_string());
            let _ = writeln!(out, "  output: {}", log.display());
        }
    }
    more(out, broken.len(), MAX_NOTES);
    for waiting in state.suspended.iter().filter(|waiting| is_unjudged(state, waiting)) {
        let _ = writeln!(out, "\n{}", palette.paint(Tone::Warn, &format!("`{}` waits for a person", waiting.step)));
        let _ = writeln!(out, "  {}", one_line(&waiting.question));
    }
}

/// What went wrong with a step, in a few words. What ended in another run is told there.
fn broken<'a, 'b>(entry: &'a Entry<'b>) -> Option<(&'a Entry<'b>, &'b StepState, &'static str)> {
    let known = entry.known.filter(|known| known.seeded_from.is_none())?;
    let word = match known.status {
        StepStatus::Failed if entry.planned.on_failure == OnFailure::Continue => "failed, which is tolerated",
        StepStatus::Failed => "failed",
        StepStatus::Unknown => "outcome unknown",
        StepStatus::Held => "failed, waits for an operator",
        StepStatus::Pending
        | StepStatus::Resolved
        | StepStatus::Checked
        | StepStatus::Running
        | StepStatus::Waiting
        | StepStatus::Open
        | StepStatus::Asking
        | StepStatus::Succeeded
        | StepStatus::Skipped
        | StepStatus::Cancelled => return None,
    };
    Some((entry, known, word))
}

fn notes(out: &mut String, state: &RunState, entries: &[Entry<'_>]) {
    let noted = entries.iter().filter_map(|entry| Some((&entry.id, entry.known?)));
    let noted = noted.flat_map(|(id, known)| known.notes.iter().map(move |(_, text, _)| (id, text)));
    // What two steps found alike is told once.
    let mut told: Vec<(&str, String)> = Vec::new();
    for (id, text) in noted {
        match told.iter_mut().find(|(known, _)| *known == text.as_str()) {
            Some((_, ids)) if ids.contains(&format!("`{id}`")) => {}
            Some((_, ids)) => ids.push_str(&format!(", `{id}`")),
            None => told.push((text, format!("`{id}`"))),
        }
    }
    let told: Vec<String> = told.into_iter().map(|(text, ids)| format!("{ids}: {}", one_line(text))).collect();
    let left: Vec<String> =
        state.resources.iter().map(|(key, known)| format!("`{}`: `{key}` was not removed", known.step)).collect();
    if told.is_empty() && left.is_empty() {
        return;
    }
    out.push_str("\nworth knowing\n");
    for line in told.iter().take(MAX_NOTES).chain(&left) {
        let _ = writeln!(out, "  {line}");
    }
    more(out, told.len(), MAX_NOTES);
}

/// Says which steps were reversed, and which could not be.
fn undone(out: &mut String, plan: &BoundPlan, state: &RunState, palette: Palette) {
    let in_order = |wanted: UndoState| {
        let is = |(_, known): &(&StepId, &StepState)| known.undo == Some(wanted);
        let mut steps: Vec<_> = state.steps.iter().filter(is).map(|(id, _)| (ended(state, id), id)).collect();
        steps.sort_unstable();
        steps.into_iter().map(|(_, id)| id)
    };
    let (idle, done): (Vec<_>, Vec<_>) =
        in_order(UndoState::Undone).partition(|id| nothing_to_undo(state, id).is_some());
    let names = |ids: &mut dyn Iterator<Item = &StepId>| ids.map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
    let (done, failed) = (names(&mut done.into_iter()), names(&mut in_order(UndoState::UndoFailed)));
    let stopped = |known: &StepState| known.skipped == Some(SkipReason::UndoStopped);
    let left = state.steps.iter().filter(|(_, known)| stopped(known)).filter_map(|(id, _)| id.undone());
    let left: Vec<String> = left.map(|id| format!("`{id}`")).collect();
    if !done.is_empty() {
        let _ = writeln!(out, "\n  undone   {done}");
    }
    if !idle.is_empty() {
        out.push('\n');
    }
    for id in idle {
        let _ =
            writeln!(out, "  nothing to undo of `{id}`: {}", one_line(nothing_to_undo(state, id).unwrap_or_default()));
    }
    if !failed.is_empty() {
        let _ = writeln!(out, "\n{}", palette.paint(Tone::Bad, &format!("NOT UNDONE: {failed}")));
    }
    if !left.is_empty() {
        let _ = writeln!(out, "  left as they were after that: {}", left.join(", "));
    }
    if let Some(origin) = &plan.origin {
        let what = match origin.purpose {
            OriginPurpose::Undo => "undoes",
            OriginPurpose::Seed => "builds on",
            OriginPurpose::Reap => "cleans up after",
        };
        let why = if origin.reason.is_empty() { String::new() } else { format!(": {}", one_line(&origin.reason)) };
        let _ = writeln!(out, "\n  {what} run `{}`{why}", origin.run);
    }
}

/// Why the undo of a step that ended well changed nothing, where it says so.
fn nothing_to_undo<'a>(state: &'a RunState, of: &StepId) -> Option<&'a str> {
    let output = state.steps.get(&of.undo())?.output.as_ref()?;
    // A stop has always told what it found in its place.
    let found =
        || output.get("found").filter(|_| output.get("stopped").and_then(serde_json::Value::as_bool) == Some(false));
    output.get("nothing_to_do").or_else(found)?.as_str()
}

/// When the step that reverses one ended.
fn ended(state: &RunState, of: &StepId) -> EventSeq {
    state.steps.get(&of.undo()).map_or(EventSeq::default(), |undo| undo.ended_seq)
}

/// Says how far a run is that has not ended, and which locks it waits for.
fn standing(out: &mut String, state: &RunState, entries: &[Entry<'_>]) {
    let counts = totals(entries);
    let is_running = |entry: &&Entry<'_>| entry.is_leaf() && entry.state == NodeState::Running;
    let running: Vec<String> = entries.iter().filter(is_running).map(|entry| format!("`{}`", entry.id)).collect();
    let names = running.iter().take(MAX_PATH).cloned().collect::<Vec<_>>().join(", ");
    let more = running.len().saturating_sub(MAX_PATH);
    let (done, all) = (counts.done, counts.all);
    let _ = match (running.is_empty(), more) {
        (true, _) => writeln!(out, "  steps    {done} of {all} done"),
        (false, 0) => writeln!(out, "  steps    {done} of {all} done, started and not ended: {names}"),
        (false, more) => {
            writeln!(out, "  steps    {done} of {all} done, started and not ended: {names} and {more} more")
        }
    };
    for wait in state.awaited_locks() {
        let _ = writeln!(out, "  lock     {}", phrase::awaited(wait));
    }
}
