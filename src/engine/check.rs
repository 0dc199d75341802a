//! The look before an attempt: preconditions that use actions, then the action's own check.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::capability::{Binding, Leash, Purpose};
use super::execute::revealed;
use super::{Capabilities, Timing};
use crate::action::{
    ActionError, CheckContext, EffectClass, ErasedAction, Findings, Foreseen, Machine, Registry, Reporter,
};
use crate::base::Attempt;
use crate::base::units::Span;
use crate::event::{ErrorClass, StepFinding, Verdict};
use crate::language::runbook::{Retry, RetryClass, RetryOn};
use crate::plan::PlannedStep;
use crate::port::Clock;

/// Everything one check needs, owned.
pub(super) struct CheckJob {
    pub(super) step: PlannedStep,
    pub(super) with: Value,
    pub(super) preconditions: Vec<Value>,
    pub(super) registry: Registry,
    pub(super) hands: Arc<dyn Capabilities>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) timing: Timing,
    /// Ahead of the run: what steps before this one will have done.
    pub(super) before: Before,
    /// Ahead of the run: the outputs to be expected of them.
    pub(super) foreseen: Foreseen,
    /// Makes what the actions of preconditions hold; absent ahead of the run.
    pub(super) aside: Option<Aside>,
}

/// What steps before one will have done.
#[derive(Debug, Clone, Default)]
pub(super) struct Before {
    /// The stores that they write to.
    pub(super) stores: BTreeSet<String>,
    /// Their actions.
    pub(super) actions: BTreeSet<String>,
    /// Whether they make the machine ready.
    pub(super) machine: Machine,
}

/// What a precondition's action is bound with.
pub(super) struct Aside {
    pub(super) leash: Leash,
    pub(super) reporter: Arc<dyn Reporter>,
    pub(super) key: String,
}

impl CheckJob {
    /// Looks, and looks again after a passing failure as the step's retry policy says: looking changes nothing.
    pub(super) async fn make(self) -> Result<Vec<StepFinding>, ActionError> {
        let policy =
            self.step.retry.clone().filter(|policy| {
                self.timing == Timing::Due && policy.on.contains(&RetryOn::Named(RetryClass::Retryable))
            });
        let mut tries = 1;
        loop {
            match (self.look_in_time().await, &policy) {
                (Err(error), Some(policy))
                    if error.info().class == ErrorClass::Retryable && tries < policy.max_attempts =>
                {
                    self.clock.sleep(pause(policy, tries)).await;
                    tries += 1;
                }
                (result, _) => return result,
            }
        }
    }

    /// The step's timeout holds for a look, too: a check that hangs must not hold up the run for ever.
    async fn look_in_time(&self) -> Result<Vec<StepFinding>, ActionError> {
        let Some(limit) = self.step.timeout_ms.map(Duration::from_millis) else { return self.look().await };
        tokio::select! {
            biased;
            found = self.look() => found,
            () = self.clock.sleep(limit) => {
                Err(ActionError::retryable(format!("the check ran longer than `{}` and was given up", Span(limit))))
            }
        }
    }

    async fn look(&self) -> Result<Vec<StepFinding>, ActionError> {
        for precondition in self.preconditions.iter().filter(|precondition| precondition.is_object()) {
            self.precondition(precondition).await?;
        }
        if !self.step.has_check {
            return Ok(Vec::new());
        }
        let action = self.action(&self.step.uses)?;
        let with = revealed(&self.with, &action, &*self.hands)?;
        let cx = self.hands.read(&self.step, self.timing)?;
        let (Before { stores, actions, machine: _ }, foreseen) = (self.before.clone(), self.foreseen.clone());
        let cx = CheckContext { changed_stores: stores, actions_before: actions, foreseen, ..cx };
        refuse(action.check(&with, &cx).await?, self.timing)
    }

    /// An action of effect none or read that must succeed.
    async fn precondition(&self, precondition: &Value) -> Result<(), ActionError> {
        let Some(aside) = &self.aside else { return Ok(()) };
        let uses = precondition.get("uses").and_then(Value::as_str).unwrap_or_default();
        let action = self.action(uses)?;
        if action.spec().effect > EffectClass::Read {
            return Err(ActionError::fatal(format!("precondition `{uses}` may change something, so it is not made")));
        }
        let with = precondition.get("with").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        let with = revealed(&with, &action, &*self.hands)?;
        let cx = self.hands.bind(self.binding(aside))?;
        let result = action.run(&with, &cx).await;
        result.map(drop).map_err(|error| {
            let mut info = error.into_info();
            info.message = format!("precondition `{uses}` is not met: {}", info.message);
            info.into()
        })
    }

    fn binding(&self, aside: &Aside) -> Binding {
        Binding {
            purpose: Purpose::Aside,
            step: self.step.id.clone(),
            attempt: Attempt(0),
            key: aside.key.clone(),
            host: self.step.host.clone(),
            timeout: None,
            leash: aside.leash.clone(),
            reporter: Arc::clone(&aside.reporter),
        }
    }

    fn action(&self, uses: &str) -> Result<Arc<dyn ErasedAction>, ActionError> {
        let known = self.registry.get(uses).map(Arc::clone);
        known.ok_or_else(|| ActionError::fatal(format!("there is no action `{uses}`")))
    }
}

/// A refusal right before the step fails it; ahead of the run it is reported with the rest.
fn refuse(findings: Findings, timing: Timing) -> Result<Vec<StepFinding>, ActionError> {
    let refused = findings.0.iter().find(|finding| finding.verdict == Verdict::Refuse);
    match refused {
        Some(finding) if timing == Timing::Due => {
            let error = ActionError::fatal(finding.message.clone());
            Err(finding.help.iter().cloned().fold(error, ActionError::help))
        }
        Some(_) | None => Ok(findings.0),
    }
}

fn pause(policy: &Retry, tries: u32) -> Duration {
    let factor = policy.backoff.max(0.0).powi(i32::try_from(tries - 1).unwrap_or(i32::MAX));
    let seconds = (policy.delay.0.as_secs_f64() * factor).min(policy.max_delay.0.as_secs_f64());
    Duration::try_from_secs_f64(seconds).unwrap_or(policy.max_delay.0)
}
