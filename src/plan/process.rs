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

/// Adds what `pass_env` lists as templates: what the author sets goes first, and no value is read as a template.
#[must_use]
pub fn with_env(uses: &str, with: &Value, runbook: &Runbook) -> Value {
    let mut with = with.clone();
    if !is_program(uses) || runbook.pass_env.is_empty() {
        return with;
    }
    let Some(members) = with.as_object_mut() else { return with };
    let env = members.entry("env").or_insert_with(|| json!({}));
    if let Some(env) = env.as_object_mut() {
        for name in runbook.pass_env.iter().map(|name| &name.value) {
            env.entry(name).or_insert_with(|| json!(format!("{{{{ env_vars.{name} }}}}")));
        }
    }
    with
}

fn is_program(uses: &str) -> bool {
    matches!(uses, "exec" | "shell")
}
