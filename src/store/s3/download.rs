//! Reads objects: large ones by several requests at a time, pinned to one content, in order, with bounded memory.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::task::AbortOnDropHandle;

use super::chunk::fetch;
use super::dress::keyed;
use super::error::{Verdict, verdict};
use super::head::{head_version, told};
use super::session::Session;
use crate::action::{ByteStream, GetOptions, ObjectFacts, ObjectKey, StoreError};
use crate::base::pool::Pool;
use crate::store::whole::Whole;

/// What one request asks for. Chunks begin at multiples of it.
const CHUNK_BYTES: u64 = 8 << 20;
/// Chunks under way or waiting to be read.
const WINDOW: usize = 6;

/// What is read: one content of one object.
pub(super) struct Source {
    pub(super) session: Arc<Session>,
    key: ObjectKey,
    object: String,
    version: Option<String>,
    /// The entity tag that every answer must have.
    etag: Option<String>,
    pub(super) buffers: Pool,
}

/// The first answer, and what it tells of the whole.
struct Opening {
    answer: GetObjectOutput,
    /// The bytes it holds.
    range: Range<u64>,
    /// The object's size.
    total: u64,
}

/// Opens an object or a part of it, and tells its facts. The body ends only after its last byte, else it fails.
pub(super) async fn get(
    session: Arc<Session>,
    key: ObjectKey,
    options: GetOptions,
) -> Result<(ObjectFacts, ByteStream), StoreError> {
    let object = session.object(&key);
    let (version, etag, buffers) = (options.version, options.if_match, Pool::default());
    let mut source = Source { session, key, object, version, etag, buffers };
    let wanted = options.range.unwrap_or(0..u64::MAX);
    if wanted.is_empty() {
        return source.nothing(wanted.start).await;
    }
    let first = wanted.start..chunk_end(wanted.start).min(wanted.end);
    let answer = match source.ask(first.clone()).await {
        Ok(answer) => answer,
        Err(error) if verdict(&error) == Verdict::Range => return source.nothing(wanted.start).await,
        Err(error) => return Err(source.failed(&error).await),
    };
    let Opening { answer, range, total } = source.opened(answer, &first)?;
    if source.etag.is_none() {
        source.etag = answer.e_tag.clone();
    }
    let facts = told(source.key.clone(), total, &answer);
    let mut download = Download {
        source: Arc::new(source),
        next: range.end,
        end: wanted.end.min(total),
        queue: VecDeque::new(),
        current: Bytes::new(),
        state: Whole::SoFar,
    };
    download.start(range, Some(answer.body));
    download.refill();
    Ok((facts, Box::new(download)))
}

/// Where the chunk that holds `offset` ends.
fn chunk_end(offset: u64) -> u64 {
    (offset / CHUNK_BYTES + 1).saturating_mul(CHUNK_BYTES)
}

impl Source {
    /// Asks for a range of the pinned content.
    pub(super) async fn ask(&self, range: Range<u64>) -> Result<GetObjectOutput, SdkError<GetObjectError>> {
        let request = keyed!(self.session.client().get_object().key(&self.object), self.session);
        let request = request.set_version_id(self.version.clone()).set_if_match(self.etag.clone());
        request.range(format!("bytes={}-{}", range.start, range.end - 1)).send().await
    }

    /// Whether an answer is of the pinned content. Not every server heeds `If-Match`.
    pub(super) fn is_pinned(&self, answer: &GetObjectOutput) -> bool {
        self.etag.is_none() || answer.e_tag.is_none() || self.etag == answer.e_tag
    }

    /// Says that another content lies there now.
    pub(super) fn replaced(&self) -> StoreError {
        self.session.replaced(&self.key)
    }

    /// Says what an answer other than the body means.
    pub(super) async fn failed(&self, error: &SdkError<GetObjectError>) -> StoreError {
        let session = &self.session;
        match verdict(error) {
            Verdict::Absent => session.absent(&self.key).await,
            Verdict::Condition => session.replaced(&self.key),
            Verdict::Archived => {
                let state = match error.as_service_error() {
                    Some(GetObjectError::InvalidObjectState(state)) => {
                        state.storage_class().map(|class| class.as_str())
                    }
                    Some(_) | None => None,
                };
                let class = state.unwrap_or("GLACIER").to_owned();
                StoreError::Archived { store: session.store.clone(), key: self.key.to_string(), class }
            }
            Verdict::NoUpload
            | Verdict::Conflict
            | Verdict::Denied
            | Verdict::Unsupported
            | Verdict::Range
            | Verdict::Passing
            | Verdict::Lasting => session.asked(&self.object, "read", "s3:GetObject").failed(error),
        }
    }

    /// Names a body that broke off.
    pub(super) fn broke(&self, error: io::Error) -> io::Error {
        io::Error::other(self.session.asked(&self.object, "read", "s3:GetObject").unavailable(error))
    }

    /// Reads what the first answer tells. A server that does not know ranges sends the whole object.
    fn opened(&self, answer: GetObjectOutput, asked: &Range<u64>) -> Result<Opening, StoreError> {
        if !self.is_pinned(&answer) {
            return Err(self.replaced());
        }
        let length = answer.content_length.and_then(|length| u64::try_from(length).ok());
        let (range, total) = match (answer.content_range.as_deref(), length) {
            (Some(text), _) => content_range(text)
                .ok_or_else(|| self.session.refused(format!("the range `{text}` that it answers makes no sense")))?,
            (None, Some(length)) if asked.start == 0 && length <= CHUNK_BYTES => (0..length, length),
            (None, _) => return Err(self.session.refused("it does not know ranges".to_owned())),
        };
        if range.start != asked.start || range.end != asked.end.min(total) && answer.content_range.is_some() {
            return Err(self.session.refused(format!(
                "it answers the bytes {}–{} of `{}` instead of {}–{}",
                range.start, range.end, self.key, asked.start, asked.end
            )));
        }
        let range = range.start..range.end.min(asked.end);
        Ok(Opening { answer, range, total })
    }

    /// An empty body, for a range without bytes that begins within the object.
    async fn nothing(&self, start: u64) -> Result<(ObjectFacts, ByteStream), StoreError> {
        let facts = head_version(&self.session, &self.key, self.version.as_deref()).await?;
        if self.etag.is_some() && self.etag != facts.etag {
            return Err(self.session.replaced(&self.key));
        }
        if start > facts.size_bytes {
            let what = format!("`{}` has {} bytes and no byte {start}", self.key, facts.size_bytes);
            return Err(self.session.refused(what));
        }
        Ok((facts, Box::new(tokio::io::empty())))
    }
}

/// Reads `bytes 0-9/100`: the bytes, the end not among them, and the size of the whole.
fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = range.split_once('-')?;
    Some((start.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?, total.parse().ok()?))
}

/// A body that is fetched ahead of its reader.
struct Download {
    source: Arc<Source>,
    /// Where the next chunk to ask for begins.
    next: u64,
    end: u64,
    queue: VecDeque<AbortOnDropHandle<io::Result<Bytes>>>,
    current: Bytes,
    state: Whole,
}

impl Download {
    /// Nothing that comes after a failure is the body's next byte, and no end after it is the body's end.
    fn broken(&mut self, error: io::Error) -> io::Error {
        self.queue.clear();
        self.next = self.end;
        self.state = Whole::Broken;
        error
    }

    #[expect(clippy::disallowed_methods, reason = "ended with the body that is read")]
    fn start(&mut self, range: Range<u64>, begun: Option<aws_sdk_s3::primitives::ByteStream>) {
        let task = tokio::spawn(fetch(Arc::clone(&self.source), range, begun));
        self.queue.push_back(AbortOnDropHandle::new(task));
    }

    fn refill(&mut self) {
        while self.queue.len() < WINDOW && self.next < self.end {
            let range = self.next..chunk_end(self.next).min(self.end);
            self.next = range.end;
            self.start(range, None);
        }
    }
}

impl AsyncRead for Download {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            let Some(first) = self.queue.front_mut() else { return Poll::Ready(self.state.end()) };
            let ended = ready!(Pin::new(first).poll(cx));
            self.queue.pop_front();
            match ended {
                Ok(Ok(chunk)) => self.current = chunk,
                Ok(Err(error)) => return Poll::Ready(Err(self.broken(error))),
                Err(error) => return Poll::Ready(Err(self.broken(io::Error::other(error)))),
            }
            self.refill();
        }
        let count = buffer.remaining().min(self.current.len());
        let taken = self.current.split_to(count);
        buffer.put_slice(&taken);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_an_answer_is_read() {
        assert_eq!(content_range("bytes 0-9/100"), Some((0..10, 100)));
        for wrong in ["0-9/100", "bytes */100", "bytes 0-9/*", "bytes 5"] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn chunks_begin_at_multiples_of_their_size() {
        assert_eq!(chunk_end(0), CHUNK_BYTES);
        assert_eq!(chunk_end(CHUNK_BYTES - 1), CHUNK_BYTES);
        assert_eq!(chunk_end(CHUNK_BYTES), 2 * CHUNK_BYTES);
        assert_eq!(chunk_end(u64::MAX), u64::MAX);
    }
}
