//! What an audit finds.

use std::io::Write as _;
use std::path::Path;

use super::{ProblemKind, verify_all, verify_anchored, verify_run};
use crate::base::{Digest, Timestamp};
use crate::event::{EventKind, Figures, Outcome};
use crate::journal::AllowedSigners;
use crate::journal::{RunDir, Runs, sample};
use crate::port::Journal as _;

struct State {
    root: tempfile::TempDir,
    runs: Runs,
    dirs: Vec<RunDir>,
}

/// Three finished runs.
fn state() -> State {
    let root = tempfile::tempdir().expect("a folder");
    let runs = Runs::open(root.path().to_owned()).expect("opens");
    let dirs = ["aaaaaa", "bbbbbb", "cccccc"].map(|tail| finished(&runs, tail)).into();
    State { root, runs, dirs }
}

fn finished(runs: &Runs, tail: &str) -> RunDir {
    let id = format!("20260101-000000-{tail}").parse().expect("a run id");
    let mut run = runs.create(&sample::plan_of(id)).expect("creates");
    let end =
        EventKind::RunFinished { outcome: Outcome::Succeeded, exit_code: 0, figures: Box::new(Figures::default()) };
    let kinds = vec![sample::started_with(run.plan), EventKind::TailCut { bytes: 1 }, end];
    let events = run.journal.append(Timestamp::UNIX_EPOCH, kinds).expect("appends");
    run.journal.sync().expect("syncs");
    runs.ledger().finish(&events[2]).expect("anchors");
    run.dir
}

fn kinds(state: &State) -> Vec<ProblemKind> {
    let report = verify_all(&state.runs, &AllowedSigners::default()).expect("reads");
    let problems = report.runs.iter().flat_map(|run| &run.problems).chain(&report.ledger_problems);
    problems.map(|problem| problem.kind).collect()
}

fn put(path: &Path, bytes: &[u8]) {
    std::fs::File::create(path).and_then(|mut file| file.write_all(bytes)).expect("writes");
}

#[test]
fn an_untouched_state_holds() {
    let state = state();
    let report = verify_all(&state.runs, &AllowedSigners::default()).expect("reads");
    assert!(report.is_ok(), "{report:?}");
    assert_eq!((report.runs.len(), report.ledger_lines), (3, 6));
    assert_eq!((report.runs[0].events, report.runs[0].outcome), (3, Some(Outcome::Succeeded)));
    assert!(verify_anchored(&state.runs, &state.dirs[0], &AllowedSigners::default()).is_ok());
}

#[test]
fn a_removed_run_is_found_and_named() {
    let state = state();
    std::fs::remove_dir_all(state.dirs[1].path()).expect("removes");
    assert_eq!(kinds(&state), [ProblemKind::RunRemoved]);
    let report = verify_all(&state.runs, &AllowedSigners::default()).expect("reads");
    assert!(!report.is_ok() && !report.runs[1].is_ok());
    assert_eq!(report.runs[1].run, *state.dirs[1].id());
}

#[test]
fn a_run_removed_with_its_ledger_lines_is_found() {
    let state = state();
    std::fs::remove_dir_all(state.dirs[1].path()).expect("removes");
    let ledger = state.root.path().join("ledger.jsonl");
    let text = std::fs::read_to_string(&ledger).expect("reads");
    let kept: String = text.lines().filter(|line| !line.contains("bbbbbb")).map(|line| format!("{line}\n")).collect();
    put(&ledger, kept.as_bytes());
    assert_eq!(kinds(&state), [ProblemKind::Ledger]);
}

#[test]
fn a_journal_rewritten_with_a_sound_chain_is_found() {
    let state = state();
    let dir = &state.dirs[0];
    let (_, plan) = dir.plan().expect("reads");
    std::fs::remove_file(dir.path().join("journal.jsonl")).expect("removes");
    let mut forged = crate::journal::FileJournal::create(dir.path(), dir.id().clone(), plan).expect("creates");
    let end =
        EventKind::RunFinished { outcome: Outcome::Succeeded, exit_code: 0, figures: Box::new(Figures::default()) };
    forged.append(Timestamp::UNIX_EPOCH, vec![sample::started_with(plan), end]).expect("appends");
    forged.sync().expect("syncs");
    assert!(verify_run(dir).is_ok(), "by itself it holds");
    assert_eq!(kinds(&state), [ProblemKind::RunAltered]);
}

#[test]
fn a_changed_plan_a_shortened_journal_and_an_emptied_one_are_found() {
    let state = state();
    let plan = state.dirs[0].path().join("plan.json");
    let text = std::fs::read_to_string(&plan).expect("reads");
    put(&plan, text.replace("prod", "test").as_bytes());
    let journal = state.dirs[1].path().join("journal.jsonl");
    let text = std::fs::read_to_string(&journal).expect("reads");
    let two: String = text.lines().take(2).map(|line| format!("{line}\n")).collect();
    put(&journal, two.as_bytes());
    put(&state.dirs[2].path().join("journal.jsonl"), b"");
    let report = verify_all(&state.runs, &AllowedSigners::default()).expect("reads");
    let bad: Vec<bool> = report.runs.iter().map(super::RunAudit::is_ok).collect();
    assert_eq!(bad, [false, false, false], "{report:?}");
}

#[test]
fn a_run_whose_end_is_not_anchored_says_how_to_complete_it() {
    let state = state();
    let ledger = state.root.path().join("ledger.jsonl");
    let text = std::fs::read_to_string(&ledger).expect("reads");
    let five: String = text.lines().take(5).map(|line| format!("{line}\n")).collect();
    put(&ledger, five.as_bytes());
    assert_eq!(kinds(&state), [ProblemKind::EndNotAnchored]);
    let history = state.dirs[2].read().expect("reads");
    state.runs.ledger().finish(history.events.last().expect("an end")).expect("completes");
    assert_eq!(kinds(&state), []);
}

#[test]
fn a_blob_with_other_content_is_found() {
    let state = state();
    let blobs = state.dirs[0].blobs();
    put(&blobs.join(Digest::of(b"kept").to_string()), b"kept");
    assert_eq!(kinds(&state), []);
    put(&blobs.join(Digest::of(b"kept").to_string()), b"changed");
    assert_eq!(kinds(&state), [ProblemKind::Blob]);
}

#[test]
fn the_folder_of_one_run_under_the_name_of_another_is_found() {
    let state = state();
    std::fs::remove_dir_all(state.dirs[0].path()).expect("removes");
    std::fs::rename(state.dirs[1].path(), state.dirs[0].path()).expect("renames");
    let report = verify_all(&state.runs, &AllowedSigners::default()).expect("reads");
    assert_eq!(report.runs.iter().filter(|run| !run.is_ok()).count(), 2, "{report:?}");
}

#[test]
fn a_live_run_between_its_last_event_and_its_last_anchor_holds() {
    let state = state();
    let mut run =
        state.runs.create(&sample::plan_of("20260102-000000-dddddd".parse().expect("an id"))).expect("creates");
    let end = EventKind::RunFinished { outcome: Outcome::Failed, exit_code: 10, figures: Box::new(Figures::default()) };
    run.journal.append(Timestamp::UNIX_EPOCH, vec![sample::started_with(run.plan), end]).expect("appends");
    run.journal.sync().expect("syncs");
    assert_eq!(kinds(&state), []);
    drop(run);
    assert_eq!(kinds(&state), [ProblemKind::EndNotAnchored]);
}
