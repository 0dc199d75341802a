//! One output stream of a program: redacted, cut into lines, capped.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use crate::action::CommandOutput;
use crate::base::redact::{RedactStream, Redactor};

/// How much of the start and how much of the end of a stream is kept.
pub(super) const PART: usize = 1 << 20;
/// A longer line is shown in pieces.
const LONGEST_LINE: usize = 4096;

/// Keeps the first and the last part of a stream.
pub(super) struct Capture {
    redaction: RedactStream,
    line: Vec<u8>,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    cut: u64,
    path: Option<PathBuf>,
    file: Option<File>,
}

impl Capture {
    /// Keeps in memory and, when a path is given, in a file that grows while the program runs.
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self {
            redaction: RedactStream::default(),
            line: Vec::new(),
            head: Vec::new(),
            tail: VecDeque::new(),
            cut: 0,
            path,
            file: None,
        }
    }

    /// Takes what the program wrote and gives each finished line to `show`.
    pub(super) fn take(&mut self, redactor: &Redactor, bytes: &[u8], show: &mut dyn FnMut(&[u8])) {
        let mut clear = Vec::with_capacity(bytes.len());
        self.redaction.push(redactor, bytes, &mut clear);
        self.keep(&clear);
        self.lines(&clear, show);
    }

    /// Ends the stream and gives what is kept and how many bytes between its parts were left out.
    pub(super) fn finish(mut self, redactor: &Redactor, show: &mut dyn FnMut(&[u8])) -> (Vec<u8>, u64) {
        let mut clear = Vec::new();
        let mut redaction = std::mem::take(&mut self.redaction);
        redaction.finish(redactor, &mut clear);
        self.keep(&clear);
        self.lines(&clear, show);
        if !self.line.is_empty() {
            show(&self.line);
        }
        let mut rest = Vec::new();
        if self.cut > 0 {
            rest.extend_from_slice(CommandOutput::left_out(self.cut).as_bytes());
        }
        rest.extend(self.tail.iter());
        self.write(&rest);
        let mut all = self.head;
        all.extend_from_slice(&rest);
        (all, self.cut)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = PART - self.head.len();
        let (first, rest) = bytes.split_at(bytes.len().min(room));
        if !first.is_empty() {
            self.head.extend_from_slice(first);
            self.write(first);
        }
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(PART);
        self.tail.drain(..over);
        self.cut += over as u64;
    }

    /// The file is a copy for people and for a resumed run; a full disk must not end the program.
    fn write(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.file.is_none() {
            self.file = self.path.take().and_then(|path| super::folder::create(&path).ok());
        }
        if let Some(file) = &mut self.file
            && file.write_all(bytes).is_err()
        {
            self.file = None;
        }
    }

    fn lines(&mut self, bytes: &[u8], show: &mut dyn FnMut(&[u8])) {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
            }
            if *byte == b'\n' || self.line.len() >= LONGEST_LINE {
                show(self.line.strip_suffix(b"\r").unwrap_or(&self.line));
                self.line.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Capture, PART};
    use crate::base::redact::Redactor;
    use crate::base::secret::SecretText;

    #[test]
    fn the_first_and_the_last_part_are_kept_and_the_cut_is_counted() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("stdout");
        let mut capture = Capture::new(Some(path.clone()));
        let none = Redactor::default();
        let mut lines = 0u32;
        for number in 0..400_000 {
            capture.take(&none, format!("{number:09}\n").as_bytes(), &mut |_| lines += 1);
        }
        let (kept, cut) = capture.finish(&none, &mut |_| lines += 1);
        assert_eq!(lines, 400_000);
        assert_eq!(cut, 4_000_000 - 2 * PART as u64);
        assert!(kept.starts_with(b"000000000\n") && kept.ends_with(b"000399999\n"));
        assert_eq!(kept.len(), 2 * PART + format!("\n[{cut} bytes left out]\n").len());
        assert_eq!(std::fs::read(path).expect("the file"), kept);
    }

    #[test]
    fn neither_lines_nor_what_is_kept_hold_a_secret() {
        let redactor = Redactor::new([SecretText::new("hunter22".to_owned())]);
        let mut capture = Capture::new(None);
        let mut shown = Vec::new();
        for chunk in ["pw hun", "ter2", "2\r\nend"] {
            capture.take(&redactor, chunk.as_bytes(), &mut |line| shown.push(line.to_vec()));
        }
        let (kept, cut) = capture.finish(&redactor, &mut |line| shown.push(line.to_vec()));
        assert_eq!((kept, cut), (b"pw ***\r\nend".to_vec(), 0));
        assert_eq!(shown, [b"pw ***".to_vec(), b"end".to_vec()]);
    }
}
