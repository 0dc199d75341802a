//! The facts of an object.

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

use super::dress::{keyed, timestamp};
use super::error::{Verdict, verdict};
use super::header;
use super::session::Session;
use crate::action::{Availability, ObjectFacts, ObjectKey, StoreError};
use crate::base::Timestamp;

/// The answers to HEAD and to GET have the same headers.
macro_rules! facts_of {
    ($key:expr, $answer:expr, $size_bytes:expr) => {{
        let modified_at = $answer.last_modified.as_ref().map_or(Timestamp::UNIX_EPOCH, timestamp);
        let class = $answer.storage_class.as_ref().map(|class| class.as_str().to_owned());
        let archived = class.as_deref().is_some_and(is_archived);
        let metadata = $answer.metadata.iter().flatten();
        ObjectFacts {
            metadata: metadata.map(|(name, value)| (name.clone(), header::read(value))).collect(),
            etag: $answer.e_tag.clone(),
            version: $answer.version_id.clone().filter(|version| version != "null"),
            availability: availability(archived, $answer.restore.as_deref()),
            storage_class: class,
            ..ObjectFacts::new($key, $size_bytes, modified_at)
        }
    }};
}

/// How often HEAD is asked of an object that only GET finds.
const LOOKS: usize = 3;

/// Tells the facts of an object; absent only when the server says so of this object, not of the bucket.
pub(super) async fn head(session: &Session, key: &ObjectKey) -> Result<ObjectFacts, StoreError> {
    head_version(session, key, None).await
}

/// Tells the facts of one version of an object, by default of the newest.
pub(super) async fn head_version(
    session: &Session,
    key: &ObjectKey,
    version: Option<&str>,
) -> Result<ObjectFacts, StoreError> {
    let object = session.object(key);
    let asked = session.asked(&object, "look at", "s3:GetObject");
    let version = version.map(str::to_owned);
    for _ in 0..LOOKS {
        let request = keyed!(session.client().head_object().key(&object), session).set_version_id(version.clone());
        let error = match request.send().await {
            Ok(answer) => return Ok(facts(key.clone(), &answer)),
            Err(error) => error,
        };
        // An answer to HEAD has no body: its 404 does not tell a missing object from a missing bucket, its 403 and 400
        // not what is wrong with the credentials. GET tells.
        if !error.raw_response().is_some_and(|raw| raw.status().is_client_error()) {
            return Err(asked.failed(&error));
        }
        let request = keyed!(session.client().get_object().key(&object), session).set_version_id(version.clone());
        match request.range("bytes=0-0").send().await {
            Err(told) if verdict(&told) == Verdict::Absent => return Err(session.absent(key).await),
            Err(told) => return Err(asked.failed(&told)),
            // It was made between the two questions: the first one is asked again.
            Ok(_) => {}
        }
    }
    Err(asked.unavailable(std::io::Error::other("the answers to HEAD and to GET contradict each other")))
}

fn facts(key: ObjectKey, answer: &HeadObjectOutput) -> ObjectFacts {
    let size_bytes = answer.content_length.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
    let facts = facts_of!(key, answer, size_bytes);
    // A body would have been refused: only here a class is not all that tells.
    let archived = availability(answer.archive_status.is_some(), answer.restore.as_deref());
    if answer.archive_status.is_some() { ObjectFacts { availability: archived, ..facts } } else { facts }
}

/// The facts that an answer with a body tells; `size_bytes` is that of the whole object.
pub(super) fn told(key: ObjectKey, size_bytes: u64, answer: &GetObjectOutput) -> ObjectFacts {
    facts_of!(key, answer, size_bytes)
}

/// Whether objects of this class must be retrieved before they can be read.
pub(super) fn is_archived(class: &str) -> bool {
    matches!(class, "GLACIER" | "DEEP_ARCHIVE")
}

/// Reads the header `x-amz-restore`: `ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"`.
fn availability(archived: bool, restore: Option<&str>) -> Availability {
    let member = |name: &str| restore?.split_once(&format!("{name}=\""))?.1.split_once('"').map(|(value, _)| value);
    if !archived {
        return Availability::Ready;
    }
    let expires = member("expiry-date").and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
    match (member("ongoing-request"), expires) {
        (Some("true"), _) => Availability::Retrieving,
        (Some("false"), Some(expires)) => Availability::ReadyUntil(timestamp(&expires)),
        (Some("false"), None) => Availability::Ready,
        (Some(_) | None, _) => Availability::Archived,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_state_of_a_retrieval_is_read() {
        assert_eq!(availability(false, None), Availability::Ready);
        assert_eq!(availability(true, None), Availability::Archived);
        assert_eq!(availability(true, Some("ongoing-request=\"true\"")), Availability::Retrieving);
        let ready = "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\"";
        let until = "2012-12-21T00:00:00Z".parse().unwrap();
        assert_eq!(availability(true, Some(ready)), Availability::ReadyUntil(until));
    }
}
