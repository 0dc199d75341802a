//! One step with everything that is known of it.

use maud::{Markup, html};

use super::figures::{name, plain};
use super::page::time;
use super::source::LogSource;
use super::value::{cut, is_empty, value};
use crate::base::clock::between;
use crate::base::units::human_duration;
use crate::base::{StepId, Timestamp};
use crate::event::{ErrorInfo, Question, Verdict};
use crate::plan::BoundPlan;
use crate::plan::render::{NodeState, describe_target};
use crate::report::phrase::{answer, millis, node_state, offset, skip_reason, undo};
use crate::report::roster::Entry;
use crate::state::{AttemptState, RunState, StepState, UndoState};

/// A group of more members than this shows those that went well as a table.
const MANY_MEMBERS: usize = 50;

/// Renders a stretch of the list, the members of each group inside it.
pub(super) fn steps(of: (&BoundPlan, &RunState), entries: &[Entry<'_>], logs: &dyn LogSource) -> Markup {
    let Some(depth) = entries.first().map(|entry| entry.depth) else { return html! {} };
    let heads: Vec<usize> = (0..entries.len()).filter(|at| entries[*at].depth <= depth).collect();
    let ends = heads.iter().skip(1).copied().chain([entries.len()]);
    html! { @for (head, end) in heads.iter().copied().zip(ends) { (step(of, (&entries[head], &entries[head + 1..end]), logs)) } }
}

/// Renders a step, folded unless something went wrong.
fn step(
    (plan, state): (&BoundPlan, &RunState),
    (entry, inside): (&Entry<'_>, &[Entry<'_>]),
    logs: &dyn LogSource,
) -> Markup {
    let (known, shown) = (entry.known, entry.state);
    let open = matches!(shown, NodeState::Failed | NodeState::Unknown | NodeState::Cancelled | NodeState::Asking);
    let took = known.and_then(|known| Some(between(known.started_at?, known.ended_at?)));
    let took = took.filter(|_| known.is_some_and(|known| known.skipped.is_none() && known.seeded_from.is_none()));
    html! {
        details.step.(shown.as_str()) id=(format!("step-{}", entry.id)) open[open] {
            summary {
                span.glyph title=(shown.as_str()) { (shown.glyph()) }
                span.id { @match entry.key { Some(key) => { (key) }, None => { (entry.planned.name) } } }
                @if entry.key.is_none() { code { (entry.planned.uses) } }
                @if let Some(phase) = entry.planned.phase.as_ref().filter(|_| entry.depth == 0) { span.quiet { (name(plan, phase)) } }
                @if entry.is_group() { span.quiet { (entry.members.words()) } }
                @if known.is_some_and(|known| known.seeded_from.is_some()) { span.quiet { "from an earlier run" } }
                @if let Some(undo) = known.and_then(|known| known.undo) { span.warn { (undo_word(undo)) } }
                span.took { @if let Some(took) = took { (human_duration(took)) } @else { (shown.as_str()) } }
            }
            div.body {
                @if entry.key.is_none() && !entry.planned.description.is_empty() { p { (entry.planned.description) } }
                (facts(entry, known))
                @if let Some(known) = known { (story(plan, state, (entry, known), logs)) }
                @if !inside.is_empty() { h4 { "Members" } (members((plan, state), inside, logs)) }
            }
        }
    }
}

fn undo_word(undo: UndoState) -> &'static str {
    match undo {
        UndoState::Undone => "undone",
        UndoState::UndoFailed => "NOT UNDONE",
    }
}

fn members(of: (&BoundPlan, &RunState), inside: &[Entry<'_>], logs: &dyn LogSource) -> Markup {
    if inside.len() <= MANY_MEMBERS {
        return steps(of, inside, logs);
    }
    // A row tells all that there is to say of an instance that went well.
    let is_plain = |entry: &Entry<'_>| {
        entry.key.is_some() && matches!(entry.state, NodeState::Succeeded | NodeState::Pending | NodeState::Skipped)
    };
    let start = of.1.started_at.unwrap_or(of.0.started_at);
    html! {
        @for stretch in inside.chunk_by(|one, next| !(is_plain(one) || is_plain(next))).filter(|stretch| !is_plain(&stretch[0])) { (steps(of, stretch, logs)) }
        div.scroll { table.members {
            thead { tr { th { "" } th { "member" } th.number { "started" } th.number { "took" } th.number { "attempts" } } }
            tbody { @for entry in inside.iter().filter(|entry| is_plain(entry)) { (row(entry, start)) } }
        } }
    }
}

fn row(entry: &Entry<'_>, start: Timestamp) -> Markup {
    let known = entry.known;
    let took = known.and_then(|known| Some(between(known.started_at?, known.ended_at?)));
    html! {
        tr id=(format!("step-{}", entry.id)) {
            td title=(entry.state.as_str()) { (entry.state.glyph()) }
            td { (entry.key.unwrap_or_default()) }
            td.number { @if let Some(at) = known.and_then(|known| known.started_at) { (offset(start, at)) } }
            td.number { @if let Some(took) = took { (human_duration(took)) } }
            td.number { @if let Some(known) = known { (known.attempts.len()) } }
        }
    }
}

fn facts(entry: &Entry<'_>, known: Option<&StepState>) -> Markup {
    let step = entry.planned;
    let effect = match step.effects.class {
        crate::base::effect::EffectClass::None => "none",
        crate::base::effect::EffectClass::Read => "read",
        crate::base::effect::EffectClass::Write => "write",
        crate::base::effect::EffectClass::Destroy => "destroy",
    };
    let needs: Vec<&str> = step.needs.iter().map(|edge| edge.from.as_str()).collect();
    html! {
        dl.values {
            dt { "id" } dd { code { (entry.id) } }
            dt { "effect" } dd { span.effect.(effect) { (effect) }
                @for (access, target) in &step.effects.targets {
                    " " span.target { (format!("{access:?}").to_lowercase()) " " (plain(&describe_target(target))) }
                }
            }
            @if !needs.is_empty() && entry.key.is_none() { dt { "after" } dd { (needs.join(", ")) } }
            @if let Some(when) = &step.when { dt { "when" } dd { code { (when) } } }
            @if let Some(why) = known.and_then(|known| known.skipped.as_ref()) { dt { "skipped" } dd { (plain(&skip_reason(why))) } }
            @if known.is_some_and(|known| known.marked_done) { dt { "done" } dd.warn { "marked done by a person" } }
            @if let Some(of) = known.and_then(|known| known.seeded_from.as_ref()) { dt { "taken from" } dd { "run " code { (of) } } }
            @if let Some(done) = known.and_then(|known| known.undo) { dt { "undo" } dd { (undo(done)) } }
            @if let Some(question) = known.and_then(|known| known.asks.as_ref()) { dt { "asks" } dd.warn { (plain(question)) } }
            @if let Some(ms) = known.map(|known| known.lock_ms).filter(|ms| *ms > 0) { dt { "waited for locks" } dd { (millis(ms)) } }
            dt { "fingerprint" } dd { code.quiet { (step.fingerprint.short()) } }
        }
    }
}

fn story(plan: &BoundPlan, state: &RunState, (entry, known): (&Entry<'_>, &StepState), logs: &dyn LogSource) -> Markup {
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
        @if let Some(question) = &known.question { h4 { "Question" } (asked(question, known)) }
        @if !known.attempts.is_empty() { h4 { "Attempts" } (attempts(start, known)) }
        @if let Some(error) = &known.error { h4 { "Error" } (error_box(error)) }
        @if let Some(output) = known.output.as_ref().filter(|output| !is_empty(output)) { h4 { "Outputs" } (value(output)) }
        @if !known.notes.is_empty() {
            h4 { "Notes" }
            ul.findings { @for (at, text, data) in &known.notes {
                li { span.quiet { (offset(start, *at)) " " } (plain(text)) @if !data.is_null() { (value(data)) } }
            } }
        }
        @for attempt in &known.attempts { (log(&entry.id, attempt, logs)) }
    }
}

/// What was asked, of whom, and what came of it.
fn asked(question: &Question, known: &StepState) -> Markup {
    html! {
        blockquote { (plain(&question.prompt)) }
        @if !question.checklist.is_empty() { ul.findings { @for point in &question.checklist { li { (plain(point)) } } } }
        dl.values {
            @if !question.approvers.is_empty() { dt { "who may answer" } dd { (question.approvers.join(", ")) } }
            @if question.quorum > 1 { dt { "wanted" } dd { (question.quorum) " different people" } }
            @if let Some(at) = known.asked_at { dt { "asked" } dd { (time(at)) } }
            @if let Some(until) = question.until { dt { "until" } dd { (time(until)) @if known.expired { " " span.warn { "nobody answered in time" } } } }
            @for (at, given) in &known.answers { dt { "answer" } dd { (time(*at)) " " (plain(&answer(given))) } }
            dt { "question" } dd { code.digest { (question.digest()) } }
        }
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

fn log(step: &StepId, attempt: &AttemptState, logs: &dyn LogSource) -> Markup {
    let Some(tail) = logs.tail(step, attempt.number) else { return html! {} };
    html! {
        h4 { "Output of attempt " (attempt.number) }
        @if tail.omitted_bytes > 0 { p.quiet { (tail.omitted_bytes) " bytes before this are in the run's directory" } }
        pre.log { (cut(&tail.text)) }
    }
}
