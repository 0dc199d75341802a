//! The report as Markdown, for a ticket: short, and told in the order of the questions that are asked there.

mod table;

use std::fmt::Write as _;

use table::{Table, quoted, word};

use super::phrase::{self, chosen, counted, error_lines, loss_words, millis, offset, verb};
use super::remark::told;
use super::roster::{Entry, roster, totals};
use super::summary::Places;
use super::{next::commands, outcome_sentence};
use crate::base::StepId;
use crate::base::clock::between;
use crate::base::units::human_duration;
use crate::event::{Figures, HumanVerdict};
use crate::plan::BoundPlan;
use crate::plan::render::NodeState;
use crate::state::{RunState, StepState, StepStatus};

/// Rows of the timeline; of more steps, those that matter least are left out.
const MAX_ROWS: usize = 60;
/// Lines of output below an error.
const TAIL: usize = 10;

/// Writes the report of a run that ended or stands.
#[must_use]
pub fn render(plan: &BoundPlan, state: &RunState) -> String {
    let entries = roster(plan, state);
    let mut out = String::new();
    head(&mut out, plan, state, &entries);
    verdicts(&mut out, plan, state);
    exceptions(&mut out, state);
    problems(&mut out, &entries);
    people(&mut out, plan, state, &entries);
    timeline(&mut out, plan, state, &entries);
    notes(&mut out, state, &entries);
    let _ = writeln!(out, "\n## Next\n\n```console");
    for (_, command) in commands(plan, state, &Places::default()) {
        let _ = writeln!(out, "{command}");
    }
    out.push_str("```\n");
    out
}

fn head(out: &mut String, plan: &BoundPlan, state: &RunState, entries: &[Entry<'_>]) {
    let _ = writeln!(out, "# {}: {}\n", word(&plan.name), status(state));
    let _ = writeln!(out, "**{}**\n", outcome_sentence(plan, state));
    let counts = totals(entries);
    let start = state.started_at.unwrap_or(plan.started_at);
    let stamp = |at: crate::base::Timestamp| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let mut facts = vec![
        ("Run", format!("`{}`, {}", plan.run, word(&phrase::mode(plan).replace('`', "")))),
        ("Started", format!("{} by {}", stamp(start), word(&plan.actor.name))),
    ];
    facts.extend(plan.incident_at.map(|at| ("Incident", stamp(at))));
    facts.extend(state.finished.as_ref().and(state.last_at).map(|at| ("Ended", stamp(at))));
    facts.push(("Steps", counts.words()));
    facts.extend((!plan.owner.is_empty()).then(|| ("Owner", word(&plan.owner))));
    facts.extend((!plan.controls.is_empty()).then(|| ("Evidence for", word(&plan.controls.join(", ")))));
    facts.extend(
        plan.origin.as_ref().map(|origin| ("Builds on", format!("run `{}` {}", origin.run, word(&origin.reason)))),
    );
    facts.extend(state.last_hash.map(|hash| ("Journal", format!("{}, last hash `{hash}`", counted_events(state)))));
    for (name, fact) in facts {
        let _ = writeln!(out, "- {name}: {}", fact.trim_end());
    }
}

fn counted_events(state: &RunState) -> String {
    counted(usize::try_from(state.last_seq.0).unwrap_or(usize::MAX), "event")
}

fn status(state: &RunState) -> &'static str {
    match &state.finished {
        Some((outcome, _, _)) => phrase::outcome_name(*outcome),
        None if !state.suspended.is_empty() => "waits for a person",
        None => "not ended",
    }
}

fn verdicts(out: &mut String, plan: &BoundPlan, state: &RunState) {
    let Some((_, _, figures)) = &state.finished else { return };
    out.push_str("\n## Verdicts\n\n");
    let mut table = Table::new(&["", "measured", "objective", "verdict"]);
    let judged = |met: Option<bool>| match met {
        Some(true) => "met",
        Some(false) => "**MISSED**",
        None => "–",
    };
    let target = |ms: Option<u64>| ms.map_or_else(|| "none".to_owned(), chosen);
    let met = |measured: Option<u64>, target: Option<u64>| measured.zip(target).map(|(is, most)| is <= most);
    let rto = figures.rto_ms.map_or_else(|| "not measured".to_owned(), millis);
    table.row(&["RTO", &rto, &target(figures.rto_target_ms), judged(met(figures.rto_ms, figures.rto_target_ms))]);
    let lost = figures.rpo.as_ref().map(|loss| loss.unwanted_ms);
    let rpo = figures.rpo.as_ref().map_or_else(|| "not measured".to_owned(), loss_words);
    table.row(&["RPO", &rpo, &target(figures.rpo_target_ms), judged(met(lost, figures.rpo_target_ms))]);
    for phase in &figures.phases {
        let known = plan.phases.iter().find(|known| known.id == phase.phase && !known.name.is_empty());
        let name = word(known.map_or(phase.phase.as_str(), |known| known.name.as_str()));
        let within = phase.budget_ms.map(|budget| phase.elapsed_ms <= budget);
        let verdict = within.map_or("–", |within| if within { "within" } else { "**over**" });
        table.row(&[&name, &millis(phase.elapsed_ms), &target(phase.budget_ms), verdict]);
    }
    out.push_str(&table.finish());
    let _ = writeln!(out, "\nWhere the time went: {}.", split(figures));
}

fn split(figures: &Figures) -> String {
    let parts = [
        ("machine", figures.machine_ms),
        ("retries", figures.retry_ms),
        ("locks", figures.lock_ms),
        ("people", figures.human_ms),
        ("waiting", figures.waiting_ms),
    ];
    let told = parts.iter().filter(|(_, ms)| *ms > 0).map(|(name, ms)| format!("{name} {}", millis(*ms)));
    told.collect::<Vec<_>>().join(", ")
}

fn exceptions(out: &mut String, state: &RunState) {
    let remarks = told(state);
    if remarks.is_empty() {
        return;
    }
    out.push_str("\n## Exceptions\n\n");
    for remark in remarks {
        let _ = writeln!(out, "- `{}` {}", remark.step, word(&remark.words()));
    }
}

fn problems(out: &mut String, entries: &[Entry<'_>]) {
    let broke = |entry: &&Entry<'_>| {
        let status = entry.known.filter(|known| known.seeded_from.is_none()).map(|known| known.status);
        matches!(status, Some(StepStatus::Failed | StepStatus::Unknown | StepStatus::Held))
    };
    let mut broken = entries.iter().filter(broke).peekable();
    if broken.peek().is_none() {
        return;
    }
    out.push_str("\n## Steps with problems\n");
    for (entry, known) in broken.filter_map(|entry| Some((entry, entry.known?))) {
        let _ = writeln!(out, "\n### {} `{}` ({})\n", entry.state.glyph(), entry.id, entry.planned.uses);
        let Some(error) = &known.error else { continue };
        for line in error_lines(error) {
            let _ = writeln!(out, "- {}", word(&line));
        }
        if !error.output_tail.is_empty() {
            let skipped = error.output_tail.len().saturating_sub(TAIL);
            out.push_str(&quoted(&error.output_tail[skipped..].join("\n")));
        }
    }
}

/// Approvals and what operators did.
fn people(out: &mut String, plan: &BoundPlan, state: &RunState, entries: &[Entry<'_>]) {
    let start = state.started_at.unwrap_or(plan.started_at);
    let mut rows = Vec::new();
    for (id, known) in entries.iter().filter_map(|entry| Some((&*entry.id, entry.known?))) {
        rows.extend(answers(id, known));
    }
    for act in &state.acts.operators {
        let step = act.step.as_ref().map(|step| format!("`{step}`")).unwrap_or_default();
        let refused = act.refused.as_ref().map(|why| format!("refused: {why}"));
        let why = refused.unwrap_or_else(|| act.reason.clone());
        rows.push((act.at, [act.actor.name.clone(), verb(&act.verb).to_owned(), step, why]));
    }
    if rows.is_empty() {
        return;
    }
    rows.sort_by_key(|(at, _)| *at);
    out.push_str("\n## Approvals and operators\n\n");
    let mut table = Table::new(&["when", "who", "what", "step", "why"]);
    for (at, [who, what, step, why]) in rows {
        table.row(&[&offset(start, at), &word(&who), &what, &step, &word(&why)]);
    }
    out.push_str(&table.finish());
}

type Act = (crate::base::Timestamp, [String; 4]);

fn answers(id: &StepId, known: &StepState) -> Vec<Act> {
    let told = known.answers.iter().map(|(at, answer)| {
        let what = match (answer.verdict, &answer.break_glass) {
            (_, Some(_)) => "**broke the glass**",
            (HumanVerdict::Yes, None) => "answered yes",
            (HumanVerdict::No, None) => "answered no",
        };
        let why = answer.break_glass.iter().chain(Some(&answer.comment).filter(|said| !said.is_empty()));
        let why = why.cloned().collect::<Vec<_>>().join("; ");
        (*at, [answer.by.name.clone(), what.to_owned(), format!("`{id}`"), why])
    });
    told.collect()
}

fn timeline(out: &mut String, plan: &BoundPlan, state: &RunState, entries: &[Entry<'_>]) {
    let start = state.started_at.unwrap_or(plan.started_at);
    out.push_str("\n## Timeline\n\n");
    let mut table = Table::new(&["", "step", "started", "took", "result"]);
    let shown = shown(entries);
    for entry in &shown {
        let begun = entry.known.and_then(|known| known.started_at);
        let took = entry.known.and_then(|known| Some(between(known.started_at?, known.ended_at?)));
        let name = format!("{}`{}`", "· ".repeat(entry.depth), entry.id);
        table.row(&[
            entry.state.glyph(),
            &name,
            &begun.map(|at| offset(start, at)).unwrap_or_default(),
            &took.map(human_duration).unwrap_or_default(),
            &word(&result(entry)),
        ]);
    }
    out.push_str(&table.finish());
    if shown.len() < entries.len() {
        let _ = writeln!(out, "\n{} of {} steps: those that went wrong and the first.", shown.len(), entries.len());
    }
}

fn shown<'a, 'b>(entries: &'a [Entry<'b>]) -> Vec<&'a Entry<'b>> {
    let rank = |entry: &Entry<'_>| match entry.state {
        NodeState::Failed | NodeState::Unknown | NodeState::Cancelled | NodeState::Asking => 0,
        NodeState::Running => 1,
        NodeState::Pending | NodeState::Succeeded | NodeState::Skipped => 2 + usize::from(entry.key.is_some()),
    };
    let mut ranked: Vec<(usize, usize)> = entries.iter().enumerate().map(|(at, entry)| (rank(entry), at)).collect();
    ranked.sort_unstable();
    ranked.truncate(MAX_ROWS);
    ranked.sort_unstable_by_key(|(_, at)| *at);
    ranked.into_iter().map(|(_, at)| &entries[at]).collect()
}

fn result(entry: &Entry<'_>) -> String {
    let Some(known) = entry.known else { return "never started".to_owned() };
    let mut told = vec![entry.state.as_str().to_owned()];
    told.extend(entry.is_group().then(|| entry.members.words()));
    told.extend(known.skipped.as_ref().map(phrase::skip_reason));
    told.extend(known.marked_done.then(|| "marked done by a person".to_owned()));
    told.extend(known.seeded_from.as_ref().map(|run| format!("taken from run {run}")));
    told.extend(known.undo.map(|undo| phrase::undo(undo).to_owned()));
    told.extend((known.attempts.len() > 1).then(|| counted(known.attempts.len(), "attempt")));
    told.join(", ")
}

fn notes(out: &mut String, state: &RunState, entries: &[Entry<'_>]) {
    let noted = entries.iter().filter_map(|entry| Some((&entry.id, entry.known?)));
    let noted = noted.flat_map(|(id, known)| known.notes.iter().map(move |(_, text, _)| (id, text)));
    let mut lines: Vec<String> = noted.map(|(id, text)| format!("`{id}`: {}", word(text))).collect();
    lines.extend(state.resources.iter().map(|(key, known)| format!("`{}` left `{}` behind", known.step, word(key))));
    if lines.is_empty() {
        return;
    }
    out.push_str("\n## Worth knowing\n\n");
    for line in lines.iter().take(MAX_ROWS) {
        let _ = writeln!(out, "- {line}");
    }
    if lines.len() > MAX_ROWS {
        let _ = writeln!(out, "- and {} more", lines.len() - MAX_ROWS);
    }
}
