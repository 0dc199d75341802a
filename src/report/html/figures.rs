//! Verdict, figures, phases, exceptions.

use maud::{Markup, html};

use crate::base::StepId;
use crate::event::{ErrorInfo, Figures, Outcome};
use crate::language::runbook::OnFailure;
use crate::plan::BoundPlan;
use crate::report::outcome_sentence;
use crate::report::phrase::{self, chosen, chosen_words, counted, loss_basis, loss_words, millis};
use crate::report::remark::told;
use crate::report::roster::{Entry, totals};
use crate::state::{RunState, StepState, StepStatus};

/// More notes than this stand only at their steps.
const MAX_NOTES: usize = 50;

/// The answer to the first question.
pub(super) fn verdict(plan: &BoundPlan, state: &RunState) -> Markup {
    let class = match state.finished.as_ref().map(|(outcome, _, _)| *outcome) {
        Some(Outcome::Succeeded) => "good",
        Some(Outcome::SucceededWithExceptions | Outcome::Cancelled | Outcome::Inconclusive) | None => "warn",
        Some(Outcome::Failed | Outcome::FailedUnknown | Outcome::ObjectiveMissed) => "bad",
    };
    let misses: Vec<String> = state
        .finished
        .iter()
        .flat_map(|(_, _, figures)| phrase::rto_miss(figures).into_iter().chain(phrase::rpo_miss(figures)))
        .collect();
    html! {
        section.verdict.(class) {
            @for miss in &misses { p.miss { (plain(miss)) } }
            p.sentence { (plain(&outcome_sentence(plan, state))) }
            @for (step, error) in causes(plan, state) {
                p { (code(step)) ": " (plain(&error.message)) @if let Some(cause) = error.causes.last() { ": " (plain(cause)) } }
                @if let Some(help) = &error.help { p.quiet { (plain(help)) } }
            }
            @if let Some((_, code, _)) = &state.finished { p.quiet { "exit code " (code) } }
        }
    }
}

/// What the steps died of that failed or are unknown where that counts.
fn causes<'a>(plan: &'a BoundPlan, state: &'a RunState) -> impl Iterator<Item = (&'a StepId, &'a ErrorInfo)> {
    let broke = |known: &&StepState| matches!(known.status, StepStatus::Failed | StepStatus::Unknown);
    let steps = plan.steps.iter().filter(|step| step.on_failure != OnFailure::Continue);
    steps.filter_map(move |step| Some((&step.id, state.steps.get(&step.id).filter(broke)?.error.as_ref()?))).take(5)
}

/// The measured figures as cards.
pub(super) fn cards(plan: &BoundPlan, state: &RunState, entries: &[Entry<'_>]) -> Markup {
    let Some((_, _, figures)) = &state.finished else { return html! {} };
    let counts = totals(entries);
    html! {
        section.cards {
            (rto(plan, figures))
            (rpo(figures))
            div.card {
                h3 { "Run" }
                p.figure { (millis(figures.run_ms)) }
                p.quiet { (counts.done) " of " (counts.all) " steps succeeded" }
                @if state.resumes > 0 { p.quiet { "taken over " (counted(state.resumes as usize, "time")) " by a new engine" } }
            }
            div.card {
                h3 { "Where the time went" }
                (share(figures))
            }
        }
    }
}

fn rto(plan: &BoundPlan, figures: &Figures) -> Markup {
    let missed = figures.rto_ms.zip(figures.rto_target_ms).map(|(measured, target)| measured > target);
    let class = match missed {
        Some(true) => "bad",
        Some(false) => "good",
        None => "",
    };
    html! {
        div.card.(class) {
            h3 { "Recovery time (RTO)" }
            p.figure { @match figures.rto_ms { Some(ms) => { (millis(ms)) }, None => { "not measured" } } }
            p.quiet {
                @match (missed, figures.rto_target_ms) {
                    (Some(true), Some(target)) => { "MISSED: the objective is " (chosen(target)) },
                    (Some(false), Some(target)) => { "met: the objective is " (chosen(target)) },
                    (None, Some(target)) if plan.incident_at.is_none() => {
                        "the runbook names no incident; the objective is " (chosen(target))
                    },
                    (None, Some(target)) => { "service is not proven to be back; the objective is " (chosen(target)) },
                    (_, None) => { "no objective" },
                }
            }
        }
    }
}

fn rpo(figures: &Figures) -> Markup {
    let missed = figures.rpo.as_ref().zip(figures.rpo_target_ms).map(|(loss, target)| loss.unwanted_ms > target);
    let class = match missed {
        Some(true) => "bad",
        Some(false) => "good",
        None => "",
    };
    html! {
        div.card.(class) {
            h3 { "Data loss (RPO)" }
            p.figure { @match &figures.rpo { Some(loss) => { (loss_words(loss)) }, None => { "not measured" } } }
            p.quiet {
                @match (missed, figures.rpo_target_ms) {
                    (Some(true), Some(target)) => { "MISSED: the objective is " (chosen(target)) },
                    (Some(false), Some(target)) => { "met: the objective is " (chosen(target)) },
                    (None, Some(target)) => { "the objective is " (chosen(target)) },
                    (_, None) => { "no objective" },
                }
            }
            @if let Some(loss) = &figures.rpo {
                p.quiet { (plain(&loss_basis(loss))) }
                @if let Some(words) = chosen_words(loss) { p.quiet { (words) } }
            }
        }
    }
}

/// A bar of machine, retry and waiting time, and of what was waited for where there was such.
#[expect(clippy::cast_precision_loss, reason = "widths of a bar")]
fn share(figures: &Figures) -> Markup {
    let mut parts = vec![("machine", figures.machine_ms), ("retries", figures.retry_ms)];
    parts.extend([("locks", figures.lock_ms), ("people", figures.human_ms)].into_iter().filter(|(_, ms)| *ms > 0));
    parts.push(("waiting", figures.waiting_ms));
    let total: u64 = parts.iter().map(|(_, ms)| ms).sum();
    html! {
        div.share {
            @for (name, ms) in &parts {
                @if *ms > 0 { span.(name) style=(format!("width:{:.2}%", *ms as f64 * 100.0 / total as f64)) {} }
            }
        }
        ul.legend { @for (name, ms) in &parts { li.(name) { (name) " " b { (millis(*ms)) } } } }
    }
}

/// Phases against their budgets.
pub(super) fn phases(plan: &BoundPlan, figures: &Figures) -> Markup {
    if figures.phases.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "Phases" }
            div.scroll { table {
                thead { tr { th { "phase" } th.number { "took" } th.number { "budget" } th { "" } } }
                tbody {
                    @for figure in &figures.phases {
                        @let over = figure.budget_ms.and_then(|budget| figure.elapsed_ms.checked_sub(budget)).filter(|ms| *ms > 0);
                        tr {
                            td { (name(plan, &figure.phase)) }
                            td.number { (millis(figure.elapsed_ms)) }
                            td.number { @match figure.budget_ms { Some(ms) => { (chosen(ms)) }, None => { "–" } } }
                            td { @if let Some(ms) = over { span.bad { (millis(ms)) " over" } } @else if figure.budget_ms.is_some() { span.good { "within" } } }
                        }
                    }
                }
            } }
        }
    }
}

/// What people call a phase.
pub(super) fn name<'a>(plan: &'a BoundPlan, id: &'a str) -> &'a str {
    let known = plan.phases.iter().find(|phase| phase.id == id && !phase.name.is_empty());
    known.map_or(id, |phase| phase.name.as_str())
}

/// What made a success one with exceptions, facts worth keeping, and what was left behind.
pub(super) fn remarks(state: &RunState, entries: &[Entry<'_>]) -> Markup {
    let exceptions = told(state);
    let noted = entries.iter().filter_map(|entry| Some((&*entry.id, entry.known?)));
    let notes: Vec<_> = noted.flat_map(|(id, known)| known.notes.iter().map(move |note| (id, note))).collect();
    let awaited: Vec<_> = state.awaited_locks().collect();
    let left: Vec<_> = state.resources.iter().collect();
    let none = exceptions.is_empty() && notes.is_empty() && left.is_empty() && awaited.is_empty();
    if none && state.suspended.is_empty() && state.paused.is_none() {
        return html! {};
    }
    html! {
        @if !exceptions.is_empty() {
            section { h2 { "Exceptions" } ul.remarks.exceptions { @for remark in &exceptions { li { (code(&remark.step)) " " (plain(&remark.words())) } } } }
        }
        @if !(notes.is_empty() && left.is_empty() && awaited.is_empty() && state.suspended.is_empty() && state.paused.is_none()) { section {
            h2 { "Worth knowing" }
            ul.remarks {
                @if let Some((actor, reason)) = &state.paused { li.warn { "paused by " (plain(&actor.name)) @if !reason.is_empty() { ": " (plain(reason)) } } }
                @for waiting in &state.suspended { li.warn { (code(&waiting.step)) " waits for a person: " (plain(&waiting.question)) } }
                @for wait in &awaited { li.warn { (plain(&phrase::awaited(wait))) } }
                @for (resource, known) in &left { li.warn { (code(&known.step)) " created " code { (resource) } ", which was not removed" } }
                @for (step, (_, text, _)) in notes.iter().take(MAX_NOTES) { li { (code(step)) " " (plain(text)) } }
                @if notes.len() > MAX_NOTES { li.quiet { "and " (notes.len() - MAX_NOTES) " more, at their steps" } }
            }
        } }
    }
}

fn code(step: &StepId) -> Markup {
    html! { a href=(format!("#step-{step}")) { code { (step) } } }
}

/// Renders a message: what stands in backticks becomes code.
pub(super) fn plain(text: &str) -> Markup {
    let text = crate::report::mask_text(text);
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}
