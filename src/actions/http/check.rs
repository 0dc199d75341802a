//! `http.check`: services and URLs answer as they should.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::patience::{Patience, Tried};
use super::super::service::Selection;
use super::client;
use crate::action::by_hand::{command_line, remark};
use crate::action::{
    Access, Action, ActionError, ActionSpec, DatabaseRef, EffectClass, Effects, Example, Idempotency, ParamFault,
    PlanContext, RunContext, ServiceRef, Target,
};
use crate::base::clock::monotonic;
use crate::base::units::Span;
use crate::language::inventory::Inventory;

/// Asks URLs.
pub struct Check;

/// The longest one request may take.
const REQUEST: Duration = Duration::from_secs(10);

/// The arguments of `http.check`: one of `url`, `service` and `services_of`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// An URL.
    #[serde(default)]
    url: Option<String>,
    /// The `url` of one service of the inventory.
    #[serde(default)]
    service: Option<ServiceRef>,
    /// The `url` of every service that uses this database and has one.
    #[serde(default)]
    services_of: Option<DatabaseRef>,
    /// The status that is wanted. Default 200.
    #[serde(default = "ok")]
    status: u16,
    /// A text that must stand in the first MiB of the body.
    #[serde(default)]
    contains: Option<String>,
    /// How long each URL is asked again until it answers so. Default: it is asked once.
    #[serde(default)]
    within: Option<Span>,
    /// The pause between two requests. Default `1s`.
    #[serde(default)]
    every: Option<Span>,
}

fn ok() -> u16 {
    200
}

/// What `http.check` gives.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Each URL that answered as it should.
    pub checked: Vec<Answered>,
}

/// One URL that answered.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The URL.
    pub url: String,
    /// The status.
    pub status: u16,
    /// How long the last request took, in milliseconds.
    pub millis: u64,
    /// How often it was asked.
    pub tries: u32,
}

impl Params {
    fn urls(&self, inventory: &Inventory) -> Result<Vec<reqwest::Url>, ParamFault> {
        let selection = Selection { service: self.service.clone(), services_of: self.services_of.clone() };
        let one_service = selection.service.is_some();
        match (&self.url, one_service || selection.services_of.is_some()) {
            (Some(url), false) => return Ok(vec![client::parse("/url", url)?]),
            (None, true) => {}
            (Some(_), true) | (None, false) => {
                return Err(ParamFault::new("", "exactly one of `url`, `service` and `services_of` is wanted"));
            }
        }
        let mut urls = Vec::new();
        for chosen in selection.choose(inventory)? {
            match &chosen.service.url {
                Some(url) => urls.push(client::parse("", url)?),
                None if one_service => {
                    return Err(ParamFault::new("/service", format!("service `{}` has no `url`", chosen.name)));
                }
                None => {}
            }
        }
        Ok(urls)
    }

    async fn ask(&self, url: &reqwest::Url) -> Result<(u16, u64), String> {
        let from = monotonic();
        let answer = client::get(url, REQUEST).await?;
        let millis = u64::try_from(from.elapsed().as_millis()).unwrap_or(u64::MAX);
        if answer.status != self.status {
            return Err(format!("it answered with status {} instead of {}", answer.status, self.status));
        }
        match &self.contains {
            Some(text) if !answer.body.contains(text) => Err(format!("its answer does not contain `{text}`")),
            Some(_) | None => Ok((answer.status, millis)),
        }
    }
}

impl Action for Check {
    const SPEC: ActionSpec = ActionSpec {
        name: "http.check",
        summary: "Asks an URL, or the URLs of services, until each answers with the wanted status.",
        effect: EffectClass::Read,
        idempotency: Idempotency::Idempotent,
        has_check: false,
        reports_progress: false,
        version: 1,
        examples: &[
            Example { title: "one URL", with: "url: http://127.0.0.1:8080/health\ncontains: ready" },
            Example { title: "whatever uses a database", with: "services_of: main-db\nstatus: 200\nwithin: 2m" },
        ],
    };
    type Params = Params;
    type Output = Output;

    fn effects(&self, params: &Params, cx: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let mut faults = Vec::new();
        if !(100..600).contains(&params.status) {
            faults.push(ParamFault::new("/status", format!("{} is not a status of HTTP", params.status)));
        }
        let urls = params.urls(cx.inventory).map_err(|fault| vec![fault])?;
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(urls.into_iter().fold(Effects::of(EffectClass::Read), |effects, url| {
            effects.target(Access::Read, Target::Url { prefix: url.to_string() })
        }))
    }

    fn by_hand(&self, params: &Params, cx: &PlanContext<'_>) -> Vec<String> {
        let Ok(urls) = params.urls(cx.inventory) else { return Vec::new() };
        let within = params.within.map(|within| format!(" within {within}")).unwrap_or_default();
        let contains = params.contains.as_ref().map(|text| format!(", and the answer contains `{text}`"));
        let expected = format!("each answers with status {}{within}{}", params.status, contains.unwrap_or_default());
        let ask = |url: &reqwest::Url| command_line(["curl", "-sS", "-i", "-m", "10", url.as_str()]);
        [remark(&expected)].into_iter().chain(urls.iter().map(ask)).collect()
    }

    async fn run(&self, params: &Params, cx: &RunContext) -> Result<Output, ActionError> {
        let urls = params.urls(&cx.about.inventory).map_err(|fault| ActionError::fatal(fault.message))?;
        if urls.is_empty() {
            let message = "no service has an `url` in the inventory: nothing to check";
            cx.reporter.note(message.to_owned(), serde_json::Value::Null);
        }
        let patience = Patience::new(params.within, params.every);
        let mut checked = Vec::new();
        for url in urls {
            let Tried { value: (status, millis), tries, .. } =
                patience.until(url.as_str(), &cx.cancel, || params.ask(&url)).await?;
            checked.push(Answered { url: url.to_string(), status, millis, tries });
        }
        Ok(Output { checked })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Params;
    use crate::language::inventory::{Database, Inventory, Service};

    #[test]
    fn the_urls_are_those_of_the_services_that_have_one() {
        let mut inventory = Inventory::default();
        let url = Some("http://127.0.0.1:1/".to_owned());
        inventory.services.insert("api".to_owned(), Service { url, ..Service::default() });
        inventory.services.insert("worker".to_owned(), Service::default());
        let services = vec!["worker".to_owned(), "api".to_owned()];
        inventory.databases.insert("main".to_owned(), Database { services, ..Database::default() });
        let urls = |with| {
            let params: Params = serde_json::from_value(with).expect("arguments");
            params.urls(&inventory).map(|urls| urls.len()).map_err(|fault| fault.message)
        };
        assert_eq!(urls(json!({ "services_of": "main" })), Ok(1));
        assert_eq!(urls(json!({ "service": "api" })), Ok(1));
        assert_eq!(urls(json!({ "url": "https://example.org/x" })), Ok(1));
        for wrong in [
            json!({}),
            json!({ "service": "worker" }),
            json!({ "url": "ftp://x/" }),
            json!({ "url": "http://x/", "service": "api" }),
        ] {
            assert!(urls(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
