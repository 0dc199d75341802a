//! What a run saw of copies of backups: kept beside each when the run has ended, so that the next choice knows it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::site::Site;
use super::{Failure, attest, wiring};
use crate::action::{Mode, StoreError};
use crate::base::{RunId, Timestamp};
use crate::catalog::attest::{Sighting, Verdict, attested};
use crate::catalog::{CatalogError, load};
use crate::event::Outcome;
use crate::journal::{RunDir, RunStatus, RunSummary, Runs};
use crate::plan::BoundPlan;
use crate::state::RunState;
use crate::store::Opening;

/// How many runs are looked at to find damage that no store knows of.
const LOOK_BACK: usize = 200;

/// A damaged copy that a run here found and that its store does not know of.
#[derive(Debug, Clone, Serialize)]
pub struct Unkept {
    /// The run.
    pub run: RunId,
    /// The backup.
    pub backup: String,
    /// Its kind.
    pub kind: String,
    /// The store.
    pub store: String,
    /// When it was found.
    pub at: Timestamp,
}

/// Damage of a database's copies that only the history of runs on this machine knows, newest first. What a store was told
/// meanwhile it says itself; of one that gives no answer the history is believed.
///
/// # Errors
/// Fails when the folder of runs cannot be read.
pub fn unkept(runs: &Runs, database: &str, site: &Site) -> Result<Vec<Unkept>, Failure> {
    let ids = runs.ids().map_err(wiring::runs_failure)?;
    let mut last: BTreeMap<(String, String), (RunId, Sighting)> = BTreeMap::new();
    for id in ids.iter().take(LOOK_BACK) {
        for seen in seen_by(&runs.dir(id), database) {
            last.entry((seen.backup.store.clone(), seen.place().folder())).or_insert_with(|| (id.clone(), seen));
        }
    }
    let damaged = last.into_values().filter(|(_, seen)| seen.verification.verdict == Verdict::Failed);
    let mut found: Vec<Unkept> =
        damaged.filter(|(_, seen)| is_news(seen, site)).map(|(run, seen)| told(run, seen)).collect();
    found.sort_by_key(|one| std::cmp::Reverse(one.at));
    Ok(found)
}

fn told(run: RunId, seen: Sighting) -> Unkept {
    let Sighting { backup, verification, .. } = seen;
    Unkept { run, backup: backup.id, kind: backup.kind, store: backup.store, at: verification.at }
}

/// What a run that has ended saw of a database's copies, the deepest look first. One that met damage is no plain success.
fn seen_by(dir: &RunDir, database: &str) -> Vec<Sighting> {
    let is_plain = |status: &RunStatus| matches!(status, RunStatus::Finished { outcome: Outcome::Succeeded, .. });
    let Ok((plan, _)) = dir.plan() else { return Vec::new() };
    if plan.subject() != Some(database) || is_plain(&RunSummary::of(dir).status) {
        return Vec::new();
    }
    let state = dir.read().ok().and_then(|history| RunState::fold(&history.events).ok());
    let mut seen =
        state.filter(|state| state.finished.is_some()).map(|state| sightings(&plan, &state)).unwrap_or_default();
    seen.sort_by_key(|one| std::cmp::Reverse((one.verification.level, one.verification.at)));
    seen
}

/// Whether the copy is there still, and its store was not told of it, nor of a later look that takes it back.
fn is_news(seen: &Sighting, site: &Site) -> bool {
    let Ok(store) = site.read_store(&seen.backup.store) else { return true };
    let place = seen.place();
    let known = wiring::block_on(async {
        let backup = load(store.as_ref(), &place).await?;
        let attested = attested(store.as_ref(), &place, backup.digest).await?;
        Ok::<_, CatalogError>((backup.digest, attested.last_verified.map(|note| note.at)))
    });
    match known {
        Ok(Ok((digest, noted_at))) => {
            digest == seen.backup.manifest && noted_at.is_none_or(|at| at < seen.verification.at)
        }
        Ok(Err(CatalogError::Store(StoreError::NotFound { .. }) | CatalogError::Damaged { .. })) => false,
        Ok(Err(_)) | Err(_) => true,
    }
}

impl Unkept {
    /// Says it in words; `keep` is the command that tells the store.
    pub fn words(&self, keep: &str) -> String {
        let Self { run, backup, store, .. } = self;
        format!(
            "run {run} found the copy of backup `{backup}` in store `{store}` damaged, which only the history of runs here \
             knows: {keep} tells the store"
        )
    }
}

/// What a run saw last of each copy, at each level: who looked at less takes nothing back.
pub fn sightings(plan: &BoundPlan, state: &RunState) -> Vec<Sighting> {
    if !matches!(plan.mode, Mode::Real | Mode::Drill) {
        return Vec::new();
    }
    let notes = state.steps.values().flat_map(|step| &step.notes);
    let mut all: Vec<Sighting> = notes.filter_map(|(_, _, data)| Sighting::read(data)).collect();
    all.sort_by_key(|one| one.verification.at);
    let by_copy = all.into_iter().map(|one| {
        let copy = (one.backup.store.clone(), one.place().folder());
        ((copy, one.verification.level), one)
    });
    by_copy.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// What it says of a copy, in words.
pub fn words(sighting: &Sighting) -> String {
    let (id, store) = (&sighting.backup.id, &sighting.backup.store);
    match sighting.verification.verdict {
        Verdict::Passed => format!("backup `{id}` holds in `{store}`"),
        Verdict::Failed => format!("backup `{id}` is damaged in `{store}`"),
    }
}

/// Writes what was seen beside the copy; tells whether that is still there.
pub fn keep(sighting: &Sighting, place: &Opening<'_>) -> Result<bool, String> {
    let store = place.open_existing().map_err(|error| error.to_string())?;
    let kept = wiring::block_on(async { sighting.keep(&*store).await });
    kept.map_err(|failure: Failure| failure.message)?.map_err(|error: CatalogError| attest::chain(&error))
}

/// Keeps what a run saw, where the stores of its environment may be written; says what is left for somebody to do.
pub fn keep_all(plan: &BoundPlan, state: &RunState) {
    for seen in sightings(plan, state) {
        let store = &seen.backup.store;
        let kept = match plan.inventory.stores.get(store) {
            Some(entry) if entry.read_only => Err("it is read-only in this environment".to_owned()),
            Some(entry) => attest::opening(plan, store, entry).and_then(|place| keep(&seen, &place)),
            None => Err("this environment has no such store".to_owned()),
        };
        match kept {
            Ok(true) => tell!("{}: that is kept beside it, and the next choice knows it", words(&seen)),
            Ok(false) => {}
            Err(why) => {
                tell!("warning: {}, which cannot be kept there: {why}", words(&seen));
                tell!(
                    "  help: `runbook backups prove {}` keeps it, in an environment that may write there; `runbook status` and \
                     `backups health` here tell of it until then",
                    plan.run
                );
            }
        }
    }
}
