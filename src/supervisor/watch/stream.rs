//! The pipes between a supervisor and its program.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::ioctl_fionbio;

use crate::base::redact::Redactor;
use crate::supervisor::capture::Capture;
use crate::supervisor::link::Link;
use crate::supervisor::wire::Kind;

/// What is read at once; also what is read at most after the end, so that a survivor that goes on
/// writing does not keep its supervisor.
///
/// Small, because it lives on the stack: each page of it that is touched first is a fault in every supervisor.
const CHUNK: usize = 16 << 10;
const LAST_CHUNKS: usize = 64;

/// One output stream.
pub(super) struct Output {
    pipe: Option<File>,
    capture: Capture,
    kind: Kind,
}

/// Whether a read may be followed by another one at once.
#[derive(PartialEq, Eq)]
enum More {
    Perhaps,
    No,
}

impl Output {
    pub(super) fn new(capture: Capture, kind: Kind) -> Self {
        Self { pipe: None, capture, kind }
    }

    pub(super) fn open(&mut self, pipe: Option<OwnedFd>) -> io::Result<()> {
        if let Some(pipe) = &pipe {
            ioctl_fionbio(pipe, true)?;
        }
        self.pipe = pipe.map(File::from);
        Ok(())
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Takes what is there, without waiting.
    pub(super) fn read(&mut self, redactor: &Redactor, link: &mut Link) {
        self.read_once(redactor, link);
    }

    /// Takes what was written before the end and gives the pipe, when something still holds its other end.
    pub(super) fn last(&mut self, redactor: &Redactor, link: &mut Link) -> Option<File> {
        for _ in 0..LAST_CHUNKS {
            if self.read_once(redactor, link) == More::No {
                break;
            }
        }
        self.pipe.take()
    }

    /// Ends the stream: what is kept and how much was left out.
    pub(super) fn finish(self, redactor: &Redactor, link: &mut Link) -> (Vec<u8>, u64) {
        let kind = self.kind;
        self.capture.finish(redactor, &mut |line| link.show(kind, line))
    }

    fn read_once(&mut self, redactor: &Redactor, link: &mut Link) -> More {
        let Some(pipe) = &mut self.pipe else { return More::No };
        let mut chunk = [0; CHUNK];
        match pipe.read(&mut chunk) {
            Ok(0) => self.pipe = None,
            Ok(read) => {
                let kind = self.kind;
                self.capture.take(redactor, &chunk[..read], &mut |line| link.show(kind, line));
                return More::Perhaps;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return More::Perhaps,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.pipe = None,
        }
        More::No
    }
}

/// The program's standard input.
pub(super) struct Input {
    pipe: File,
    rest: Vec<u8>,
}

impl Input {
    pub(super) fn new(pipe: OwnedFd, bytes: Vec<u8>) -> io::Result<Self> {
        ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe: File::from(pipe), rest: bytes })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Writes what the program takes without waiting; `true` when nothing more is to be written.
    pub(super) fn write(&mut self) -> bool {
        while !self.rest.is_empty() {
            match self.pipe.write(&self.rest) {
                Ok(written) => drop(self.rest.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A program need not read its input: a closed pipe is no failure.
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}
