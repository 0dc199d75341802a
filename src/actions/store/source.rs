//! A file or an object that is read: its digest, its bytes.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::SyncIoBridge;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::body::{digest, file_failed};
use super::carry::read_facts;
use super::passing::{Meter, Passing};
use super::place::FileSpot;
use super::store_failed;
use crate::action::{ActionError, ByteStream, CheckContext, Findings, GetOptions, PlainFacts, RunContext, StoreError};
use crate::base::Digest;

/// A content with what it must be.
pub(in crate::actions) struct Source {
    body: Passing,
    cancel: CancellationToken,
    /// The stored bytes.
    pub(in crate::actions) facts: PlainFacts,
}

impl Source {
    /// Opens it. Its digest is `sha256`, else the recorded one; a file without either is digested first.
    pub(in crate::actions) async fn open(
        spot: &FileSpot,
        sha256: Option<Digest>,
        cx: &RunContext,
    ) -> Result<Self, ActionError> {
        let (body, facts): (ByteStream, PlainFacts) = match spot {
            FileSpot::File(path) => {
                let open = || cx.host.files().open(path).map(tokio::fs::File::from_std).map_err(file_failed);
                let read = digest(open()?).await;
                let (size_bytes, found) =
                    read.map_err(|error| ActionError::fatal(format!("cannot read `{spot}`")).because(&error))?;
                (Box::new(open()?), PlainFacts { size_bytes, sha256: sha256.unwrap_or(found) })
            }
            FileSpot::Object(name, key) => {
                let store = cx.store(name.as_str())?;
                let head = store.head(key).await.map_err(store_failed)?;
                let same = || GetOptions { if_match: head.etag.clone(), ..GetOptions::default() };
                let known = match sha256.or_else(|| head.sha256()) {
                    Some(known) => known,
                    None => read_facts(store.as_read(), key, same()).await?.sha256,
                };
                let body = store.get_with(key, same()).await.map_err(store_failed)?;
                (body, PlainFacts { size_bytes: head.size_bytes, sha256: known })
            }
        };
        let meter = Meter::new(cx, Some(facts.size_bytes));
        let body = Passing::new(body).expecting(facts).metered(&meter);
        Ok(Self { body, cancel: cx.cancel.clone(), facts })
    }

    /// Its bytes; the last read fails unless they are what they must be.
    pub(in crate::actions) fn into_body(self) -> ByteStream {
        Box::new(self.body)
    }

    /// Does blocking work on its bytes; they are proven when they were read to the end. After a cancel they break off,
    /// so that nothing works on when this returns.
    pub(in crate::actions) async fn read<T: Send + 'static>(
        self,
        work: impl FnOnce(Box<dyn Read + Send>) -> Result<T, ActionError> + Send + 'static,
    ) -> Result<T, ActionError> {
        let cancelled = Box::pin(self.cancel.clone().cancelled_owned());
        let bridge = SyncIoBridge::new(UntilCancelled { body: self.body, cancelled });
        let done = tokio::task::spawn_blocking(move || work(Box::new(bridge))).await;
        if self.cancel.is_cancelled() {
            return Err(ActionError::cancelled("the reading was cancelled"));
        }
        done.map_err(|error| ActionError::fatal("the reading broke off").because(&error))?
    }
}

/// Breaks off when the attempt is cancelled.
struct UntilCancelled {
    body: Passing,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl AsyncRead for UntilCancelled {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cancelled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::other("the attempt was cancelled")));
        }
        Pin::new(&mut self.body).poll_read(cx, buffer)
    }
}

/// Looks whether it is there.
pub(in crate::actions) async fn check_source(spot: &FileSpot, cx: &CheckContext) -> Result<Findings, ActionError> {
    let findings = Findings::default();
    let found = match spot {
        FileSpot::File(path) => cx.host.read_files().facts(path).map_err(file_failed)?.map(|facts| facts.size_bytes),
        FileSpot::Object(store, key) => match cx.store(store.as_str())?.head(key).await {
            Ok(facts) => Some(facts.size_bytes),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) if cx.ahead => return Ok(findings.pending(error.to_string())),
            Err(error) => return Err(store_failed(error)),
        },
    };
    Ok(match found {
        Some(size_bytes) => findings.pass(format!("`{spot}` has {size_bytes} bytes")),
        None if cx.ahead => findings.pending(format!("`{spot}` is not there yet")),
        None => findings.refuse(format!("`{spot}` is not there"), "make it in an earlier step"),
    })
}
