//! The plans of a run: the one it was started with, and those that `resume --with` put in its place.
//!
//! The journal says which of them counts: each `PlanAmended` names a file of the run's folder and its digest. A file
//! that no event names was written by an engine that died before it could say so, and counts for nothing.

use std::collections::BTreeSet;
use std::path::Path;

use super::durable;
use super::reader::{self, PLAN_FILE};
use crate::base::Digest;
use crate::event::{Event, EventKind};
use crate::plan::BoundPlan;
use crate::port::JournalError;

/// The number of the first plan that replaces the one of the start.
const FIRST: u32 = 2;

/// The name of a run's nth plan.
fn name(number: u32) -> String {
    format!("plan-{number}.json")
}

/// Reads the plan that a run follows now, with its digest.
///
/// # Errors
/// Fails when it cannot be read, is not the one the journal names, or is of a version this one does not know.
pub(super) fn current(dir: &Path) -> Result<(BoundPlan, Digest), JournalError> {
    // Almost no run was ever amended, and those need no look into the journal.
    if !dir.join(name(FIRST)).exists() {
        return read(dir, PLAN_FILE);
    }
    let history = reader::read(dir)?;
    let Some((file, digest)) = amendments(&history.events).last() else { return read(dir, PLAN_FILE) };
    verify(dir, file, digest)
}

/// The digest of the plan of the start.
///
/// # Errors
/// Fails when it cannot be read or is of a version this one does not know.
pub(super) fn first(dir: &Path) -> Result<Digest, JournalError> {
    read(dir, PLAN_FILE).map(|(_, digest)| digest)
}

/// The plans that a run was amended to, in order: file and digest.
pub(super) fn amendments(events: &[Event]) -> impl Iterator<Item = (&str, Digest)> {
    events.iter().filter_map(|event| match_amended(&event.kind))
}

fn match_amended(kind: &EventKind) -> Option<(&str, Digest)> {
    if let EventKind::PlanAmended { file, plan, .. } = kind { Some((file, *plan)) } else { None }
}

/// The locks of a run that was amended; `None` where one of its later plans cannot be read, or is there and the journal does
/// not name it.
pub(super) fn locks(dir: &Path, events: &[Event], of_start: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    let mut all = of_start.clone();
    let mut named = 0;
    for (file, digest) in amendments(events) {
        all.extend(verify(dir, file, digest).ok()?.0.locks);
        named += 1;
    }
    (named > 0 || !dir.join(name(FIRST)).exists()).then_some(all)
}

/// Reads an amended plan and holds it against the digest that the journal names.
pub(super) fn verify(dir: &Path, file: &str, digest: Digest) -> Result<(BoundPlan, Digest), JournalError> {
    let bad = |what: &str| JournalError::Plan { path: dir.join(file), what: what.to_owned() };
    let number = file.strip_prefix("plan-").and_then(|rest| rest.strip_suffix(".json"));
    if number.and_then(|number| number.parse::<u32>().ok()).is_none() {
        return Err(bad("it is not the name of a plan"));
    }
    let (plan, found) = read(dir, file)?;
    if found != digest {
        return Err(bad("it is not the plan that the journal names"));
    }
    Ok((plan, found))
}

/// Puts another plan into a run's folder, durably, and gives its file and digest. It counts once the journal says so.
///
/// # Errors
/// Fails when it cannot be written.
pub(super) fn put(dir: &Path, plan: &BoundPlan) -> Result<(String, Digest), JournalError> {
    let unwritable = |source| JournalError::Write { run: plan.run.clone(), source };
    let bytes = serde_json::to_vec_pretty(plan).map_err(|error| unwritable(error.into()))?;
    let file = (FIRST..).map(name).find(|name| !dir.join(name).exists()).unwrap_or_default();
    durable::put_file(&dir.join(&file), &bytes).map_err(unwritable)?;
    Ok((file, Digest::of(&bytes)))
}

fn read(dir: &Path, file: &str) -> Result<(BoundPlan, Digest), JournalError> {
    let path = dir.join(file);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) => return Err(JournalError::Read { path, source }),
    };
    let plan = serde_json::from_slice(&bytes);
    plan.map(|plan| (plan, Digest::of(&bytes))).map_err(|error| JournalError::Plan { path, what: error.to_string() })
}
