//! Which parts of which stores a role works on: by what the steps of runbooks declare, or by the inventory.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Role;
use crate::action::{Access, Mode, Target};
use crate::base::clock;
use crate::catalog::family_prefix;
use crate::cli::args::{InventoryArgs, Subject, pairs};
use crate::cli::prepare::{Prepared, RunIdentity, load_runbook};
use crate::cli::{Exit, Failure, wiring};
use crate::language::inventory::{Inventory, StoreEntry};
use crate::language::runbook::ParamType;
use crate::plan::{BoundPlan, PlannedStep};

/// Patterns of keys by the stores' names: `orders/*`, or one key. Only a `*` at the end stands for anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Scope(BTreeMap<String, BTreeSet<String>>);

/// A part of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The store's name.
    pub(super) store: String,
    /// What the inventory says of it.
    pub(super) entry: StoreEntry,
    /// The bucket.
    pub(super) bucket: String,
    /// What the names of the objects are like, inside the bucket.
    pub(super) patterns: Vec<String>,
}

/// What a scope comes to in buckets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Reach {
    /// The parts of buckets.
    pub(super) places: Vec<Place>,
    /// Stores that no policy is made for, and why.
    pub(super) left_out: Vec<(String, String)>,
}

/// What binding runbooks takes.
pub(super) struct Given<'a> {
    /// Parameters as typed.
    pub(super) param: &'a [String],
    /// The environment.
    pub(super) environment: &'a str,
    /// Where the inventory comes from.
    pub(super) inventory: &'a InventoryArgs,
}

impl Scope {
    /// Adds everything whose key begins so.
    fn add(&mut self, store: &str, beginning: &str) {
        self.0.entry(store.to_owned()).or_default().insert(format!("{}*", literal(beginning)));
    }

    /// Adds what a step declares. Without a `/` at the end `orders` would be `orders2` too: only what reads objects
    /// by the beginning of their keys reaches so far.
    fn add_target(&mut self, store: &str, prefix: &str, (uses, access): (&str, Access)) {
        let is_beginning = uses.starts_with("store.") && access == Access::Read;
        if prefix.is_empty() || prefix.ends_with('/') || is_beginning {
            return self.add(store, prefix);
        }
        if uses.starts_with("store.") {
            self.0.entry(store.to_owned()).or_default().insert(literal(prefix));
        }
        self.add(store, &format!("{prefix}/"));
    }

    /// Everything of an inventory: what lies below the prefix of each database, and stores of no database as a whole.
    pub(super) fn of_inventory(inventory: &Inventory, role: Role) -> Self {
        let mut scope = Self::default();
        for (name, database) in &inventory.databases {
            for store in database.archives() {
                scope.add(store, &below(database.prefix.as_deref().unwrap_or(name), role));
            }
        }
        for store in inventory.stores.keys() {
            if role != Role::Wal && !scope.0.contains_key(store) || role == Role::Admin {
                scope.add(store, "");
            }
        }
        scope
    }

    /// What the steps of a runbook do, as far as it is this role's. A parameter that names a database and is not
    /// given stands for each of them.
    pub(super) fn add_runbook(&mut self, name: &str, role: Role, given: &Given<'_>) -> Result<(), Failure> {
        let prepared = load_runbook(name, given.inventory)?;
        prepared.demand_sound()?;
        for params in choices(&prepared, given)? {
            let subject = Subject {
                runbook: name.to_owned(),
                environment: None,
                param: given.param.to_vec(),
                params_file: None,
                var: Vec::new(),
                inventory: given.inventory.clone(),
                max_parallel: None,
            };
            let identity = RunIdentity::new(Mode::Real, &wiring::state_root()?, params);
            self.add_plan(&prepared.bind_in(&subject, &identity, given.environment.to_owned())?, role);
        }
        Ok(())
    }

    fn add_plan(&mut self, plan: &BoundPlan, role: Role) {
        fn targets(step: &PlannedStep) -> impl Iterator<Item = (&str, Access, &Target)> {
            step.effects.targets.iter().map(|(access, target)| (step.uses.as_str(), *access, target))
        }
        for (uses, access, target) in plan.steps.iter().flat_map(targets) {
            match target {
                Target::Store { name, prefix } if takes(role, access) => {
                    self.add_target(name, prefix, (uses, access));
                }
                Target::Database { name } if role == Role::Wal => {
                    let Some(database) = plan.inventory.databases.get(name) else { continue };
                    for store in database.archives() {
                        self.add(store, &below(database.prefix.as_deref().unwrap_or(name), role));
                    }
                }
                Target::Store { .. }
                | Target::Database { .. }
                | Target::Path { .. }
                | Target::Port { .. }
                | Target::Service { .. }
                | Target::Url { .. } => {}
            }
        }
    }

    /// Leaves only what belongs to these databases.
    pub(super) fn only(&mut self, databases: &[String], inventory: &Inventory) {
        let mut wanted: BTreeSet<(String, String)> = BTreeSet::new();
        for name in databases {
            let Some(database) = inventory.databases.get(name) else { continue };
            let prefix = database.prefix.as_ref().unwrap_or(name);
            wanted.extend(database.archives().map(|store| (store.to_owned(), prefix.clone())));
        }
        for (store, patterns) in &mut self.0 {
            let is_wanted = |pattern: &String| {
                let below =
                    |own: &str| pattern.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                wanted.iter().any(|(of, own)| of == store && below(&literal(own)))
            };
            patterns.retain(is_wanted);
        }
        self.0.retain(|_, patterns| !patterns.is_empty());
    }

    /// The parts of buckets; a pattern inside another one is left to that.
    pub(super) fn reach(&self, inventory: &Inventory) -> Reach {
        let mut reach = Reach::default();
        for (store, patterns) in &self.0 {
            let Some(entry) = inventory.stores.get(store) else { continue };
            let Some(rest) = entry.url.strip_prefix("s3://") else {
                reach.left_out.push((store.clone(), format!("is no bucket of S3: `{}`", entry.url)));
                continue;
            };
            let (bucket, root) = rest.split_once('/').unwrap_or((rest, ""));
            let root = root.trim_end_matches('/');
            let root = if root.is_empty() { String::new() } else { literal(&format!("{root}/")) };
            let holds = |outer: &String, inner: &String| {
                outer != inner && outer.strip_suffix('*').is_some_and(|begin| inner.starts_with(begin))
            };
            let outermost = |pattern: &&String| !patterns.iter().any(|other| holds(other, pattern));
            let patterns = patterns.iter().filter(outermost).map(|pattern| format!("{root}{pattern}")).collect();
            reach.places.push(Place {
                store: store.clone(),
                entry: entry.clone(),
                bucket: bucket.to_owned(),
                patterns,
            });
        }
        reach
    }
}

/// A text in which a policy finds no wildcard and no variable.
fn literal(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '*' | '?' | '$') { format!("${{{c}}}") } else { c.to_string() }).collect()
}

/// What a role works on below the prefix of a database. Without a `/` at the end `orders` would be `orders2` too.
fn below(prefix: &str, role: Role) -> String {
    match role {
        Role::Wal => family_prefix(prefix, "wal"),
        Role::Backup | Role::Restore | Role::Expire | Role::Admin => format!("{prefix}/"),
    }
}

/// Whether what is done to a target is this role's work.
fn takes(role: Role, access: Access) -> bool {
    match role {
        Role::Backup => access == Access::Write,
        Role::Restore => access == Access::Read,
        Role::Expire => access == Access::Destroy,
        Role::Admin => true,
        Role::Wal => false,
    }
}

/// Every way to give the parameters that were left open: each database, now for a point in time.
fn choices(prepared: &Prepared, given: &Given<'_>) -> Result<Vec<BTreeMap<String, Value>>, Failure> {
    let mut choices = vec![pairs(given.param, "parameter")?];
    for (name, param) in &prepared.plan.runbook.params {
        let required = param.required.unwrap_or(param.default.is_none());
        if !required || choices.iter().all(|choice| choice.contains_key(&name.value)) {
            continue;
        }
        let values: Vec<String> = match param.kind {
            ParamType::Database => prepared.inventory.databases.keys().cloned().collect(),
            ParamType::Timestamp => vec![clock::now().to_string()],
            ParamType::Store => prepared.inventory.stores.keys().cloned().collect(),
            ParamType::String
            | ParamType::Int
            | ParamType::Number
            | ParamType::Bool
            | ParamType::Duration
            | ParamType::Size
            | ParamType::Service => {
                let fact = format!("`{}` needs a value for `{}`", prepared.plan.runbook.name, name.value);
                return Err(Failure::new(Exit::Usage, fact).help(format!("give it with `-p {}=…`", name.value)));
            }
        };
        let with = |choice: &BTreeMap<String, Value>, value: &String| {
            let mut choice = choice.clone();
            choice.insert(name.value.clone(), Value::String(value.clone()));
            choice
        };
        choices = choices.iter().flat_map(|choice| values.iter().map(move |value| with(choice, value))).collect();
    }
    Ok(choices)
}

#[cfg(test)]
mod tests {
    use super::{Access, Inventory, Scope, StoreEntry};

    fn patterns(declared: &[(&str, &str, Access)]) -> Vec<String> {
        let mut scope = Scope::default();
        for (uses, prefix, access) in declared {
            scope.add_target("primary", prefix, (uses, *access));
        }
        let entry = StoreEntry { url: "s3://b/prod".to_owned(), ..StoreEntry::default() };
        let inventory = Inventory { stores: [("primary".to_owned(), entry)].into(), ..Inventory::default() };
        scope.reach(&inventory).places.remove(0).patterns
    }

    #[test]
    fn a_source_does_not_stand_for_another_whose_name_begins_like_it() {
        let declared = [("backup.create", "app", Access::Write), ("backup.create", "app2", Access::Write)];
        assert_eq!(patterns(&declared), ["prod/app/*", "prod/app2/*"]);
        assert_eq!(patterns(&[("store.delete", "app", Access::Destroy)]), ["prod/app", "prod/app/*"]);
        assert_eq!(patterns(&[("store.list", "app", Access::Read)]), ["prod/app*"], "that is what it reads");
        assert_eq!(patterns(&[("store.put", "a*b", Access::Write)]), ["prod/a${*}b", "prod/a${*}b/*"]);
    }

    #[test]
    fn a_pattern_inside_another_is_left_to_that() {
        let declared = [("backup.create", "app", Access::Write), ("store.put", "app/x", Access::Write)];
        assert_eq!(patterns(&declared), ["prod/app/*"]);
        assert_eq!(patterns(&[("s3.lifecycle", "", Access::Write), ("store.put", "x", Access::Write)]), ["prod/*"]);
    }
}
