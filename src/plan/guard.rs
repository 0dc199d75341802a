//! What a run may touch, judged before its first step: a drill never writes to what is protected.
//!
//! Pure over an [`Identity`]: the caller resolves paths on the real host.

mod place;
mod url;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::model::{BoundPlan, PlannedStep};
use crate::action::{Access, EffectClass, Target};
use crate::language::inventory::Inventory;
use place::{Place, Role, meeting, places};

/// Resolves what stands behind a path on the host it names.
pub trait Identity {
    /// Resolves links of the longest existing part.
    fn canonical(&self, path: &Path) -> PathBuf;
    /// Gives device and inode of an existing path, links followed.
    fn device_inode(&self, path: &Path) -> Option<(u64, u64)>;
    /// Gives the number of the block device that a path is.
    fn block_device(&self, path: &Path) -> Option<u64>;
    /// Gives a block device and everything it is made of: the disk of a partition, what a mapped device maps.
    fn made_of(&self, device: u64) -> BTreeSet<u64>;
    /// Gives every host that a network address leads to: itself, the numbers behind it, `local` for this machine's own.
    fn hosts(&self, address: &str) -> BTreeSet<String>;
    /// Gives the system id of the database cluster in an existing folder.
    fn system_id(&self, pgdata: &Path) -> Option<u64>;
}

/// Why a step is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The step.
    pub step: String,
    /// What it would do.
    pub message: String,
    /// What to do next.
    pub help: String,
}

/// Judges a drill against every protected environment.
///
/// `protected` holds, for each protected environment, its name, the inventory as that environment sees
/// it, and the steps as bound under it.
#[must_use]
pub fn drill(
    plan: &BoundPlan,
    named: &BTreeSet<String>,
    protected: &[(String, BoundPlan)],
    identity: &dyn Identity,
) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for step in &plan.steps {
        refusals.extend(undeclared(step));
        for (access, target) in &step.effects.targets {
            if *access == Access::Read {
                continue;
            }
            refusals.extend(unnamed(step, target, plan, named));
            for (environment, theirs) in protected {
                refusals.extend(touches(step, target, plan, (environment, theirs), identity));
            }
        }
    }
    refusals.dedup();
    refusals
}

/// `exec`/`shell` of effect write or destroy must say what they write to, or say that they belong to drills.
fn undeclared(step: &PlannedStep) -> Option<Refusal> {
    let opaque = matches!(step.uses.as_str(), "exec" | "shell");
    let writes = step.effects.class >= EffectClass::Write;
    if !opaque || !writes || !step.effects.targets.is_empty() || step.declares_drill {
        return None;
    }
    Some(Refusal {
        step: step.id.to_string(),
        message: format!("`{}` may write anywhere: it declares neither `targets` nor `modes` with `drill`", step.uses),
        help: "add `effect: read`, or `targets:`, or `modes: [real, drill]` to the step".to_owned(),
    })
}

/// What the drill environment does not name is read-only to a drill.
fn unnamed(step: &PlannedStep, target: &Target, plan: &BoundPlan, named: &BTreeSet<String>) -> Option<Refusal> {
    let (kind, name) = match target {
        Target::Database { name } => ("database", name),
        Target::Service { name } => ("service", name),
        Target::Store { name, .. } => ("store", name),
        Target::Path { .. } | Target::Port { .. } | Target::Url { .. } => return None,
    };
    if named.contains(&format!("{kind}:{name}")) {
        return None;
    }
    Some(Refusal {
        step: step.id.to_string(),
        message: format!(
            "it would write to the {kind} `{name}`, which environment `{}` does not name",
            plan.environment
        ),
        help: format!(
            "override `{name}` under `environments.{}.{kind}s`, for a database with `scratch: true`",
            plan.environment
        ),
    })
}

fn touches(
    step: &PlannedStep,
    target: &Target,
    plan: &BoundPlan,
    (environment, theirs): (&str, &BoundPlan),
    identity: &dyn Identity,
) -> Option<Refusal> {
    let mine = places(target, Role::Ours, &plan.inventory, identity);
    let all_targets =
        theirs.steps.iter().flat_map(|step| step.effects.targets.iter().map(|(_, target)| target.clone()));
    for other in entries(&theirs.inventory).chain(all_targets) {
        for their_place in places(&other, Role::Theirs, &theirs.inventory, identity) {
            // What lies in the folder of this very run is in nobody's environment, though both plans name it.
            if is_own(&their_place, &plan.scratch, identity) {
                continue;
            }
            let met = mine.iter().find_map(|place| Some((place, meeting(place, &their_place, identity)?)));
            if let Some((place, why)) = met {
                return Some(Refusal {
                    step: step.id.to_string(),
                    message: format!(
                        "it would write to {} ({place}), which is {} ({their_place}) of the protected environment `{environment}`: {why}",
                        describe(target),
                        describe(&other)
                    ),
                    help: "give the drill environment an entry of its own, for a database `scratch: true`".to_owned(),
                });
            }
        }
    }
    None
}

/// Everything that an environment has, whether or not this runbook would touch it there.
fn entries(inventory: &Inventory) -> impl Iterator<Item = Target> {
    let databases = inventory.databases.keys().map(|name| Target::Database { name: name.clone() });
    let services = inventory.services.keys().map(|name| Target::Service { name: name.clone() });
    let stores = inventory.stores.keys().map(|name| Target::Store { name: name.clone(), prefix: String::new() });
    databases.chain(services).chain(stores)
}

fn is_own(place: &Place, scratch: &Path, identity: &dyn Identity) -> bool {
    place.is_below(&identity.canonical(scratch))
}

fn describe(target: &Target) -> String {
    match target {
        Target::Database { name } => format!("database `{name}`"),
        Target::Service { name } => format!("service `{name}`"),
        Target::Store { name, prefix } if prefix.is_empty() => format!("store `{name}`"),
        Target::Store { name, prefix } => format!("store `{name}` under `{prefix}`"),
        Target::Path { host, path } => format!("`{}` on `{host}`", path.display()),
        Target::Port { host, port } => format!("port {port} on `{host}`"),
        Target::Url { prefix } => format!("`{prefix}`"),
    }
}

#[cfg(test)]
mod tests;
