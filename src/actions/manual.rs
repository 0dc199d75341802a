//! `manual`: People do what no machine can, and say that it is done. The engine asks; this is its place in the registry, for schema and docs.

use crate::action::{
    Action, ActionError, ActionSpec, EffectClass, Effects, Example, Idempotency, ManualArgs, ManualOutput, ParamFault,
    PlanContext, RunContext,
};

/// People do what no machine can, and say that it is done.
pub struct Manual;

impl Action for Manual {
    const SPEC: ActionSpec = ActionSpec {
        name: "manual",
        summary: "Asks people to do something and to say that it is done.",
        effect: EffectClass::Write,
        idempotency: Idempotency::NotIdempotent,
        has_check: false,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "an instruction", with: "instruction: Power the standby on." },
            Example {
                title: "with a checklist, a value to fill in and a time to keep an eye on",
                with: "instruction: Change the DNS entry of the service.\nchecklist:\n  - the TTL is below a minute\n  - the entry points to the other site\ninputs:\n  address: { type: string }\ntimer: 10m\n",
            },
        ],
    };
    type Params = ManualArgs;
    type Output = ManualOutput;

    fn effects(&self, _: &ManualArgs, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        Ok(Effects::of(EffectClass::Write))
    }

    async fn run(&self, _: &ManualArgs, _: &RunContext) -> Result<ManualOutput, ActionError> {
        Err(ActionError::fatal("`manual` is made by people: the engine asks them"))
    }
}
