//! What became of an attempt that an earlier engine left: the action is asked, then the step's `on_unknown`.

use std::sync::Arc;

use serde_json::Value;

use super::execute::revealed;
use super::{Capabilities, ProbeAnswer, Timing};
use crate::action::{ActionError, ErasedAction, Interrupted, Recovery};
use crate::language::runbook::OnUnknown;
use crate::plan::PlannedStep;

/// Everything one judgement needs, owned.
pub(super) struct RecoverJob {
    pub(super) step: PlannedStep,
    pub(super) with: Value,
    pub(super) action: Arc<dyn ErasedAction>,
    pub(super) hands: Arc<dyn Capabilities>,
    pub(super) cut: Interrupted,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Judgement {
    Rerun {
        why: String,
    },
    Adopt {
        output: Value,
        why: String,
    },
    Failed {
        error: ActionError,
    },
    Reattach {
        cut: Interrupted,
    },
    Ask {
        why: String,
    },
    /// It still runs and nothing watches it: only a person may go on, and not with another attempt beside it.
    Unwatched {
        why: String,
    },
}

impl RecoverJob {
    pub(super) async fn judge(self) -> Judgement {
        match self.ask_action().await {
            Ok(Recovery::Rerun) => Judgement::Rerun { why: "it did nothing, or doing it again is harmless".to_owned() },
            Ok(Recovery::Adopt(output)) => Judgement::Adopt { output, why: "it had ended well".to_owned() },
            Ok(Recovery::Failed(error)) => Judgement::Failed { error },
            Ok(Recovery::Reattach) => Judgement::Reattach { cut: self.cut },
            Ok(Recovery::Unwatched { why }) => Judgement::Unwatched { why },
            Ok(Recovery::Ask { why }) => self.on_unknown(why).await,
            Err(error) => self.on_unknown(format!("it cannot be judged: {error}")).await,
        }
    }

    async fn ask_action(&self) -> Result<Recovery<Value>, ActionError> {
        let with = revealed(&self.with, &self.action, &*self.hands)?;
        let cx = self.hands.read(&self.step, Timing::Due)?;
        self.action.recover(&with, &self.cut, &cx).await
    }

    async fn on_unknown(self, why: String) -> Judgement {
        let script = match &self.step.on_unknown {
            OnUnknown::Ask => return Judgement::Ask { why },
            OnUnknown::Rerun => return Judgement::Rerun { why: format!("`on_unknown: rerun`; {why}") },
            OnUnknown::Probe(script) => script,
        };
        match self.hands.probe(&self.step, &self.cut, script).await {
            Ok(ProbeAnswer::Happened) => Judgement::Adopt {
                output: unknown_outputs(&self.step, &*self.action),
                why: "its probe found its effect".to_owned(),
            },
            Ok(ProbeAnswer::DidNot) => Judgement::Rerun { why: "its probe found no effect".to_owned() },
            Ok(ProbeAnswer::Unclear(said)) => Judgement::Ask { why: format!("{why}; its probe cannot tell: {said}") },
            Err(error) => Judgement::Ask { why: format!("{why}; its probe failed: {error}") },
        }
    }
}

/// The outputs of a step with nothing known of them, those that it declares included.
pub(super) fn unknown_outputs(step: &PlannedStep, action: &dyn ErasedAction) -> Value {
    let mut outputs = null_outputs(action);
    if let (Some(outputs), Some(declared)) = (outputs.as_object_mut(), process_outputs(step)) {
        outputs.extend(declared.keys().map(|name| (name.clone(), Value::Null)));
    }
    outputs
}

/// What `exec` and `shell` take from standard output stands among their arguments.
pub(super) fn process_outputs(step: &PlannedStep) -> Option<&serde_json::Map<String, Value>> {
    matches!(step.uses.as_str(), "exec" | "shell").then(|| step.with.get("outputs")?.as_object()).flatten()
}

/// The outputs of an action with nothing known of them.
pub(super) fn null_outputs(action: &dyn ErasedAction) -> Value {
    let schema = action.output_schema();
    let names = schema.get("properties").and_then(Value::as_object);
    Value::Object(names.into_iter().flatten().map(|(name, _)| (name.clone(), Value::Null)).collect())
}
