//! Puts a large body in parts, several at a time: nothing is visible before the last one is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::upload_part::{UploadPartError, UploadPartOutput};
use aws_sdk_s3::primitives::ByteStream as Body;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::abort::Abort;
use super::dress::{Dress, dressed, keyed};
use super::error::{is_unreadable_success, verdict};
use super::flight::Flight;
use super::head::head;
use super::manner::{Check, Checksum, Manner, Payload};
use super::orphan::{Attempts, Orphans};
use super::part::{Content, MAX_OBJECT_BYTES, MAX_PARTS, PartReader, part_bytes};
use super::put::{Order, is_about_manner};
use super::resume::{KnownPart, earlier};
use crate::action::{ObjectFacts, PutOutcome, StoreError};

/// An upload under way.
struct Upload {
    order: Order,
    id: String,
    /// The parts that were there when it was continued.
    known: BTreeMap<u64, KnownPart>,
}

/// How it is known that an upload has ended well.
enum Ending {
    /// The server says so, with the entity tag if it gives one.
    Told { etag: Option<String> },
    /// Its answer was lost, and the content is there.
    LookedUp,
}

/// Stores a body in parts. Whatever goes wrong, and whoever drops this future: the upload is aborted.
pub(super) async fn put(order: Order, mut reader: PartReader, dress: Dress) -> Result<PutOutcome, StoreError> {
    if let Some(size_bytes) = order.options.size_bytes.filter(|size| *size > MAX_OBJECT_BYTES) {
        return Err(order.session.refused(format!("{size_bytes} bytes are more than the 5 TiB an object can have")));
    }
    let (upload, orphans) = begin(order, &dress).await?;
    let upload = Arc::new(upload);
    let mut abort = Abort::of(Arc::clone(&upload.order.session), &upload.order.object, &upload.id);
    let finished = match send_parts(&upload, &mut reader, abort.flight()).await {
        Ok(parts) => finish(&upload, parts, reader.content()).await,
        Err(error) => Err(error),
    };
    match &finished {
        Ok((_, Ending::Told { .. })) => abort.done(),
        Ok((_, Ending::LookedUp)) | Err(_) => abort.now().await,
    }
    orphans.abort(&upload.order.session, &upload.order.object).await;
    let (outcome, _) = finished?;
    if !outcome.existed && !upload.known.is_empty() {
        super::resume::redress(&upload.order).await?;
    }
    Ok(outcome)
}

async fn begin(order: Order, dress: &Dress) -> Result<(Upload, Orphans), StoreError> {
    let earlier = earlier(&order, dress).await?;
    if let Some((id, known)) = earlier.continued {
        return Ok((Upload { order, id, known }, Orphans::default()));
    }
    let attempts = Attempts::default();
    let session = &order.session;
    let manner = session.connection.manners.now();
    let asked = session.asked(&order.object, "begin to put", "s3:PutObject");
    let answer = match create((&order, dress), manner.check, &attempts).await {
        Err(error) => match session.connection.manners.other_than(manner) {
            Some(other) if is_about_manner(verdict(&error)) => {
                create((&order, dress), other.check, &attempts).await.map_err(|_| error)
            }
            Some(_) | None => Err(error),
        },
        Ok(id) => Ok(id),
    };
    let id = answer.map_err(|error| asked.failed(&error))?;
    let id = id.ok_or_else(|| session.refused("it begins an upload without telling its id".to_owned()))?;
    let orphans = match attempts.several() {
        true => Orphans::found(session, &order.object, (&earlier.ids, &id)).await,
        false => Orphans::default(),
    };
    Ok((Upload { order, id, known: BTreeMap::new() }, orphans))
}

type CreateError = SdkError<aws_sdk_s3::operation::create_multipart_upload::CreateMultipartUploadError>;

async fn create(
    (order, dress): (&Order, &Dress),
    check: Check,
    attempts: &Attempts,
) -> Result<Option<String>, CreateError> {
    let session = &order.session;
    let algorithm = match check {
        Check::Crc32c => Some(ChecksumAlgorithm::Crc32C),
        Check::Md5 | Check::None => None,
    };
    let request = dressed!(session.client().create_multipart_upload().key(&order.object), session, dress);
    let request = request.set_checksum_algorithm(algorithm).customize().interceptor(attempts.clone());
    Ok(request.send().await?.upload_id)
}

/// Sends the parts, as many at a time as the memory they may take allows.
async fn send_parts(
    upload: &Arc<Upload>,
    reader: &mut PartReader,
    flight: &mut Flight<CompletedPart>,
) -> Result<Vec<CompletedPart>, StoreError> {
    let mut done = Vec::new();
    for number in 1..=MAX_PARTS {
        let size = part_bytes(number, upload.order.options.size_bytes);
        done.extend(flight.room_for(size).await?);
        upload.order.read(reader.fill(size).await)?;
        let bytes = reader.take(size);
        if bytes.is_empty() {
            break;
        }
        let (upload, size) = (Arc::clone(upload), bytes.len() as u64);
        flight.start(size, async move { upload.part(number, bytes).await });
    }
    done.extend(flight.rest().await?);
    done.sort_by_key(CompletedPart::part_number);
    upload.order.read(reader.fill(1).await)?;
    if reader.has_ended() {
        return Ok(done);
    }
    Err(upload.order.session.refused(format!("the body of `{}` does not fit {MAX_PARTS} parts", upload.order.key)))
}

impl Upload {
    /// Sends one part, unless it is there already.
    async fn part(&self, number: u64, bytes: Bytes) -> Result<CompletedPart, StoreError> {
        if let Some(done) = self.known.get(&number).and_then(|known| known.same_as(number, &bytes)) {
            return Ok(done);
        }
        let session = &self.order.session;
        let manners = &session.connection.manners;
        let manner = manners.now();
        let sent = match self.send(number, (&bytes, manner)).await {
            Err(error) => match manners.other_than(manner) {
                Some(other) if is_about_manner(verdict(&error)) => {
                    let sent = self.send(number, (&bytes, other)).await.map_err(|_| error);
                    sent.inspect(|_| manners.took(other))
                }
                Some(_) | None => Err(error),
            },
            Ok(answer) => {
                manners.took(manner);
                Ok(answer)
            }
        };
        let asked = session.asked(&self.order.object, "put a part of", "s3:PutObject");
        let answer = sent.map_err(|error| asked.failed(&error))?;
        Ok(completed(number, answer.e_tag, answer.checksum_crc32_c))
    }

    async fn send(
        &self,
        number: u64,
        (bytes, manner): (&Bytes, Manner),
    ) -> Result<UploadPartOutput, SdkError<UploadPartError>> {
        let session = &self.order.session;
        let checksum = Checksum::of(manner.check, bytes);
        let request = keyed!(session.client().upload_part().key(&self.order.object), session)
            .upload_id(&self.id)
            .part_number(part_number(number))
            .set_checksum_crc32_c(checksum.crc32c)
            .set_content_md5(checksum.md5)
            .body(Body::from(bytes.clone()))
            .customize()
            .config_override(session.patience().for_body(bytes.len() as u64));
        match manner.payload {
            Payload::Signed => request.send().await,
            Payload::Unsigned => request.disable_payload_signing().send().await,
        }
    }

    /// Makes the object visible.
    async fn complete(&self, parts: Vec<CompletedPart>, content: Content) -> Result<(PutOutcome, Ending), StoreError> {
        let Content { size_bytes, sha256 } = content;
        let session = &self.order.session;
        let asked = session.asked(&self.order.object, "finish", "s3:PutObject");
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let (mut condition, attempts) = (self.order.condition(), Attempts::default());
        loop {
            let request = keyed!(session.client().complete_multipart_upload().key(&self.order.object), session)
                .upload_id(&self.id)
                .multipart_upload(parts.clone())
                .set_if_none_match(condition.clone())
                .customize()
                .interceptor(attempts.clone())
                .config_override(session.patience().for_server_work(size_bytes));
            match request.send().await {
                Ok(answer) => {
                    let version = answer.version_id.filter(|version| version != "null");
                    let outcome = PutOutcome { size_bytes, sha256, existed: false, version };
                    return Ok((outcome, Ending::Told { etag: answer.e_tag }));
                }
                Err(error) if condition.is_some() && self.order.is_unconditional(&error) => condition = None,
                Err(error) if is_unreadable_success(&error) => {
                    let outcome = self.order.settled(content, Some(asked.failed(&error))).await?;
                    return Ok((PutOutcome { existed: false, ..outcome }, Ending::LookedUp));
                }
                Err(error) => {
                    let failure = (attempts.judge(verdict(&error)), asked.failed(&error));
                    return self.order.unsure(content, failure).await.map(|outcome| (outcome, Ending::LookedUp));
                }
            }
        }
    }
}

/// Makes the object visible and looks whether it is as large as what was sent.
async fn finish(
    upload: &Upload,
    parts: Vec<CompletedPart>,
    content: Content,
) -> Result<(PutOutcome, Ending), StoreError> {
    let order = &upload.order;
    order.judge(content)?;
    let (outcome, ending) = upload.complete(parts, content).await?;
    let Ending::Told { etag: Some(told) } = &ending else { return Ok((outcome, ending)) };
    let ObjectFacts { size_bytes: stored, etag, .. } = head(&order.session, &order.key).await?;
    let replaced = etag.as_ref() != Some(told);
    if stored == content.size_bytes || replaced {
        return Ok((outcome, ending));
    }
    let what = format!("`{}` has {stored} bytes after {} bytes were put", order.key, content.size_bytes);
    Err(order.session.refused(what))
}

/// A part as the request that finishes an upload names it.
pub(super) fn completed(number: u64, etag: Option<String>, crc32c: Option<String>) -> CompletedPart {
    let part = CompletedPart::builder().part_number(part_number(number));
    part.set_e_tag(etag).set_checksum_crc32_c(crc32c).build()
}

pub(super) fn part_number(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
