//! `notify.webhook`: tells a service by a signed HTTP request.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::http::client::{self, Request};
use super::super::process::Variables;
use super::{mark, signature};
use crate::action::{
    Action, ActionError, ActionSpec, CheckContext, EffectClass, Effects, Example, Idempotency, Interrupted, Late,
    ParamFault, PlanContext, Recovery, RunContext,
};
use crate::base::clock::{monotonic, now};
use crate::base::secret::{SecretText, TOKEN_OPEN};
use crate::base::units::Span;

/// Tells a service.
pub struct Webhook;

/// How long a request may take unless the step says otherwise.
const LIMIT: Duration = Duration::from_secs(10);

/// The arguments of `notify.webhook`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Where it is sent: `https://host/path`. Redirects are not followed.
    url: Late<SecretText>,
    /// The method. Default `POST`.
    #[serde(default)]
    method: Verb,
    /// Headers added to the request; secrets may flow here.
    #[serde(default)]
    headers: Variables,
    /// A text, or a tree that is sent as JSON. Default: in a rule of `notify` the event, in a step run, mode and step.
    #[serde(default)]
    body: Option<Late<Body>>,
    /// Signs the request: `X-Runbook-Signature` is the HMAC-SHA256 of `X-Runbook-Timestamp`, a dot and the body.
    #[serde(default)]
    secret: Option<Late<SecretText>>,
    /// The status that is wanted. Default: any from 200 to 299.
    #[serde(default)]
    status: Option<u16>,
    /// How long the request may take. Default `10s`.
    #[serde(default)]
    timeout: Option<Span>,
}

/// The method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Verb {
    #[default]
    Post,
    Put,
    Patch,
}

/// Anything JSON can say; secrets and late values may stand anywhere in it.
#[derive(Debug, Clone, Deserialize)]
struct Body(Value);

impl JsonSchema for Body {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Body".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let inner = generator.subschema_for::<Self>();
        schemars::json_schema!({ "x-secret": true, "x-late": true, "additionalProperties": inner, "items": inner })
    }
}

/// What `notify.webhook` gives.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The status of the answer.
    pub status: u16,
    /// How long the request took, in milliseconds.
    pub millis: u64,
}

impl Params {
    /// What is sent, byte for byte, and what it is.
    fn payload(&self, cx: &RunContext) -> Result<(Vec<u8>, &'static str), ActionError> {
        let body = match &self.body {
            Some(body) => body.get()?.0.clone(),
            None => json!({ "run": cx.about.run.as_str(), "mode": cx.about.mode.as_str(), "step": cx.step.as_str() }),
        };
        Ok(match mark::body(cx.about.mode, body) {
            Value::String(text) => {
                let is_json = serde_json::from_str::<Value>(&text).is_ok_and(|value| !value.is_string());
                (text.into_bytes(), if is_json { "application/json" } else { "text/plain; charset=utf-8" })
            }
            tree => (tree.to_string().into_bytes(), "application/json"),
        })
    }

    fn headers(&self, (body, kind): (&[u8], &'static str), cx: &RunContext) -> Result<HeaderMap, ActionError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let timestamp = now().as_second();
        let mut own = vec![
            ("x-runbook-timestamp", timestamp.to_string()),
            ("x-runbook-mode", cx.about.mode.as_str().to_owned()),
            ("idempotency-key", cx.key().to_owned()),
        ];
        if let Some(secret) = &self.secret {
            own.push(("x-runbook-signature", signature::sign(secret.get()?.reveal(), timestamp, body)?));
        }
        for (name, value) in &self.headers {
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|error| ActionError::fatal(format!("`{name}` cannot name a header")).because(&error))?;
            headers.insert(header, header_value(name, value.get()?.reveal())?);
        }
        for (name, value) in own {
            headers.insert(HeaderName::from_static(name), header_value(name, &value)?);
        }
        Ok(headers)
    }

    fn wants(&self, status: u16) -> bool {
        self.status.map_or((200..300).contains(&status), |wanted| wanted == status)
    }
}

fn header_value(name: &str, text: &str) -> Result<HeaderValue, ActionError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        ActionError::fatal(format!("the value of the header `{name}` has characters no header may have"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads the address; messages show no more of it than the host, since the rest is often a secret.
fn address(text: &str) -> Result<Url, ActionError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| ActionError::fatal("`url` is not an URL of `http` or `https`").help("write `https://host/path`"))
}

impl Action for Webhook {
    const SPEC: ActionSpec = ActionSpec {
        name: "notify.webhook",
        summary: "Tells a service by an HTTP request, signed where a secret is given.",
        effect: EffectClass::Write,
        idempotency: Idempotency::NotIdempotent,
        has_check: false,
        reports_progress: false,
        version: 1,
        examples: &[
            Example {
                title: "a chat",
                with: "url: https://chat.example.org/hooks/ops\nbody: { text: the database is back }",
            },
            Example {
                title: "a service that takes POST or PUT and answers with 202",
                with: "url: https://events.example.org/runbook\nmethod: PUT\nheaders: { x-team: platform }\nbody: recovered\nstatus: 202\ntimeout: 5s",
            },
        ],
    };
    type Params = Params;
    type Output = Output;

    fn effects(&self, params: &Params, _: &PlanContext<'_>) -> Result<Effects, Vec<ParamFault>> {
        let mut faults = Vec::new();
        // The value of a secret is not known yet.
        if let Some(url) = params.url.known().filter(|url| !url.reveal().contains(TOKEN_OPEN)) {
            faults.extend(client::parse("/url", url.reveal()).err());
        }
        if let Some(status) = params.status.filter(|status| !(100..600).contains(status)) {
            faults.push(ParamFault::new("/status", format!("{status} is not a status of HTTP")));
        }
        for name in params.headers.keys().filter(|name| HeaderName::from_bytes(name.as_bytes()).is_err()) {
            faults.push(ParamFault::new("/headers", format!("`{name}` cannot name a header")));
        }
        if faults.is_empty() { Ok(Effects::of(EffectClass::Write)) } else { Err(faults) }
    }

    async fn run(&self, params: &Params, cx: &RunContext) -> Result<Output, ActionError> {
        let url = address(params.url.get()?.reveal())?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let (body, kind) = params.payload(cx)?;
        let headers = params.headers((&body, kind), cx)?;
        let method = match params.method {
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Patch => Method::PATCH,
        };
        let limit = params.timeout.map_or(LIMIT, |timeout| timeout.0);
        let from = monotonic();
        let sent = tokio::select! {
            sent = client::send(Request { method, url, headers, body }, limit) => sent,
            () = cx.cancel.cancelled() => return Err(ActionError::cancelled(format!("the request to `{host}` was called off"))),
        };
        let status = sent.map_err(|why| ActionError::retryable(format!("`{host}` does not answer: {why}")))?.status;
        let millis = u64::try_from(from.elapsed().as_millis()).unwrap_or(u64::MAX);
        if params.wants(status) {
            return Ok(Output { status, millis });
        }
        let message = format!("`{host}` answered with status {status}");
        Err(if status >= 500 || matches!(status, 408 | 425 | 429) {
            ActionError::retryable(message)
        } else {
            ActionError::fatal(message)
        })
    }

    /// Telling twice does no harm, and the key lets the receiver know it for the same.
    async fn recover(&self, _: &Params, _: &Interrupted, _: &CheckContext) -> Result<Recovery<Output>, ActionError> {
        Ok(Recovery::Rerun)
    }
}
