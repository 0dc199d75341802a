//! What makes the page evidence: where it came from, and how to check that.

use maud::{Markup, html};

use super::figures::plain;
use super::page::time;
use super::source::AuditHead;
use crate::plan::BoundPlan;
use crate::report::phrase::millis;
use crate::state::RunState;

/// The end of the chain, versions, controls, engines, plans and locks.
pub(super) fn evidence(plan: &BoundPlan, state: &RunState, audit: &AuditHead) -> Markup {
    html! {
        section.audit {
            h2 { "Evidence" }
            p { "Every line of this run's journal holds the hash of the line before it; the first holds the digest of the plan. "
                "The journal is what this page was made of. To check that nothing was changed since:" }
            pre { "runbook audit verify " (plan.run) }
            dl.values {
                dt { "events" } dd { (audit.events) }
                dt { "last hash" } dd { @match &audit.last_hash { Some(hash) => { code.digest { (hash) } }, None => { span.quiet { "none" } } } }
                @if let Some(digest) = &audit.plan { dt { "plan" } dd { code.digest { (digest) } } }
                @if let Some(header) = &state.header {
                    dt { "engine" } dd { "runbook " (header.version) " on " (header.host) ", process " (header.pid) }
                }
                @for (at, actor) in &state.acts.takeovers { dt { "taken over" } dd { (time(*at)) " by " (actor.name) } }
                @for amended in &state.acts.amendments {
                    dt { "amended plan" } dd { (time(amended.at)) " by " (amended.actor.name) ": " code.digest { (amended.plan) }
                        @if !amended.changed.is_empty() { " changes " (amended.changed.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", ")) } }
                }
                @if !plan.controls.is_empty() { dt { "controls" } dd { (plan.controls.join(", ")) } }
                @if let Some(origin) = &plan.origin { dt { "earlier run" } dd { code { (origin.run) } @if !origin.reason.is_empty() { ": " (plain(&origin.reason)) } } }
            }
            (locks(plan, state))
        }
    }
}

fn locks(plan: &BoundPlan, state: &RunState) -> Markup {
    let taken = &state.acts.locks;
    html! {
        @if taken.is_empty() && !plan.locks.is_empty() { dl.values { dt { "locks" } dd { (plan.locks.join(", ")) } } }
        @if !taken.is_empty() {
            h3 { "Locks" }
            div.scroll { table {
                thead { tr { th { "lock" } th { "held by" } th { "taken" } th.number { "waited" } th { "" } } }
                tbody { @for take in taken { tr {
                    td { code { (take.lock) } }
                    td { @match &take.step { Some(step) => { code { (step) } }, None => { "the run" } } }
                    td { (time(take.at)) }
                    td.number { (millis(take.waited_ms)) }
                    td { @match (&take.preempted, &take.over) {
                        (Some(run), _) => { span.warn { "run " code { (run) } " was told to make room" } },
                        (None, Some(run)) => { "taken over from run " code { (run) } ", whose engine was dead" },
                        (None, None) => {},
                    } }
                } } }
            } }
        }
    }
}
