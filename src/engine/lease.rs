//! What a step creates is registered before each of its attempts and removed by a script of its author's.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Capabilities;
use super::capability::Binding;
use super::drive::Driver;
use super::execute::{AttemptJob, bounded};
use super::settle::arguments;
use crate::action::{ActionError, ErasedAction};
use crate::base::clock::after;
use crate::event::EventKind;
use crate::language::runbook::Creation;
use crate::port::Clock;

/// The action that carries a `destroy` out.
pub(super) const SHELL: &str = "shell";
/// How long a removal may take: one that hangs does not hold the run for ever.
pub(super) const REMOVAL_LIMIT: Duration = Duration::from_secs(600);
/// What the data of a lease says it is.
const KIND: &str = "lease";

impl Driver {
    /// What a step is about to create. An attempt made again prolongs what the one before registered.
    pub(super) fn leases(&self, at: usize) -> Vec<EventKind> {
        let step = self.index.step(at);
        if step.creates.is_empty() {
            return Vec::new();
        }
        let with = self.state.steps.get(&step.id).map(arguments).unwrap_or_default();
        let now = self.now();
        let lease = |creation: &Creation| EventKind::ResourceRegistered {
            step: step.id.clone(),
            resource: format!("{KIND}:{}:{}", step.id, creation.name),
            data: json!({
                "kind": KIND,
                "name": creation.name,
                "host": step.host,
                "remove": removal(&creation.destroy, &with),
            }),
            expires_at: Some(after(now, creation.ttl.0)),
        };
        step.creates.iter().map(lease).collect()
    }
}

/// The arguments of the `shell` that removes it: its script in the surroundings of the step. Secrets stand as names.
fn removal(destroy: &str, with: &Value) -> Value {
    let mut arguments = json!({ "script": destroy });
    for name in ["env", "passed", "dir"] {
        if let Some(value) = with.get(name) {
            arguments[name] = value.clone();
        }
    }
    arguments
}

/// The arguments of the `shell` that removes a lease; nothing for what an action registered itself.
pub(super) fn script(data: &Value) -> Option<&Value> {
    data.get("remove").filter(|_| data.get("kind").and_then(Value::as_str) == Some(KIND))
}

/// The removal of one resource, with everything it needs.
pub(super) struct Removal {
    pub(super) resource: String,
    pub(super) data: Value,
    /// The arguments of the `shell` that removes a lease.
    pub(super) script: Option<Value>,
    pub(super) action: Option<Arc<dyn ErasedAction>>,
    pub(super) hands: Arc<dyn Capabilities>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) binding: Binding,
}

impl Removal {
    /// Removes it, within a limit.
    pub(super) async fn make(self) -> Result<(), ActionError> {
        let Self { resource, data, script, action, hands, clock, binding } = self;
        let action = action.ok_or_else(|| ActionError::fatal("the action that removes it is gone"))?;
        let limit = Some(REMOVAL_LIMIT);
        if let Some(with) = script {
            let job = AttemptJob { action, with, hands, clock, binding, limit, cut: None };
            return job.make().await.result.map(|_| ());
        }
        let leash = binding.leash.clone();
        let cx = hands.bind(binding)?;
        let removing = Box::pin(async { action.remove(&resource, &data, &cx).await.map(|()| Value::Null) });
        bounded(removing, &leash, &*clock, limit).await.0.map(|_| ())
    }
}
