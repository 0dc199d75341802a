//! One step with everything that is known of it.

use maud::{Markup, html};

use super::figures::{name, plain};
use super::source::LogSource;
use super::value::{cut, is_empty, value};
use crate::base::Timestamp;
use crate::base::clock::between;
use crate::base::units::human_duration;
use crate::event::{ErrorInfo, Verdict};
use crate::plan::render::{NodeState, describe_target};
use crate::plan::{BoundPlan, PlannedStep};
use crate::report::phrase::{millis, node_state, offset, skip_reason, undo};
use crate::state::{AttemptState, RunState, StepState, StepStatus};

/// Renders a step, folded unless something went wrong.
pub(super) fn step(plan: &BoundPlan, state: &RunState, step: &PlannedStep, logs: &dyn LogSource) -> Markup {
    let known = state.steps.get(&step.id);
    let shown = node_state(known.map_or(StepStatus::Pending, |known| known.status));
    let open = matches!(shown, NodeState::Failed | NodeState::Unknown | NodeState::Cancelled);
    let took = known.and_then(|known| Some(between(known.started_at?, known.ended_at?)));
    html! {
        details.step.(shown.as_str()) id=(format!("step-{}", step.id)) open[open] {
            summary {
                span.glyph { (shown.glyph()) }
                span.id { (step.name) }
                code { (step.uses) }
                @if let Some(phase) = &step.phase { span.quiet { (name(plan, phase)) } }
                span.took { @if let Some(took) = took { (human_duration(took)) } @else { (shown.as_str()) } }
            }
            div.body {
                @if !step.description.is_empty() { p { (step.description) } }
                (facts(step, known))
                @if let Some(known) = known { (story(plan, state, (step, known), logs)) }
            }
        }
    }
}

fn facts(step: &PlannedStep, known: Option<&StepState>) -> Markup {
    let effect = match step.effects.class {
        crate::base::effect::EffectClass::None => "none",
        crate::base::effect::EffectClass::Read => "read",
        crate::base::effect::EffectClass::Write => "write",
        crate::base::effect::EffectClass::Destroy => "destroy",
    };
    let needs: Vec<&str> = step.needs.iter().map(|edge| edge.from.as_str()).collect();
    html! {
        dl.values {
            dt { "id" } dd { code { (step.id) } }
            dt { "effect" } dd { span.effect.(effect) { (effect) }
                @for (access, target) in &step.effects.targets {
                    " " span.target { (format!("{access:?}").to_lowercase()) " " (plain(&describe_target(target))) }
                }
            }
            @if !needs.is_empty() { dt { "after" } dd { (needs.join(", ")) } }
            @if let Some(when) = &step.when { dt { "when" } dd { code { (when) } } }
            @if let Some(why) = known.and_then(|known| known.skipped.as_ref()) { dt { "skipped" } dd { (plain(&skip_reason(why))) } }
            @if known.is_some_and(|known| known.marked_done) { dt { "done" } dd.warn { "marked done by a person" } }
            @if let Some(of) = known.and_then(|known| known.seeded_from.as_ref()) { dt { "taken from" } dd { "run " code { (of) } } }
            @if let Some(done) = known.and_then(|known| known.undo) { dt { "undo" } dd { (undo(done)) } }
            @if let Some(question) = known.and_then(|known| known.asks.as_ref()) { dt { "asks" } dd.warn { (plain(question)) } }
            dt { "fingerprint" } dd { code.quiet { (step.fingerprint.short()) } }
        }
    }
}

fn story(
    plan: &BoundPlan,
    state: &RunState,
    (step, known): (&PlannedStep, &StepState),
    logs: &dyn LogSource,
) -> Markup {
    let start = state.started_at.unwrap_or(plan.started_at);
    html! {
        @if let Some(with) = known.with.as_ref().filter(|with| !is_empty(with)) { h4 { "Arguments" } (value(with)) }
        @if !known.findings.is_empty() {
            h4 { "Check before the step" }
            ul.findings { @for finding in &known.findings {
                li.(verdict_class(finding.verdict)) {
                    (plain(&finding.message))
                    @if let Some(help) = &finding.help { div.help { (plain(help)) } }
                }
            } }
        }
        @if !known.attempts.is_empty() { h4 { "Attempts" } (attempts(start, known)) }
        @if let Some(error) = &known.error { h4 { "Error" } (error_box(error)) }
        @if let Some(output) = known.output.as_ref().filter(|output| !is_empty(output)) { h4 { "Outputs" } (value(output)) }
        @if !known.notes.is_empty() {
            h4 { "Notes" }
            ul.findings { @for (at, text, data) in &known.notes {
                li { span.quiet { (offset(start, *at)) " " } (plain(text)) @if !data.is_null() { (value(data)) } }
            } }
        }
        @for attempt in &known.attempts { (log(step, attempt, logs)) }
    }
}

fn verdict_class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "good",
        Verdict::Pending => "quiet",
        Verdict::Warn => "warn",
        Verdict::Refuse => "bad",
    }
}

fn attempts(start: Timestamp, known: &StepState) -> Markup {
    let last = known.attempts.len();
    html! {
        div.scroll { table {
            thead { tr { th.number { "no." } th { "started" } th.number { "took" } th { "result" } } }
            tbody { @for (index, attempt) in known.attempts.iter().enumerate() {
                tr {
                    td.number { (attempt.number) }
                    td { (offset(start, attempt.started_at)) " " span.quiet { (attempt.started_at.strftime("%H:%M:%SZ")) } }
                    td.number { @match attempt.elapsed_ms { Some(ms) => { (millis(ms)) }, None => { "–" } } }
                    td {
                        @match &attempt.error {
                            Some(error) => { span.bad { (plain(&error.message)) } @for cause in &error.causes { div.quiet { "caused by: " (plain(cause)) } } },
                            None if index + 1 == last => { (node_state(known.status).as_str()) },
                            None => { "interrupted" },
                        }
                        @if attempt.adopted { " " span.quiet { "(adopted by a later engine)" } }
                    }
                }
            } }
        } }
    }
}

fn error_box(error: &ErrorInfo) -> Markup {
    html! {
        div.error {
            p { b { (plain(&error.message)) } }
            @for cause in &error.causes { p { "caused by: " (plain(cause)) } }
            @if let Some(code) = error.exit_code { p { "exit code " code { (code) } } }
            @if let Some(help) = &error.help { p.help { (plain(help)) } }
            @if !error.output_tail.is_empty() { pre { (cut(&error.output_tail.join("\n"))) } }
        }
    }
}

fn log(step: &PlannedStep, attempt: &AttemptState, logs: &dyn LogSource) -> Markup {
    let Some(tail) = logs.tail(&step.id, attempt.number) else { return html! {} };
    html! {
        h4 { "Output of attempt " (attempt.number) }
        @if tail.omitted_bytes > 0 { p.quiet { (tail.omitted_bytes) " bytes before this are in the run's directory" } }
        pre.log { (cut(&tail.text)) }
    }
}
