//! What the templates of one step can see: bound values always, late values of the steps it names.

use serde_json::{Map, Value, json};

use super::recover::unknown_outputs;
use super::{PlanIndex, Timing};
use crate::action::Registry;
use crate::base::clock::between;
use crate::base::units::human_duration;
use crate::base::{StepId, Timestamp};
use crate::event::OriginPurpose;
use crate::language::template::{Scope, TextKind, is_template, references};
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
        let mut texts: Vec<&str> = step.when.iter().map(String::as_str).collect();
        strings(&step.with, &mut texts);
        step.preconditions.iter().for_each(|precondition| strings(precondition, &mut texts));
        step.for_each.iter().for_each(|fan_out| strings(&fan_out.items, &mut texts));
        let named = if timing == Timing::Due { self.named(step, &texts) } else { Map::new() };
        let scope = self.common(step.group.as_ref(), named).with("run", &self.run(step, timing));
        match (&step.item, self.item_key(step)) {
            (Some(item), Some(key)) => scope.with("item", item).with("item_key", &json!(key)),
            (Some(_) | None, _) => scope,
        }
    }

    /// The scope in which the outputs of a sub-runbook are evaluated: that of its own steps.
    pub(super) fn closing(&self, group: &PlannedStep, templates: &Value) -> Scope {
        let mut texts = Vec::new();
        strings(templates, &mut texts);
        let inside = PlannedStep { group: Some(group.id.clone()), ..group.clone() };
        let named = self.named(&inside, &texts);
        self.common(inside.group.as_ref(), named).with("run", &self.run(group, Timing::Due))
    }

    /// What every step of a file sees: `group` is the step that stands for that file, when it is not the run's own.
    fn common(&self, group: Option<&StepId>, named: Map<String, Value>) -> Scope {
        let plan = self.index.plan();
        let sub = group.and_then(|group| plan.groups.get(group));
        let (params, vars) = sub.map_or((&plan.params, &plan.vars), |sub| (&sub.params, &sub.vars));
        Scope::new()
            .with("params", &json!(params))
            .with("vars", &json!(vars))
            .with("env_vars", &json!(plan.env_vars))
            .with("objectives", &json!(plan.objectives))
            .with("steps", &Value::Object(named))
            .with_secrets(plan.inventory.secrets.keys().cloned())
    }

    /// The key of an instance, and that of the instance which a step reverses.
    fn item_key(&self, step: &PlannedStep) -> Option<&str> {
        let (fan_out, number) = self.index.instance(self.index.position(&step.id)?)?;
        let instances = &self.state.steps.get(&self.index.step(fan_out).id)?.instances;
        instances.get(number).map(|instance| instance.key.as_str())
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
            Some(_) | None => self.nothing(step),
        };
        outputs.insert("status".to_owned(), json!(status));
        Value::Object(outputs)
    }

    /// The outputs of a step that gave none: their names, each null.
    pub(super) fn nothing(&self, step: &PlannedStep) -> Map<String, Value> {
        if let Some(sub) = self.index.plan().groups.get(&step.id) {
            return sub.outputs.keys().map(|name| (name.clone(), Value::Null)).collect();
        }
        let unknown = self.registry.get(&step.uses).map(|action| unknown_outputs(step, &**action));
        let mut outputs = unknown.and_then(|outputs| outputs.as_object().cloned()).unwrap_or_default();
        if step.for_each.is_some() {
            outputs.insert("keys".to_owned(), Value::Null);
        }
        outputs
    }

    /// What the steps gave whose names stand in the texts of a step, by the names they have in its file.
    fn named(&self, step: &PlannedStep, texts: &[&str]) -> Map<String, Value> {
        let mut named = Map::new();
        for text in texts {
            for after in text.match_indices("steps.").map(|(at, found)| &text[at + found.len()..]) {
                let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
                let name = &after[..end];
                if let Some(at) = self.called(step, name).filter(|_| !named.contains_key(name)) {
                    named.insert(name.to_owned(), self.outputs(at));
                }
            }
        }
        named
    }

    /// The step that a name means to another one: one of the same file; to what reverses an instance, that instance.
    pub(super) fn called(&self, by: &PlannedStep, name: &str) -> Option<usize> {
        let id = match &by.group {
            Some(group) => group.child(name),
            None => name.parse().ok()?,
        };
        let reversed = by.id.undone().filter(|of| of.of_instance().as_ref() == Some(&id));
        self.index.position(reversed.as_ref().unwrap_or(&id))
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

/// Whether a template reads what is different for each instance of a fan-out.
pub(super) fn reads_item(text: &str) -> bool {
    let read = references(text, TextKind::Template).unwrap_or_default();
    read.iter().any(|name| name.path.first().is_some_and(|first| first == "item" || first == "item_key"))
}

/// Whether an expression names something that is known only during the run.
pub(super) fn names_late(text: &str) -> bool {
    ["steps.", "run.outcome", "run.elapsed"].iter().any(|name| text.contains(name))
}
