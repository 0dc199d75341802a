//! The runbooks that a runbook uses: each built once, and what a step gives them held against what they declare.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::build::{self, Material, Plan};
use super::param::INCIDENT_AT;
use crate::base::Timestamp;
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics, Place, SourceId};
use crate::language::SubRunbook;
use crate::language::inventory::InventoryFile;
use crate::language::runbook::{Param, ParamType, Runbook, Step};
use crate::language::template::is_template;

/// Steps of a run, those of all sub-runbooks included.
pub const MOST_STEPS: usize = 10_000;

/// The plan of a runbook that a step uses.
#[derive(Debug, Clone)]
pub struct SubPlan {
    /// Its file, as shown.
    pub file: String,
    /// Its steps.
    pub plan: Arc<Plan>,
    /// Its own variables, as written.
    pub vars: BTreeMap<String, Value>,
    /// The names of the inventory's variables that it may read besides.
    pub inherited: BTreeSet<String>,
}

/// Plans that were built already, by their file.
pub(super) type Built = BTreeMap<SourceId, Arc<Plan>>;

/// Builds the plans of the sub-runbooks of a runbook, by the step that uses each.
pub(super) fn plans(
    runbook: &Runbook,
    material: &Material<'_>,
    built: &mut Built,
    found: &mut Diagnostics,
) -> BTreeMap<String, SubPlan> {
    let mut plans = BTreeMap::new();
    for step in runbook.steps.iter().chain(&runbook.finally) {
        let Some(sub) = &step.sub else { continue };
        check_given(step, sub, runbook, found);
        let plan = match built.get(&sub.file) {
            Some(plan) => Arc::clone(plan),
            None => {
                let own = Material { inventory: &sub.inventory, file: sub.file, ..*material };
                let (plan, more) = build::build_with(sub.runbook.clone(), &own, built);
                found.extend(more);
                let plan = Arc::new(plan);
                built.insert(sub.file, Arc::clone(&plan));
                plan
            }
        };
        let inherited = sub.inventory.vars.keys().filter(|name| !sub.vars.contains_key(*name)).cloned().collect();
        let planned = SubPlan { file: sub.name.clone(), plan, vars: sub.vars.clone(), inherited };
        plans.insert(step.id.value.clone(), planned);
    }
    plans
}

/// Says where a runbook with all its sub-runbooks becomes too large.
pub(super) fn check_size(plan: &Plan, found: &mut Diagnostics) {
    let largest = plan.subs.values().map(|sub| sub.plan.total).max().unwrap_or_default();
    if plan.subs.is_empty() || plan.total <= MOST_STEPS || largest > MOST_STEPS {
        return;
    }
    let place = plan.runbook.steps.iter().chain(&plan.runbook.finally).find(|step| step.sub.is_some());
    let message = format!("with all its sub-runbooks this is {} steps; {MOST_STEPS} is the limit", plan.total);
    let fault = Diagnostic::new(Code::RunbookDepth, message).at(place.map_or(Place::default(), |step| step.at));
    found.push(fault.help("run parts of it as runs of their own"));
}

fn check_given(step: &Step, sub: &SubRunbook, parent: &Runbook, found: &mut Diagnostics) {
    let empty = serde_json::Map::new();
    let given = step.with.get("params").and_then(Value::as_object).unwrap_or(&empty);
    let place = |pointer: &str| step.with_places.get(pointer).copied().unwrap_or(step.at);
    let declared = &sub.runbook.params;
    for (name, value) in given {
        let at = place(&format!("/params/{name}"));
        match declared.iter().find(|(known, _)| known.value == *name) {
            None => {
                let message = format!("`{}` has no parameter `{name}`", sub.name);
                let fault = Diagnostic::new(Code::UnknownKey, message).at(at);
                found.push(match declared.as_slice() {
                    [] => fault.help("it declares none"),
                    some => fault.suggest(name, some.iter().map(|(known, _)| known.value.as_str())),
                });
            }
            Some((_, param)) => check_value((name, param), (value, at), &sub.inventory, found),
        }
    }
    let inherits = parent.params.iter().any(|(name, _)| name.value == INCIDENT_AT);
    for (name, param) in declared {
        let is_required = param.required.unwrap_or(true) && param.default.is_none();
        let comes_by_itself = name.value == INCIDENT_AT && inherits;
        if !is_required || comes_by_itself || given.contains_key(&name.value) {
            continue;
        }
        let message = format!("the parameter `{}` of `{}` is missing", name.value, sub.name);
        let fault = Diagnostic::new(Code::MissingKey, message).label(place("/path"), "needs it");
        let help = format!("add `{}:` to `with.params`: {}", name.value, param.kind.describe());
        found.push(fault.label(name.at, "declared here").help(help));
    }
}

/// A literal is judged at once; what a template gives is judged when it is bound.
fn check_value(
    (name, param): (&str, &Param),
    (value, at): (&Value, Place),
    inventory: &InventoryFile,
    found: &mut Diagnostics,
) {
    if value.as_str().is_some_and(is_template) {
        return;
    }
    let fault = match param.read(value, Timestamp::UNIX_EPOCH) {
        Err(error) => {
            let fault = Diagnostic::new(error.code, format!("the parameter `{name}`: {}", error.message));
            Some(match error.help {
                Some(help) => fault.help(help),
                None => fault,
            })
        }
        Ok(value) => match param.kind {
            ParamType::Database => Some(Code::UnknownDatabase),
            ParamType::Service => Some(Code::UnknownService),
            ParamType::Store => Some(Code::UnknownStore),
            ParamType::String
            | ParamType::Int
            | ParamType::Number
            | ParamType::Bool
            | ParamType::Timestamp
            | ParamType::Duration
            | ParamType::Size => None,
        }
        .and_then(|code| inventory.unknown(code, value.as_str()?)),
    };
    found.extend(fault.map(|fault| fault.at(at)).into_iter().collect());
}
