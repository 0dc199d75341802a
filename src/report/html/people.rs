//! Who decided what: answers and acts of operators, as a table to be signed off.

use maud::{Markup, html};

use super::figures::plain;
use super::page::time;
use crate::base::Timestamp;
use crate::event::{Actor, HumanAnswer, HumanVerdict};
use crate::plan::BoundPlan;
use crate::report::phrase::verb;
use crate::report::roster::Entry;
use crate::state::{OperatorAct, RunState};

/// One row, and when.
type Row = (Timestamp, Markup);

/// The table, where people did something.
pub(super) fn people(plan: &BoundPlan, state: &RunState, entries: &[Entry<'_>]) -> Markup {
    let mut rows: Vec<Row> = vec![(state.started_at.unwrap_or(plan.started_at), started(plan, state))];
    for (entry, known) in entries.iter().filter_map(|entry| Some((entry, entry.known?))) {
        rows.extend(known.answers.iter().map(|(at, answer)| (*at, answered(entry, (*at, answer)))));
    }
    rows.extend(state.acts.operators.iter().map(|act| (act.at, acted(act))));
    if rows.len() < 2 {
        return html! {};
    }
    rows.sort_by_key(|(at, _)| *at);
    html! {
        section {
            h2 { "Approvals and operators" }
            div.scroll { table.people {
                thead { tr { th { "when" } th { "who" } th { "did what" } th { "why, in their words" } th { "what was seen" } } }
                tbody { @for (_, row) in &rows { (row) } }
            } }
            p.quiet.seen { "“What was seen” is the SHA-256 of the question as it was shown to whoever answered; each row is a line of the journal, whose lines are chained by their hashes." }
        }
    }
}

fn who(actor: &Actor) -> Markup {
    html! { b { (plain(&actor.name)) } @if !actor.from.is_empty() { div.quiet { (plain(&actor.from)) } } }
}

fn started(plan: &BoundPlan, state: &RunState) -> Markup {
    html! { tr { td.when { (time(state.started_at.unwrap_or(plan.started_at))) } td { (who(&plan.actor)) } td { "started the run" } td {} td {} } }
}

fn answered(entry: &Entry<'_>, (at, answer): (Timestamp, &HumanAnswer)) -> Markup {
    let (class, verdict) = match answer.verdict {
        HumanVerdict::Yes => ("good", "yes"),
        HumanVerdict::No => ("bad", "no"),
    };
    html! {
        tr {
            td.when { (time(at)) }
            td { (who(&answer.by)) }
            td { "answered " b.(class) { (verdict) } " to " a href=(format!("#step-{}", entry.id)) { code { (entry.id) } }
                @if answer.break_glass.is_some() { div.bad { b { "broke the glass" } } } }
            td {
                @if let Some(reason) = &answer.break_glass { div { (plain(reason)) } }
                (plain(&answer.comment))
                @for (name, value) in &answer.inputs { div { (name) " = " code { (crate::report::mask_text(&value.to_string())) } } }
            }
            td { code.digest title=(answer.seen) { (answer.seen.short()) } }
        }
    }
}

fn acted(act: &OperatorAct) -> Markup {
    html! {
        tr {
            td.when { (time(act.at)) }
            td { (who(&act.actor)) }
            td { code { (verb(&act.verb)) } @if let Some(step) = &act.step { " " a href=(format!("#step-{step}")) { code { (step) } } }
                @if act.refused.is_some() { div.warn { "refused" } } }
            td { (plain(&act.reason)) @if let Some(why) = &act.refused { span.quiet { (plain(why)) } } }
            td {}
        }
    }
}
