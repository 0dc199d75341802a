//! `exec`: runs one program with its arguments, without a shell.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::output::Outputs;
use super::process::{self, ProcessOutput, Program, Variables};
use crate::action::by_hand::{as_user, command_line, quoted};
use crate::action::{
    Action, ActionError, ActionSpec, CheckContext, CommandSpec, EffectClass, Effects, Example, Idempotency,
    Interrupted, Late, ParamFault, PlanContext, Recovery, RunContext,
};
use crate::base::secret::SecretText;

/// Runs one program.
pub struct Exec;

/// The arguments of `exec`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The program and its arguments. Anybody on the machine can see them: no secrets here.
    argv: Vec<Late<String>>,
    /// Variables added to the environment; secrets may flow here.
    #[serde(default)]
    env: Variables,
    /// The working folder. Default: that of runbook.
    #[serde(default)]
    dir: Option<Late<PathBuf>>,
    /// What the program reads on standard input; nothing when absent.
    #[serde(default)]
    stdin: Option<Late<SecretText>>,
    /// The user to run as; another than one's own needs root.
    #[serde(default)]
    user: Option<String>,
    /// What the runbook lists under `pass_env`.
    #[serde(default)]
    #[schemars(skip)]
    passed: Variables,
    /// The step's own `outputs`.
    #[serde(default)]
    #[schemars(skip)]
    outputs: Outputs,
}

impl Params {
    /// The program, which must be known before the first step.
    fn program(&self) -> &str {
        self.argv.first().and_then(Late::known).map(String::as_str).unwrap_or_default()
    }

    fn who(&self) -> String {
        format!("`{}`", self.program())
    }

    fn spec(&self) -> Result<CommandSpec, ActionError> {
        let args = self.argv.iter().skip(1).map(Late::get).collect::<Result<Vec<_>, _>>()?;
        let mut spec = CommandSpec::new(self.program()).args(args.into_iter().cloned());
        spec.dir = self.dir.as_ref().map(Late::get).transpose()?.cloned();
        spec.user.clone_from(&self.user);
        if let Some(text) = &self.stdin {
            spec.stdin = text.get()?.reveal().as_bytes().to_vec();
        }
        process::with_env(process::with_env(spec, &self.passed)?, &self.env)
    }
}

impl Action for Exec {
    const SPEC: ActionSpec = ActionSpec {
        name: "exec",
        summary: "Runs one program with its arguments, without a shell; it goes on when runbook itself is killed.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::NotIdempotent,
        has_check: false,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "a program with arguments", with: "argv: [echo, hello]" },
            Example {
                title: "with a variable, a folder and input",
                with: "argv: [sort, -r]\nenv: { LC_ALL: C }\ndir: /tmp\nstdin: |\n  one\n  two\n",
            },
        ],
    };
    type Params = Params;
    type Output = ProcessOutput;

    /// Write without targets: what else the author knows is declared by the step's `effect` and `targets`.
    fn effects(&self, params: &Params, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let mut faults: Vec<ParamFault> = process::env_fault(&params.env).into_iter().collect();
        match params.argv.first() {
            Some(Late::Known(program)) if !program.is_empty() => {}
            Some(Late::Pending(_)) => faults.push(ParamFault::new("/argv/0", "the program must be known at the start")),
            Some(Late::Known(_)) | None => {
                let fault = ParamFault::new("/argv", "the program is missing");
                faults.push(fault.help("write `argv: [program, argument]`"));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Effects::of(EffectClass::Write).program(params.program()))
    }

    fn by_hand(&self, params: &Params, _: &PlanContext<'_>) -> Vec<String> {
        let line = command_line(params.argv.iter().map(|word| word.shown(Clone::clone)));
        let variables = process::assignments(&params.env).into_iter().map(|line| line + " ").collect::<String>();
        // Another user's shell gets none of these variables along: `env` sets them there.
        let line = match &params.user {
            Some(user) => format!("{} {variables}{line}", as_user(user, ["env"])),
            None => format!("{variables}{line}"),
        };
        let line = match &params.dir {
            Some(dir) => format!("(cd {} && {line})", quoted(&dir.shown(|dir| dir.display().to_string()))),
            None => line,
        };
        let stdin = params.stdin.as_ref().map(|text| text.shown(|text| text.reveal().to_owned()));
        vec![stdin.map_or(line.clone(), |text| format!("printf %s {} | {line}", quoted(&text)))]
    }

    async fn run(&self, params: &Params, cx: &RunContext) -> Result<ProcessOutput, ActionError> {
        process::run(Program::with_outputs(&params.who(), &params.outputs), params.spec()?, cx).await
    }

    async fn recover(
        &self,
        params: &Params,
        cut: &Interrupted,
        cx: &CheckContext,
    ) -> Result<Recovery<ProcessOutput>, ActionError> {
        process::recover(Program::with_outputs(&params.who(), &params.outputs), cut, cx)
    }

    async fn reattach(
        &self,
        params: &Params,
        cut: &Interrupted,
        cx: &RunContext,
    ) -> Result<ProcessOutput, ActionError> {
        process::reattach(Program::with_outputs(&params.who(), &params.outputs), cut, cx).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Params;

    fn params(with: serde_json::Value) -> Result<Params, serde_json::Error> {
        serde_json::from_value(with)
    }

    #[test]
    fn late_arguments_are_known_when_the_step_runs_and_only_then() {
        let late = params(json!({ "argv": ["echo", { "$late": "steps.a.stdout" }] })).expect("arguments");
        assert_eq!(late.program(), "echo");
        assert!(late.spec().is_err());
        let with = json!({ "argv": ["echo", "x"], "env": { "PW": "secret" }, "dir": "/tmp", "stdin": "in" });
        let spec = params(with).expect("arguments").spec().expect("a command");
        assert_eq!((spec.program.as_str(), spec.args, spec.stdin), ("echo", vec!["x".to_owned()], b"in".to_vec()));
        assert_eq!(spec.env["PW"].reveal(), "secret");
    }

    #[test]
    fn an_unknown_argument_is_refused() {
        assert!(params(json!({ "argv": ["echo"], "shell": true })).is_err());
    }
}
