//! `runbook reap`: removes what runs left behind, each by a run of its own that names the old one.
//!
//! Nothing is written into the old run's journal: an ended one is final, and one that can still go on is its engine's.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::earlier::{self, Earlier};
use super::invoke::Invocation;
use super::screen::Face;
use super::{Exit, Failure, leases, logs, scratch, wiring};
use crate::base::{RunId, StepId, clock};
use crate::event::{EventKind, OriginPurpose, RunOrigin};
use crate::journal::{Lease, Leases, RunLock, Runs};
use crate::language::runbook::Objectives;
use crate::plan::{BoundPlan, PlannedStep, Section, UndoPolicy};

/// The parameter that names what is to be removed.
const RESOURCES: &str = "resources";

/// Arguments of `reap`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook reap --dry-run                    what outlived its time?\n  runbook reap --yes                        remove it; for a timer\n  runbook reap 20260128-143002-3fa9c1       remove what this run left, also before its time\n\nEach run that left something is cleaned up by a run of its own, named `reap`, with its own journal; what a live\nrun created is never touched. A run that has not ended can still be resumed; what was removed is missing then.\nCode 0: everything is gone; 5: something is left; 14: the run is live."
)]
pub struct Args {
    /// The runs: an id, a unique beginning of it, or `last`; all of them when absent, and then only what expired
    runs: Vec<String>,
    /// Only what outlived its time
    #[arg(long)]
    expired: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Write events and progress as JSON lines to standard output; with --dry-run, the leases as JSON
    #[arg(long)]
    json: bool,
}

/// Removes what runs left behind.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let invocation = Invocation::new(Face::from(args.json), None)?;
    let known = wiring::leases(&invocation.runs)?;
    leases::warn_of_unread(&known.unread);
    let named = named(&invocation.runs, &args.runs)?;
    let chosen = choose(&known, &named, &args);
    if args.dry_run {
        return rehearse(&invocation.runs, &known, (&named, &chosen), invocation.face);
    }
    let mut worst = Exit::Success;
    if !chosen.is_empty() {
        agree(&chosen, &args)?;
        let mut by_run: BTreeMap<&RunId, Vec<&Lease>> = BTreeMap::new();
        for lease in &chosen {
            by_run.entry(&lease.run).or_default().push(lease);
        }
        for (run, theirs) in by_run {
            // One that cannot be cleaned up keeps nobody from the others.
            match clean_up(&invocation, run, &theirs) {
                Ok(exit) => worst = worst.max(exit),
                Err(failure) => {
                    failure.print();
                    worst = worst.max(failure.exit);
                }
            }
        }
    }
    let left = wiring::leases(&invocation.runs)?;
    let folders = meant_folders(&invocation.runs, &left, &named);
    // One that stays keeps no other.
    let left = folders.iter().filter(|(_, folder)| !clear(folder)).count();
    if chosen.is_empty() && folders.is_empty() {
        tell!("nothing to remove");
    }
    Ok(if left > 0 { worst.max(Exit::Failed) } else { worst })
}

/// The runs that were named; none of them may be live.
fn named(runs: &Runs, texts: &[String]) -> Result<BTreeSet<RunId>, Failure> {
    let mut named = BTreeSet::new();
    for text in texts {
        let dir = wiring::find_run(runs, text)?;
        if dir.is_live().map_err(wiring::runs_failure)? {
            return Err(Failure::new(Exit::Locked, format!("run `{}` goes on and removes its own leases", dir.id()))
                .help(format!("`runbook cancel {}` ends it; nothing was changed", dir.id())));
        }
        named.insert(dir.id().clone());
    }
    Ok(named)
}

fn choose<'a>(known: &'a Leases, named: &BTreeSet<RunId>, args: &Args) -> Vec<&'a Lease> {
    let now = clock::now();
    let only_expired = args.expired || named.is_empty();
    let meant = |lease: &&Lease| {
        lease.is_abandoned()
            && (named.is_empty() || named.contains(&lease.run))
            && (!only_expired || lease.is_expired(now))
    };
    known.all.iter().filter(meant).collect()
}

/// Says what would be removed.
fn rehearse(
    runs: &Runs,
    known: &Leases,
    (named, chosen): (&BTreeSet<RunId>, &[&Lease]),
    face: Face,
) -> Result<Exit, Failure> {
    match face {
        Face::Json => leases::print_json(chosen)?,
        Face::People if chosen.is_empty() => tell!("no lease would be removed"),
        Face::People => leases::table(chosen),
    }
    for (_, folder) in meant_folders(runs, known, named) {
        tell!("would remove the scratch folder `{}`", folder.display());
    }
    Ok(Exit::Success)
}

/// Asks before anything is destroyed.
fn agree(chosen: &[&Lease], args: &Args) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    let refuse = |message: &str| Failure::new(Exit::Refused, message).help("add `--yes`; nothing was changed");
    if args.json || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(refuse("nobody can be asked here whether to remove it"));
    }
    leases::table(chosen);
    tell_part!("Remove {} of them? Type yes to go on: ", chosen.len());
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        Ok(_) if line.trim() == "yes" => Ok(()),
        Ok(_) | Err(_) => Err(refuse("the word typed is not `yes`")),
    }
}

/// Removes what one run left, by a run of its own.
fn clean_up(invocation: &Invocation, run: &RunId, theirs: &[&Lease]) -> Result<Exit, Failure> {
    let earlier = Earlier::read(invocation.runs.dir(run))?;
    let plan = plan(&earlier, theirs);
    let seeds = theirs.iter().map(|lease| registration(lease)).collect();
    let carried = invocation.seeded(plan, seeds)?;
    invocation.summary(&carried);
    Ok(carried.exit())
}

/// The old run's plan as one in which nothing is made and what the old one left is removed at the end.
fn plan(earlier: &Earlier, theirs: &[&Lease]) -> BoundPlan {
    let now = clock::now();
    let mut plan = earlier.plan.clone();
    let owners: BTreeSet<&StepId> = theirs.iter().map(|lease| &lease.resource.step).collect();
    plan.steps = owners.into_iter().filter_map(|id| owner(earlier, id)).collect();
    plan.origin = Some(RunOrigin {
        run: earlier.dir.id().clone(),
        purpose: OriginPurpose::Reap,
        started_at: Some(plan.started_at),
        step: None,
        reason: String::new(),
    });
    plan.description = format!("removes what run {} of `{}` left behind", earlier.dir.id(), plan.name);
    plan.name = "reap".to_owned();
    let keys: Vec<&str> = theirs.iter().map(|lease| lease.key.as_str()).collect();
    plan.params = BTreeMap::from([(RESOURCES.to_owned(), json!(keys))]);
    plan.objectives = Objectives::default();
    plan.undo = UndoPolicy::Never;
    (plan.phases, plan.groups, plan.notify) = (Vec::new(), BTreeMap::new(), Vec::new());
    (plan.locks, plan.queued_locks) = (vec![format!("reap:{}", earlier.dir.id())], BTreeSet::new());
    (plan.run, plan.started_at, plan.actor, plan.incident_at) = (RunId::generate(now), now, wiring::actor(), None);
    plan
}

/// The step that created something, as one that is not made: it says where and by what it is removed.
fn owner(earlier: &Earlier, id: &StepId) -> Option<PlannedStep> {
    let planned = earlier::planned(&earlier.plan, id)?.clone();
    Some(PlannedStep {
        id: id.clone(),
        section: Section::Body,
        phase: None,
        when: Some("false".to_owned()),
        needs: Vec::new(),
        preconditions: Vec::new(),
        retry: None,
        has_check: false,
        group: None,
        for_each: None,
        always: false,
        locks: Vec::new(),
        creates: Vec::new(),
        ..planned
    })
}

fn registration(lease: &Lease) -> EventKind {
    EventKind::ResourceRegistered {
        step: lease.resource.step.clone(),
        resource: lease.key.clone(),
        data: lease.resource.data.clone(),
        expires_at: Some(lease.resource.expires_at),
    }
}

/// What a run of `reap` still has to remove.
pub fn seeds(known: &Leases, plan: &BoundPlan, of: &RunId) -> Vec<EventKind> {
    let meant = plan.params.get(RESOURCES).and_then(|keys| keys.as_array()).cloned().unwrap_or_default();
    let meant = |lease: &&Lease| meant.iter().any(|key| key.as_str() == Some(&lease.key));
    known.of(of).filter(meant).map(registration).collect()
}

/// Tells whether a run only removes what another one left behind.
pub fn is_reaping(plan: &BoundPlan) -> bool {
    plan.origin.as_ref().is_some_and(|origin| origin.purpose == OriginPurpose::Reap)
}

/// Keeps the run that is cleaned up from going on meanwhile.
///
/// # Errors
/// Fails (exit 14) when it is live, or when something that it started still runs.
pub fn hold(runs: &Runs, plan: &BoundPlan) -> Result<Option<RunLock>, Failure> {
    let Some(origin) = plan.origin.as_ref().filter(|_| is_reaping(plan)) else { return Ok(None) };
    let dir = runs.dir(&origin.run);
    let lock = dir.lock().map_err(wiring::runs_failure)?;
    let running = logs::running_step(&dir.attempts())
        .map_err(|error| Failure::new(Exit::Journal, "what still runs cannot be told").because(&error))?;
    match running {
        None => Ok(Some(lock)),
        Some(step) => {
            let message = format!("step `{step}` of run `{}` runs on after its engine ended", dir.id());
            Err(Failure::new(Exit::Locked, message)
                .help(format!("`runbook resume {}` waits for it; nothing was changed", dir.id())))
        }
    }
}

fn meant_folders(runs: &Runs, known: &Leases, named: &BTreeSet<RunId>) -> Vec<(RunId, PathBuf)> {
    let mut folders = scratch::dead(runs, known);
    folders.retain(|(run, _)| named.is_empty() || named.contains(run));
    folders
}

/// Removes a scratch folder that an ended run left, and tells whether it is gone.
fn clear(folder: &Path) -> bool {
    let is_gone = scratch::remove(folder);
    if is_gone {
        tell!("removed the scratch folder `{}`", folder.display());
    }
    is_gone
}
