//! What the templates of one step can see: bound values always, late values of the steps it names.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::recover::unknown_outputs;
use super::{PlanIndex, Timing};
use crate::action::Registry;
use crate::base::Timestamp;
use crate::base::clock::between;
use crate::base::units::human_duration;
use crate::event::OriginPurpose;
use crate::language::template::{Scope, is_template};
use crate::plan::{PlannedStep, Section};
use crate::state::{RunState, StepStatus, objectives};

/// Where values come from.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) index: &'a PlanIndex,
    pub(super) state: &'a RunState,
    pub(super) registry: &'a Registry,
    pub(super) now: Timestamp,
}

impl Values<'_> {
    /// The scope of a step. Ahead of the run it holds no late value.
    pub(super) fn scope(&self, step: &PlannedStep, timing: Timing) -> Scope {
        let plan = self.index.plan();
        let mut named = Map::new();
        if timing == Timing::Due {
            for at in self.named(step) {
                named.insert(self.index.step(at).id.to_string(), self.outputs(at));
            }
        }
        Scope::new()
            .with("params", &json!(plan.params))
            .with("vars", &json!(plan.vars))
            .with("env_vars", &json!(plan.env_vars))
            .with("objectives", &json!(plan.objectives))
            .with("run", &self.run(step, timing))
            .with("steps", &Value::Object(named))
            .with_secrets(plan.inventory.secrets.keys().cloned())
    }

    /// What is known of the run. To what undoes an earlier run, that one is the run: its names and paths are meant.
    fn run(&self, step: &PlannedStep, timing: Timing) -> Value {
        let plan = self.index.plan();
        let undone = plan.origin.as_ref().filter(|origin| origin.purpose == OriginPurpose::Undo);
        let mut run = json!({
            "id": undone.map_or(&plan.run, |origin| &origin.run),
            "name": plan.name,
            "mode": plan.mode,
            "environment": plan.environment,
            "started_at": undone.and_then(|origin| origin.started_at).unwrap_or(plan.started_at),
            "scratch": plan.scratch,
            "actor": plan.actor.name,
        });
        if timing == Timing::Due {
            let started_at = self.state.started_at.unwrap_or(plan.started_at);
            run["elapsed"] = json!(human_duration(between(started_at, self.now)));
            if step.section == Section::Finally {
                run["outcome"] = json!(objectives::outcome(plan, self.state).0);
            }
        }
        run
    }

    /// Outputs and status of a step; what it did not give is null.
    fn outputs(&self, at: usize) -> Value {
        let step = self.index.step(at);
        let state = self.state.steps.get(&step.id);
        let status = state.map_or(StepStatus::Pending, |state| state.status);
        let given = state.and_then(|state| state.output.clone());
        let mut outputs = match given {
            Some(Value::Object(members)) => members,
            Some(_) | None => match self.registry.get(&step.uses).map(|action| unknown_outputs(step, &**action)) {
                Some(Value::Object(members)) => members,
                Some(_) | None => Map::new(),
            },
        };
        outputs.insert("status".to_owned(), json!(status));
        Value::Object(outputs)
    }

    /// The steps whose names stand in the texts of a step.
    fn named(&self, step: &PlannedStep) -> BTreeSet<usize> {
        let mut names = BTreeSet::new();
        let mut texts: Vec<&str> = step.when.iter().map(String::as_str).collect();
        strings(&step.with, &mut texts);
        step.preconditions.iter().for_each(|precondition| strings(precondition, &mut texts));
        for text in texts {
            for (_, after) in text.match_indices("steps.").map(|(at, found)| (at, &text[at + found.len()..])) {
                let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
                names.extend(after[..end].parse().ok().and_then(|id| self.index.position(&id)));
            }
        }
        names
    }
}

fn strings<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, texts)),
        Value::Object(members) => members.values().for_each(|member| strings(member, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether a template waits for something that is known only during the run.
pub(super) fn is_late(text: &str) -> bool {
    is_template(text) && names_late(text)
}

/// Whether an expression names something that is known only during the run.
pub(super) fn names_late(text: &str) -> bool {
    ["steps.", "run.outcome", "run.elapsed"].iter().any(|name| text.contains(name))
}
