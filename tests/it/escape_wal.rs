//! `restore.sh` beside a living production: replay reaches none of its files.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::program::need;
use crate::support::recovery::{Depot, Site};

/// A production whose WAL makes a tablespace that its backup does not know.
struct Scene {
    site: Site,
    script: PathBuf,
    archive: PathBuf,
    late: PathBuf,
}

impl Scene {
    async fn new() -> Self {
        need("zstd", "escape");
        let site = Site::over(Depot::default(), &[]);
        site.cluster.sql("CREATE TABLE t(n int); INSERT INTO t SELECT generate_series(1, 100)");
        let backup = site.run().base_backup().await.backup;
        site.archive();
        let late = site.cluster.folder("late");
        site.cluster.sql(&format!("CREATE TABLESPACE late LOCATION '{}'", late.display()));
        site.cluster.sql("CREATE TABLE lt(n int) TABLESPACE late; INSERT INTO lt SELECT generate_series(1, 70)");
        site.archive();
        let system = site.cluster.sql("SELECT system_identifier FROM pg_control_system()");
        let script = site.depot.root.join(format!("main/base/{}/restore.sh", backup.id));
        let archive = site.depot.root.join(format!("main/wal/{system}"));
        Self { site, script, archive, late }
    }

    fn restore(&self, target: &Path, more: &[&str]) -> Output {
        let mut command = Command::new("sh");
        command.arg(&self.script).arg(target).arg("--wal").arg(&self.archive).args(more).current_dir("/");
        command.env("PATH", format!("{}:/usr/bin:/bin", self.site.cluster.bin().display()));
        if let Some((uid, gid)) = self.site.cluster.owner() {
            command.uid(uid).gid(gid);
        }
        command.output().unwrap()
    }

    /// Starts what was restored on the production's port, within a folder of its own for sockets.
    fn start(&self, target: &Path, sockets: &Path) -> bool {
        let port = self.site.cluster.port();
        let options = format!("-p {port} -k {} -c listen_addresses=", sockets.display());
        let mut start = self.site.cluster.command("pg_ctl");
        start.args(["-w", "-t", "60", "-o", &options, "-D"]).arg(target.join("data"));
        start.arg("-l").arg(target.join("log")).arg("start");
        start.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    /// Restores and opens a copy on production's port and counts its rows; its log, where it does not open.
    fn rows(&self, target: &Path) -> Result<String, String> {
        let restored = self.restore(target, &[]);
        assert!(restored.status.success(), "{}", said(&restored));
        let started = self.start(target, &self.site.cluster.socket_dir());
        let log = || fs::read_to_string(target.join("log")).unwrap_or_default();
        if !started {
            return Err(log());
        }
        let waited = "DO $$ BEGIN FOR i IN 1..6000 LOOP EXIT WHEN NOT pg_is_in_recovery(); PERFORM pg_sleep(0.01); END LOOP; END $$";
        let _ = self.site.cluster.try_sql(waited);
        let answer = self.site.cluster.try_sql("SELECT count(*) FROM t");
        self.stop(target);
        match answer.status.success() {
            true => Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned()),
            false => Err(log()),
        }
    }

    fn stop(&self, target: &Path) {
        let mut stop = self.site.cluster.command("pg_ctl");
        stop.args(["-w", "-m", "immediate", "stop", "-D"]).arg(target.join("data"));
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    }
}

/// Waits until the server of a folder is gone: it ends itself when its replay is refused.
fn gone(target: &Path) {
    crate::support::cli::until("the copy ended itself", || !target.join("data/postmaster.pid").exists());
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_tablespace_younger_than_the_backup_is_not_replayed_into_the_folder_of_a_living_server() {
    let scene = Scene::new().await;
    let (home, cluster) = (scene.site.cluster.folder("rescued"), &scene.site.cluster);
    let beside = home.join("beside");
    let restored = scene.restore(&beside, &[]);
    assert!(restored.status.success() && said(&restored).contains("stops itself"), "{}", said(&restored));
    assert!(said(&restored).contains("pg_is_in_recovery()"), "{}", said(&restored));
    scene.start(&beside, &home);
    gone(&beside);
    let log = fs::read_to_string(beside.join("log")).unwrap();
    assert!(log.contains("makes a tablespace in") && log.contains(&*scene.late.to_string_lossy()), "{log}");
    let links = fs::read_dir(beside.join("data/pg_tblspc")).unwrap().count();
    assert_eq!((links, cluster.sql("SELECT count(*) FROM lt").as_str()), (0, "70"));
    // Where production is gone and its folder was put aside, the same lines lead through.
    cluster.stop("fast");
    let kept = scene.late.with_extension("kept");
    fs::rename(&scene.late, &kept).unwrap();
    cluster.folder("late");
    let alone = home.join("alone");
    assert!(scene.restore(&alone, &[]).status.success());
    assert!(scene.start(&alone, &cluster.socket_dir()), "{:?}", fs::read_to_string(alone.join("log")));
    cluster.sql(
        "DO $$ BEGIN FOR i IN 1..6000 LOOP EXIT WHEN NOT pg_is_in_recovery(); PERFORM pg_sleep(0.01); END LOOP; END $$",
    );
    let rows = cluster.sql("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM lt)");
    scene.stop(&alone);
    assert_eq!(rows, "100|70");
}

#[tokio::test]
async fn the_script_follows_no_timeline_that_was_given_up_and_takes_no_beginning_for_the_end() {
    need("zstd", "escape");
    let scene = Scene::new().await;
    let (home, cluster) = (scene.site.cluster.folder("rescued"), &scene.site.cluster);
    let fork = cluster.sql("SELECT pg_current_wal_insert_lsn()");
    let first = cluster.sql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())");
    cluster.sql("INSERT INTO t SELECT generate_series(1, 10)");
    scene.site.archive();
    cluster.sql("INSERT INTO t SELECT generate_series(1, 5)");
    scene.site.archive();
    cluster.stop("fast");
    fs::rename(&scene.late, scene.late.with_extension("kept")).unwrap();
    cluster.folder("late");
    // A recovery opened timeline 2 before those rows, and gave it up.
    let history = scene.archive.join("history");
    fs::create_dir_all(&history).unwrap();
    fs::write(history.join("00000002.history"), format!("1\t{fork}\tno recovery target specified\n")).unwrap();
    let (high, low) = fork.split_once('/').unwrap();
    fs::write(history.join(format!("00000002.given-up.{high:0>8}{low:0>8}.json")), "{}").unwrap();
    // Beside the whole segment lies the beginning of it that an earlier recovery had saved.
    let folder = scene.archive.join("00000001");
    let whole = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let whole = whole.into_iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with(&first)).unwrap();
    let plain = home.join("plain");
    let packed = whole.extension().is_some();
    assert!(packed, "this test wants packed WAL: {}", whole.display());
    let unpacked = Command::new("zstd").args(["-q", "-d", "-o"]).arg(&plain).arg(&whole).status().unwrap();
    assert!(unpacked.success());
    let mut bytes = fs::read(&plain).unwrap();
    let used = usize::from_str_radix(low, 16).unwrap() % bytes.len();
    bytes[used..].fill(0);
    fs::write(folder.join(&first), &bytes).unwrap();
    cluster.give(&scene.archive);
    let (rows, followed) = (scene.rows(&home.join("whole")), home.join("whole/data/pg_wal"));
    assert_eq!(rows.as_deref(), Ok("115"));
    // The number that was given up is not taken again: its history stays in the archive.
    assert!(followed.join("00000003.history").is_file() && !followed.join("00000002.history").exists());
    // Where nothing but the beginning is left the server stops: later segments are there.
    fs::remove_file(&whole).unwrap();
    fs::remove_dir_all(&scene.late).unwrap();
    cluster.folder("late");
    let log = scene.rows(&home.join("cut")).unwrap_err();
    assert!(log.contains("breaks off, but"), "{log}");
}

#[tokio::test]
async fn wal_that_nobody_can_look_at_is_replayed_on_another_machine_only() {
    let scene = Scene::new().await;
    let home = scene.site.cluster.folder("rescued");
    let blind = fs::read_to_string(&scene.script).unwrap().replace("pg_waldump", "no_waldump");
    fs::write(&scene.script, blind).unwrap();
    let refused = scene.restore(&home.join("one"), &[]);
    assert!(!refused.status.success() && said(&refused).contains("--other-machine"), "{}", said(&refused));
    assert!(!home.join("one").exists() && !home.join(".one.restoring").exists());
    let waived = scene.restore(&home.join("two"), &["--other-machine"]);
    assert!(waived.status.success(), "{}", said(&waived));
    assert!(said(&waived).contains("START IT ONLY WHERE NO OTHER SERVER USES"), "{}", said(&waived));
}

#[tokio::test]
async fn the_script_says_what_it_cannot_tell_of_a_timeline_and_every_way_on_before_it_unpacks() {
    let scene = Scene::new().await;
    let (home, cluster) = (scene.site.cluster.folder("rescued"), &scene.site.cluster);
    let fork = cluster.sql("SELECT pg_current_wal_insert_lsn()");
    let segment =
        cluster.sql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").replacen("00000001", "00000002", 1);
    scene.site.archive();
    let (history, second) = (scene.archive.join("history"), scene.archive.join("00000002"));
    fs::create_dir_all(&history).unwrap();
    fs::create_dir_all(&second).unwrap();
    fs::write(history.join("00000002.history"), format!("1\t{fork}\tno recovery target specified\n")).unwrap();
    let (high, low) = fork.split_once('/').unwrap();
    fs::write(history.join(format!("00000002.given-up.{high:0>8}{low:0>8}.json")), "{}").unwrap();
    // Where its server stopped is locked with a key that nobody has here.
    let locked = second.join(format!("{segment}.zst.age"));
    fs::write(&locked, "age-encryption.org/v1\n").unwrap();
    cluster.give(&scene.archive);
    let follows = |target: &Path| {
        let settings = fs::read_to_string(target.join("data/postgresql.auto.conf")).unwrap();
        let line = settings.lines().rfind(|line| line.starts_with("recovery_target_timeline")).unwrap().to_owned();
        line.trim_start_matches("recovery_target_timeline = ").to_owned()
    };
    let restored = scene.restore(&home.join("locked"), &[]);
    assert!(restored.status.success(), "{}", said(&restored));
    let words = ["NOT KNOWN", "is encrypted", "timeline 00000002 was given up", "start again with --timeline 2"];
    assert!(words.iter().all(|word| said(&restored).contains(word)), "{}", said(&restored));
    assert_eq!(follows(&home.join("locked")), "'current'");
    assert!(!home.join("locked/wal-copy").exists() && !home.join("locked/wal-ends").exists());
    let told = scene.restore(&home.join("told"), &["--timeline", "2"]);
    assert!(told.status.success() && !said(&told).contains("NOT KNOWN"), "{}", said(&told));
    assert_eq!(follows(&home.join("told")), "'2'");
    // It can be read, and nobody can see whether it was written on.
    fs::remove_file(&locked).unwrap();
    fs::write(second.join(&segment), vec![0; 16 << 20]).unwrap();
    cluster.give(&scene.archive);
    let whole = fs::read_to_string(&scene.script).unwrap();
    fs::write(&scene.script, whole.replace("pg_waldump", "no_waldump")).unwrap();
    let blind = scene.restore(&home.join("blind"), &["--other-machine"]);
    assert!(blind.status.success() && said(&blind).contains("NOT KNOWN"), "{}", said(&blind));
    assert_eq!(follows(&home.join("blind")), "'current'");
    fs::write(&scene.script, whole).unwrap();
    // A recovery left what came after the backup, and another number is none of this backup's.
    fs::write(history.join("00000003.history"), "1\t0/1000028\tno recovery target specified\n").unwrap();
    cluster.give(&scene.archive);
    let refusals: [(&[&str], &str); 4] = [
        (&[], "name another with --timeline (1 is"),
        (&["--timeline", "3"], "does not lead on from this backup"),
        (&["--timeline", "9"], "00000009.history is missing"),
        (&["--timeline", "x"], "takes a number"),
    ];
    for (more, words) in refusals {
        let refused = scene.restore(&home.join("refused"), more);
        assert!(!refused.status.success() && said(&refused).contains(words), "{more:?}: {}", said(&refused));
        assert!(!home.join("refused").exists() && !home.join(".refused.restoring").exists());
    }
    let left = scene.restore(&home.join("left"), &["--timeline", "1"]);
    assert!(left.status.success(), "{}", said(&left));
    assert_eq!(follows(&home.join("left")), "'current'");
}
