//! A disk that a backup and what is replayed onto it do not fit on is refused before anything stops.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use runbook::action::{Action as _, CheckContext, Expected, Findings, Foreseen, Late, Machine};
use runbook::actions::postgres::{Recover, RecoverParams, RestoreBase};
use runbook::catalog::{Catalog, KIND_POSTGRES_BASE};
use runbook::store::Opening;
use serde_json::json;

use crate::support::mount;
use crate::support::recovery::{Run, Site};

const SEGMENT: u64 = 16 << 20;

/// Puts the cluster with its store onto a small disk of its own.
fn onto_a_small_disk(site: &Site) -> mount::Mount {
    let place = site.cluster.dir().to_owned();
    let aside = tempfile::tempdir_in("/var/tmp").unwrap();
    let copy = |from: &Path, to: &Path| {
        let copied = Command::new("cp").arg("-a").arg(format!("{}/.", from.display())).arg(to).status().unwrap();
        assert!(copied.success());
    };
    copy(&place, aside.path());
    let mode = fs::metadata(&place).unwrap().permissions();
    let disk = mount::sized(&place, "1g");
    fs::set_permissions(&place, mode).unwrap();
    copy(aside.path(), &place);
    disk
}

/// Leaves so many bytes free.
fn leave(place: &Path, free: u64) {
    let space = rustix::fs::statvfs(place).unwrap();
    let now = space.f_bavail * space.f_frsize;
    let mut filler = fs::File::create(place.join("filler")).unwrap();
    let chunk = vec![0; 1 << 20];
    for _ in 0..now.saturating_sub(free) >> 20 {
        filler.write_all(&chunk).unwrap();
    }
}

/// What the steps that stage and replay find before the first one.
async fn ahead((site, run): (&Site, &Run<'_>), machine: Machine) -> (Findings, Findings) {
    let store = Opening::plain(&site.depot.entry, "primary").open_read().unwrap();
    let newest = Catalog::of(&*store).manifests("main", KIND_POSTGRES_BASE).await.unwrap().backups.pop().unwrap();
    let expect = |output: &str, told| {
        let expected = Expected { output: output.to_owned(), told };
        let foreseen = Foreseen::with([(format!("steps.x.{output}"), expected)].into(), machine);
        CheckContext { ahead: true, foreseen, ..run.check_context() }
    };
    let told = [("backup".to_owned(), json!(newest.handle()))].into_iter().collect();
    let cx = expect("backup", told);
    let with = json!({ "database": "main", "backup": Late::<()>::marker("steps.x.backup") });
    let staging = RestoreBase.check(&serde_json::from_value(with).unwrap(), &cx).await.unwrap();
    let cx = expect("staged", cx.foreseen.told());
    let with = json!({ "database": "main", "staged": Late::<()>::marker("steps.x.staged") });
    let params: RecoverParams = serde_json::from_value(with).unwrap();
    let replaying = Recover::new(env!("CARGO_BIN_EXE_runbook").into()).check(&params, &cx).await.unwrap();
    (staging, replaying)
}

#[tokio::test]
async fn room_for_the_backup_alone_is_refused_where_its_replay_surely_needs_more() {
    if !mount::mine("restore_room::room_for_the_backup_alone_is_refused_where_its_replay_surely_needs_more") {
        return;
    }
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int)");
    let run = site.run();
    let backup = run.base_backup().await.backup;
    for n in 0..12 {
        site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
        site.archive();
    }
    site.cluster.stop("fast");
    let _disk = onto_a_small_disk(&site);
    let store = Opening::plain(&site.depot.entry, "primary").open_read().unwrap();
    let whole = runbook::catalog::open(&*store, "main", &backup).await.unwrap();
    let plain: u64 = whole.manifest.objects.iter().map(|object| object.plain_facts().size_bytes).sum();

    leave(site.cluster.dir(), plain + 4 * SEGMENT + 4 * SEGMENT);
    let (staging, replaying) = ahead((&site, &run), Machine::AsItIs).await;
    assert!(!staging.refused(), "the backup itself fits: {staging:?}");
    let told = format!("{replaying:?}");
    assert!(replaying.refused() && told.contains("its replay at least") && told.contains("before"), "{told}");
    assert!(told.contains(" free is room for all of it"), "{told}");
    let (_, replaying) = ahead((&site, &run), Machine::MadeReady).await;
    assert!(!replaying.refused(), "a step before may bring room: {replaying:?}");

    fs::remove_file(site.cluster.dir().join("filler")).unwrap();
    leave(site.cluster.dir(), plain + 4 * SEGMENT + 20 * SEGMENT);
    let (staging, replaying) = ahead((&site, &run), Machine::AsItIs).await;
    assert!(!staging.refused() && !replaying.refused(), "{staging:?} {replaying:?}");
    let told = format!("{staging:?}{replaying:?}");
    assert!(told.contains(&format!("with backup `{}`", backup.id)), "{told}");

    fs::remove_file(site.cluster.dir().join("filler")).unwrap();
    leave(site.cluster.dir(), plain / 2);
    let (staging, _) = ahead((&site, &run), Machine::AsItIs).await;
    assert!(staging.refused(), "{staging:?}");
    let told = format!("{staging:?}");
    assert!(told.contains("`runbook restore main --existing delta`") && told.contains(" MiB free"), "{told}");
}
