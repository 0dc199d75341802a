//! Puts a body: by one request when it is small, else in parts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::{PutObjectError, PutObjectOutput};
use aws_sdk_s3::primitives::ByteStream as Body;
use bytes::Bytes;

use super::compare::{Compared, compare};
use super::dress::{Dress, dressed};
use super::error::{Verdict, verdict};
use super::head::head;
use super::manner::{Checksum, Manner, Payload};
use super::multipart;
use super::part::{Content, ONE_REQUEST_BYTES, PartReader};
use super::session::Session;
use crate::action::{ByteStream, ObjectKey, PutOptions, PutOutcome, Seen, StoreError};
use crate::base::Digest;

/// How often a put is tried again when somebody else writes the same object at that moment.
const CONFLICTS: u32 = 3;

/// An object that is being put.
pub(super) struct Order {
    pub(super) session: Arc<Session>,
    pub(super) key: ObjectKey,
    /// Its whole name in the bucket.
    pub(super) object: String,
    pub(super) options: PutOptions,
    /// The digest that the body must have, where the caller knows it.
    pub(super) expected: Option<Digest>,
}

/// Stores a body. All or nothing.
pub(super) async fn put(
    session: Arc<Session>,
    key: ObjectKey,
    body: ByteStream,
    options: PutOptions,
) -> Result<PutOutcome, StoreError> {
    let object = session.object(&key);
    let dress = Dress::of(&session, &options)?;
    let expected = options.metadata.get("sha256").map(|text| text.parse()).transpose();
    let expected = expected.map_err(|error| session.refused(format!("the metadata `sha256`: {error}")))?;
    let order = Order { session, key, object, options, expected };
    let mut reader = PartReader::new(body);
    if order.must_look() && order.is_there().await? {
        order.read(reader.drain().await)?;
        return order.settled(reader.content(), None).await;
    }
    // One byte more tells whether the body has ended.
    order.read(reader.fill(ONE_REQUEST_BYTES + 1).await)?;
    if reader.has_ended() {
        return one_request(&order, &mut reader, dress).await;
    }
    multipart::put(order, reader, dress).await
}

impl Order {
    /// Whether the server is known to refuse a put of what exists.
    fn is_conditional(&self) -> bool {
        self.session.connection.conditional.load(Ordering::Relaxed)
    }

    /// Whether it must be looked first whether the object is there.
    fn must_look(&self) -> bool {
        self.options.if_absent && self.options.seen == Seen::Nothing && !self.is_conditional()
    }

    async fn is_there(&self) -> Result<bool, StoreError> {
        match head(&self.session, &self.key).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The condition of the request that makes the object.
    pub(super) fn condition(&self) -> Option<String> {
        self.options.if_absent.then(|| "*".to_owned())
    }

    /// Whether a server that says so does not know the condition. It was looked before that nothing is there, so the
    /// put may go on without; two writers at the very same moment are then not told apart.
    pub(super) fn is_unconditional<E: ProvideErrorMetadata>(&self, error: &SdkError<E>) -> bool {
        let status = error.raw_response().map(|raw| raw.status().as_u16());
        !self.is_conditional() && (status == Some(501) || error.code() == Some("NotImplemented"))
    }

    /// Names a failure to read the body.
    pub(super) fn read(&self, result: std::io::Result<()>) -> Result<(), StoreError> {
        result.map_err(|source| StoreError::Unavailable {
            store: self.session.store.clone(),
            what: format!("cannot read the body of `{}`: {source}", self.key),
            source,
        })
    }

    /// Refuses a body that is not the one that was announced.
    pub(super) fn judge(&self, content: Content) -> Result<(), StoreError> {
        let Content { size_bytes: size, sha256 } = content;
        if let Some(announced) = self.options.size_bytes.filter(|announced| *announced != size) {
            let what = format!("the body of `{}` has {size} bytes and not the {announced} it should have", self.key);
            return Err(self.session.refused(what));
        }
        match self.expected {
            Some(expected) if expected != sha256 => Err(self.session.refused(format!(
                "the body of `{}` has the digest `{sha256}` and not `{expected}`, as it should",
                self.key
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Judges what is there already against the body that was read: the same content is a success, other content is
    /// not. `failure` is why the put may not have happened; with nothing there, it has not.
    pub(super) async fn settled(
        &self,
        content: Content,
        failure: Option<StoreError>,
    ) -> Result<PutOutcome, StoreError> {
        let Content { size_bytes, sha256 } = content;
        match compare(&self.session, &self.key, content).await? {
            Compared::Same(facts) => Ok(PutOutcome { size_bytes, sha256, existed: true, version: facts.version }),
            Compared::Other => Err(self.session.exists(&self.key)),
            Compared::Absent => Err(failure.unwrap_or_else(|| StoreError::Unavailable {
                store: self.session.store.clone(),
                what: format!("`{}` was deleted while it was compared", self.key),
                source: std::io::Error::other("put it again"),
            })),
        }
    }

    /// Takes the failure of the request that makes the object visible: whether it happened is looked up.
    pub(super) async fn unsure(
        &self,
        content: Content,
        (verdict, failure): (Verdict, StoreError),
    ) -> Result<PutOutcome, StoreError> {
        if verdict == Verdict::Condition {
            self.session.connection.conditional.store(true, Ordering::Relaxed);
        }
        let may_have_happened = matches!(
            verdict,
            Verdict::Condition | Verdict::Conflict | Verdict::Passing | Verdict::Absent | Verdict::NoUpload
        );
        if self.options.if_absent && may_have_happened {
            return self.settled(content, Some(failure)).await;
        }
        // An upload that is not there any more was finished by a request whose answer was lost.
        if matches!(verdict, Verdict::Absent | Verdict::NoUpload)
            && let Ok(Compared::Same(facts)) = compare(&self.session, &self.key, content).await
            && self.options.metadata.iter().all(|(name, value)| facts.metadata.get(name) == Some(value))
        {
            let Content { size_bytes, sha256 } = content;
            return Ok(PutOutcome { size_bytes, sha256, existed: false, version: facts.version });
        }
        Err(failure)
    }
}

async fn one_request(order: &Order, reader: &mut PartReader, mut dress: Dress) -> Result<PutOutcome, StoreError> {
    let content = reader.content();
    order.judge(content)?;
    let Content { size_bytes, sha256 } = content;
    dress.metadata.insert("sha256".to_owned(), sha256.to_string());
    let bytes = reader.take(size_bytes);
    let asked = order.session.asked(&order.object, "put", "s3:PutObject");
    let (mut conflicts, mut condition) = (0, order.condition());
    loop {
        let error = match send(order, (&dress, condition.as_deref()), &bytes).await {
            Ok(answer) => {
                let version = answer.version_id.filter(|version| version != "null");
                return Ok(PutOutcome { size_bytes, sha256, existed: false, version });
            }
            Err(error) => error,
        };
        let verdict = verdict(&error);
        if verdict == Verdict::Conflict && conflicts < CONFLICTS {
            conflicts += 1;
        } else if condition.is_some() && order.is_unconditional(&error) {
            condition = None;
        } else {
            return order.unsure(content, (verdict, asked.failed(&error))).await;
        }
    }
}

/// Sends a body in the manner the server is known to take; finds it out with the first one.
async fn send(order: &Order, dress: (&Dress, Option<&str>), bytes: &Bytes) -> Result<PutObjectOutput, Failure> {
    let manners = &order.session.connection.manners;
    let manner = manners.now();
    let error = match send_as(order, dress, (bytes, manner)).await {
        Ok(answer) => {
            manners.took(manner);
            return Ok(answer);
        }
        Err(error) => error,
    };
    let Some(other) = manners.other_than(manner).filter(|_| is_about_manner(verdict(&error))) else {
        return Err(error);
    };
    let answer = send_as(order, dress, (bytes, other)).await.map_err(|_| error)?;
    manners.took(other);
    Ok(answer)
}

type Failure = SdkError<PutObjectError>;

/// Whether a refusal may be one of how a body was sent.
pub(super) fn is_about_manner(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Denied | Verdict::Unsupported)
}

async fn send_as(
    order: &Order,
    (dress, condition): (&Dress, Option<&str>),
    (bytes, manner): (&Bytes, Manner),
) -> Result<PutObjectOutput, Failure> {
    let session = &order.session;
    let checksum = Checksum::of(manner.check, bytes);
    let request = dressed!(session.client().put_object().key(&order.object), session, dress)
        .set_storage_class(dress.class_of(bytes.len()))
        .set_if_none_match(condition.map(str::to_owned))
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
