//! What a run proved of backups: those it restored and whose restored servers it checked.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::again::Again;
use super::{Failure, attest, wiring};
use crate::action::{BackupHandle, Mode};
use crate::actions::postgres::CheckOutput;
use crate::actions::postgres::logical::restore_dump::RestoreDumpOutput;
use crate::actions::postgres::recovery::recover::RecoverOutput;
use crate::actions::postgres::restore::restore_base::RestoreBaseOutput;
use crate::actions::postgres::session::content::FactsDepth;
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

/// Names what a run that has ended proved, or disproved.
pub fn proofs(plan: &BoundPlan, state: &RunState) -> Vec<Proven> {
    if !matches!(plan.mode, Mode::Real | Mode::Drill) {
        return Vec::new();
    }
    let mut staged: BTreeMap<String, BackupHandle> = BTreeMap::new();
    let mut reached: BTreeMap<String, String> = BTreeMap::new();
    for (_, step) in made(plan, state, "postgres.restore_base") {
        let output: Option<RestoreBaseOutput> = output(step);
        // Beside another program's backup there is no manifest that a proof could be of.
        let output = output.filter(|output| output.staged.backup.described.is_none());
        staged.extend(output.map(|output| (output.staged.database, output.staged.backup)));
    }
    for (_, step) in made(plan, state, "postgres.recover") {
        let output: Option<RecoverOutput> = output(step);
        reached.extend(output.map(|output| (output.instance.database, output.recovered_to_lsn)));
    }
    let recovered = staged.into_iter().filter_map(|(database, backup)| {
        let lsn = reached.remove(&database)?;
        Some((database, (backup, Some(lsn))))
    });
    let mut restored: BTreeMap<String, (BackupHandle, Option<String>)> = recovered.collect();
    for (_, step) in made(plan, state, "postgres.restore_dump") {
        let output: Option<RestoreDumpOutput> = output(step);
        let output = output.filter(|output| output.backup.described.is_none());
        restored.extend(output.map(|output| (output.instance.database, (output.backup, None))));
    }
    let mut found: BTreeMap<String, Proven> = BTreeMap::new();
    let mut unjudged: BTreeSet<String> = BTreeSet::new();
    for (id, step) in made(plan, state, "postgres.check") {
        let database = step.with.as_ref().and_then(|with| with.get("database")?.as_str()).unwrap_or_default();
        // What was not restored in this run proves nothing of the backup.
        let Some((backup, lsn)) = restored.get(database) else { continue };
        if gave_no_answer(step) {
            unjudged.insert(database.to_owned());
        }
        let (Some(verdict), Some(at)) = (verdict(step), step.ended_at) else { continue };
        let begun = || begin(plan, state, (database, backup, lsn.as_deref()));
        let proof = &mut found.entry(database.to_owned()).or_insert_with(begun).proof;
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
    found.retain(|database, proven| proven.proof.verdict == Verdict::Failed || !unjudged.contains(database));
    found.into_values().collect()
}

/// What a check says; `None` when it says nothing.
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
    is_unmade(step) || step.status.end() == Some(StepEnd::Failed) && !is_disproved(step)
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
