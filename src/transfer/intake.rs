//! The first thread of a journey: it reads the body, which is asynchronous, into blocks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use tokio::io::AsyncReadExt;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::meter::{Meter, Stage};
use super::thread;
use crate::action::ByteStream;
use crate::base::clock;
use crate::base::pool::Pool;

/// A body and how it is read.
pub(super) struct Intake {
    /// The body.
    pub(super) body: ByteStream,
    /// How large its blocks shall be; only the last one is smaller.
    pub(super) block_bytes: usize,
    /// Ends the reading.
    pub(super) cancel: CancellationToken,
    /// Who is told of the time.
    pub(super) metered: (Arc<Meter>, Stage),
}

impl Intake {
    /// Reads on a thread of its own until the end, a failure, or the cancel. `take` gets every block, and at
    /// last how it ended.
    pub(super) fn start<T: Take>(self, mut take: T) -> io::Result<()> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        thread::start("transfer-intake", move || {
            let Self { body, block_bytes, cancel, metered } = self;
            let reading = read(body, block_bytes, metered, &mut take);
            let ended = runtime.block_on(cancel.run_until_cancelled(reading));
            take.finish(ended.unwrap_or_else(|| Err(super::flow::abandoned())));
        })
    }
}

/// Takes the blocks of an [`Intake`].
pub(super) trait Take: Send + 'static {
    /// Takes one block.
    fn block(&mut self, block: Bytes) -> io::Result<()>;
    /// Is told of the end.
    fn finish(self, ended: io::Result<()>);
}

async fn read<T: Take>(
    mut body: ByteStream,
    block_bytes: usize,
    (meter, stage): (Arc<Meter>, Stage),
    take: &mut T,
) -> io::Result<()> {
    let (mut first, pool) = (true, Pool::default());
    loop {
        let (mut block, mut worked) = (pool.take(block_bytes), Duration::ZERO);
        while block.len() < block_bytes {
            let (from, left) = (clock::monotonic(), block_bytes - block.len());
            let count = body.read_buf(&mut (&mut block).limit(left)).await?;
            worked += from.elapsed();
            if count == 0 {
                break;
            }
        }
        meter.worked(stage, worked);
        let last = block.len() < block_bytes;
        if first || !block.is_empty() {
            take.block(pool.lend(block))?;
        }
        if last {
            return Ok(());
        }
        first = false;
    }
}
