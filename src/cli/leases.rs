//! `runbook leases`: what runs created for a time, and what became of it.

use serde_json::{Value, json};

use super::{Exit, Failure, document, wiring};
use crate::base::units::human_duration;
use crate::base::{Timestamp, clock};
use crate::journal::{Lease, LeaseState};

/// Arguments of `leases`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  runbook leases\n  runbook leases --json | jq -r '.[] | select(.expired) | .run'\n\nA lease is what a step creates and its run removes at its end: what `creates` names, and the throw-away\ninstances of a drill. It is read from the journals of all runs."
)]
pub struct Args {
    /// Also those that are gone
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists leases, oldest first.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let runs = wiring::runs()?;
    let leases = wiring::leases(&runs)?;
    warn_of_unread(&leases.unread);
    let shown: Vec<&Lease> = leases.all.iter().filter(|lease| args.all || lease.state != LeaseState::Removed).collect();
    if args.json {
        return print_json(&shown).map(|()| Exit::Success);
    }
    if shown.is_empty() {
        tell!("no leases in {}", runs.root().display());
        return Ok(Exit::Success);
    }
    table(&shown);
    Ok(Exit::Success)
}

/// Says which runs could not be asked.
pub fn warn_of_unread(unread: &[crate::base::RunId]) {
    for run in unread {
        tell!("warning: the journal of run `{run}` cannot be read, so what it left is not known");
        tell!("  help: `runbook audit verify {run}` says what is wrong");
    }
}

/// Writes leases for machines.
pub fn print_json(leases: &[&Lease]) -> Result<(), Failure> {
    let now = clock::now();
    let all: Vec<Value> = leases.iter().map(|lease| as_json(lease, now)).collect();
    document::write_json(&all)
}

fn as_json(lease: &Lease, now: Timestamp) -> Value {
    let mut value = json!({
        "run": lease.run,
        "runbook": lease.runbook,
        "step": lease.resource.step,
        "name": lease.resource.name(&lease.key),
        "resource": lease.key,
        "registered_at": lease.resource.registered_at,
        "expires_at": lease.resource.expires_at,
        "expired": lease.is_expired(now),
        "state": lease.state,
        "next": next(lease),
    });
    if let Some((at, by)) = &lease.removed {
        value["removed_at"] = json!(at);
        value["removed_by"] = json!(by);
    }
    value
}

/// Writes leases for people.
pub fn table(leases: &[&Lease]) {
    let now = clock::now();
    let names = leases.iter().map(|lease| lease.resource.name(&lease.key).chars().count());
    let steps = leases.iter().map(|lease| lease.resource.step.as_str().chars().count());
    let (name, step) = (names.max().unwrap_or(0).max(4), steps.max().unwrap_or(0).max(4));
    out!("{:22}  {:step$}  {:name$}  {:10}  {:14}  {:22}  NEXT", "RUN", "STEP", "NAME", "AGE", "EXPIRES", "STATE");
    for lease in leases {
        out!(
            "{:22}  {:step$}  {:name$}  {:10}  {:14}  {:22}  {}",
            lease.run.to_string(),
            lease.resource.step.to_string(),
            lease.resource.name(&lease.key),
            human_duration(clock::between(lease.resource.registered_at, now)),
            expires(lease, now),
            state(lease, now),
            next(lease),
        );
    }
}

fn expires(lease: &Lease, now: Timestamp) -> String {
    if lease.state == LeaseState::Removed {
        return "-".to_owned();
    }
    if lease.is_expired(now) {
        return format!("{} ago", human_duration(clock::between(lease.resource.expires_at, now)));
    }
    format!("in {}", human_duration(clock::between(now, lease.resource.expires_at)))
}

fn state(lease: &Lease, now: Timestamp) -> String {
    let words = match lease.state {
        LeaseState::Live => "its run goes on",
        LeaseState::Unfinished => "run not ended",
        LeaseState::LeftBehind => "left behind",
        LeaseState::Removed => "removed",
    };
    if lease.is_expired(now) { format!("{words}, expired") } else { words.to_owned() }
}

/// What to type about it.
fn next(lease: &Lease) -> String {
    let run = &lease.run;
    match lease.state {
        LeaseState::Live => format!("runbook show {run} --follow"),
        LeaseState::Unfinished => format!("runbook resume {run}"),
        LeaseState::LeftBehind => format!("runbook reap {run}"),
        LeaseState::Removed => lease.removed.as_ref().map(|(_, by)| format!("runbook show {by}")).unwrap_or_default(),
    }
}
