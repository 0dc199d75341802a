//! The versions of a bucket that keeps them.

use std::cmp::Reverse;
use std::sync::Arc;

use super::copy::copy;
use super::dress::timestamp;
use super::error::{Verdict, verdict};
use super::session::Session;
use crate::action::{ObjectKey, ObjectVersion, PutOptions, PutOutcome, StoreError};
use crate::base::Timestamp;

/// Lists every version and every mark of a deletion: by key, newest first.
pub(super) async fn list(session: &Session, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError> {
    let below = session.address.below(prefix);
    let asked = session.asked(&below, "list the versions of", "s3:ListBucketVersions");
    let mut found = Vec::new();
    let (mut key_marker, mut version_marker) = (None, None);
    loop {
        let request = session.client().list_object_versions().bucket(session.bucket()).prefix(&below);
        let request = request.set_key_marker(key_marker.take()).set_version_id_marker(version_marker.take());
        let page = request.send().await.map_err(|error| asked.failed(&error))?;
        found.extend(page.versions().iter().filter_map(|one| {
            let size_bytes = u64::try_from(one.size?).ok()?;
            let class = one.storage_class.as_ref().map(|class| class.as_str().to_owned());
            version(session, (one.key()?, one.version_id()?), (one.last_modified(), one.is_latest))
                .map(|version| ObjectVersion { size_bytes: Some(size_bytes), storage_class: class, ..version })
        }));
        found.extend(
            page.delete_markers().iter().filter_map(|one| {
                version(session, (one.key()?, one.version_id()?), (one.last_modified(), one.is_latest))
            }),
        );
        if page.is_truncated != Some(true) {
            break;
        }
        (key_marker, version_marker) = (page.next_key_marker, page.next_version_id_marker);
        if key_marker.is_none() {
            return Err(session.refused("a listing of versions is cut and does not say where it goes on".to_owned()));
        }
    }
    found.sort_by(|one, other| {
        (&one.key, Reverse(one.latest), Reverse(one.at)).cmp(&(&other.key, Reverse(other.latest), Reverse(other.at)))
    });
    Ok(found)
}

fn version(
    session: &Session,
    (object, version): (&str, &str),
    (at, latest): (Option<&aws_sdk_s3::primitives::DateTime>, Option<bool>),
) -> Option<ObjectVersion> {
    Some(ObjectVersion {
        key: session.address.key(object)?,
        version: version.to_owned(),
        at: at.map_or(Timestamp::UNIX_EPOCH, timestamp),
        latest: latest.unwrap_or(false),
        size_bytes: None,
        storage_class: None,
    })
}

/// Makes an old version the newest one again.
pub(super) async fn restore(session: Arc<Session>, key: &ObjectKey, version: &str) -> Result<PutOutcome, StoreError> {
    copy(session, (key, Some(version)), key, PutOptions::default()).await
}

/// Removes one version for good; one that is not there is no error.
pub(super) async fn delete(session: &Session, key: &ObjectKey, version: &str) -> Result<(), StoreError> {
    let object = session.object(key);
    let asked = session.asked(&object, "delete a version of", "s3:DeleteObjectVersion");
    let request = session.client().delete_object().bucket(session.bucket()).key(&object).version_id(version);
    match request.send().await {
        Ok(_) => Ok(()),
        Err(error) if verdict(&error) == Verdict::Absent => Ok(()),
        Err(error) if verdict(&error) == Verdict::Denied => Err(asked.locked_or_denied(&error)),
        Err(error) => Err(asked.failed(&error)),
    }
}

/// Removes an object; in a bucket that keeps versions, its versions stay.
pub(super) async fn delete_newest(session: &Session, key: &ObjectKey) -> Result<(), StoreError> {
    let object = session.object(key);
    session.bucket_is_there().await?;
    let asked = session.asked(&object, "delete", "s3:DeleteObject");
    match session.client().delete_object().bucket(session.bucket()).key(&object).send().await {
        Ok(_) => Ok(()),
        Err(error) if verdict(&error) == Verdict::Absent => Ok(()),
        Err(error) => Err(asked.failed(&error)),
    }
}
