//! Servers stopped, started and promoted, and moments named: real ones.

use std::fs;
use std::process::Stdio;

use runbook::action::{Action as _, CheckContext};
use runbook::actions::postgres::{Promote, RestorePoint, Start, Stop, StopParams};
use rustix::process::{Pid, Signal};
use serde_json::json;

use crate::ha_manager::Manager;
use crate::support::cli::{gated, until};
use crate::support::crash::postmasters;
use crate::support::production::Production;
use crate::support::recovery::Site;

#[tokio::test]
async fn a_stopped_server_is_started_once_and_one_in_the_middle_of_a_recovery_is_not() {
    let site = Site::new();
    let run = site.run();
    let params = serde_json::from_value(json!({ "database": "main" })).unwrap();
    assert!(!Start.run(&params, &run.context()).await.unwrap().started);
    run.stop().await;
    let started = Start.run(&params, &run.context()).await.unwrap();
    assert!(started.started && !started.in_recovery);
    assert_eq!(site.cluster.sql("SELECT 1"), "1");
    let backup = run.base_backup().await.backup;
    run.stop().await;
    let staged = run.stage(&backup).await;
    let marker = site.cluster.pgdata().join("runbook-restore.json");
    fs::copy(staged.dir.join("runbook-restore.json"), &marker).unwrap();
    site.cluster.give(&marker);
    let findings = Start.check(&params, &run.check_context()).await.unwrap();
    assert!(findings.refused() && format!("{findings:?}").contains("in the middle of the recovery"), "{findings:?}");
    let error = Start.run(&params, &run.context()).await.unwrap_err();
    assert!(error.info().help.as_ref().unwrap().contains("resume that run"), "{error}");
    fs::remove_file(marker).unwrap();
    site.cluster.configure(&[("shared_buffers", "nonsense")]);
    let error = Start.run(&params, &run.context()).await.unwrap_err();
    assert!(format!("{:?}", error.info()).contains("shared_buffers"), "{:?}", error.info());
}

#[tokio::test]
async fn a_server_whose_killed_predecessor_was_never_reaped_is_started_when_nothing_of_that_one_is_left() {
    let site = Site::new();
    let run = site.run();
    let params = serde_json::from_value(json!({ "database": "main" })).unwrap();
    run.stop().await;
    // A child of this test, which reaps it only in the end: until then it is a zombie.
    let mut command = site.cluster.command("postgres");
    let mut server = command.arg("-D").arg(site.cluster.pgdata()).stderr(Stdio::null()).spawn().unwrap();
    until("it answers", || site.cluster.try_sql("SELECT 1").status.success());
    let client = site.cluster.client("postgres", "SELECT pg_sleep(600)").stderr(Stdio::null()).spawn();
    let mut client = client.unwrap();
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'";
    until("a session is at work", || site.cluster.sql(asleep) == "1");
    let session = site.cluster.sql("SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'");
    let session = Pid::from_raw(session.parse().unwrap()).unwrap();
    rustix::process::kill_process(session, Signal::STOP).unwrap();
    site.cluster.kill();
    // A session that outlived it may still write.
    Start.run(&params, &run.context()).await.unwrap_err();
    rustix::process::kill_process(session, Signal::KILL).unwrap();
    until("the session is gone", || postmasters(site.cluster.dir()).is_empty());
    assert!(Start.run(&params, &run.context()).await.unwrap().started);
    assert_eq!(site.cluster.sql("SELECT 1"), "1");
    client.wait().unwrap();
    server.wait().unwrap();
}

#[test]
fn undoing_a_start_stops_a_server_that_was_stopped_before_and_no_other() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cli.file(
        "up.yaml",
        "version: 1\nname: up\nsteps:\n  - id: up\n    uses: postgres.start\n    with: { database: main }\n    undo:\n      \
         uses: postgres.stop\n      with: { database: main, if_running: true, only_if: started, started: '{{ steps.up.started }}' }\n",
    );
    let up = ["run", "up.yaml", "--confirm", "production"];
    let undo = |run: &str| ["undo", run, "--confirm", "production"].map(str::to_owned);
    cli.run(&up).ends(0);
    let pid = cluster.pid();
    cli.run(&undo(&cli.id()))
        .ends(0)
        .says("nothing to undo of `up`: the server of database `main` ran before that step");
    assert_eq!((cluster.pid(), cluster.sql("SELECT count(*) FROM t").as_str()), (pid, "1000"), "it ran before");
    fs::remove_dir_all(cli.state()).unwrap();
    cluster.stop("fast");
    cli.run(&up).ends(0);
    assert_eq!(cluster.sql("SELECT count(*) FROM t"), "1000");
    cli.run(&undo(&cli.id())).ends(0);
    assert!(!cluster.try_sql("SELECT 1").status.success() && cluster.pid().is_none(), "it was stopped before");
}

const DOWN: &str = "version: 1\nname: down\nsteps:\n  - id: down\n    uses: postgres.stop\n    with: { database: main, if_running: true }\n    \
                    undo:\n      uses: postgres.start\n      with: { database: main, only_if: stopped, stopped: '{{ steps.down.stopped }}' }\n";

/// Who has started it by hand meanwhile hears that the undo had nothing to do; and what is printed for that works as it stands,
/// whatever the search path holds.
#[test]
fn an_undo_says_what_had_nothing_to_undo_and_status_names_the_programs_it_found() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cli.file("down.yaml", DOWN);
    cli.run(&["run", "down.yaml", "--confirm", "production"]).ends(0);
    let run = cli.id();
    let bin = cluster.bin().display().to_string();
    let inventory = cli.read("inventory.yaml");
    cli.file("inventory.yaml", &inventory.replacen(&format!("bin: {bin}, "), "", 1));
    cli.run(&["status", "main"]).ends(2).prints(&format!(" {bin}/pg_ctl start -w -D "));
    cli.file("inventory.yaml", &inventory);
    // Whose data is gone meanwhile hears that, too: nothing was undone.
    let aside = cluster.dir().join("aside");
    std::fs::rename(cluster.pgdata(), &aside).unwrap();
    cli.run(&["undo", &run, "--confirm", "production"]).ends(10).says("holds no data any more");
    std::fs::rename(&aside, cluster.pgdata()).unwrap();
    cluster.up();
    let undone = cli.run(&["undo", &run, "--confirm", "production"]).ends(0);
    let undone = undone.says("nothing to undo of `down`: the server runs already");
    assert!(!undone.err.contains("undone   "), "{}", undone.err);
}

/// Somebody presses Ctrl-C at a run that has stopped the server, or is about to.
#[test]
fn a_run_that_ends_with_the_server_down_says_so_and_its_undo_starts_it() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    let next = format!("{DOWN}  - id: next\n    run: \"{}\"\n", gated(&cli.path("began"), &cli.path("gate")));
    cli.file("down.yaml", &next);
    let run = cli.spawn(&["run", "down.yaml", "--confirm", "production"]);
    until("the next step began", || cli.path("began").exists());
    run.signal(Signal::INT);
    run.wait()
        .ends(12)
        .says("DOWN, unless somebody started it since: the server of `main` was stopped by `down`")
        .says("undo ");
    let status = cli.run(&["status", "main"]).ends(2);
    status.prints("has stopped it and is over (cancelled), and no run since has started it").prints("pg_ctl start");
    // Another run that finds nothing running has stopped nothing, and hides nothing.
    let first = cli.id();
    cli.file("down.yaml", DOWN);
    cli.run(&["run", "down.yaml", "--confirm", "production"]).ends(0);
    cli.run(&["status", "main"]).ends(2).prints(&format!("run {first} of `down` has stopped it and is over"));
    cli.run(&["undo", &first, "--confirm", "production"]).ends(0);
    cluster.stop("fast");
    let status = cli.run(&["status", "main"]).ends(2);
    status.prints("its data was shut down in order, so start it: ").prints("pg_ctl start");
    cluster.up();
    assert_eq!(cluster.sql("SELECT count(*) FROM t"), "1000");
}

#[test]
fn a_stop_that_was_cut_off_is_undone_by_what_the_data_tells() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cli.file("down.yaml", DOWN);
    // The archiver keeps the server from ending.
    let gate = cluster.folder("gates").join("gate");
    let slow = gated(&cluster.folder("gates").join("began"), &gate);
    cluster.configure(&[("archive_command", &slow)]);
    cluster.sql("SELECT pg_reload_conf()");
    cluster.sql("CREATE TABLE slow(n int); SELECT pg_switch_wal()");
    until("the archiver is at work", || cluster.folder("gates").join("began").exists());
    let run = cli.spawn(&["run", "down.yaml", "--confirm", "production"]);
    until("the server shuts down", || !cluster.try_sql("SELECT 1").status.success());
    run.signal(Signal::INT);
    run.wait().ends(12).says("MAY BE DOWN: `down` was cut off while it stopped the server of `main`").says("undo ");
    std::fs::write(&gate, "").unwrap();
    until("the server is gone", || cluster.pid().is_none());
    cli.run(&["undo", "last", "--confirm", "production"]).ends(0);
    assert_eq!(cluster.sql("SELECT count(*) FROM t"), "1000");
}

#[tokio::test]
async fn a_server_that_did_not_run_when_the_run_began_is_not_started_by_an_undo_that_knows_nothing() {
    let site = Site::new();
    let run = site.run();
    run.stop().await;
    let start = serde_json::from_value(json!({ "database": "main", "only_if": "stopped" })).unwrap();
    let mut later = run.context();
    later.about.began_at = runbook::base::clock::after(later.about.began_at, std::time::Duration::from_secs(3600));
    assert!(!Start.run(&start, &later).await.unwrap().started);
    assert!(site.said().contains("no server ran when the run began"), "{}", site.said());
    site.cluster.up();
    site.cluster.kill();
    let error = Start.run(&start, &later).await.unwrap_err();
    assert!(error.info().help.as_ref().unwrap().contains("pg_ctl start"), "{error}");
    let mut then = run.context();
    then.about.began_at = runbook::base::Timestamp::UNIX_EPOCH;
    assert!(Start.run(&start, &then).await.unwrap().started);
}

#[tokio::test]
async fn a_second_attempt_knows_that_the_first_one_stopped_the_server() {
    let site = Site::new();
    let run = site.run();
    let stop: StopParams = serde_json::from_value(json!({ "database": "main", "if_running": true })).unwrap();
    let (first, second) = (run.context(), run.context());
    assert!(Stop.run(&stop, &first).await.unwrap().stopped);
    assert!(Stop.run(&stop, &second).await.unwrap().stopped);
}

#[tokio::test]
async fn a_stop_that_does_not_know_whether_the_server_was_started_touches_nothing() {
    let site = Site::new();
    let run = site.run();
    let stop = |with: serde_json::Value| serde_json::from_value::<StopParams>(with).unwrap();
    let unknown = stop(json!({ "database": "main", "if_running": true, "only_if": "started" }));
    let error = Stop.run(&unknown, &run.context()).await.unwrap_err();
    assert!(error.to_string().contains("is not known"), "{error}");
    assert_eq!(site.cluster.sql("SELECT 1"), "1");
}

#[tokio::test]
async fn a_moment_that_was_named_is_found_again_in_the_archive() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let run = site.run();
    let backup = run.base_backup().await.backup;
    let params = serde_json::from_value(json!({ "database": "main", "name": "it's before" })).unwrap();
    assert!(!RestorePoint.check(&params, &run.check_context()).await.unwrap().refused());
    let point = RestorePoint.run(&params, &run.context()).await.unwrap();
    until("its segment is archived", || site.stored().iter().any(|name| name.starts_with(&point.segment)));
    site.cluster.sql("DELETE FROM t");
    site.archive();
    let staged = run.stage(&backup).await;
    run.stop().await;
    run.recover(&staged, json!({ "target_name": "it's before" })).await;
    assert_eq!(site.cluster.sql("SELECT count(*) FROM t"), "1");
}

#[tokio::test]
async fn a_standby_is_promoted_once_and_an_open_server_is_left_as_it_is() {
    let site = Site::new();
    let run = site.run();
    let params = serde_json::from_value(json!({ "database": "main", "max_lag": "0" })).unwrap();
    assert!(!Promote.run(&params, &run.context()).await.unwrap().promoted);
    run.stop().await;
    let signal = site.cluster.pgdata().join("standby.signal");
    fs::write(&signal, "").unwrap();
    site.cluster.give(&signal);
    site.cluster.up();
    let cx = CheckContext { ahead: true, ..run.check_context() };
    let told = Promote.check(&params, &cx).await.unwrap();
    assert!(!told.refused() && format!("{told:?}").contains("has no undo"), "{told:?}");
    // What looks after the server promotes by itself, and may promote another one.
    let manager = Manager::of(&site.cluster);
    let refused = Promote.run(&params, &run.context()).await.unwrap_err();
    assert!(refused.in_full().contains("looks after database `main`"), "{refused}");
    let help = refused.info().help.clone().unwrap_or_default();
    assert!(help.contains("by its own means") && help.contains("patronictl pause"), "{help}");
    assert!(Promote.check(&params, &cx).await.unwrap().refused());
    drop(manager);
    assert_eq!(site.cluster.sql("SELECT pg_is_in_recovery()"), "t");
    let promoted = Promote.run(&params, &run.context()).await.unwrap();
    assert_eq!((promoted.promoted, promoted.timeline), (true, 2));
    assert_eq!(site.cluster.sql("CREATE TABLE t(n int); SELECT pg_is_in_recovery()"), "f");
    assert!(!Promote.run(&params, &run.context()).await.unwrap().promoted);
}
