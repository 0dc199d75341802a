//! Disasters of real clusters, undone by the actions.

use std::fs;

use runbook::action::{Action as _, CheckContext};
use runbook::actions::postgres::{Query, Recover, RestoreBase};
use runbook::language::inventory::StoreEntry;
use serde_json::json;

use crate::support::cli::listing;
use crate::support::recovery::Site;

fn rows(site: &Site) -> String {
    site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t")
}

fn now(site: &Site) -> String {
    let text =
        site.cluster.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    site.cluster.sql("SELECT pg_sleep(0.01)");
    text
}

#[tokio::test]
async fn a_crashed_server_comes_back_with_every_row_its_unarchived_tail_included() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    site.cluster.sql("ALTER SYSTEM SET work_mem = '17MB'");
    let run = site.run();
    let backup = run.base_backup().await;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.archive();
    site.cluster.sql("INSERT INTO t VALUES (3)");
    site.cluster.kill();
    let staged = run.stage(&backup.backup).await;
    run.stop().await;
    let recovered = run.recover(&staged, json!({})).await;
    assert_eq!(rows(&site), "1,2,3", "{}", site.said());
    assert_eq!(recovered.timeline, 2);
    assert!(site.said().contains("rescued from"), "{}", site.said());
    assert_eq!(serde_json::to_value(recovered.loss.coverage).unwrap(), json!("to_last_flushed"));
    let auto = fs::read_to_string(site.cluster.pgdata().join("postgresql.auto.conf")).unwrap();
    assert!(auto.contains("work_mem = '17MB'") && !auto.contains("restore_command"), "{auto}");
    assert!(!site.cluster.pgdata().join("runbook-restore.json").exists());
    assert!(recovered.kept.unwrap().join("PG_VERSION").exists());
    site.cluster.sql("INSERT INTO t VALUES (4)");
}

#[tokio::test]
async fn a_deleted_data_directory_comes_back_up_to_its_last_archived_commit() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let run = site.run();
    let backup = run.base_backup().await;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.archive();
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let staged = run.stage(&backup.backup).await;
    assert!(!run.stop().await.stopped);
    let recovered = run.recover(&staged, json!({})).await;
    assert_eq!(rows(&site), "1,2");
    assert_eq!(recovered.kept, None);
    assert_eq!(serde_json::to_value(recovered.loss.coverage).unwrap(), json!("newest_commit"));
    assert!(recovered.loss.newest_commit_at.unwrap() > backup.ended_at);
}

#[tokio::test]
async fn a_second_recovery_to_a_later_time_follows_the_timeline_that_was_live_then() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let first = site.run();
    let backup = first.base_backup().await;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    let early = now(&site);
    site.cluster.sql("INSERT INTO t VALUES (3)");
    let late = now(&site);
    // A promotion is known to the second only.
    site.cluster.sql("SELECT pg_sleep(1.1)");
    site.cluster.sql("INSERT INTO t VALUES (4)");
    site.archive();
    let staged = first.stage(&backup.backup).await;
    first.stop().await;
    first.recover(&staged, json!({ "target_time": early })).await;
    assert_eq!(rows(&site), "1,2");
    let second = site.run();
    let staged = second.stage(&backup.backup).await;
    second.stop().await;
    second.recover(&staged, json!({ "target_time": late })).await;
    assert_eq!(rows(&site), "1,2,3");
}

#[tokio::test]
async fn a_target_after_the_last_commit_recovers_to_the_end_instead_of_dying() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let run = site.run();
    let backup = run.base_backup().await;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    let after = now(&site);
    // What was rolled back later has a time too, and is nothing to stop at.
    site.cluster.sql("BEGIN; INSERT INTO t VALUES (3); ROLLBACK");
    site.archive();
    let staged = run.stage(&backup.backup).await;
    run.stop().await;
    run.recover(&staged, json!({ "target_time": after })).await;
    assert_eq!(rows(&site), "1,2");
    assert!(site.said().contains("recovering to its end"), "{}", site.said());
}

#[tokio::test]
async fn a_target_before_the_end_of_the_backup_is_refused_and_nothing_is_touched() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let before = now(&site);
    let run = site.run();
    let backup = run.base_backup().await;
    let staged = run.stage(&backup.backup).await;
    run.stop().await;
    assert!(run.check_recover(&staged, json!({})).await.0.iter().all(|finding| finding.help.is_none()));
    let error = run.try_recover(&staged, json!({ "target_time": before })).await.unwrap_err();
    assert!(error.to_string().contains("before the end of the backup"), "{error}");
    assert!(staged.dir.exists());
    site.cluster.up();
    assert_eq!(rows(&site), "1");
}

#[tokio::test]
async fn a_live_server_is_refused_also_without_its_pid_file() {
    let site = Site::new();
    let run = site.run();
    let backup = run.base_backup().await;
    let staged = run.stage(&backup.backup).await;
    let pid_file = site.cluster.pgdata().join("postmaster.pid");
    let text = fs::read(&pid_file).unwrap();
    fs::remove_file(&pid_file).unwrap();
    let error = run.try_recover(&staged, json!({})).await.unwrap_err();
    fs::write(&pid_file, text).unwrap();
    site.cluster.give(&pid_file);
    assert!(error.to_string().contains("is alive"), "{error}");
    assert!(error.to_string().contains("processes work in the data directory"), "{error}");
    assert_eq!(site.cluster.sql("SELECT 1"), "1");
}

#[tokio::test]
async fn a_hole_in_the_archive_is_refused_and_the_old_server_stays() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let run = site.run();
    let backup = run.base_backup().await;
    let mut names = Vec::new();
    for n in 2..5 {
        site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
        names.push(site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())"));
        site.archive();
    }
    run.stop().await;
    fs::remove_dir_all(site.cluster.pgdata().join("pg_wal")).unwrap();
    let find = serde_json::from_value(json!({ "database": "main" })).unwrap();
    let ahead = |findings: runbook::action::Findings| serde_json::to_string(&findings.0).unwrap();
    let before = ahead(runbook::actions::backup::Find.check(&find, &run.check_context()).await.unwrap());
    assert!(!before.contains("warn"), "{before}");
    remove_object(&site.cluster.dir().join("store"), &names[1]);
    let after = ahead(runbook::actions::backup::Find.check(&find, &run.check_context()).await.unwrap());
    assert!(after.contains("warn") && after.contains(&names[1]), "{after}");
    let staged = run.stage(&backup.backup).await;
    let error = run.try_recover(&staged, json!({})).await.unwrap_err();
    assert!(error.to_string().contains(&names[1]), "{error}");
    let help = error.info().help.clone().unwrap_or_default();
    assert!(help.contains("is as it was"), "{help}");
    assert!(site.cluster.pgdata().join("PG_VERSION").exists() && staged.dir.exists());
}

#[tokio::test]
async fn a_damaged_archive_of_the_data_is_said_at_once_and_never_tried_again() {
    let site = Site::new();
    let run = site.run();
    let backup = run.base_backup().await;
    let backups = fs::read_dir(site.cluster.dir().join("store/main/base")).unwrap();
    let base = backups.flatten().next().unwrap().path().join("base.tar.zst");
    let mut bytes = fs::read(&base).unwrap();
    bytes[512 * 20..512 * 40].fill(b'X');
    fs::write(&base, bytes).unwrap();
    let params = serde_json::from_value(json!({ "database": "main", "backup": backup.backup })).unwrap();
    let error = runbook::actions::postgres::RestoreBase.run(&params, &run.context()).await.unwrap_err();
    assert_eq!(error.info().class, runbook::event::ErrorClass::Fatal, "{error}");
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(error.info().help.as_deref().unwrap_or_default().contains("another backup"));
}

fn remove_object(folder: &std::path::Path, name: &str) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            remove_object(&path, name);
        } else if entry.file_name().to_string_lossy().starts_with(name) {
            fs::remove_file(path).unwrap();
        }
    }
}

#[tokio::test]
async fn tablespaces_move_with_their_data_directory_and_the_kept_one_is_whole() {
    let site = Site::new();
    let location = site.cluster.folder("fast");
    site.cluster.sql(&format!("CREATE TABLESPACE fast LOCATION '{}'", location.display()));
    site.cluster.sql("CREATE TABLE t(n int) TABLESPACE fast; INSERT INTO t VALUES (1)");
    let run = site.run();
    let backup = run.base_backup().await;
    site.cluster.sql("INSERT INTO t SELECT generate_series(2, 5000)");
    let staged = run.stage(&backup.backup).await;
    run.stop().await;
    let recovered = run.recover(&staged, json!({})).await;
    assert_eq!(site.cluster.sql("SELECT count(*) FROM t"), "5000");
    assert!(
        site.cluster.sql("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'fast'")
            == location.to_string_lossy()
    );
    let kept = recovered.kept.unwrap();
    let link = fs::read_dir(kept.join("pg_tblspc")).unwrap().flatten().next().unwrap();
    let target = fs::read_link(link.path()).unwrap();
    assert!(target.to_string_lossy().contains("fast.runbook-old-"), "{}", target.display());
    assert!(fs::read_dir(target).unwrap().next().is_some());
}

#[tokio::test]
async fn a_side_instance_leaves_production_alone_and_is_removed_whole() {
    let site = Site::new();
    let location = site.cluster.folder("fast");
    site.cluster.sql(&format!("CREATE TABLESPACE fast LOCATION '{}'", location.display()));
    let pid_file = site.cluster.dir().join("external.pid");
    site.cluster.sql(&format!("ALTER SYSTEM SET external_pid_file = '{}'", pid_file.display()));
    fs::write(&pid_file, "production's").unwrap();
    site.cluster.give(&pid_file);
    site.cluster.sql("CREATE TABLE t(n int) TABLESPACE fast; INSERT INTO t VALUES (1)");
    let backup = site.run().base_backup().await;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.archive();
    let site = site.drill();
    let run = site.run();
    let stored = site.stored().len();
    let staged = run.stage(&backup.backup).await;
    let recovered = run.recover(&staged, json!({})).await;
    assert_ne!(recovered.instance.pgdata, site.cluster.pgdata());
    let params = json!({ "database": "main", "instance": recovered.instance, "sql": "SELECT count(*) FROM t" });
    let params = serde_json::from_value(params).unwrap();
    let answer = runbook::actions::postgres::Query.run(&params, &run.context()).await.unwrap();
    assert_eq!(answer.value, json!(2));
    assert_eq!(site.stored().len(), stored, "the side instance archived something");
    let (resource, data) = site.notes.1.lock().unwrap().first().cloned().unwrap();
    runbook::actions::postgres::RestoreBase.remove(&resource, &data, &run.context()).await.unwrap();
    assert!(!recovered.instance.pgdata.exists() && !run.dir.join("main").exists());
    assert_eq!(fs::read_to_string(pid_file).unwrap(), "production's");
    assert_eq!(rows(&site), "1,2");
}

#[tokio::test]
async fn a_recovery_cut_off_after_the_swap_goes_on_and_a_proven_one_is_adopted() {
    use runbook::action::{Action as _, Recovery};
    use runbook::actions::postgres::Recover;
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let run = site.run();
    let backup = run.base_backup().await;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    let staged = run.stage(&backup.backup).await;
    run.stop().await;
    let cut = run.context();
    let recover = Recover::new(env!("CARGO_BIN_EXE_runbook").into());
    let params = run.recover_params(&staged, json!({}));
    {
        let attempt = recover.run(&params, &cut);
        tokio::pin!(attempt);
        let swapped = async {
            while staged.dir.exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! { biased; () = swapped => {}, _ = &mut attempt => {} }
    }
    assert!(matches!(run.judge_cut(&staged, &cut).await, Recovery::Rerun));
    let again = run.context();
    recover.run(&params, &again).await.unwrap();
    assert_eq!(rows(&site), "1,2");
    assert!(matches!(run.judge_cut(&staged, &again).await, Recovery::Adopt(_)));
}

#[tokio::test]
async fn checks_prove_foreign_keys_and_tell_every_value() {
    use runbook::actions::postgres::{Check, Query};
    let site = Site::new();
    site.cluster.sql("CREATE TABLE p(a int, b int, PRIMARY KEY (a, b)); CREATE TABLE c(x int, y int, FOREIGN KEY (x, y) REFERENCES p)");
    site.cluster.sql("INSERT INTO p VALUES (1, 1); INSERT INTO c VALUES (1, 1), (1, NULL)");
    let run = site.run();
    let check = json!({ "database": "main", "checks": [
        { "name": "orphans", "foreign_keys": "all" }, { "name": "indexes", "indexes": "valid" },
        { "name": "rows", "sql": "SELECT count(*) FROM c", "expect": "= 2" } ] });
    let check = serde_json::from_value(check).unwrap();
    let output = Check.run(&check, &run.context()).await.unwrap();
    assert_eq!(output.passed, 3, "{output:?}");
    site.cluster.sql("SET session_replication_role = replica; DELETE FROM p");
    let error = Check.run(&check, &run.context()).await.unwrap_err();
    assert!(
        error.to_string().contains("1 of 3 checks failed") && error.to_string().contains("has 1 rows without"),
        "{error}"
    );
    let write = json!({ "database": "main", "sql": "DELETE FROM c" });
    let refused = Query.run(&serde_json::from_value(write).unwrap(), &run.context()).await.unwrap_err();
    assert!(refused.info().causes.iter().any(|cause| cause.contains("read-only")), "{:?}", refused.info());
}

#[tokio::test]
async fn a_drill_never_replays_wal_that_creates_a_tablespace_in_production() {
    let site = Site::new();
    let backup = site.run().base_backup().await;
    let location = site.cluster.folder("fast");
    site.cluster.sql(&format!("CREATE TABLESPACE fast LOCATION '{}'", location.display()));
    site.cluster.sql("CREATE TABLE t(n int) TABLESPACE fast; INSERT INTO t VALUES (1)");
    site.archive();
    let site = site.drill();
    let run = site.run();
    let staged = run.stage(&backup.backup).await;
    let error = run.try_recover(&staged, json!({})).await.unwrap_err();
    assert!(error.to_string().contains(&location.display().to_string()), "{error}");
    site.cluster.sql("CHECKPOINT");
    assert_eq!(rows(&site), "1");
}

#[tokio::test]
async fn a_server_whose_data_directory_was_deleted_under_it_is_found_and_stopped() {
    let site = Site::new();
    let pid = site.cluster.pid().unwrap();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let stopped = site.run().stop().await;
    assert!(stopped.stopped && stopped.found.contains("processes work in the data directory"), "{stopped:?}");
    // What has left the folder may still be on its way out of the list of processes.
    crate::support::cli::until("its process is gone", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z")
    });
}

#[tokio::test]
async fn an_old_server_that_is_started_again_after_a_refusal_still_archives() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let run = site.run();
    let backup = run.base_backup().await;
    site.archive();
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.cluster.stop("fast");
    let staged = run.stage(&backup.backup).await;
    let error = run.try_recover(&staged, json!({ "target_lsn": "F/0" })).await.unwrap_err();
    assert!(error.to_string().contains("behind the end"), "{error}");
    site.cluster.up();
    site.cluster.sql("INSERT INTO t VALUES (3)");
    site.archive();
    assert_eq!(rows(&site), "1,2,3");
}

#[tokio::test]
async fn a_tablespace_that_outlived_its_data_directory_is_kept_when_the_wal_creates_it_again() {
    let site = Site::new();
    let run = site.run();
    let backup = run.base_backup().await;
    let space = site.cluster.folder("space");
    site.cluster.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", space.display()));
    site.cluster.sql("CREATE TABLE t(n int) TABLESPACE space; INSERT INTO t VALUES (1)");
    site.archive();
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let before = listing(&space).len();
    let staged = run.stage(&backup.backup).await;
    run.stop().await;
    run.recover(&staged, json!({})).await;
    assert_eq!(rows(&site), "1");
    let kept = site.cluster.dir().join(format!("space.runbook-old-{}", run.id));
    assert_eq!(listing(&kept).len(), before, "{}", site.said());
    assert!(before > 0 && site.said().contains("there is no old data directory"), "{}", site.said());
}

#[tokio::test]
async fn a_backup_records_how_it_is_named_archived_and_collated() {
    let site = Site::new();
    let run = site.run();
    let backup = run.base_backup().await.backup;
    let entry = StoreEntry {
        url: format!("file://{}", site.cluster.dir().join("store").display()),
        read_only: true,
        ..StoreEntry::default()
    };
    let store = runbook::store::Opening::plain(&entry, "primary").open_read().unwrap();
    let manifest = runbook::catalog::open(store.as_ref(), "main", &backup).await.unwrap().manifest;
    assert_eq!(manifest.label, Some(format!("runbook {}", run.id)));
    let postgres = manifest.postgres.unwrap();
    assert_eq!(postgres.data_checksums, Some(site.cluster.sql("SHOW data_checksums") == "on"));
    let archiving = postgres.archiving.unwrap();
    assert_eq!((archiving.mode.as_str(), archiving.library.as_str()), ("on", ""));
    assert!(archiving.command.contains("wal push"), "{}", archiving.command);
    let own = postgres.databases.iter().find(|database| database.name == "postgres").unwrap();
    assert_eq!((own.encoding.as_str(), own.collate.as_str()), ("UTF8", "C"));
}

/// H45: the server itself says so only in its log, once it is open.
#[tokio::test]
async fn indexes_that_another_c_library_built_are_told_before_the_restore() {
    let site = Site::new();
    site.cluster.sql("CREATE DATABASE elsewhere");
    let told = async || {
        let run = site.run();
        let backup = run.base_backup().await.backup;
        let params = serde_json::from_value(json!({ "database": "main", "backup": backup })).unwrap();
        let findings = RestoreBase.check(&params, &run.check_context()).await.unwrap();
        assert!(!findings.refused(), "{findings:?}");
        findings.0.into_iter().map(|finding| finding.message).find(|message| message.contains("of collation"))
    };
    let own = std::process::Command::new("getconf").arg("GNU_LIBC_VERSION").output().unwrap();
    let own = String::from_utf8(own.stdout).unwrap().trim().replace("glibc ", "");
    let built = |version: &str| {
        let values = format!("datcollate = 'en_US.utf8', datcollversion = '{version}'");
        site.cluster.sql(&format!("UPDATE pg_database SET {values} WHERE datname = 'elsewhere'"));
    };
    built(&own);
    assert_eq!(told().await, None);
    built("2.1");
    let message = told().await.unwrap();
    assert!(
        message.contains("database `elsewhere` were built with version 2.1 of collation `en_US.utf8`"),
        "{message}"
    );
}

#[tokio::test]
async fn what_a_recovery_would_replace_is_said_before_anybody_confirms_it() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int)");
    let run = site.run();
    let backup = run.base_backup().await;
    site.archive();
    let target = now(&site);
    site.cluster.sql("INSERT INTO t VALUES (1)");
    let staged = run.stage(&backup.backup).await;
    let ahead = async |target: serde_json::Value| {
        let cx = CheckContext { ahead: true, ..run.check_context() };
        let params = run.recover_params(&staged, target);
        let findings = Recover::new("/bin/true".into()).check(&params, &cx).await.unwrap();
        findings.0.into_iter().map(|finding| finding.message).collect::<Vec<_>>().join("; ")
    };
    let system = site.cluster.sql("SELECT system_identifier FROM pg_control_system()");
    let whole = ahead(json!({})).await;
    assert!(whole.contains(&format!("it holds cluster {system}")) && whole.contains("newest commit is of"), "{whole}");
    assert!(whole.contains("1 of its WAL segments are not in the archive"), "{whole}");
    assert!(ahead(json!({ "target_time": target })).await.contains("will not be in the new one"));
    site.cluster.stop("immediate");
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    assert!(ahead(json!({})).await.contains("nothing is replaced"));
}

#[tokio::test]
async fn a_statement_that_gives_too_many_rows_changes_nothing() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int)");
    let sql = "INSERT INTO t SELECT generate_series(1, 1001) RETURNING n";
    let params = serde_json::from_value(json!({ "database": "main", "sql": sql, "effect": "write" })).unwrap();
    let error = Query.run(&params, &site.run().context()).await.unwrap_err();
    assert!(error.to_string().contains("1001 rows"), "{error}");
    assert_eq!(site.cluster.sql("SELECT count(*) FROM t"), "0");
}

#[tokio::test]
async fn what_an_unfinished_recovery_left_is_no_witness_of_what_was_lost() {
    let site = Site::new();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let first = site.run();
    let backup = first.base_backup().await;
    site.cluster.sql("INSERT INTO t VALUES (2)");
    site.archive();
    site.cluster.sql("INSERT INTO t VALUES (3)");
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let staged = first.stage(&backup.backup).await;
    fs::rename(&staged.dir, site.cluster.pgdata()).unwrap();
    let second = site.run();
    let staged = second.stage(&backup.backup).await;
    let recovered = second.recover(&staged, json!({})).await;
    assert_eq!(rows(&site), "1,2", "{}", site.said());
    assert_eq!(serde_json::to_value(recovered.loss.coverage).unwrap(), json!("newest_commit"), "{}", site.said());
    assert!(site.said().contains("left by the unfinished recovery"), "{}", site.said());
}

#[tokio::test]
async fn what_a_killed_engine_left_in_the_data_directory_does_not_keep_the_next_backup_from_being_taken() {
    let site = Site::new();
    let run = site.run();
    let backup = run.base_backup().await;
    site.archive();
    run.stop().await;
    let staged = run.stage(&backup.backup).await;
    let left = staged.dir.join(".runbook-Xy12ab");
    fs::write(&left, "half of a setting").unwrap();
    fs::set_permissions(&left, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    run.recover(&staged, json!({})).await;
    assert!(!site.cluster.pgdata().join(".runbook-Xy12ab").exists());
    site.run().base_backup().await;
}
