//! A run that changes nothing: steps that only read are made, all others give samples of their outputs.
//!
//! [`Rehearsal::of`] decides from the plan alone which steps are made; [`Rehearsal::registry`] holds actions that
//! make no others, whatever the engine asks of them. The engine itself is the one that carries out real runs, so
//! that conditions, templates and order are those of a real run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::sample::sample;
use crate::action::{
    ActionError, ActionSpec, BoxFuture, CheckContext, EffectClass, Effects, ErasedAction, Findings, Interrupted,
    ParamFault, PlanContext, Recovery, Registry, RunContext, Target,
};
use crate::base::StepId;
use crate::language::template::{TextKind, references};
use crate::plan::{BoundPlan, PlannedStep, Section, StepKind};

/// What becomes of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Whether it is made.
    pub cast: Cast,
    /// A step that is not made and that its values, or what it looks at, depend on: then its failure proves nothing.
    pub rests_on: Option<StepId>,
}

/// Whether a step is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cast {
    /// It is made.
    Made,
    /// It gives a sample of its outputs, for this reason.
    Sampled(String),
}

/// Which steps are made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rehearsal {
    parts: BTreeMap<StepId, Part>,
}

impl Rehearsal {
    /// Decides for every step of a plan. `refused` are steps that cannot be made as things are.
    #[must_use]
    pub fn of(plan: &BoundPlan, refused: &BTreeSet<StepId>) -> Self {
        let mut parts: BTreeMap<StepId, Part> = BTreeMap::new();
        let mut before: BTreeMap<&StepId, BTreeSet<&StepId>> = BTreeMap::new();
        for step in &plan.steps {
            let mut ancestors: BTreeSet<&StepId> = BTreeSet::new();
            for need in &step.needs {
                ancestors.insert(&need.from);
                ancestors.extend(before.get(&need.from).into_iter().flatten());
            }
            if step.section == Section::Finally {
                ancestors.extend(plan.section(Section::Body).map(|step| &step.id));
            }
            let rests_on = reads(step).into_iter().find(|id| rests(id, &parts));
            let changed = ancestors.iter().filter_map(|id| plan.step(id)).find(|other| overlap(other, step));
            let cast = cast(step, rests_on.as_ref(), changed, refused);
            // An expression sees only what it names; an action that is asked as a precondition sees the world.
            let asks = step.preconditions.iter().any(Value::is_object);
            let rests_on = rests_on.or_else(|| changed.filter(|_| asks).map(|other| other.id.clone()));
            parts.insert(step.id.clone(), Part { cast, rests_on });
            before.insert(&step.id, ancestors);
        }
        Self { parts }
    }

    /// What becomes of a step; of an instance, what becomes of its `for_each`.
    #[must_use]
    pub fn part(&self, step: &StepId) -> Option<&Part> {
        self.parts.get(step).or_else(|| self.parts.get(&step.of_instance()?))
    }

    /// The plan as it is rehearsed: nobody is asked or told, nothing is locked or tried again.
    #[must_use]
    pub fn plan(&self, plan: &BoundPlan) -> BoundPlan {
        let mut plan = plan.clone();
        plan.locks.clear();
        plan.queued_locks.clear();
        plan.notify.clear();
        plan.steps.retain(|step| step.section != Section::Undo);
        for step in &mut plan.steps {
            step.retry = None;
            step.stall_ms = None;
            step.locks.clear();
            step.creates.clear();
            if matches!(step.kind, StepKind::Approval | StepKind::Manual) {
                step.kind = StepKind::Action;
            }
            if self.part(&step.id).is_none_or(|part| part.cast != Cast::Made) {
                step.has_check = false;
                step.secrets.clear();
            }
        }
        plan
    }

    /// Actions that make only the steps that are to be made.
    #[must_use]
    pub fn registry(&self, registry: &Registry) -> Registry {
        let rehearsal = Arc::new(self.clone());
        registry.mapped(|inner| Arc::new(Rehearsed { inner, rehearsal: Arc::clone(&rehearsal) }))
    }
}

/// Whether a step, or a step of the sub-runbook that it stands for, gives samples.
fn rests(read: &StepId, parts: &BTreeMap<StepId, Part>) -> bool {
    let within =
        |id: &StepId| id == read || id.as_str().strip_prefix(read.as_str()).is_some_and(|rest| rest.starts_with('/'));
    let known = parts.iter().filter(|(id, _)| within(id));
    known.into_iter().any(|(_, part)| part.rests_on.is_some() || part.cast != Cast::Made)
}

fn cast(
    step: &PlannedStep,
    rests_on: Option<&StepId>,
    changed: Option<&PlannedStep>,
    refused: &BTreeSet<StepId>,
) -> Cast {
    match step.kind {
        StepKind::Approval => return Cast::Sampled("nobody is asked in a dry run".to_owned()),
        StepKind::Manual => return Cast::Sampled("nobody is told to do it in a dry run".to_owned()),
        StepKind::Runbook => return Cast::Made,
        StepKind::Action => {}
    }
    if refused.contains(&step.id) {
        return Cast::Sampled("it is refused as things are".to_owned());
    }
    match (step.effects.class, rests_on, changed) {
        (EffectClass::Write, _, _) => Cast::Sampled("it would change something".to_owned()),
        (EffectClass::Destroy, _, _) => Cast::Sampled("it may destroy something".to_owned()),
        (EffectClass::None | EffectClass::Read, Some(other), _) => {
            Cast::Sampled(format!("its values come from `{other}`, which was not made"))
        }
        (EffectClass::Read, None, Some(other)) => {
            Cast::Sampled(format!("it looks at what `{}` would have changed", other.id))
        }
        (EffectClass::None, None, _) | (EffectClass::Read, None, None) => Cast::Made,
    }
}

/// Whether a step that changes something may change what another one looks at. What is not declared may be anything.
fn overlap(changes: &PlannedStep, looks: &PlannedStep) -> bool {
    if changes.effects.class < EffectClass::Write {
        return false;
    }
    let (theirs, ours) = (&changes.effects.targets, &looks.effects.targets);
    theirs.is_empty() || ours.is_empty() || theirs.iter().any(|(_, a)| ours.iter().any(|(_, b)| may_be_one(a, b)))
}

/// Two names of one kind are two things; of different kinds, one may lie in the other.
fn may_be_one(a: &Target, b: &Target) -> bool {
    match (a, b) {
        (Target::Database { name: a }, Target::Database { name: b })
        | (Target::Service { name: a }, Target::Service { name: b })
        | (Target::Store { name: a, .. }, Target::Store { name: b, .. }) => a == b,
        (Target::Path { host: a, path: one }, Target::Path { host: b, path: other }) => {
            a == b && (one.starts_with(other) || other.starts_with(one))
        }
        (_, _) => true,
    }
}

/// The steps whose outputs a step names; in a sub-runbook, those of its own.
fn reads(step: &PlannedStep) -> BTreeSet<StepId> {
    let mut ids = BTreeSet::new();
    if let Some(when) = &step.when {
        expression(when, &mut ids);
    }
    for precondition in &step.preconditions {
        match precondition {
            Value::String(that) => expression(that, &mut ids),
            other => texts(other, &mut ids),
        }
    }
    texts(&step.with, &mut ids);
    if let Some(each) = &step.for_each {
        texts(&each.items, &mut ids);
    }
    match &step.group {
        Some(group) => ids.iter().map(|id| group.child(id.as_str())).collect(),
        None => ids,
    }
}

fn expression(text: &str, into: &mut BTreeSet<StepId>) {
    collect(text, TextKind::Expression, into);
}

fn collect(text: &str, kind: TextKind, into: &mut BTreeSet<StepId>) {
    let found = references(text, kind).unwrap_or_default();
    let steps = found.into_iter().filter(|reference| reference.path.first().is_some_and(|root| root == "steps"));
    into.extend(steps.filter_map(|reference| reference.path.get(1)?.parse().ok()));
}

fn texts(value: &Value, into: &mut BTreeSet<StepId>) {
    match value {
        Value::String(text) => collect(text, TextKind::Template, into),
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(members) => members.values().for_each(|member| texts(member, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A sample of an action's outputs and of those that the author of `exec` or `shell` declares.
fn sampled(schema: &Value, with: &Value) -> Value {
    let mut output = sample(schema);
    let declared = with.get("outputs").and_then(Value::as_object);
    if let Some(members) = output.as_object_mut() {
        for (name, how) in declared.into_iter().flatten() {
            let value =
                if how.as_str() == Some("lines") { serde_json::json!(["sample"]) } else { serde_json::json!("sample") };
            members.insert(name.clone(), value);
        }
        if let Some(asked) = with.get("inputs").and_then(Value::as_object) {
            let filled = asked.iter().map(|(name, input)| (name.clone(), filled_in(input))).collect();
            members.insert("inputs".to_owned(), Value::Object(filled));
        }
    }
    output
}

/// What a person could fill in.
fn filled_in(input: &Value) -> Value {
    let given = input.get("default").or_else(|| input.get("enum")?.get(0)).filter(|value| !value.is_null());
    given.cloned().unwrap_or_else(|| match input.get("type").and_then(Value::as_str) {
        Some("int" | "number") => serde_json::json!(1),
        Some("bool") => Value::Bool(true),
        Some(_) | None => serde_json::json!("sample"),
    })
}

/// An action that makes only the steps it is to make; nothing of it recovers, waits or removes.
struct Rehearsed {
    inner: Arc<dyn ErasedAction>,
    rehearsal: Arc<Rehearsal>,
}

fn never<T: Send + 'static>() -> BoxFuture<'static, Result<T, ActionError>> {
    Box::pin(async { Err(ActionError::fatal("a rehearsal has nothing to recover or to remove")) })
}

impl ErasedAction for Rehearsed {
    fn spec(&self) -> &'static ActionSpec {
        self.inner.spec()
    }
    fn params_schema(&self) -> Value {
        self.inner.params_schema()
    }
    fn output_schema(&self) -> Value {
        self.inner.output_schema()
    }
    fn effects(&self, with: &Value, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        self.inner.effects(with, cx)
    }
    fn by_hand(&self, with: &Value, cx: &PlanContext<'_>) -> Vec<String> {
        self.inner.by_hand(with, cx)
    }
    fn check<'a>(&'a self, with: &Value, cx: &'a CheckContext) -> BoxFuture<'a, Result<Findings, ActionError>> {
        self.inner.check(with, cx)
    }
    fn run<'a>(&'a self, with: &Value, cx: &'a RunContext) -> BoxFuture<'a, Result<Value, ActionError>> {
        // What is asked as a precondition was held to effect none or read when the plan was built.
        let is_asked = cx.attempt.0 == 0 && self.inner.spec().effect <= EffectClass::Read;
        if is_asked || self.rehearsal.part(&cx.step).is_some_and(|part| part.cast == Cast::Made) {
            return self.inner.run(with, cx);
        }
        let output = sampled(&self.inner.output_schema(), with);
        Box::pin(async { Ok(output) })
    }
    fn recover<'a>(
        &'a self,
        _: &Value,
        _: &'a Interrupted,
        _: &'a CheckContext,
    ) -> BoxFuture<'a, Result<Recovery<Value>, ActionError>> {
        never()
    }
    fn reattach<'a>(
        &'a self,
        _: &Value,
        _: &'a Interrupted,
        _: &'a RunContext,
    ) -> BoxFuture<'a, Result<Value, ActionError>> {
        never()
    }
    fn remove<'a>(&'a self, _: &'a str, _: &'a Value, _: &'a RunContext) -> BoxFuture<'a, Result<(), ActionError>> {
        never()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Cast, Rehearsal};
    use crate::action::{Access, EffectClass, Target};
    use crate::plan::PlannedStep;
    use crate::plan::fixture::{id, plan, step};

    fn reading(mut step: PlannedStep, target: Option<&str>) -> PlannedStep {
        step.effects.class = EffectClass::Read;
        step.effects.targets = target
            .map(|name| (Access::Read, Target::Store { name: name.to_owned(), prefix: String::new() }))
            .into_iter()
            .collect();
        step
    }

    fn writing(mut step: PlannedStep, target: &str) -> PlannedStep {
        step.effects.class = EffectClass::Write;
        step.effects.targets = vec![(Access::Write, Target::Store { name: target.to_owned(), prefix: String::new() })];
        step
    }

    #[test]
    fn only_steps_that_read_what_nothing_would_have_changed_are_made() {
        let mut late = reading(step("late", "exec"), Some("b"));
        late.with = serde_json::json!({ "argv": ["echo", "{{ steps.put.key }}"] });
        let plan = plan(vec![
            reading(step("look", "exec"), Some("a")),
            writing(step("put", "store.put").follows("look"), "a"),
            reading(step("again", "exec").follows("put"), Some("a")),
            reading(step("other", "exec").follows("again"), Some("b")),
            reading(step("unknown", "exec").follows("other"), None),
            late,
        ]);
        let rehearsal = Rehearsal::of(&plan, &BTreeSet::new());
        let is_made = |name: &str| rehearsal.part(&id(name)).is_some_and(|part| part.cast == Cast::Made);
        let made: Vec<&str> =
            ["look", "put", "again", "other", "unknown", "late"].into_iter().filter(|name| is_made(name)).collect();
        assert_eq!(made, ["look", "other"]);
        let why = &rehearsal.part(&id("late")).expect("a part").cast;
        assert_eq!(*why, Cast::Sampled("its values come from `put`, which was not made".to_owned()));
        let refused = Rehearsal::of(&plan, &[id("look")].into());
        assert_ne!(refused.part(&id("look")).expect("a part").cast, Cast::Made);
    }
}
