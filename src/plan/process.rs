//! What `exec` and `shell` get beside the arguments that their author writes under `with`.

use serde_json::{Map, Value, json};

use crate::language::runbook::{OutputSpec, Runbook, Step};

/// Gives the arguments of a step: with declared outputs, and with the environment that the runbook passes.
#[must_use]
pub fn arguments(step: &Step, runbook: &Runbook) -> Value {
    let uses = &step.uses.value;
    let mut with = with_env(uses, &step.with, runbook);
    if is_program(uses) && !step.outputs.is_empty() {
        let outputs: Map<String, Value> =
            step.outputs.iter().map(|(name, spec): &(_, OutputSpec)| (name.value.clone(), json!(spec))).collect();
        with["outputs"] = Value::Object(outputs);
    }
    with
}

/// Adds what `pass_env` lists, as templates: no value is read as one. What the author sets under `env` outweighs it.
#[must_use]
pub fn with_env(uses: &str, with: &Value, runbook: &Runbook) -> Value {
    let mut with = with.clone();
    if !is_program(uses) || runbook.pass_env.is_empty() {
        return with;
    }
    let Some(members) = with.as_object_mut() else { return with };
    let passed = runbook.pass_env.iter().map(|name| &name.value);
    let passed: Map<String, Value> =
        passed.map(|name| (name.clone(), json!(format!("{{{{ env_vars.{name} }}}}")))).collect();
    members.insert("passed".to_owned(), Value::Object(passed));
    with
}

fn is_program(uses: &str) -> bool {
    matches!(uses, "exec" | "shell")
}
