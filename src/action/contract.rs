//! The trait that authors of actions implement.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ActionError, CheckContext, EffectClass, Effects, Interrupted, ParamFault, PlanContext, RunContext};
use crate::event::{StepFinding, Verdict};

/// What is known of an action without its arguments.
#[derive(Debug, Clone, Copy)]
pub struct ActionSpec {
    /// `family.verb`, as runbooks write it.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// The widest effect it can have.
    pub effect: EffectClass,
    /// Whether a second attempt with the same key is harmless.
    pub idempotency: Idempotency,
    /// Whether it has a check worth a round of its own.
    pub has_check: bool,
    /// Whether it reports progress while it works, so that silence means something.
    pub reports_progress: bool,
    /// The version of its behaviour; part of the step's fingerprint.
    pub version: u32,
    /// Examples: shown in the docs, accepted by the schema, run by the conformance suite.
    pub examples: &'static [Example],
}

/// Whether a second attempt does harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Idempotency {
    /// Running twice with one key has the effect of once.
    Idempotent,
    /// A second run may repeat the effect.
    NotIdempotent,
}

/// One example of a step that uses the action.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// What it shows.
    pub title: &'static str,
    /// The YAML of `with:`.
    pub with: &'static str,
}

/// What a check found out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings(pub Vec<StepFinding>);

impl Findings {
    fn add(mut self, verdict: Verdict, message: impl Into<String>, help: Option<String>) -> Self {
        self.0.push(StepFinding { verdict, message: message.into(), help, wait_ms: None });
        self
    }

    /// Adds something in order.
    #[must_use]
    pub fn pass(self, message: impl Into<String>) -> Self {
        self.add(Verdict::Pass, message, None)
    }

    /// Adds something that cannot be judged yet.
    #[must_use]
    pub fn pending(self, message: impl Into<String>) -> Self {
        self.add(Verdict::Pending, message, None)
    }

    /// Adds a warning.
    #[must_use]
    pub fn warn(self, message: impl Into<String>, help: impl Into<String>) -> Self {
        self.add(Verdict::Warn, message, Some(help.into()))
    }

    /// Refuses the step.
    #[must_use]
    pub fn refuse(self, message: impl Into<String>, help: impl Into<String>) -> Self {
        self.add(Verdict::Refuse, message, Some(help.into()))
    }

    /// Says of what was added last how long it makes the step, or those that take its outputs, wait at the longest.
    #[must_use]
    pub fn waiting(mut self, wait: Option<Duration>) -> Self {
        if let (Some(last), Some(wait)) = (self.0.last_mut(), wait) {
            last.wait_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        }
        self
    }

    /// Turns what refuses into warnings with this advice: something before the step may still mend it.
    #[must_use]
    pub fn softened(self, help: &str) -> Self {
        let softened = self.0.into_iter().map(|finding| match finding.verdict {
            Verdict::Refuse => StepFinding { verdict: Verdict::Warn, help: Some(help.to_owned()), ..finding },
            Verdict::Pass | Verdict::Pending | Verdict::Warn => finding,
        });
        Self(softened.collect())
    }

    /// Tells whether the step is refused.
    #[must_use]
    pub fn refused(&self) -> bool {
        self.0.iter().any(|finding| finding.verdict == Verdict::Refuse)
    }
}

/// What to do about an interrupted attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Recovery<O> {
    /// It did nothing, or doing it again is harmless.
    Rerun,
    /// It happened; these are its outputs.
    Adopt(O),
    /// It ended in an error.
    Failed(ActionError),
    /// It still runs; [`Action::reattach`] waits for it.
    Reattach,
    /// Something of it still runs and nothing watches it: no rule may start another attempt beside it.
    Unwatched {
        /// What runs, and what to do about it.
        why: String,
    },
    /// Only a person, a probe or the step's `on_unknown` can tell.
    Ask {
        /// What is not known.
        why: String,
    },
}

/// Something a step can use.
///
/// Cancel-safety: when `cx.cancel` fires, `run` ends what it started and returns a cancelled error
/// soon; its future is dropped after a grace.
pub trait Action: Send + Sync + 'static {
    /// The facts of the action.
    const SPEC: ActionSpec;
    /// The arguments under `with:`. Unknown fields must be denied.
    type Params: DeserializeOwned + JsonSchema + Send + Sync;
    /// The outputs, readable as `steps.<id>.<field>`.
    type Output: Serialize + DeserializeOwned + JsonSchema + Send + Sync;

    /// Tells what the step may do and to what. Pure.
    ///
    /// # Errors
    /// Gives every argument that makes no sense, with its path inside `with:`.
    fn effects(&self, params: &Self::Params, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>>;

    /// Tells what a person types to the same end, as [`super::by_hand`] says; empty where there is no equivalent.
    /// Pure. Late values may be pending, and secrets stand as names.
    fn by_hand(&self, params: &Self::Params, cx: &PlanContext<'_>) -> Vec<String> {
        let _ = (params, cx);
        Vec::new()
    }

    /// Looks whether the step can succeed; changes nothing.
    fn check(
        &self,
        params: &Self::Params,
        cx: &CheckContext,
    ) -> impl Future<Output = Result<Findings, ActionError>> + Send {
        let _ = (params, cx);
        async { Ok(Findings::default()) }
    }

    /// Makes one attempt.
    fn run(
        &self,
        params: &Self::Params,
        cx: &RunContext,
    ) -> impl Future<Output = Result<Self::Output, ActionError>> + Send;

    /// Judges an attempt that was running when an engine died. Changes nothing.
    fn recover(
        &self,
        params: &Self::Params,
        cut: &Interrupted,
        cx: &CheckContext,
    ) -> impl Future<Output = Result<Recovery<Self::Output>, ActionError>> + Send {
        let _ = (params, cut, cx);
        let rerun = Self::SPEC.idempotency == Idempotency::Idempotent || Self::SPEC.effect <= EffectClass::Read;
        async move {
            Ok(if rerun {
                Recovery::Rerun
            } else {
                Recovery::Ask { why: "the attempt was cut off by the end of the engine".to_owned() }
            })
        }
    }

    /// Waits for an attempt that outlived its engine, as [`Recovery::Reattach`] said.
    fn reattach(
        &self,
        params: &Self::Params,
        cut: &Interrupted,
        cx: &RunContext,
    ) -> impl Future<Output = Result<Self::Output, ActionError>> + Send {
        let _ = (params, cut, cx);
        async { Err(ActionError::fatal("this action never outlives its engine")) }
    }

    /// Removes a resource that a run registered (a drill's scratch instance). Gone already is success.
    fn remove(
        &self,
        resource: &str,
        data: &serde_json::Value,
        cx: &RunContext,
    ) -> impl Future<Output = Result<(), ActionError>> + Send {
        let _ = (data, cx);
        let message = format!("this action registers no resource, so it cannot remove `{resource}`");
        async { Err(ActionError::fatal(message)) }
    }
}
