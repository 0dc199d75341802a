//! Opens connections as the AWS tools do: credentials and region come from the store's settings, else from the
//! environment, the profile, single sign-on, web identity or the machine's role.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{
    Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

use super::manner::{Guard, Manners};
use super::patience::Patience;
use super::region;
use crate::action::{Secrets, StoreError};
use crate::base::Digest;
use crate::base::secret::SecretText;
use crate::language::inventory::{AssumedRole, StoreEntry};

const ATTEMPTS: u32 = 6;
/// What signs requests to a server that has no regions.
const DEFAULT_REGION: &str = "us-east-1";

/// What a process knows of a bucket on a server, and the way to it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) manners: Manners,
    /// Whether the server is known to honour `If-None-Match: *`.
    pub(super) conditional: AtomicBool,
    /// Whether the bucket is known to be there.
    pub(super) proven: AtomicBool,
}

/// Every connection of this process, by what it was made of.
static CONNECTIONS: Mutex<BTreeMap<String, Arc<Connection>>> = Mutex::new(BTreeMap::new());

/// What a connection is made of.
pub(super) struct Wanted<'a> {
    pub(super) store: &'a str,
    pub(super) bucket: &'a str,
    pub(super) entry: &'a StoreEntry,
    pub(super) secrets: &'a Arc<dyn Secrets>,
}

/// Static credentials, as fetched.
struct Keys {
    id: SecretText,
    secret: SecretText,
    token: Option<SecretText>,
}

/// Gives the connection of this process for these settings; opens it at the first call.
///
/// # Errors
/// Fails when a secret cannot be had, or the bucket lies in a region that is not allowed.
pub(super) async fn connect(wanted: &Wanted<'_>) -> Result<Arc<Connection>, StoreError> {
    let keys = keys(wanted).await?;
    let name = wanted.fingerprint(keys.as_ref());
    let known = |name: &str| CONNECTIONS.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
    if let Some(connection) = known(&name) {
        return Ok(connection);
    }
    let opened = Arc::new(open(wanted, keys).await?);
    let mut connections = CONNECTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Arc::clone(connections.entry(name).or_insert(opened)))
}

impl Wanted<'_> {
    /// What tells connections apart: a client lives in one runtime, and belongs to those who know its keys.
    fn fingerprint(&self, keys: Option<&Keys>) -> String {
        let runtime = tokio::runtime::Handle::current().id();
        let keys = keys.map(|keys| {
            let token = keys.token.as_ref().map(SecretText::reveal).unwrap_or_default();
            Digest::of(format!("{}\0{}\0{token}", keys.id.reveal(), keys.secret.reveal()).as_bytes())
        });
        let entry = self.entry;
        format!(
            "{runtime} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {} {keys:?}",
            entry.endpoint,
            entry.region,
            entry.path_style,
            entry.profile,
            entry.role,
            entry.checksums,
            entry.allow_regions,
            entry.stall,
            self.bucket,
        )
    }

    fn refused(&self, what: String) -> StoreError {
        StoreError::Refused { store: self.store.to_owned(), what }
    }
}

/// Fetches the secrets that the settings name.
async fn keys(wanted: &Wanted<'_>) -> Result<Option<Keys>, StoreError> {
    let Some(names) = &wanted.entry.credentials else { return Ok(None) };
    let (id, secret) = match (&names.access_key_id, &names.secret_access_key) {
        (Some(id), Some(secret)) => (id, secret),
        (None, None) => return Ok(None),
        (Some(_), None) | (None, Some(_)) => {
            let what = "`credentials` needs `access_key_id` and `secret_access_key` together";
            return Err(wanted.refused(what.to_owned()));
        }
    };
    let token = match &names.session_token {
        Some(name) => Some(secret_of(wanted, name).await?),
        None => None,
    };
    Ok(Some(Keys { id: secret_of(wanted, id).await?, secret: secret_of(wanted, secret).await?, token }))
}

/// Fetches a secret; a person may be asked for it meanwhile.
pub(super) async fn secret_of(wanted: &Wanted<'_>, name: &str) -> Result<SecretText, StoreError> {
    let (secrets, name) = (Arc::clone(wanted.secrets), name.to_owned());
    let fetched = tokio::task::spawn_blocking(move || secrets.get(&name)).await;
    match fetched {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let info = error.info();
            let causes = info.causes.iter().map(|cause| format!(": {cause}")).collect::<String>();
            Err(wanted.refused(format!("no credentials: {}{causes}", info.message)))
        }
        Err(error) => Err(wanted.refused(format!("no credentials: {error}"))),
    }
}

async fn open(wanted: &Wanted<'_>, keys: Option<Keys>) -> Result<Connection, StoreError> {
    let entry = wanted.entry;
    let mut shared = load(entry, keys).await;
    let endpoint = entry.endpoint.clone().or_else(|| shared.endpoint_url().map(str::to_owned));
    if shared.region().is_none() {
        shared = shared.into_builder().region(Region::new(DEFAULT_REGION)).build();
        if endpoint.is_none() {
            let client = client(entry, &with_role(entry, shared.clone()).await);
            if let Some(found) = region::of_bucket(&client, wanted.bucket).await {
                shared = shared.into_builder().region(Region::new(found)).build();
            }
        }
    }
    let shared = with_role(entry, shared).await;
    let client = client(entry, &shared);
    region::allow(wanted, &client).await?;
    Ok(Connection {
        client,
        manners: Manners::new(entry.checksums, Guard::of(endpoint.as_deref())),
        conditional: AtomicBool::new(endpoint.is_none()),
        proven: AtomicBool::new(false),
    })
}

/// Loads what the settings, and else the AWS tools' configuration, say.
async fn load(entry: &StoreEntry, keys: Option<Keys>) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(retries())
        .timeout_config(Patience::of(entry).timeouts());
    if let Some(profile) = &entry.profile {
        loader = loader.profile_name(profile);
    }
    // With keys and a server of its own nothing else is asked: no configuration, no metadata service of a machine.
    let alone = keys.is_some() && entry.endpoint.is_some() && entry.profile.is_none();
    if let Some(region) = entry.region.as_deref().or(alone.then_some(DEFAULT_REGION)) {
        loader = loader.region(Region::new(region.to_owned()));
    }
    if let Some(keys) = keys {
        let token = keys.token.map(|token| token.reveal().to_owned());
        loader = loader.credentials_provider(Credentials::new(
            keys.id.reveal(),
            keys.secret.reveal(),
            token,
            None,
            "the store's settings",
        ));
    }
    loader.load().await
}

async fn with_role(entry: &StoreEntry, shared: SdkConfig) -> SdkConfig {
    let Some(AssumedRole { arn, external_id, session_name }) = &entry.role else { return shared };
    let mut role = AssumeRoleProvider::builder(arn).configure(&shared);
    role = role.session_name(session_name.as_deref().unwrap_or("runbook"));
    if let Some(id) = external_id {
        role = role.external_id(id);
    }
    let provider = SharedCredentialsProvider::new(role.build().await);
    shared.into_builder().credentials_provider(provider).build()
}

fn client(entry: &StoreEntry, shared: &SdkConfig) -> Client {
    // Checksums are ours to ask for: those that the client adds by itself are refused by many servers. A download that
    // stalls is seen by whoever reads it.
    let stalled =
        StalledStreamProtectionConfig::enabled().grace_period(Patience::of(entry).stall()).download_enabled(false);
    let mut config = Builder::from(shared)
        .stalled_stream_protection(stalled.build())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(entry.path_style.unwrap_or(entry.endpoint.is_some()));
    if let Some(endpoint) = &entry.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Client::from_conf(config.build())
}

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(Duration::from_millis(300))
        .with_max_backoff(Duration::from_secs(20))
}
