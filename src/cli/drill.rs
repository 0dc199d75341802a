//! `runbook drill`: the same steps in the `drill` environment, refused when they could touch what is protected.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::args::{self, Subject};
use super::invoke::Invocation;
use super::prepare::{self, Prepared, RunIdentity};
use super::screen::Face;
use super::{Exit, Failure, run};
use crate::action::Mode;
use crate::language::inventory::DRILL;
use crate::plan::guard::{self, Identity};
use crate::plan::{BoundPlan, guard::Refusal};

/// Arguments of `drill`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook drill full-db-loss -p database=orders\n  runbook drill full-db-loss -p database=orders --json | jq -c .kind\n\nThe targets of every step are computed under `environments.drill` and under every protected environment;\na step that would write to something protected is refused before the first step (code 4).\nWhat the drill creates is removed at its end, also by `runbook resume` after a crash. Code 16: the objective was\nmissed, or nothing measured it."
)]
pub struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Write events and progress as JSON lines to standard output
    #[arg(long)]
    json: bool,
}

/// Carries a runbook out as a drill.
pub fn run(args: Args) -> Result<Exit, Failure> {
    if args.subject.environment.as_deref().is_some_and(|name| name != DRILL) {
        return Err(Failure::new(Exit::Usage, "a drill always takes the environment `drill`").help("leave out `-e`"));
    }
    let prepared = prepare::load_runbook(&args.subject.runbook, &args.subject.inventory)?;
    prepared.demand_sound()?;
    let invocation = Invocation::new(Face::from(args.json), None)?;
    let identity = RunIdentity::new(Mode::Drill, invocation.runs.root(), args::params(&args.subject)?);
    let plan = prepared.bind(&args.subject, &identity)?;
    run::tell_inventory(&prepared);
    let refusals = judge(&prepared, &args.subject, &identity, &plan)?;
    if !refusals.is_empty() {
        for refusal in &refusals {
            tell!("refused: step `{}`: {}\n  help: {}", refusal.step, refusal.message, refusal.help);
        }
        return Err(Failure::new(Exit::Refused, "the drill could touch what it must not; nothing was changed"));
    }
    let carried = invocation.fresh(plan)?;
    invocation.summary(&carried);
    Ok(carried.exit())
}

/// Holds the drill's targets against those of every protected environment.
fn judge(
    prepared: &Prepared,
    subject: &Subject,
    identity: &RunIdentity,
    plan: &BoundPlan,
) -> Result<Vec<Refusal>, Failure> {
    let mut protected = Vec::new();
    for (name, environment) in &prepared.inventory.environments {
        if environment.protected {
            let real = RunIdentity { mode: Mode::DryRun, ..identity.clone() };
            protected.push((name.clone(), prepared.bind_in(subject, &real, name.clone())?));
        }
    }
    let mut named = BTreeSet::new();
    if let Some(drill) = prepared.inventory.environments.get(DRILL) {
        named.extend(drill.databases.keys().map(|name| format!("database:{name}")));
        named.extend(drill.services.keys().map(|name| format!("service:{name}")));
        named.extend(drill.stores.keys().map(|name| format!("store:{name}")));
    }
    Ok(guard::drill(plan, &named, &protected, &ThisMachine))
}

/// Resolves paths on this machine.
struct ThisMachine;

impl Identity for ThisMachine {
    fn canonical(&self, path: &Path) -> PathBuf {
        for ancestor in path.ancestors() {
            if let Ok(real) = ancestor.canonicalize() {
                return match path.strip_prefix(ancestor) {
                    Ok(rest) if rest.as_os_str().is_empty() => real,
                    Ok(rest) => real.join(rest),
                    Err(_) => path.to_owned(),
                };
            }
        }
        path.to_owned()
    }

    fn device_inode(&self, path: &Path) -> Option<(u64, u64)> {
        std::fs::metadata(path).ok().map(|facts| (facts.dev(), facts.ino()))
    }
}
