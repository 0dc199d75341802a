//! Every released format of a run still reads. The files below `format-*` are frozen: a test that fails here means
//! that histories on people's machines have become unreadable, and is never mended by changing them.

mod frozen;

use std::path::{Path, PathBuf};

use runbook::base::Digest;
use runbook::event::EventKind;
use runbook::journal::{RunDir, Runs, Tail, verify_run};

use crate::support::recorded;

fn frozen(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/compat/format-{format}"))
}

#[test]
fn a_run_of_format_1_still_reads_and_holds() {
    let dir = RunDir::at(frozen(1)).unwrap();
    let history = dir.read().unwrap();
    assert_eq!(history.tail, Tail::Clean);
    let audit = verify_run(&dir);
    assert!(audit.is_ok(), "{audit:#?}");
    let (plan, digest) = dir.plan().unwrap();
    assert_eq!((plan.run.as_str(), plan.steps.len()), (recorded::RUN, 1));
    let kinds: Vec<EventKind> = history.events.into_iter().map(|event| event.kind).collect();
    let known = kinds.iter().filter(|kind| **kind != EventKind::Unknown).count();
    assert_eq!(known, kinds.len(), "every kind of format 1 is still known");
    assert_eq!(kinds, recorded::rounds(digest).concat(), "and means what it meant");
}

#[test]
fn the_hash_of_a_line_of_format_1_is_computed_as_it_always_was() {
    // Taken with `sha256sum` from the first frozen line without its hash member.
    let text = std::fs::read_to_string(frozen(1).join("journal.jsonl")).unwrap();
    let line = text.lines().next().unwrap();
    let (body, hash) = line.rsplit_once(",\"hash\":\"").unwrap();
    assert_eq!(format!("{}\"}}", Digest::of(format!("{body}}}").as_bytes())), hash);
    assert_eq!(hash, "a8283ff3763c6f2c39b019570f8236c83f59a0efaf4bb2b6c95c096512f671c7\"}");
}

/// Makes the files of a new format, once: `cargo test --test it freeze -- --ignored`.
#[test]
#[ignore = "writes the frozen files of a format that does not exist yet"]
fn freeze_a_run_of_the_newest_format() {
    let target = frozen(runbook::event::FORMAT);
    assert!(!target.exists(), "a released format stays as it is");
    let root = tempfile::tempdir().unwrap();
    let dir = recorded::record(&Runs::open(root.path().join("state")).unwrap(), recorded::RUN);
    std::fs::create_dir(&target).unwrap();
    for name in ["plan.json", "journal.jsonl"] {
        std::fs::copy(dir.path().join(name), target.join(name)).unwrap();
    }
}
