//! Work on many blocks at once, whose results keep the order of the blocks.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::flow::Outflow;
use super::meter::{Meter, Stage};
use super::thread;
use crate::base::clock;

/// What a worker does to a block. Every worker has its own.
pub(super) type Work = Box<dyn FnMut(&[u8]) -> io::Result<Bytes> + Send>;

/// Makes the work of one worker.
pub(super) type MakeWork = Box<dyn Fn() -> io::Result<Work> + Send>;

const MOST_WORKERS: usize = 32;

struct Job {
    block: Bytes,
    reply: SyncSender<io::Result<Bytes>>,
}

/// Workers between a thread and an [`Outflow`]; started one by one as blocks come.
pub(super) struct Lanes {
    jobs: Sender<Job>,
    waiting: Arc<Mutex<Receiver<Job>>>,
    make: MakeWork,
    started: usize,
    limit: usize,
    metered: (Arc<Meter>, Stage),
}

/// How many workers there may be: one per core.
pub(super) fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS)
}

/// The most blocks under way.
pub(super) fn blocks() -> usize {
    workers() + 1
}

impl Lanes {
    pub(super) fn new(make: MakeWork, metered: (Arc<Meter>, Stage)) -> Self {
        let (jobs, waiting) = channel();
        Self { jobs, waiting: Arc::new(Mutex::new(waiting)), make, started: 0, limit: workers(), metered }
    }

    /// Hands a block to a worker and keeps its place in `out`. Waits while too many are under way.
    pub(super) fn submit(&mut self, block: Bytes, out: &mut Outflow) -> io::Result<()> {
        if self.started < self.limit {
            self.start()?;
        }
        let reply = out.promise()?;
        // The receiver lives as long as `self`.
        let _ = self.jobs.send(Job { block, reply });
        Ok(())
    }

    fn start(&mut self) -> io::Result<()> {
        let (mut work, waiting) = ((self.make)()?, Arc::clone(&self.waiting));
        let ((meter, stage), share) = (self.metered.clone(), u32::try_from(self.limit).unwrap_or(u32::MAX));
        thread::start("transfer-worker", move || {
            while let Some(Job { block, reply }) = next(&waiting) {
                let from = clock::monotonic();
                let made = catch_unwind(AssertUnwindSafe(|| work(&block)));
                meter.worked(stage, from.elapsed() / share);
                // Who waits for the block may be gone.
                let _ = reply.send(made.unwrap_or_else(|_| Err(io::Error::other("a worker of the transfer panicked"))));
            }
        })?;
        self.started += 1;
        Ok(())
    }
}

fn next(waiting: &Mutex<Receiver<Job>>) -> Option<Job> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::Read;

    use super::super::flow::flow;
    use super::*;

    fn lanes(work: fn(&[u8]) -> io::Result<Bytes>) -> Lanes {
        Lanes::new(Box::new(move || Ok(Box::new(work))), (Arc::default(), Stage::Compress))
    }

    #[test]
    fn results_keep_the_order_of_the_blocks() {
        let (mut out, mut into) = flow(3);
        let mut lanes = lanes(|block| Ok(Bytes::copy_from_slice(block)));
        let blocks: Vec<Bytes> = (0..100_u32).map(|number| Bytes::from(number.to_be_bytes().to_vec())).collect();
        let expected = blocks.concat();
        thread::start("test", move || {
            let sent = blocks.into_iter().try_for_each(|block| lanes.submit(block, &mut out));
            out.finish(sent);
        })
        .unwrap();
        let mut found = Vec::new();
        into.read_to_end(&mut found).unwrap();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_worker_that_panics_is_an_error_and_nobody_waits_for_ever() {
        let (mut out, mut into) = flow(2);
        let mut lanes = lanes(|block| if block == b"9" { panic!("on purpose") } else { Ok(Bytes::new()) });
        thread::start("test", move || {
            let sent = (0..100).try_for_each(|number: u32| lanes.submit(Bytes::from(number.to_string()), &mut out));
            out.finish(sent);
        })
        .unwrap();
        let error = into.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "what is read from failed");
        assert!(into.failure().take().unwrap().to_string().contains("panicked"));
    }
}
