//! What people are asked, what they answer, and what operators do.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Actor;
use crate::base::{Digest, Timestamp};
use crate::language::runbook::Param;

/// What a person is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Question {
    /// An approval or an instruction.
    pub kind: QuestionKind,
    /// The prompt or instruction, rendered.
    pub prompt: String,
    /// Points to tick off one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checklist: Vec<String>,
    /// What is to be filled in, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Param>,
    /// Who may answer; anybody when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// How many different people have to approve, at least 1.
    pub quorum: u32,
    /// Whether whoever started the run may be one of them.
    pub initiator: Initiator,
    /// Until when; none waits for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What follows when nobody answered in time.
    pub on_timeout: OnTimeout,
    /// How long a manual step should take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer_ms: Option<u64>,
}

impl Question {
    /// Identifies the question as it was shown: what an answer says it has seen.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(serde_json::json!(self).to_string().as_bytes())
    }
}

/// What kind of question it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuestionKind {
    /// May the run go on?
    Approval,
    /// Do this, and say that it is done.
    Manual,
}

/// Whether the one who started a run may approve its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Initiator {
    /// As anybody else.
    #[default]
    MayApprove,
    /// Somebody else has to.
    MayNotApprove,
}

/// What follows when nobody answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// The question stays open; the run is suspended when nobody is there.
    #[default]
    Pause,
    /// The step fails.
    Abort,
    /// The run goes on without an answer, which is an exception.
    Continue,
}

/// What a person answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HumanAnswer {
    /// Names the request, so that one delivered twice counts once.
    pub request: String,
    /// Who: the name given with `--as`, and the account, host and terminal it came from.
    pub by: Actor,
    /// Yes or no.
    pub verdict: HumanVerdict,
    /// What was said with it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// What was filled in.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub inputs: Map<String, Value>,
    /// SHA-256 of the question as it was shown.
    pub seen: Digest,
    /// The reason why one person alone answered for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<String>,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HumanVerdict {
    /// Approved, or done.
    Yes,
    /// Denied, or not done.
    No,
}

/// What an operator can do to a live run besides ending it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OperatorVerb {
    /// Start nothing new.
    Pause,
    /// Go on.
    Continue,
    /// Try a step again.
    Retry,
    /// Leave a step out.
    Skip,
    /// Take a step for done.
    MarkDone {
        /// What it gave, as far as it is known.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        output: Map<String, Value>,
    },
    /// Answer a question; only ever refused under this name, an accepted answer is a `step_answered`.
    Answer,
    /// End the run; only ever refused under this name.
    Cancel,
}
