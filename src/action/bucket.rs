//! The settings of a bucket: what a store can be asked and told beside its objects.
//!
//! A place without such settings has none of it: [`super::ReadStore::read_bucket`] gives `None`. Names and meanings
//! are those of the Amazon S3 API; prefixes here are whole, as the bucket sees them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BoxFuture, ObjectKey, StoreError};
use crate::base::Timestamp;
use crate::language::inventory::LockMode;

/// The settings of a bucket, read.
pub trait ReadBucket: Send + Sync {
    /// The bucket's name.
    fn bucket(&self) -> &str;
    /// What every key of the store begins with inside the bucket: empty, or ending in `/`.
    fn root(&self) -> &str;
    /// Tells where the data lies.
    fn region(&self) -> BoxFuture<'_, Result<String, StoreError>>;
    /// Reads the lifecycle rules, foreign ones included; none is an empty list.
    fn lifecycle(&self) -> BoxFuture<'_, Result<Lifecycle, StoreError>>;
    /// Tells whether versions are kept.
    fn versioning(&self) -> BoxFuture<'_, Result<Versioning, StoreError>>;
    /// Tells how the server encrypts what is put without a word about it.
    fn encryption(&self) -> BoxFuture<'_, Result<Option<DefaultEncryption>, StoreError>>;
    /// Reads the replication rules; none is an empty list.
    fn replication(&self) -> BoxFuture<'_, Result<Vec<ReplicationRule>, StoreError>>;
    /// Tells how far the replication of an object has come.
    fn replicated(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ReplicationStatus, StoreError>>;
    /// Reads the default of Object Lock.
    fn object_lock(&self) -> BoxFuture<'_, Result<DefaultLock, StoreError>>;
    /// Reads the policy; `None` when there is none.
    fn policy(&self) -> BoxFuture<'_, Result<Option<Value>, StoreError>>;
}

/// The settings of a bucket, changed. Every change is whole: what was read before is replaced.
pub trait Bucket: ReadBucket {
    /// Replaces the lifecycle rules; an empty list removes them.
    fn put_lifecycle(&self, lifecycle: Lifecycle) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Turns versions on, or suspends them; they cannot be turned off again.
    fn put_versioning(&self, versioning: Versioning) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Sets how the server encrypts what is put without a word about it.
    fn put_encryption(&self, encryption: DefaultEncryption) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Sets the default of Object Lock. Many servers allow it only for buckets made with it.
    fn put_object_lock(&self, lock: LockDefault) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Replaces the policy.
    fn put_policy(&self, policy: Value) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// The lifecycle of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lifecycle {
    /// The rules in the server's order.
    pub rules: Vec<LifecycleRule>,
    /// The server's setting for the smallest object that changes its class, kept as it was found.
    pub smallest_transition: Option<String>,
}

/// One lifecycle rule, with everything the API knows: a foreign rule is put back as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LifecycleRule {
    /// Its id.
    pub id: String,
    /// Whether it works.
    pub enabled: bool,
    /// Which objects it is about.
    pub filter: LifecycleFilter,
    /// Other classes for objects as they age.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transitions: Vec<Transition>,
    /// When objects go; with versions: when they are hidden behind a delete marker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Moment>,
    /// Delete markers behind which nothing is left go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lone_delete_markers: bool,
    /// Other classes for old versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub noncurrent_transitions: Vec<NoncurrentTransition>,
    /// When old versions go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noncurrent_expiry: Option<NoncurrentExpiry>,
    /// Days after which the parts of an upload that never ended go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_uploads_after_days: Option<u32>,
}

/// Which objects a rule is about: those that fit everything that is said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LifecycleFilter {
    /// What their keys begin with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Their tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Larger than so many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub larger_than_bytes: Option<u64>,
    /// Smaller than so many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smaller_than_bytes: Option<u64>,
}

/// When a rule acts on an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// So many days after it was put.
    AfterDays(u32),
    /// On this day, whatever its age.
    On(#[schemars(with = "String")] Timestamp),
}

/// Another class for objects as they age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transition {
    /// When.
    pub when: Moment,
    /// The class as the provider names it.
    pub class: String,
}

/// Another class for old versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoncurrentTransition {
    /// Days after it was replaced or hidden.
    pub days: u32,
    /// The class as the provider names it.
    pub class: String,
    /// So many newer old versions are left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer_kept: Option<u32>,
}

/// When old versions go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoncurrentExpiry {
    /// Days after it was replaced or hidden.
    pub days: u32,
    /// So many newer old versions are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer_kept: Option<u32>,
}

/// Whether a bucket keeps versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Versioning {
    /// It never did.
    Off,
    /// It does.
    On,
    /// It did; the versions of that time are still there.
    Suspended,
}

/// How the server encrypts what is put without a word about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DefaultEncryption {
    /// With a key of the store's (SSE-S3).
    Aes256,
    /// With a key of the key service (SSE-KMS).
    Kms {
        /// The key's id or ARN; the provider's own when absent.
        key: Option<String>,
        /// Fewer calls of the key service, by a key per bucket.
        bucket_key: bool,
    },
    /// Another method, as the server names it.
    Other(String),
}

/// One replication rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicationRule {
    /// Its id.
    pub id: String,
    /// Whether it works.
    pub enabled: bool,
    /// What the keys it is about begin with.
    pub prefix: String,
    /// Whether it is about some objects of the prefix only.
    pub by_tag: bool,
    /// The name of the bucket it copies to.
    pub to_bucket: String,
    /// Whether deletions are copied too.
    pub delete_markers: bool,
}

/// How far the replication of an object has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicationStatus {
    /// No rule was about it when it was put, or the server does not say.
    Unknown,
    /// It waits.
    Pending,
    /// It is copied.
    Completed,
    /// It could not be copied.
    Failed,
    /// It is a copy itself.
    Replica,
}

/// Object Lock of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DefaultLock {
    /// The bucket cannot lock.
    Off,
    /// It can; objects are locked when their put says so.
    WithoutDefault,
    /// It locks whatever is put.
    Locks(LockDefault),
}

/// How long whatever is put stays locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LockDefault {
    /// Who may lift it.
    pub mode: LockMode,
    /// Days; a year of the server's is 365 of them.
    pub days: u32,
}
