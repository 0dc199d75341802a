//! Something to tell, as rules and their templates see it.

use serde_json::{Map, Value, json};

use crate::base::units::human_duration;
use crate::base::{EventSeq, StepId, Timestamp};
use crate::language::runbook::NotifyOn;
use crate::plan::BoundPlan;

/// Something to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Occasion {
    /// What kind of thing.
    pub on: NotifyOn,
    /// The event that says so.
    pub seq: EventSeq,
    /// When it happened.
    pub at: Timestamp,
    /// How long the run had taken.
    pub elapsed: std::time::Duration,
    /// One sentence.
    pub message: String,
    /// The step it is about.
    pub step: Option<StepId>,
    /// The share of the RTO that is used up.
    pub percent: Option<u32>,
    /// How the run ended.
    pub outcome: Option<String>,
    /// The code the process ends with.
    pub exit_code: Option<u8>,
    /// What a person is asked.
    pub question: Option<String>,
    /// What to type.
    pub command: String,
}

impl Occasion {
    /// What templates see as `event`: every member is there, empty where it has no meaning.
    #[must_use]
    pub fn to_template(&self, plan: &BoundPlan) -> Value {
        let empty = |value: Value| if value.is_null() { json!("") } else { value };
        Value::Object(self.members(plan).into_iter().map(|(name, value)| (name, empty(value))).collect())
    }

    /// What is sent where a rule gives no body of its own: only members with a meaning.
    #[must_use]
    pub fn to_body(&self, plan: &BoundPlan) -> Value {
        Value::Object(self.members(plan).into_iter().filter(|(_, value)| !value.is_null()).collect())
    }

    fn members(&self, plan: &BoundPlan) -> Map<String, Value> {
        let all = json!({
            "at": self.at,
            "command": self.command,
            "elapsed": human_duration(self.elapsed),
            "environment": plan.environment,
            "exit_code": self.exit_code,
            "kind": self.on,
            "message": self.message,
            "mode": plan.mode,
            "outcome": self.outcome,
            "percent": self.percent,
            "question": self.question,
            "run": plan.run,
            "runbook": plan.name,
            "seq": self.seq,
            "step": self.step,
        });
        match all {
            Value::Object(members) => members,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
        }
    }
}
