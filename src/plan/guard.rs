//! What a run may touch, judged before its first step: a drill never writes to what is protected.
//!
//! Pure over an [`Identity`]: the caller resolves paths on the real host.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::model::{BoundPlan, PlannedStep};
use crate::action::{Access, EffectClass, Target};
use crate::language::inventory::{Database, Inventory, Service, Via};

/// Resolves what stands behind a path on the host it names.
pub trait Identity {
    /// Resolves links of the longest existing part.
    fn canonical(&self, path: &Path) -> PathBuf;
    /// Gives device and inode of an existing path, links followed.
    fn device_inode(&self, path: &Path) -> Option<(u64, u64)>;
}

/// A place in the world, independent of the names that lead to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Path { host: String, path: PathBuf, identities: BTreeSet<(u64, u64)>, own: Option<(u64, u64)> },
    Port { host: String, port: u16 },
    Service { host: String, unit: String },
    Url(String),
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
    let mine = places(target, &plan.inventory, identity);
    let all_targets =
        theirs.steps.iter().flat_map(|step| step.effects.targets.iter().map(|(_, target)| target.clone()));
    for other in entries(&theirs.inventory).chain(all_targets) {
        for their_place in places(&other, &theirs.inventory, identity) {
            // What lies in the folder of this very run is in nobody's environment, though both plans name it.
            if is_own(&their_place, &plan.scratch, identity) {
                continue;
            }
            if mine.iter().any(|place| overlap(place, &their_place)) {
                return Some(Refusal {
                    step: step.id.to_string(),
                    message: format!(
                        "it would write to {}, which is {} of the protected environment `{environment}`",
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
    let own = identity.canonical(scratch);
    matches!(place, Place::Path { path, .. } if path.starts_with(&own))
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

/// Every place that a target stands for.
fn places(target: &Target, inventory: &Inventory, identity: &dyn Identity) -> Vec<Place> {
    let path = |host: &str, path: &Path| {
        let canonical = identity.canonical(path);
        let identities = canonical.ancestors().filter_map(|parent| identity.device_inode(parent)).collect();
        let own = identity.device_inode(&canonical);
        Place::Path { host: host.to_owned(), path: canonical, identities, own }
    };
    match target {
        Target::Path { host, path: place } => vec![path(host, place)],
        Target::Port { host, port } => vec![Place::Port { host: host.clone(), port: *port }],
        Target::Url { prefix } => vec![Place::Url(prefix.clone())],
        Target::Database { name } => {
            inventory.databases.get(name).map(|entry| database(entry, &path)).unwrap_or_default()
        }
        Target::Service { name } => inventory.services.get(name).map(|entry| service(name, entry)).unwrap_or_default(),
        Target::Store { name, prefix } => inventory
            .stores
            .get(name)
            .map(|entry| match entry.url.strip_prefix("file://") {
                Some(root) => vec![path("local", &Path::new(root).join(prefix))],
                None => vec![Place::Url(format!("{}/{prefix}", entry.url.trim_end_matches('/')))],
            })
            .unwrap_or_default(),
    }
}

/// A service is its unit, or each of the commands that change it.
fn service(name: &str, entry: &Service) -> Vec<Place> {
    let place = |unit: String| Place::Service { host: entry.host.clone(), unit };
    match (&entry.systemd, &entry.command) {
        (Some(name), _) => vec![place(unit(name))],
        (None, Some(commands)) => [&commands.start, &commands.stop].map(|argv| place(argv.join("\0"))).into(),
        (None, None) => vec![place(name.to_owned())],
    }
}

/// The unit's full name: `x` and `x.service` are one.
fn unit(name: &str) -> String {
    const KINDS: [&str; 6] = [".service", ".socket", ".target", ".timer", ".slice", ".scope"];
    if KINDS.iter().any(|kind| name.ends_with(kind)) { name.to_owned() } else { format!("{name}.service") }
}

fn database(entry: &Database, path: &impl Fn(&str, &Path) -> Place) -> Vec<Place> {
    let mut places = vec![path(&entry.host, &entry.pgdata)];
    if let Via::Systemd(name) = &entry.via {
        places.push(Place::Service { host: entry.host.clone(), unit: unit(name) });
    }
    match &entry.socket {
        Some(folder) => places.push(path(&entry.host, &folder.join(format!(".s.PGSQL.{}", entry.port)))),
        None => places.push(Place::Port { host: entry.host.clone(), port: entry.port }),
    }
    places
}

/// Tells whether one place equals, contains or lies inside the other. Sharing a file system is no match.
fn overlap(mine: &Place, theirs: &Place) -> bool {
    match (mine, theirs) {
        (
            Place::Path { host, path, identities, own },
            Place::Path { host: their_host, path: their_path, identities: their_identities, own: their_own },
        ) => {
            let nested = path.starts_with(their_path) || their_path.starts_with(path);
            let same = own.is_some_and(|own| their_identities.contains(&own))
                || their_own.is_some_and(|own| identities.contains(&own));
            host == their_host && (nested || same)
        }
        (Place::Url(mine), Place::Url(theirs)) => {
            mine.starts_with(theirs.as_str()) || theirs.starts_with(mine.as_str())
        }
        (Place::Port { .. } | Place::Service { .. }, _) => mine == theirs,
        (Place::Path { .. }, Place::Port { .. } | Place::Service { .. } | Place::Url(_))
        | (Place::Url(_), Place::Path { .. } | Place::Port { .. } | Place::Service { .. }) => false,
    }
}

#[cfg(test)]
mod tests;
