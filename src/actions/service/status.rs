//! `service.status`: tells what services do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Selection;
use super::outcome;
use super::provider::{Provider, ServiceState};
use crate::action::{
    Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings, Idempotency,
    ParamFault, PlanContext, RunContext, ServiceRef,
};

/// Tells what services do.
pub struct Status;

/// The arguments of `service.status`: one of `service` and `services_of`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// One service of the inventory.
    #[serde(default)]
    service: Option<ServiceRef>,
    /// All services that use this database, in the order of the inventory.
    #[serde(default)]
    services_of: Option<DatabaseRef>,
    /// Fails unless each service does this.
    #[serde(default)]
    expect: Option<ServiceState>,
}

/// What services do.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Each service.
    pub services: Vec<ServiceReport>,
    /// Whether every one runs; true when there is none.
    pub all_running: bool,
    /// Whether every one is stopped; true when there is none.
    pub all_stopped: bool,
}

/// What one service does.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceReport {
    /// The service.
    pub name: String,
    /// What it does.
    pub state: ServiceState,
}

impl Params {
    fn selection(&self) -> Selection {
        Selection { service: self.service.clone(), services_of: self.services_of.clone() }
    }
}

impl Action for Status {
    const SPEC: ActionSpec = ActionSpec {
        name: "service.status",
        summary: "Tells whether a service, or each service of a database, runs.",
        effect: EffectClass::Read,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "one service", with: "service: backend" },
            Example { title: "all must be stopped", with: "services_of: main-db\nexpect: stopped" },
        ],
    };
    type Params = Params;
    type Output = Output;

    fn effects(&self, params: &Params, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        outcome::effects(&params.selection(), None, cx)
    }

    fn by_hand(&self, params: &Params, cx: &PlanContext<'_>) -> Vec<String> {
        outcome::by_hand(&params.selection(), None, cx)
    }

    async fn check(&self, params: &Params, cx: &CheckContext) -> Result<Findings, ActionError> {
        outcome::check(&params.selection(), cx).await
    }

    async fn run(&self, params: &Params, cx: &RunContext) -> Result<Output, ActionError> {
        let selection = params.selection();
        let chosen = selection.chosen(&cx.about.inventory)?;
        if chosen.is_empty() {
            cx.reporter.note(selection.nothing(), serde_json::Value::Null);
        }
        let mut services = Vec::new();
        for chosen in chosen {
            let state = Provider::of(&chosen)?.state(cx.host.as_read(), cx.about.secrets.as_ref()).await?;
            services.push(ServiceReport { name: chosen.name.to_owned(), state });
        }
        let wrong = services.iter().find(|report| params.expect.is_some_and(|expected| report.state != expected));
        if let Some(report) = wrong {
            let message = format!("service `{}` is {}", report.name, report.state.as_str());
            return Err(ActionError::retryable(message));
        }
        let all = |state| services.iter().all(|report| report.state == state);
        Ok(Output { all_running: all(ServiceState::Running), all_stopped: all(ServiceState::Stopped), services })
    }
}
