//! Secrets from HashiCorp Vault: one field of a secret in a key-value store, version 2.
//!
//! Spoken is what Vault's API documentation says of `GET /v1/<mount>/data/<path>` and
//! `POST /v1/auth/<mount>/login`; the defaults are those of its command line.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde_json::{Value, json};

use super::miss::Miss;
use super::{bridge, env, file};
use crate::language::inventory::{AppRole, Credential, VaultSecret};

/// One request.
const REQUEST: Duration = Duration::from_secs(10);
/// How often a server that does not answer or cannot for now is asked, and the pauses between.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

pub(super) fn fetch(name: &str, secret: &VaultSecret, environment: &BTreeMap<String, String>) -> Result<String, Miss> {
    let server = Server::of(name, secret, environment)?;
    let entry = Entry::of(name, secret, environment)?;
    bridge::wait(&server.who, async {
        let token = match &entry {
            Entry::Token(token) => token.clone(),
            Entry::Role { role, secret_id } => server.login(role, secret_id).await?,
        };
        server.read(secret, &token).await
    })
}

/// How the server lets us in.
enum Entry<'a> {
    Token(String),
    Role { role: &'a AppRole, secret_id: String },
}

impl<'a> Entry<'a> {
    fn of(name: &str, secret: &'a VaultSecret, environment: &BTreeMap<String, String>) -> Result<Self, Miss> {
        let credential = |from: &Credential| match from {
            Credential::Env(variable) => env::fetch(name, variable, environment),
            Credential::File(path) => file::fetch(name, path),
        };
        if let Some(role) = &secret.approle {
            return Ok(Self::Role { role, secret_id: credential(&role.secret_id)? });
        }
        if let Some(from) = &secret.token {
            return credential(from).map(Self::Token);
        }
        if let Some(token) = environment.get("VAULT_TOKEN").filter(|token| !token.is_empty()) {
            return Ok(Self::Token(token.clone()));
        }
        let home = environment.get("HOME").map(|home| Path::new(home).join(".vault-token"));
        match home.map(|path| file::fetch(name, &path)) {
            Some(Err(miss @ Miss::Failed(_))) => Err(miss),
            Some(Ok(token)) => Ok(Self::Token(token)),
            Some(Err(Miss::Absent(_))) | None => {
                Err(Miss::absent(format!("secret `{name}`: there is no token for HashiCorp Vault"))
                    .help("set `VAULT_TOKEN`, log in with `vault login`, or give `token` or `approle`"))
            }
        }
    }
}

struct Server {
    client: Client,
    address: Url,
    namespace: Option<String>,
    /// How messages begin: the secret and who is asked for it.
    who: String,
}

impl Server {
    fn of(name: &str, secret: &VaultSecret, environment: &BTreeMap<String, String>) -> Result<Self, Miss> {
        let given = |variable: &str| environment.get(variable).filter(|value| !value.is_empty()).cloned();
        let address = secret.address.clone().or_else(|| given("VAULT_ADDR")).ok_or_else(|| {
            Miss::absent(format!("secret `{name}`: the address of HashiCorp Vault is not known"))
                .help("set `VAULT_ADDR`, or give `address`")
        })?;
        let who = format!("secret `{name}`: HashiCorp Vault at `{address}`");
        let url = Url::parse(&address).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| Miss::failed(format!("{who} is not an URL of `http` or `https`")))?;
        let ca = secret.ca.clone().or_else(|| given("VAULT_CACERT").map(Into::into));
        let client = client(&who, &url, ca.as_deref())?;
        Ok(Self { client, address: url, namespace: secret.namespace.clone().or_else(|| given("VAULT_NAMESPACE")), who })
    }

    async fn login(&self, role: &AppRole, secret_id: &str) -> Result<String, Miss> {
        let body = json!({ "role_id": role.role_id, "secret_id": secret_id }).to_string();
        let path = format!("auth/{}/login", role.mount.trim_matches('/'));
        let request = self.request(Method::POST, &path)?.header("content-type", "application/json").body(body);
        let (status, answer) = self.send(request).await?;
        if !status.is_success() {
            return Err(self.refused(&format!("the login of role `{}`", role.role_id), status, &answer));
        }
        let token = answer.pointer("/auth/client_token").and_then(Value::as_str).map(str::to_owned);
        token.ok_or_else(|| Miss::failed(format!("{} answered the login without a token", self.who)))
    }

    async fn read(&self, secret: &VaultSecret, token: &str) -> Result<String, Miss> {
        let mount = secret.mount.trim_matches('/');
        let shown = format!("{mount}/{}", secret.path.trim_matches('/'));
        let path = format!("{mount}/data/{}", secret.path.trim_matches('/'));
        let (status, answer) = self.send(self.request(Method::GET, &path)?.header("x-vault-token", token)).await?;
        if status == StatusCode::NOT_FOUND {
            return Err(Miss::absent(format!("{} has no `{shown}`", self.who))
                .help(format!("look at it: `vault kv get -mount={mount} {}`", secret.path)));
        }
        if !status.is_success() {
            return Err(self.refused(&format!("`{shown}`"), status, &answer));
        }
        let field = &secret.field;
        match answer.pointer("/data/data").and_then(|data| data.get(field)) {
            Some(Value::String(value)) => Ok(value.clone()),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) => {
                Err(Miss::failed(format!("{}: the field `{field}` of `{shown}` is not a text", self.who)))
            }
            None if answer.pointer("/data/data").is_none() => {
                Err(Miss::failed(format!("{}: `{mount}` is not a key-value store of version 2", self.who)))
            }
            None => Err(Miss::failed(format!("{}: `{shown}` has no field `{field}`", self.who))),
        }
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Miss> {
        let base = self.address.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}/v1/{path}"))
            .map_err(|error| Miss::failed(format!("{}: `{path}` is not a path", self.who)).because(&error))?;
        let request = self.client.request(method, url).header("x-vault-request", "true");
        Ok(match &self.namespace {
            Some(namespace) => request.header("x-vault-namespace", namespace),
            None => request,
        })
    }

    /// Asks again where the server does not answer or says that it cannot for now.
    async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, Value), Miss> {
        for pause in PAUSES {
            let Some(copy) = request.try_clone() else { break };
            match self.once(copy).await {
                Ok((status, _)) if is_passing(status) => {}
                Ok(answer) => return Ok(answer),
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
        }
        self.once(request).await
    }

    async fn once(&self, request: RequestBuilder) -> Result<(StatusCode, Value), Miss> {
        let response = request.send().await.map_err(|error| self.silent(error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.silent(error))?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    fn silent(&self, error: reqwest::Error) -> Miss {
        Miss::unreached(format!("{} does not answer", self.who)).because(&error.without_url())
    }

    /// The server's own words of refusal name paths and rights, never values.
    fn refused(&self, what: &str, status: StatusCode, answer: &Value) -> Miss {
        let errors = answer["errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let words = errors.map(|words| words.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
        let words = if words.is_empty() { String::new() } else { format!(": {}", words.join("; ")) };
        let told = format!("{} refuses {what} (status {}){words}", self.who, status.as_u16());
        if is_passing(status) { Miss::unreached(told) } else { Miss::failed(told) }
    }
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 412 | 429 | 500 | 502 | 503 | 504)
}

fn client(who: &str, address: &Url, ca: Option<&Path>) -> Result<Client, Miss> {
    crate::base::tls::install();
    let agent = concat!("runbook/", env!("CARGO_PKG_VERSION"));
    // A redirect would carry the token to wherever it leads.
    let no_redirect = reqwest::redirect::Policy::none();
    let mut builder = Client::builder().timeout(REQUEST).user_agent(agent).redirect(no_redirect);
    let host = address.host_str().unwrap_or_default();
    if matches!(host, "localhost" | "[::1]") || host.starts_with("127.") {
        builder = builder.no_proxy();
    }
    if let Some(path) = ca {
        let unread = |error: &(dyn std::error::Error + 'static)| {
            Miss::failed(format!("{who}: the authorities in `{}` cannot be used", path.display())).because(error)
        };
        let pem = std::fs::read(path).map_err(|error| unread(&error))?;
        let authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unread(&error))?;
        builder = builder.tls_certs_merge(authorities);
    }
    builder.build().map_err(|error| Miss::failed(format!("{who} cannot be asked")).because(&error))
}
