//! The supervisor's end of the socket to the engine.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::request::{EndLevel, Request};
use super::wire::{Frames, Kind, put};

/// Progress is dropped while this much waits for a slow engine.
const BACKLOG: usize = 128 << 10;
/// How long the last frames wait for an engine that does not read.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came from the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing that matters now.
    Nothing,
    /// The tree is to end.
    End(EndLevel),
    /// The engine is gone.
    Gone,
}

/// The socket while the engine is there.
pub(super) struct Link {
    socket: Option<UnixStream>,
    frames: Frames,
    pending: Vec<u8>,
}

impl Link {
    /// Takes the socket on standard input and waits for the request and the program's input.
    pub(super) fn accept() -> io::Result<(Self, Vec<u8>, Request)> {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let mut link = Self { socket: None, frames: Frames::default(), pending: Vec::new() };
        let mut input = Vec::new();
        loop {
            match link.frames.next()? {
                Some((Kind::Stdin, bytes)) => input = bytes,
                Some((Kind::Request, bytes)) => {
                    let request = serde_json::from_slice(&bytes)?;
                    socket.set_nonblocking(true)?;
                    link.socket = Some(socket);
                    return Ok((link, input, request));
                }
                Some(_) => return Err(io::ErrorKind::InvalidData.into()),
                None => {
                    let mut chunk = [0; 16 << 10];
                    let read = (&socket).read(&mut chunk)?;
                    if read == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    link.frames.push(&chunk[..read]);
                }
            }
        }
    }

    /// The descriptor to poll, while the engine is there.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Whether something waits to be written.
    pub(super) fn wants_to_write(&self) -> bool {
        self.socket.is_some() && !self.pending.is_empty()
    }

    /// Sends a frame when the engine can take it.
    pub(super) fn send(&mut self, kind: Kind, payload: &[u8]) {
        if self.socket.is_some() {
            put(&mut self.pending, kind, payload);
            self.flush();
        }
    }

    /// Sends a frame, or drops it when the engine is slow.
    pub(super) fn show(&mut self, kind: Kind, line: &[u8]) {
        if self.pending.len() < BACKLOG {
            self.send(kind, line);
        }
    }

    /// Writes what the socket takes without waiting.
    pub(super) fn flush(&mut self) {
        let Some(socket) = &mut self.socket else { return };
        while !self.pending.is_empty() {
            match socket.write(&self.pending) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A broken socket is noticed by the next read.
                Err(_) => return,
            }
        }
    }

    /// Sends the last frames, waiting for the engine to take them.
    pub(super) fn close(mut self, frames: &[(Kind, &[u8])]) {
        let Some(mut socket) = self.socket.take() else { return };
        for (kind, payload) in frames {
            put(&mut self.pending, *kind, payload);
        }
        // The records are on disk or the engine is gone: nothing is lost when this fails.
        let _ = socket
            .set_nonblocking(false)
            .and_then(|()| socket.set_write_timeout(Some(PATIENCE)))
            .and_then(|()| socket.write_all(&self.pending));
    }

    /// Reads what the engine says.
    pub(super) fn hear(&mut self) -> Heard {
        let Some(socket) = &mut self.socket else { return Heard::Nothing };
        let mut chunk = [0; 256];
        match socket.read(&mut chunk) {
            Ok(0) => return self.gone(),
            Ok(read) => self.frames.push(&chunk[..read]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Heard::Nothing;
            }
            Err(_) => return self.gone(),
        }
        let mut heard = Heard::Nothing;
        loop {
            match self.frames.next() {
                Ok(Some((Kind::Terminate, _))) if heard == Heard::Nothing => heard = Heard::End(EndLevel::Terminate),
                Ok(Some((Kind::Kill, _))) => heard = Heard::End(EndLevel::Kill),
                Ok(Some(_)) => {}
                Ok(None) => return heard,
                Err(_) => return self.gone(),
            }
        }
    }

    fn gone(&mut self) -> Heard {
        self.socket = None;
        self.pending.clear();
        Heard::Gone
    }
}
