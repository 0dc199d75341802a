//! Steps that want of a server what nothing here can do: one of a provider's, or one in a container.

use std::path::Path;

use serde_json::Value;

use super::Subject;
use crate::action::{Late, PlanContext};
use crate::base::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::base::mode::Mode;
use crate::language::inventory::{BUILT_IN, Inventory, Via};
use crate::language::runbook::Step;

/// What an action itself says to a database that the step names, in any environment.
pub fn servers(subject: &Subject<'_>) -> Diagnostics {
    let file = subject.material.inventory;
    let mut names: Vec<&str> = file.environments.keys().map(String::as_str).collect();
    if names.is_empty() {
        names.push(BUILT_IN);
    }
    // What cannot be put together has faults of its own.
    let inventories: Vec<Inventory> = names.into_iter().filter_map(|name| file.for_environment(name).ok()).collect();
    let steps = subject.runbook.steps.iter().chain(&subject.runbook.finally).filter(|step| !step.poisoned);
    steps.filter_map(|step| inventories.iter().find_map(|inventory| refused(step, inventory, subject))).collect()
}

fn refused(step: &Step, inventory: &Inventory, subject: &Subject<'_>) -> Option<Diagnostic> {
    let entry = inventory.databases.get(step.with.get("database")?.as_str()?).filter(|entry| !entry.scratch)?;
    match &entry.via {
        Via::Managed(_) | Via::Compose(_) => {}
        Via::PgCtl(_) | Via::Systemd(_) | Via::PgCtlcluster(_) => return None,
    }
    let action = subject.material.registry.get(&step.uses.value)?;
    let context = PlanContext { inventory, mode: Mode::Real, scratch: Path::new("/"), host: "local" };
    let with = Value::Object(step.with.as_object()?.iter().map(|(key, value)| (key.clone(), pending(value))).collect());
    let fault = action.effects(&with, &context).err()?.into_iter().find(|fault| fault.path == "/database")?;
    let at = step.with_places.get("/database").copied().unwrap_or(step.at);
    let found = Diagnostic::new(Code::OutOfReach, fault.message).at(at);
    Some(match fault.help {
        Some(help) => found.help(help),
        None => found,
    })
}

/// A value that only a run knows counts as one that is still to come.
fn pending(value: &Value) -> Value {
    match value.as_str().filter(|text| text.contains("{{")) {
        Some(text) => Late::<Value>::marker(text),
        None => value.clone(),
    }
}
