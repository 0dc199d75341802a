//! Has the disk write while a restore goes on: the sync at its end would else find everything still in memory, since the
//! system itself begins late.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

/// After so many bytes a file is flushed, unless another one still is.
const EVERY_BYTES: u64 = 32 << 20;

/// Flushes one file after another on a thread of its own. It replaces no sync: most small files it never sees.
pub(crate) struct Flusher {
    files: SyncSender<File>,
    thread: JoinHandle<io::Result<()>>,
    written_bytes: u64,
}

impl Flusher {
    /// Starts the thread; it ends with this.
    ///
    /// # Errors
    /// Fails when there can be no thread.
    pub(crate) fn start() -> io::Result<Self> {
        let (files, waiting) = sync_channel(0);
        let thread = Builder::new().name("restore-flush".to_owned()).spawn(move || flush(&waiting))?;
        Ok(Self { files, thread, written_bytes: 0 })
    }

    /// Is told of bytes that were written to a file. Never waits.
    ///
    /// # Errors
    /// Fails when the file cannot be opened once more.
    pub(crate) fn wrote(&mut self, file: &File, bytes: usize) -> io::Result<()> {
        self.written_bytes += bytes as u64;
        if self.written_bytes < EVERY_BYTES {
            return Ok(());
        }
        match self.files.try_send(file.try_clone()?) {
            Ok(()) => self.written_bytes = 0,
            // One that is still at work is asked again after as many bytes; one that failed says so in the end.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.written_bytes = EVERY_BYTES / 2,
        }
        Ok(())
    }

    /// Waits for the last flush.
    ///
    /// # Errors
    /// Fails when the disk did not take what was written. A failure is told once: the sync of the whole file system after
    /// this would not see it again.
    pub(crate) fn finish(self) -> io::Result<()> {
        drop(self.files);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that flushes panicked")))
    }
}

fn flush(waiting: &Receiver<File>) -> io::Result<()> {
    waiting.iter().try_for_each(|file| file.sync_data())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_flushed_fails_the_end() {
        let (reader, _writer) = io::pipe().expect("a pipe");
        let file = File::from(std::os::fd::OwnedFd::from(reader));
        let mut flusher = Flusher::start().expect("a thread");
        while !flusher.thread.is_finished() {
            flusher.wrote(&file, 1 << 20).expect("taken");
        }
        assert_eq!(flusher.finish().expect_err("a pipe has no disk").kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn what_is_flushed_well_ends_well() {
        let file = tempfile::tempfile().expect("a file");
        let mut flusher = Flusher::start().expect("a thread");
        for _ in 0..1000 {
            flusher.wrote(&file, 1 << 20).expect("taken");
        }
        flusher.finish().expect("flushed");
    }
}
