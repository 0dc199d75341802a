//! The typed runbook: what a file says, before anything is decided about it.

mod arguments;
mod declared;
mod fanout;
mod lock;
mod lower;
mod notify;
mod output;
mod param;
mod spec;
mod step;
mod undo;

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::diagnostic::Place;
use crate::base::effect::EffectClass;
use crate::base::mode::Mode;
use crate::base::units::Span;
use crate::language::SubRunbook;

pub(super) use arguments::Judges;
pub use fanout::MOST_INSTANCES;
pub(super) use lower::lower;
pub use notify::WrittenRule;
pub(super) use notify::rules;
pub use output::OutputSpec;
pub use param::ParamError;
pub use spec::file_schema;

/// The action of a step that stands for the steps of another runbook.
pub const SUB_RUNBOOK: &str = "runbook";

/// A value with the place it was written at.
#[derive(Debug, Clone, PartialEq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands; the whole file's start when a default.
    pub at: Place,
}

/// A runbook, partial when the file is broken.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Runbook {
    /// The name.
    pub name: String,
    /// A sentence.
    pub description: String,
    /// Who answers for it.
    pub owner: String,
    /// Evidence tags, free text.
    pub controls: Vec<String>,
    /// Recovery objectives.
    pub objectives: Objectives,
    /// Parameters by name, in the order written.
    pub params: Vec<(Located<String>, Param)>,
    /// Phases in the order of the timeline.
    pub phases: Vec<Phase>,
    /// Defaults of steps.
    pub defaults: Defaults,
    /// The steps in the order written.
    pub steps: Vec<Step>,
    /// The steps that always run at the end.
    pub finally: Vec<Step>,
    /// Names of variables of the environment that templates may read and programs get.
    pub pass_env: Vec<Located<String>>,
    /// Locks held for the whole run.
    pub locks: Vec<Located<LockSpec>>,
    /// What a runbook that uses this one gets: templates, by name.
    pub outputs: Vec<(Located<String>, Located<Value>)>,
    /// Who is told of what: the rules of the inventory's files first, then its own.
    pub notify: Vec<WrittenRule>,
}

/// A lock held for the whole run. The short form is its name alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockSpec {
    /// Its name.
    pub name: String,
    /// What happens when another run holds it.
    #[serde(default)]
    pub on_conflict: OnConflict,
}

/// What happens when another run holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// The run ends before it starts (exit 14).
    #[default]
    Fail,
    /// The run waits until it is free.
    Queue,
}

/// Something that an `exec` or `shell` step creates and that has to be removed in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Creation {
    /// Names it within the runbook.
    pub name: String,
    /// A bash script that removes it; exit 0 also when it is gone already. The step's `env` is its environment.
    pub destroy: String,
    /// How long it may live: after that `runbook reap` removes it, whatever became of its run.
    #[serde(default = "Creation::default_ttl")]
    pub ttl: Span,
}

impl Creation {
    fn default_ttl() -> Span {
        Span(std::time::Duration::from_secs(24 * 3600))
    }
}

/// Who is told of what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyRule {
    /// What is told.
    pub on: Vec<NotifyOn>,
    /// The notifier: an action of the family `notify`.
    pub uses: String,
    /// Its arguments; templates may read `event`, `run`, `params`, `vars`, `env_vars` and `secrets`.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub with: Value,
}

/// Something people may want to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotifyOn {
    /// The run started.
    Started,
    /// The run did not end well.
    Failed,
    /// The run ended well.
    Succeeded,
    /// A person is asked, or the run waits for one.
    ApprovalNeeded,
    /// 50, 80 or 100 % of the RTO are used up.
    RtoAtRisk,
    /// One person alone approved for all.
    BrokeGlass,
}

/// Recovery objectives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Objectives {
    /// Recovery time objective.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rto: Option<Span>,
    /// Recovery point objective.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpo: Option<Span>,
}

/// The type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParamType {
    /// Text.
    #[default]
    String,
    /// A whole number.
    Int,
    /// A number.
    Number,
    /// `true` or `false`.
    Bool,
    /// A point in time with an offset.
    Timestamp,
    /// A duration.
    Duration,
    /// A size.
    Size,
    /// A database of the inventory.
    Database,
    /// A service of the inventory.
    Service,
    /// A store of the inventory.
    Store,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// The type of its value.
    #[serde(rename = "type", default)]
    pub kind: ParamType,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Whether a run needs a value; true unless there is a default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// The value when none is given; may read `run.*` and `vars`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// The only values allowed.
    #[serde(default, rename = "enum", skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<Value>,
}

/// A stretch of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its id, which steps name.
    pub id: String,
    /// What people call it; default the id.
    #[serde(default)]
    pub name: String,
    /// How long it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Span>,
}

/// Defaults of steps.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// Reaches only actions that are idempotent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Per attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// When and how often a failed attempt is made again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts in all, the first included.
    pub max_attempts: u32,
    /// Before the second attempt.
    pub delay: Span,
    /// Factor from one delay to the next.
    pub backoff: f64,
    /// No delay is longer.
    pub max_delay: Span,
    /// Share of a delay that is spread, 0 to 1; deterministic for a step, attempt and run.
    pub jitter: f64,
    /// No attempt starts later than this after the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_elapsed: Option<Span>,
    /// What is tried again; default `[retryable, timeout]`.
    pub on: Vec<RetryOn>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            delay: Span(std::time::Duration::from_secs(1)),
            backoff: 2.0,
            max_delay: Span(std::time::Duration::from_secs(60)),
            jitter: 0.1,
            max_elapsed: None,
            on: vec![RetryOn::Named(RetryClass::Retryable), RetryOn::Named(RetryClass::Timeout)],
        }
    }
}

/// One thing that is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RetryOn {
    /// A class of errors.
    Named(RetryClass),
    /// An exit code of `exec` or `shell`.
    ExitCode(u8),
}

/// A class of errors that is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryClass {
    /// What the action calls retryable.
    Retryable,
    /// A timeout.
    Timeout,
}

/// What happens to the run when a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Running steps finish, nothing new starts, `finally` runs.
    #[default]
    Abort,
    /// The run goes on; the step's failure is tolerated.
    Continue,
    /// The step waits for an operator: retry, skip, mark done or cancel. What does not need it goes on.
    Pause,
}

/// What happens to an attempt that may have happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// A person has to say: the default of write and destroy.
    Ask,
    /// A new attempt is made: the default of none and read.
    Rerun,
    /// A script tells: exit 0 = it happened, 1 = it did not, else ask.
    Probe(String),
}

/// One entry of `needs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The step.
    pub step: String,
    /// Whether any end of it will do (`x?`).
    pub any_end: bool,
}

/// A step. A broken one keeps its id, so that references to it do not cascade.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The id.
    pub id: Located<String>,
    /// Where the whole step stands.
    pub at: Place,
    /// Set when the step has errors of its own: nothing more is said about it.
    pub poisoned: bool,
    /// What people call it.
    pub name: String,
    /// A sentence.
    pub description: String,
    /// Its phase.
    pub phase: Option<Located<String>>,
    /// The action; `shell` for `run:`.
    pub uses: Located<String>,
    /// The arguments: strings with `{{` are templates. For `run:` it is `{ script, env }`.
    pub with: Value,
    /// Where each argument stands, by JSON pointer inside `with`.
    pub with_places: BTreeMap<String, Place>,
    /// Explicit needs; `None` = follows the step above.
    pub needs: Option<Vec<Located<Need>>>,
    /// A bare expression that must give a bool.
    pub when: Option<Located<String>>,
    /// What must hold before it acts.
    pub preconditions: Vec<Precondition>,
    /// Per attempt.
    pub timeout: Option<Span>,
    /// How long silence may last before an alarm.
    pub stall: Option<Span>,
    /// When and how often it is tried again.
    pub retry: Option<Retry>,
    /// What its failure means.
    pub on_failure: OnFailure,
    /// Modes it takes part in; `None` = all.
    pub modes: Option<Vec<Mode>>,
    /// Declared effect of `exec`/`shell`.
    pub effect: Option<Located<EffectClass>>,
    /// Declared targets of `exec`/`shell`.
    pub targets: Vec<Located<DeclaredTarget>>,
    /// After a crash.
    pub on_unknown: Option<OnUnknown>,
    /// The list or mapping it fans out over, or a template that gives one.
    pub for_each: Option<Located<Value>>,
    /// Where each item stands, by JSON pointer inside `for_each`.
    pub item_places: BTreeMap<String, Place>,
    /// How many instances may run at once.
    pub max_parallel: Option<u32>,
    /// What reverses it: `uses`, `with` and what belongs to them.
    pub undo: Option<Box<Step>>,
    /// Locks held while it runs.
    pub locks: Vec<Located<String>>,
    /// What it creates and has to be removed in the end.
    pub creates: Vec<Located<Creation>>,
    /// How outputs are taken from what it writes, by name; `exec` and `shell` only.
    pub outputs: Vec<(Located<String>, OutputSpec)>,
    /// The runbook that a step with `uses: runbook` stands for; `None` also when it cannot be read.
    pub sub: Option<Arc<SubRunbook>>,
}

/// What must hold before a step acts.
#[derive(Debug, Clone, PartialEq)]
pub enum Precondition {
    /// A bare expression that must give true.
    That(Located<String>),
    /// An action of effect none or read that must succeed.
    Action {
        /// The action.
        uses: Located<String>,
        /// Its arguments.
        with: Value,
        /// Where each argument stands.
        with_places: BTreeMap<String, Place>,
    },
}

/// A target that the author of an `exec`/`shell` step declares. Exactly one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DeclaredTarget {
    /// A database of the inventory.
    Database(String),
    /// A service of the inventory.
    Service(String),
    /// A store of the inventory.
    Store(String),
    /// A path on the step's host.
    Path(String),
    /// Everything below an URL.
    Url(String),
}

impl DeclaredTarget {
    /// The name, path or URL as written; may be a template.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Database(text) | Self::Service(text) | Self::Store(text) | Self::Path(text) | Self::Url(text) => text,
        }
    }
}
