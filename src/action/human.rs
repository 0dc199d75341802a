//! The arguments of `approval` and `manual`: steps that people make, asked by the engine and never by an action.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ActionError, Late, ParamFault};
use crate::base::Timestamp;
use crate::base::clock::after;
use crate::base::units::Span;
use crate::event::{Initiator, OnTimeout, Question, QuestionKind};
use crate::language::runbook::Param;

/// The arguments of `approval`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalArgs {
    /// What is asked.
    pub prompt: Late<String>,
    /// What is to be filled in, by name, declared like parameters.
    #[serde(default)]
    pub inputs: BTreeMap<String, Param>,
    /// Who may answer, by the names given with `--as`; anybody when empty.
    #[serde(default)]
    pub approvers: Vec<String>,
    /// How many different people have to approve.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub quorum: u32,
    /// Whether whoever started the run may not be one of them.
    #[serde(default)]
    pub not_initiator: bool,
    /// How long it is waited for an answer; for ever when absent.
    #[serde(default)]
    pub timeout: Option<Span>,
    /// What follows when nobody answered in time.
    #[serde(default)]
    pub on_timeout: OnTimeout,
}

/// What `approval` gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalOutput {
    /// Whether it was approved; false when nobody answered in time and the run went on.
    pub approved: bool,
    /// Who approved, in the order of their answers.
    pub by: Vec<String>,
    /// What they said with it.
    pub comment: String,
    /// What they filled in.
    pub inputs: Map<String, Value>,
}

/// The arguments of `manual`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManualArgs {
    /// What is to be done.
    pub instruction: Late<String>,
    /// Points to tick off one by one.
    #[serde(default)]
    pub checklist: Vec<Late<String>>,
    /// What is to be filled in, by name, declared like parameters.
    #[serde(default)]
    pub inputs: BTreeMap<String, Param>,
    /// How long it should take; shown, never enforced.
    #[serde(default)]
    pub timer: Option<Span>,
    /// Who may say that it is done, by the names given with `--as`; anybody when empty.
    #[serde(default)]
    pub approvers: Vec<String>,
}

/// What `manual` gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ManualOutput {
    /// Who did it.
    pub by: String,
    /// What they said with it.
    pub comment: String,
    /// What they filled in.
    pub inputs: Map<String, Value>,
    /// Whether it was done.
    pub done: bool,
}

fn one() -> u32 {
    1
}

impl ApprovalArgs {
    /// Names what makes no sense: nobody could ever approve.
    #[must_use]
    pub fn faults(&self) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        if self.quorum == 0 {
            let fault = ParamFault::new("/quorum", "a quorum of `0` asks nobody");
            faults.push(fault.help("at least one person has to approve"));
        }
        let mut names: Vec<&String> = self.approvers.iter().collect();
        names.sort();
        names.dedup();
        if !names.is_empty() && usize::try_from(self.quorum).is_ok_and(|quorum| quorum > names.len()) {
            let message = format!("a quorum of `{}` cannot be reached by {} approvers", self.quorum, names.len());
            faults.push(ParamFault::new("/quorum", message).help("name more `approvers`, or lower `quorum`"));
        }
        faults
    }

    /// The question as it is asked at `now`.
    ///
    /// # Errors
    /// Fails when a value is still pending.
    pub fn question(self, now: Timestamp) -> Result<Question, ActionError> {
        Ok(Question {
            kind: QuestionKind::Approval,
            prompt: self.prompt.get()?.clone(),
            checklist: Vec::new(),
            inputs: self.inputs,
            approvers: self.approvers,
            quorum: self.quorum.max(1),
            initiator: if self.not_initiator { Initiator::MayNotApprove } else { Initiator::MayApprove },
            until: self.timeout.map(|limit| after(now, limit.0)),
            on_timeout: self.on_timeout,
            timer_ms: None,
        })
    }
}

impl ManualArgs {
    /// The question as it is asked.
    ///
    /// # Errors
    /// Fails when a value is still pending.
    pub fn question(self) -> Result<Question, ActionError> {
        let checklist: Result<Vec<String>, ActionError> =
            self.checklist.iter().map(|point| point.get().cloned()).collect();
        Ok(Question {
            kind: QuestionKind::Manual,
            prompt: self.instruction.get()?.clone(),
            checklist: checklist?,
            inputs: self.inputs,
            approvers: self.approvers,
            quorum: 1,
            initiator: Initiator::MayApprove,
            until: None,
            on_timeout: OnTimeout::Pause,
            timer_ms: self.timer.map(|Span(timer): Span| millis(timer)),
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
