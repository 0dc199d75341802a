//! Brings services into a state, one after the other, and proves it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::provider::{Order, Provider, ServiceState};
use super::{Chosen, Selection};
use crate::action::by_hand::remark;
use crate::action::{
    Access, ActionError, CheckContext, EffectClass, Effects, Findings, ParamFault, PlanContext, RunContext, Target,
};
use crate::base::clock::monotonic;
use crate::base::units::Span;
use crate::event::Progress;

/// How often a service is asked whether it is there yet.
const EVERY: Duration = Duration::from_millis(250);
/// How long a service may take unless the step says otherwise.
pub(super) const WITHIN: Span = Span(Duration::from_secs(60));

/// What was done to one service.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceResult {
    /// The service.
    pub name: String,
    /// What it did before.
    pub before: ServiceState,
    /// What it does now.
    pub after: ServiceState,
}

/// What was done to all services.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Each service, in the order it was told.
    pub services: Vec<ServiceResult>,
    /// Why there was nothing to do, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing_to_do: Option<String>,
}

/// The effects of an order: each service is a target.
pub(super) fn effects(
    selection: &Selection,
    order: Option<Order>,
    cx: &PlanContext<'_>,
) -> Result<Effects, Vec<ParamFault>> {
    let (class, access) = match order {
        Some(Order::Start | Order::Stop) => (EffectClass::Write, Access::Write),
        None => (EffectClass::Read, Access::Read),
    };
    let mut effects = Effects::of(class);
    for chosen in selection.choose(cx.inventory).map_err(|fault| vec![fault])? {
        let provider = Provider::of(&chosen).map_err(|error| vec![ParamFault::new("", error.to_string())])?;
        effects = effects.program(provider.program()).target(access, Target::Service { name: chosen.name.to_owned() });
    }
    Ok(effects)
}

/// The command that a person gives each service, and the one that proves it.
pub(super) fn by_hand(selection: &Selection, order: Option<Order>, cx: &PlanContext<'_>) -> Vec<String> {
    let Ok(chosen) = selection.choose(cx.inventory) else { return Vec::new() };
    if chosen.is_empty() {
        return vec![remark(&selection.nothing())];
    }
    let providers = chosen.iter().filter_map(|chosen| Provider::of(chosen).ok());
    providers
        .flat_map(|provider| order.map(|order| provider.order_line(order)).into_iter().chain([provider.state_line()]))
        .collect()
}

/// Looks whether each service can be asked.
pub(super) async fn check(selection: &Selection, cx: &CheckContext) -> Result<Findings, ActionError> {
    let chosen = selection.chosen(&cx.about.inventory)?;
    if chosen.is_empty() {
        return Ok(Findings::default().pass(selection.nothing()));
    }
    let mut findings = Findings::default();
    for chosen in chosen {
        findings = match Provider::of(&chosen)?.state(&*cx.host, cx.about.secrets.as_ref()).await {
            Ok(state) => findings.pass(format!("service `{}` is {}", chosen.name, state.as_str())),
            Err(error) => {
                let causes = error.info().causes.iter().map(|cause| format!(": {cause}")).collect::<String>();
                let message = format!("service `{}` cannot be asked: {error}{causes}", chosen.name);
                findings.refuse(message, "correct the service in the inventory")
            }
        };
    }
    Ok(findings)
}

/// Brings each service into a state and proves it; one that is there already is left alone.
pub(super) async fn bring(
    selection: &Selection,
    order: Order,
    within: Span,
    cx: &RunContext,
) -> Result<Output, ActionError> {
    let chosen = selection.chosen(&cx.about.inventory)?;
    if chosen.is_empty() {
        cx.reporter.note(selection.nothing(), serde_json::Value::Null);
        return Ok(Output { services: Vec::new(), nothing_to_do: Some(selection.nothing()) });
    }
    let mut services = Vec::new();
    for chosen in chosen {
        services.push(bring_one(&chosen, order, within, cx).await?);
    }
    let were_so = services.iter().all(|service| service.before == service.after);
    let already = match order {
        Order::Start => "the services ran already",
        Order::Stop => "the services were stopped already",
    };
    Ok(Output { services, nothing_to_do: were_so.then(|| already.to_owned()) })
}

async fn bring_one(
    chosen: &Chosen<'_>,
    order: Order,
    within: Span,
    cx: &RunContext,
) -> Result<ServiceResult, ActionError> {
    let (goal, doing) = match order {
        Order::Start => (ServiceState::Running, "starting"),
        Order::Stop => (ServiceState::Stopped, "stopping"),
    };
    let provider = Provider::of(chosen)?;
    let before = provider.state(cx.host.as_read(), cx.about.secrets.as_ref()).await?;
    if before != goal {
        cx.reporter.progress(Progress::Doing { text: format!("{doing} service `{}`", chosen.name) });
        provider.tell((order, within), &*cx.host, cx.about.secrets.as_ref()).await?;
    }
    let until = monotonic() + within.0;
    loop {
        let after = provider.state(cx.host.as_read(), cx.about.secrets.as_ref()).await?;
        if after == goal {
            return Ok(ServiceResult { name: chosen.name.to_owned(), before, after });
        }
        if monotonic() >= until {
            let message = format!(
                "service `{}` is {} {within} after it was told to be {}",
                chosen.name,
                after.as_str(),
                goal.as_str()
            );
            return Err(ActionError::retryable(message));
        }
        tokio::select! {
            () = cx.cancel.cancelled() => {
                return Err(ActionError::cancelled(format!("{doing} service `{}` was cancelled", chosen.name)));
            }
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
