//! What a bundle tells in words of its own: documents derived from plan and journal alone.
//!
//! Whoever verifies derives them again, so that they cannot say anything that the journal does not.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::base::Digest;
use crate::event::{Event, EventKind};
use crate::plan::BoundPlan;
use crate::state::RunState;

/// What is derived.
pub(super) const NAMES: [&str; 5] =
    ["verdicts.json", "people.json", "artifacts.json", "versions.json", "controls.json"];

/// Derives every document, by name.
pub(super) fn derive(plan: &BoundPlan, events: &[Event], state: &RunState) -> BTreeMap<&'static str, Value> {
    let controls = json!({ "owner": plan.owner, "controls": plan.controls, "description": plan.description });
    let documents = [verdicts(plan, state), people(plan, events), artifacts(events), versions(plan, events), controls];
    NAMES.into_iter().zip(documents).collect()
}

/// How it ended, and what was measured against which objective.
fn verdicts(plan: &BoundPlan, state: &RunState) -> Value {
    let Some((outcome, exit_code, figures)) = &state.finished else {
        return json!({ "finished": false, "objectives": plan.objectives });
    };
    let within = |measured: Option<u64>, target: Option<u64>| Some(measured? <= target?);
    json!({
        "finished": true,
        "outcome": outcome,
        "exit_code": exit_code,
        "mode": plan.mode,
        "environment": plan.environment,
        "incident_at": plan.incident_at,
        "objectives": plan.objectives,
        "rto_met": within(figures.rto_ms, figures.rto_target_ms),
        "rpo_met": within(figures.rpo.as_ref().map(|loss| loss.unwanted_ms), figures.rpo_target_ms),
        "figures": figures,
    })
}

/// Who was asked, who answered what from where, and what operators did.
fn people(plan: &BoundPlan, events: &[Event]) -> Value {
    let acts: Vec<Value> = events
        .iter()
        .filter(|event| is_human(&event.kind))
        .map(|event| json!({ "seq": event.seq, "at": event.at, "event": event.kind, "hash": event.hash }))
        .collect();
    let exceptions = events.iter().find_map(|event| match &event.kind {
        EventKind::RunFinished { figures, .. } => Some(json!(figures.exceptions)),
        _ => None,
    });
    json!({ "started_by": plan.actor, "acts": acts, "exceptions": exceptions.unwrap_or_else(|| json!([])) })
}

fn is_human(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::StepAsked { .. }
            | EventKind::StepAnswered { .. }
            | EventKind::StepExpired { .. }
            | EventKind::StepHeld { .. }
            | EventKind::StepReleased { .. }
            | EventKind::OperatorActed { .. }
            | EventKind::OperatorRefused { .. }
            | EventKind::PlanAmended { .. }
            | EventKind::CancelRequested { .. }
            | EventKind::RunResumed { .. }
    )
}

/// Every digest that a step's outputs or notes name, and where.
fn artifacts(events: &[Event]) -> Value {
    let digests = |_: &str, value: &Value| {
        let words = value.as_str().unwrap_or_default().split_whitespace();
        words.filter(|word| word.parse::<Digest>().is_ok()).map(|word| json!(word)).collect()
    };
    found(events, &digests)
}

/// The program that ran, and every version that a step's outputs or notes name.
fn versions(plan: &BoundPlan, events: &[Event]) -> Value {
    let programs: Vec<Value> = events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::RunStarted(header) => {
                Some(json!({ "seq": event.seq, "runbook": header.version, "host": header.host }))
            }
            EventKind::RunResumed { version, .. } => Some(json!({ "seq": event.seq, "runbook": version })),
            _ => None,
        })
        .collect();
    let named = |path: &str, value: &Value| {
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_version = name.contains("version") && (value.is_string() || value.is_number());
        if is_version { vec![value.clone()] } else { Vec::new() }
    };
    let steps: BTreeMap<&str, Value> = plan
        .steps
        .iter()
        .map(|step| (step.id.as_str(), json!({ "uses": step.uses, "fingerprint": step.fingerprint })))
        .collect();
    let bundled_by = env!("CARGO_PKG_VERSION");
    json!({ "bundled_by": bundled_by, "programs": programs, "tools": found(events, &named), "steps": steps })
}

fn found(events: &[Event], wanted: &dyn Fn(&str, &Value) -> Vec<Value>) -> Value {
    let mut list = Vec::new();
    for event in events {
        let (step, value) = match &event.kind {
            EventKind::StepSucceeded { step, output, .. } => (step, output),
            EventKind::StepNoted { step, data, .. } => (step, data),
            _ => continue,
        };
        walk("", value, &mut |path, value| {
            for value in wanted(path, value) {
                list.push(json!({ "seq": event.seq, "step": step, "at": path, "value": value }));
            }
        });
    }
    Value::Array(list)
}

fn walk(path: &str, value: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, value);
    match value {
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                walk(&format!("{path}/{at}"), item, visit);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                walk(&format!("{path}/{key}"), member, visit);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
