//! `notify.command`: hands a text to a program of the user's that tells people.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::process::{self, ProcessOutput, Variables};
use super::mark;
use crate::action::by_hand::{command_line, quoted};
use crate::action::{
    Action, ActionError, ActionSpec, CheckContext, CommandSpec, EffectClass, Effects, Example, Idempotency,
    Interrupted, Late, Mode, ParamFault, PlanContext, Recovery, RunContext,
};

/// The variable that holds the text.
const TEXT: &str = "RUNBOOK_TEXT";

/// Tells people by a program.
pub struct Command;

/// The arguments of `notify.command`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The program and its arguments.
    argv: Vec<String>,
    /// The text, in a drill marked `[DRILL]`; the program gets it on standard input and as `RUNBOOK_TEXT`.
    text: Late<String>,
    /// Variables added to the environment; secrets may flow here.
    #[serde(default)]
    env: Variables,
}

impl Params {
    fn program(&self) -> &str {
        self.argv.first().map(String::as_str).unwrap_or_default()
    }

    fn who(&self) -> String {
        format!("`{}`", self.program())
    }

    fn spec(&self, mode: Mode) -> Result<CommandSpec, ActionError> {
        let text = mark::text(mode, self.text.get()?);
        let spec = CommandSpec::new(self.program()).args(self.argv.iter().skip(1).cloned());
        let mut spec = process::with_env(spec, &self.env)?.env(TEXT, text.as_str());
        spec.stdin = format!("{text}\n").into_bytes();
        Ok(spec)
    }
}

impl Action for Command {
    const SPEC: ActionSpec = ActionSpec {
        name: "notify.command",
        summary: "Hands a text to a program that tells people: on its standard input and as `RUNBOOK_TEXT`.",
        effect: EffectClass::Write,
        idempotency: Idempotency::NotIdempotent,
        has_check: false,
        reports_progress: false,
        version: 1,
        examples: &[Example {
            title: "a mail",
            with: "argv: [mail, -s, database recovered, oncall@example.org]\ntext: the database is back",
        }],
    };
    type Params = Params;
    type Output = ProcessOutput;

    fn effects(&self, params: &Params, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let mut faults: Vec<ParamFault> = process::env_fault(&params.env).into_iter().collect();
        if params.program().is_empty() {
            let fault = ParamFault::new("/argv", "the program is missing");
            faults.push(fault.help("write `argv: [program, argument]`"));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Effects::of(EffectClass::Write).program(params.program()))
    }

    fn by_hand(&self, params: &Params, _: &PlanContext<'_>) -> Vec<String> {
        let text = params.text.shown(Clone::clone);
        let variables = process::assignments(&params.env);
        let variables =
            variables.into_iter().chain([format!("{TEXT}={}", quoted(&text))]).collect::<Vec<_>>().join(" ");
        vec![format!("echo {} | {variables} {}", quoted(&text), command_line(&params.argv))]
    }

    async fn run(&self, params: &Params, cx: &RunContext) -> Result<ProcessOutput, ActionError> {
        process::run(&params.who(), params.spec(cx.about.mode)?, cx).await
    }

    async fn recover(
        &self,
        params: &Params,
        cut: &Interrupted,
        cx: &CheckContext,
    ) -> Result<Recovery<ProcessOutput>, ActionError> {
        process::recover(&params.who(), cut, cx)
    }

    async fn reattach(
        &self,
        params: &Params,
        cut: &Interrupted,
        cx: &RunContext,
    ) -> Result<ProcessOutput, ActionError> {
        process::reattach(&params.who(), cut, cx).await
    }
}
