//! The actions over the real pgBackRest and a real cluster.

use std::fs;

use rustix::process::{Pid, Signal};

use crate::support::cli::{Live, listing, processes_of, until};
use crate::support::pgbackrest::Guarded;

/// A cluster with a full and an incremental backup, and 500 rows that are only in the WAL.
fn backed_up() -> Guarded {
    let site = Guarded::new();
    site.backs_up("full");
    site.cluster.sql("INSERT INTO t SELECT generate_series(1001, 1200)");
    site.backs_up("incr");
    site.cluster.sql("INSERT INTO t SELECT generate_series(1201, 1500)");
    site.archives();
    site
}

#[test]
fn backups_of_each_type_are_listed_and_judged() {
    let site = Guarded::new();
    let cli = &site.cli;
    cli.run(&["backups", "health"]).ends(2).prints("there is no good backup");
    site.does("  - { id: check, uses: pgbackrest.check, with: { database: main } }\n").ends(0);
    site.backs_up("full");
    site.backs_up("diff");
    site.backs_up("incr");
    site.does("  - { id: info, uses: pgbackrest.info, with: { database: main } }\n").ends(0);
    let output = cli.shown()["steps"][0]["output"].clone();
    let tiers: Vec<_> = output["backups"].as_array().unwrap().iter().map(|one| one["tier"].as_str().unwrap()).collect();
    assert_eq!(
        (tiers.as_slice(), output["status"].as_str()),
        (&["full", "diff", "incr"][..], Some("ok")),
        "{output:#}"
    );
    let listed = cli.run(&["backups", "list"]).ends(0).prints("pgbackrest:main").prints("incr");
    assert_eq!(listed.out.lines().count(), 4, "{}", listed.out);
    let all = cli.run(&["backups", "list", "--json"]).ends(0).json();
    assert_eq!(all["pgbackrest"].as_array().map(Vec::len), Some(3), "{all:#}");
    cli.run(&["backups", "list", "--tier", "full"]).ends(0).prints("full");
    cli.run(&["backups", "health"]).ends(0).prints("OK");
}

#[test]
fn health_judges_the_age_of_the_wal_of_a_stanza_and_warns_of_what_it_cannot_judge() {
    let site = backed_up();
    let inventory = fs::read_to_string(site.cli.path("inventory.yaml")).unwrap();
    let asking = |members: &str| {
        let text = inventory.replace("tier: full, max_age: 8d", &format!("tier: full, max_age: 8d, {members}"));
        site.cli.file("inventory.yaml", &text);
    };
    asking("max_wal_age: 1h, max_proof_age: 1d, max_verification_age: 1d");
    let health = site.cli.run(&["backups", "health", "--json"]).ends(0).json();
    assert!(health[1]["figures"]["wal_age_s"].as_u64().is_some_and(|age| age < 3600), "{health:#}");
    site.cli.run(&["check", "inventory.yaml"]).says("`max_proof_age` is not judged").says("`max_verification_age`");
    asking("max_wal_age: 1s");
    let newest = site.segments().pop().unwrap();
    let file = fs::File::options().write(true).open(newest).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)).unwrap();
    site.cli.run(&["backups", "health"]).ends(2).prints("the newest WAL is");
}

#[test]
fn a_second_repository_is_begun_and_is_restored_from_when_the_first_is_lost() {
    let site = Guarded::new();
    site.backs_up("full");
    let (dir, second) = (site.cluster.dir().to_owned(), site.cluster.folder("repo-b"));
    let lines = format!("repo2-path={}\nrepo2-retention-full=9\n[main]", second.display());
    let text = fs::read_to_string(site.config()).unwrap().replace("[main]", &lines);
    fs::write(site.config(), text).unwrap();
    let create = "  - { id: create, uses: pgbackrest.stanza_create, with: { database: main } }\n";
    let backup = "  - { id: backup, uses: pgbackrest.backup, with: { database: main, type: full, repo: 2 } }\n";
    site.does(&format!("{create}{backup}")).ends(0);
    site.does(create).ends(0);
    site.cluster.sql("INSERT INTO t SELECT generate_series(1001, 1500)");
    site.archives();
    fs::rename(dir.join("repo"), dir.join("gone")).unwrap();
    let drill = ["drill", "full-db-loss-pgbackrest", "-p", "database=main"];
    let _ = fs::remove_dir_all(site.cli.state());
    site.cli.run(&drill).ends(0).says("is read from repository 2 alone: repository 1: ");
    assert_eq!(site.cli.status("prove"), "succeeded");
    // Whoever looks at the backups is told which repository fails.
    site.cli.run(&["backups", "health"]).ends(3).prints("repository 1: ").prints("`repo: NUMBER`");
}

#[test]
fn a_lost_server_comes_back_with_what_was_archived_and_with_what_was_not() {
    let site = backed_up();
    site.cluster.sql("ALTER SYSTEM SET work_mem = '17MB'");
    site.cluster.sql("INSERT INTO t SELECT generate_series(1501, 1600)");
    site.cluster.kill();
    site.restores("").ends(0);
    assert_eq!(site.rows(), "1600 1600", "the tail of the old `pg_wal` came with it");
    let auto = fs::read_to_string(site.cluster.pgdata().join("postgresql.auto.conf")).unwrap();
    assert!(!auto.contains("restore_command") && !auto.contains("recovery_target"), "{auto}");
    assert_eq!(site.beside().len(), 1, "the old data is kept, nothing else is left: {:?}", site.beside());
    // Lost once more, with nothing but the repository: what was rescued came into it.
    site.archives();
    site.cluster.stop("immediate");
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    site.restores("").ends(0);
    assert_eq!(site.rows(), "1600 1600");
    let output = site.cli.shown()["steps"][1]["output"].clone();
    assert_eq!((output["timeline"].as_u64(), output["state"].as_str()), (Some(3), Some("open")), "{output:#}");
    assert!(output["archived"].as_str().is_some_and(|name| name.starts_with("00000003")), "{output:#}");
}

#[test]
fn it_is_looked_at_before_it_opens_at_a_point_in_time_and_a_second_try_gets_its_own_rows() {
    let site = backed_up();
    let before = site.now();
    site.cluster.sql("DELETE FROM t WHERE n > 10");
    let between = site.now();
    site.cluster.sql("DELETE FROM t WHERE n > 5");
    site.archives();
    let steps = format!(
        "  - {{ id: stop, uses: postgres.stop, with: {{ database: main }} }}\n  \
         - {{ id: look, uses: pgbackrest.restore, with: {{ database: main, target_time: '{before}', action: pause }} }}\n  \
         - {{ id: prove, uses: postgres.query, with: {{ database: main, sql: 'SELECT count(*) FROM t' }} }}\n  \
         - {{ id: open, uses: pgbackrest.restore, with: {{ database: main, instance: '{{{{ steps.look.instance }}}}', target: here }} }}\n"
    );
    site.does(&steps).ends(0);
    assert_eq!(site.rows(), "1500 1500");
    // The timeline that the first try opened does not hold what the second one is asked for.
    let later = format!(", target_time: '{between}', timeline: 1");
    site.restores(&later).ends(0);
    assert_eq!(site.rows(), "10 10");
    let output = site.cli.shown()["steps"][1]["output"].clone();
    assert_eq!(output["timeline"].as_u64(), Some(3), "{output:#}");
}

#[test]
fn a_restore_in_place_brings_tablespaces_back_and_keeps_nothing() {
    let site = Guarded::new();
    let fast = site.cluster.folder("fast");
    site.cluster.sql(&format!("CREATE TABLESPACE fast LOCATION '{}'", fast.display()));
    site.cluster.sql("CREATE TABLE f(n int) TABLESPACE fast; INSERT INTO f SELECT generate_series(1, 100)");
    site.backs_up("full");
    site.cluster.sql("INSERT INTO f VALUES (101)");
    site.cluster.kill();
    site.restores(", delta: true").ends(0);
    assert_eq!(site.cluster.sql("SELECT count(*) FROM f"), "101", "the tail was pushed before it was overwritten");
    assert!(site.beside().is_empty(), "{:?}", site.beside());
    // Beside, the tablespace moves with its data directory.
    site.cluster.sql("INSERT INTO f VALUES (102)");
    site.cluster.kill();
    site.restores("").ends(0);
    assert_eq!(site.cluster.sql("SELECT count(*) FROM f"), "102");
    assert_eq!(site.beside().len(), 2, "data and tablespace are kept: {:?}", site.beside());
}

#[test]
fn a_restore_in_place_overwrites_no_old_wal_that_breaks_off_before_its_target() {
    let site = backed_up();
    site.cluster.sql("ALTER SYSTEM SET archive_command = 'false'");
    site.cluster.sql("SELECT pg_reload_conf()");
    until("nothing is archived any more", || site.cluster.sql("SHOW archive_command") == "false");
    site.cluster.sql("INSERT INTO t VALUES (1501)");
    let segment = site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    let behind: runbook::pgformat::Lsn = site.cluster.sql("SELECT pg_current_wal_insert_lsn()").parse().unwrap();
    for n in 1502..1505 {
        site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
        site.cluster.sql("SELECT pg_switch_wal()");
    }
    site.cluster.kill();
    let old = site.cluster.pgdata().join("pg_wal").join(&segment);
    let mut bytes = fs::read(&old).unwrap();
    let offset = usize::try_from(behind.0 % bytes.len() as u64).unwrap();
    bytes[offset + 30] ^= 1;
    fs::write(&old, &bytes).unwrap();
    for target in ["", ", target_time: '2100-01-01T00:00:00Z'"] {
        let ran = site.restores(&format!(", delta: true{target}")).ends(10);
        assert!(ran.err.contains("its WAL went on to") && ran.err.contains("is as it was"), "{target}: {}", ran.err);
        assert_eq!(fs::read(&old).unwrap(), bytes, "nothing was overwritten");
    }
    site.restores(&format!(", delta: true, target_lsn: '{behind}'")).ends(0);
    assert_eq!(site.rows(), "1501 1501");
}

#[test]
fn a_restore_in_place_into_the_drop_of_a_database_is_refused_before_it_takes_the_old_data_apart() {
    let site = backed_up();
    site.cluster.sql("CREATE DATABASE shop");
    site.cluster.sql_in("shop", "CREATE TABLE goods AS SELECT generate_series(1, 300) AS n");
    let now = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let good = site.cluster.sql(now);
    site.cluster.sql("DROP DATABASE shop");
    site.cluster.sql("INSERT INTO t VALUES (1501)");
    site.archives();
    site.cluster.stop("fast");
    let before = listing(&site.cluster.pgdata());
    let ran = site.restores(&format!(", delta: true, target_time: '{good}'")).ends(10);
    assert!(ran.err.contains("inside the drop of database") && ran.err.contains("is as it was"), "{}", ran.err);
    assert_eq!(listing(&site.cluster.pgdata()), before, "nothing was touched");
    let last = ran.err.split_once("its last position is `").unwrap().1.split('`').next().unwrap();
    site.restores(&format!(", delta: true, target_lsn: '{last}'")).ends(0);
    assert_eq!(
        (site.rows().as_str(), site.cluster.sql_in("shop", "SELECT count(*) FROM goods").as_str()),
        ("1500 1500", "300")
    );
    // Where nothing is left to be lost, it is decided behind the restore.
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    site.restores(", delta: true").ends(0);
    assert_eq!(site.rows(), "1500 1500");
}

#[test]
fn a_wrong_stanza_a_live_server_and_an_unknown_backup_are_refused_before_anything_is_touched() {
    let site = backed_up();
    site.inventory("elsewhere");
    let restore = "  - { id: restore, uses: pgbackrest.restore, with: { database: main } }\n";
    site.does(restore).ends(4).says("missing stanza path").says("stanza-create");
    let backup = "  - { id: backup, uses: pgbackrest.backup, with: { database: main } }\n";
    site.does(backup).ends(4).says("missing stanza path");
    site.inventory("main");
    site.does(restore).ends(10).says("is alive");
    site.does("  - { id: restore, uses: pgbackrest.restore, with: { database: main, backup: 20200101-000000F } }\n")
        .ends(4)
        .says("has no backup `20200101-000000F`");
    let early = "  - { id: restore, uses: pgbackrest.restore, with: { database: main, target_time: '2020-01-01T00:00:00Z' } }\n";
    site.does(early).ends(4).says("lies before the end of the backup");
    assert_eq!(site.rows(), "1500 1500");
    assert!(site.beside().is_empty());
}

#[test]
fn a_stanza_of_another_cluster_is_refused() {
    let (site, other) = (Guarded::new(), backed_up());
    let text = site.cli.read("inventory.yaml");
    let theirs = text.replace(&site.config().display().to_string(), &other.config().display().to_string());
    site.cli.file("inventory.yaml", &theirs);
    site.does("  - { id: backup, uses: pgbackrest.backup, with: { database: main } }\n").ends(10).says("is of cluster");
    site.cluster.stop("fast");
    site.restores("").ends(4).says("is of cluster");
}

#[test]
fn a_hole_in_the_archive_is_found_before_the_server_is_touched_and_a_damaged_segment_never_opens_it() {
    let site = backed_up();
    for _ in 0..3 {
        site.cluster.sql("INSERT INTO t SELECT max(n) + 1 FROM t");
        site.archives();
    }
    site.cluster.stop("fast");
    let segments = site.segments();
    let damaged = &segments[segments.len() - 2];
    let whole = fs::read(damaged).unwrap();
    fs::remove_file(damaged).unwrap();
    let name = damaged.file_name().unwrap().to_string_lossy()[..24].to_owned();
    let _ = fs::remove_file(site.cluster.pgdata().join("pg_wal").join(&name));
    site.restores("").ends(4).says("has a hole").says("ends at");
    assert!(site.beside().iter().all(|name| !name.contains("-old-")), "{:?}", site.beside());
    // A segment that is there and cannot be unpacked ends the recovery, before it is swapped in where that is asked of it; it does
    // not count as the end of the archive.
    fs::write(damaged, &whole[..whole.len() / 2]).unwrap();
    site.restores("").ends(10).says(&name);
    fs::write(damaged, &whole).unwrap();
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    site.restores("").ends(0);
    assert_eq!(site.rows(), "1503 1503");
}

#[test]
fn a_segment_of_which_the_repository_has_only_the_beginning_is_told_with_what_to_type() {
    let site = backed_up();
    site.cluster.sql("INSERT INTO t VALUES (1501)");
    let name = site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    site.cluster.stop("immediate");
    // A recovery that was given up had rescued it; then the server was started again.
    let path = site.cluster.pgdata().join("pg_wal").join(&name);
    assert!(site.pgbackrest(&["--no-archive-async", "archive-push", &path.to_string_lossy()]).status.success());
    site.cluster.up();
    site.cluster.sql("INSERT INTO t VALUES (1502)");
    site.cluster.kill();
    let told = format!("the repository has only the beginning of `{name}`");
    for place in ["", ", delta: true"] {
        site.restores(place).ends(10).says(&told);
        assert!(site.beside().iter().all(|name| !name.contains("-old-")), "{:?}", site.beside());
    }
    let journal = site.cli.journal().iter().map(ToString::to_string).collect::<String>();
    let line = journal.split("as the server's user: `").nth(1).expect("what to type").split('`').next().unwrap();
    assert!(line.contains("repo-rm") && line.contains(&name) && line.contains("archive-push"), "{line}");
    assert!(site.types(line).success(), "{line}");
    site.restores("").ends(0);
    assert_eq!(site.rows(), "1502 1502");
}

/// A full backup that is under way: a spread checkpoint with many pages to write, for which it waits.
fn taking(site: &Guarded) -> (Live, i32) {
    site.cluster.sql("CREATE TABLE filler AS SELECT n, repeat('x', 500) AS x FROM generate_series(1, 20000) n");
    site.cli.file(
        "slow.yaml",
        "version: 1\nname: slow\nsteps:\n  - { id: backup, uses: pgbackrest.backup, with: { database: main, type: full, checkpoint: spread } }\n",
    );
    let _ = fs::remove_dir_all(site.cli.state());
    let run = site.cli.spawn(&["run", "slow.yaml", "--confirm", "production"]);
    let config = site.config().to_string_lossy().into_owned();
    let mut pid = None;
    until("pgBackRest waits for the checkpoint", || {
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%backup_start%' AND pid <> pg_backend_pid()";
        let running = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let words: Vec<String> =
                line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            let ours = words[0].ends_with("pgbackrest") && words.iter().any(|word| word.contains(&config));
            let backs_up = ours && words.iter().any(|word| word == "backup");
            backs_up.then(|| entry.file_name().to_string_lossy().parse::<i32>().ok())?
        });
        pid = running.min();
        pid.is_some() && site.cluster.sql(waits) != "0"
    });
    (run, pid.unwrap())
}

/// Has what is left of a backup that died end.
fn settles(site: &Guarded) {
    site.cluster.sql("CHECKPOINT");
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgBackRest%'";
    until("the session of the dead backup ends", || site.cluster.sql(left) == "0");
}

fn labels(site: &Guarded) -> usize {
    let info = site.pgbackrest(&["info", "--output=json"]).stdout;
    String::from_utf8_lossy(&info).matches("\"label\"").count()
}

#[test]
fn a_backup_that_is_killed_says_so_and_the_next_one_is_whole() {
    let site = Guarded::new();
    let (run, pid) = taking(&site);
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    run.wait().ends(10).says("was killed by signal 9");
    settles(&site);
    site.backs_up("full");
    assert_eq!(labels(&site), 1);
}

#[test]
fn a_backup_whose_engine_was_killed_is_taken_when_the_run_is_resumed() {
    let site = Guarded::new();
    let (run, _) = taking(&site);
    assert!(run.kill());
    settles(&site);
    let id = site.cli.id();
    site.cli.run(&["resume", &id]).ends(0);
    assert_eq!(labels(&site), 1);
}

#[test]
fn the_shipped_procedure_drills_a_loss_and_changes_nothing() {
    let site = backed_up();
    let facts = || {
        let sql =
            "SELECT pg_postmaster_start_time(), (SELECT timeline_id FROM pg_control_checkpoint()), count(*) FROM t";
        let repository = listing(&site.cluster.dir().join("repo/backup"));
        (site.cluster.sql(sql), site.beside(), repository, site.segments())
    };
    let before = facts();
    let _ = fs::remove_dir_all(site.cli.state());
    site.cli.run(&["drill", "full-db-loss-pgbackrest", "-p", "database=main"]).ends(0);
    assert_eq!(facts(), before);
    for step in ["recover", "prove"] {
        assert_eq!(site.cli.status(step), "succeeded", "{step}");
    }
    assert!(listing(&site.cli.state().join("scratch")).is_empty());
    assert!(processes_of(site.cli.dir()).is_empty());
    assert!(listing(&site.cluster.dir().join("lock")).is_empty(), "a drill holds none of production's locks");
}

#[test]
fn the_shipped_procedure_rebuilds_a_lost_server_and_takes_a_new_backup() {
    let site = backed_up();
    site.cluster.kill();
    fs::remove_dir_all(site.cluster.pgdata().join("base")).unwrap();
    let _ = fs::remove_dir_all(site.cli.state());
    let args =
        ["run", "full-db-loss-pgbackrest", "-p", "database=main", "-p", "incident_at=now", "--confirm", "production"];
    site.cli.run(&args).ends(0);
    assert_eq!(site.rows(), "1500 1500");
    for step in ["recover", "prove", "new_backup", "unfreeze"] {
        assert_eq!(site.cli.status(step), "succeeded", "{step}");
    }
    site.cli.run(&["backups", "health"]).ends(0);
    let undone = site.cli.run(&["undo", "last", "--confirm", "production"]).ends(5);
    undone.says("a recovery has no undo").says(".runbook-old-");
    assert_eq!(site.rows(), "1500 1500", "the server runs on");
}

#[test]
fn a_dry_run_tells_which_backup_would_be_restored_and_how_large_it_is() {
    let site = backed_up();
    let _ = fs::remove_dir_all(site.cli.state());
    let args = ["dry-run", "full-db-loss-pgbackrest", "-p", "database=main", "-p", "incident_at=now"];
    let said = site.cli.run(&args).ends(0);
    let text = format!("{}{}", said.out, said.err);
    assert!(text.contains("(incr, ") && text.contains("WAL segments on timeline 1 lead there"), "{text}");
    assert!(site.beside().is_empty());
}

#[test]
fn backup_and_restore_run_the_procedures_of_pgbackrest_where_it_has_the_backups() {
    let site = Guarded::new();
    let cli = &site.cli;
    cli.run(&["status", "main"]).ends(2).prints("runbook backup main --confirm production");
    cli.run(&["backup", "main", "--tier", "monthly", "--confirm", "production"]).ends(2).says("full");
    cli.run(&["backup", "main", "--tier", "full", "--confirm", "production"]).ends(0);
    assert_eq!(
        (cli.status("archiving"), cli.status("backup"), labels(&site)),
        ("succeeded".into(), "succeeded".into(), 1)
    );
    site.cluster.sql("INSERT INTO t SELECT generate_series(1001, 1200)");
    cli.run(&["backup", "main", "--confirm", "production"]).ends(0);
    let backups = cli.run(&["backups", "list", "--json"]).ends(0).json()["pgbackrest"].clone();
    let tiers: Vec<&str> = backups.as_array().unwrap().iter().map(|one| one["tier"].as_str().unwrap()).collect();
    assert_eq!(tiers, ["incr", "full"]);
    let first = backups[1]["id"].as_str().unwrap();
    site.cluster.sql("INSERT INTO t SELECT generate_series(1201, 1500)");
    site.archives();
    let status = cli.run(&["status", "main", "--json"]).ends(1).json();
    assert_eq!((&status[0]["backups"], &status[0]["backup"]["sound"]), (&2.into(), &true.into()), "{status:#}");
    assert_eq!(status[0]["forecast_fault"], serde_json::Value::Null, "{status:#}");
    assert_eq!(status[0]["expected"][1]["level"], "ok", "{status:#}");
    cli.run(&["drill", "pgbackrest-backup", "-p", "database=main"]).ends(3).says("keep the step out of drills");

    cli.run(&["restore", "main", "--side"]).ends(2).says("a `store` alone");
    let planned = cli.run(&["restore", "main", "--json"]).ends(0).json();
    assert!(planned["next"].as_str().unwrap().starts_with("runbook restore main --incident-at"), "{planned:#}");
    assert_eq!((site.rows().as_str(), site.beside().len()), ("1500 1500", 0), "a plan changes nothing");
    site.cluster.kill();
    cli.run(&["status", "main"]).ends(2).prints("runbook restore main");
    fs::remove_dir_all(site.cluster.pgdata().join("base")).unwrap();
    cli.run(&["restore", "main", "--confirm", "production"]).ends(0);
    assert_eq!(site.rows(), "1500 1500");
    cli.run(&["restore", "main", "--to", first, "--confirm", "production"]).ends(0);
    assert_eq!(site.rows(), "1000 1000", "the state at the end of that backup");
}

#[test]
fn a_stanza_is_made_once_in_an_encrypted_repository_and_a_lost_server_comes_back_from_it() {
    let site = Guarded::unmade("repo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=correct horse battery staple\n");
    let make = "  - { id: make, uses: pgbackrest.stanza_create, with: { database: main } }\n  \
                - { id: check, uses: pgbackrest.check, with: { database: main } }\n";
    let made = || {
        site.does(make).ends(0);
        site.cli.shown()["steps"][0]["output"]["made"].as_bool()
    };
    assert_eq!((made(), made()), (Some(true), Some(false)));
    site.backs_up("full");
    site.cluster.sql("INSERT INTO t SELECT generate_series(1001, 1500)");
    site.archives();
    let segment = fs::read(&site.segments()[0]).unwrap();
    assert!(segment.starts_with(b"Salted__"), "the repository is encrypted");
    site.cluster.stop("immediate");
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    site.restores("").ends(0);
    assert_eq!(site.rows(), "1500 1500");
}

#[test]
fn a_run_that_makes_the_stanza_first_is_not_refused_for_want_of_it() {
    let site = Guarded::unmade("");
    let step =
        |id: &str, uses: &str| format!("  - {{ id: {id}, uses: pgbackrest.{uses}, with: {{ database: main }} }}\n");
    let rest = [step("check", "check"), step("backup", "backup"), step("info", "info")].concat();
    site.does(&rest).ends(4).says("missing stanza");
    site.does(&[step("make", "stanza_create"), rest].concat()).ends(0);
    assert_eq!(labels(&site), 1);
}

#[test]
fn a_plan_names_the_procedure_that_restores_what_pgbackrest_has() {
    let site = backed_up();
    let cli = &site.cli;
    let told = cli.run(&["pitr", "main"]).ends(0);
    assert!(told.out.contains("runbook run full-db-loss-pgbackrest -p database=main"), "{}", told.out);
    let plan = cli.run(&["pitr", "main", "--json"]).ends(0).json();
    assert_eq!(plan["others"][0]["kind"], "pgbackrest", "{plan:#}");
    cli.run(&["pitr", "main", "--at", "2020-01-01T00:00:00Z"]).ends(4).says("no sound backup");
}

/// Flips a byte in the middle of the table's first block, as a disk would.
fn flip(site: &Guarded) {
    use std::os::unix::fs::FileExt as _;
    let path = site.cluster.pgdata().join(site.cluster.sql("SELECT pg_relation_filepath('t')"));
    site.cluster.stop("fast");
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4096).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 4096).unwrap();
    site.cluster.up();
}

#[test]
fn a_backup_with_wrong_pages_is_not_taken_over_when_its_step_is_tried_again() {
    let site = Guarded::new();
    site.cluster.stop("fast");
    let pgdata = site.cluster.pgdata();
    site.cluster.output("pg_checksums", &["--enable", "--no-sync", "-D", pgdata.to_str().unwrap()]);
    site.cluster.up();
    site.cluster.sql("INSERT INTO t SELECT generate_series(2001, 4000); CHECKPOINT");
    flip(&site);
    let step = "version: 1\nname: one\nsteps:\n  - id: backup\n    uses: pgbackrest.backup\n    on_failure: pause\n    \
                with: { database: main, type: full }\n";
    site.cli.file("runbook.yaml", step);
    let terminal = site.cli.at_terminal(&["run", "runbook.yaml", "--confirm", "production"]);
    until("the step is held", || site.cli.count("step_held") == 1);
    site.cli.run(&["retry", "last", "backup", "--reason", "once more"]).ends(0);
    until("it is held again", || site.cli.count("step_held") == 2);
    assert_eq!(labels(&site), 2, "another one was taken, and judged");
    flip(&site);
    site.cli.run(&["retry", "last", "backup", "--reason", "once more"]).ends(0);
    terminal.wait().ends(0);
    assert_eq!(labels(&site), 3);
    site.cli.run(&["backups", "health"]).ends(2).prints("2 known to be damaged");
}

/// What the newest state comes back with.
const LOSS: [&str; 8] =
    ["run", "full-db-loss-pgbackrest", "-p", "database=main", "-p", "incident_at=now", "--confirm", "production"];

#[test]
fn a_stanza_that_another_archiver_has_overtaken_is_refused_while_the_server_runs() {
    let site = backed_up();
    let end = site.segments().last().unwrap().file_name().unwrap().to_string_lossy()[..24].to_owned();
    site.cli.run(&["dry-run", LOSS[1], "-p", "database=main", "-p", "incident_at=now"]).ends(0);
    // Another program archives from now on.
    site.cluster.sql("ALTER SYSTEM SET archive_command = 'true'");
    site.cluster.sql("SELECT pg_reload_conf()");
    until("another command archives", || site.cluster.sql("SHOW archive_command") == "true");
    let mut overtaken = Vec::new();
    for n in 2001..2004 {
        overtaken.push(site.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())"));
        site.cluster.sql(&format!("INSERT INTO t VALUES ({n})"));
        site.cluster.sql("SELECT pg_switch_wal()");
    }
    site.cluster.sql("CHECKPOINT");
    for name in &overtaken {
        let _ = fs::remove_file(site.cluster.pgdata().join("pg_wal").join(name));
    }
    let told = site.cli.run(&["pitr", "main"]).ends(0);
    assert!(told.out.contains(&format!("ends at `{end}`; commits since are not in it")), "{}", told.out);
    let refused = site.cli.run(&LOSS).ends(4);
    assert!(refused.err.contains("has a hole") && refused.err.contains(&format!("ends at `{end}`")), "{}", refused.err);
    assert!(refused.err.contains("recover_to=TIME"), "{}", refused.err);
    assert_eq!(site.rows(), "1503 2003", "the server was never stopped");
}

#[test]
fn an_undo_starts_the_server_again_after_a_restore_that_failed_and_none_on_what_a_restore_began_to_overwrite() {
    let site = backed_up();
    let mut folders = vec![site.cluster.dir().join("repo/backup/main")];
    // The repository's copy of every table is damaged.
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if path.to_string_lossy().contains("/pg_data/base/") {
                fs::write(&path, "damaged").unwrap();
            }
        }
    }
    let _ = fs::remove_dir_all(site.cli.state());
    site.cli.run(&LOSS).ends(10).says("undo");
    assert!(site.cluster.pid().is_none());
    site.cli.run(&["undo", "last", "--confirm", "production"]).ends(0);
    assert_eq!(site.rows(), "1500 1500", "the server runs again, with its own data");
    let delta = [&LOSS[..6], &["-p", "delta=true"], &LOSS[6..]].concat();
    // Something that differs, or nothing is restored at all.
    site.cluster.sql("UPDATE t SET n = n + 10000; CHECKPOINT");
    site.cli.run(&delta).ends(10);
    site.cli.run(&["undo", "last", "--confirm", "production"]).ends(10).says("runbook restore main");
    assert!(site.cluster.pid().is_none(), "no server is started on half of a backup");
}
