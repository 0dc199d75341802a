//! What `COPY … TO STDOUT` writes, as a stream, with its records counted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::Stream as _;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_postgres::{Client, CopyOutStream};

use super::connect::Driver;

/// The stream; it drives its own connection, and dropping it ends that.
pub(crate) struct CopyOut {
    pub(crate) stream: Pin<Box<CopyOutStream>>,
    pub(crate) driver: Option<Driver>,
    pub(crate) client: Client,
    pub(crate) current: Bytes,
    pub(crate) records: Records,
}

/// Counts the records of CSV: a line end within quotes is none.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) count: Arc<AtomicU64>,
    quoted: bool,
}

impl Records {
    fn add(&mut self, bytes: &[u8]) {
        let mut ended = 0;
        for byte in bytes {
            match byte {
                b'"' => self.quoted = !self.quoted,
                b'\n' if !self.quoted => ended += 1,
                _ => {}
            }
        }
        self.count.fetch_add(ended, Ordering::Relaxed);
    }
}

impl AsyncRead for CopyOut {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while !self.current.has_remaining() {
            if let Some(driver) = &mut self.driver
                && let Poll::Ready(ended) = driver.as_mut().poll(cx)
            {
                self.driver = None;
                ended.map_err(io::Error::other)?;
            }
            match ready!(self.stream.as_mut().poll_next(cx)) {
                Some(Ok(chunk)) => {
                    self.records.add(&chunk);
                    self.current = chunk;
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None if self.client.is_closed() && self.driver.is_none() => {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof)));
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = buffer.remaining().min(self.current.len());
        let part = self.current.split_to(count);
        buffer.put_slice(&part);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::Records;

    #[test]
    fn a_line_end_within_quotes_ends_no_record() {
        let mut records = Records::default();
        records.add(b"a,b\n1,\"two\nlines");
        records.add(b" and a \"\"quote\"\"\"\n2,x\n");
        assert_eq!(records.count.load(Ordering::Relaxed), 3);
    }
}
