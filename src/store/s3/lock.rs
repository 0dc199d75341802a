//! Object Lock: what keeps a version from being deleted.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockRetention, ObjectLockRetentionMode};

use super::dress::{date_time, keyed, timestamp};
use super::error::{Verdict, is_unreadable_success, verdict};
use super::session::Session;
use crate::action::{Hold, ObjectKey, Protection, StoreError};
use crate::base::Timestamp;
use crate::language::inventory::LockMode;

/// Tells what protects an object.
pub(super) async fn protection(session: &Session, key: &ObjectKey) -> Result<Protection, StoreError> {
    let object = session.object(key);
    let locked_until = retention(session, key).await?.and_then(|lock| lock.retain_until_date.as_ref().map(timestamp));
    let asked = session.asked(&object, "look at the legal hold of", "s3:GetObjectLegalHold");
    let request = session.client().get_object_legal_hold().bucket(session.bucket()).key(&object);
    let legal_hold = match request.send().await {
        Ok(answer) => answer.legal_hold.and_then(|hold| hold.status) == Some(ObjectLockLegalHoldStatus::On),
        Err(error) if has_none(&error) => false,
        Err(error) if verdict(&error) == Verdict::Absent => return Err(session.absent(key).await),
        Err(error) => return Err(asked.failed(&error)),
    };
    Ok(Protection { locked_until, legal_hold })
}

async fn retention(session: &Session, key: &ObjectKey) -> Result<Option<ObjectLockRetention>, StoreError> {
    let object = session.object(key);
    let asked = session.asked(&object, "look at the lock of", "s3:GetObjectRetention");
    match session.client().get_object_retention().bucket(session.bucket()).key(&object).send().await {
        Ok(answer) => Ok(answer.retention),
        Err(error) if has_none(&error) => Ok(None),
        Err(error) if verdict(&error) == Verdict::Absent => Err(session.absent(key).await),
        // Some servers do not know the question and tell the lock among the facts. Facts without a lock prove nothing:
        // they are left out where a permission is missing.
        Err(error) if is_unreadable_success(&error) => {
            head_retention(session, &object).await.map(Some).ok_or_else(|| asked.failed(&error))
        }
        Err(error) => Err(asked.failed(&error)),
    }
}

async fn head_retention(session: &Session, object: &str) -> Option<ObjectLockRetention> {
    let facts = keyed!(session.client().head_object().key(object), session).send().await.ok()?;
    let mode = ObjectLockRetentionMode::from(facts.object_lock_mode?.as_str());
    Some(ObjectLockRetention::builder().mode(mode).retain_until_date(facts.object_lock_retain_until_date?).build())
}

/// Whether the answer says that the object, or its whole bucket, knows no locks.
fn has_none<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    match error.code() {
        Some("NoSuchObjectLockConfiguration" | "ObjectLockConfigurationNotFoundError") => true,
        Some("InvalidRequest") => error.message().is_some_and(|words| words.contains("Object Lock")),
        Some(_) | None => false,
    }
}

/// Sets or lifts the legal hold.
pub(super) async fn hold(session: &Session, key: &ObjectKey, hold: Hold) -> Result<(), StoreError> {
    let object = session.object(key);
    let asked = session.asked(&object, "hold", "s3:PutObjectLegalHold");
    let status = match hold {
        Hold::On => ObjectLockLegalHoldStatus::On,
        Hold::Off => ObjectLockLegalHoldStatus::Off,
    };
    let wanted = ObjectLockLegalHold::builder().status(status).build();
    let request = session.client().put_object_legal_hold().bucket(session.bucket()).key(&object).legal_hold(wanted);
    match request.send().await {
        Ok(_) => Ok(()),
        Err(error) if has_none(&error) => Err(without_locks(session)),
        Err(error) if verdict(&error) == Verdict::Absent => Err(session.absent(key).await),
        Err(error) => Err(asked.failed(&error)),
    }
}

/// Extends the lock; a longer one stays as it is.
pub(super) async fn lock_until(session: &Session, key: &ObjectKey, until: Timestamp) -> Result<(), StoreError> {
    let there = retention(session, key).await?;
    let locked = there.as_ref().and_then(|lock| lock.retain_until_date.as_ref()).map(timestamp);
    if locked.is_some_and(|locked| locked.as_second() >= until.as_second()) {
        return Ok(());
    }
    let mode =
        there.and_then(|lock| lock.mode).unwrap_or(match session.entry.object_lock.as_ref().map(|lock| lock.mode) {
            Some(LockMode::Compliance) => ObjectLockRetentionMode::Compliance,
            Some(LockMode::Governance) | None => ObjectLockRetentionMode::Governance,
        });
    let object = session.object(key);
    let asked = session.asked(&object, "lock", "s3:PutObjectRetention");
    let wanted = ObjectLockRetention::builder().mode(mode).retain_until_date(date_time(until)).build();
    let request = session.client().put_object_retention().bucket(session.bucket()).key(&object).retention(wanted);
    match request.send().await {
        Ok(_) => Ok(()),
        Err(error) if has_none(&error) => Err(without_locks(session)),
        Err(error) if verdict(&error) == Verdict::Absent => Err(session.absent(key).await),
        Err(error) => Err(asked.failed(&error)),
    }
}

fn without_locks(session: &Session) -> StoreError {
    let bucket = session.bucket();
    session.refused(format!("the bucket `{bucket}` has no Object Lock: it is chosen when a bucket is created"))
}
