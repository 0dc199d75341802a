//! What a run saw of copies of backups: kept beside each when the run has ended, so that the next choice knows it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::site::Site;
use super::{Failure, attest, wiring};
use crate::action::{Mode, StoreError};
use crate::base::{Digest, RunId, Timestamp};
use crate::catalog::attest::{Sighting, Verdict, Verification, attested};
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
    let looked_at = || ids.iter().take(LOOK_BACK);
    let all = |which: &dyn Fn(&RunDir) -> bool| -> Vec<(RunId, Sighting)> {
        let dirs = looked_at().map(|id| (id, runs.dir(id))).filter(|(_, dir)| which(dir));
        dirs.flat_map(|(id, dir)| seen_by(&dir, database).into_iter().map(|seen| (id.clone(), seen))).collect()
    };
    let mut seen = all(&|dir| !is_plain_success(dir));
    // One that met damage is no plain success, but one of those may have read the same copy whole since.
    if seen.iter().any(|(_, one)| one.verification.verdict == Verdict::Failed) {
        seen.extend(all(&is_plain_success));
    }
    let mut found: Vec<Unkept> =
        damaged(seen).into_iter().filter(|(_, seen)| is_news(seen, site)).map(|(run, seen)| told(run, seen)).collect();
    found.sort_by_key(|one| std::cmp::Reverse(one.at));
    Ok(found)
}

/// Of each copy the newest failure that no later look of at least its level took back: what its store would say of it, were
/// it told all of them.
fn damaged(mut seen: Vec<(RunId, Sighting)>) -> Vec<(RunId, Sighting)> {
    seen.sort_by_key(|(_, one)| one.verification.at);
    let mut standing: BTreeMap<(String, String, Digest), Vec<(RunId, Sighting)>> = BTreeMap::new();
    for (run, one) in seen {
        let failures = standing.entry(copy_of(&one)).or_default();
        match one.verification.verdict {
            Verdict::Failed => failures.push((run, one)),
            Verdict::Passed => failures.retain(|(_, failed)| failed.verification.level > one.verification.level),
        }
    }
    standing.into_values().filter_map(|mut failures| failures.pop()).collect()
}

/// What tells one copy from another: its store, its place there, and what lies there.
fn copy_of(seen: &Sighting) -> (String, String, Digest) {
    (seen.backup.store.clone(), seen.place().folder(), seen.backup.manifest)
}

fn told(run: RunId, seen: Sighting) -> Unkept {
    let Sighting { backup, verification, .. } = seen;
    Unkept { run, backup: backup.id, kind: backup.kind, store: backup.store, at: verification.at }
}

fn is_plain_success(dir: &RunDir) -> bool {
    matches!(RunSummary::of(dir).status, RunStatus::Finished { outcome: Outcome::Succeeded, .. })
}

/// What a run that has ended saw of a database's copies.
fn seen_by(dir: &RunDir, database: &str) -> Vec<Sighting> {
    let Ok((plan, _)) = dir.plan() else { return Vec::new() };
    if plan.subject() != Some(database) {
        return Vec::new();
    }
    let state = dir.read().ok().and_then(|history| RunState::fold(&history.events).ok());
    state.filter(|state| state.finished.is_some()).map(|state| sightings(&plan, &state)).unwrap_or_default()
}

/// Whether the copy is there still, and its store was not told of it, nor of a later look that takes it back. A store that
/// this environment does not have is another's to ask.
fn is_news(seen: &Sighting, site: &Site) -> bool {
    if !site.inventory.stores.contains_key(&seen.backup.store) {
        return false;
    }
    let Ok(store) = site.read_store(&seen.backup.store) else { return true };
    let place = seen.place();
    let known = wiring::block_on(async {
        let backup = load(store.as_ref(), &place).await?;
        let attested = attested(store.as_ref(), &place, backup.digest).await?;
        Ok::<_, CatalogError>((backup.digest, attested.last_verified))
    });
    let is_later = |note: Verification| {
        let says_less = note.verdict == Verdict::Passed && note.level < seen.verification.level;
        note.at >= seen.verification.at && !says_less
    };
    match known {
        Ok(Ok((digest, noted))) => digest == seen.backup.manifest && !noted.is_some_and(is_later),
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
                let until = match seen.verification.verdict {
                    Verdict::Failed => "; `runbook status` and `backups health` here tell of it until then",
                    Verdict::Passed => "",
                };
                let prove = format!("runbook backups prove {}", plan.run);
                tell!("  help: `{prove}` keeps it, in an environment that may write there{until}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::attest::{Attested, Level, Verification};
    use crate::catalog::{Backup, KIND_POSTGRES_BASE, Manifest};

    const FAILED: Verdict = Verdict::Failed;
    const PASSED: Verdict = Verdict::Passed;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    /// What a run saw of the copy of `b1` in a store.
    fn seen(run: u32, store: &str, (at, level, verdict): (i64, Level, Verdict)) -> (RunId, Sighting) {
        let manifest = Manifest::new("b1".to_owned(), KIND_POSTGRES_BASE, "main", (second(0), second(0)));
        let digest = Digest::of(b"manifest");
        let (store, prefix) = (store.to_owned(), "main".to_owned());
        let backup = Backup { store, prefix, manifest, digest, attested: Attested::default(), missing: Vec::new() };
        let verification = Verification {
            format: 1,
            manifest: digest,
            level,
            at: second(at),
            by: format!("run {run}"),
            read_bytes: 0,
            verdict,
            faults: Vec::new(),
        };
        let run = format!("20260128-14300{run}-3fa9c1").parse().expect("an id");
        (run, Sighting::of(&backup, verification))
    }

    fn found(seen: Vec<(RunId, Sighting)>) -> Vec<(String, i64)> {
        damaged(seen).into_iter().map(|(_, one)| (one.backup.store, one.verification.at.as_second())).collect()
    }

    #[test]
    fn a_later_look_of_at_least_its_level_takes_damage_back_whatever_run_it_was_in() {
        let met = || seen(1, "a", (10, Level::Digests, FAILED));
        assert_eq!(found(vec![met()]), [("a".to_owned(), 10)]);
        assert!(
            found(vec![seen(2, "a", (20, Level::Digests, PASSED)), met()]).is_empty(),
            "newest first, as runs are listed"
        );
        assert!(found(vec![met(), seen(2, "a", (20, Level::Content, PASSED))]).is_empty());
        assert_eq!(found(vec![met(), seen(2, "a", (20, Level::Sizes, PASSED))]), [("a".to_owned(), 10)]);
        assert_eq!(found(vec![met(), seen(2, "b", (20, Level::Content, PASSED))]), [("a".to_owned(), 10)]);
    }

    #[test]
    fn damage_that_is_met_behind_a_deeper_look_counts_in_the_same_run_too() {
        let whole = seen(1, "a", (10, Level::Content, PASSED));
        assert_eq!(found(vec![whole.clone(), seen(1, "a", (11, Level::Digests, FAILED))]), [("a".to_owned(), 11)]);
        let twice = vec![whole, seen(2, "a", (12, Level::Digests, FAILED)), seen(1, "a", (11, Level::Digests, FAILED))];
        assert_eq!(found(twice), [("a".to_owned(), 12)], "told once, as of the last");
    }
}
