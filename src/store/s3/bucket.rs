//! A bucket as a whole, for those who look after its settings.

use std::error::Error;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::error::Asked;
use super::store::S3Store;
use crate::action::StoreError;

/// The bucket of a store, with a client that has the store's credentials, region and limits.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// The store's name.
    pub store: String,
    /// The bucket's name.
    pub name: String,
    /// What the names of the store's objects begin with: empty, or ending in `/`.
    pub prefix: String,
    /// The client.
    pub client: Client,
}

impl S3Store {
    /// Gives the bucket; connects if that was not done yet.
    ///
    /// # Errors
    /// Fails when there are no credentials or the bucket's region is not allowed.
    pub async fn bucket(&self) -> Result<Bucket, StoreError> {
        let session = self.session().await?;
        Ok(Bucket {
            store: session.store.clone(),
            name: session.address.bucket.clone(),
            prefix: session.address.prefix.clone(),
            client: session.client().clone(),
        })
    }
}

impl Bucket {
    /// Makes a store's error of what the server answered: `cannot {verb} the bucket …`. `permission` is what the
    /// request takes, as in `s3:PutLifecycleConfiguration`.
    pub fn failed<E>(&self, verb: &str, permission: &str, error: &SdkError<E>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        Asked { store: &self.store, bucket: &self.name, object: "", verb, permission }.failed(error)
    }
}
