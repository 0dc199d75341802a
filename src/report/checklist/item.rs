//! One step of a checklist.

use serde_json::Value;

use super::Material;
use super::model::Item;
use crate::action::by_hand::{placeholder, without_secrets};
use crate::action::{Access, PlanContext, pending};
use crate::base::units::{Span, human_duration};
use crate::language::runbook::OnFailure;
use crate::plan::render::describe_target;
use crate::plan::{PlannedStep, Section, StepKind, Strictness};

/// Makes the item of the step that stands at `at` in the plan.
pub(super) fn item(at: usize, number: usize, material: &Material<'_>) -> Item {
    let step = &material.plan.steps[at];
    let with = material.arguments[at].as_ref().map_or_else(|_| step.with.clone(), Clone::clone);
    let undone = |other: &&PlannedStep| other.section == Section::Undo && other.id.undone().as_ref() == Some(&step.id);
    let undo = material.plan.steps.iter().position(|other| undone(&other));
    let mut late = Vec::new();
    expressions(&with, &mut late);
    Item {
        number,
        id: step.id.clone(),
        name: step.name.clone(),
        purpose: purpose(step, material),
        kind: step.kind,
        uses: step.uses.clone(),
        host: step.host.clone(),
        effect: step.effects.class,
        targets: targets(step),
        after: after(at, material),
        when: step.when.clone(),
        preconditions: step.preconditions.iter().map(precondition).collect(),
        arguments: without_secrets(&with),
        late,
        secrets: step.secrets.clone(),
        locks: step.locks.clone(),
        by_hand: by_hand(step, &with, material),
        undo: undo.map(|at| undo_lines(at, material)).unwrap_or_default(),
        expected: material.expected(&step.id),
        rules: rules(step),
    }
}

fn undo_lines(at: usize, material: &Material<'_>) -> Vec<String> {
    let step = &material.plan.steps[at];
    let with = material.arguments[at].as_ref().map_or_else(|_| step.with.clone(), Clone::clone);
    by_hand(step, &with, material)
}

fn purpose(step: &PlannedStep, material: &Material<'_>) -> String {
    if !step.description.is_empty() {
        return step.description.clone();
    }
    material.registry.get(&step.uses).map(|action| action.spec().summary.to_owned()).unwrap_or_default()
}

fn by_hand(step: &PlannedStep, with: &Value, material: &Material<'_>) -> Vec<String> {
    match step.kind {
        StepKind::Approval | StepKind::Manual => return human_lines(&without_secrets(with)),
        StepKind::Runbook => return Vec::new(),
        StepKind::Action => {}
    }
    let context = PlanContext {
        inventory: &material.plan.inventory,
        mode: material.plan.mode,
        scratch: &material.plan.scratch,
        host: &step.host,
    };
    material.registry.get(&step.uses).map(|action| action.by_hand(with, &context)).unwrap_or_default()
}

/// What a person is asked or told, in the order people read it; whatever else there is comes after.
fn human_lines(with: &Value) -> Vec<String> {
    const FIRST: [&str; 3] = ["prompt", "instruction", "checklist"];
    let members = with.as_object();
    let mut lines = Vec::new();
    for name in FIRST {
        match members.and_then(|members| members.get(name)) {
            Some(Value::Array(items)) => lines.extend(items.iter().map(|item| format!("☐ {}", plain(item)))),
            Some(other) => lines.push(plain(other)),
            None => {}
        }
    }
    let others = members.into_iter().flatten().filter(|(name, _)| !FIRST.contains(&name.as_str()));
    lines.extend(others.map(|(name, member)| format!("{}: {}", name.replace('_', " "), plain(member))));
    lines
}

fn plain(value: &Value) -> String {
    match (pending(value), value) {
        (Some(expression), _) => placeholder(expression),
        (None, Value::String(text)) => text.clone(),
        (None, Value::Array(items)) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        (None, Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => value.to_string(),
    }
}

fn expressions(value: &Value, into: &mut Vec<String>) {
    if let Some(expression) = pending(value) {
        let text = expression.trim().trim_start_matches("{{").trim_end_matches("}}").trim().to_owned();
        if !into.contains(&text) {
            into.push(text);
        }
        return;
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| expressions(item, into)),
        Value::Object(members) => members.values().for_each(|member| expressions(member, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn targets(step: &PlannedStep) -> Vec<String> {
    let verb = |access: &Access| match access {
        Access::Read => "reads",
        Access::Write => "writes",
        Access::Destroy => "replaces",
    };
    step.effects
        .targets
        .iter()
        .map(|(access, target)| format!("{} {}", verb(access), describe_target(target)))
        .collect()
}

/// Says when a step begins, unless it follows the one above.
fn after(at: usize, material: &Material<'_>) -> String {
    let step = &material.plan.steps[at];
    let above =
        at.checked_sub(1).map(|above| &material.plan.steps[above]).filter(|above| above.section == step.section);
    match (step.needs.as_slice(), above) {
        ([], None) => String::new(),
        ([], Some(_)) => "at once, beside the steps above".to_owned(),
        ([one], Some(above)) if one.from == above.id => String::new(),
        (needs, _) => {
            let one = |need: &crate::plan::Edge| match need.strictness {
                Strictness::Any => format!("`{}` (whatever its end)", need.from),
                Strictness::Settled | Strictness::Success => format!("`{}`", need.from),
            };
            format!("after {}", needs.iter().map(one).collect::<Vec<_>>().join(" and "))
        }
    }
}

fn precondition(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => {
            let uses = other.get("uses").and_then(Value::as_str).unwrap_or_default();
            format!("{uses} {}", other.get("with").map(Value::to_string).unwrap_or_default()).trim_end().to_owned()
        }
    }
}

fn rules(step: &PlannedStep) -> Vec<String> {
    let span = |ms: u64| human_duration(std::time::Duration::from_millis(ms));
    let mut rules = Vec::new();
    rules.extend(step.timeout_ms.map(|ms| format!("each attempt ends after {}", span(ms))));
    rules.extend(step.retry.as_ref().map(|retry| {
        let Span(delay) = retry.delay;
        format!("up to {} attempts, {} apart at first", retry.max_attempts, human_duration(delay))
    }));
    match step.on_failure {
        OnFailure::Abort => {}
        OnFailure::Continue => rules.push("when it fails, go on".to_owned()),
        OnFailure::Pause => rules.push("when it fails, stop here and decide".to_owned()),
    }
    if let Some(each) = &step.for_each {
        rules.push(format!("once for each of {}", plain(&each.items)));
    }
    rules
}
