//! What every face of a checklist shows.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::action::EffectClass;
use crate::base::{Digest, StepId};
use crate::plan::StepKind;

/// A plan for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checklist {
    /// The runbook.
    pub name: String,
    /// A sentence.
    pub description: String,
    /// Who answers for it.
    pub owner: String,
    /// Evidence tags.
    pub controls: Vec<String>,
    /// The environment.
    pub environment: String,
    /// Whether it is protected.
    pub protected: bool,
    /// The mode.
    pub mode: &'static str,
    /// When it was made, in UTC.
    pub made_at: String,
    /// The program's version.
    pub version: String,
    /// Recovery objectives in words.
    pub objectives: Vec<String>,
    /// Parameters and their values; null for one that is still open.
    pub params: BTreeMap<String, Value>,
    /// Variables and their values.
    pub vars: BTreeMap<String, Value>,
    /// Secrets, by name.
    pub secrets: Vec<SecretNeed>,
    /// Programs that must be there, by host.
    pub programs: Vec<(String, String)>,
    /// What of the inventory is touched.
    pub resources: Vec<Resource>,
    /// Locks held for the whole run.
    pub locks: Vec<String>,
    /// The longest chain of past durations.
    pub expected: Option<Expected>,
    /// Phases, with their steps in order.
    pub parts: Vec<Part>,
    /// The texts it was made of.
    pub sources: Vec<(String, Digest)>,
}

/// A secret that a step needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretNeed {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub from: String,
}

/// An entry of the inventory that a step touches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Resource {
    /// Its kind and name.
    pub name: String,
    /// Where it lies.
    pub place: String,
}

/// How long something took before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// Half of the times it took no longer.
    pub median_ms: u64,
    /// In 95 of 100 times it took no longer.
    pub p95_ms: u64,
    /// Over how many times.
    pub samples: usize,
}

/// A phase, or a part without one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// Its title.
    pub title: String,
    /// What may be said below it.
    pub remark: String,
    /// Its steps.
    pub items: Vec<Item>,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// Its number on the paper.
    pub number: usize,
    /// The step.
    pub id: StepId,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub purpose: String,
    /// What makes it.
    pub kind: StepKind,
    /// The action.
    pub uses: String,
    /// Its host.
    pub host: String,
    /// How far it reaches.
    pub effect: EffectClass,
    /// What it touches, in words.
    pub targets: Vec<String>,
    /// When it begins, in words; empty when it follows the step above.
    pub after: String,
    /// A condition in the runbook's own words.
    pub when: Option<String>,
    /// What must hold before.
    pub preconditions: Vec<String>,
    /// The arguments as far as they are known; secrets by name.
    pub arguments: Value,
    /// Expressions whose values are known only during the run.
    pub late: Vec<String>,
    /// Names of secrets.
    pub secrets: Vec<String>,
    /// Locks held while it runs.
    pub locks: Vec<String>,
    /// What a person types, or reads.
    pub by_hand: Vec<String>,
    /// How it is reversed.
    pub undo: Vec<String>,
    /// How long it took before.
    pub expected: Option<Expected>,
    /// Timeout, retries and what its failure means, in words.
    pub rules: Vec<String>,
}
