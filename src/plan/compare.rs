//! What differs between two bound plans: their texts, what was given, their steps.
//!
//! Pure. What is different by nature (the run's id, its start, its scratch folder, who started it) is not told.
//! A member that a later version adds to plan or step is compared without a line here: both are compared as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::model::{BoundPlan, PlannedStep};
use super::unified::unified;
use crate::base::StepId;

/// Members of a plan that belong to one run, or are compared on their own.
const OWN: &[&str] = &["format", "run", "actor", "started_at", "scratch", "steps", "sources", "origin"];

/// Everything that differs.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Comparison {
    /// Texts, by name.
    pub files: Vec<FileChange>,
    /// What was given and what follows from it: parameters, variables, inventory.
    pub inputs: Vec<ValueChange>,
    /// Steps, in the order of the new plan, those that are gone last.
    pub steps: Vec<StepChange>,
}

/// What became of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only in the second.
    New,
    /// Only in the first.
    Gone,
    /// In both, and different.
    Changed,
}

/// A text that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub change: Change,
    /// The unified difference.
    pub diff: String,
}

/// A value that differs; absent is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ValueChange {
    /// Its dotted path, for example `params.database`.
    pub path: String,
    /// In the first.
    pub old: Value,
    /// In the second.
    pub new: Value,
}

/// A step that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepChange {
    /// The step.
    pub id: StepId,
    /// What became of it.
    pub change: Change,
    /// Its members that differ; empty for a step that is new or gone.
    pub parts: Vec<ValueChange>,
}

impl Comparison {
    /// Tells whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.inputs.is_empty() && self.steps.is_empty()
    }
}

/// Compares two plans.
#[must_use]
pub fn compare(old: &BoundPlan, new: &BoundPlan) -> Comparison {
    let mut inputs = Vec::new();
    let (old_value, new_value) = (inputs_of(old), inputs_of(new));
    leaves("", &old_value, &new_value, &mut inputs);
    Comparison { files: files(old, new), inputs, steps: steps(old, new) }
}

fn files(old: &BoundPlan, new: &BoundPlan) -> Vec<FileChange> {
    let texts = |plan: &BoundPlan| -> BTreeMap<String, String> {
        plan.sources.iter().map(|source| (source.name.clone(), source.text.clone())).collect()
    };
    let (old, new) = (texts(old), texts(new));
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let changed = names.into_iter().filter(|name| old.get(*name) != new.get(*name)).map(|name| {
        let text = |texts: &BTreeMap<String, String>| texts.get(name).cloned().unwrap_or_default();
        let change = match (old.get(name), new.get(name)) {
            (None, _) => Change::New,
            (Some(_), None) => Change::Gone,
            (Some(_), Some(_)) => Change::Changed,
        };
        FileChange { name: name.clone(), change, diff: unified(&text(&old), &text(&new)) }
    });
    changed.collect()
}

fn inputs_of(plan: &BoundPlan) -> Value {
    let mut value = serde_json::to_value(plan).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        members.retain(|name, _| !OWN.contains(&name.as_str()));
    }
    without_identity(value, plan)
}

fn steps(old: &BoundPlan, new: &BoundPlan) -> Vec<StepChange> {
    let mut changes = Vec::new();
    for step in &new.steps {
        let Some(before) = old.step(&step.id) else {
            changes.push(StepChange { id: step.id.clone(), change: Change::New, parts: Vec::new() });
            continue;
        };
        let parts = parts((old, before), (new, step));
        if !parts.is_empty() {
            changes.push(StepChange { id: step.id.clone(), change: Change::Changed, parts });
        }
    }
    let gone = old.steps.iter().filter(|step| new.step(&step.id).is_none());
    changes.extend(gone.map(|step| StepChange { id: step.id.clone(), change: Change::Gone, parts: Vec::new() }));
    changes
}

/// A fingerprint holds values of the run itself, so it says something only of plans of one run.
fn parts(old: (&BoundPlan, &PlannedStep), new: (&BoundPlan, &PlannedStep)) -> Vec<ValueChange> {
    let value = |(plan, step): (&BoundPlan, &PlannedStep)| {
        let mut value = serde_json::to_value(step).unwrap_or_default();
        if let Some(members) = value.as_object_mut().filter(|_| old.0.run != new.0.run) {
            members.remove("fingerprint");
        }
        without_identity(value, plan)
    };
    let mut parts = Vec::new();
    leaves("", &value(old), &value(new), &mut parts);
    if parts.len() > 1 {
        parts.retain(|part| part.path != "fingerprint");
    }
    parts
}

/// Puts a name in the place of what only this run has.
fn without_identity(value: Value, plan: &BoundPlan) -> Value {
    let scratch = plan.scratch.to_string_lossy().into_owned();
    let started_at = plan.started_at.to_string();
    let names = [
        (scratch.as_str(), "{{ run.scratch }}"),
        (plan.run.as_str(), "{{ run.id }}"),
        (&started_at, "{{ run.started_at }}"),
    ];
    replaced(value, &names)
}

fn replaced(value: Value, names: &[(&str, &str)]) -> Value {
    match value {
        Value::String(text) => {
            let known = names.iter().filter(|(text, _)| !text.is_empty());
            Value::String(known.fold(text, |text, (of, name)| text.replace(of, name)))
        }
        Value::Array(items) => items.into_iter().map(|item| replaced(item, names)).collect(),
        Value::Object(members) => members.into_iter().map(|(key, member)| (key, replaced(member, names))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// Finds the smallest values that differ. An empty list and an empty mapping are values.
pub fn leaves(path: &str, old: &Value, new: &Value, into: &mut Vec<ValueChange>) {
    if old == new {
        return;
    }
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.iter().filter(|(name, _)| !new.contains_key(*name));
            for (name, member) in new {
                leaves(&below(name), old.get(name).unwrap_or(&Value::Null), member, into);
            }
            for (name, member) in gone {
                leaves(&below(name), member, &Value::Null, into);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (at, (old, new)) in old.iter().zip(new).enumerate() {
                leaves(&below(&at.to_string()), old, new, into);
            }
        }
        (_, _) => into.push(ValueChange { path: path.to_owned(), old: old.clone(), new: new.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Change, compare};
    use crate::base::Digest;
    use crate::plan::fixture::{plan, step};
    use crate::plan::{BoundPlan, PlanSource};

    fn source(name: &str, text: &str) -> PlanSource {
        PlanSource { name: name.to_owned(), digest: Digest::of(text.as_bytes()), text: text.to_owned() }
    }

    fn two() -> (BoundPlan, BoundPlan) {
        let one = plan(vec![step("a", "exec"), step("b", "exec").follows("a")]);
        (one.clone(), one)
    }

    #[test]
    fn a_plan_does_not_differ_from_itself_nor_from_the_same_plan_of_another_run() {
        let (old, mut new) = two();
        assert!(compare(&old, &new).is_empty());
        new.run = "20270128-143002-3fa9c1".parse().expect("a run id");
        new.scratch = format!("/scratch/{}", new.run).into();
        new.vars.insert("place".to_owned(), json!(new.scratch));
        let mut old = old;
        old.scratch = format!("/scratch/{}", old.run).into();
        old.vars.insert("place".to_owned(), json!(old.scratch));
        new.steps[0].fingerprint = Digest::of(b"with the run's id in it");
        assert_eq!(compare(&old, &new), super::Comparison::default());
    }

    #[test]
    fn each_difference_is_named_by_its_place() {
        let (old, mut new) = two();
        new.params.insert("n".to_owned(), json!(2));
        new.steps[0].timeout_ms = Some(5);
        new.steps.pop();
        new.steps.push(plan(vec![step("c", "exec")]).steps.remove(0));
        new.sources.push(source("more.yaml", "a: 1\n"));
        let told = compare(&old, &new);
        assert_eq!(told.inputs[0].path, "params.n");
        let steps: Vec<_> = told.steps.iter().map(|step| (step.id.as_str(), step.change)).collect();
        assert_eq!(steps, [("a", Change::Changed), ("c", Change::New), ("b", Change::Gone)]);
        assert_eq!((&told.steps[0].parts[0].path[..], &told.steps[0].parts[0].old), ("timeout_ms", &Value::Null));
        assert_eq!((&told.files[0].name[..], told.files[0].change), ("more.yaml", Change::New));
    }

    #[test]
    fn of_one_run_a_fingerprint_alone_is_a_difference() {
        let (old, mut new) = two();
        new.steps[1].fingerprint = Digest::of(b"another version of the action");
        let told = compare(&old, &new);
        assert_eq!((told.steps.len(), &told.steps[0].parts[0].path[..]), (1, "fingerprint"));
    }
}
