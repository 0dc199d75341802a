//! The settings of the bucket: lifecycle, versions, encryption, replication, locks, policy.
//!
//! What is not set is no failure: S3 answers 404 with a code of its own for each, and here it is an empty value.

mod lifecycle;
mod lock;
mod replication;
mod settings;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use serde_json::Value;

use super::session::Session;
use super::store::S3Store;
use crate::action::{
    BoxFuture, Bucket, DefaultEncryption, DefaultLock, Lifecycle, LockDefault, ObjectKey, ReadBucket, ReplicationRule,
    ReplicationStatus, StoreError, Versioning,
};

/// Gives an answer; `None` when the server says by one of these codes that nothing is set.
fn unless_unset<T, E>(
    session: &Session,
    answer: Result<T, SdkError<E>>,
    (verb, permission): (&str, &str),
    unset: &[&str],
) -> Result<Option<T>, StoreError>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code().is_some_and(|code| unset.contains(&code)) => Ok(None),
        Err(error) => Err(session.asked("", verb, permission).failed(&error)),
    }
}

impl ReadBucket for S3Store {
    fn bucket(&self) -> &str {
        &self.address().bucket
    }
    fn root(&self) -> &str {
        &self.address().prefix
    }
    fn region(&self) -> BoxFuture<'_, Result<String, StoreError>> {
        Box::pin(async { settings::region(&*self.session().await?).await })
    }
    fn lifecycle(&self) -> BoxFuture<'_, Result<Lifecycle, StoreError>> {
        Box::pin(async { lifecycle::read(&*self.session().await?).await })
    }
    fn versioning(&self) -> BoxFuture<'_, Result<Versioning, StoreError>> {
        Box::pin(async { settings::versioning(&*self.session().await?).await })
    }
    fn encryption(&self) -> BoxFuture<'_, Result<Option<DefaultEncryption>, StoreError>> {
        Box::pin(async { settings::encryption(&*self.session().await?).await })
    }
    fn replication(&self) -> BoxFuture<'_, Result<Vec<ReplicationRule>, StoreError>> {
        Box::pin(async { replication::rules(&*self.session().await?).await })
    }
    fn replicated(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ReplicationStatus, StoreError>> {
        let key = key.clone();
        Box::pin(async move { replication::status(&*self.session().await?, &key).await })
    }
    fn object_lock(&self) -> BoxFuture<'_, Result<DefaultLock, StoreError>> {
        Box::pin(async { lock::read(&*self.session().await?).await })
    }
    fn policy(&self) -> BoxFuture<'_, Result<Option<Value>, StoreError>> {
        Box::pin(async { settings::policy(&*self.session().await?).await })
    }
}

impl Bucket for S3Store {
    fn put_lifecycle(&self, lifecycle: Lifecycle) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { lifecycle::write(&*self.writing().await?, lifecycle).await })
    }
    fn put_versioning(&self, versioning: Versioning) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { settings::put_versioning(&*self.writing().await?, versioning).await })
    }
    fn put_encryption(&self, encryption: DefaultEncryption) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { settings::put_encryption(&*self.writing().await?, encryption).await })
    }
    fn put_object_lock(&self, default: LockDefault) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { lock::write(&*self.writing().await?, default).await })
    }
    fn put_policy(&self, policy: Value) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { settings::put_policy(&*self.writing().await?, policy).await })
    }
}
