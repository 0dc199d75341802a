//! The worker of one rule: renders, calls the notifier, tries again, writes down what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Occasion;
use crate::action::{ActionError, BoxFuture, ErasedAction, Reporter};
use crate::base::clock;
use crate::base::units::human_duration;
use crate::base::{Attempt, Digest, StepId};
use crate::engine::{Binding, Capabilities, Leash, Purpose, revealed};
use crate::event::{CancelLevel, ErrorClass, Progress};
use crate::journal::{Deliveries, Delivery, DeliveryResult};
use crate::language::runbook::NotifyRule;
use crate::language::template::{Scope, render};
use crate::plan::{BoundPlan, notify};

/// How long one try may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a try that is told to end may take.
const GRACE: Duration = Duration::from_secs(2);
/// The pauses before the second and the third try.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// The argument that is the event where a rule does not give it.
const BODY: &str = "body";

/// The worker of one rule.
pub(super) struct Courier {
    pub(super) number: usize,
    pub(super) rule: NotifyRule,
    pub(super) digest: Digest,
    pub(super) action: Arc<dyn ErasedAction>,
    pub(super) plan: Arc<BoundPlan>,
    pub(super) hands: Arc<dyn Capabilities>,
    pub(super) deliveries: Arc<Deliveries>,
    pub(super) warn: Arc<dyn Fn(&str) + Send + Sync>,
    /// Secrets that had no value at the start, and why.
    pub(super) missing: Arc<BTreeMap<String, String>>,
    /// Fires when nobody waits any longer.
    pub(super) given_up: CancellationToken,
}

impl Courier {
    /// Works until nothing more can come.
    pub(super) fn work(self, queue: Receiver<Occasion>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        for occasion in queue {
            let (tries, result) = match &runtime {
                Ok(runtime) => runtime.block_on(self.deliver(&occasion)),
                Err(error) => (0, Err(ActionError::fatal("no worker can be started").because(error))),
            };
            self.write_down(&occasion, tries, result.err());
        }
    }

    /// Notes a delivery that is not even tried.
    pub(super) fn refuse(&self, occasion: &Occasion, why: &str) {
        self.write_down(occasion, 0, Some(ActionError::fatal(why)));
    }

    async fn deliver(&self, occasion: &Occasion) -> (u32, Result<(), ActionError>) {
        let with = match self.arguments(occasion) {
            Ok(with) => with,
            Err(error) => return (0, Err(error)),
        };
        let mut tries = 0;
        loop {
            if self.given_up.is_cancelled() {
                return (tries, Err(ActionError::cancelled("the run ended and nobody waits any longer")));
            }
            tries += 1;
            let error = match self.attempt(&with, occasion, tries).await {
                Ok(()) => return (tries, Ok(())),
                Err(error) => error,
            };
            let passing = matches!(error.info().class, ErrorClass::Retryable | ErrorClass::Timeout);
            let Some(pause) = PAUSES.get(tries as usize - 1).filter(|_| passing) else { return (tries, Err(error)) };
            tokio::select! {
                () = tokio::time::sleep(*pause) => {}
                () = self.given_up.cancelled() => return (tries, Err(error)),
            }
        }
    }

    /// The arguments with everything rendered but secrets, which stand as references.
    fn arguments(&self, occasion: &Occasion) -> Result<Value, ActionError> {
        if let Some((name, why)) = notify::secrets(&self.rule).iter().find_map(|name| self.missing.get_key_value(name))
        {
            return Err(ActionError::fatal(format!("the secret `{name}` has no value: {why}")));
        }
        let rendered = render(&self.rule.with, &self.scope(occasion));
        let mut with = rendered
            .map_err(|error| ActionError::fatal(format!("`{}` cannot be rendered", error.pointer)).because(&error))?
            .value;
        let schema = self.action.params_schema();
        if with.get(BODY).is_none() && schema.pointer(&format!("/properties/{BODY}")).is_some() {
            with[BODY] = occasion.to_body(&self.plan);
        }
        Ok(with)
    }

    fn scope(&self, occasion: &Occasion) -> Scope {
        let plan = &self.plan;
        let run = json!({
            "id": plan.run,
            "name": plan.name,
            "mode": plan.mode,
            "environment": plan.environment,
            "started_at": plan.started_at,
            "scratch": plan.scratch,
            "actor": plan.actor.name,
            "elapsed": human_duration(occasion.elapsed),
            "outcome": occasion.outcome.clone().unwrap_or_default(),
        });
        Scope::new()
            .with("params", &json!(plan.params))
            .with("vars", &json!(plan.vars))
            .with("env_vars", &json!(plan.env_vars))
            .with("objectives", &json!(plan.objectives))
            .with("run", &run)
            .with("event", &occasion.to_template(plan))
            .with_secrets(plan.inventory.secrets.keys().cloned())
    }

    async fn attempt(&self, with: &Value, occasion: &Occasion, tries: u32) -> Result<(), ActionError> {
        let leash = Leash::default();
        let step: StepId =
            format!("rule_{}", self.number).parse().map_err(|_| ActionError::fatal("the rule has no folder"))?;
        let cx = self.hands.bind(Binding {
            purpose: Purpose::Aside,
            step,
            attempt: Attempt(tries),
            key: format!("{}:notify:{}:{}", self.plan.run, self.digest, occasion.seq.0),
            host: "local".to_owned(),
            timeout: Some(LIMIT),
            leash: leash.clone(),
            reporter: Arc::new(Unheard),
        })?;
        let with = revealed(with, &self.action, &*self.hands)?;
        let mut running = self.action.run(&with, &cx);
        let why = tokio::select! {
            ended = &mut running => return ended.map(drop),
            () = tokio::time::sleep(LIMIT) => {
                ActionError::retryable(format!("it took longer than {} s", LIMIT.as_secs()))
            }
            () = self.given_up.cancelled() => {
                ActionError::cancelled("the run ended and nobody waits any longer")
            }
        };
        leash.pull(CancelLevel::Now);
        // Given the time to end what it started; what it says of that is of no more interest.
        let _ended = tokio::time::timeout(GRACE, running).await;
        Err(why)
    }

    fn write_down(&self, occasion: &Occasion, tries: u32, error: Option<ActionError>) {
        let error = error.map(|error| {
            let info = error.info();
            let tail = info.output_tail.last();
            let words: Vec<&str> =
                std::iter::once(&info.message).chain(&info.causes).chain(tail).map(String::as_str).collect();
            self.hands.redact(&words.join(": ")).into_owned()
        });
        let delivery = Delivery {
            at: clock::now(),
            event: occasion.seq,
            on: occasion.on,
            rule: self.number,
            rule_digest: self.digest,
            uses: self.rule.uses.clone(),
            result: if error.is_none() { DeliveryResult::Delivered } else { DeliveryResult::Failed },
            tries,
            error,
        };
        let (number, uses) = (delivery.rule, &delivery.uses);
        if let Some(error) = &delivery.error {
            (self.warn)(&format!("rule {number} of `notify` (`{uses}`) could not tell `{}`: {error}", on(occasion)));
        }
        if let Err(error) = self.deliveries.add(&delivery) {
            (self.warn)(&format!("what became of rule {number} of `notify` (`{uses}`) cannot be kept: {error}"));
        }
    }
}

fn on(occasion: &Occasion) -> String {
    serde_json::to_value(occasion.on).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Nobody looks at what a notifier reports, and it may register nothing.
struct Unheard;

impl Reporter for Unheard {
    fn progress(&self, _: Progress) {}

    fn note(&self, _: String, _: Value) {}

    fn register(&self, _: String, _: Value) -> BoxFuture<'_, Result<(), ActionError>> {
        Box::pin(async { Err(ActionError::fatal("a notifier registers nothing")) })
    }

    fn removed(&self, _: String) {}
}
