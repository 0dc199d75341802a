//! What WAL itself tells of where a recovery may end: real clusters, whose last commits must not be lost in silence.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use runbook::action::Action as _;
use runbook::actions::postgres::Recover;
use runbook::pgformat::{Lsn, SegmentSize};
use serde_json::json;

use crate::support::recovery::Site;

const TIME: &str = "YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"";

fn rows(site: &Site) -> String {
    site.cluster.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t")
}

fn insert(site: &Site, n: u32) {
    site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
}

/// A cluster of row 1, with a base backup of it; nothing but what the test says is committed after it.
async fn of_one_row() -> (Site, runbook::action::BackupHandle) {
    let site = Site::with(&[("track_commit_timestamp", "on"), ("autovacuum", "off")]);
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let backup = site.run().base_backup().await.backup;
    (site, backup)
}

/// Lets WAL be written and none be archived.
fn stop_archiving(site: &Site) {
    site.archive();
    site.cluster.sql("ALTER SYSTEM SET archive_command = 'false'");
    site.cluster.sql("SELECT pg_reload_conf()");
    // Whoever runs the old command by then has pushed everything there is.
    crate::support::cli::until("nothing is archived any more", || site.cluster.sql("SHOW archive_command") == "false");
}

/// Three segments that begin with row 2 and hold rows 3 and 4; the first with the position behind row 2.
fn three_segments(site: &Site) -> (Vec<String>, Lsn) {
    let name = || site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    insert(site, 2);
    let behind = site.cluster.sql("SELECT pg_current_wal_insert_lsn()").parse().unwrap();
    let mut names = Vec::new();
    for n in 3..6 {
        insert(site, n);
        names.push(name());
        site.cluster.sql("SELECT pg_switch_wal()");
    }
    (names, behind)
}

/// Flips a bit of the record behind a position.
fn break_record(segment: &Path, at: Lsn) {
    let mut bytes = fs::read(segment).unwrap();
    let offset = usize::try_from(at.0 % SegmentSize::DEFAULT.bytes()).unwrap();
    bytes[offset + 30] ^= 1;
    fs::write(segment, bytes).unwrap();
}

#[tokio::test]
async fn the_last_commit_is_left_out_with_its_very_time_and_comes_with_it_otherwise() {
    let (site, backup) = of_one_row().await;
    insert(&site, 2);
    insert(&site, 3);
    let sql = format!("SELECT to_char(pg_xact_commit_timestamp(xmin) AT TIME ZONE 'UTC', '{TIME}') FROM t WHERE n = 3");
    let at = site.cluster.sql(&sql);
    site.archive();
    for (target, wanted) in [
        (json!({ "target_time": at, "inclusive": false }), "1,2"),
        (json!({ "target_time": at, "timeline": 1 }), "1,2,3"),
    ] {
        let run = site.run();
        let staged = run.stage(&backup).await;
        run.stop().await;
        let told = serde_json::to_string(&run.check_ahead(&staged, target.clone()).await.0).unwrap();
        assert_eq!(told.contains("recovering to its end"), wanted == "1,2,3", "{told}");
        run.recover(&staged, target.clone()).await;
        assert_eq!(rows(&site), wanted, "{target}: {}", site.said());
    }
}

#[tokio::test]
async fn a_position_noted_right_before_the_crash_brings_everything_before_it() {
    let (site, backup) = of_one_row().await;
    insert(&site, 2);
    let noted = site.cluster.sql("SELECT pg_current_wal_lsn()");
    site.cluster.kill();
    let run = site.run();
    let staged = run.stage(&backup).await;
    run.stop().await;
    let recovered = run.recover(&staged, json!({ "target_lsn": noted })).await;
    assert_eq!(rows(&site), "1,2", "{}", site.said());
    assert!(recovered.recovered_to_lsn.parse::<Lsn>().unwrap() >= noted.parse().unwrap(), "{recovered:?}");
}

#[tokio::test]
async fn old_wal_that_is_damaged_in_the_middle_is_never_taken_for_the_end_of_what_was_flushed() {
    let (site, backup) = of_one_row().await;
    stop_archiving(&site);
    let (names, behind) = three_segments(&site);
    site.cluster.kill();
    break_record(&site.cluster.pgdata().join("pg_wal").join(&names[0]), behind);
    let run = site.run();
    let staged = run.stage(&backup).await;
    for (target, refused) in [(json!({}), true), (json!({ "target_lsn": behind.to_string() }), false)] {
        let told = serde_json::to_string(&run.check_ahead(&staged, target).await.0).unwrap();
        let ahead = format!("will be refused: it leads to `{behind}` at most");
        assert_eq!(told.contains(&ahead), refused, "{told}");
    }
    run.stop().await;
    for target in [json!({}), json!({ "target_time": "2100-01-01T00:00:00Z" })] {
        let error = run.try_recover(&staged, target).await.unwrap_err();
        assert!(error.to_string().contains(&names[0]) && error.to_string().contains("its WAL went on to"), "{error}");
        let help = error.info().help.clone().unwrap_or_default();
        assert!(help.contains(&format!("target_lsn: {behind}")) && help.contains("is as it was"), "{help}");
    }
    assert!(!site.stored().iter().any(|name| name.starts_with(&names[0])), "nothing was pushed: {:?}", site.stored());
    let recovered = run.recover(&staged, json!({ "target_lsn": behind.to_string() })).await;
    assert_eq!(rows(&site), "1,2", "{}", site.said());
    assert_eq!(serde_json::to_value(recovered.loss.coverage).unwrap(), json!("newest_commit"));
    assert!(site.said().contains("what lies between did not come back"), "{}", site.said());
    assert!(recovered.last_flushed_lsn.unwrap().parse::<Lsn>().unwrap() > behind);
}

#[tokio::test]
async fn old_wal_behind_a_damaged_segment_that_the_archive_has_is_rescued_all_the_same() {
    let (site, backup) = of_one_row().await;
    site.cluster.sql("ALTER SYSTEM SET wal_keep_size = '1GB'");
    site.cluster.sql("SELECT pg_reload_conf()");
    let name = site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    insert(&site, 2);
    let behind = site.cluster.sql("SELECT pg_current_wal_insert_lsn()").parse().unwrap();
    insert(&site, 3);
    stop_archiving(&site);
    insert(&site, 4);
    site.cluster.kill();
    break_record(&site.cluster.pgdata().join("pg_wal").join(name), behind);
    let run = site.run();
    let staged = run.stage(&backup).await;
    run.stop().await;
    let recovered = run.recover(&staged, json!({})).await;
    assert_eq!(rows(&site), "1,2,3,4", "{}", site.said());
    assert_eq!(serde_json::to_value(recovered.loss.coverage).unwrap(), json!("to_last_flushed"));
}

#[tokio::test]
async fn a_segment_that_was_archived_with_a_broken_record_never_opens_a_database_without_what_follows() {
    let (site, backup) = of_one_row().await;
    stop_archiving(&site);
    let (names, behind) = three_segments(&site);
    break_record(&site.cluster.pgdata().join("pg_wal").join(&names[0]), behind);
    site.cluster.sql("ALTER SYSTEM RESET archive_command");
    site.cluster.sql("SELECT pg_reload_conf()");
    site.archive();
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let run = site.run();
    let staged = run.stage(&backup).await;
    let error = run.try_recover(&staged, json!({})).await.unwrap_err();
    // Without the old data directory its WAL is searched for tablespaces, and so seen to break off before anything moves.
    assert!(error.to_string().contains("breaks off") && error.to_string().contains(&names[0]), "{error}");
    assert!(!site.stored().iter().any(|name| name.starts_with("00000002")), "{:?}", site.stored());
}

/// Has three segments archived whose first record is broken, and everything else lost. Gives the moment before them, at
/// which a restore point was made, and their names.
fn archived_and_broken(site: &Site) -> (String, Vec<String>) {
    site.cluster.sql("SELECT pg_create_restore_point('mark')");
    let at = site.cluster.sql(&format!("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', '{TIME}')"));
    insert(site, 0);
    stop_archiving(site);
    let (names, behind) = three_segments(site);
    break_record(&site.cluster.pgdata().join("pg_wal").join(&names[0]), behind);
    site.cluster.sql("ALTER SYSTEM RESET archive_command");
    site.cluster.sql("SELECT pg_reload_conf()");
    site.archive();
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    (at, names)
}

#[tokio::test]
async fn wal_that_breaks_off_behind_the_target_keeps_nobody_from_it() {
    let (site, backup) = of_one_row().await;
    let (at, names) = archived_and_broken(&site);
    let run = site.run();
    let staged = run.stage(&backup).await;
    run.recover(&staged, json!({ "target_time": at })).await;
    assert_eq!(rows(&site), "1", "{}", site.said());
    assert!(site.said().contains(&format!("segment `{}` breaks off", names[0])), "{}", site.said());
    assert!(site.said().contains("a target that lies there is not reached"), "{}", site.said());
}

#[tokio::test]
async fn damage_right_behind_the_target_ends_no_recovery_though_the_server_reads_ahead_of_its_replay() {
    let (site, backup) = of_one_row().await;
    insert(&site, 2);
    let at = site.cluster.sql(&format!("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', '{TIME}')"));
    // The commit at which it stops, and right behind it the next segment.
    insert(&site, 3);
    site.archive();
    insert(&site, 4);
    let damaged = site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    site.archive();
    insert(&site, 5);
    site.archive();
    let reads_ahead = site.cluster.try_sql("SHOW recovery_prefetch").status.success();
    site.cluster.kill();
    // The old data directory is there, so nothing but the server itself reads the whole way.
    fs::write(stored(&site, &damaged), "no segment").unwrap();
    let _ = fs::remove_file(site.cluster.pgdata().join("pg_wal").join(&damaged));
    let run = site.run();
    let staged = run.stage(&backup).await;
    run.recover(&staged, json!({ "target_time": at })).await;
    assert_eq!(rows(&site), "1,2", "{}", site.said());
    // Where other clusters of the machine have tablespaces the way is read before it starts, and tells it so.
    let told = ["reads no further than it replays", "it is not replayed, nor what follows"];
    println!("{}", site.said());
    assert!(!reads_ahead || told.iter().any(|words| site.said().contains(words)), "{}", site.said());
    let auto = fs::read_to_string(site.cluster.pgdata().join("postgresql.auto.conf")).unwrap();
    assert!(!auto.contains("recovery_prefetch"), "{auto}");
}

/// The file in which a segment is stored.
fn stored(site: &Site, name: &str) -> PathBuf {
    let mut folders = vec![site.depot.root.clone()];
    let files = std::iter::from_fn(|| {
        let entries = fs::read_dir(folders.pop()?).unwrap().flatten().map(|entry| entry.path());
        let (inner, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
        folders.extend(inner);
        Some(files)
    });
    let mut files = files.flatten();
    files.find(|path| path.file_name().unwrap().to_string_lossy().starts_with(name)).unwrap()
}

#[tokio::test]
async fn a_damaged_segment_keeps_nobody_from_a_restore_point_before_it_and_is_named_where_it_hides_one() {
    let (site, backup) = of_one_row().await;
    let (_, names) = archived_and_broken(&site);
    fs::write(stored(&site, &names[1]), "no segment").unwrap();
    let run = site.run();
    let staged = run.stage(&backup).await;
    let error = run.try_recover(&staged, json!({ "target_name": "nowhere" })).await.unwrap_err();
    assert!(error.to_string().contains(&names[1]), "{error}");
    run.recover(&staged, json!({ "target_name": "mark" })).await;
    assert_eq!(rows(&site), "1", "{}", site.said());
}

/// A program that fetches a broken copy of one segment, and everything else as it should.
fn lying(site: &Site, segment: &str, broken: &Path) -> PathBuf {
    let script = site.cluster.dir().join("lying");
    let own = env!("CARGO_BIN_EXE_runbook");
    let text =
        format!("#!/bin/sh\ncase \"$5\" in {segment}) exec cp {} \"$6\";; esac\nexec {own} \"$@\"\n", broken.display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// A server that is lost with its data, and a recovery whose fetches lie: the archive is whole, what arrives of one segment
/// breaks off at a position.
async fn lied_to() -> (Site, runbook::action::BackupHandle, Recover, Lsn) {
    let (site, backup, recover, behind) = lies().await;
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    (site, backup, recover, behind)
}

/// The same while the server still runs.
async fn lies() -> (Site, runbook::action::BackupHandle, Recover, Lsn) {
    let (site, backup) = of_one_row().await;
    let (names, behind) = three_segments(&site);
    let broken = site.cluster.dir().join("broken");
    fs::copy(site.cluster.pgdata().join("pg_wal").join(&names[0]), &broken).unwrap();
    break_record(&broken, behind);
    site.cluster.give(&broken);
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o644)).unwrap();
    site.archive();
    let recover = Recover::new(lying(&site, &names[0], &broken));
    (site, backup, recover, behind)
}

#[tokio::test]
async fn a_server_that_opened_before_the_end_of_the_wal_is_stopped_and_told_for_what_it_is() {
    let (site, backup, recover, behind) = lied_to().await;
    let run = site.run();
    let staged = run.stage(&backup).await;
    let error = recover.run(&run.recover_params(&staged, json!({})), &run.context()).await.unwrap_err();
    assert!(error.to_string().contains(&format!("ended at {behind}, though")), "{error}");
    assert!(error.to_string().contains("so the server was stopped"), "{error}");
    let help = error.info().help.clone().unwrap_or_default();
    assert!(help.contains("timeline 2, which began here, is noted as given up in the archive"), "{help}");
    assert_eq!(site.cluster.pid(), None, "nobody may write into it");
    let again = recover.run(&run.recover_params(&staged, json!({})), &run.context()).await.unwrap_err();
    assert!(again.to_string().contains("gave it up: its server stays stopped"), "{again}");
    assert_eq!(site.cluster.pid(), None, "nor when the step is made again");
    assert!(site.stored().iter().any(|name| name == "00000002.history"), "{:?}", site.stored());
    // The archive has all segments whole: what the help says is enough, also from another machine.
    for old_data in [OldData::There, OldData::Gone] {
        if old_data == OldData::Gone {
            site.cluster.kill();
            fs::remove_dir_all(site.cluster.pgdata()).unwrap();
        }
        let run = site.run();
        let staged = run.stage(&backup).await;
        let ahead = serde_json::to_string(&run.check_ahead(&staged, json!({})).await.0).unwrap();
        assert!(ahead.contains("leads there") && !ahead.contains("of timeline 2"), "{ahead}");
        run.recover(&staged, json!({})).await;
        assert_eq!(rows(&site), "1,2,3,4,5", "{}", site.said());
    }
}

#[tokio::test]
async fn a_recovery_from_the_archive_alone_does_not_follow_a_timeline_that_was_opened_too_early() {
    let (site, backup, recover, _) = lied_to().await;
    let run = site.run();
    let staged = run.stage(&backup).await;
    recover.run(&run.recover_params(&staged, json!({})), &run.context()).await.unwrap_err();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    let run = site.run();
    let staged = run.stage(&backup).await;
    run.recover(&staged, json!({})).await;
    assert_eq!(rows(&site), "1,2,3,4,5", "{}", site.said());
}

/// Where the archive notes that a timeline was given up.
fn note_of(site: &Site) -> PathBuf {
    let name = site.stored().into_iter().find(|name| name.starts_with("00000002.given-up.")).unwrap();
    stored(site, &name)
}

#[tokio::test]
async fn the_note_of_a_timeline_that_was_given_up_is_written_again_where_a_store_lacks_it() {
    let (site, backup, recover, _) = lied_to().await;
    let run = site.run();
    let staged = run.stage(&backup).await;
    recover.run(&run.recover_params(&staged, json!({})), &run.context()).await.unwrap_err();
    // As if the engine had died when only the data directory knew.
    let note = note_of(&site);
    fs::remove_file(&note).unwrap();
    let again = recover.run(&run.recover_params(&staged, json!({})), &run.context()).await.unwrap_err();
    assert!(again.to_string().contains("its server stays stopped") && note.exists(), "{again}");
    fs::remove_file(&note).unwrap();
    let run = site.run();
    let staged = run.stage(&backup).await;
    run.recover(&staged, json!({})).await;
    assert!(note.exists(), "the next recovery finds it in the old data: {:?}", site.stored());
    assert_eq!(rows(&site), "1,2,3,4,5", "{}", site.said());
}

/// A server that stopped in the midst of a segment, and a recovery of it that opened too early: it gave its timeline up, or
/// was abandoned. With the folder in which the old data is kept.
async fn opened_too_early() -> (Site, runbook::action::BackupHandle, PathBuf) {
    let (site, backup, recover, _) = lies().await;
    insert(&site, 6);
    site.cluster.stop("immediate");
    let run = site.run();
    let staged = run.stage(&backup).await;
    recover.run(&run.recover_params(&staged, json!({})), &run.context()).await.unwrap_err();
    let said = site.said();
    let kept = said.rsplit_once("the old data is kept in `").unwrap().1.split('`').next().unwrap();
    let kept = PathBuf::from(kept);
    (site, backup, kept)
}

/// Puts the old data into its place again and starts its server, which writes on in the segment that was rescued of it.
fn take_back(site: &Site, kept: &Path) {
    fs::rename(site.cluster.pgdata(), site.cluster.dir().join("given-up")).unwrap();
    fs::rename(kept, site.cluster.pgdata()).unwrap();
    site.cluster.up();
    insert(site, 7);
}

/// What becomes of the server that was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    ArchivesAndIsLost,
    Crashes,
}

/// Recovers what the server wrote that was taken back: nothing of it is lost.
async fn comes_back_whole(site: &Site, backup: &runbook::action::BackupHandle, next: Next) {
    if next == Next::ArchivesAndIsLost {
        site.archive();
        assert_eq!(site.cluster.sql("SELECT failed_count FROM pg_stat_archiver"), "0", "{}", site.cluster.log());
    }
    site.cluster.stop("immediate");
    if next == Next::ArchivesAndIsLost {
        fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    }
    let run = site.run();
    let staged = run.stage(backup).await;
    run.recover(&staged, json!({})).await;
    assert_eq!(rows(site), "1,2,3,4,5,6,7", "{next:?}: {}", site.said());
}

#[tokio::test]
async fn the_old_server_archives_on_where_the_recovery_of_it_gave_its_timeline_up_and_the_next_one_brings_all_of_it() {
    for next in [Next::ArchivesAndIsLost, Next::Crashes] {
        let (site, backup, kept) = opened_too_early().await;
        take_back(&site, &kept);
        comes_back_whole(&site, &backup, next).await;
    }
}

#[tokio::test]
async fn a_recovery_that_was_abandoned_after_it_opened_is_given_up_by_the_command_that_is_printed() {
    let (site, backup, kept) = opened_too_early().await;
    let cli = crate::support::cli::Cli::new();
    let (cluster, store) = (&site.cluster, &site.depot.entry);
    let main = json!({ "pgdata": cluster.pgdata(), "port": cluster.port(), "socket": cluster.socket_dir(), "bin": cluster.bin(),
        "store": "primary", "prefix": "main" });
    let inventory = json!({ "version": 1, "stores": { "primary": store }, "databases": { "main": main } });
    cli.file("inventory.yaml", &inventory.to_string());
    // As if it had only been stopped.
    let note = note_of(&site);
    fs::remove_file(&note).unwrap();
    let marker = fs::read_dir(site.cluster.pgdata()).unwrap().flatten().map(|entry| entry.path());
    let markers = marker.filter(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("\"given_up\"")));
    let marker = markers.last().unwrap();
    let mut content: serde_json::Value = serde_json::from_str(&fs::read_to_string(&marker).unwrap()).unwrap();
    content.as_object_mut().unwrap().remove("given_up").unwrap();
    fs::write(&marker, content.to_string()).unwrap();

    let start = json!({ "database": "main", "only_if": "stopped", "stopped": true });
    let start: runbook::actions::postgres::StartParams = serde_json::from_value(start).unwrap();
    let refused = runbook::actions::postgres::Start.run(&start, &site.run().context()).await.unwrap_err();
    let help = refused.info().help.clone().unwrap_or_default();
    assert!(help.contains(" && runbook wal give-up main --timeline 2`"), "{help}");
    cli.run(&["wal", "give-up", "main", "--timeline", "2"]).ends(0).prints("timeline 2 is noted as given up");
    assert!(site.stored().iter().any(|name| name.starts_with("00000002.given-up.")), "{:?}", site.stored());
    cli.run(&["wal", "give-up", "main", "--timeline", "9"]).ends(0).prints("nothing to be given up");
    take_back(&site, &kept);
    comes_back_whole(&site, &backup, Next::ArchivesAndIsLost).await;
    cli.run(&["wal", "give-up", "main", "--timeline", "3"]).ends(4).says("is on timeline 3");
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OldData {
    There,
    Gone,
}

#[tokio::test]
async fn a_transaction_is_a_target_also_after_four_billion_of_them() {
    let site = Site::new();
    site.cluster.stop("fast");
    site.cluster.output("pg_resetwal", &["-e", "1", "-D", site.cluster.pgdata().to_str().unwrap()]);
    site.cluster.up();
    site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (1)");
    let backup = site.run().base_backup().await.backup;
    insert(&site, 2);
    let third = site.cluster.sql("BEGIN; INSERT INTO t VALUES (3); SELECT txid_current(); COMMIT");
    let third: u64 = third.parse().unwrap();
    insert(&site, 4);
    site.archive();
    assert!(third > 1 << 32, "{third}");
    for (target, wanted) in [
        (json!({ "target_xid": third & 0xFFFF_FFFF, "timeline": 1 }), "1,2,3"),
        (json!({ "target_xid": third, "inclusive": false, "timeline": 1 }), "1,2"),
    ] {
        let run = site.run();
        let staged = run.stage(&backup).await;
        let told = serde_json::to_string(&run.check_ahead(&staged, target.clone()).await.0).unwrap();
        assert!(told.contains("leads there"), "{told}");
        run.stop().await;
        run.recover(&staged, target.clone()).await;
        assert_eq!(rows(&site), wanted, "{target}: {}", site.said());
    }
}
