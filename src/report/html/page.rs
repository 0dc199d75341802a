//! The page.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::{Map, Value};

use super::source::{AuditHead, LogSource};
use super::{evidence, figures, gantt, people, step, value};
use crate::base::mode::Mode;
use crate::base::{StepId, Timestamp};
use crate::plan::render::{GraphView, NodeState, svg};
use crate::plan::{BoundPlan, Section};
use crate::report::phrase::node_state;
use crate::report::roster::{Entry, roster};
use crate::state::RunState;

const STYLE: &str = include_str!("report.css");

/// Writes the report of a run that ended or stands.
///
/// The same plan, state, logs and audit head give the same bytes. Secrets show as `***name***`.
#[must_use]
pub fn render(plan: &BoundPlan, state: &RunState, logs: &dyn LogSource, audit: &AuditHead) -> String {
    let entries = roster(plan, state);
    let figures = state.finished.as_ref().map(|(_, _, figures)| figures);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (plan.name) " · " (plan.run) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                @if plan.mode == Mode::Drill { p.banner { "Drill in " (plan.environment) ": a rehearsal" } }
                @if plan.mode == Mode::DryRun { p.banner { "Dry run: nothing was changed" } }
                main {
                    (header(plan, state))
                    (figures::verdict(plan, state))
                    (figures::cards(plan, state, &entries))
                    (figures::remarks(state, &entries))
                    (people::people(plan, state, &entries))
                    section { h2 { "Timeline" } div.scroll.picture { (PreEscaped(gantt::gantt(plan, state, &entries))) }
                        (key()) }
                    @if let Some(figures) = figures { (figures::phases(plan, figures)) (critical_path(&figures.critical_path)) }
                    section { h2 { "Steps" }
                        (part((plan, state, &entries), Section::Body, logs))
                        (part((plan, state, &entries), Section::Undo, logs))
                        (part((plan, state, &entries), Section::Finally, logs))
                    }
                    section.graph { h2 { "Graph" } div.scroll.picture { (PreEscaped(svg(&graph(plan, state)))) } }
                    (inputs(plan))
                    (evidence::evidence(plan, state, audit))
                }
            }
        }
    };
    page.into_string()
}

/// What the colours of the timeline mean.
fn key() -> Markup {
    let colours = [
        ("machine", "an attempt that counted, outlined where it decided the duration"),
        ("retries", "failed attempts and the delays after them"),
        ("people", "waiting for a person"),
        ("locks", "waiting for a lock"),
        ("broken", "failed, or over budget"),
    ];
    html! { ul.legend.key { @for (class, words) in colours { li.(class) { (words) } } li { "a short upright line: the budget of a phase" } } }
}

/// The steps of one section, each group with its members inside.
fn part(
    (plan, state, entries): (&BoundPlan, &RunState, &[Entry<'_>]),
    section: Section,
    logs: &dyn LogSource,
) -> Markup {
    let title = match section {
        Section::Body => None,
        Section::Undo => Some("Undo"),
        Section::Finally => Some("Finally"),
    };
    let first = entries.iter().position(|entry| entry.planned.section == section);
    let count = entries.iter().filter(|entry| entry.planned.section == section).count();
    let Some(members) = first.and_then(|first| entries.get(first..first + count)) else { return html! {} };
    html! {
        @if let Some(title) = title { h3 { (title) } }
        (step::steps((plan, state), members, logs))
    }
}

fn graph(plan: &BoundPlan, state: &RunState) -> GraphView {
    GraphView::of_plan(plan)
        .with_states(|id| state.steps.get(id).map_or(NodeState::Pending, |known| node_state(known.status)))
}

fn header(plan: &BoundPlan, state: &RunState) -> Markup {
    let mode = match plan.mode {
        Mode::Real => "real run",
        Mode::Drill => "drill",
        Mode::DryRun => "dry run",
    };
    let ended = state.finished.is_some().then_some(state.last_at).flatten();
    html! {
        header {
            h1 { (plan.name) }
            @if !plan.description.is_empty() { p.description { (plan.description) } }
            p.badges {
                span.badge.(plan.mode.as_str()) { (mode) }
                span.badge { (plan.environment) }
                @if plan.protected { span.badge.protected { "protected" } }
            }
            dl.values.head {
                dt { "run" } dd { code { (plan.run) } }
                dt { "started" } dd { (time(state.started_at.unwrap_or(plan.started_at))) " by " (plan.actor.name)
                    @if !plan.actor.from.is_empty() { " from " (plan.actor.from) } }
                @if let Some(at) = plan.incident_at { dt { "incident" } dd { (time(at)) } }
                dt { "ended" } dd { @match ended { Some(at) => { (time(at)) }, None => { "not yet" } } }
                @if !plan.owner.is_empty() { dt { "owner" } dd { (plan.owner) } }
                @if !plan.controls.is_empty() { dt { "evidence for" } dd { (plan.controls.join(", ")) } }
            }
        }
    }
}

pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn critical_path(path: &[StepId]) -> Markup {
    if path.is_empty() {
        return html! {};
    }
    html! {
        p.path { span.quiet { "The duration was decided by " }
            @for (index, id) in path.iter().enumerate() {
                @if index > 0 { span.quiet { " → " } }
                a href=(format!("#step-{id}")) { (id) }
            }
        }
    }
}

fn inputs(plan: &BoundPlan) -> Markup {
    let object = |values: &std::collections::BTreeMap<String, Value>| {
        Value::Object(values.iter().map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>())
    };
    html! {
        section {
            h2 { "Inputs" }
            @if !plan.params.is_empty() { h4 { "Parameters" } (value::value(&object(&plan.params))) }
            @if !plan.vars.is_empty() { h4 { "Variables" } (value::value(&object(&plan.vars))) }
            h4 { "Sources" }
            @for source in &plan.sources {
                details.source {
                    summary { code { (source.name) } " " span.quiet.digest { "sha256 " (source.digest) } }
                    pre { (value::cut(&source.text)) }
                }
            }
        }
    }
}
