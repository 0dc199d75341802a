//! Listings, page by page.

use std::collections::BTreeMap;

use aws_sdk_s3::types::{CommonPrefix, Object};

use super::dress::timestamp;
use super::head::is_archived;
use super::resume::parts;
use super::session::Session;
use crate::action::{Availability, Listing, ObjectFacts, StoreError, Unfinished};
use crate::base::Timestamp;

/// How deep a listing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Everything below.
    All,
    /// Up to the next `/`.
    Level,
}

/// Lists what begins with `prefix`, sorted by key. Foreign names that are no keys are left out and counted in the log.
pub(super) async fn list(session: &Session, prefix: &str, depth: Depth) -> Result<Listing, StoreError> {
    let below = session.address.below(prefix);
    let asked = session.asked(&below, "list", "s3:ListBucket");
    let delimiter = match depth {
        Depth::All => None,
        Depth::Level => Some("/".to_owned()),
    };
    let mut listing = Listing::default();
    let (mut left_out, mut next) = (0_u64, None);
    loop {
        let request = session.client().list_objects_v2().bucket(session.bucket()).prefix(&below);
        let request = request.set_delimiter(delimiter.clone()).set_continuation_token(next.take());
        let page = request.send().await.map_err(|error| asked.failed(&error))?;
        for object in page.contents() {
            match facts(session, object) {
                Some(facts) => listing.objects.push(facts),
                None => left_out += 1,
            }
        }
        let folders = page.common_prefixes().iter().filter_map(CommonPrefix::prefix);
        listing
            .folders
            .extend(folders.filter_map(|folder| folder.strip_prefix(&session.address.prefix)).map(str::to_owned));
        match (page.is_truncated, page.next_continuation_token) {
            (Some(true), Some(token)) => next = Some(token),
            (Some(true), None) => {
                return Err(session.refused("a listing is cut and does not say where it goes on".to_owned()));
            }
            (Some(false) | None, _) => break,
        }
    }
    if left_out > 0 {
        tracing::warn!(store = session.store, prefix, left_out, "names in the bucket that are no keys are left out");
    }
    listing.objects.sort_by(|one, other| one.key.cmp(&other.key));
    listing.folders.sort();
    Ok(listing)
}

/// Lists the uploads below `prefix` that were begun and neither finished nor given up, with the bytes of their parts. Servers
/// and credentials that cannot list them have none that could be removed.
pub(super) async fn unfinished(session: &Session, prefix: &str) -> Result<Vec<Unfinished>, StoreError> {
    let below = session.address.below(prefix);
    let asked = session.asked(&below, "look for cut-off uploads of", "s3:ListBucketMultipartUploads");
    let mut found = Vec::new();
    let (mut key_marker, mut upload_marker) = (None, None);
    loop {
        let request = session.client().list_multipart_uploads().bucket(session.bucket()).prefix(&below);
        let request = request.set_key_marker(key_marker.take()).set_upload_id_marker(upload_marker.take());
        let page = match request.send().await {
            Ok(page) => page,
            Err(error) => {
                tracing::debug!("{}", asked.failed(&error));
                return Ok(found);
            }
        };
        for upload in page.uploads() {
            let (Some(object), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
            let Some(key) = session.address.key(object) else { continue };
            let parts = match parts(session, object, id).await {
                Ok(parts) => Some(parts),
                // It ended meanwhile.
                Err(StoreError::NotFound { .. }) => continue,
                Err(error) => {
                    tracing::debug!("{error}");
                    None
                }
            };
            let parts_of = || parts.iter().flat_map(BTreeMap::values);
            // A writer that goes on with it stores parts.
            let last =
                || parts_of().filter_map(|part| part.stored_at).chain(upload.initiated.as_ref().map(timestamp)).max();
            found.push(Unfinished {
                key,
                size_bytes: parts_of().map(|part| part.size_bytes).sum(),
                touched_at: parts.as_ref().and_then(|_| last()),
                upload: id.to_owned(),
            });
        }
        match (page.is_truncated, page.next_key_marker) {
            (Some(true), Some(key)) => (key_marker, upload_marker) = (Some(key), page.next_upload_id_marker),
            (_, _) => return Ok(found),
        }
    }
}

fn facts(session: &Session, object: &Object) -> Option<ObjectFacts> {
    let key = session.address.key(object.key()?)?;
    let size_bytes = object.size.and_then(|size| u64::try_from(size).ok())?;
    let class = object.storage_class.as_ref().map(|class| class.as_str().to_owned());
    let archived = class.as_deref().is_some_and(is_archived);
    Some(ObjectFacts {
        etag: object.e_tag.clone(),
        availability: if archived { Availability::Archived } else { Availability::Ready },
        storage_class: class,
        ..ObjectFacts::new(key, size_bytes, object.last_modified.as_ref().map_or(Timestamp::UNIX_EPOCH, timestamp))
    })
}
