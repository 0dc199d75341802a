//! Asks an URL once, with a limit on time and on what is read.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Url};

use crate::action::{ActionError, ParamFault};

/// What is read of a body at most.
const BODY_BYTES: usize = 1 << 20;

/// What an URL answered.
#[derive(Debug)]
pub(in crate::actions) struct Answer {
    /// The status.
    pub(in crate::actions) status: u16,
    /// The first part of the body.
    pub(in crate::actions) body: String,
}

/// Reads an URL that can be asked.
pub(in crate::actions) fn parse(path: &str, text: &str) -> Result<Url, ParamFault> {
    let url = Url::parse(text).map_err(|error| ParamFault::new(path, format!("`{text}` is not an URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        let fault = ParamFault::new(path, format!("`{text}` is neither `http` nor `https`"));
        return Err(fault.help("write `https://host/path`"));
    }
    Ok(url)
}

/// A request with a body.
pub(in crate::actions) struct Request {
    pub(in crate::actions) method: Method,
    pub(in crate::actions) url: Url,
    pub(in crate::actions) headers: HeaderMap,
    pub(in crate::actions) body: Vec<u8>,
}

/// Sends a request once and follows no redirect: what it carries is for that address alone.
pub(in crate::actions) async fn send(request: Request, limit: Duration) -> Result<Answer, String> {
    let client = client(&request.url, limit, Policy::none()).map_err(|error| error.to_string())?;
    let built = client.request(request.method, request.url).headers(request.headers).body(request.body);
    answer(built).await
}

/// Asks an URL; an answer of any status is an answer. The error says in words why there was none.
pub(in crate::actions) async fn get(url: &Url, limit: Duration) -> Result<Answer, String> {
    let client = client(url, limit, Policy::default()).map_err(|error| error.to_string())?;
    answer(client.get(url.clone())).await
}

async fn answer(request: RequestBuilder) -> Result<Answer, String> {
    let asked = request.send().await;
    let mut response = asked.map_err(|error| chain(&error.without_url()))?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while body.len() < BODY_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => return Err(chain(&error.without_url())),
        }
    }
    body.truncate(BODY_BYTES);
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

fn client(url: &Url, limit: Duration, redirects: Policy) -> Result<Client, ActionError> {
    crate::base::tls::install();
    let agent = concat!("runbook/", env!("CARGO_PKG_VERSION"));
    let mut builder = Client::builder().timeout(limit).redirect(redirects).user_agent(agent);
    let host = url.host_str().unwrap_or_default();
    if matches!(host, "localhost" | "[::1]") || host.starts_with("127.") {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| ActionError::fatal("HTTP cannot be spoken here").because(&error))
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        words.push(cause.to_string());
        next = cause.source();
    }
    words.dedup();
    words.join(": ")
}
