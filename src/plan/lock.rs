//! The locks of a plan: of databases that may be destroyed, and of names that the file gives.

use std::collections::BTreeSet;

use serde_json::Value;

use super::model::PlannedStep;
use crate::action::{Access, Target};
use crate::language::inventory::{Database, Inventory};
use crate::language::runbook::{OnConflict, Runbook, Step};
use crate::language::template::{self, Scope};

/// Names that the file gives stand apart from those of databases.
const NAMED: &str = "lock:";

/// The locks of a whole run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunLocks {
    /// All of them, in the order in which they are taken.
    pub names: Vec<String>,
    /// Those that are waited for.
    pub queued: BTreeSet<String>,
}

/// Gives the locks of a run. A database that a step may destroy, or that nobody else may destroy meanwhile,
/// is locked for the whole run, under its data directory, so that two inventories that name it differently still meet.
#[must_use]
pub fn of_run(runbooks: &[&Runbook], steps: &[PlannedStep], inventory: &Inventory) -> RunLocks {
    let mut names: BTreeSet<String> = held(runbooks).iter().map(|name| named(name)).collect();
    let mut queued = names.clone();
    for lock in runbooks.iter().flat_map(|runbook| &runbook.locks) {
        match lock.value.on_conflict {
            // Of two files that name one lock, the one that does not wait decides.
            OnConflict::Fail => drop(queued.remove(&named(&lock.value.name))),
            OnConflict::Queue => {}
        }
    }
    for step in steps {
        let destroyed = step.effects.targets.iter().filter(|(access, _)| *access == Access::Destroy);
        let destroyed =
            destroyed.filter_map(|(_, target)| if let Target::Database { name } = target { Some(name) } else { None });
        let databases = destroyed.chain(&step.effects.holds).filter_map(|name| inventory.databases.get(name));
        names.extend(databases.map(of_database));
    }
    RunLocks { names: names.into_iter().collect(), queued }
}

/// Gives the lock of a database.
#[must_use]
pub fn of_database(entry: &Database) -> String {
    if entry.is_managed() {
        return format!("database:{}", entry.place());
    }
    format!("database:{}:{}", entry.host, entry.pgdata.display())
}

/// Gives the names that the files of a run lock for all of it.
#[must_use]
pub fn held(runbooks: &[&Runbook]) -> BTreeSet<String> {
    runbooks.iter().flat_map(|runbook| &runbook.locks).map(|lock| lock.value.name.clone()).collect()
}

/// Gives the locks of a step in one order for all steps, without those that its run holds anyway.
///
/// # Errors
/// Tells which name is no text.
pub fn of_step(step: &Step, held: &BTreeSet<String>, scope: &Scope) -> Result<Vec<String>, String> {
    let mut names = BTreeSet::new();
    for lock in &step.locks {
        let text = &lock.value;
        let rendered = template::render(&Value::String(text.clone()), scope).map_err(|error| error.message)?;
        let name = match rendered.value {
            Value::String(name) if !name.trim().is_empty() && !name.contains(char::is_control) => name,
            Value::Number(number) => number.to_string(),
            other => return Err(format!("`{text}` gives `{other}`, which cannot name a lock")),
        };
        if !held.contains(&name) {
            names.insert(named(&name));
        }
    }
    Ok(names.into_iter().collect())
}

fn named(name: &str) -> String {
    format!("{NAMED}{name}")
}
