//! The frozen plan of one run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::{Effects, Mode};
use crate::base::{Digest, RunId, StepId, Timestamp};
use crate::event::Actor;
use crate::language::inventory::Inventory;
use crate::language::runbook::{Objectives, OnFailure, OnUnknown, Phase, Retry};

/// Everything one run will do, as `plan.json` keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoundPlan {
    /// The format of this file.
    pub format: u32,
    /// The run.
    pub run: RunId,
    /// The runbook's name.
    pub name: String,
    /// A sentence.
    pub description: String,
    /// Who answers for it.
    pub owner: String,
    /// Evidence tags.
    pub controls: Vec<String>,
    /// Real, drill or dry run.
    pub mode: Mode,
    /// The environment's name.
    pub environment: String,
    /// Whether that environment is protected.
    pub protected: bool,
    /// Who started it.
    pub actor: Actor,
    /// When it was bound; `run.started_at` in templates.
    pub started_at: Timestamp,
    /// When service was lost; `None` when the runbook does not declare it (then no RTO verdict is given).
    pub incident_at: Option<Timestamp>,
    /// Recovery objectives.
    pub objectives: Objectives,
    /// Phases in order.
    pub phases: Vec<Phase>,
    /// Values of the parameters; an absent optional one is null.
    pub params: BTreeMap<String, Value>,
    /// Values of the variables.
    pub vars: BTreeMap<String, Value>,
    /// The inventory as this environment sees it.
    pub inventory: Inventory,
    /// The run's own folder for scratch files, removed at the end.
    pub scratch: PathBuf,
    /// All steps, body first, each after every step it needs in the order written.
    pub steps: Vec<PlannedStep>,
    /// How many steps may run at once.
    pub limits: Limits,
    /// Names locked for the whole run.
    pub locks: Vec<String>,
    /// The files it was made of: name as shown, digest, text. The runbook itself comes first.
    pub sources: Vec<PlanSource>,
}

/// A file a plan was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSource {
    /// The path as the user wrote it.
    pub name: String,
    /// SHA-256 of the text.
    pub digest: Digest,
    /// The text.
    pub text: String,
}

/// Bounds of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How many steps may run at once, at least 1.
    pub max_parallel: usize,
}

/// Which part of the runbook a step belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// `steps`.
    Body,
    /// `finally`: starts when the body is settled.
    Finally,
}

/// What an edge asks of the step before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strictness {
    /// Any end.
    Any,
    /// Succeeded, skipped, or failed and tolerated: the implicit edge to the step above.
    Settled,
    /// Success.
    Success,
}

/// An edge of the graph: the step waits for `from`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The step before.
    pub from: StepId,
    /// What it must have come to.
    pub strictness: Strictness,
}

/// One step, decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// The id.
    pub id: StepId,
    /// What people call it; the id when unnamed.
    pub name: String,
    /// A sentence.
    pub description: String,
    /// Body or finally.
    pub section: Section,
    /// Its phase.
    pub phase: Option<String>,
    /// The action.
    pub uses: String,
    /// The arguments; strings with `{{` are templates.
    pub with: Value,
    /// The steps it waits for.
    pub needs: Vec<Edge>,
    /// A bare expression; false = skipped.
    pub when: Option<String>,
    /// Expressions and actions that must hold: strings or `{ uses, with }`.
    pub preconditions: Vec<Value>,
    /// Per attempt.
    pub timeout_ms: Option<u64>,
    /// Silence before an alarm.
    pub stall_ms: Option<u64>,
    /// How it is tried again; `None` = once.
    pub retry: Option<Retry>,
    /// What its failure means.
    pub on_failure: OnFailure,
    /// After a crash.
    pub on_unknown: OnUnknown,
    /// What it may do, computed at bind.
    pub effects: Effects,
    /// Its host.
    pub host: String,
    /// Names of the secrets its arguments refer to.
    pub secrets: Vec<String>,
    /// Whether the action's check deserves a round of its own.
    pub has_check: bool,
    /// Whether the file names `drill` among the step's modes.
    pub declares_drill: bool,
    /// Identifies what was decided: lowered form with templates unrendered, given values, action version.
    pub fingerprint: Digest,
}

impl BoundPlan {
    /// Gives a step by its id.
    #[must_use]
    pub fn step(&self, id: &StepId) -> Option<&PlannedStep> {
        self.steps.iter().find(|step| step.id == *id)
    }

    /// Gives the steps of one section in order.
    pub fn section(&self, section: Section) -> impl Iterator<Item = &PlannedStep> {
        self.steps.iter().filter(move |step| step.section == section)
    }
}
