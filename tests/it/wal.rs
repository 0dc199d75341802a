//! `runbook wal push|fetch` as PostgreSQL calls them: the real binary, real servers, a real folder.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use runbook::base::Digest;
use runbook::catalog;
use runbook::language::inventory::StoreEntry;
use runbook::pgformat::{BackupLabel, ControlFile, Lsn, SegmentName, SegmentSize, Timeline};
use runbook::wal::{Contiguity, contiguity};

use crate::support::cli::until;
use crate::support::postgres::{Cluster, owner_of};

const BINARY: &str = env!("CARGO_BIN_EXE_runbook");

/// A cluster that archives into a store through the binary.
struct Site {
    cluster: Cluster,
    store: PathBuf,
    config: PathBuf,
}

impl Site {
    /// Makes the cluster and the store; nothing is started.
    fn new() -> Self {
        let cluster = Cluster::create(&[("archive_mode", "on"), ("wal_keep_size", "1GB")], &["--wal-segsize=1"]);
        let (store, config) = (cluster.folder("store"), cluster.dir().join("wal.yaml"));
        let site = Self { cluster, store, config };
        site.configure("");
        let config = site.config.display();
        site.cluster.configure(&[
            ("archive_command", &format!("{BINARY} wal push --config {config} %p")),
            ("restore_command", &format!("{BINARY} wal fetch --config {config} %f %p")),
        ]);
        site
    }

    /// Makes the cluster, starts it, and archives `count` segments with a row each.
    fn with_segments(count: u32) -> (Self, Vec<SegmentName>) {
        let site = Self::new();
        assert_eq!(site.code(&["init"]), 0);
        site.cluster.up();
        site.cluster.sql("CREATE TABLE t (i int)");
        let names = (0..count).map(|i| site.fill_segment(i)).collect();
        (site, names)
    }

    /// Inserts a row and archives the segment it is in.
    fn fill_segment(&self, row: u32) -> SegmentName {
        self.cluster.sql(&format!("INSERT INTO t VALUES ({row})"));
        let name: SegmentName = self.cluster.sql("SELECT pg_walfile_name(pg_switch_wal())").parse().unwrap();
        self.until(&format!("(SELECT last_archived_wal >= '{name}' FROM pg_stat_archiver)"));
        name
    }

    /// Waits inside the server until a condition is true, at most half a minute.
    fn until(&self, condition: &str) {
        let sql = format!(
            "DO $$ BEGIN FOR i IN 1..3000 LOOP IF {condition} THEN RETURN; END IF; PERFORM pg_sleep(0.01); \
             PERFORM pg_stat_clear_snapshot(); END LOOP; RAISE 'the condition never came true'; END $$"
        );
        self.cluster.sql(&sql);
    }

    /// The store, with segments as they are.
    fn plain(&self) -> String {
        format!("{{ url: \"file://{}\", compression: {{ format: none }} }}", self.store.display())
    }

    /// Writes the configuration with further lines.
    fn configure(&self, more: &str) {
        let text = format!("store: {}\nprefix: app\nretry_for: 0s\n{more}", self.plain());
        fs::write(&self.config, text).unwrap();
        self.cluster.give(&self.config);
    }

    /// Runs the binary as the server does: its user, its folder, hardly any environment.
    fn wal(&self, args: &[&str]) -> Output {
        let (verb, rest) = args.split_first().unwrap();
        let mut command = Command::new(BINARY);
        command.arg("wal").arg(verb).arg("--config").arg(&self.config).args(rest);
        command.env_clear().current_dir(self.cluster.pgdata()).stdin(Stdio::null());
        if let Some((uid, gid)) = self.cluster.owner() {
            command.uid(uid).gid(gid);
        }
        command.output().unwrap()
    }

    fn code(&self, args: &[&str]) -> i32 {
        let output = self.wal(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.lines().count() <= 1, "more than one line: {said}");
        output.status.code().expect("an exit code, not a signal")
    }

    /// Fetches and tells the code; a failed fetch must leave nothing at the target.
    fn fetch(&self, name: &str) -> i32 {
        let target = self.cluster.pgdata().join("pg_wal/RECOVERYXLOG");
        let _ = fs::remove_file(&target);
        let code = self.code(&["fetch", name, "pg_wal/RECOVERYXLOG"]);
        assert_eq!(target.exists(), code == 0, "{name}: code {code}");
        code
    }

    fn object(&self, name: SegmentName) -> PathBuf {
        let control = ControlFile::parse(&fs::read(self.cluster.pgdata().join(ControlFile::PATH)).unwrap()).unwrap();
        self.store.join(format!("app/wal/{}/{}/{name}", control.system_id, name.timeline().hex()))
    }

    fn local(&self, name: SegmentName) -> PathBuf {
        self.cluster.pgdata().join("pg_wal").join(name.to_string())
    }
}

fn size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

/// Puts a segment of the cluster into a rescue folder: a real one under the header of another position.
fn rescued(site: &Site, folder: &Path, name: SegmentName) {
    let control = ControlFile::parse(&fs::read(site.cluster.pgdata().join(ControlFile::PATH)).unwrap()).unwrap();
    let real = SegmentName::holding(control.timeline, control.checkpoint, size());
    let mut bytes = fs::read(site.local(real)).unwrap();
    bytes[8..16].copy_from_slice(&name.start(size()).0.to_le_bytes());
    let path = folder.join(name.to_string());
    fs::write(&path, bytes).unwrap();
    site.cluster.give(&path);
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_server_archives_through_push_and_nothing_is_overwritten() {
    let (site, names) = Site::with_segments(3);
    for name in &names {
        assert_eq!(
            Digest::of(&fs::read(site.object(*name)).unwrap()),
            Digest::of(&fs::read(site.local(*name)).unwrap())
        );
        assert_eq!(owner_of(&site.object(*name)), owner_of(&site.store));
    }
    let path = format!("pg_wal/{}", names[0]);
    assert_eq!(site.code(&["push", &path]), 0, "the same content again is success");
    let stored = fs::read(site.object(names[0])).unwrap();
    site.cluster.stop("fast");
    flip(&site.local(names[0]), 5000);
    assert_eq!(site.code(&["push", &path]), 1, "other content is refused");
    assert_eq!(fs::read(site.object(names[0])).unwrap(), stored);
}

#[test]
fn a_failing_push_shows_in_pg_stat_archiver_and_is_made_good() {
    let site = Site::new();
    site.cluster.up();
    // The store was never made, as when its disk is not mounted: nothing may be written there.
    site.cluster.sql("SELECT pg_switch_wal()");
    site.until("(SELECT failed_count > 0 FROM pg_stat_archiver)");
    assert_eq!(fs::read_dir(&site.store).unwrap().count(), 0);
    assert_eq!(site.code(&["init"]), 0);
    site.until("(SELECT archived_count > 0 FROM pg_stat_archiver)");
    assert!(!site.cluster.log().contains("FATAL"), "{}", site.cluster.log());
}

#[test]
fn push_refuses_what_is_not_what_its_name_says() {
    let (site, names) = Site::with_segments(2);
    let folder = site.cluster.folder("data/odd");
    let put = |name: &str, bytes: &[u8]| {
        fs::write(folder.join(name), bytes).unwrap();
        site.code(&["push", &format!("odd/{name}")])
    };
    let bytes = fs::read(site.local(names[1])).unwrap();
    let next = names[1].next(size()).to_string();
    assert_eq!(put(&next, &bytes), 1, "another segment number");
    assert_eq!(put(&names[1].on(Timeline(9)).to_string(), &bytes[..bytes.len() - 1]), 1, "too short");
    assert_eq!(put(&next, &[0; 8192]), 1, "no WAL");
    assert_eq!(put("notes.txt", b"hello"), 1, "no name of WAL");
    assert_eq!(put("00000002.history", b"nonsense"), 1, "no history");
    assert_eq!(put("00000002.history", b"1\t0/300000\tbecause\n"), 0);
    let taken = format!("{} this keeps its number\n", runbook::pgformat::NUMBER_TAKEN);
    assert_eq!(
        put("00000003.history", taken.as_bytes()),
        0,
        "a standby that archives asks for it without end otherwise"
    );
    assert_eq!(site.fetch("00000003.history"), 1, "it is no history");
    assert_eq!(put("00000002.history", b"1\t0/400000\tbecause\n"), 1, "another history under the same name");
    assert_eq!(put(&format!("{}.partial", names[1]), &bytes), 0);
    assert_eq!(site.code(&["push", "pg_wal/00000001000000000000FFFF"]), 1, "no such file");
}

#[test]
fn a_second_cluster_under_the_same_prefix_is_refused() {
    let (site, names) = Site::with_segments(1);
    let other = Cluster::create(&[], &["--wal-segsize=1"]);
    let control = ControlFile::parse(&fs::read(other.pgdata().join(ControlFile::PATH)).unwrap()).unwrap();
    let name = SegmentName::holding(control.timeline, control.redo, size());
    let theirs = format!("pg_wal/{name}");
    let odd = site.cluster.folder("data/odd").join(name.to_string());
    fs::copy(other.pgdata().join(&theirs), &odd).unwrap();
    site.cluster.give(&odd);
    let output = site.wal(&["push", &theirs.replace("pg_wal", "odd")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("belongs to cluster"), "{output:?}");
    site.configure(&format!("pgdata: {}\n", other.pgdata().display()));
    let output = site.wal(&["push", &theirs]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("holds the WAL of cluster"), "{output:?}");
    site.configure("system_id: \"1\"\n");
    assert_eq!(site.code(&["push", &format!("pg_wal/{}", names[0])]), 1, "the configuration names another cluster");
}

#[test]
fn fetch_tells_the_end_of_the_wal_from_a_hole() {
    let (site, names) = Site::with_segments(4);
    site.cluster.stop("fast");
    let last = fs::read_dir(site.object(names[0]).parent().unwrap()).unwrap();
    let last = last.filter_map(|e| e.unwrap().file_name().to_str()?.parse::<SegmentName>().ok()).max().unwrap();
    assert_eq!(site.fetch(&names[1].to_string()), 0);
    let target = site.cluster.pgdata().join("pg_wal/RECOVERYXLOG");
    assert_eq!(fs::read(&target).unwrap(), fs::read(site.local(names[1])).unwrap());
    assert_eq!(site.fetch(&last.next(size()).to_string()), 1, "the next segment");
    for name in ["00000002.history", &format!("{last}.partial"), &format!("{last}.00000028.backup")] {
        assert_eq!(site.fetch(name), 1, "{name}");
    }
    fs::rename(site.object(names[1]), site.store.join("aside")).unwrap();
    assert_eq!(site.fetch(&names[1].to_string()), 126, "a hole");
    site.configure(&format!("rescue: [{}]\n", site.cluster.pgdata().join("pg_wal").display()));
    assert_eq!(site.fetch(&names[1].to_string()), 0, "a hole that the rescue folder fills");
    let rescue = site.cluster.folder("rescue");
    let (next, later) = (last.next(size()), last.next(size()).next(size()));
    site.configure(&format!("rescue: [{}]\n", rescue.display()));
    assert_eq!(site.fetch(&next.to_string()), 1, "nothing was rescued");
    rescued(&site, &rescue, later);
    assert_eq!(site.fetch(&next.to_string()), 126, "a hole between the archive and what was rescued");
    assert_eq!(site.fetch(&later.to_string()), 0, "the rescued tail");
    site.configure("log: /nowhere/at/all\nprefix: app\n");
    assert_eq!(site.fetch(&names[3].to_string()), 126, "a key twice in the configuration");
    fs::write(&site.config, format!("store: {}\nprefix: ap\nretry_for: 0s\n", site.plain())).unwrap();
    assert_eq!(site.fetch(&next.to_string()), 126, "a wrong prefix is no proof of absence");
    site.configure("log: /nowhere/at/all\n");
    flip(&site.object(names[2]), 700_000);
    assert_eq!(site.fetch(&names[2].to_string()), 126, "corrupt");
    for wrong in [&["fetch"][..], &["fetch", "x"], &["fetch", "RECOVERYXLOG", "pg_wal/x"], &["nonsense"]] {
        assert_eq!(site.code(wrong), 126, "{wrong:?}");
    }
}

#[test]
fn a_segment_that_a_later_one_overtook_is_waited_for_and_a_standby_is_told_to_ask_again() {
    let (site, names) = Site::with_segments(3);
    site.cluster.stop("fast");
    let away = site.store.join("aside");
    fs::rename(site.object(names[1]), &away).unwrap();
    let signal = site.cluster.pgdata().join("standby.signal");
    fs::write(&signal, "").unwrap();
    assert_eq!(site.fetch(&names[1].to_string()), 1, "its server goes on asking");
    fs::remove_file(&signal).unwrap();
    assert_eq!(site.fetch(&names[1].to_string()), 126, "without patience");
    fs::write(&site.config, format!("store: {}\nprefix: app\nretry_for: 60s\n", site.plain())).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["wal", "fetch", "--config"]).arg(&site.config).arg(names[1].to_string()).arg("pg_wal/RECOVERYXLOG");
    command.env_clear().current_dir(site.cluster.pgdata()).stdin(Stdio::null());
    if let Some((uid, gid)) = site.cluster.owner() {
        command.uid(uid).gid(gid);
    }
    let mut fetch = command.spawn().unwrap();
    // One that gives up has ended long before.
    let began = runbook::base::clock::monotonic();
    until("it looks more than once", || began.elapsed() > Duration::from_secs(1));
    assert!(fetch.try_wait().unwrap().is_none(), "it gave up");
    fs::rename(&away, site.object(names[1])).unwrap();
    assert_eq!(fetch.wait().unwrap().code(), Some(0));
}

#[test]
fn fetch_never_calls_an_unreachable_archive_the_end() {
    let (site, names) = Site::with_segments(2);
    site.cluster.stop("fast");
    let (name, beyond) = (names[0].to_string(), "0000000100000000000000F0");
    let signal = site.cluster.pgdata().join("standby.signal");
    let away = site.store.with_extension("away");
    fs::rename(&site.store, &away).unwrap();
    assert_eq!(site.fetch(&name), 126, "gone");
    assert_eq!(site.fetch("00000002.history"), 126, "gone");
    site.cluster.folder("store");
    assert_eq!(site.fetch(&name), 126, "an empty folder, as of a disk that is not mounted");
    assert_eq!(site.fetch(beyond), 126);
    fs::write(&signal, "").unwrap();
    assert_eq!(site.fetch(&name), 1, "a standby waits");
    fs::remove_dir(&site.store).unwrap();
    fs::rename(&away, &site.store).unwrap();
    // Rights that somebody took away, as credentials that ran out: `cp` would have kept a standby waiting, too.
    let own = fs::metadata(&site.store).unwrap();
    fs::set_permissions(&site.store, PermissionsExt::from_mode(0o000)).unwrap();
    std::os::unix::fs::chown(&site.store, Some(rustix::process::geteuid().as_raw()), None).unwrap();
    assert_eq!(site.fetch(&name), 1, "a standby waits");
    fs::remove_file(&signal).unwrap();
    assert_eq!(site.fetch(&name), 126, "no rights");
    assert_eq!(site.fetch(beyond), 126, "no rights");
    fs::write(&signal, "").unwrap();
    fs::set_permissions(&site.store, own.permissions()).unwrap();
    std::os::unix::fs::chown(&site.store, Some(own.uid()), None).unwrap();
    flip(&site.object(names[0]), 9000);
    assert_eq!(site.fetch(&name), 126, "damage does not pass, on a standby either");
    fs::remove_file(&signal).unwrap();
    fs::remove_file(site.cluster.pgdata().join(ControlFile::PATH)).unwrap();
    assert_eq!(site.fetch(beyond), 126, "without pg_control the cluster is not known");
}

#[test]
fn a_push_that_is_killed_leaves_no_half_object() {
    let (site, names) = Site::with_segments(1);
    site.cluster.stop("fast");
    let object = site.object(names[0]);
    let content = Digest::of(&fs::read(site.local(names[0])).unwrap());
    let (mut killed, mut done) = (0, 0);
    for round in 0..60u64 {
        let _ = fs::remove_file(&object);
        let mut command = Command::new(BINARY);
        command.args(["wal", "push", "--config"]).arg(&site.config).arg(format!("pg_wal/{}", names[0]));
        let mut child = command.current_dir(site.cluster.pgdata()).stderr(Stdio::null()).spawn().unwrap();
        // Not a wait for anything: it chooses the moment of the crash.
        std::thread::sleep(Duration::from_micros(round * 400));
        child.kill().unwrap();
        match child.wait().unwrap().code() {
            Some(_) => done += 1,
            None => killed += 1,
        }
        if object.exists() {
            assert_eq!(Digest::of(&fs::read(&object).unwrap()), content, "round {round}");
            assert_eq!(site.fetch(&names[0].to_string()), 0, "round {round}");
        }
    }
    assert!(killed > 5, "killed {killed}, done {done}");
    let command = site.wal(&["push", &format!("pg_wal/{}", names[0])]);
    assert_eq!(command.status.code(), Some(0), "{command:?}");
    assert_eq!(site.fetch(&names[0].to_string()), 0);
}

/// What the archive has of the path to timeline 2.
fn contiguous_from(site: &Site, start: Lsn) -> Contiguity {
    let entry =
        StoreEntry { url: format!("file://{}", site.store.display()), read_only: true, ..StoreEntry::default() };
    let store = runbook::store::Opening::plain(&entry, "s").open_read().unwrap();
    let control = ControlFile::parse(&fs::read(site.cluster.pgdata().join(ControlFile::PATH)).unwrap()).unwrap();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
        let histories = catalog::histories(&*store, "app", control.system_id).await.unwrap();
        let archive = ("app", control.system_id, control.segment_size);
        contiguity(&*store, archive, &histories[&Timeline(2)], start, None).await.unwrap()
    })
}

/// Takes a base backup, goes on, stops, and puts the backup in the place of the data directory.
fn lost_and_restored(site: &Site) -> Vec<SegmentName> {
    let backup = site.cluster.dir().join("backup");
    let (port, socket) = (site.cluster.port().to_string(), site.cluster.socket_dir());
    let arguments = ["-U", "postgres", "-p", &port, "-c", "fast", "-h", socket.to_str().unwrap(), "-D"];
    site.cluster.output("pg_basebackup", &[&arguments[..], &[backup.to_str().unwrap()]].concat());
    let names = (100..105).map(|row| site.fill_segment(row)).collect();
    site.cluster.stop("immediate");
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    fs::rename(&backup, site.cluster.pgdata()).unwrap();
    let signal = site.cluster.pgdata().join("recovery.signal");
    fs::write(&signal, "").unwrap();
    site.cluster.give(&signal);
    names
}

#[test]
fn a_lost_cluster_comes_back_whole_through_fetch() {
    let (site, _) = Site::with_segments(2);
    lost_and_restored(&site);
    let label = fs::read_to_string(site.cluster.pgdata().join("backup_label")).unwrap();
    let start = BackupLabel::parse(&label).unwrap().start;
    site.cluster.up();
    site.until("NOT pg_is_in_recovery()");
    assert_eq!(site.cluster.sql("SELECT count(*) FROM t"), "7");
    let name = site.fill_segment(200);
    assert_eq!(name.timeline(), Timeline(2));
    assert!(site.object(name).exists(), "archiving goes on, on the new timeline");
    let found = contiguous_from(&site, start);
    assert!(found.is_whole() && found.first.timeline() == Timeline(1) && found.last == name, "{found:?}");
    let hole = found.first.next(size());
    fs::remove_file(site.object(hole)).unwrap();
    let found = contiguous_from(&site, start);
    assert_eq!((found.missing, found.reaches), (vec![hole], hole.start(size())));
}

#[test]
fn a_server_does_not_open_over_a_hole() {
    let (site, _) = Site::with_segments(2);
    let names = lost_and_restored(&site);
    fs::remove_file(site.object(names[2])).unwrap();
    // It may answer for a moment, once it is consistent; what counts is that it ends in recovery.
    let _ = site.cluster.try_up();
    while site.cluster.pid().is_some() {
        std::thread::yield_now();
    }
    assert!(site.cluster.log().contains("FATAL:  could not restore file"), "{}", site.cluster.log());
    let bytes = fs::read(site.cluster.pgdata().join(ControlFile::PATH)).unwrap();
    assert_eq!(ControlFile::parse(&bytes).unwrap().timeline, Timeline(1));
    assert!(site.cluster.pgdata().join("recovery.signal").exists());
}
