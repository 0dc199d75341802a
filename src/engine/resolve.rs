//! The values of a step, evaluated once for all attempts: `when`, preconditions, arguments.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Timing;
use super::scope::{Values, is_late, names_late, reads_item};
use crate::action::{ActionError, Late};
use crate::event::{ErrorInfo, EventKind, SkipReason};
use crate::language::template::{Scope, TemplateError, evaluate, is_template, render};
use crate::plan::{GroupScope, PlannedStep};

/// The argument of `shell` that is never a template.
const LITERAL: (&str, &str) = ("shell", "script");

/// Evaluates a step into the one event that tells what came of it.
pub(super) fn resolve(step: &PlannedStep, values: Values<'_>) -> EventKind {
    let id = step.id.clone();
    match resolved(step, values) {
        Ok(Some(resolved)) => EventKind::StepResolved {
            step: id,
            with: resolved.with,
            secrets: resolved.secrets.into_iter().collect(),
            preconditions: resolved.preconditions,
        },
        Ok(None) => EventKind::StepSkipped { step: id, why: SkipReason::When },
        Err(error) => {
            EventKind::StepFailed { step: id, attempt: crate::base::Attempt(0), error: *error, elapsed_ms: 0 }
        }
    }
}

struct Resolved {
    with: Value,
    secrets: BTreeSet<String>,
    preconditions: Vec<Value>,
}

fn resolved(step: &PlannedStep, values: Values<'_>) -> Result<Option<Resolved>, Box<ErrorInfo>> {
    if is_plain(step) {
        return Ok(Some(Resolved { with: step.with.clone(), secrets: BTreeSet::new(), preconditions: Vec::new() }));
    }
    let scope = values.scope(step, Timing::Due);
    if let Some(when) = &step.when {
        match evaluate(when, &scope).map_err(|error| failed("`when`", &error))? {
            Value::Bool(true) => {}
            Value::Bool(false) => return Ok(None),
            other => return Err(fatal(format!("`when` must give true or false, not `{other}`"))),
        }
    }
    let mut secrets = BTreeSet::new();
    let mut preconditions = Vec::with_capacity(step.preconditions.len());
    for precondition in &step.preconditions {
        preconditions.push(met(precondition, &scope, &mut secrets)?);
    }
    if step.for_each.is_some() {
        // Its arguments are those of its instances: they may read `item`.
        return Ok(Some(Resolved { with: Value::Object(Map::new()), secrets, preconditions }));
    }
    let with = arguments(step, &scope).map_err(|error| failed("an argument", &error))?;
    secrets.extend(with.1);
    Ok(Some(Resolved { with: with.0, secrets, preconditions }))
}

/// Evaluates what a step fans out over.
pub(super) fn fan_out_items(step: &PlannedStep, items: &Value, values: Values<'_>) -> Result<Value, Box<ErrorInfo>> {
    let rendered = render(items, &values.scope(step, Timing::Due)).map_err(|error| failed("`for_each`", &error))?;
    if rendered.secrets.is_empty() {
        return Ok(rendered.value);
    }
    Err(fatal("the items of `for_each` may not hold a secret".to_owned()))
}

/// Evaluates what a sub-runbook gives; what was not given in it is null.
pub(super) fn closing_outputs(
    step: &PlannedStep,
    group: &GroupScope,
    values: Values<'_>,
) -> Result<Value, Box<ErrorInfo>> {
    let templates = Value::Object(group.outputs.clone().into_iter().collect());
    let scope = values.closing(step, &templates);
    let rendered = render(&templates, &scope).map_err(|error| failed("an output", &error))?;
    if !rendered.secrets.is_empty() {
        return Err(fatal("the outputs of a sub-runbook may not hold a secret".to_owned()));
    }
    let mut outputs: Map<String, Value> = group.outputs.keys().map(|name| (name.clone(), Value::Null)).collect();
    outputs.extend(rendered.value.as_object().cloned().unwrap_or_default());
    Ok(Value::Object(outputs))
}

/// Nothing to evaluate: most steps of a long plan.
fn is_plain(step: &PlannedStep) -> bool {
    step.when.is_none() && step.preconditions.is_empty() && step.for_each.is_none() && !has_template(&step.with)
}

fn has_template(value: &Value) -> bool {
    match value {
        Value::String(text) => is_template(text),
        Value::Array(items) => items.iter().any(has_template),
        Value::Object(members) => members.values().any(has_template),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn met(precondition: &Value, scope: &Scope, secrets: &mut BTreeSet<String>) -> Result<Value, Box<ErrorInfo>> {
    let Value::String(expression) = precondition else {
        let rendered = render(precondition, scope).map_err(|error| failed("a precondition", &error))?;
        secrets.extend(rendered.secrets);
        return Ok(rendered.value);
    };
    match evaluate(expression, scope).map_err(|error| failed("a precondition", &error))? {
        Value::Bool(true) => Ok(Value::Bool(true)),
        Value::Bool(false) => Err(fatal(format!("precondition `{expression}` does not hold"))),
        other => Err(fatal(format!("precondition `{expression}` must give true or false, not `{other}`"))),
    }
}

fn arguments(step: &PlannedStep, scope: &Scope) -> Result<(Value, BTreeSet<String>), TemplateError> {
    let mut with = step.with.clone();
    let literal = if step.uses == LITERAL.0 { with.get_mut(LITERAL.1).map(Value::take) } else { None };
    let mut rendered = render(&with, scope)?;
    if let Some(literal) = literal {
        rendered.value[LITERAL.1] = literal;
    }
    Ok((rendered.value, rendered.secrets))
}

/// What is known of a step's `when` before the first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It runs, as far as its own condition goes.
    Yes,
    /// It does not run.
    No,
    /// Earlier steps decide.
    Late,
}

/// Evaluates the `when` of a step and of the groups around it, as far as they are known before the first step.
pub(super) fn wanted_ahead(step: &PlannedStep, values: Values<'_>) -> Result<Wanted, ActionError> {
    let own = own_wanted_ahead(step, values)?;
    let around = step.group.as_ref().and_then(|group| values.index.position(group));
    let around = around.map_or(Ok(Wanted::Yes), |group| wanted_ahead(values.index.step(group), values))?;
    Ok(match (own, around) {
        (Wanted::No, _) | (_, Wanted::No) => Wanted::No,
        (Wanted::Late, _) | (_, Wanted::Late) => Wanted::Late,
        (Wanted::Yes, Wanted::Yes) => Wanted::Yes,
    })
}

fn own_wanted_ahead(step: &PlannedStep, values: Values<'_>) -> Result<Wanted, ActionError> {
    let Some(when) = &step.when else { return Ok(Wanted::Yes) };
    if names_late(when) {
        return Ok(Wanted::Late);
    }
    let value = evaluate(when, &values.scope(step, Timing::Ahead));
    match value.map_err(|error| ActionError::from(*failed("`when`", &error)))? {
        Value::Bool(true) => Ok(Wanted::Yes),
        Value::Bool(false) => Ok(Wanted::No),
        other => Err(ActionError::from(*fatal(format!("`when` must give true or false, not `{other}`")))),
    }
}

/// Evaluates the arguments as far as they are known before the first step; the rest become markers.
pub(super) fn resolve_ahead(step: &PlannedStep, values: Values<'_>) -> Result<Value, ActionError> {
    let late = |text: &str| is_late(text) || (step.for_each.is_some() && reads_item(text));
    let marked = PlannedStep { with: with_markers(&step.with, &late), ..step.clone() };
    let scope = values.scope(step, Timing::Ahead);
    let rendered = arguments(&marked, &scope);
    rendered.map(|(with, _)| with).map_err(|error| ActionError::from(*failed("an argument", &error)))
}

fn with_markers(value: &Value, late: &dyn Fn(&str) -> bool) -> Value {
    let mark = |value: &Value| with_markers(value, late);
    match value {
        // A marker is rendered with the rest, so no template may be left in it.
        Value::String(text) if late(text) => {
            let bare = ["{{", "}}", "{%", "%}"].iter().fold(text.clone(), |text, mark| text.replace(mark, ""));
            Late::<Value>::marker(bare.trim())
        }
        Value::Array(items) => items.iter().map(mark).collect(),
        Value::Object(members) => members.iter().map(|(name, member)| (name.clone(), mark(member))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// The rendered arguments of a step are not what it takes.
pub(super) fn failed_arguments(step: &PlannedStep, error: &serde_json::Error) -> ActionError {
    ActionError::fatal(format!("the arguments of `{}` do not fit: {error}", step.uses))
}

fn fatal(message: String) -> Box<ErrorInfo> {
    Box::new(ErrorInfo::new(crate::event::ErrorClass::Fatal, message))
}

fn failed(what: &str, error: &TemplateError) -> Box<ErrorInfo> {
    let at = if error.pointer.is_empty() { String::new() } else { format!(" (`{}`)", error.pointer) };
    let told = ActionError::fatal(format!("{what}{at} cannot be evaluated")).because(error);
    Box::new(error.help.iter().cloned().fold(told, ActionError::help).into_info())
}
