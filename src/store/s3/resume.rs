//! Continues an upload that was cut off: what is there with the same content is not sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_s3::types::{CompletedPart, MultipartUpload, Part, StorageClass};
use bytes::Bytes;

use super::abort::Abort;
use super::copy;
use super::dress::{Dress, keyed, timestamp};
use super::head::head;
use super::manner::{crc32c_text, md5_text};
use super::multipart::completed;
use super::put::Order;
use super::session::Session;
use crate::action::StoreError;
use crate::base::{Timestamp, clock};

/// Whoever began an upload of the same key so long ago does not go on with it.
const STALE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A part that lies on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownPart {
    pub(super) size_bytes: u64,
    etag: String,
    crc32c: Option<String>,
    /// When it was stored, by the server's clock.
    pub(super) stored_at: Option<Timestamp>,
}

impl KnownPart {
    fn of(part: &Part) -> Option<(u64, Self)> {
        let number = u64::try_from(part.part_number?).ok()?;
        let size_bytes = u64::try_from(part.size?).ok()?;
        let stored_at = part.last_modified.as_ref().map(timestamp);
        Some((number, Self { size_bytes, etag: part.e_tag.clone()?, crc32c: part.checksum_crc32_c.clone(), stored_at }))
    }

    /// The part, if it has the same content: every mark the server gives must fit, and one must be given. The MD5 of an
    /// entity tag is none where the server encrypts with other keys than its own: then the tag does not fit, and the
    /// part is sent again.
    pub(super) fn same_as(&self, number: u64, bytes: &Bytes) -> Option<CompletedPart> {
        let same = self.size_bytes == bytes.len() as u64
            && self.crc32c.as_ref().is_none_or(|crc| *crc == crc32c_text(bytes))
            && self.etag.trim_matches('"') == md5_text(bytes);
        same.then(|| completed(number, Some(self.etag.clone()), self.crc32c.clone()))
    }
}

/// What was there of an object before a put.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// The upload to continue, if the put asks for it, with its parts.
    pub(super) continued: Option<(String, BTreeMap<u64, KnownPart>)>,
    /// The ids of all that were under way.
    pub(super) ids: BTreeSet<String>,
}

/// Finds what was under way. Old uploads of the same key are aborted.
pub(super) async fn earlier(order: &Order, dress: &Dress) -> Result<Earlier, StoreError> {
    let session = &order.session;
    let mut uploads = begun(session, &order.object).await;
    let ids = uploads.iter().filter_map(|upload| upload.upload_id.clone()).collect();
    uploads.sort_by_key(|upload| upload.initiated.as_ref().map(timestamp));
    // What was begun without a lock, or with an older one, must not be finished as if it had this one.
    let wanted = order.options.resume && !dress.is_locked();
    let class = dress.class.as_ref().map_or("STANDARD", StorageClass::as_str);
    let fits =
        |upload: &MultipartUpload| upload.storage_class.as_ref().map_or("STANDARD", StorageClass::as_str) == class;
    let last = if wanted { uploads.iter().rposition(fits).map(|at| uploads.remove(at)) } else { None };
    let stale = clock::before(clock::now(), session.entry.stale_uploads.map_or(STALE, |span| span.0));
    for upload in uploads {
        if upload.initiated.as_ref().is_some_and(|at| timestamp(at) < stale)
            && let Some(id) = &upload.upload_id
        {
            Abort::of(std::sync::Arc::clone(session), &order.object, id).now().await;
        }
    }
    let Some(id) = last.and_then(|upload| upload.upload_id) else { return Ok(Earlier { continued: None, ids }) };
    let known = parts(session, &order.object, &id).await?;
    tracing::debug!(key = %order.key, parts = known.len(), "an upload is continued");
    Ok(Earlier { continued: Some((id, known)), ids })
}

/// The uploads of an object that are under way. Servers and credentials that cannot list them have none to continue.
pub(super) async fn begun(session: &Session, object: &str) -> Vec<MultipartUpload> {
    let request = session.client().list_multipart_uploads().bucket(session.bucket()).prefix(object);
    match request.send().await {
        Ok(answer) => answer.uploads.unwrap_or_default().into_iter().filter(|one| one.key() == Some(object)).collect(),
        Err(error) => {
            let asked = session.asked(object, "look for cut-off uploads of", "s3:ListBucketMultipartUploads");
            tracing::debug!("{}", asked.failed(&error));
            Vec::new()
        }
    }
}

pub(super) async fn parts(session: &Session, object: &str, id: &str) -> Result<BTreeMap<u64, KnownPart>, StoreError> {
    let asked = session.asked(object, "look at the cut-off upload of", "s3:ListMultipartUploadParts");
    let mut known = BTreeMap::new();
    let mut next = None;
    loop {
        let request = keyed!(session.client().list_parts().key(object), session).upload_id(id);
        let page = request.set_part_number_marker(next).send().await.map_err(|error| asked.failed(&error))?;
        known.extend(page.parts().iter().filter_map(KnownPart::of));
        match (page.is_truncated, page.next_part_number_marker) {
            (Some(true), Some(marker)) => next = Some(marker),
            (_, _) => return Ok(known),
        }
    }
}

/// A continued upload has the metadata it was begun with. Where that is other than what is wanted, the object is copied
/// onto itself with the right one.
pub(super) async fn redress(order: &Order) -> Result<(), StoreError> {
    let facts = head(&order.session, &order.key).await?;
    if facts.metadata == order.options.metadata {
        return Ok(());
    }
    copy::onto_itself(order, &facts).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_taken_over_only_if_every_mark_of_it_fits() {
        let bytes = Bytes::from_static(b"123456789");
        let md5 = format!("\"{}\"", md5_text(&bytes));
        let known = KnownPart { size_bytes: 9, etag: md5, crc32c: Some("4waSgw==".to_owned()), stored_at: None };
        assert!(known.same_as(1, &bytes).is_some());
        assert!(KnownPart { crc32c: None, ..known.clone() }.same_as(1, &bytes).is_some());
        for other in [
            KnownPart { size_bytes: 8, ..known.clone() },
            KnownPart { etag: "\"of-a-kms-key\"".to_owned(), ..known.clone() },
            KnownPart { crc32c: Some("AAAAAA==".to_owned()), ..known },
        ] {
            assert!(other.same_as(1, &bytes).is_none(), "{other:?}");
        }
    }
}
