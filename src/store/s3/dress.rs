//! What a new object is dressed with: metadata, class, tags, encryption at rest, lock.

use std::collections::BTreeMap;

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ObjectLockLegalHoldStatus, ObjectLockMode, StorageClass};

use super::address::percent;
use super::head::is_archived;
use super::header;
use super::session::Session;
use crate::action::{PutOptions, StoreError};
use crate::base::{Timestamp, clock};
use crate::language::inventory::LockMode;

/// S3 takes no more bytes of metadata.
const MAX_METADATA_BYTES: usize = 2048;

/// Up to this size S3's own lifecycle rules archive nothing either (AWS, "Lifecycle transitions", since September 2024).
const SMALL_BYTES: usize = 128 * 1024;

/// What a new object is dressed with.
#[derive(Debug, Clone)]
pub(super) struct Dress {
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) class: Option<StorageClass>,
    /// The class of an object that is too small to be archived unasked.
    pub(super) small_class: Option<StorageClass>,
    pub(super) tags: Option<String>,
    pub(super) mode: Option<ObjectLockMode>,
    pub(super) until: Option<DateTime>,
    pub(super) hold: Option<ObjectLockLegalHoldStatus>,
}

impl Dress {
    /// Puts together what a put asks for and what the store's settings say.
    pub(super) fn of(session: &Session, options: &PutOptions) -> Result<Self, StoreError> {
        check(session, &options.metadata)?;
        let entry = &session.entry;
        let kept = entry.object_lock.as_ref().map(|lock| clock::after(clock::now(), lock.keep.0));
        let until = options.locked_until.or(kept);
        let mode = match entry.object_lock.as_ref().map(|lock| lock.mode) {
            Some(LockMode::Compliance) => ObjectLockMode::Compliance,
            Some(LockMode::Governance) | None => ObjectLockMode::Governance,
        };
        let class = options.storage_class.as_deref().or(entry.storage_class.as_deref());
        let readable = entry.storage_class.as_deref().filter(|class| !is_archived(class));
        let small_class = options.storage_class.as_deref().or(readable);
        let tags = entry.tags.iter().map(|(name, value)| format!("{}={}", percent(name, ""), percent(value, "")));
        let tags = tags.collect::<Vec<_>>().join("&");
        Ok(Self {
            metadata: options.metadata.clone(),
            class: class.map(StorageClass::from),
            small_class: small_class.map(StorageClass::from),
            tags: (!tags.is_empty()).then_some(tags),
            mode: until.map(|_| mode),
            until: until.map(date_time),
            hold: entry
                .object_lock
                .as_ref()
                .is_some_and(|lock| lock.legal_hold)
                .then_some(ObjectLockLegalHoldStatus::On),
        })
    }

    /// The metadata as the client wants it; none when there is nothing to say.
    #[expect(clippy::disallowed_types, reason = "the client asks for this type; its order is never seen")]
    pub(super) fn metadata(&self) -> Option<std::collections::HashMap<String, String>> {
        (!self.metadata.is_empty())
            .then(|| self.metadata.iter().map(|(name, value)| (name.clone(), header::write(value))).collect())
    }

    /// The class of an object of this many bytes. What is small stays readable where only the store's settings say
    /// otherwise: manifests and sidecars tell what there is to retrieve, and an archive charges 40 KiB more for each.
    pub(super) fn class_of(&self, bytes: usize) -> Option<StorageClass> {
        if bytes <= SMALL_BYTES { self.small_class.clone() } else { self.class.clone() }
    }

    pub(super) fn is_locked(&self) -> bool {
        self.until.is_some() || self.hold.is_some()
    }
}

/// Metadata travels in the headers of a request.
fn check(session: &Session, metadata: &BTreeMap<String, String>) -> Result<(), StoreError> {
    for name in metadata.keys() {
        let plain =
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
        if name.is_empty() || !plain {
            return Err(session
                .refused(format!("the metadata name `{name}` has other characters than a to z, 0 to 9, `-` and `_`")));
        }
    }
    let size: usize = metadata.iter().map(|(name, value)| name.len() + header::write(value).len()).sum();
    if size > MAX_METADATA_BYTES {
        return Err(session.refused(format!("{size} bytes of metadata are more than {MAX_METADATA_BYTES}")));
    }
    Ok(())
}

/// A time as S3 takes it.
pub(super) fn date_time(at: Timestamp) -> DateTime {
    DateTime::from_secs(at.as_second())
}

/// A time that S3 gave.
pub(super) fn timestamp(at: &DateTime) -> Timestamp {
    Timestamp::new(at.secs(), i32::try_from(at.subsec_nanos()).unwrap_or_default()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Dresses a request that makes an object: PutObject, CreateMultipartUpload and CopyObject have the same settings.
macro_rules! dressed {
    ($request:expr, $session:expr, $dress:expr) => {
        $request
            .bucket($session.bucket())
            .set_metadata($dress.metadata())
            .set_storage_class($dress.class.clone())
            .set_tagging($dress.tags.clone())
            .set_server_side_encryption($session.server_side())
            .set_ssekms_key_id($session.kms_key())
            .set_sse_customer_algorithm($session.customer_algorithm())
            .set_sse_customer_key($session.customer_key())
            .set_sse_customer_key_md5($session.customer_md5())
            .set_object_lock_mode($dress.mode.clone())
            .set_object_lock_retain_until_date($dress.until)
            .set_object_lock_legal_hold_status($dress.hold.clone())
    };
}
pub(super) use dressed;

/// Adds the customer's key to a request that reads or writes an object encrypted with it.
macro_rules! keyed {
    ($request:expr, $session:expr) => {
        $request
            .bucket($session.bucket())
            .set_sse_customer_algorithm($session.customer_algorithm())
            .set_sse_customer_key($session.customer_key())
            .set_sse_customer_key_md5($session.customer_md5())
    };
}
pub(super) use keyed;
