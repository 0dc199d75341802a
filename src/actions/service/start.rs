//! `service.start`: starts services and proves that they run.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Selection;
use super::outcome::{self, Output, WITHIN};
use super::provider::Order;
use crate::action::{
    Action, ActionError, ActionSpec, CheckContext, DatabaseRef, EffectClass, Effects, Example, Findings, Idempotency,
    ParamFault, PlanContext, RunContext, ServiceRef,
};
use crate::base::units::Span;

/// Starts services.
pub struct Start;

/// The arguments of `service.start`: one of `service` and `services_of`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// One service of the inventory.
    #[serde(default)]
    service: Option<ServiceRef>,
    /// All services that use this database, in the order of the inventory.
    #[serde(default)]
    services_of: Option<DatabaseRef>,
    /// How long each may take until it is running. Default `1m`.
    #[serde(default)]
    within: Option<Span>,
}

impl Params {
    fn selection(&self) -> Selection {
        Selection { service: self.service.clone(), services_of: self.services_of.clone() }
    }
}

impl Action for Start {
    const SPEC: ActionSpec = ActionSpec {
        name: "service.start",
        summary: "Starts a service, or all services of a database, and proves that they run; what is running already is left alone.",
        effect: EffectClass::Write,
        idempotency: Idempotency::Idempotent,
        has_check: true,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "one service", with: "service: backend" },
            Example { title: "whatever uses a database", with: "services_of: main-db\nwithin: 2m" },
        ],
    };
    type Params = Params;
    type Output = Output;

    fn effects(&self, params: &Params, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        outcome::effects(&params.selection(), Some(Order::Start), cx)
    }

    fn by_hand(&self, params: &Params, cx: &PlanContext<'_>) -> Vec<String> {
        outcome::by_hand(&params.selection(), Some(Order::Start), cx)
    }

    async fn check(&self, params: &Params, cx: &CheckContext) -> Result<Findings, ActionError> {
        outcome::check(&params.selection(), cx).await
    }

    async fn run(&self, params: &Params, cx: &RunContext) -> Result<Output, ActionError> {
        outcome::bring(&params.selection(), Order::Start, params.within.unwrap_or(WITHIN), cx).await
    }
}
