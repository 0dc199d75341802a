//! Events as JSON lines, for other programs.

use std::io::Write;

use serde::Serialize;

use crate::event::{Event, ProgressUpdate};
use crate::port::{Sink, SinkError};

/// Writes each event as the line the journal keeps, and progress as `{"progress":{…}}`.
///
/// An event's line has `seq`, `at`, `run`, `prev`, `kind` and `hash`; references to secrets stay
/// references, so that the hash of a line can be checked. A progress line is lossy and has no number.
pub struct JsonLines<W> {
    out: W,
}

#[derive(Serialize)]
struct ProgressLine<'a> {
    progress: &'a ProgressUpdate,
}

impl<W: Write + Send> JsonLines<W> {
    /// Writes to `out`, line by line.
    #[must_use]
    pub fn new(out: W) -> Self {
        Self { out }
    }

    fn line(&mut self, value: &impl Serialize) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.out.write_all(&line)?;
        self.out.flush()
    }
}

impl<W: Write + Send> Sink for JsonLines<W> {
    fn event(&mut self, event: &Event) -> Result<(), SinkError> {
        Ok(self.line(event)?)
    }

    fn progress(&mut self, update: &ProgressUpdate) {
        // Lossy by contract; a reader that is gone is found by the next event.
        drop(self.line(&ProgressLine { progress: update }));
    }
}
