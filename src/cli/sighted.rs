//! What a run saw of copies of backups: kept beside each when the run has ended, so that the next choice knows it.

use std::collections::BTreeMap;

use super::{Failure, attest, wiring};
use crate::action::Mode;
use crate::catalog::CatalogError;
use crate::catalog::attest::{Sighting, Verdict};
use crate::plan::BoundPlan;
use crate::state::RunState;
use crate::store::Opening;

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
                tell!("  help: `runbook backups prove {}` keeps it, in an environment that may write there", plan.run);
            }
        }
    }
}
