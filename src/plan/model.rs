//! The frozen plan of one run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::{Effects, Mode};
use crate::base::{Digest, RunId, StepId, Timestamp};
use crate::event::{Actor, RunOrigin};
use crate::language::inventory::Inventory;
use crate::language::runbook::{Creation, NotifyRule, Objectives, OnFailure, OnUnknown, Phase, Retry};

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
    /// Those of them that are waited for when another run holds them; the others end the run before it starts.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub queued_locks: BTreeSet<String>,
    /// The sub-runbooks, by the step that stands for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<StepId, GroupScope>,
    /// Variables of the environment that templates may read and programs get: those under `pass_env`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env_vars: BTreeMap<String, String>,
    /// When what was done is undone.
    #[serde(default)]
    pub undo: UndoPolicy,
    /// The run that this one takes finished steps from, or undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<RunOrigin>,
    /// Who is told of what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<NotifyRule>,
    /// The files it was made of: name as shown, digest, text. The runbook itself comes first.
    pub sources: Vec<PlanSource>,
}

/// What the names in the steps of a sub-runbook mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupScope {
    /// The sub-runbook's name.
    pub name: String,
    /// Its file, as shown.
    pub file: String,
    /// Values of its parameters.
    pub params: BTreeMap<String, Value>,
    /// Values of its variables.
    pub vars: BTreeMap<String, Value>,
    /// What the step that stands for it gives: templates over its own steps, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, Value>,
}

/// When what was done is undone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "when", rename_all = "snake_case")]
pub enum UndoPolicy {
    /// Not in this run.
    #[default]
    Never,
    /// When its body failed: `--undo-on-failure`.
    OnFailure,
    /// That is what this run is for.
    Now {
        /// Everything that ended after this step, and it too; everything when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<StepId>,
    },
}

/// Whether a step is made by an action or by something that only plan and engine know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Attempts of an action.
    #[default]
    Action,
    /// People allow or deny it.
    Approval,
    /// People do it.
    Manual,
    /// It stands for the steps of a sub-runbook.
    Runbook,
}

impl StepKind {
    /// Tells what makes a step from its `uses`.
    #[must_use]
    pub fn of(uses: &str) -> Self {
        match uses {
            "approval" => Self::Approval,
            "manual" => Self::Manual,
            "runbook" => Self::Runbook,
            _ => Self::Action,
        }
    }
}

/// A fan-out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForEach {
    /// A list, a mapping, or a template that gives one.
    pub items: Value,
    /// How many instances may run at once; as many as the run allows when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// `steps`.
    Body,
    /// `undo`: reverses what the body did, last first, when the body is settled and its undoing is wanted.
    Undo,
    /// `finally`: starts when the body and its undoing are settled.
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
    /// What makes it.
    #[serde(default)]
    pub kind: StepKind,
    /// The step that stands for the sub-runbook it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<StepId>,
    /// The list it fans out over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    /// What `item` is, in an instance of a `for_each`. Never in a frozen plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Value>,
    /// Whether it runs also when the body is ending, once a step of its group began: the `finally` of a sub-runbook.
    #[serde(default, skip_serializing_if = "is_false")]
    pub always: bool,
    /// Locks held while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<String>,
    /// What it creates and has to be removed in the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub creates: Vec<Creation>,
    /// Identifies what was decided: lowered form with templates unrendered, given values, action version.
    pub fingerprint: Digest,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

impl BoundPlan {
    /// Gives a step by its id.
    #[must_use]
    pub fn step(&self, id: &StepId) -> Option<&PlannedStep> {
        self.steps.iter().find(|step| step.id == *id)
    }

    /// The texts that it was made from, the runbook first, each with its name.
    #[must_use]
    pub fn texts(&self) -> Vec<(&str, &str)> {
        self.sources.iter().map(|source| (source.name.as_str(), source.text.as_str())).collect()
    }

    /// Completes an operator's command by the reason that a protected environment demands.
    #[must_use]
    pub fn with_reason(&self, command: String) -> String {
        if self.protected { format!("{command} --reason WHY") } else { command }
    }

    /// Whether a step, or the fan-out that it is an instance of, asks for approval: only people's answers settle it.
    #[must_use]
    pub fn is_approval(&self, id: &StepId) -> bool {
        self.planned(id).is_some_and(|step| step.kind == StepKind::Approval)
    }

    /// Gives what was planned for a step: itself, or the fan-out that it is an instance of, or what reverses that.
    #[must_use]
    pub fn planned(&self, id: &StepId) -> Option<&PlannedStep> {
        let fan_out = || match id.undone() {
            Some(of) => Some(of.of_instance()?.undo()),
            None => id.of_instance(),
        };
        self.step(id).or_else(|| self.step(&fan_out()?))
    }

    /// The database that it is about, as its parameter `database` says.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.params.get("database")?.as_str()
    }

    /// Gives the steps of one section in order.
    pub fn section(&self, section: Section) -> impl Iterator<Item = &PlannedStep> {
        self.steps.iter().filter(move |step| step.section == section)
    }
}
