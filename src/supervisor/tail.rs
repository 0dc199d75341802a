//! Follows the output of a program whose socket died with the engine that started it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use super::session::{Stream, output_line};
use crate::event::Progress;

/// What is shown of one look at most; a program that writes faster is shown in part.
const LOOK: u64 = 64 << 10;

/// One output file that grows.
pub(super) struct Tail {
    path: PathBuf,
    stream: Stream,
    seen: u64,
    line: Vec<u8>,
}

impl Tail {
    /// Starts at the end of what is there: the earlier engine showed the rest.
    pub(super) fn new(path: PathBuf, stream: Stream) -> Self {
        let seen = std::fs::metadata(&path).map_or(0, |facts| facts.len());
        Self { path, stream, seen, line: Vec::new() }
    }

    /// Shows the lines that came since the last look. Progress is lossy: what cannot be read is not shown.
    pub(super) fn look(&mut self, show: &(dyn Fn(Progress) + Send + Sync)) {
        let mut new = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.seen))?;
            file.take(LOOK).read_to_end(&mut new)
        });
        if read.is_err() {
            return;
        }
        self.seen += new.len() as u64;
        self.line.extend_from_slice(&new);
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            show(output_line(&self.line[..end], self.stream));
            self.line.drain(..=end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Mutex;

    use super::{Progress, Stream, Tail};

    #[test]
    fn whole_lines_are_shown_once_from_where_it_began() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"before\nhal").expect("written");
        let mut tail = Tail::new(file.path().to_owned(), Stream::Out);
        let shown = Mutex::new(Vec::new());
        let show = |progress| {
            if let Progress::Output { line, stderr: false } = progress {
                shown.lock().expect("a list").push(line);
            }
        };
        for piece in ["f\none\ntw", "o\n", ""] {
            file.write_all(piece.as_bytes()).expect("written");
            tail.look(&show);
        }
        assert_eq!(*shown.lock().expect("a list"), ["f", "one", "two"]);
    }
}
