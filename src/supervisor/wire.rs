//! Frames on the socket between engine and supervisor: length, kind, payload.

use std::io;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To the supervisor: bytes for the program's standard input; comes before the request.
    Stdin = 1,
    /// To the supervisor: the request, which starts the program.
    Request = 2,
    /// To the supervisor: TERM now, KILL after the grace.
    Terminate = 3,
    /// To the supervisor: KILL now.
    Kill = 4,
    /// To the engine: a line of standard output, for progress; lossy.
    OutLine = 6,
    /// To the engine: a line of standard error, for progress; lossy.
    ErrLine = 7,
    /// To the engine: the capped standard output; comes before the end.
    Stdout = 8,
    /// To the engine: the capped standard error; comes before the end.
    Stderr = 9,
    /// To the engine: the exit record; the last frame.
    Ended = 10,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Stdin,
        Kind::Request,
        Kind::Terminate,
        Kind::Kill,
        Kind::OutLine,
        Kind::ErrLine,
        Kind::Stdout,
        Kind::Stderr,
        Kind::Ended,
    ];
}

const HEADER: usize = 5;
/// No honest frame is larger.
const LARGEST: usize = 256 << 20;

/// Appends a frame.
pub(super) fn put(out: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.push(kind as u8);
    out.extend_from_slice(payload);
}

/// Cuts frames out of what was read.
#[derive(Default)]
pub(super) struct Frames(Vec<u8>);

impl Frames {
    /// Takes bytes as they came.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Gives the next whole frame.
    ///
    /// # Errors
    /// Fails when the bytes cannot be a frame.
    pub(super) fn next(&mut self) -> io::Result<Option<(Kind, Vec<u8>)>> {
        let Some((header, body)) = self.0.split_first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == header[4]);
        let Some(kind) = kind.filter(|_| length <= LARGEST) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a frame of a supervisor"));
        };
        if body.len() < length {
            return Ok(None);
        }
        let payload = body[..length].to_vec();
        self.0.drain(..HEADER + length);
        Ok(Some((kind, payload)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, Kind, put};

    #[test]
    fn frames_come_out_as_they_went_in_whatever_the_chunks() {
        let mut bytes = Vec::new();
        put(&mut bytes, Kind::Stdin, b"");
        put(&mut bytes, Kind::OutLine, b"hello");
        let mut frames = Frames::default();
        let mut found = Vec::new();
        for byte in &bytes {
            frames.push(&[*byte]);
            while let Some(frame) = frames.next().expect("frames") {
                found.push(frame);
            }
        }
        assert_eq!(found, [(Kind::Stdin, Vec::new()), (Kind::OutLine, b"hello".to_vec())]);
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let mut frames = Frames::default();
        frames.push(b"GET / HTTP/1.1\r\n");
        assert!(frames.next().is_err());
    }
}
