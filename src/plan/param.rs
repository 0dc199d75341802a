//! Values of parameters and variables: given, defaulted, converted, judged.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::bind::{BindError, BindRequest};
use crate::action::Mode;
use crate::base::Timestamp;
use crate::language::inventory::Inventory;
use crate::language::runbook::{Param, ParamType, Runbook};
use crate::language::template::{self, Scope};

/// The reserved parameter: when service was lost.
pub const INCIDENT_AT: &str = "incident_at";

fn usage(message: impl Into<String>, help: impl Into<String>) -> BindError {
    BindError::Usage { message: message.into(), help: help.into() }
}

/// Evaluates the variables once: the environment's, then those given with the run.
///
/// # Errors
/// Fails for a variable that is not declared and for a template that cannot be rendered.
pub fn vars(run: &Value, inventory: &Inventory, request: &BindRequest) -> Result<BTreeMap<String, Value>, BindError> {
    let mut vars = inventory.vars.clone();
    for (name, value) in &request.vars {
        if !vars.contains_key(name) {
            return Err(usage(format!("there is no variable `{name}`"), known("variables", vars.keys())));
        }
        vars.insert(name.clone(), value.clone());
    }
    let mut done: BTreeMap<String, Value> = BTreeMap::new();
    let mut left: Vec<String> = vars.keys().cloned().collect();
    while !left.is_empty() {
        let mut failed = Vec::new();
        let mut why = String::new();
        let scope = default_scope(&done, run);
        for name in &left {
            match template::render(&vars[name], &scope) {
                Ok(rendered) => {
                    done.insert(name.clone(), rendered.value);
                }
                Err(error) => {
                    why = error.message;
                    failed.push(name.clone());
                }
            }
        }
        if failed.len() == left.len() {
            let message = format!("the variable `{}` cannot be evaluated: {why}", failed[0]);
            return Err(usage(message, "variables may read `run.*` and other variables, not in a circle"));
        }
        left = failed;
    }
    Ok(done)
}

/// What the defaults of parameters and variables can see.
fn default_scope(vars: &BTreeMap<String, Value>, run: &Value) -> Scope {
    Scope::new().with("vars", &json!(vars)).with("run", run)
}

/// Takes what the runbook lists under `pass_env` out of the environment that was captured.
///
/// # Errors
/// Names everything that is not set.
pub fn env_vars(runbooks: &[&Runbook], request: &BindRequest) -> Result<BTreeMap<String, String>, Vec<BindError>> {
    let mut env_vars = BTreeMap::new();
    let mut missing = Vec::new();
    let mut seen = BTreeSet::new();
    let names = runbooks.iter().flat_map(|runbook| &runbook.pass_env).map(|name| &name.value);
    for name in names.filter(|name| seen.insert(*name)) {
        match request.env_vars.get(name) {
            Some(value) => drop(env_vars.insert(name.clone(), value.clone())),
            None => missing.push(usage(
                format!("the variable `{name}` is not set in the environment, or is no UTF-8 text"),
                format!("`pass_env` lists it: set it (`{name}=VALUE runbook ...`), empty if need be"),
            )),
        }
    }
    if missing.is_empty() { Ok(env_vars) } else { Err(missing) }
}

fn known<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { format!("there are no {what}") } else { format!("known {what}: {}", names.join(", ")) }
}

/// Gives every parameter its value; an optional one without any is null.
///
/// # Errors
/// Gives every parameter that is unknown, missing or malformed.
pub fn params(
    runbook: &Runbook,
    inventory: &Inventory,
    (run, vars): (&Value, &BTreeMap<String, Value>),
    request: &BindRequest,
) -> Result<BTreeMap<String, Value>, Vec<BindError>> {
    let mut faults = Vec::new();
    for name in request.params.keys() {
        if !runbook.params.iter().any(|(known, _)| known.value == *name) {
            let names: Vec<String> = runbook.params.iter().map(|(name, _)| name.value.clone()).collect();
            faults.push(usage(format!("there is no parameter `{name}`"), known("parameters", names.iter())));
        }
    }
    let scope = default_scope(vars, run);
    let mut values = BTreeMap::new();
    for (name, param) in &runbook.params {
        match value(&name.value, param, &scope, (inventory, request)) {
            Ok(value) => {
                values.insert(name.value.clone(), value);
            }
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(values) } else { Err(faults) }
}

fn value(
    name: &str,
    param: &Param,
    scope: &Scope,
    (inventory, request): (&Inventory, &BindRequest),
) -> Result<Value, BindError> {
    let given = match request.params.get(name) {
        Some(given) => given.clone(),
        None if name == INCIDENT_AT && request.mode != Mode::Real => Value::String(request.now.to_string()),
        None => match &param.default {
            Some(default) => {
                template::render(default, scope)
                    .map_err(|error| {
                        usage(format!("the default of `{name}`: {}", error.message), "give the parameter with `-p`")
                    })?
                    .value
            }
            None => Value::Null,
        },
    };
    if given.is_null() {
        if param.required.unwrap_or(true) && param.default.is_none() {
            let about = if param.description.is_empty() { String::new() } else { format!(" ({})", param.description) };
            return Err(usage(
                format!("the parameter `{name}` is missing{about}"),
                how_to_give(name, param.kind, inventory),
            ));
        }
        return Ok(Value::Null);
    }
    let value = param.read(&given, request.now).map_err(|error| {
        let help = error.help.clone().unwrap_or_else(|| format!("it takes {}", param.kind.describe()));
        usage(format!("the parameter `{name}`: {error}"), help)
    })?;
    let is_reference = matches!(param.kind, ParamType::Database | ParamType::Service | ParamType::Store);
    if let Some(entry) = value.as_str().filter(|_| is_reference) {
        exists(param.kind, entry, inventory)?;
    }
    Ok(value)
}

/// Says how a missing parameter is given, with what could be meant.
fn how_to_give(name: &str, kind: ParamType, inventory: &Inventory) -> String {
    let names = names_of(kind, inventory);
    match (kind, names.as_slice()) {
        (ParamType::Timestamp, _) => format!("add `-p {name}='5m ago'`, or a time such as `2026-01-28T15:30:00Z`"),
        (_, []) => format!("add `-p {name}=VALUE`"),
        (_, [only]) => format!("add `-p {name}={only}`"),
        (_, several) => format!("add `-p {name}=VALUE`; {}", known("names", several.iter().copied())),
    }
}

/// The entries of the inventory that a parameter may name.
fn names_of(kind: ParamType, inventory: &Inventory) -> Vec<&String> {
    match kind {
        ParamType::Database => inventory.databases.keys().collect(),
        ParamType::Service => inventory.services.keys().collect(),
        ParamType::Store => inventory.stores.keys().collect(),
        ParamType::String
        | ParamType::Int
        | ParamType::Number
        | ParamType::Bool
        | ParamType::Timestamp
        | ParamType::Duration
        | ParamType::Size => Vec::new(),
    }
}

/// Refuses a value that names an entry which the inventory does not have.
///
/// # Errors
/// Says which name, and which there are.
pub fn names_entry(kind: ParamType, value: &Value, inventory: &Inventory) -> Result<(), String> {
    let is_reference = matches!(kind, ParamType::Database | ParamType::Service | ParamType::Store);
    match value.as_str().filter(|_| is_reference).map(|entry| exists(kind, entry, inventory)) {
        Some(Err(BindError::Usage { message, help })) => Err(format!("{message}; {help}")),
        Some(Err(other @ (BindError::Step { .. } | BindError::Rule { .. }))) => Err(other.to_string()),
        Some(Ok(())) | None => Ok(()),
    }
}

/// Refuses the name of an entry that the inventory does not have.
fn exists(kind: ParamType, name: &str, inventory: &Inventory) -> Result<(), BindError> {
    let entries = names_of(kind, inventory);
    if entries.iter().any(|entry| *entry == name) {
        return Ok(());
    }
    let help = match entries.as_slice() {
        [] => "the inventory names none; give one with `--inventory FILE`, or write `./inventory.yaml`".to_owned(),
        names => {
            let distance = |one: &&String| strsim::damerau_levenshtein(one, name);
            let near = names.iter().copied().min_by_key(distance).filter(|one| distance(one) <= 1.max(name.len() / 3));
            let meant = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            format!("{meant}{}", known("names", names.iter().copied()))
        }
    };
    let what = serde_json::to_value(kind).ok().and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default();
    Err(usage(format!("there is no {what} `{name}` in the inventory"), help))
}

/// Reads the incident from the reserved parameter; `None` when the runbook does not declare it.
///
/// # Errors
/// Refuses a time in the future.
pub fn incident_at(
    runbook: &Runbook,
    params: &BTreeMap<String, Value>,
    request: &BindRequest,
) -> Result<Option<Timestamp>, BindError> {
    if !runbook.params.iter().any(|(name, _)| name.value == INCIDENT_AT) {
        return Ok(None);
    }
    let Some(text) = params.get(INCIDENT_AT).and_then(Value::as_str) else { return Ok(None) };
    let at: Timestamp =
        text.parse().map_err(|_| usage(format!("`{text}` is not a point in time"), "write `2026-01-28T15:30:00Z`"))?;
    if at > request.now {
        return Err(usage(
            format!("`{INCIDENT_AT}` {at} lies in the future; it is {} now", request.now),
            "give the moment service was lost",
        ));
    }
    Ok(Some(at))
}
