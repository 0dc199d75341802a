//! The engine's end of the socket: waits for a supervised program and passes on requests to end it.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream as StdStream;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::outcome::ExitRecord;
use super::wire::{Frames, Kind, put};
use crate::action::{CommandOutput, HostError};
use crate::event::Progress;

const CHUNK: usize = 32 << 10;

/// A supervised program that this engine waits for.
///
/// Dropping it closes the socket: a program tied to the engine is ended then, another one runs on.
pub struct Session {
    stream: UnixStream,
    child: tokio::process::Child,
    hello: Zeroizing<Vec<u8>>,
    transcript: Transcript,
}

impl Session {
    pub(super) fn new(
        program: &str,
        stream: UnixStream,
        child: tokio::process::Child,
        hello: Zeroizing<Vec<u8>>,
    ) -> Self {
        Self { stream, child, hello, transcript: Transcript::new(program) }
    }

    /// Waits for the end. `cancel` ends the tree with a grace, `kill` without; lines go to `show`.
    ///
    /// # Errors
    /// As a host's `run`: not started, too long, cancelled, lost.
    pub async fn wait(
        mut self,
        cancel: &CancellationToken,
        kill: &CancellationToken,
        show: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<CommandOutput, HostError> {
        let hello = std::mem::take(&mut self.hello);
        // A supervisor that is gone already is noticed by the first read.
        let _ = self.stream.write_all(&hello).await;
        drop(hello);
        let (mut asked, mut killed) = (false, false);
        let mut chunk = vec![0; CHUNK];
        let result = loop {
            let read = tokio::select! {
                read = self.stream.read(&mut chunk) => read,
                () = kill.cancelled(), if !killed => {
                    killed = true;
                    self.tell(Kind::Kill).await;
                    continue;
                }
                () = cancel.cancelled(), if !asked => {
                    asked = true;
                    self.tell(Kind::Terminate).await;
                    continue;
                }
            };
            if let Some(result) = self.transcript.take(read.map(|read| &chunk[..read]), show) {
                break result;
            }
        };
        // The supervisor has said its last word. Its exit status, whenever it comes, is taken by the runtime: waiting
        // for it here would cost every step the time in which a process is taken down.
        drop(self.child);
        result
    }

    async fn tell(&mut self, kind: Kind) {
        let mut frame = Vec::new();
        put(&mut frame, kind, &[]);
        // A supervisor that is gone is noticed by the next read.
        let _ = self.stream.write_all(&frame).await;
    }
}

/// Puts together what a supervisor tells.
pub(super) struct Transcript {
    program: String,
    frames: Frames,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Transcript {
    pub(super) fn new(program: &str) -> Self {
        Self { program: program.to_owned(), frames: Frames::default(), stdout: Vec::new(), stderr: Vec::new() }
    }

    /// Reads to the end, blocking.
    pub(super) fn read_from(&mut self, socket: &mut StdStream) -> Result<CommandOutput, HostError> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = socket.read(&mut chunk);
            if let Some(result) = self.take(read.map(|read| &chunk[..read]), &|_| {}) {
                return result;
            }
        }
    }

    /// Takes the result of a read and gives how the program ended, once that is known.
    fn take(
        &mut self,
        read: io::Result<&[u8]>,
        show: &(dyn Fn(Progress) + Send + Sync),
    ) -> Option<Result<CommandOutput, HostError>> {
        match read {
            Ok([]) => return Some(Err(self.lost())),
            Ok(bytes) => self.frames.push(bytes),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                return None;
            }
            Err(_) => return Some(Err(self.lost())),
        }
        loop {
            match self.frames.next() {
                Ok(Some((Kind::OutLine, line))) => show(output_line(&line, Stream::Out)),
                Ok(Some((Kind::ErrLine, line))) => show(output_line(&line, Stream::Err)),
                Ok(Some((Kind::Stdout, bytes))) => self.stdout = bytes,
                Ok(Some((Kind::Stderr, bytes))) => self.stderr = bytes,
                Ok(Some((Kind::Ended, record))) => return Some(self.end(&record)),
                Ok(Some((Kind::Stdin | Kind::Request | Kind::Terminate | Kind::Kill, _))) => {}
                Ok(None) => return None,
                Err(_) => return Some(Err(self.lost())),
            }
        }
    }

    fn end(&mut self, record: &[u8]) -> Result<CommandOutput, HostError> {
        let record: ExitRecord = serde_json::from_slice(record).map_err(|_| self.lost())?;
        let output = record.output(std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr));
        record.result(output)
    }

    fn lost(&self) -> HostError {
        HostError::Lost { program: self.program.clone() }
    }
}

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

/// A line as progress.
pub(super) fn output_line(line: &[u8], stream: Stream) -> Progress {
    Progress::Output { line: String::from_utf8_lossy(line).into_owned(), stderr: stream == Stream::Err }
}
