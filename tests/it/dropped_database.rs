//! Databases of a cluster that come and go in the WAL, the one that the entry names included.

use std::fs;
use std::os::unix::fs::FileExt as _;

use runbook::action::Action as _;
use runbook::actions::backup::Find;
use runbook::actions::postgres::{
    AroundSnapshot, AroundSnapshotParams, InstanceState, RestorePoint, RestorePointParams, SideInstance,
    SideInstanceOutput,
};
use runbook::base::Timestamp;
use runbook::pgformat::{Lsn, SegmentName, SegmentSize, Timeline};
use serde_json::{Value, json};

use crate::pitr_plan::Asked;
use crate::support::production::Production;
use crate::support::recovery::Site;

const SHOP: &str = "CREATE TABLE goods AS SELECT generate_series(1, 300) AS n";
const COUNT: &str = "SELECT count(*) FROM goods";

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A site whose entry names a database of its own.
fn shop() -> Site {
    let site = Site::new();
    *site.dbname.lock().unwrap() = Some("shop".to_owned());
    site
}

fn position(site: &Site) -> String {
    site.cluster.sql("SELECT pg_current_wal_insert_lsn()")
}

#[tokio::test]
async fn a_database_that_was_made_after_the_backup_is_in_nobodys_way_while_it_is_not_there_yet() {
    let site = shop();
    site.cluster.sql("CREATE DATABASE shop");
    let run = site.run();
    let backup = run.base_backup().await;
    site.cluster.sql("DROP DATABASE shop");
    site.cluster.sql("CREATE TABLE t(n int)");
    let without = position(&site);
    site.cluster.sql("CREATE DATABASE shop");
    site.cluster.sql_in("shop", SHOP);
    site.archive();
    // A server that waits has no such database, and is followed all the same.
    let staged = run.stage(&backup.backup).await;
    run.stop().await;
    let seen = run.recover(&staged, json!({ "target_lsn": without, "action": "pause" })).await;
    assert_eq!(seen.state, InstanceState::Paused, "{}", site.said());
    assert_eq!(site.cluster.sql("SELECT count(*) FROM pg_database WHERE datname = 'shop'"), "0");
    site.cluster.stop("fast");
    // The newest state has it, and its data.
    let run = site.run();
    let staged = run.stage(&backup.backup).await;
    let recovered = run.recover(&staged, json!({})).await;
    assert_eq!(recovered.state, InstanceState::Open);
    assert!(recovered.archived.is_some(), "{}", site.said());
    assert_eq!(site.cluster.sql_in("shop", COUNT), "300");
}

#[tokio::test]
async fn a_database_that_the_wal_drops_ends_no_recovery_and_no_copy() {
    let site = shop();
    site.cluster.sql("CREATE DATABASE shop");
    site.cluster.sql_in("shop", SHOP);
    let run = site.run();
    let backup = run.base_backup().await;
    site.cluster.sql("CREATE TABLE t(n int)");
    for n in 0..4 {
        site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
        site.archive();
    }
    site.cluster.sql("ALTER DATABASE shop RENAME TO shop_old");
    site.cluster.sql("DROP DATABASE shop_old");
    site.cluster.sql("INSERT INTO t VALUES (4)");
    site.archive();
    let beside = site.run();
    let params = serde_json::from_value(json!({ "database": "main", "backup": backup.backup })).unwrap();
    let copy: SideInstanceOutput =
        SideInstance::new(env!("CARGO_BIN_EXE_runbook").into()).run(&params, &beside.context()).await.unwrap();
    assert!(copy.recovered_to_lsn.is_some());
    let staged = run.stage(&backup.backup).await;
    run.stop().await;
    let recovered = run.recover(&staged, json!({})).await;
    assert!(recovered.archived.is_some(), "its archive is proven: {}", site.said());
    assert_eq!(site.cluster.sql("SELECT count(*) FROM t"), "5");
    assert_eq!(site.cluster.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'shop%'"), "0");
}

#[tokio::test]
async fn a_moment_inside_the_drop_of_a_database_is_refused_and_the_position_before_it_has_all_of_it() {
    let asked = Asked::new();
    asked.sql("CREATE DATABASE shop");
    asked.site.cluster.sql_in("shop", SHOP);
    asked.sql("COMMENT ON DATABASE shop IS 'goods'");
    let backup = asked.site.run().base_backup().await;
    asked.site.cluster.sql_in("shop", "INSERT INTO goods VALUES (301)");
    asked.site.cluster.sql_in("shop", "VACUUM FREEZE");
    let good = asked.commit(1);
    asked.sql("DROP DATABASE shop");
    let after = asked.commit(2);
    asked.commit(3);
    asked.site.archive();
    // Just before the commit of the drop the files are gone: nothing is stopped for that.
    let refused = asked.json(&["pitr", "main", "--at", &good.to_string()], 4);
    assert!(text(&refused["why"]).contains("inside the drop of database `shop`, "), "{refused:#}");
    let ran = asked.cli.run(&["restore", "main", "--to", &good.to_string()]).ends(4);
    assert!(ran.err.contains("its last position is `"), "{}{}", ran.out, ran.err);
    assert_eq!(asked.sql("SELECT count(*) FROM t"), "3", "the server runs on");
    let drops = asked.json(&["wal", "search", "main", "--drops"], 0);
    let drop = drops["found"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(drop["what"], "database_dropped", "{drops:#}");
    let (before, xid) = (text(&drop["before"]), drop["xid"].to_string());
    assert!(text(&refused["why"]).contains(&format!("`{before}`")), "{refused:#}\n{drop:#}");
    for inside in [["--lsn", &text(&drop["lsn"]), "--exclusive"].as_slice(), &["--xid", &xid, "--exclusive"]] {
        let why = text(&asked.json(&[&["pitr", "main"], inside].concat(), 4)["why"]);
        assert!(why.contains(&before), "{why}");
    }
    // The first record that cannot be left out is where a recovery just before it ends, and no other one.
    let wal = asked.site.cluster.pgdata().join("pg_wal").display().to_string();
    let waldump = asked.site.cluster.output("pg_waldump", &["-p", &wal, "-s", &before, "-n", "2"]);
    let mark = waldump.lines().nth(1).and_then(|line| line.split("lsn: ").nth(1)?.split(',').next()).unwrap();
    for (inclusive, leads) in [(false, true), (true, false)] {
        let params = json!({ "database": "main", "leads_to": { "lsn": mark, "inclusive": inclusive } });
        let params = serde_json::from_value(params).unwrap();
        let found = Find.run(&params, &asked.site.run().context()).await;
        assert_eq!(found.is_ok(), leads, "inclusive: {inclusive}: {found:?}\n{waldump}");
    }
    // Behind the drop, and with it, nothing stands against it.
    asked.json(&["pitr", "main", "--at", &after.to_string()], 0);
    asked.json(&["pitr", "main", "--xid", &xid], 0);
    let words: Vec<String> = text(&drop["commands"][0]).split(' ').skip(1).map(str::to_owned).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    asked.json(&words, 0);
    // Beside the live server, so that what the other databases committed since stays.
    let beside = text(drop["commands"].as_array().unwrap().last().unwrap());
    assert!(beside.contains(&format!("run side-copy -p database=main -p recover_to_lsn={before}")), "{beside}");
    let run = asked.site.run();
    let staged = run.stage(&backup.backup).await;
    run.stop().await;
    run.recover(&staged, json!({ "target_lsn": before, "timeline": 1 })).await;
    assert_eq!(asked.site.cluster.sql_in("shop", COUNT), "301");
    assert_eq!(asked.sql("SELECT datconnlimit FROM pg_database WHERE datname = 'shop'"), "-1");
}

/// A database with rows that no backup has, and a moment at which it was still there.
async fn shop_with_rows(asked: &Asked) -> (runbook::action::BackupHandle, Timestamp) {
    asked.sql("CREATE DATABASE shop");
    asked.site.cluster.sql_in("shop", SHOP);
    let backup = asked.site.run().base_backup().await.backup;
    asked.site.cluster.sql_in("shop", "INSERT INTO goods VALUES (301)");
    (backup, asked.commit(1))
}

/// The last position that has all of the database, as a refusal tells it.
fn last_position(why: &str) -> String {
    why.split_once("its last position is `").and_then(|(_, rest)| rest.split('`').next()).unwrap().to_owned()
}

#[tokio::test]
async fn a_drop_that_only_the_server_has_is_seen_ahead_and_by_a_recovery_that_nobody_looked_ahead_for() {
    let asked = Asked::new();
    let (backup, good) = shop_with_rows(&asked).await;
    let target = json!({ "target_time": good });
    asked.sql("DROP DATABASE shop");
    let after = asked.commit(2);
    asked.commit(3);
    asked.commit(4);
    let refused = asked.json(&["pitr", "main", "--at", &good.to_string()], 4);
    assert!(text(&refused["why"]).contains("inside the drop of database"), "{refused:#}");
    let before = last_position(&text(&refused["why"]));
    let ran = asked.cli.run(&["restore", "main", "--to", &good.to_string()]).ends(4);
    assert!(ran.err.contains(&before), "{}{}", ran.out, ran.err);
    assert_eq!(asked.sql("SELECT count(*) FROM t"), "4", "the server runs on");
    // Where the replay stops is told of such WAL, too.
    let plan = asked.json(&["pitr", "main", "--at", &after.to_string()], 0);
    assert!(plan["stop"]["next"]["xid"].as_u64() > plan["stop"]["last"]["xid"].as_u64(), "{plan:#}");
    assert!(!plan["gives_up"].is_null(), "{plan:#}");
    // The recovery itself asks as well, before the data is swapped.
    let run = asked.site.run();
    let staged = run.stage(&backup).await;
    asked.site.cluster.stop("immediate");
    let error = run.try_recover(&staged, target).await.unwrap_err();
    let (message, help) = (error.info().message.clone(), error.info().help.clone().unwrap_or_default());
    assert_eq!(last_position(&message), before, "{message}");
    assert!(message.contains("inside the drop") && help.contains("can be started again"), "{message}: {help}");
    asked.site.cluster.up();
    assert_eq!(asked.sql("SELECT count(*) FROM t"), "4", "its data is as it was");
    run.stop().await;
    run.recover(&staged, json!({ "target_lsn": before })).await;
    assert_eq!(asked.site.cluster.sql_in("shop", COUNT), "301");
}

#[tokio::test]
async fn a_recovery_that_waits_does_not_go_on_into_the_drop_of_a_database() {
    let asked = Asked::new();
    let (backup, early) = shop_with_rows(&asked).await;
    let good = asked.commit(2);
    asked.sql("DROP DATABASE shop");
    asked.commit(3);
    asked.site.archive();
    let run = asked.site.run();
    let staged = run.stage(&backup).await;
    run.stop().await;
    let looked = run.recover(&staged, json!({ "target_time": early, "action": "pause" })).await;
    let on = |target: Value| {
        let mut with = json!({ "database": "main", "instance": looked.instance, "action": "pause" });
        with.as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
        run.recover_with(with)
    };
    let error = on(json!({ "target_time": good })).await.unwrap_err();
    assert!(error.info().message.contains("inside the drop of database"), "{:?}", error.info());
    assert_eq!(asked.site.cluster.sql_in("shop", COUNT), "301", "it waits as before");
    assert_eq!(asked.sql("SELECT pg_is_in_recovery(), count(*) FROM t"), "t|1");
    let before = last_position(&error.info().message);
    on(json!({ "target_lsn": before })).await.unwrap();
    assert_eq!(asked.site.cluster.sql_in("shop", COUNT), "301");
    assert_eq!(asked.sql("SELECT count(*) FROM t"), "2");
}

#[tokio::test]
async fn a_server_that_died_inside_a_drop_has_no_commit_behind_the_moment_and_it_is_refused_all_the_same() {
    let asked = Asked::new();
    let (backup, good) = shop_with_rows(&asked).await;
    let begin = position(&asked.site);
    asked.sql("DROP DATABASE shop");
    asked.site.cluster.stop("immediate");
    // What a power cut just before the flush of that commit leaves: zeros from there on.
    let wal = asked.site.cluster.pgdata().join("pg_wal");
    let mut waldump = asked.site.cluster.command("pg_waldump");
    let told = waldump.arg("-p").arg(&wal).args(["-s", &begin]).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let commit = told.lines().skip_while(|line| !line.contains("rmgr: Database")).find(|line| line.contains("COMMIT"));
    let commit =
        commit.and_then(|line| line.split("lsn: ").nth(1)?.split(',').next()).unwrap_or_else(|| panic!("{told}"));
    let (commit, size): (Lsn, _) = (commit.parse().unwrap(), SegmentSize::DEFAULT);
    let segment = SegmentName::holding(Timeline(1), commit, size);
    let file = fs::OpenOptions::new().write(true).open(wal.join(segment.to_string())).unwrap();
    let gone = usize::try_from(segment.end(size).0 - commit.0).unwrap();
    file.write_all_at(&vec![0; gone], commit.0 - segment.start(size).0).unwrap();
    let refused = asked.json(&["pitr", "main", "--at", &good.to_string()], 4);
    assert!(text(&refused["why"]).contains("inside the drop of database"), "{refused:#}");
    let before = last_position(&text(&refused["why"]));
    // As far as the WAL leads is what it says, and the position before has the database.
    asked.json(&["pitr", "main"], 0);
    let run = asked.site.run();
    let staged = run.stage(&backup).await;
    let error = run.try_recover(&staged, json!({ "target_time": good })).await.unwrap_err();
    assert_eq!(last_position(&error.info().message), before);
    run.recover(&staged, json!({ "target_lsn": before })).await;
    assert_eq!(asked.site.cluster.sql_in("shop", COUNT), "301");
    assert_eq!(asked.sql("SELECT count(*) FROM t"), "1");
}

#[tokio::test]
async fn what_is_asked_of_a_server_does_not_hang_on_the_database_that_its_entry_names() {
    let site = shop();
    assert_eq!(site.cluster.sql("SELECT count(*) FROM pg_database WHERE datname = 'shop'"), "0");
    let run = site.run();
    let backup = run.base_backup().await;
    site.cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 5) AS n");
    let params: RestorePointParams =
        serde_json::from_value(json!({ "database": "main", "name": "five_rows" })).unwrap();
    let judged = RestorePoint.check(&params, &run.check_context()).await.unwrap();
    assert!(!judged.refused(), "{:?}", judged.0);
    RestorePoint.run(&params, &run.context()).await.unwrap();
    site.cluster.sql("DROP TABLE t");
    let folder = site.cluster.folder("snapshot");
    let params = json!({ "database": "main", "argv": ["touch", folder.join("taken")], "snapshot": folder });
    let params: AroundSnapshotParams = serde_json::from_value(params).unwrap();
    AroundSnapshot.run(&params, &site.run().context()).await.unwrap();
    assert!(folder.join("taken").exists());
    let staged = run.stage(&backup.backup).await;
    run.stop().await;
    run.recover(&staged, json!({ "target_name": "five_rows" })).await;
    assert_eq!(site.cluster.sql("SELECT count(*) FROM t"), "5");
}

#[tokio::test]
async fn a_dropped_database_is_told_apart_from_a_server_that_is_down() {
    let asked = Asked::new();
    asked.sql("CREATE DATABASE shop");
    asked.site.cluster.sql_in("shop", SHOP);
    asked.about("shop");
    asked.site.run().base_backup().await;
    asked.sql("DROP DATABASE shop");
    let status = asked.json(&["status", "main"], 2);
    let server = &status[0]["server"];
    assert_eq!((&server["answers"], &server["lost"]["dbname"]), (&json!(true), &json!("shop")), "{status:#}");
    let next = status[0]["next"].to_string();
    assert!(next.contains("restore-dump") && next.contains("wal search main --drops"), "{next}");
    assert!(!next.contains("runbook restore main"), "{next}");
    // Its archive is the server's: that goes on, and the drop is found where only the server has it.
    let wal = asked.json(&["wal", "status", "main"], 0);
    assert_eq!(wal[0]["level"], "ok", "{wal:#}");
    let drops = asked.json(&["wal", "search", "main", "--drops"], 0);
    assert_eq!(drops["found"].as_array().unwrap().last().unwrap()["what"], "database_dropped", "{drops:#}");
    asked.cli.run(&["wal", "search", "main", "--relation", "goods"]).ends(10).says("no session in database `shop`");
}

#[test]
fn a_database_that_is_gone_and_was_dumped_of_late_is_missed() {
    let production = Production::new();
    let (cluster, cli) = (&production.site.cluster, &production.cli);
    cluster.sql("CREATE DATABASE billing");
    cli.run(&["run", "daily-backup", "-p", "database=main", "--confirm", "production"]).ends(0);
    assert!(!cli.run(&["status", "main"]).out.contains("billing"));
    cluster.sql("ALTER DATABASE billing ALLOW_CONNECTIONS false");
    cli.run(&["status", "main"]).prints("in `psql`: ALTER DATABASE \"billing\" ALLOW_CONNECTIONS true");
    cluster.sql("DROP DATABASE billing");
    let told = cli.run(&["status", "main"]);
    let told = told.prints("the server has no database `billing` any more, and its newest dump is of ");
    told.prints("run restore-dump -p database=main -p dbname=billing");
    let restore = ["run", "restore-dump", "-p", "database=main", "-p", "dbname=billing", "-p", "incident_at=now"];
    cli.run(&[&restore[..], &["--confirm", "production"]].concat()).ends(0);
    assert!(!cli.run(&["status", "main"]).out.contains("no database `billing`"));
}
