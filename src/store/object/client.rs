//! The clients of the two providers, made at the first use.

use std::sync::Arc;
use std::time::Duration;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::PaginatedListStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::action::{ActionError, Secrets, StoreError};
use crate::language::inventory::{StoreCredentials, StoreEntry};

/// What is asked of a client.
pub(super) trait Client: ObjectStore + PaginatedListStore {}

impl<T: ObjectStore + PaginatedListStore> Client for T {}

/// Whose storage it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
}

/// What a client is made of.
pub(super) struct Account {
    pub(super) provider: Provider,
    pub(super) bucket: String,
    pub(super) endpoint: Option<String>,
    pub(super) credentials: Option<StoreCredentials>,
    pub(super) secrets: Arc<dyn Secrets>,
}

impl Account {
    pub(super) fn new(provider: Provider, bucket: String, entry: &StoreEntry, secrets: Arc<dyn Secrets>) -> Self {
        let (endpoint, credentials) = (entry.endpoint.clone(), entry.credentials.clone());
        Self { provider, bucket, endpoint, credentials, secrets }
    }

    /// Fetches the secrets and makes the client. Blocking: a secret may be asked of a program.
    pub(super) fn client(&self, store: &str) -> Result<Arc<dyn Client>, StoreError> {
        if let Some(endpoint) = self.endpoint.as_ref().filter(|endpoint| is_open(endpoint)) {
            let what =
                format!("`{endpoint}` is neither `https://` nor on this machine: what is sent there can be read");
            return Err(StoreError::Refused { store: store.to_owned(), what });
        }
        let made = match self.provider {
            Provider::Google => self.google(store),
            Provider::Azure => self.azure(store),
        }?;
        made.map_err(|error| StoreError::Refused {
            store: store.to_owned(),
            what: format!("its client cannot be made: {error}"),
        })
    }

    fn secret(&self, store: &str, name: &str) -> Result<String, StoreError> {
        let failed = |error: ActionError| StoreError::Refused {
            store: store.to_owned(),
            what: format!("its secret `{name}` cannot be had: {error}"),
        };
        Ok(self.secrets.get(name).map_err(failed)?.reveal().to_owned())
    }

    fn azure(&self, store: &str) -> Result<object_store::Result<Arc<dyn Client>>, StoreError> {
        let mut builder = match &self.credentials {
            None => MicrosoftAzureBuilder::from_env(),
            Some(credentials) => {
                let mut builder = MicrosoftAzureBuilder::new();
                if let Some(account) = &credentials.account {
                    builder = builder.with_account(account);
                }
                if let Some(name) = &credentials.account_key {
                    builder = builder.with_access_key(self.secret(store, name)?);
                }
                if let Some(name) = &credentials.sas {
                    let sas = self.secret(store, name)?;
                    builder = builder.with_config(AzureConfigKey::SasKey, sas.trim_start_matches('?'));
                }
                builder
            }
        };
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        let builder = builder.with_container_name(&self.bucket).with_retry(retry()).with_client_options(self.options());
        Ok(builder.build().map(|client| Arc::new(client) as Arc<dyn Client>))
    }

    fn google(&self, store: &str) -> Result<object_store::Result<Arc<dyn Client>>, StoreError> {
        let named = self.credentials.as_ref().and_then(|credentials| credentials.service_account.as_ref());
        let mut builder = match named {
            None => GoogleCloudStorageBuilder::from_env(),
            Some(name) => GoogleCloudStorageBuilder::new().with_service_account_key(self.secret(store, name)?),
        };
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_base_url(endpoint);
        }
        let builder = builder.with_bucket_name(&self.bucket).with_retry(retry()).with_client_options(self.options());
        Ok(builder.build().map(|client| Arc::new(client) as Arc<dyn Client>))
    }

    fn options(&self) -> ClientOptions {
        let plain = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        ClientOptions::new()
            .with_allow_http(plain)
            .with_connect_timeout(Duration::from_secs(20))
            // The time between two pieces, not of a whole body: those may take hours.
            .with_read_timeout(Duration::from_secs(60))
            .with_timeout_disabled()
    }
}

/// Whether others on the way could read what is sent there.
fn is_open(endpoint: &str) -> bool {
    let Some(rest) = endpoint.strip_prefix("http://") else { return !endpoint.starts_with("https://") };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    !loopback && host != "localhost"
}

fn retry() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(10), base: 2.0 };
    RetryConfig { backoff, max_retries: 5, retry_timeout: Duration::from_secs(120) }
}

#[cfg(test)]
mod tests {
    use super::is_open;

    #[test]
    fn only_this_machine_is_spoken_to_in_plain() {
        for endpoint in ["https://x.example", "http://127.0.0.1:10000/dev", "http://[::1]:9/x", "http://localhost:1"] {
            assert!(!is_open(endpoint), "{endpoint}");
        }
        for endpoint in ["http://10.0.0.1", "http://127.0.0.1.example", "ftp://127.0.0.1", "x", "http://[::2]/"] {
            assert!(is_open(endpoint), "{endpoint}");
        }
    }
}
