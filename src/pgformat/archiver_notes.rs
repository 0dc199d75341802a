//! What a server was told of its segments: the notes of its archiver, empty files in `pg_wal/archive_status`.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use super::SegmentName;

/// The notes of an archiver (manual, "Continuous Archiving"; `xlogarchive.c`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ArchiverNotes {
    /// Segments that wait, in the order the server asks for them.
    pub waiting: BTreeSet<SegmentName>,
    /// Segments that are safe.
    pub safe: BTreeSet<SegmentName>,
}

impl ArchiverNotes {
    /// The folder below `pg_wal`.
    pub const FOLDER: &str = "archive_status";

    /// Takes in what a file of that name says; a name that is no note of a segment says nothing.
    pub fn take(&mut self, name: &OsStr) {
        let Some(name) = name.to_str() else { return };
        if let Some(Ok(segment)) = name.strip_suffix(".ready").map(str::parse) {
            self.waiting.insert(segment);
        } else if let Some(Ok(segment)) = name.strip_suffix(".done").map(str::parse) {
            self.safe.insert(segment);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::ArchiverNotes;

    #[test]
    fn a_note_says_of_its_segment_whether_it_waits_and_other_files_say_nothing() {
        let mut notes = ArchiverNotes::default();
        for name in [
            "00000001000000000000000B.ready",
            "00000001000000000000000A.ready",
            "000000010000000000000009.done",
            "00000002.history.ready",
            "000000010000000000000009",
            "x.ready",
        ] {
            notes.take(OsStr::new(name));
        }
        let names = |all: &std::collections::BTreeSet<super::SegmentName>| -> Vec<String> {
            all.iter().map(ToString::to_string).collect()
        };
        assert_eq!(names(&notes.waiting), ["00000001000000000000000A", "00000001000000000000000B"]);
        assert_eq!(names(&notes.safe), ["000000010000000000000009"]);
    }
}
