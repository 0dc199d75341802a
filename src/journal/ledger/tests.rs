//! The ledger's chain.

use std::io::Write as _;
use std::path::Path;

use super::{Anchored, LEDGER_FILE, Ledger, LedgerContent, LedgerError};
use crate::base::{Digest, RunId, Timestamp};
use crate::event::{Event, EventKind, Figures, Outcome};
use crate::journal::chain::Chain;
use crate::journal::sample;

fn run(letter: char) -> RunId {
    format!("20260101-000000-{letter}").parse().expect("a run id")
}

fn finished() -> Event {
    let mut chain = Chain::start(run('a'), Digest::of(b"a"));
    let kind =
        EventKind::RunFinished { outcome: Outcome::Succeeded, exit_code: 0, figures: Box::new(Figures::default()) };
    chain.link(Timestamp::UNIX_EPOCH, kind).expect("serializes").event
}

fn filled(root: &Path) -> (Ledger, Vec<u8>) {
    let ledger = Ledger::below(root);
    for letter in ['a', 'b', 'c'] {
        ledger.start(&run(letter), Digest::of(&[letter as u8])).expect("appends");
    }
    ledger.finish(&finished()).expect("appends");
    (ledger, std::fs::read(root.join(LEDGER_FILE)).expect("reads"))
}

fn rewrite(root: &Path, bytes: &[u8]) {
    let mut file = std::fs::File::create(root.join(LEDGER_FILE)).expect("opens");
    file.write_all(bytes).expect("writes");
}

#[test]
fn anchors_are_chained_and_found_again() {
    let root = tempfile::tempdir().expect("a folder");
    let (ledger, _) = filled(root.path());
    let content = ledger.read().expect("reads");
    assert_eq!((content.lines.len(), content.problems.as_slice()), (4, [].as_slice()));
    assert_eq!(content.started(&run('b')), Some(Digest::of(b"b")));
    assert_eq!(content.finished(&run('a')), Some((finished().seq, finished().hash)));
    assert_eq!(content.finished(&run('b')), None);
}

#[test]
fn an_anchor_is_written_once() {
    let root = tempfile::tempdir().expect("a folder");
    let (ledger, bytes) = filled(root.path());
    assert_eq!(ledger.finish(&finished()).expect("looks"), Anchored::AlreadyThere);
    assert_eq!(ledger.start(&run('a'), Digest::of(b"a")).expect("looks"), Anchored::AlreadyThere);
    assert_eq!(std::fs::read(root.path().join(LEDGER_FILE)).expect("reads"), bytes);
}

#[test]
fn only_the_end_of_a_run_is_anchored_as_its_end() {
    let root = tempfile::tempdir().expect("a folder");
    let mut chain = Chain::start(sample::run(), sample::plan_digest());
    let event = chain.link(Timestamp::UNIX_EPOCH, sample::started()).expect("serializes").event;
    let refused = Ledger::below(root.path()).finish(&event);
    assert!(matches!(refused, Err(LedgerError::NotAnEnd { .. })), "{refused:?}");
}

#[test]
fn a_line_removed_from_the_middle_shows() {
    let root = tempfile::tempdir().expect("a folder");
    let (ledger, bytes) = filled(root.path());
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for gone in 0..3 {
        let kept: Vec<u8> =
            lines.iter().enumerate().filter(|(at, _)| *at != gone).flat_map(|(_, line)| line.to_vec()).collect();
        rewrite(root.path(), &kept);
        let problems = ledger.read().expect("reads").problems;
        let expected = (gone as u64 + 1, "the line does not follow the one before it: lines are missing".to_owned());
        assert_eq!(problems, [expected]);
    }
}

#[test]
fn every_flipped_byte_shows_and_new_anchors_are_still_taken() {
    let root = tempfile::tempdir().expect("a folder");
    let (ledger, bytes) = filled(root.path());
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert_ne!(LedgerContent::scan(&damaged).problems, [], "byte {at}");
    }
    rewrite(root.path(), &[&bytes[..100], b"#", &bytes[101..]].concat());
    let before = ledger.read().expect("reads").problems;
    ledger.start(&run('z'), Digest::of(b"z")).expect("appends");
    let content = ledger.read().expect("reads");
    assert_eq!((content.problems, content.lines.len() >= 4), (before, true), "the old damage and no new one");
    assert_eq!(content.lines.last().map(|line| line.n), Some(5));
}

#[test]
fn a_ledger_cut_at_any_byte_takes_the_next_anchor() {
    let root = tempfile::tempdir().expect("a folder");
    let (ledger, bytes) = filled(root.path());
    for len in (0..bytes.len()).step_by(31).chain([bytes.len() - 1]) {
        rewrite(root.path(), &bytes[..len]);
        ledger.start(&run('z'), Digest::of(b"z")).expect("appends");
        let content = ledger.read().expect("reads");
        assert_eq!(content.problems, [], "cut at {len}");
        assert_eq!(content.started(&run('z')), Some(Digest::of(b"z")));
    }
}

#[test]
fn anchors_of_many_runs_at_once_stay_one_chain() {
    let root = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::below(root.path());
    std::thread::scope(|scope| {
        for letter in 'a'..='h' {
            let ledger = &ledger;
            scope.spawn(move || {
                for number in 0..10_u8 {
                    ledger.start(&run(letter), Digest::of(&[number])).expect("appends");
                }
            });
        }
    });
    let content = ledger.read().expect("reads");
    assert_eq!((content.lines.len(), content.problems.as_slice()), (80, [].as_slice()));
}
