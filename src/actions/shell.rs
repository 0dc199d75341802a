//! `shell`: runs a script of the author's with bash.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::output::Outputs;
use super::process::{self, ProcessOutput, Program, Variables};
use crate::action::by_hand::quoted;
use crate::action::{
    Action, ActionError, ActionSpec, CheckContext, CommandSpec, EffectClass, Effects, Example, Files, HostError,
    Idempotency, Interrupted, Late, ParamFault, PlanContext, Recovery, RunContext,
};

/// Runs a script.
pub struct Shell;

/// How the script's end is named in messages.
const NAME: &str = "the script";

/// The arguments of `shell`; steps write `run:` and `env:`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The text of the script. It is never a template: values come in through `env`.
    script: String,
    /// Variables added to the environment; secrets may flow here.
    #[serde(default)]
    env: Variables,
    /// The working folder. Default: that of runbook.
    #[serde(default)]
    dir: Option<Late<PathBuf>>,
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
    fn program(&self) -> Program<'_> {
        Program::with_outputs(NAME, &self.outputs)
    }

    fn spec(&self, script: &Path) -> Result<CommandSpec, ActionError> {
        let mut spec = CommandSpec::new("bash")
            .args(["--noprofile", "--norc", "-euo", "pipefail"])
            .arg(script.display().to_string());
        spec.dir = self.dir.as_ref().map(Late::get).transpose()?.cloned();
        process::with_env(process::with_env(spec, &self.passed)?, &self.env)
    }
}

fn write(files: &dyn Files, path: &Path, script: &str) -> Result<(), HostError> {
    let failed = |source| HostError::File { operation: "write", path: path.to_owned(), source };
    files.create(path, 0o700)?.write_all(script.as_bytes()).map_err(failed)
}

impl Action for Shell {
    const SPEC: ActionSpec = ActionSpec {
        name: "shell",
        summary: "Runs a script with bash, strict about errors; it goes on when runbook itself is killed.",
        effect: EffectClass::Destroy,
        idempotency: Idempotency::NotIdempotent,
        has_check: false,
        reports_progress: false,
        version: 1,
        examples: &[Example {
            title: "a script with a value from outside",
            with: "script: |\n  echo \"hello, ${NAME}\"\nenv: { NAME: world }\n",
        }],
    };
    type Params = Params;
    type Output = ProcessOutput;

    /// Write without targets: what else the author knows is declared by the step's `effect` and `targets`.
    fn effects(&self, params: &Params, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let mut faults: Vec<ParamFault> = process::env_fault(&params.env).into_iter().collect();
        if params.script.trim().is_empty() {
            faults.push(ParamFault::new("/script", "the script is empty"));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Effects::of(EffectClass::Write).program("bash"))
    }

    fn by_hand(&self, params: &Params, _: &PlanContext<'_>) -> Vec<String> {
        let dir = params.dir.as_ref().map(|dir| format!("cd {}", quoted(&dir.shown(|dir| dir.display().to_string()))));
        let variables = process::assignments(&params.env).into_iter().map(|line| format!("export {line}"));
        let begin = ["(".to_owned(), "set -euo pipefail".to_owned()];
        let script = params.script.trim_end().lines().map(str::to_owned);
        begin.into_iter().chain(dir).chain(variables).chain(script).chain([")".to_owned()]).collect()
    }

    async fn run(&self, params: &Params, cx: &RunContext) -> Result<ProcessOutput, ActionError> {
        let path = std::path::absolute(cx.attempt_dir.join("script"))
            .map_err(|error| ActionError::fatal("the folder of the attempt cannot be named").because(&error))?;
        write(&*cx.host.files(), &path, &params.script)
            .map_err(|error| ActionError::fatal("the script cannot be kept").because(&error))?;
        process::run(params.program(), params.spec(&path)?, cx).await
    }

    async fn recover(
        &self,
        params: &Params,
        cut: &Interrupted,
        cx: &CheckContext,
    ) -> Result<Recovery<ProcessOutput>, ActionError> {
        process::recover(params.program(), cut, cx)
    }

    async fn reattach(
        &self,
        params: &Params,
        cut: &Interrupted,
        cx: &RunContext,
    ) -> Result<ProcessOutput, ActionError> {
        process::reattach(params.program(), cut, cx).await
    }
}
