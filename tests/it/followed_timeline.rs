//! Which timeline a recovery follows where several seem to lead to the newest state, and what it says then: real clusters.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runbook::action::{BackupHandle, Findings};
use runbook::base::Timestamp;
use runbook::pgformat::{ControlFile, WalFileName};
use runbook::store::Opening;
use runbook::transfer::Packing;
use runbook::wal::{Destination, Identity, push_everywhere};
use serde_json::json;

use crate::support::cli::{Cli, until};
use crate::support::recovery::Site;

/// The server's time.
const NOW: &str = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";

fn rows(site: &Site) -> String {
    site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t")
}

fn insert(site: &Site, n: u32) {
    site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
}

/// A cluster of row 1 with a base backup of it, and row 2 in the archive.
async fn of_two_rows() -> (Site, BackupHandle) {
    let site = Site::with(&[("autovacuum", "off")]);
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let backup = site.run().base_backup().await.backup;
    insert(&site, 2);
    site.archive();
    (site, backup)
}

/// Takes the stopped machine away, to be put back by [`put_back`].
fn take_away(site: &Site) -> PathBuf {
    site.cluster.stop("immediate");
    let away = site.cluster.dir().join("away");
    fs::rename(site.cluster.pgdata(), &away).unwrap();
    away
}

/// Puts a machine in the place of the one that runs now.
fn put_back(site: &Site, away: &Path) {
    site.cluster.stop("immediate");
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    fs::rename(away, site.cluster.pgdata()).unwrap();
}

async fn recover_newest(site: &Site, backup: &BackupHandle) -> runbook::actions::postgres::RecoverOutput {
    let run = site.run();
    let staged = run.stage(backup).await;
    run.recover(&staged, json!({})).await
}

fn told(findings: &Findings) -> String {
    serde_json::to_string(&findings.0).unwrap()
}

/// Somebody who asks about the site.
fn asking(site: &Site) -> Cli {
    let (cli, cluster) = (Cli::new(), &site.cluster);
    let text = format!(
        "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: primary, prefix: main }}\n\
         stores: {{ primary: {} }}\nenvironments: {{ production: {{ protected: true, default: true }} }}\n",
        cluster.pgdata().display(),
        cluster.port(),
        cluster.socket_dir().display(),
        cluster.bin().display(),
        serde_json::to_string(&site.depot.entry).unwrap(),
    );
    cli.file("inventory.yaml", &text);
    cli
}

#[tokio::test]
async fn a_server_that_went_on_after_another_one_was_promoted_by_mistake_is_not_left_without_a_word() {
    let (site, backup) = of_two_rows().await;
    let production = take_away(&site);
    // Somebody else's server is promoted, and archives into the same place.
    recover_newest(&site, &backup).await;
    insert(&site, 9);
    site.archive();
    put_back(&site, &production);
    site.cluster.up();
    insert(&site, 3);
    site.archive();
    let cli = asking(&site);
    let refused = cli.run(&["pitr", "main"]).ends(4);
    assert!(
        refused.err.contains("timeline `1` has commits") && refused.err.contains("`--timeline`"),
        "{}",
        refused.err
    );
    let planned = cli.run(&["pitr", "main", "--timeline", "1"]).ends(0);
    assert!(planned.out.contains("-p timeline=1"), "{}{}", planned.out, planned.err);
    let both = "two servers wrote at once: what was committed on timeline 2 from ";
    assert!(planned.out.contains(both), "{}", planned.out);
    let planned = cli.run(&["restore", "main"]).ends(4);
    let said = format!("{}{}", planned.out, planned.err);
    assert!(said.contains("the archive does not lead there: timeline `2` is the newest"), "{said}");
    let planned = cli.run(&["restore", "main", "--timeline", "1"]).ends(0);
    let said = format!("{}{}", planned.out, planned.err);
    assert!(said.contains("restore main --timeline 1 --incident-at"), "{said}");
    let of_a_dump = cli.run(&["restore", "main", "--timeline", "0"]).ends(2);
    assert!(of_a_dump.err.contains("timeline"), "{}", of_a_dump.err);
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();

    let run = site.run();
    let staged = run.stage(&backup).await;
    let ahead = told(&run.check_ahead(&staged, json!({})).await);
    assert!(ahead.contains("timeline `2` is the newest") && ahead.contains("but timeline `1` has commits"), "{ahead}");
    let error = run.try_recover(&staged, json!({})).await.unwrap_err();
    assert!(error.to_string().contains("timeline `1` has commits that are not in it"), "{error}");
    assert!(error.info().help.clone().unwrap_or_default().contains("--timeline NUMBER"), "{error:?}");
    assert!(!site.cluster.pgdata().exists(), "nothing was moved");
    let named = told(&run.check_ahead(&staged, json!({ "timeline": 1 })).await);
    assert!(named.contains("leads there"), "{named}");
    let recovered = run.recover(&staged, json!({ "timeline": 1 })).await;
    assert_eq!(rows(&site), "1,2,3", "{}", site.said());
    assert!(site.said().contains(both), "{}", site.said());
    // The loss begins with row 9, which is older than the newest row that came back.
    assert_eq!(serde_json::to_value(recovered.loss.coverage).unwrap(), json!("written_beside"));
    assert!(recovered.loss.complete_until < recovered.loss.newest_commit_at, "{:?}", recovered.loss);
    // The timeline of this recovery comes after both, and nobody has to be asked again.
    insert(&site, 4);
    site.archive();
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    recover_newest(&site, &backup).await;
    assert_eq!(rows(&site), "1,2,3,4", "{}", site.said());
}

#[tokio::test]
async fn what_a_server_wrote_on_a_timeline_that_was_left_is_a_loss_however_far_the_other_one_leads() {
    let (site, backup) = of_two_rows().await;
    site.cluster.sql("ALTER SYSTEM SET archive_command = 'false'");
    site.cluster.sql("SELECT pg_reload_conf()");
    until("nothing is archived any more", || site.cluster.sql("SHOW archive_command") == "false");
    insert(&site, 3);
    let old = take_away(&site);
    recover_newest(&site, &backup).await;
    for n in 4..7 {
        insert(&site, n);
        site.archive();
    }
    put_back(&site, &old);
    let recovered = recover_newest(&site, &backup).await;
    assert_eq!(rows(&site), "1,2,4,5,6", "{}", site.said());
    assert_eq!(serde_json::to_value(recovered.loss.coverage).unwrap(), json!("newest_commit"));
    assert!(site.said().contains("on timeline 1, which was left at "), "{}", site.said());
}

#[tokio::test]
async fn wal_of_a_timeline_whose_history_file_is_lost_is_told_and_nobody_recovers_to_before_it_unasked() {
    let (site, backup) = of_two_rows().await;
    drop(take_away(&site));
    recover_newest(&site, &backup).await;
    insert(&site, 3);
    site.archive();
    let cli = asking(&site);
    cli.run(&["wal", "verify", "main"]).ends(0);
    let lost = site.stored_paths().into_iter().find(|path| path.ends_with("00000002.history")).unwrap();
    let aside = site.cluster.dir().join("aside");
    fs::rename(&lost, &aside).unwrap();
    let verified = cli.run(&["wal", "verify", "main"]).ends(10);
    verified.prints("timeline 2 has WAL in the archive but no history file").says("runbook wal push");
    cli.run(&["wal", "status", "main"]).ends(2).prints("`00000002.history`");
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let refused = cli.run(&["restore", "main"]).ends(4);
    let said = format!("{}{}", refused.out, refused.err);
    assert!(said.contains("`00000002.history`") && said.contains("--timeline NUMBER"), "{said}");
    let run = site.run();
    let staged = run.stage(&backup).await;
    let error = run.try_recover(&staged, json!({})).await.unwrap_err();
    assert!(error.to_string().contains("`00000002.history`"), "{error}");
    fs::rename(&aside, &lost).unwrap();
    recover_newest(&site, &backup).await;
    assert_eq!(rows(&site), "1,2,3", "{}", site.said());
}

#[tokio::test]
async fn the_number_of_a_timeline_whose_history_file_is_lost_is_not_given_to_another_one() {
    let (site, backup) = of_two_rows().await;
    fs::remove_dir_all(take_away(&site)).unwrap();
    recover_newest(&site, &backup).await;
    insert(&site, 3);
    site.archive();
    // Another one goes on from it, whose history leads over it.
    fs::remove_dir_all(take_away(&site)).unwrap();
    recover_newest(&site, &backup).await;
    insert(&site, 4);
    site.archive();
    let lost = site.stored_paths().into_iter().find(|path| path.ends_with("00000002.history")).unwrap();
    fs::remove_file(&lost).unwrap();
    fs::remove_dir_all(take_away(&site)).unwrap();
    let run = site.run();
    let staged = run.stage(&backup).await;
    run.try_recover(&staged, json!({ "timeline": 1 })).await.unwrap();
    assert_eq!(rows(&site), "1,2", "{}", site.said());
    assert_eq!(site.cluster.sql("SELECT timeline_id FROM pg_control_checkpoint()"), "4");
    insert(&site, 5);
    site.archive();
    site.cluster.stop("immediate");
    recover_newest(&site, &backup).await;
    assert_eq!(rows(&site), "1,2,5", "{}", site.said());
    assert!(!site.stored_paths().iter().any(|path| path.ends_with("00000002.history")), "a placeholder was archived");
}

/// Brings the segment that was being written into the site's own store, as a recovery does that is given up then.
async fn rescue(site: &Site) {
    let name = site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    site.cluster.stop("immediate");
    let control = ControlFile::parse(&fs::read(site.cluster.pgdata().join(ControlFile::PATH)).unwrap()).unwrap();
    let identity = Identity { system_id: control.system_id, segment_size: Some(control.segment_size) };
    let store = Opening::new(&site.depot.entry, "primary", Arc::new(site.depot.secrets.clone())).open().unwrap();
    let packing = Packing::of(&site.depot.entry, &site.depot.secrets).unwrap();
    let to = Destination { store: store.as_ref(), prefix: "main", identity, packing: &packing };
    let (path, name): (PathBuf, WalFileName) =
        (site.cluster.pgdata().join("pg_wal").join(&name), name.parse().unwrap());
    push_everywhere(&[to], 1, (&path, name, &identity)).await.unwrap();
}

#[tokio::test]
async fn a_moment_is_not_passed_where_the_first_store_has_only_the_beginning_of_the_last_segment() {
    let site = Site::with(&[("autovacuum", "off")]);
    site.archive_offsite();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let backup = site.run().base_backup().await.backup;
    insert(&site, 2);
    site.archive();
    insert(&site, 3);
    let format = "YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"";
    let at = site.cluster.sql(&format!("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', '{format}')"));
    rescue(&site).await;
    site.cluster.up();
    site.cluster.sql("DELETE FROM t");
    // The database's own store is away when the whole segment is archived.
    let (own, away) = (site.cluster.dir().join("store"), site.cluster.dir().join("store-away"));
    fs::rename(&own, &away).unwrap();
    site.archive();
    site.cluster.kill();
    fs::rename(&away, &own).unwrap();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let run = site.run();
    let staged = run.stage(&backup).await;
    run.recover(&staged, json!({ "target_time": at })).await;
    assert_eq!(rows(&site), "1,2,3", "{}", site.said());
}

#[tokio::test]
async fn a_backup_of_what_a_recovery_left_behind_leads_to_nothing_that_came_after() {
    let (site, first) = of_two_rows().await;
    let early: Timestamp = site.cluster.sql(NOW).parse().unwrap();
    site.cluster.sql("SELECT pg_sleep(0.1)");
    insert(&site, 3);
    let second = site.run().base_backup().await.backup;
    insert(&site, 4);
    site.archive();
    let run = site.run();
    run.stop().await;
    let staged = run.stage(&first).await;
    run.recover(&staged, json!({ "target_time": early.to_string() })).await;
    assert_eq!(rows(&site), "1,2");
    let cli = asking(&site);
    // A new backup takes its time. Until it ends the newest one is still that of the old timeline.
    insert(&site, 5);
    let at: Timestamp = site.cluster.sql(NOW).parse().unwrap();
    for when in [at, site.cluster.sql(NOW).parse().unwrap()] {
        site.archive();
        let planned = cli.run(&["pitr", "main", "--at", &when.to_string(), "--json"]).ends(0).json();
        assert_eq!(
            (&planned["backup"]["id"], &planned["replay"]["timeline"]),
            (&json!(first.id), &json!(2)),
            "{planned:#}"
        );
        assert!(planned["passed_over"].to_string().contains("does not lead on from this backup"), "{planned:#}");
    }
    let planned = cli.run(&["pitr", "main", "--json"]).ends(0).json();
    assert_eq!(
        (&planned["backup"]["id"], &planned["replay"]["timeline"]),
        (&json!(first.id), &json!(2)),
        "{planned:#}"
    );
    // Whoever names that backup is refused before anything stops.
    let run = site.run();
    let staged = run.stage(&second).await;
    let target = json!({ "target_time": at.to_string() });
    let ahead = told(&run.check_ahead(&staged, target.clone()).await);
    assert!(ahead.contains("does not lead on from this backup"), "{ahead}");
    run.stop().await;
    let mut with = json!({ "database": "main" });
    with["staged"] = serde_json::to_value(&staged).unwrap();
    with["target_time"] = target["target_time"].clone();
    let error = run.recover_with(with).await.unwrap_err().to_string();
    assert!(error.contains("does not lead on from this backup"), "{error}");
    site.cluster.up();
    assert_eq!(rows(&site), "1,2,5");
}

#[tokio::test]
async fn a_copy_of_a_moment_on_a_timeline_that_was_left_waits_for_no_segment_that_cannot_be() {
    let (site, first) = of_two_rows().await;
    let early = site.cluster.sql(NOW);
    site.cluster.sql("SELECT pg_sleep(0.1)");
    insert(&site, 3);
    let left = site.cluster.sql(NOW);
    site.archive();
    site.cluster.sql("SELECT pg_sleep(1.1)");
    let run = site.run();
    run.stop().await;
    let staged = run.stage(&first).await;
    run.recover(&staged, json!({ "target_time": early })).await;
    // The live timeline forks behind the end of the first one, and not from it.
    let second = site.run().base_backup().await.backup;
    for n in 4..8 {
        insert(&site, n);
        site.archive();
    }
    let run = site.run();
    run.stop().await;
    recover_newest(&site, &second).await;
    assert_eq!(rows(&site), "1,2,4,5,6,7");
    let cli = asking(&site);
    cli.run(&["restore", "main", "--to", &left, "--side", "--confirm", "production"]).ends(13);
    cli.run(&["approve", "last"]).ends(0);
    cli.run(&["resume", "last"]).ends(0);
}

#[tokio::test]
async fn a_timeline_is_not_taken_for_left_while_its_own_server_went_on_writing() {
    let (site, first) = of_two_rows().await;
    let original = site.cluster.dir().join("original");
    fs::rename(take_away(&site), &original).unwrap();
    recover_newest(&site, &first).await;
    let of_production = site.run().base_backup().await.backup;
    insert(&site, 3);
    site.archive();
    let production = take_away(&site);
    // Somebody opens another server beside it, from the same beginning; then production goes on.
    fs::rename(&original, site.cluster.pgdata()).unwrap();
    let run = site.run();
    run.stop().await;
    let staged = run.stage(&first).await;
    run.recover(&staged, json!({ "timeline": 1 })).await;
    site.archive();
    put_back(&site, &production);
    site.cluster.up();
    insert(&site, 4);
    let at = site.cluster.sql(NOW);
    site.cluster.sql("SELECT pg_sleep(0.1)");
    insert(&site, 5);
    site.archive();
    site.cluster.stop("immediate");
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let planned = asking(&site).run(&["pitr", "main", "--at", &at, "--json"]).ends(0).json();
    assert_eq!(
        (&planned["backup"]["id"], &planned["replay"]["timeline"]),
        (&json!(of_production.id), &json!(2)),
        "{planned:#}"
    );
    let run = site.run();
    let staged = run.stage(&of_production).await;
    run.recover(&staged, json!({ "target_time": at })).await;
    assert_eq!(rows(&site), "1,2,3,4", "{}", site.said());
}
