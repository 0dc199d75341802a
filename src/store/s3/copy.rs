//! Copies inside the bucket: the bytes never pass through here. One that may replace nothing says so in its request
//! (`If-None-Match`, which Amazon S3 heeds on copies since October 2025); where a server does not heed it, it is looked
//! first, and two writers at the very same moment are not told apart.

use std::sync::Arc;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::copy_object::{CopyObjectError, CopyObjectOutput};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, MetadataDirective, TaggingDirective};

use super::abort::Abort;
use super::compare::{Compared, compare, digest_of};
use super::dress::{Dress, dressed};
use super::error::{Verdict, verdict};
use super::flight::Flight;
use super::head::head_version;
use super::multipart::{completed, part_number};
use super::part::Content;
use super::put::Order;
use super::session::Session;
use crate::action::{ObjectFacts, ObjectKey, PutOptions, PutOutcome, StoreError};

/// The most that one request copies.
const ONE_REQUEST_BYTES: u64 = 5 << 30;
/// A part of a larger copy; up to 5 TiB fit into 10,000 of them.
const PART_BYTES: u64 = 1 << 30;

/// A copy to be made.
struct Copy {
    session: Arc<Session>,
    from: ObjectFacts,
    version: Option<String>,
    to: ObjectKey,
    dress: Dress,
    /// What must hold where it goes: `*` for nothing there.
    condition: Option<String>,
}

/// Copies an object, or one version of it. Its metadata goes with it unless the options give other.
pub(super) async fn copy(
    session: Arc<Session>,
    (from, version): (&ObjectKey, Option<&str>),
    to: &ObjectKey,
    options: PutOptions,
) -> Result<PutOutcome, StoreError> {
    let facts = head_version(&session, from, version).await?;
    let expected = options.metadata.get("sha256").and_then(|text| text.parse().ok());
    let known = facts.sha256();
    let mut metadata = if options.metadata.is_empty() { facts.metadata.clone() } else { options.metadata.clone() };
    if let Some(known) = known {
        metadata.entry("sha256".to_owned()).or_insert_with(|| known.to_string());
    }
    let dress = Dress::of(&session, &PutOptions { metadata, ..options.clone() })?;
    let mut content = None;
    if options.if_absent || expected.is_some() {
        let sha256 = match known {
            Some(known) => known,
            None => digest_of(&session, &facts, version).await?,
        };
        if expected.is_some_and(|expected| expected != sha256) {
            return Err(session.refused(format!("`{from}` has the digest `{sha256}` and not the one it should have")));
        }
        content = Some(Content { size_bytes: facts.size_bytes, sha256 }).filter(|_| options.if_absent);
    }
    if let Some(content) = content
        && let Some(outcome) = there(&session, to, content).await?
    {
        return Ok(outcome);
    }
    let (size_bytes, version) = (facts.size_bytes, version.map(str::to_owned));
    let condition = options.if_absent.then(|| "*".to_owned());
    let copy = Copy { session: Arc::clone(&session), from: facts, version, to: to.clone(), dress, condition };
    let made = match (copy.make().await, content) {
        (Ok(made), _) => made,
        (Err(error), None) => return Err(error),
        // Somebody else was faster, or an answer was lost: what is there now tells.
        (Err(error), Some(content)) => return there(&session, to, content).await?.ok_or(error),
    };
    let sha256 = match expected.or(known) {
        Some(sha256) => sha256,
        None => digest_of(&session, &head_version(&session, to, None).await?, None).await?,
    };
    Ok(PutOutcome { size_bytes, sha256, existed: false, version: made })
}

/// What lies where a copy is to go that may replace nothing: the same content is a success, other content a refusal.
async fn there(session: &Arc<Session>, to: &ObjectKey, content: Content) -> Result<Option<PutOutcome>, StoreError> {
    let Content { size_bytes, sha256 } = content;
    match compare(session, to, content).await? {
        Compared::Same(facts) => {
            Ok(Some(PutOutcome { size_bytes, sha256, existed: true, version: facts.version.clone() }))
        }
        Compared::Other => Err(session.exists(to)),
        Compared::Absent => Ok(None),
    }
}

/// Gives an object, in place, the metadata and settings that it was ordered with.
pub(super) async fn onto_itself(order: &Order, facts: &ObjectFacts) -> Result<(), StoreError> {
    let session = Arc::clone(&order.session);
    let dress = Dress::of(&session, &order.options)?;
    let copy = Copy { session, from: facts.clone(), version: None, to: order.key.clone(), dress, condition: None };
    copy.make().await.map(drop)
}

impl Copy {
    /// Copies; gives the new version, where the bucket keeps versions.
    async fn make(self) -> Result<Option<String>, StoreError> {
        let version =
            if self.from.size_bytes <= ONE_REQUEST_BYTES { self.whole().await? } else { self.parts().await? };
        Ok(version.filter(|version| version != "null"))
    }

    fn source(&self) -> String {
        self.session.address.copy_source(&self.from.key, self.version.as_deref())
    }

    fn failed<E>(&self, error: &SdkError<E>) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let session = &self.session;
        let key = self.from.key.to_string();
        match verdict(error) {
            Verdict::Absent => session.replaced(&self.from.key),
            Verdict::Condition => session.replaced(&self.from.key),
            Verdict::Archived => {
                let class = self.from.storage_class.clone().unwrap_or_else(|| "GLACIER".to_owned());
                StoreError::Archived { store: session.store.clone(), key, class }
            }
            Verdict::NoUpload
            | Verdict::Conflict
            | Verdict::Denied
            | Verdict::Unsupported
            | Verdict::Range
            | Verdict::Passing
            | Verdict::Lasting => {
                let to = session.object(&self.to);
                session.asked(&to, "copy to", "s3:PutObject").failed(error)
            }
        }
    }

    async fn whole(&self) -> Result<Option<String>, StoreError> {
        let made = match self.ask(self.condition.clone()).await {
            Err(error) if self.is_unconditional(&error) => self.ask(None).await,
            made => made,
        };
        Ok(made.map_err(|error| self.failed(&error))?.version_id)
    }

    /// Whether a server that says so does not know the condition. It was looked before that nothing is there, so the copy
    /// may go on without; two writers at the very same moment are then not told apart.
    fn is_unconditional<E: ProvideErrorMetadata>(&self, error: &SdkError<E>) -> bool {
        let status = error.raw_response().map(|raw| raw.status().as_u16());
        self.condition.is_some() && (status == Some(501) || error.code() == Some("NotImplemented"))
    }

    async fn ask(&self, condition: Option<String>) -> Result<CopyObjectOutput, SdkError<CopyObjectError>> {
        let session = &self.session;
        let tagging = if self.dress.tags.is_some() { TaggingDirective::Replace } else { TaggingDirective::Copy };
        let request = dressed!(session.client().copy_object().key(session.object(&self.to)), session, self.dress)
            .copy_source(self.source())
            .set_if_none_match(condition)
            .set_copy_source_if_match(self.from.etag.clone())
            .metadata_directive(MetadataDirective::Replace)
            .tagging_directive(tagging)
            .set_copy_source_sse_customer_algorithm(session.customer_algorithm())
            .set_copy_source_sse_customer_key(session.customer_key())
            .set_copy_source_sse_customer_key_md5(session.customer_md5())
            .customize()
            .config_override(session.patience().for_server_work(self.from.size_bytes));
        request.send().await
    }

    async fn parts(self) -> Result<Option<String>, StoreError> {
        let session = Arc::clone(&self.session);
        let object = session.object(&self.to);
        let request = dressed!(session.client().create_multipart_upload().key(&object), session, self.dress);
        let begun = request.send().await.map_err(|error| self.failed(&error))?;
        let id = begun.upload_id.ok_or_else(|| session.refused("it begins an upload without an id".to_owned()))?;
        let mut abort = Abort::of(Arc::clone(&session), &object, &id);
        let copy = Arc::new(self);
        let finished = match copy_parts(&copy, (&object, &id), abort.flight()).await {
            Ok(parts) => copy.finish(parts, &object, &id).await,
            Err(error) => Err(error),
        };
        match &finished {
            Ok(_) => abort.done(),
            Err(_) => abort.now().await,
        }
        finished
    }

    async fn part(&self, (object, id): (&str, &str), number: u64) -> Result<CompletedPart, StoreError> {
        let session = &self.session;
        let start = (number - 1) * PART_BYTES;
        let end = (start + PART_BYTES).min(self.from.size_bytes);
        let request = session.client().upload_part_copy().bucket(session.bucket()).key(object).upload_id(id);
        let request = request
            .part_number(part_number(number))
            .copy_source(self.source())
            .copy_source_range(format!("bytes={start}-{}", end - 1))
            .set_copy_source_if_match(self.from.etag.clone())
            .set_sse_customer_algorithm(session.customer_algorithm())
            .set_sse_customer_key(session.customer_key())
            .set_sse_customer_key_md5(session.customer_md5())
            .set_copy_source_sse_customer_algorithm(session.customer_algorithm())
            .set_copy_source_sse_customer_key(session.customer_key())
            .set_copy_source_sse_customer_key_md5(session.customer_md5())
            .customize()
            .config_override(session.patience().for_server_work(end - start));
        let answer = request.send().await.map_err(|error| self.failed(&error))?;
        let part =
            answer.copy_part_result.ok_or_else(|| session.refused("it copies a part without a tag".to_owned()))?;
        Ok(completed(number, part.e_tag, part.checksum_crc32_c))
    }

    async fn finish(&self, parts: Vec<CompletedPart>, object: &str, id: &str) -> Result<Option<String>, StoreError> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let ask = async |condition: Option<String>| {
            let request = self.session.client().complete_multipart_upload().bucket(self.session.bucket());
            let request = request.key(object).upload_id(id).multipart_upload(parts.clone());
            let patience = self.session.patience().for_server_work(self.from.size_bytes);
            request.set_if_none_match(condition).customize().config_override(patience).send().await
        };
        let made = match ask(self.condition.clone()).await {
            Err(error) if self.is_unconditional(&error) => ask(None).await,
            made => made,
        };
        Ok(made.map_err(|error| self.failed(&error))?.version_id)
    }
}

/// Copies the parts, several at a time.
async fn copy_parts(
    copy: &Arc<Copy>,
    (object, id): (&str, &str),
    flight: &mut Flight<CompletedPart>,
) -> Result<Vec<CompletedPart>, StoreError> {
    // Nothing of a part lies in memory; the figure only bounds how many are copied at a time.
    const SHARE_BYTES: u64 = super::flight::BUDGET_BYTES / 8;
    let mut done = Vec::new();
    for number in 1..=copy.from.size_bytes.div_ceil(PART_BYTES) {
        done.extend(flight.room_for(SHARE_BYTES).await?);
        let (copy, object, id) = (Arc::clone(copy), object.to_owned(), id.to_owned());
        flight.start(SHARE_BYTES, async move { copy.part((&object, &id), number).await });
    }
    done.extend(flight.rest().await?);
    done.sort_by_key(CompletedPart::part_number);
    Ok(done)
}
