//! A store in use: its settings, resolved, and its connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aws_sdk_s3::types::ServerSideEncryption as ServerSide;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};

use super::address::Address;
use super::connect::{Connection, Wanted, connect, secret_of};
use super::error::Asked;
use super::patience::Patience;
use crate::action::{ObjectKey, Secrets, StoreError};
use crate::base::secret::SecretText;
use crate::language::inventory::{ServerSideEncryption, StoreEntry};

/// A store in use.
pub(super) struct Session {
    /// The store's name.
    pub(super) store: String,
    pub(super) address: Address,
    pub(super) entry: StoreEntry,
    pub(super) connection: Arc<Connection>,
    /// The key that is sent along with each request (SSE-C).
    pub(super) customer: Option<CustomerKey>,
}

/// A key of the customer's.
pub(super) struct CustomerKey {
    base64: SecretText,
    md5: String,
}

impl CustomerKey {
    fn of(text: &SecretText) -> Result<Self, String> {
        let text = text.reveal().trim();
        match BASE64.decode(text) {
            Ok(bytes) if bytes.len() == 32 => {
                Ok(Self { base64: SecretText::new(text.to_owned()), md5: BASE64.encode(Md5::digest(&bytes)) })
            }
            Ok(bytes) => Err(format!("has {} bytes and not 32", bytes.len())),
            Err(_) => Err("is not base64".to_owned()),
        }
    }
}

/// Who opens a session, and with what.
pub(super) struct Opener {
    pub(super) store: String,
    pub(super) address: Address,
    pub(super) entry: StoreEntry,
    pub(super) secrets: Arc<dyn Secrets>,
}

impl Opener {
    /// Connects; what the process knows already is used again.
    pub(super) async fn open(&self) -> Result<Session, StoreError> {
        let wanted =
            Wanted { store: &self.store, bucket: &self.address.bucket, entry: &self.entry, secrets: &self.secrets };
        let customer = match &self.entry.sse {
            Some(ServerSideEncryption::Customer(name)) => {
                let text = secret_of(&wanted, name).await?;
                Some(CustomerKey::of(&text).map_err(|why| StoreError::Refused {
                    store: self.store.clone(),
                    what: format!("the secret `{name}` {why}: `sse: {{ customer: … }}` takes 32 bytes in base64"),
                })?)
            }
            Some(ServerSideEncryption::AES256 | ServerSideEncryption::Kms(_)) | None => None,
        };
        let connection = connect(&wanted).await?;
        Ok(Session {
            store: self.store.clone(),
            address: self.address.clone(),
            entry: self.entry.clone(),
            connection,
            customer,
        })
    }
}

impl Session {
    pub(super) fn client(&self) -> &aws_sdk_s3::Client {
        &self.connection.client
    }

    pub(super) fn patience(&self) -> Patience {
        Patience::of(&self.entry)
    }

    pub(super) fn bucket(&self) -> &str {
        &self.address.bucket
    }

    pub(super) fn object(&self, key: &ObjectKey) -> String {
        self.address.object(key)
    }

    /// What is asked of the server, for the words of an error. `object` is a whole name in the bucket.
    pub(super) fn asked<'a>(&'a self, object: &'a str, verb: &'a str, permission: &'a str) -> Asked<'a> {
        Asked { store: &self.store, bucket: self.bucket(), object, verb, permission }
    }

    pub(super) fn refused(&self, what: String) -> StoreError {
        StoreError::Refused { store: self.store.clone(), what }
    }

    /// Says that an object is absent, but only of a bucket that is there: not every server names a missing bucket when
    /// it is asked for an object.
    pub(super) async fn absent(&self, key: &ObjectKey) -> StoreError {
        match self.bucket_is_there().await {
            Ok(()) => self.not_found(key),
            Err(error) => error,
        }
    }

    /// Proves, once per process, that the bucket is there.
    pub(super) async fn bucket_is_there(&self) -> Result<(), StoreError> {
        if self.connection.proven.load(Ordering::Relaxed) {
            return Ok(());
        }
        let denied = |status: Option<u16>| status == Some(403);
        match self.client().head_bucket().bucket(self.bucket()).send().await {
            Ok(_) => {}
            // Only a bucket that is there can refuse.
            Err(error) if denied(error.raw_response().map(|raw| raw.status().as_u16())) => {}
            Err(error) if error.raw_response().is_some_and(|raw| raw.status().as_u16() == 404) => {
                let bucket = self.bucket();
                let advice = "create it, or correct the store's `url`";
                return Err(self.refused(format!("there is no bucket `{bucket}`: {advice}")));
            }
            Err(error) => return Err(self.asked("", "look for", "s3:ListBucket").failed(&error)),
        }
        self.connection.proven.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn not_found(&self, key: &ObjectKey) -> StoreError {
        StoreError::NotFound { store: self.store.clone(), key: key.to_string() }
    }

    pub(super) fn replaced(&self, key: &ObjectKey) -> StoreError {
        StoreError::Replaced { store: self.store.clone(), key: key.to_string() }
    }

    pub(super) fn exists(&self, key: &ObjectKey) -> StoreError {
        StoreError::Exists { store: self.store.clone(), key: key.to_string() }
    }

    pub(super) fn customer_algorithm(&self) -> Option<String> {
        self.customer.as_ref().map(|_| "AES256".to_owned())
    }

    pub(super) fn customer_key(&self) -> Option<String> {
        self.customer.as_ref().map(|key| key.base64.reveal().to_owned())
    }

    pub(super) fn customer_md5(&self) -> Option<String> {
        self.customer.as_ref().map(|key| key.md5.clone())
    }

    /// How the server encrypts with a key of its own.
    pub(super) fn server_side(&self) -> Option<ServerSide> {
        match self.entry.sse.as_ref()? {
            ServerSideEncryption::AES256 => Some(ServerSide::Aes256),
            ServerSideEncryption::Kms(_) => Some(ServerSide::AwsKms),
            ServerSideEncryption::Customer(_) => None,
        }
    }

    pub(super) fn kms_key(&self) -> Option<String> {
        match self.entry.sse.as_ref()? {
            ServerSideEncryption::Kms(key) => Some(key.clone()),
            ServerSideEncryption::AES256 | ServerSideEncryption::Customer(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_key_of_the_customer_has_32_bytes_in_base64() {
        let key = |text: &str| CustomerKey::of(&SecretText::new(text.to_owned())).map(|key| key.md5);
        assert_eq!(key(&format!("{}\n", BASE64.encode([0; 32]))).unwrap(), "cLyPS3KoaSFGi/joRB3OUQ==");
        assert_eq!(key(&BASE64.encode([0; 16])).unwrap_err(), "has 16 bytes and not 32");
        assert_eq!(key("no base64!").unwrap_err(), "is not base64");
    }
}
