//! How journals are read back.

use std::path::Path;

use super::{JOURNAL_FILE, PLAN_FILE, Tail, open_for_resume, read};
use crate::base::{Digest, EventSeq, Timestamp};
use crate::event::{EventKind, Figures, Outcome};
use crate::journal::file::FileJournal;
use crate::journal::sample;
use crate::port::{Journal as _, JournalError};

struct Fixture {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl Fixture {
    fn new(kinds: Vec<EventKind>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let plan = format!(r#"{{"run":"{}"}}"#, sample::run());
        put(dir.path(), PLAN_FILE, plan.as_bytes());
        let digest = Digest::of(plan.as_bytes());
        let mut journal = FileJournal::create(dir.path(), sample::run(), digest).expect("creates");
        let mut all = vec![sample::started_with(digest)];
        all.extend(kinds);
        journal.append(Timestamp::UNIX_EPOCH, all).expect("appends");
        journal.sync().expect("syncs");
        let bytes = std::fs::read(dir.path().join(JOURNAL_FILE)).expect("reads");
        Self { dir, bytes }
    }

    fn with_bytes(self, bytes: &[u8]) -> Self {
        put(self.dir.path(), JOURNAL_FILE, bytes);
        self
    }

    fn journal(&self) -> Vec<u8> {
        std::fs::read(self.dir.path().join(JOURNAL_FILE)).expect("reads")
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own files need not be durable")]
fn put(dir: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(dir.join(name), bytes).expect("writes");
}

fn cut(bytes: u64) -> EventKind {
    EventKind::TailCut { bytes }
}

fn finished() -> EventKind {
    EventKind::RunFinished { outcome: Outcome::Succeeded, exit_code: 0, figures: Box::new(Figures::default()) }
}

#[test]
fn what_was_written_is_read_back() {
    let fixture = Fixture::new(vec![cut(1), finished()]);
    let history = read(fixture.dir.path()).expect("holds");
    assert_eq!((history.events.len(), history.tail, history.chain.seq()), (3, Tail::Clean, EventSeq(3)));
    assert_eq!(history.valid_bytes, fixture.bytes.len() as u64);
}

#[test]
fn a_whole_line_without_its_newline_is_kept_and_finished_on_resume() {
    let fixture = Fixture::new(vec![cut(1)]);
    let whole = fixture.bytes.clone();
    let fixture = fixture.with_bytes(&whole[..whole.len() - 1]);
    assert_eq!(read(fixture.dir.path()).expect("holds").tail, Tail::Unterminated);
    assert_eq!(fixture.journal(), whole[..whole.len() - 1], "reading modifies nothing");
    let opened = open_for_resume(fixture.dir.path()).expect("opens");
    assert_eq!((opened.events.len(), opened.cut), (2, None));
    assert_eq!(fixture.journal(), whole);
}

#[test]
fn a_torn_line_is_cut_with_an_event_and_the_chain_goes_on() {
    let fixture = Fixture::new(vec![cut(1), cut(2)]);
    let torn = fixture.bytes[..fixture.bytes.len() - 40].to_vec();
    let fixture = fixture.with_bytes(&torn);
    let mut opened = open_for_resume(fixture.dir.path()).expect("opens");
    let lost = opened.cut.expect("something was cut");
    assert_eq!(opened.events.last().map(|event| event.kind.clone()), Some(cut(lost)));
    opened.journal.append(Timestamp::UNIX_EPOCH, vec![finished()]).expect("appends");
    opened.journal.sync().expect("syncs");
    let history = read(fixture.dir.path()).expect("holds");
    assert_eq!((history.events.len(), history.tail), (4, Tail::Clean));
    assert_eq!(open_for_resume(fixture.dir.path()).expect("opens").cut, None, "once");
}

#[test]
fn a_torn_first_line_leaves_an_empty_journal() {
    let fixture = Fixture::new(Vec::new());
    let torn = fixture.bytes[..10].to_vec();
    let fixture = fixture.with_bytes(&torn);
    let opened = open_for_resume(fixture.dir.path()).expect("opens");
    assert_eq!((opened.events.len(), opened.cut, fixture.journal().len()), (0, Some(10), 0));
}

#[test]
fn foreign_bytes_after_a_whole_line_are_corrupt() {
    let fixture = Fixture::new(vec![cut(1)]);
    let mut bytes = fixture.bytes[..fixture.bytes.len() - 1].to_vec();
    bytes.extend_from_slice(b"garbage");
    let fixture = fixture.with_bytes(&bytes);
    for error in [read(fixture.dir.path()).err(), open_for_resume(fixture.dir.path()).err()] {
        let Some(JournalError::Corrupt { seq, what, .. }) = error else { panic!("{error:?}") };
        assert_eq!((seq, what.as_str()), (EventSeq(2), "7 foreign bytes follow a whole line"));
    }
    assert_eq!(fixture.journal(), bytes, "a corrupt journal is left as it is");
}

#[test]
fn bytes_after_the_end_of_a_run_are_corrupt() {
    let fixture = Fixture::new(vec![finished()]);
    let bytes = [fixture.bytes.as_slice(), b"{"].concat();
    let fixture = fixture.with_bytes(&bytes);
    let error = open_for_resume(fixture.dir.path()).expect_err("refused");
    assert!(error.to_string().contains("1 bytes follow the end of the run"), "{error}");
}

#[test]
fn a_wrong_last_line_is_corrupt_and_named() {
    let fixture = Fixture::new(vec![cut(1)]);
    let mut bytes = fixture.bytes.clone();
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    let fixture = fixture.with_bytes(&bytes);
    let error = read(fixture.dir.path()).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "the journal of run `20260128-143002-3fa9c1` is corrupt at event 2: \
         the line's bytes do not have the hash it names"
    );
}

#[test]
fn a_journal_of_another_plan_is_refused() {
    let fixture = Fixture::new(Vec::new());
    put(fixture.dir.path(), PLAN_FILE, format!(r#"{{"run":"{}","x":1}}"#, sample::run()).as_bytes());
    let error = read(fixture.dir.path()).expect_err("refused");
    assert!(matches!(error, JournalError::OtherPlan { .. }), "{error}");
}

#[test]
fn a_missing_journal_is_named() {
    let fixture = Fixture::new(Vec::new());
    std::fs::remove_file(fixture.dir.path().join(JOURNAL_FILE)).expect("removes");
    let error = read(fixture.dir.path()).expect_err("refused");
    assert!(error.to_string().ends_with("journal.jsonl` cannot be read"), "{error}");
}
