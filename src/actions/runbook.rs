//! `runbook`: stands for the steps of another runbook.
//!
//! Known to plan and engine as a kind of step: what stands here is its schema and its page. Binding
//! puts the steps of that runbook into the plan, so that nothing is ever carried out by this action.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::{
    Action, ActionError, ActionSpec, EffectClass, Effects, Example, Idempotency, ParamFault, PlanContext, RunContext,
};

/// The kind of step that stands for a sub-runbook.
pub struct Runbook;

/// The arguments of `runbook`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The runbook: a path relative to this file, or the name of a shipped one. Literal, never a template.
    #[expect(dead_code, reason = "read when the file is loaded")]
    path: String,
    /// Values of its parameters, by name. They must be known before the run, as every target.
    #[serde(default)]
    #[expect(dead_code, reason = "read when the plan is bound")]
    params: BTreeMap<String, Value>,
}

/// What a sub-runbook gives: what its file says under `outputs`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The values by name.
    #[serde(flatten)]
    values: BTreeMap<String, Value>,
}

impl Action for Runbook {
    const SPEC: ActionSpec = ActionSpec {
        name: "runbook",
        summary: "Stands for the steps of another runbook.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::NotIdempotent,
        has_check: false,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "a file beside this one", with: "path: backup-one.yaml\nparams: { database: orders }" },
            Example { title: "a shipped runbook", with: "path: base-backup\nparams: { database: orders }" },
        ],
    };
    type Params = Params;
    type Output = Output;

    fn effects(&self, _: &Params, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        Ok(Effects::of(EffectClass::None))
    }

    async fn run(&self, _: &Params, _: &RunContext) -> Result<Output, ActionError> {
        Err(ActionError::fatal("a sub-runbook is made by its steps, not by an attempt of its own"))
    }
}
