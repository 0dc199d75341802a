//! `approval`: People allow the run to go on, or deny it. The engine asks; this is its place in the registry, for schema and docs.

use crate::action::{
    Action, ActionError, ActionSpec, ApprovalArgs, ApprovalOutput, EffectClass, Effects, Example, Idempotency,
    ParamFault, PlanContext, RunContext,
};

/// People allow the run to go on, or deny it.
pub struct Approval;

impl Action for Approval {
    const SPEC: ActionSpec = ActionSpec {
        name: "approval",
        summary: "Asks people whether the run may go on.",
        effect: EffectClass::None,
        idempotency: Idempotency::NotIdempotent,
        has_check: false,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "one person", with: "prompt: Rebuild the database?" },
            Example {
                title: "two of three, and not whoever started the run",
                with: "prompt: Switch over to the other site?\napprovers: [ada, bob, eve]\nquorum: 2\nnot_initiator: true\ntimeout: 15m\non_timeout: abort\n",
            },
            Example {
                title: "with something to fill in",
                with: "prompt: Declare the incident?\ninputs:\n  ticket: { type: string, description: The incident's ticket. }\n",
            },
        ],
    };
    type Params = ApprovalArgs;
    type Output = ApprovalOutput;

    fn effects(&self, params: &ApprovalArgs, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let faults = params.faults();
        if faults.is_empty() { Ok(Effects::of(EffectClass::None)) } else { Err(faults) }
    }

    async fn run(&self, _: &ApprovalArgs, _: &RunContext) -> Result<ApprovalOutput, ActionError> {
        Err(ActionError::fatal("`approval` is made by people: the engine asks them"))
    }
}
