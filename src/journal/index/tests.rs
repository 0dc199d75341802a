use crate::event::{EventKind, Figures, Outcome};
use crate::journal::index::{INDEX_FILE, Index, RunFilter, StepSample};
use crate::journal::{RunStatus, Runs, sample};
use crate::port::Journal as _;

fn started(runs: &Runs, number: u32) -> crate::journal::CreatedRun {
    let id = format!("20260128-1430{number:02}-3fa9c1").parse().expect("a run id");
    let params = [("database".to_owned(), "orders".into())].into();
    let plan = crate::plan::BoundPlan { params, ..sample::plan_of(id) };
    let mut created = runs.create(&plan).expect("creates");
    let at = crate::base::Timestamp::UNIX_EPOCH;
    created.journal.append(at, vec![sample::started_with(created.plan)]).expect("appends");
    created.journal.sync().expect("syncs");
    created
}

fn finish(created: &mut crate::journal::CreatedRun, outcome: Outcome) {
    let at = crate::base::Timestamp::UNIX_EPOCH;
    let step = "copy".parse().expect("an id");
    let done = EventKind::StepSucceeded {
        step,
        attempt: crate::base::Attempt(1),
        output: serde_json::json!({ "size_bytes": 7 }),
        elapsed_ms: 40,
    };
    let exit_code = if outcome == Outcome::Succeeded { 0 } else { 10 };
    let end = EventKind::RunFinished { outcome, exit_code, figures: Box::new(Figures::default()) };
    created.journal.append(at, vec![done, end]).expect("appends");
    created.journal.sync().expect("syncs");
}

fn listed(runs: &Runs) -> Vec<(String, RunStatus)> {
    let list = Index::open(runs).expect("opens").list(&RunFilter::default()).expect("lists");
    list.into_iter().map(|run| (run.id.to_string(), run.status)).collect()
}

fn truth(runs: &Runs) -> Vec<(String, RunStatus)> {
    runs.list().expect("lists").into_iter().map(|run| (run.id.to_string(), run.status)).collect()
}

#[test]
fn it_says_what_the_journals_say_while_runs_come_go_on_end_and_vanish() {
    let root = tempfile::tempdir().expect("a folder");
    let runs = Runs::open(root.path().join("state")).expect("opens");
    assert_eq!(listed(&runs), truth(&runs));
    let mut one = started(&runs, 1);
    let two = started(&runs, 2);
    assert_eq!(listed(&runs), truth(&runs));
    assert_eq!(listed(&runs)[0].1, RunStatus::Live);
    finish(&mut one, Outcome::Succeeded);
    drop(two);
    assert_eq!(listed(&runs), truth(&runs));
    assert_eq!(listed(&runs)[0].1, RunStatus::Interrupted);
    std::fs::remove_dir_all(one.dir.path()).expect("removes");
    assert_eq!((listed(&runs).len(), listed(&runs)), (1, truth(&runs)));
}

#[test]
fn a_damaged_foreign_or_older_index_is_made_anew() {
    let root = tempfile::tempdir().expect("a folder");
    let runs = Runs::open(root.path().join("state")).expect("opens");
    finish(&mut started(&runs, 1), Outcome::Succeeded);
    let file = runs.root().join(INDEX_FILE);
    let expected = listed(&runs);
    let sound = std::fs::read(&file).expect("reads");
    let mut middle = sound.clone();
    middle[4096..].fill(0x5a);
    for damage in [b"no database at all, and longer than its header would be".to_vec(), middle, sound[..5000].to_vec()]
    {
        durable_write(&file, &damage);
        assert_eq!(listed(&runs), expected);
    }
    let older = rusqlite::Connection::open(&file).expect("opens");
    older.pragma_update(None, "user_version", 9).expect("sets");
    drop(older);
    assert_eq!(listed(&runs), expected);
}

#[expect(clippy::disallowed_methods, reason = "a test")]
fn durable_write(file: &std::path::Path, bytes: &[u8]) {
    std::fs::write(file, bytes).expect("writes");
}

#[test]
fn where_no_index_can_be_kept_the_answer_is_the_same() {
    let root = tempfile::tempdir().expect("a folder");
    let runs = Runs::open(root.path().join("state")).expect("opens");
    finish(&mut started(&runs, 1), Outcome::Succeeded);
    std::fs::create_dir(runs.root().join(INDEX_FILE)).expect("a folder in its place");
    assert_eq!(listed(&runs), truth(&runs));
    assert_eq!(listed(&runs).len(), 1);
}

#[test]
fn it_filters_and_measures() {
    let root = tempfile::tempdir().expect("a folder");
    let runs = Runs::open(root.path().join("state")).expect("opens");
    for number in 1..=3 {
        finish(&mut started(&runs, number), if number == 2 { Outcome::Failed } else { Outcome::Succeeded });
    }
    let index = Index::open(&runs).expect("opens");
    let count = |filter: RunFilter| index.list(&filter).expect("lists").len();
    assert_eq!(count(RunFilter { outcome: Some(Outcome::Failed), ..RunFilter::default() }), 1);
    assert_eq!(count(RunFilter { name: Some("other".to_owned()), ..RunFilter::default() }), 0);
    assert_eq!(count(RunFilter { limit: Some(2), ..RunFilter::default() }), 2);
    let later = crate::base::Timestamp::from_second(1).expect("in range");
    assert_eq!(count(RunFilter { since: Some(later), ..RunFilter::default() }), 0);
    let samples = index.samples("full-db-loss", None).expect("asks");
    assert_eq!(samples.len(), 2);
    assert!(samples.iter().all(|run| run["copy"] == StepSample { elapsed_ms: 40, bytes: Some(7) }), "{samples:?}");
    let about = |subject| index.samples("full-db-loss", Some(subject)).expect("asks").len();
    assert_eq!((about("orders"), about("other")), (2, 0), "what another database took says nothing of this one");
}

#[test]
fn an_index_that_is_only_read_leaves_no_file_and_knows_what_the_file_lacks() {
    let root = tempfile::tempdir().expect("a folder");
    let runs = Runs::open(root.path().join("state")).expect("opens");
    finish(&mut started(&runs, 1), Outcome::Succeeded);
    let known = || Index::read(&runs).expect("reads").samples("full-db-loss", None).expect("asks").len();
    assert_eq!(known(), 1);
    assert!(!runs.root().join(INDEX_FILE).exists());
    drop(Index::open(&runs).expect("opens"));
    let kept = std::fs::read(runs.root().join(INDEX_FILE)).expect("reads");
    finish(&mut started(&runs, 2), Outcome::Succeeded);
    assert_eq!(known(), 2);
    assert_eq!(std::fs::read(runs.root().join(INDEX_FILE)).expect("reads"), kept);
}

#[test]
fn many_at_once_fill_it_together() {
    let root = tempfile::tempdir().expect("a folder");
    let runs = Runs::open(root.path().join("state")).expect("opens");
    for number in 1..=8 {
        finish(&mut started(&runs, number), Outcome::Succeeded);
    }
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| assert_eq!(listed(&runs).len(), 8));
        }
    });
}
