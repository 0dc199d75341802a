//! An object's bytes, several requests ahead of whoever reads them.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use openssh_sftp_client::file::File;
use tokio::io::{AsyncRead, AsyncSeek as _, ReadBuf};

use super::session::Session;
use crate::store::whole::Whole;

/// Bytes of one request; OpenSSH gives no more at once.
const REQUEST_BYTES: u64 = 255 << 10;
/// Requests under way at once.
const AHEAD: usize = 16;

type Block = Pin<Box<dyn Future<Output = io::Result<BytesMut>> + Send>>;

enum Slot {
    Asked(Block),
    Here(io::Result<BytesMut>),
}

/// Reads a range of a file that was opened once: a replacement under its name changes nothing here.
pub(super) struct Reader {
    file: File,
    /// Where the next request begins, and where the last one ends.
    range: std::ops::Range<u64>,
    slots: VecDeque<Slot>,
    current: BytesMut,
    state: Whole,
    _session: Arc<Session>,
}

impl Reader {
    pub(super) fn new(session: Arc<Session>, file: File, range: std::ops::Range<u64>) -> Self {
        let (slots, current) = (VecDeque::new(), BytesMut::new());
        Self { file, range, slots, current, state: Whole::SoFar, _session: session }
    }

    fn ask(&mut self) {
        while self.slots.len() < AHEAD && self.range.start < self.range.end {
            let end = self.range.end.min(self.range.start + REQUEST_BYTES);
            self.slots.push_back(Slot::Asked(Box::pin(block(self.file.clone(), self.range.start..end))));
            self.range.start = end;
        }
    }
}

/// Reads one block whole: a server may give less than was asked for.
async fn block(mut file: File, range: std::ops::Range<u64>) -> io::Result<BytesMut> {
    let mut bytes = BytesMut::new();
    let mut at = range.start;
    while at < range.end {
        Pin::new(&mut file).start_seek(io::SeekFrom::Start(at))?;
        let most = u32::try_from(range.end - at).unwrap_or(u32::MAX);
        let piece = file.read(most, BytesMut::new()).await.map_err(|error| io::Error::other(error.to_string()))?;
        let Some(piece) = piece.filter(|piece| !piece.is_empty()) else {
            let what = "the object became shorter while it was read";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        };
        at += piece.len() as u64;
        if bytes.is_empty() { bytes = piece } else { bytes.extend_from_slice(&piece) }
    }
    Ok(bytes)
}

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            self.ask();
            for slot in &mut self.slots {
                if let Slot::Asked(block) = slot
                    && let Poll::Ready(here) = block.as_mut().poll(cx)
                {
                    *slot = Slot::Here(here);
                }
            }
            match self.slots.pop_front() {
                None => return Poll::Ready(self.state.end()),
                Some(Slot::Here(Ok(bytes))) => self.current = bytes,
                Some(Slot::Here(Err(error))) => {
                    self.slots.clear();
                    self.range.start = self.range.end;
                    self.state = Whole::Broken;
                    return Poll::Ready(Err(error));
                }
                Some(asked @ Slot::Asked(_)) => {
                    self.slots.push_front(asked);
                    return Poll::Pending;
                }
            }
        }
        let count = self.current.len().min(buffer.remaining());
        buffer.put_slice(&self.current[..count]);
        self.current.advance(count);
        Poll::Ready(Ok(()))
    }
}
