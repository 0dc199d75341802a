//! What a dry run proved of each step.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::rehearsal::{Rehearsed, Shown};
use crate::action::{Access, ActionError, EffectClass, Findings, Target};
use crate::base::StepId;
use crate::engine::Preflight;
use crate::event::{StepFinding, Verdict};
use crate::language::runbook::Objectives;
use crate::plan::{BoundPlan, Forecast, PlannedStep, Section, StepKind};

/// What is known of a step.
#[derive(Debug, Clone, Serialize)]
pub struct Proof {
    /// The step.
    pub id: StepId,
    /// What proved it: 0 the file alone, 1 its check, 2 that it was made.
    pub level: u8,
    /// Whether it would fail now.
    pub refused: bool,
    /// Why no more is proved; empty when nothing is missing.
    pub reason: String,
    /// What its check found.
    pub findings: Vec<StepFinding>,
}

fn is_refused(result: &Result<Findings, ActionError>) -> bool {
    result.as_ref().map_or(true, Findings::refused)
}

/// Steps that cannot be made as things are: refused by a check, or without a secret.
pub fn refused(plan: &BoundPlan, checked: &[Preflight], missing: &[(String, ActionError)]) -> BTreeSet<StepId> {
    let by_check = checked.iter().filter(|(_, result)| is_refused(result)).map(|(id, _)| id.clone());
    let lacks = |step: &&PlannedStep| step.secrets.iter().any(|name| missing.iter().any(|(m, _)| m == name));
    by_check.chain(plan.steps.iter().filter(lacks).map(|step| step.id.clone())).collect()
}

/// What is known of each step, in the order of the plan.
pub fn proofs(plan: &BoundPlan, checked: &[Preflight], rehearsed: &Rehearsed) -> Vec<Proof> {
    let of = |step: &PlannedStep| proof(step, checked.iter().find(|(id, _)| *id == step.id), rehearsed);
    let mut proofs: Vec<Proof> = plan.steps.iter().map(of).collect();
    // Of a sub-runbook no more is proved than of its own steps; inner ones stand behind those they belong to.
    for at in (0..plan.steps.len()).rev().filter(|at| plan.steps[*at].kind == StepKind::Runbook) {
        let id = &plan.steps[at].id;
        let members = plan.steps.iter().zip(&proofs).filter(|(step, _)| step.group.as_ref() == Some(id));
        if let Some(level) = members.map(|(_, proof)| proof.level).min() {
            proofs[at].level = level;
            "the least of its own steps".clone_into(&mut proofs[at].reason);
        }
    }
    proofs
}

fn proof(step: &PlannedStep, checked: Option<&Preflight>, rehearsed: &Rehearsed) -> Proof {
    let mut proof = Proof {
        id: step.id.clone(),
        level: u8::from(checked.is_some_and(|(_, result)| has_looked(result))),
        refused: checked.is_some_and(|(_, result)| is_refused(result)),
        reason: String::new(),
        findings: checked.map(findings).unwrap_or_default(),
    };
    match rehearsed.steps.get(&step.id) {
        Some(Shown::Proved) => {
            proof.level = 2;
            proof.findings.retain(|finding| finding.verdict != Verdict::Pending);
        }
        Some(Shown::WouldSkip) => {
            proof.level = 2;
            proof.reason = "its condition is false now: it would be skipped".to_owned();
        }
        Some(Shown::Refused(why)) => {
            proof.refused = true;
            proof.findings.push(StepFinding {
                verdict: Verdict::Refuse,
                message: why.clone(),
                help: None,
                wait_ms: None,
            });
        }
        Some(Shown::Unproved(why)) => proof.reason.clone_from(why),
        None if step.section == Section::Undo => proof.reason = "it runs only when its step is undone".to_owned(),
        None => proof.reason = "level 2 makes steps; it was not asked for".to_owned(),
    }
    proof
}

/// How long steps must wait for something archived, in milliseconds, as their checks found.
pub fn waits(proofs: &[Proof]) -> BTreeMap<StepId, u64> {
    let wait = |proof: &Proof| Some((proof.id.clone(), proof.findings.iter().filter_map(|one| one.wait_ms).max()?));
    proofs.iter().filter_map(wait).collect()
}

/// Whether a check judged anything. One that found everything pending proved nothing.
fn has_looked(result: &Result<Findings, ActionError>) -> bool {
    match result {
        Ok(findings) => findings.0.is_empty() || findings.0.iter().any(|finding| finding.verdict != Verdict::Pending),
        Err(_) => true,
    }
}

fn findings(result: &Preflight) -> Vec<StepFinding> {
    match &result.1 {
        Ok(findings) => findings.0.clone(),
        Err(error) => {
            let info = error.info();
            let message =
                std::iter::once(info.message.clone()).chain(info.causes.clone()).collect::<Vec<_>>().join(": ");
            vec![StepFinding { verdict: Verdict::Refuse, message, help: info.help.clone(), wait_ms: None }]
        }
    }
}

/// What a dry run found out, and what `restore --json` tells before it changes anything.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "Result of a dry run")]
struct DryRun<'a> {
    /// The runbook's name.
    name: &'a str,
    /// The environment's name.
    environment: &'a str,
    /// The parameters.
    params: &'a BTreeMap<String, Value>,
    /// Secrets that have no value now.
    missing_secrets: Vec<MissingSecret<'a>>,
    /// Every step of the plan, in its order.
    steps: Vec<StepProof<'a>>,
    /// The steps that nothing but the file speaks for.
    unproved: Vec<&'a StepId>,
    /// What the runbook promises.
    objectives: Objectives,
    /// How long it will take, by past runs.
    forecast: &'a Forecast,
    /// Of `restore` where WAL of ours is replayed: what `pitr --json` tells, or `why` that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery: Option<Value>,
    /// Of `restore`: the command that carries it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A secret that cannot be had.
#[derive(Serialize, JsonSchema)]
struct MissingSecret<'a> {
    /// Its name in the inventory.
    name: &'a str,
    /// Why.
    error: String,
}

/// A step and what proved it.
#[derive(Serialize, JsonSchema)]
struct StepProof<'a> {
    /// The step.
    id: &'a StepId,
    /// Its action.
    uses: &'a str,
    /// What proved it: 0 the file alone, 1 its check, 2 that it was made.
    level: u8,
    /// Whether it would fail now.
    refused: bool,
    /// Why no more is proved; empty when nothing is missing.
    reason: &'a str,
    /// The most it does to the world.
    effect: EffectClass,
    /// What it touches, and how.
    targets: &'a [(Access, Target)],
    /// What its check found.
    findings: &'a [StepFinding],
}

/// The JSON schema of the document.
pub fn schema() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<DryRun<'_>>().to_value()
}

/// Everything, for machines.
pub fn document(
    plan: &BoundPlan,
    proofs: &[Proof],
    missing: &[(String, ActionError)],
    forecast: &Forecast,
) -> Map<String, Value> {
    let steps = plan.steps.iter().zip(proofs).map(|(step, proof)| StepProof {
        id: &step.id,
        uses: &step.uses,
        level: proof.level,
        refused: proof.refused,
        reason: &proof.reason,
        effect: step.effects.class,
        targets: &step.effects.targets,
        findings: &proof.findings,
    });
    let secrets = missing.iter().map(|(name, error)| MissingSecret { name, error: error.to_string() });
    let told = DryRun {
        name: &plan.name,
        environment: &plan.environment,
        params: &plan.params,
        missing_secrets: secrets.collect(),
        steps: steps.collect(),
        unproved: proofs.iter().filter(|proof| proof.level == 0).map(|proof| &proof.id).collect(),
        objectives: plan.objectives,
        forecast,
        recovery: None,
        next: None,
    };
    match json!(told) {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

/// A name as files write it.
pub fn name_of(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
