//! What a run proved of backups: those it restored and whose restored servers it checked.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::again::Again;
use super::{Failure, attest, wiring};
use crate::action::{BackupHandle, InstanceHandle, Mode};
use crate::actions::postgres::CheckOutput;
use crate::actions::postgres::logical::restore_dump::RestoreDumpOutput;
use crate::actions::postgres::recovery::recover::RecoverOutput;
use crate::actions::postgres::restore::restore_base::RestoreBaseOutput;
use crate::actions::postgres::session::content::FactsDepth;
use crate::base::Timestamp;
use crate::base::clock::between;
use crate::catalog::attest::{Proof, Verdict, prove};
use crate::catalog::{BackupPlace, CatalogError};
use crate::journal::SignKey;
use crate::plan::BoundPlan;
use crate::state::{RunState, StepEnd, StepState, StepStatus};
use crate::store::Opening;

/// A proof, and the backup it is of.
pub struct Proven {
    /// The backup.
    pub backup: BackupHandle,
    /// Where it lies in its store.
    pub place: BackupPlace,
    /// The proof.
    pub proof: Proof,
}

/// A restored server, and the backup whose data it has.
struct Restored {
    backup: BackupHandle,
    lsn: Option<String>,
    instance: InstanceHandle,
}

/// What a database's server had in it over a run: from each moment on what a restore gave, or nothing that is one backup's.
type History = Vec<(Timestamp, Option<Restored>)>;

/// Names what a run that has ended proved, or disproved, of each backup, in the order of the last checks. A check counts for the
/// backup whose data its own server had while it looked: neither for one that was restored later, nor for another server, nor
/// once rows from elsewhere had been brought in.
pub fn proofs(plan: &BoundPlan, state: &RunState) -> Vec<Proven> {
    if !matches!(plan.mode, Mode::Real | Mode::Drill) {
        return Vec::new();
    }
    let histories = histories(plan, state);
    let mut found: Vec<Proven> = Vec::new();
    let mut unjudged: Vec<BackupHandle> = Vec::new();
    for (id, step) in made(plan, state, "postgres.check") {
        let database = database_of(step);
        let Some(began) = step.attempts.last().map(|attempt| attempt.started_at) else { continue };
        let standing = histories.get(database).and_then(|all| all.iter().rev().find(|(from, _)| *from <= began));
        // What was not restored in this run proves nothing of the backup.
        let Some((_, Some(restored))) = standing else { continue };
        if !looked_at(step, &restored.instance) {
            continue;
        }
        let Restored { backup, lsn, .. } = restored;
        if gave_no_answer(step) {
            unjudged.push(backup.clone());
        }
        let (Some(verdict), Some(at)) = (verdict(step), step.ended_at) else { continue };
        let known = found.iter().position(|proven| proven.backup == *backup);
        let at_place = known.unwrap_or_else(|| {
            found.push(begin(plan, state, (database, backup, lsn.as_deref())));
            found.len() - 1
        });
        let proof = &mut found[at_place].proof;
        proof.at = proof.at.max(at);
        proof.took_ms =
            state.started_at.map_or(0, |begun| u64::try_from(between(begun, proof.at).as_millis()).unwrap_or(u64::MAX));
        proof.checks.push(id);
        if verdict == Verdict::Failed {
            proof.verdict = Verdict::Failed;
        }
        // Of several checks the deepest facts are kept.
        let deep = proof.facts.as_ref().is_some_and(|kept| FactsDepth::Hashes.is_in(kept));
        if let Some(facts) = output::<CheckOutput>(step).and_then(|output| output.facts).filter(|_| !deep) {
            *proof = proof.clone().with_facts(facts);
        }
    }
    // A check that gave no answer proves nothing, and leaves what the others proved in doubt; what one disproved stays so.
    found.retain(|proven| proven.proof.verdict == Verdict::Failed || !unjudged.contains(&proven.backup));
    found.sort_by_key(|proven| proven.proof.at);
    found
}

/// What each database's server had in it over the run.
fn histories(plan: &BoundPlan, state: &RunState) -> BTreeMap<String, History> {
    let mut staged: BTreeMap<String, Vec<(Timestamp, BackupHandle)>> = BTreeMap::new();
    for (_, step) in made(plan, state, "postgres.restore_base") {
        let output: Option<RestoreBaseOutput> = output(step);
        if let (Some(RestoreBaseOutput { staged: handle, .. }), Some(at)) = (output, step.ended_at) {
            staged.entry(handle.database).or_default().push((at, handle.backup));
        }
    }
    let mut all: BTreeMap<String, History> = BTreeMap::new();
    let mut begin = |step: &StepState| {
        let began = step.attempts.iter().map(|attempt| (attempt.started_at, None));
        all.entry(database_of(step).to_owned()).or_default().extend(began);
    };
    for uses in ["postgres.recover", "postgres.restore_dump"] {
        made(plan, state, uses).for_each(|(_, step)| begin(step));
    }
    made(plan, state, "postgres.restore_table").filter(|(_, step)| brings_back(step)).for_each(|(_, step)| begin(step));
    for (_, step) in made(plan, state, "postgres.recover") {
        let (Some(output), Some(at)) = (output::<RecoverOutput>(step), step.ended_at) else { continue };
        let database = output.instance.database.clone();
        let backups = staged.get(&database).into_iter().flatten();
        let Some((_, backup)) = backups.filter(|(staged_at, _)| *staged_at <= at).max_by_key(|(at, _)| *at) else {
            continue;
        };
        let restored =
            Restored { backup: backup.clone(), lsn: Some(output.recovered_to_lsn), instance: output.instance };
        all.entry(database).or_default().push((at, Some(restored)));
    }
    for (_, step) in made(plan, state, "postgres.restore_dump") {
        let (Some(output), Some(at)) = (output::<RestoreDumpOutput>(step), step.ended_at) else { continue };
        let database = output.instance.database.clone();
        let restored = Restored { backup: output.backup, lsn: None, instance: output.instance };
        all.entry(database).or_default().push((at, Some(restored)));
    }
    for history in all.values_mut() {
        // Beside another program's backup there is no manifest that a proof could be of.
        for (_, restored) in history.iter_mut() {
            restored.take_if(|restored| restored.backup.described.is_some());
        }
        history.sort_by_key(|(at, _)| *at);
    }
    all
}

/// The database of a step's arguments.
fn database_of(step: &StepState) -> &str {
    step.with.as_ref().and_then(|with| with.get("database")?.as_str()).unwrap_or_default()
}

/// Whether a step of `postgres.restore_table` writes.
fn brings_back(step: &StepState) -> bool {
    step.with.as_ref().and_then(|with| with.get("mode")?.as_str()).is_some_and(|mode| mode != "compare")
}

/// Whether a check looked at a restored server: the one that it names, else the database's own.
fn looked_at(step: &StepState, restored: &InstanceHandle) -> bool {
    match step.with.as_ref().and_then(|with| with.get("instance")).filter(|instance| !instance.is_null()) {
        None => restored.side.is_none(),
        Some(named) => serde_json::from_value::<InstanceHandle>(named.clone())
            .is_ok_and(|named| (&named.pgdata, &named.side) == (&restored.pgdata, &restored.side)),
    }
}

/// What a check says; `None` when it says nothing. What a person passed over is no word of ours, neither way: a condition may be
/// false of an old state.
fn verdict(step: &StepState) -> Option<Verdict> {
    match step.status.end()? {
        StepEnd::Succeeded if !step.marked_done && !is_unmade(step) => Some(Verdict::Passed),
        StepEnd::Failed if is_disproved(step) => Some(Verdict::Failed),
        StepEnd::Succeeded | StepEnd::Failed | StepEnd::Skipped | StepEnd::Cancelled | StepEnd::Unknown => None,
    }
}

/// Whether a check was asked and could not say anything: the server was lost, there is nothing to compare with, or what it
/// takes is not installed.
fn gave_no_answer(step: &StepState) -> bool {
    let is_passed_over = step.marked_done || step.status.end() == Some(StepEnd::Skipped);
    is_unmade(step) || is_passed_over || step.status.end() == Some(StepEnd::Failed) && !is_disproved(step)
}

/// Whether it ended well, and says that something could not be put to the test.
fn is_unmade(step: &StepState) -> bool {
    output::<CheckOutput>(step).is_some_and(|output| !output.unproven.is_empty())
}

/// Whether its last attempt found something wrong, by the results that it noted.
fn is_disproved(step: &StepState) -> bool {
    let since = step.attempts.last().map(|attempt| attempt.started_at);
    let notes = step.notes.iter().filter(|(at, ..)| Some(*at) >= since);
    let mut results = notes.filter_map(|(_, _, data)| data.get("checks")?.as_array()).flatten();
    results.any(|result| result.get("passed") == Some(&Value::Bool(false)) && result.get("unproven").is_none())
}

/// A proof before its first check.
fn begin(plan: &BoundPlan, state: &RunState, (database, backup, lsn): (&str, &BackupHandle, Option<&str>)) -> Proven {
    let prefix = plan.inventory.databases.get(database).and_then(|entry| entry.prefix.as_deref()).unwrap_or(database);
    let proof = Proof {
        format: 1,
        backup: backup.id.clone(),
        manifest: backup.manifest,
        run: plan.run.to_string(),
        mode: plan.mode.as_str().to_owned(),
        environment: plan.environment.clone(),
        at: state.started_at.unwrap_or_default(),
        took_ms: 0,
        reached_lsn: lsn.map(str::to_owned),
        checks: Vec::new(),
        verdict: Verdict::Passed,
        facts: None,
    };
    let place = BackupPlace::new(prefix, (&backup.kind, backup.tier.as_deref()), &backup.id);
    Proven { backup: backup.clone(), place, proof }
}

/// The steps of one action, by id, that something happened to.
fn made<'a>(plan: &'a BoundPlan, state: &'a RunState, uses: &'a str) -> impl Iterator<Item = (String, &'a StepState)> {
    let steps = plan.steps.iter().filter(move |step| step.uses == uses);
    steps.filter_map(|step| Some((step.id.to_string(), state.steps.get(&step.id)?)))
}

fn output<T: DeserializeOwned>(step: &StepState) -> Option<T> {
    let output = step.output.clone().filter(|_| step.status == StepStatus::Succeeded && !step.marked_done);
    output.and_then(|output| serde_json::from_value(output).ok())
}

/// Writes a proof beside its manifest, signed where a key is configured.
pub fn keep(proven: &Proven, place: &Opening<'_>, key: Option<&SignKey>) -> Result<(), String> {
    let signature = key.map(|key| key.sign(&proven.proof.text())).transpose().map_err(|error| error.to_string())?;
    let store = place.open_existing().map_err(|error| error.to_string())?;
    let kept = wiring::block_on(async { prove(&*store, &proven.place, &proven.proof, signature.as_deref()).await });
    kept.map_err(|failure: Failure| failure.message)?.map_err(|error: CatalogError| attest::chain(&error))
}

/// Keeps what a run proved, where the stores of its environment may be written; says what is left for later.
pub fn keep_all(plan: &BoundPlan, state: &RunState) {
    let proofs = proofs(plan, state);
    if proofs.is_empty() {
        return;
    }
    let later = Again::of_plan(plan).line(["backups", "prove", &proofs[0].proof.run]);
    let later = format!("`{later}` keeps it");
    let key = match attest::key_path(&plan.inventory.audit).map(|path| SignKey::open(&path)).transpose() {
        Ok(key) => key,
        Err(error) => {
            tell!("warning: the restore proof is not kept, since it cannot be signed: {}", attest::chain(&error));
            tell!("  help: {}; then {later}", error.help());
            return;
        }
    };
    for proven in &proofs {
        let (id, store) = (&proven.backup.id, &proven.backup.store);
        let entry = plan.inventory.stores.get(store);
        let kept = match entry {
            Some(entry) if entry.read_only => Err("it is read-only in this environment".to_owned()),
            Some(entry) => attest::opening(plan, store, entry).and_then(|place| keep(proven, &place, key.as_ref())),
            None => Err("this environment has no such store".to_owned()),
        };
        match kept {
            Ok(()) => tell!("a restore proof of backup `{id}` is kept in `{store}`"),
            Err(why) => {
                tell!("note: the restore proof of backup `{id}` is not kept in `{store}`: {why}");
                tell!("  help: {later} there; `runbook status` believes it until then");
            }
        }
    }
}
