//! Secrets from AWS Secrets Manager. Region and credentials are found as the AWS tools find them: environment,
//! profile, single sign-on, web identity, the machine's role. Nothing of it is loaded unless such a secret is wanted.

use std::error::Error;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_secretsmanager::config::Builder;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata as _;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use serde_json::Value;

use super::bridge;
use super::file::text;
use super::miss::Miss;
use crate::language::inventory::AwsSecret;

/// One request.
const ATTEMPT: Duration = Duration::from_secs(10);

pub(super) fn fetch(name: &str, secret: &AwsSecret) -> Result<String, Miss> {
    let who = format!("secret `{name}`: AWS Secrets Manager");
    let answer = bridge::wait(&who, async {
        let answer = ask(secret).await.map_err(|error| missed(&who, secret, &error))?;
        whole(name, secret, answer)
    })?;
    match &secret.key {
        Some(key) => member(name, (secret, key), &answer),
        None => Ok(answer),
    }
}

async fn ask(secret: &AwsSecret) -> Result<GetSecretValueOutput, Box<Failure>> {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let limits = TimeoutConfig::builder().connect_timeout(Duration::from_secs(5)).operation_attempt_timeout(ATTEMPT);
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http).timeout_config(limits.build());
    if let Some(region) = &secret.region {
        loader = loader.region(Region::new(region.clone()));
    }
    let mut config = Builder::from(&loader.load().await);
    if let Some(endpoint) = &secret.endpoint {
        config = config.endpoint_url(endpoint);
    }
    let client = aws_sdk_secretsmanager::Client::from_conf(config.build());
    let asked = client.get_secret_value().secret_id(&secret.secret);
    asked.set_version_stage(secret.version_stage.clone()).send().await.map_err(Box::new)
}

type Failure =
    aws_sdk_secretsmanager::error::SdkError<aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError>;

/// Says why there is no answer; what the service answered is never part of it but for its own words of refusal.
fn missed(who: &str, secret: &AwsSecret, error: &Failure) -> Miss {
    let id = &secret.secret;
    match error.code() {
        Some("ResourceNotFoundException") => Miss::absent(format!("{who} has no `{id}`"))
            .help("look at its name and region: `aws secretsmanager list-secrets`"),
        Some(code) => {
            let words = error.message().map(|words| format!(": {words}")).unwrap_or_default();
            Miss::failed(format!("{who} refuses `{id}` ({code}){words}"))
        }
        None => Miss::unreached(format!("{who} cannot be asked for `{id}`: {}", one_line(error)))
            .help("credentials and region are found as the AWS tools find them: `aws sts get-caller-identity`"),
    }
}

fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut words = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        words.push(cause.to_string());
        next = cause.source();
    }
    words.dedup();
    words.join(": ")
}

fn whole(name: &str, secret: &AwsSecret, answer: GetSecretValueOutput) -> Result<String, Miss> {
    if let Some(value) = answer.secret_string {
        return Ok(value);
    }
    let bytes = answer.secret_binary.map(|blob| blob.into_inner());
    let bytes = bytes.ok_or_else(|| Miss::absent(format!("secret `{name}`: `{}` has no value", secret.secret)))?;
    text(name, bytes)
}

/// Takes one member of a JSON object.
fn member(name: &str, (secret, key): (&AwsSecret, &str), text: &str) -> Result<String, Miss> {
    let id = &secret.secret;
    let object: Value = serde_json::from_str(text)
        // The parser's words may hold a part of the value.
        .map_err(|_| Miss::failed(format!("secret `{name}`: `{id}` is not JSON, so it has no member `{key}`")))?;
    match object.get(key) {
        Some(Value::String(value)) => Ok(value.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) => {
            Err(Miss::failed(format!("secret `{name}`: the member `{key}` of `{id}` is not a text")))
        }
        None => Err(Miss::failed(format!("secret `{name}`: `{id}` has no member `{key}`"))),
    }
}
