//! The structure of a runbook file, as editors and the validator see it.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Creation, DeclaredTarget, Defaults, LockSpec, NotifyRule, Objectives, OnFailure, OnUnknown, OutputSpec, Param,
    Phase, Retry,
};
use crate::base::effect::EffectClass;
use crate::base::mode::Mode;
use crate::base::units::Span;
use crate::language::inventory::{AuditSettings, Database, Environment, SecretEntry, Service, StoreEntry, schema_of};

/// A procedure: a DAG of steps that reads top to bottom.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Runbook")]
#[expect(dead_code, reason = "described for its schema; values are read part by part")]
struct RunbookSpec {
    /// The version of the language: 1.
    #[schemars(range(min = 1, max = 1))]
    version: u32,
    /// The name it is known by.
    name: String,
    /// A sentence.
    #[serde(default)]
    description: String,
    /// Who answers for it.
    #[serde(default)]
    owner: String,
    /// Evidence tags, free text.
    #[serde(default)]
    controls: Vec<String>,
    /// Recovery objectives.
    #[serde(default)]
    objectives: Objectives,
    /// Inventory files, relative to this one.
    #[serde(default)]
    include: Vec<String>,
    /// Parameters by name.
    #[serde(default)]
    params: BTreeMap<String, Param>,
    /// Variables by name.
    #[serde(default)]
    vars: BTreeMap<String, Value>,
    /// Secrets by name.
    #[serde(default)]
    secrets: BTreeMap<String, SecretEntry>,
    /// Databases by name.
    #[serde(default)]
    databases: BTreeMap<String, Database>,
    /// Services by name.
    #[serde(default)]
    services: BTreeMap<String, Service>,
    /// Places for backups by name.
    #[serde(default)]
    stores: BTreeMap<String, StoreEntry>,
    /// Environments by name.
    #[serde(default)]
    environments: BTreeMap<String, Environment>,
    /// How the history of runs is proven to others.
    #[serde(default)]
    audit: AuditSettings,
    /// Defaults of steps.
    #[serde(default)]
    defaults: Defaults,
    /// The timeline people know.
    #[serde(default)]
    phases: Vec<Phase>,
    /// Variables of the environment that templates may read as `env_vars.NAME` and programs get.
    #[serde(default)]
    pass_env: Vec<String>,
    /// Locks held for the whole run.
    #[serde(default)]
    locks: Vec<LockEntry>,
    /// The steps; one without `needs` follows the one above it.
    steps: Vec<StepSpec>,
    /// Steps that always run at the end.
    #[serde(default)]
    finally: Vec<StepSpec>,
    /// What a runbook that uses this one gets: values that read the steps of this file, by name.
    #[serde(default)]
    outputs: BTreeMap<String, Value>,
    /// Who is told of what.
    #[serde(default)]
    notify: Vec<NotifyRule>,
}

/// A step.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepSpec {
    /// Its id, which other steps name.
    #[expect(dead_code, reason = "read with its place")]
    pub(super) id: String,
    /// What people call it; default the id.
    #[serde(default)]
    pub(super) name: Option<String>,
    /// A sentence.
    #[serde(default)]
    pub(super) description: String,
    /// Its phase.
    #[serde(default)]
    #[expect(dead_code, reason = "read with its place")]
    pub(super) phase: Option<String>,
    /// The action.
    #[serde(default)]
    #[expect(dead_code, reason = "read with its place")]
    pub(super) uses: Option<String>,
    /// The action's arguments.
    #[serde(default)]
    #[expect(dead_code, reason = "held against the action's own schema")]
    pub(super) with: Map<String, Value>,
    /// A bash script, short for `uses: shell`; never a template.
    #[serde(default)]
    #[expect(dead_code, reason = "read with its place")]
    pub(super) run: Option<String>,
    /// The environment of `run`; values may be templates.
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    /// Steps that must succeed before; `x?` accepts any end of x; `[]` starts at once.
    #[serde(default)]
    #[expect(dead_code, reason = "read with its places")]
    pub(super) needs: Option<Vec<String>>,
    /// An expression without braces; false = skipped.
    #[serde(default)]
    #[expect(dead_code, reason = "read with its place")]
    pub(super) when: Option<String>,
    /// What must hold before it acts.
    #[serde(default)]
    pub(super) preconditions: Vec<PreconditionSpec>,
    /// How long one attempt may take.
    #[serde(default)]
    pub(super) timeout: Option<Span>,
    /// How long it may be silent before an alarm.
    #[serde(default)]
    pub(super) stall: Option<Span>,
    /// When and how often it is tried again.
    #[serde(default)]
    pub(super) retry: Option<Retry>,
    /// What its failure means for the run.
    #[serde(default)]
    pub(super) on_failure: OnFailure,
    /// The modes it takes part in; all when absent.
    #[serde(default)]
    pub(super) modes: Option<Vec<StepMode>>,
    /// How far an `exec` or `run` step reaches; default write.
    #[serde(default)]
    pub(super) effect: Option<EffectClass>,
    /// What an `exec` or `run` step writes to.
    #[serde(default)]
    pub(super) targets: Vec<DeclaredTarget>,
    /// What happens to an attempt that may have happened, after a crash.
    #[serde(default)]
    pub(super) on_unknown: Option<OnUnknown>,
    /// A list, a mapping, or a template that gives one: the step is made once for each of its items.
    #[serde(default)]
    #[expect(dead_code, reason = "read with its place")]
    pub(super) for_each: Option<Items>,
    /// How many items may be under way at once.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(super) max_parallel: Option<u32>,
    /// What reverses the step.
    #[serde(default)]
    #[expect(dead_code, reason = "lowered from its own node")]
    pub(super) undo: Option<UndoSpec>,
    /// Locks held while it runs.
    #[serde(default)]
    #[expect(dead_code, reason = "read with its places")]
    pub(super) locks: Vec<String>,
    /// What an `exec` or `run` step creates and has to be removed in the end.
    #[serde(default)]
    #[expect(dead_code, reason = "read one by one")]
    pub(super) creates: Vec<Creation>,
    /// How outputs are taken from what an `exec` or `run` step writes on standard output, by name.
    #[serde(default)]
    #[expect(dead_code, reason = "read one by one")]
    pub(super) outputs: BTreeMap<String, OutputSpec>,
}

/// What reverses a step: an action with its arguments.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UndoSpec {
    /// The action.
    #[serde(default)]
    #[expect(dead_code, reason = "read with its place")]
    pub(super) uses: Option<String>,
    /// The action's arguments.
    #[serde(default)]
    #[expect(dead_code, reason = "held against the action's own schema")]
    pub(super) with: Map<String, Value>,
    /// A bash script, short for `uses: shell`; never a template.
    #[serde(default)]
    #[expect(dead_code, reason = "read with its place")]
    pub(super) run: Option<String>,
    /// The environment of `run`; values may be templates.
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    /// How long one attempt may take.
    #[serde(default)]
    pub(super) timeout: Option<Span>,
    /// When and how often it is tried again.
    #[serde(default)]
    pub(super) retry: Option<Retry>,
    /// What its failure means for the steps that are still to be undone.
    #[serde(default)]
    pub(super) on_failure: OnFailure,
    /// How far an `exec` or `run` undo reaches; default write.
    #[serde(default)]
    pub(super) effect: Option<EffectClass>,
    /// What an `exec` or `run` undo writes to.
    #[serde(default)]
    pub(super) targets: Vec<DeclaredTarget>,
    /// What happens to an attempt that may have happened, after a crash.
    #[serde(default)]
    pub(super) on_unknown: Option<OnUnknown>,
}

/// What a step fans out over.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "described for its schema; read with its place")]
pub(super) enum Items {
    /// A list.
    List(Vec<Value>),
    /// A mapping: its keys name the instances.
    Mapping(Map<String, Value>),
    /// A template that gives a list or a mapping.
    Template(String),
}

/// A lock of the whole run.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum LockEntry {
    /// Its name.
    Name(String),
    /// Its name and what happens when another run holds it.
    Full(LockSpec),
}

/// Either `that`, or `uses` with `with`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PreconditionSpec {
    /// An expression without braces that must give true.
    #[serde(default)]
    pub(super) that: Option<String>,
    /// An action of effect none or read that must succeed.
    #[serde(default)]
    #[expect(dead_code, reason = "read with its place")]
    pub(super) uses: Option<String>,
    /// Its arguments.
    #[serde(default)]
    #[expect(dead_code, reason = "held against the action's own schema")]
    pub(super) with: Map<String, Value>,
}

/// A mode a step can take part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StepMode {
    /// The real thing.
    Real,
    /// A drill.
    Drill,
}

impl From<StepMode> for Mode {
    fn from(mode: StepMode) -> Self {
        match mode {
            StepMode::Real => Self::Real,
            StepMode::Drill => Self::Drill,
        }
    }
}

/// The JSON schema of a runbook file; `with:` takes anything here.
#[must_use]
pub fn file_schema() -> Schema {
    schema_of::<RunbookSpec>()
}
