//! How actions that run one program of the author's tell its end, and judge it after a crash.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::output::{self, Outputs};
use crate::action::by_hand::quoted;
use crate::action::{
    ActionError, CheckContext, CommandOutput, CommandSpec, Fate, HostError, Interrupted, Late, ParamFault, Recovery,
    RunContext, Tie,
};
use crate::base::secret::SecretText;
use crate::event::{ErrorClass, ErrorInfo};

/// How much of each stream becomes an output of the step.
const OUTPUT_BYTES: usize = 64 << 10;
/// How many lines of a failed program the error shows.
const TAIL_LINES: usize = 20;

/// What a program gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ProcessOutput {
    /// The exit code; always 0 for a step that succeeded.
    pub exit_code: i32,
    /// Standard output without its final newline, at most its first 64 KiB, secrets masked.
    pub stdout: String,
    /// Standard error without its final newline, at most its first 64 KiB, secrets masked.
    pub stderr: String,
    /// What the step declares under `outputs`.
    #[serde(flatten)]
    #[schemars(skip)]
    pub declared: BTreeMap<String, Value>,
}

/// A program: what messages call it, and what is taken from what it wrote.
#[derive(Clone, Copy)]
pub(super) struct Program<'a> {
    who: &'a str,
    outputs: Option<&'a Outputs>,
}

impl<'a> Program<'a> {
    /// One with declared outputs.
    pub(super) fn with_outputs(who: &'a str, outputs: &'a Outputs) -> Self {
        Self { who, outputs: Some(outputs) }
    }
}

impl<'a, T: AsRef<str> + ?Sized> From<&'a T> for Program<'a> {
    /// One of which the usual outputs are taken.
    fn from(who: &'a T) -> Self {
        Self { who: who.as_ref(), outputs: None }
    }
}

/// Runs a program so that it outlives the engine.
pub(super) async fn run<'a>(
    program: impl Into<Program<'a>>,
    spec: CommandSpec,
    cx: &RunContext,
) -> Result<ProcessOutput, ActionError> {
    let program = program.into();
    let who = program.who;
    let mut result = cx.host.run(spec, Tie::Attempt).await;
    // Only the link to its watcher may be lost, or the watcher may be about to end: its record is waited for.
    if let Err(HostError::Lost { .. }) = &result
        && let Ok(Fate::Running) = cx.host.fate(&cx.attempt_dir)
    {
        result = cx.host.adopt(&cx.attempt_dir).await;
    }
    if let Ok(output) = &result
        && output.success()
        && !output.survivors.is_empty()
    {
        let message = format!("{who} left {} processes running; they are left alone", output.survivors.len());
        cx.reporter.note(message, serde_json::json!({ "survivors": output.survivors }));
    }
    if let Err(HostError::Lost { .. }) = &result
        && let Some(Fate::Unwatched { why }) = fate_after_loss(cx).await
    {
        return Err(ActionError::unknown(format!("the end of {who} was not seen: {why}"))
            .help("end what still runs before this is done again"));
    }
    judge(program, result)
}

/// Judges an attempt whose supervisor fell silent. One that is dying closes its connection before it is gone.
async fn fate_after_loss(cx: &RunContext) -> Option<Fate> {
    for _ in 0..100 {
        match cx.host.fate(&cx.attempt_dir) {
            Ok(Fate::Running) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            fate => return fate.ok(),
        }
    }
    None
}

/// Judges an attempt from the records its supervisor left.
pub(super) fn recover<'a>(
    program: impl Into<Program<'a>>,
    cut: &Interrupted,
    cx: &CheckContext,
) -> Result<Recovery<ProcessOutput>, ActionError> {
    let fate = match cx.host.fate(&cut.attempt_dir) {
        Ok(fate) => fate,
        // It may be running: no rule may decide what is not even known to be over.
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            let why = format!("whether attempt {} still runs cannot be told: {error}{cause}", cut.attempt);
            return Ok(Recovery::Unwatched { why });
        }
    };
    Ok(match fate {
        Fate::NeverStarted => Recovery::Rerun,
        Fate::Running => Recovery::Reattach,
        Fate::Unwatched { why } => Recovery::Unwatched { why },
        Fate::Lost { why } => Recovery::Ask { why },
        Fate::Ended(result) => match judge(program.into(), result) {
            Ok(output) => Recovery::Adopt(output),
            Err(error) if error.info().class == ErrorClass::Unknown => Recovery::Ask { why: error.to_string() },
            Err(error) => Recovery::Failed(error),
        },
    })
}

/// Waits for a program that outlived its engine.
pub(super) async fn reattach<'a>(
    program: impl Into<Program<'a>>,
    cut: &Interrupted,
    cx: &RunContext,
) -> Result<ProcessOutput, ActionError> {
    judge(program.into(), cx.host.adopt(&cut.attempt_dir).await)
}

/// Makes a step's result of a program's end: exit code 0 is success.
fn judge(program: Program<'_>, result: Result<CommandOutput, HostError>) -> Result<ProcessOutput, ActionError> {
    let output = result.map_err(|error| host_error(&error))?;
    if output.success() {
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let declared = program.outputs.map(|outputs| output::taken(outputs, &output)).transpose()?;
        return Ok(ProcessOutput { exit_code: 0, stdout, stderr, declared: declared.unwrap_or_default() });
    }
    Err(failed(program.who, &output))
}

/// The error of a program that ended otherwise than with code 0.
pub(super) fn failed(who: &str, output: &CommandOutput) -> ActionError {
    let message = match (output.exit_code, output.signal) {
        (Some(code), _) => format!("{who} ended with exit code {code}"),
        (None, Some(signal)) => format!("{who} was ended by signal {signal}"),
        (None, None) => format!("{who} did not end with exit code 0"),
    };
    ActionError::retryable(message).process(output.exit_code, output.tail(TAIL_LINES))
}

/// The error of a program whose end the host could not report.
pub(super) fn host_error(error: &HostError) -> ActionError {
    let message = error.to_string();
    let action_error = match error {
        HostError::Timeout { .. } => ErrorInfo::new(ErrorClass::Timeout, message).into(),
        HostError::Cancelled { confirmed: true, .. } => ActionError::cancelled(message),
        HostError::Cancelled { confirmed: false, .. } => {
            ActionError::unknown(format!("{message}, but not all of its processes are gone"))
        }
        HostError::Lost { .. } => ActionError::unknown(message),
        HostError::Spawn { .. } | HostError::File { .. } => ActionError::fatal(message),
    };
    match std::error::Error::source(error) {
        Some(cause) => action_error.because(cause),
        None => action_error,
    }
}

/// Variables as authors write them: late values and secrets may flow here.
pub(super) type Variables = BTreeMap<String, Late<VariableText>>;

/// The value of a variable. A number or truth value that came out of a template is its text here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VariableText(SecretText);

impl VariableText {
    /// Gives the value, for the one place that needs it.
    pub(super) fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

impl<'de> Deserialize<'de> for VariableText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde_json::Value;
        let text = match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            value @ (Value::Bool(_) | Value::Number(_)) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(serde::de::Error::custom("a variable takes a text, a number, `true` or `false`"));
            }
        };
        Ok(Self(SecretText::new(text)))
    }
}

impl JsonSchema for VariableText {
    fn inline_schema() -> bool {
        SecretText::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        SecretText::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        SecretText::json_schema(generator)
    }
}

/// Adds the author's variables.
pub(super) fn with_env(mut spec: CommandSpec, env: &Variables) -> Result<CommandSpec, ActionError> {
    for (name, value) in env {
        spec.env.insert(name.clone(), value.get()?.0.clone());
    }
    Ok(spec)
}

/// `NAME=value` for each variable, as a shell takes it.
pub(super) fn assignments(env: &Variables) -> Vec<String> {
    env.iter()
        .map(|(name, value)| format!("{name}={}", quoted(&value.shown(|text| text.0.reveal().to_owned()))))
        .collect()
}

/// Tells why a name cannot be an environment variable's.
pub(super) fn env_fault(env: &Variables) -> Option<ParamFault> {
    let name = env.keys().find(|name| name.is_empty() || name.contains(['=', '\0']))?;
    Some(ParamFault::new("/env", format!("`{name}` cannot be the name of a variable")))
}

fn text(bytes: &[u8]) -> String {
    let kept = &bytes[..bytes.len().min(OUTPUT_BYTES)];
    let text = String::from_utf8_lossy(kept);
    text.strip_suffix('\n').unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::{HostError, OUTPUT_BYTES, judge};
    use crate::action::CommandOutput;
    use crate::event::ErrorClass;

    #[test]
    fn success_gives_the_text_without_its_final_newline_and_capped() {
        let stdout = b"a\nb\n".to_vec();
        let output = CommandOutput {
            exit_code: Some(0),
            stdout,
            stderr: vec![b'x'; OUTPUT_BYTES * 2],
            ..CommandOutput::default()
        };
        let output = judge("p".into(), Ok(output)).expect("success");
        assert_eq!((output.stdout.as_str(), output.stderr.len()), ("a\nb", OUTPUT_BYTES));
    }

    #[test]
    fn each_end_has_its_class() {
        let output = |exit_code, signal| Ok(CommandOutput { exit_code, signal, ..CommandOutput::default() });
        let program = || "p".to_owned();
        for (result, class) in [
            (output(Some(3), None), ErrorClass::Retryable),
            (output(None, Some(9)), ErrorClass::Retryable),
            (Err(HostError::Cancelled { program: program(), confirmed: true }), ErrorClass::Cancelled),
            (Err(HostError::Cancelled { program: program(), confirmed: false }), ErrorClass::Unknown),
            (Err(HostError::Lost { program: program() }), ErrorClass::Unknown),
            (Err(HostError::Timeout { program: program(), limit: std::time::Duration::ZERO }), ErrorClass::Timeout),
        ] {
            let text = format!("{result:?}");
            assert_eq!(judge("p".into(), result).expect_err("an error").info().class, class, "{text}");
        }
    }
}
