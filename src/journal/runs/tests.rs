//! The directory of runs.

use std::os::unix::fs::PermissionsExt as _;

use super::{CreatedRun, Runs, RunsError};
use crate::base::{Attempt, Timestamp};
use crate::event::{ErrorClass, ErrorInfo, EventKind, Figures, Outcome};
use crate::journal::sample;
use crate::journal::summary::RunStatus;
use crate::port::Journal as _;

struct State {
    root: tempfile::TempDir,
    runs: Runs,
}

fn state() -> State {
    let root = tempfile::tempdir().expect("a folder");
    let runs = Runs::open(root.path().join("a/state")).expect("opens");
    State { root, runs }
}

fn create(runs: &Runs, id: &str) -> CreatedRun {
    runs.create(&sample::plan_of(id.parse().expect("a run id"))).expect("creates")
}

fn write(run: &mut CreatedRun, kinds: Vec<EventKind>) {
    run.journal.append(Timestamp::UNIX_EPOCH, kinds).expect("appends");
    run.journal.sync().expect("syncs");
}

#[test]
fn a_created_run_is_private_complete_and_driven() {
    let state = state();
    let run = runs_of(&state, "20260101-000000-aaaaaa");
    for name in ["", "attempts", "blobs", "control/done"] {
        let mode = std::fs::metadata(run.dir.path().join(name)).expect("exists").permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{name}");
    }
    let (plan, digest) = run.dir.plan().expect("reads");
    assert_eq!((plan.run.clone(), digest), (run.dir.id().clone(), run.plan));
    assert!(run.dir.is_live().expect("looks"));
    let Err(RunsError::Live { pid, .. }) = run.dir.lock() else { panic!("a second engine must not drive it") };
    assert_eq!(pid, std::process::id());
    assert!(state.root.path().join("a/state/ledger.jsonl").exists());
}

fn runs_of(state: &State, id: &str) -> CreatedRun {
    create(&state.runs, id)
}

#[test]
fn a_run_is_never_created_twice() {
    let state = state();
    let run = runs_of(&state, "20260101-000000-aaaaaa");
    let again = state.runs.create(&sample::plan_of(run.dir.id().clone()));
    assert!(matches!(again, Err(RunsError::File { .. })), "{again:?}");
    assert!(run.dir.read().is_ok(), "the first one is as it was");
}

#[test]
fn a_run_that_cannot_be_created_leaves_nothing_behind() {
    let state = state();
    let plan = sample::plan_of("20260101-000000-aaaaaa".parse().expect("a run id"));
    let place = state.runs.dir(&plan.run).path().to_owned();
    // A link to nothing: the folder can be made and not be moved there.
    std::os::unix::fs::symlink("/nowhere/at/all", &place).expect("links");
    assert!(matches!(state.runs.create(&plan), Err(RunsError::File { .. })));
    let left = std::fs::read_dir(place.parent().expect("a parent")).expect("lists");
    let names: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["20260101-000000-aaaaaa"], "the link alone");
}

#[test]
fn a_copied_folder_still_knows_its_run() {
    let state = state();
    let run = runs_of(&state, "20260101-000000-aaaaaa");
    let moved = state.root.path().join("copy");
    std::fs::rename(run.dir.path(), &moved).expect("moves");
    assert_eq!(super::RunDir::at(moved).expect("reads").id(), run.dir.id());
}

#[test]
fn runs_are_found_by_id_beginning_and_last() {
    let state = state();
    for id in ["20260101-000000-aaaaaa", "20260101-120000-bbbbbb", "20260202-000000-cccccc"] {
        drop(create(&state.runs, id));
    }
    for (text, id) in [
        ("20260101-000000-aaaaaa", "20260101-000000-aaaaaa"),
        ("20260101-1", "20260101-120000-bbbbbb"),
        ("last", "20260202-000000-cccccc"),
    ] {
        assert_eq!(state.runs.find(text).expect(text).id().as_str(), id);
    }
    let Err(RunsError::Ambiguous { matches, .. }) = state.runs.find("20260101") else { panic!("two fit") };
    assert_eq!(matches.len(), 2);
    for text in ["bbbbbx", "20260101-120000-bbbbbd"] {
        let Err(RunsError::Unknown { suggestions, .. }) = state.runs.find(text) else { panic!("none fits") };
        assert_eq!(suggestions[0].as_str(), "20260101-120000-bbbbbb", "{text}");
    }
    assert!(matches!(state.runs.find(""), Err(RunsError::Unknown { .. })));
    assert!(matches!(state.runs.find("../x"), Err(RunsError::Unknown { .. })));
}

#[test]
fn a_list_is_newest_first_and_a_damaged_run_hides_no_other() {
    let state = state();
    let mut done = create(&state.runs, "20260101-000000-aaaaaa");
    let started = sample::started_with(done.plan);
    let error = ErrorInfo::new(ErrorClass::Fatal, "no");
    let failed =
        EventKind::StepFailed { step: "stage".parse().expect("an id"), attempt: Attempt(1), error, elapsed_ms: 5 };
    let figures = Box::new(Figures { run_ms: 1500, ..Figures::default() });
    let finished = EventKind::RunFinished { outcome: Outcome::Failed, exit_code: 10, figures };
    write(&mut done, vec![started, failed, finished]);
    drop(done);
    let mut cut = create(&state.runs, "20260102-000000-aaaaaa");
    let started = sample::started_with(cut.plan);
    write(&mut cut, vec![started]);
    drop(cut);
    let damaged = create(&state.runs, "20260103-000000-aaaaaa");
    std::fs::remove_file(damaged.dir.path().join("plan.json")).expect("removes");
    drop(damaged);
    drop(create(&state.runs, "20260104-000000-aaaaaa"));
    let live = create(&state.runs, "20260105-000000-aaaaaa");

    let list = state.runs.list().expect("lists");
    let names: Vec<&str> = list.iter().map(|run| run.id.as_str()).collect();
    assert_eq!(names[0], live.dir.id().as_str());
    let statuses: Vec<&RunStatus> = list.iter().map(|run| &run.status).collect();
    assert!(
        matches!(
            statuses[..],
            [
                RunStatus::Live,
                RunStatus::NeverStarted,
                RunStatus::Damaged { .. },
                RunStatus::Interrupted,
                RunStatus::Finished { outcome: Outcome::Failed, exit_code: 10 },
            ]
        ),
        "{statuses:?}"
    );
    assert_eq!((list[4].elapsed_ms, list[4].failed, list[1].name.as_str()), (1500, 1, "full-db-loss"));
}
