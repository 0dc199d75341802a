//! What push and fetch do ahead of the server: company, spool, several stores, and what survives when any of it dies.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use runbook::pgformat::{ControlFile, SegmentName, SystemId};

use crate::support::cli::until;
use crate::support::load::{Acknowledged, COUNTS, Load, Pace, TABLE};
use crate::support::postgres::Cluster;

const BINARY: &str = env!("CARGO_BIN_EXE_runbook");
/// Rows that a backlog is made of, one to a segment.
const ROWS: u32 = 8;

/// A cluster whose archiver is switched by hand, with a spool and stores.
pub struct Site {
    pub cluster: Cluster,
    pub config: PathBuf,
}

impl Site {
    /// A cluster that runs and archives nothing yet, with segments that wait.
    pub fn with_backlog(rows: u32) -> Self {
        let settings = [("archive_mode", "on"), ("archive_command", "false"), ("wal_keep_size", "1GB")];
        let cluster = Cluster::create(&settings, &["--wal-segsize=1"]);
        let config = cluster.dir().join("wal.yaml");
        let site = Self { cluster, config };
        site.configure(&format!("store: {}\n", site.url("store")));
        assert_eq!(site.wal(&["init"]).status.code(), Some(0));
        site.cluster.up();
        site.cluster.sql("CREATE TABLE t (i int)");
        for row in 0..rows {
            site.cluster.sql(&format!("INSERT INTO t VALUES ({row}); SELECT pg_switch_wal()"));
        }
        site
    }

    pub fn url(&self, store: &str) -> String {
        format!("\"file://{}\"", self.cluster.folder(store).display())
    }

    fn spool(&self) -> PathBuf {
        self.cluster.dir().join("spool")
    }

    /// Writes the configuration: the stores, and what every test has.
    fn configure(&self, stores: &str) {
        let spool = self.spool();
        let text = format!("{stores}prefix: app\nretry_for: 0s\nspool: {}\n", spool.display());
        fs::write(&self.config, text).unwrap();
        self.cluster.give(&self.config);
    }

    fn command(&self, args: &[&str]) -> Command {
        let (verb, rest) = args.split_first().unwrap();
        let mut command = Command::new(BINARY);
        command.arg("wal").arg(verb).arg("--config").arg(&self.config).args(rest);
        command.env_clear().current_dir(self.cluster.pgdata()).stdin(Stdio::null());
        if let Some((uid, gid)) = self.cluster.owner() {
            command.uid(uid).gid(gid);
        }
        command
    }

    pub fn wal(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// The segments that wait to be archived.
    pub fn waiting(&self) -> Vec<SegmentName> {
        let status = self.cluster.pgdata().join("pg_wal/archive_status");
        let names = fs::read_dir(status).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut found: Vec<SegmentName> = names.filter_map(|name| name.strip_suffix(".ready")?.parse().ok()).collect();
        found.sort_unstable();
        found
    }

    fn system_id(&self) -> SystemId {
        let bytes = fs::read(self.cluster.pgdata().join(ControlFile::PATH)).unwrap();
        ControlFile::parse(&bytes).unwrap().system_id
    }

    /// Where a store has the segments of the first timeline.
    fn timeline_of(&self, store: &str) -> PathBuf {
        self.cluster.dir().join(store).join(format!("app/wal/{}/00000001", self.system_id()))
    }

    /// The segments that a store has, by the names of their objects.
    fn stored(&self, store: &str) -> Vec<SegmentName> {
        let names = fs::read_dir(self.timeline_of(store)).into_iter().flatten().map(|entry| entry.unwrap().file_name());
        let mut found: Vec<SegmentName> =
            names.filter_map(|name| name.to_str()?.strip_suffix(".zst")?.parse().ok()).collect();
        found.sort_unstable();
        found
    }

    /// The files below a folder of the spool whose name begins with `kind`.
    fn spooled(&self, kind: &str) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.spool().join(self.system_id().to_string())).into_iter().flatten();
        let folders = folders.map(|folder| folder.unwrap().path());
        let ours = folders.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(kind));
        let mut files: Vec<PathBuf> =
            ours.flat_map(|folder| fs::read_dir(folder).unwrap().map(|file| file.unwrap().path())).collect();
        files.sort();
        files
    }

    fn push(&self, segment: SegmentName) -> Output {
        self.wal(&["push", &format!("pg_wal/{segment}")])
    }

    /// Waits inside the server until a condition is true, at most a minute.
    fn until(&self, condition: &str) {
        let sql = format!(
            "DO $$ BEGIN FOR i IN 1..6000 LOOP IF {condition} THEN RETURN; END IF; PERFORM pg_sleep(0.01); \
             PERFORM pg_stat_clear_snapshot(); END LOOP; RAISE 'the condition never came true'; END $$"
        );
        self.cluster.sql(&sql);
    }

    /// Lets the server's own archiver work with a command.
    fn archive_with(&self, command: &str) {
        self.cluster.configure(&[("archive_command", command)]);
        self.cluster.sql("SELECT pg_reload_conf()");
    }

    fn push_command(&self) -> String {
        format!("{BINARY} wal push --config {} %p", self.config.display())
    }

    /// Puts a base backup in the place of the data directory, ready to recover through fetch.
    fn lose_and_restore(&self, backup: &Path) {
        self.cluster.stop("immediate");
        fs::remove_dir_all(self.cluster.pgdata()).unwrap();
        fs::rename(backup, self.cluster.pgdata()).unwrap();
        let fetch = format!("{BINARY} wal fetch --config {} %f %p", self.config.display());
        self.cluster.configure(&[("restore_command", &fetch), ("archive_command", &self.push_command())]);
        let signal = self.cluster.pgdata().join("recovery.signal");
        fs::write(&signal, "").unwrap();
        self.cluster.give(&signal);
    }

    /// Starts the server again as soon as nothing of a killed one is left.
    fn up_again(&self) {
        until("the server starts again", || self.cluster.try_up().status.success());
    }

    fn base_backup(&self) -> PathBuf {
        let backup = self.cluster.dir().join("backup");
        let (port, socket) = (self.cluster.port().to_string(), self.cluster.socket_dir());
        let arguments = ["-U", "postgres", "-p", &port, "-c", "fast", "-h", socket.to_str().unwrap(), "-D"];
        self.cluster.output("pg_basebackup", &[&arguments[..], &[backup.to_str().unwrap()]].concat());
        backup
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_push_stores_what_waits_behind_it_and_is_asked_for_it_in_vain() {
    let site = Site::with_backlog(ROWS);
    let waiting = site.waiting();
    assert!(waiting.len() >= ROWS as usize);
    let output = site.push(waiting[0]);
    assert_eq!((output.status.code(), words(&output)), (Some(0), String::new()));
    assert_eq!(site.stored("store"), waiting, "one call stored them all");
    assert_eq!(site.spooled("pushed").len(), waiting.len() - 1);
    // The note answers: nothing is read or stored again.
    for segment in &waiting[1..] {
        let output = site.push(*segment);
        assert_eq!((output.status.code(), words(&output)), (Some(0), String::new()), "{segment}");
    }
    // But not where there is no store any more.
    fs::rename(site.cluster.dir().join("store"), site.cluster.dir().join("away")).unwrap();
    assert_eq!([0, 1].map(|at| site.push(waiting[at]).status.code()), [Some(1); 2]);
    assert_eq!(site.spooled("pushed").len(), waiting.len() - 1, "a store that is away denies nothing");
    fs::rename(site.cluster.dir().join("away"), site.cluster.dir().join("store")).unwrap();
    site.archive_with(&site.push_command());
    site.until("(SELECT count(*) = 0 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready')");
    site.fill_and_archive();
    let left: Vec<String> = site.spooled("pushed").iter().map(|path| path.display().to_string()).collect();
    assert_eq!(left, Vec::<String>::new(), "notes of what waits no more are gone");
}

#[test]
fn what_was_pushed_ahead_is_pushed_again_where_the_store_was_made_anew_or_rolled_back() {
    let site = Site::with_backlog(ROWS);
    let waiting = site.waiting();
    assert_eq!(site.push(waiting[0]).status.code(), Some(0));
    assert_eq!(site.spooled("pushed").len(), waiting.len() - 1);
    fs::rename(site.cluster.dir().join("store"), site.cluster.dir().join("away")).unwrap();
    site.cluster.folder("store");
    assert_eq!(site.wal(&["init"]).status.code(), Some(0));
    for segment in &waiting[1..] {
        let output = site.push(*segment);
        assert_eq!(output.status.code(), Some(0), "{segment}: {}", words(&output));
        assert!(
            site.stored("store").contains(segment),
            "{segment} is nowhere, and its server was told that it is safe"
        );
    }
    // The same store as it was before: two segments are gone from it.
    fs::remove_dir_all(site.spool().join(site.system_id().to_string())).unwrap();
    fs::remove_dir_all(site.cluster.dir().join("store")).unwrap();
    fs::rename(site.cluster.dir().join("away"), site.cluster.dir().join("store")).unwrap();
    assert_eq!(site.push(waiting[0]).status.code(), Some(0));
    for segment in &waiting[1..3] {
        fs::remove_file(site.timeline_of("store").join(format!("{segment}.zst"))).unwrap();
    }
    for segment in &waiting[1..] {
        assert_eq!(site.push(*segment).status.code(), Some(0), "{segment}");
        assert!(site.stored("store").contains(segment), "{segment}");
    }
}

impl Site {
    fn fill_and_archive(&self) {
        // One after the other: the commit must lie before the switch.
        self.cluster.sql("INSERT INTO t VALUES (99)");
        let name = self.cluster.sql("SELECT pg_walfile_name(pg_switch_wal())");
        self.until(&format!("(SELECT last_archived_wal >= '{name}' FROM pg_stat_archiver)"));
    }
}

#[test]
fn a_note_is_worth_nothing_for_another_content_another_archive_or_another_cluster() {
    let site = Site::with_backlog(3);
    let waiting = site.waiting();
    assert_eq!(site.push(waiting[0]).status.code(), Some(0));
    site.cluster.stop("fast");
    // The same name with other content, as after a restore without a new timeline.
    let path = site.cluster.pgdata().join(format!("pg_wal/{}", waiting[1]));
    flip(&path, 500_000);
    let output = site.push(waiting[1]);
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(words(&output).contains("other content"), "{}", words(&output));
    // The same file for another archive.
    site.configure(&format!("store: {}\n", site.url("second")));
    assert_eq!(site.wal(&["init"]).status.code(), Some(0));
    assert_eq!(site.push(waiting[2]).status.code(), Some(0));
    assert!(site.stored("second").contains(&waiting[2]));
}

#[test]
fn a_spool_that_cannot_be_used_is_said_and_costs_nothing_but_speed() {
    let site = Site::with_backlog(3);
    let waiting = site.waiting();
    fs::create_dir(site.spool()).unwrap();
    fs::set_permissions(site.spool(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    for segment in &waiting {
        let output = site.push(*segment);
        assert_eq!(output.status.code(), Some(0), "{}", words(&output));
        assert!(words(&output).contains("the spool cannot be used"), "{}", words(&output));
        assert!(site.stored("store").contains(segment));
    }
}

#[test]
fn several_stores_must_all_have_a_segment_unless_fewer_are_enough_and_then_it_is_said() {
    let site = Site::with_backlog(4);
    let waiting = site.waiting();
    let both = format!("stores: [{}, {}]\n", site.url("store"), site.url("second"));
    site.configure(&both);
    let output = site.push(waiting[0]);
    assert_eq!(output.status.code(), Some(1), "the second is no store yet");
    assert!(words(&output).contains("safe in 1 stores, wanted are 2"), "{}", words(&output));
    site.configure(&format!("{both}at_least: 1\n"));
    let output = site.push(waiting[0]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    assert!(words(&output).contains("not in every store") && words(&output).contains("lacks"), "{}", words(&output));
    assert_eq!((site.stored("store"), site.stored("second")), (waiting.clone(), Vec::new()));
    assert_eq!(site.spooled("owed").len(), waiting.len(), "what one lacks is noted");
    // It comes back: what it lacks is copied with the next push.
    assert_eq!(site.wal(&["init"]).status.code(), Some(0));
    site.cluster.sql("INSERT INTO t VALUES (99); SELECT pg_switch_wal()");
    let newest = *site.waiting().last().unwrap();
    let output = site.push(newest);
    assert_eq!((output.status.code(), words(&output)), (Some(0), String::new()));
    assert_eq!(site.stored("second"), site.stored("store"));
    assert_eq!(site.spooled("owed"), Vec::<PathBuf>::new());
    // And a fetch takes a segment from whichever has it.
    for (store, segment) in [("store", waiting[1]), ("second", waiting[2])] {
        let folder = site.cluster.dir().join(store).join(format!("app/wal/{}/00000001", site.system_id()));
        fs::remove_file(folder.join(format!("{segment}.zst"))).unwrap();
        assert_eq!(site.wal(&["fetch", &segment.to_string(), "odd"]).status.code(), Some(0), "{segment}");
    }
}

impl Site {
    /// One more segment, pushed.
    fn push_another(&self) -> Output {
        self.cluster.sql("INSERT INTO t VALUES (100); SELECT pg_switch_wal()");
        self.push(*self.waiting().last().unwrap())
    }

    pub fn object(&self, store: &str, segment: SegmentName) -> PathBuf {
        self.cluster.dir().join(store).join(format!("app/wal/{}/00000001/{segment}.zst", self.system_id()))
    }
}

#[test]
fn what_a_store_lacks_and_nobody_could_note_is_no_success() {
    let site = Site::with_backlog(2);
    let waiting = site.waiting();
    fs::create_dir(site.spool()).unwrap();
    fs::set_permissions(site.spool(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    site.configure(&format!("stores: [{}, {}]\nat_least: 1\n", site.url("store"), site.url("second")));
    let output = site.push(waiting[0]);
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(words(&output).contains("cannot be noted") && words(&output).contains("the spool"), "{}", words(&output));
    assert_eq!(site.wal(&["init"]).status.code(), Some(0));
    assert_eq!(site.push(waiting[0]).status.code(), Some(0), "every store has it: there is nothing to note");
}

#[test]
fn other_content_in_one_of_several_stores_fails_the_push_however_many_are_enough() {
    let site = Site::with_backlog(2);
    let waiting = site.waiting();
    site.cluster.stop("fast");
    site.configure(&format!("store: {}\n", site.url("second")));
    assert_eq!(site.wal(&["init"]).status.code(), Some(0));
    let path = site.cluster.pgdata().join(format!("pg_wal/{}", waiting[0]));
    flip(&path, 500_000);
    assert_eq!(site.push(waiting[0]).status.code(), Some(0));
    flip(&path, 500_000);
    site.configure(&format!("stores: [{}, {}]\nat_least: 1\n", site.url("store"), site.url("second")));
    let output = site.push(waiting[0]);
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(words(&output).contains("other content") && words(&output).contains("/second"), "{}", words(&output));
}

#[test]
fn files_that_cannot_be_copied_keep_no_other_waiting_and_what_nobody_has_any_more_is_owed_to_nobody() {
    let site = Site::with_backlog(14);
    let waiting = site.waiting();
    site.configure(&format!("stores: [{}, {}]\nat_least: 1\n", site.url("store"), site.url("second")));
    assert_eq!(site.push(waiting[0]).status.code(), Some(0));
    assert_eq!(site.spooled("owed").len(), waiting.len());
    for segment in &waiting[..9] {
        flip(&site.object("store", *segment), 40);
    }
    fs::remove_file(site.object("store", waiting[9])).unwrap();
    assert_eq!(site.wal(&["init"]).status.code(), Some(0));
    let mut said = String::new();
    for _ in 0..3 {
        said = words(&site.push_another());
    }
    // The first one was asked for, and is in the company of each push until every store has it.
    assert!(said.contains("lacks 8 files"), "{said}");
    let owed: Vec<String> = site.spooled("owed").iter().map(|path| path.display().to_string()).collect();
    assert!(
        waiting[1..9].iter().all(|segment| owed.iter().any(|path| path.ends_with(&segment.to_string()))),
        "{owed:?}"
    );
    assert!(waiting[10..].iter().all(|segment| site.object("second", *segment).exists()));
    // One that is there with other content is no copy.
    fs::copy(site.object("store", waiting[10]), site.object("second", waiting[1])).unwrap();
    assert!(words(&site.push_another()).contains("lacks 8 files"), "{}", site.spooled("owed").len());
}

#[test]
fn pushes_and_servers_that_are_killed_at_any_moment_lose_nothing_that_was_acknowledged() {
    let site = Site::with_backlog(0);
    let backup = {
        site.archive_with(&site.push_command());
        site.base_backup()
    };
    let mut hits = 0;
    for round in 0..12_u64 {
        let rows = format!("INSERT INTO t SELECT {round} FROM generate_series(1, 4000); SELECT pg_switch_wal()");
        for _ in 0..3 {
            site.cluster.sql(&rows);
        }
        // Not waits for anything: they choose the moment of the crash.
        std::thread::sleep(Duration::from_millis(7 * round));
        hits += kill_pushes(&site);
        if round % 4 == 3 {
            site.cluster.kill();
            hits += kill_pushes(&site);
            site.up_again();
        }
    }
    if hits == 0 {
        hits = hit_a_push(&site);
    }
    assert!(hits > 0, "nothing was killed");
    site.fill_and_archive();
    let count = site.cluster.sql("SELECT count(*), sum(i) FROM t");
    site.lose_and_restore(&backup);
    site.cluster.up();
    site.until("NOT pg_is_in_recovery()");
    assert_eq!(site.cluster.sql("SELECT count(*), sum(i) FROM t"), count);
}

/// Archives until a push was killed in the middle of it.
fn hit_a_push(site: &Site) -> usize {
    let mut hits = 0;
    until("a push is hit", || {
        site.cluster.sql("INSERT INTO t SELECT 1 FROM generate_series(1, 4000); SELECT pg_switch_wal()");
        (0..50).any(|_| {
            hits += kill_pushes(site);
            hits > 0
        })
    });
    hits
}

/// Starts the server without waiting for it.
fn begin_to_start(site: &Site) {
    let mut starting = site.cluster.command("pg_ctl");
    starting.args(["-W", "start", "-D"]).arg(site.cluster.pgdata());
    starting.arg("-l").arg(site.cluster.dir().join("server.log"));
    let _ = starting.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Begins to recover until a fetch was killed in the middle of it.
fn hit_a_fetch(site: &Site) -> usize {
    let mut hits = 0;
    until("a fetch is hit", || {
        begin_to_start(site);
        (0..50).any(|_| {
            hits += kill_pushes(site);
            hits > 0
        });
        site.cluster.kill();
        hits > 0
    });
    hits
}

/// Kills every push and fetch of the site's configuration, and only those. Tells how many there were.
fn kill_pushes(site: &Site) -> usize {
    let (config, mut hits) = (site.config.display().to_string(), 0);
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let is_ours = words.get(1) == Some(&&b"wal"[..]) && words.contains(&config.as_bytes());
        if let (true, Some(pid)) = (is_ours, rustix::process::Pid::from_raw(pid)) {
            hits += usize::from(rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok());
        }
    }
    hits
}

/// Archives a backlog, takes a base backup before it, and stops.
fn archived(rows: u32) -> (Site, PathBuf, String) {
    let site = Site::with_backlog(0);
    site.archive_with(&site.push_command());
    let backup = site.base_backup();
    for row in 0..rows {
        site.cluster.sql(&format!("INSERT INTO t VALUES ({row}); SELECT pg_switch_wal()"));
    }
    site.fill_and_archive();
    let count = site.cluster.sql("SELECT count(*), sum(i) FROM t");
    (site, backup, count)
}

#[test]
fn a_recovery_takes_segments_that_were_fetched_ahead_and_leaves_no_process_behind() {
    let (site, backup, count) = archived(40);
    site.lose_and_restore(&backup);
    site.cluster.up();
    site.until("NOT pg_is_in_recovery()");
    assert_eq!(site.cluster.sql("SELECT count(*), sum(i) FROM t"), count);
    let ahead = site.spool().join(site.system_id().to_string());
    let ahead: Vec<_> = fs::read_dir(ahead).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(ahead.iter().any(|name| name.to_str().unwrap().starts_with("ahead-")), "{ahead:?}");
    site.cluster.stop("fast");
    let began = runbook::base::clock::monotonic();
    while fetches_ahead(&site) {
        assert!(began.elapsed() < Duration::from_secs(30), "it goes on without its server");
        std::thread::yield_now();
    }
}

#[test]
fn what_a_server_will_ask_for_is_fetched_before_it_starts_until_the_spool_is_removed() {
    let (site, backup, _) = archived(4);
    let stored = site.stored("store");
    site.lose_and_restore(&backup);
    let output = site.wal(&["prefetch", &stored[0].to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let began = runbook::base::clock::monotonic();
    let is_kept = |segment: &SegmentName| {
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let names: Vec<String> = site.spooled("ahead").iter().map(name).collect();
        names.iter().any(|name| name.starts_with(&segment.to_string()) && !name.ends_with(".part"))
    };
    while !stored[1..4].iter().all(is_kept) {
        assert!(began.elapsed() < Duration::from_secs(30), "no server runs, and nothing is fetched");
        std::thread::yield_now();
    }
    assert!(!is_kept(&stored[0]), "the server is behind it");
    while site.spool().exists() {
        // Who fetches there may write once more meanwhile.
        let _ = fs::remove_dir_all(site.spool());
    }
    while fetches_ahead(&site) {
        assert!(began.elapsed() < Duration::from_secs(60), "it goes on without a spool");
        std::thread::yield_now();
    }
}

#[test]
fn a_store_that_is_down_keeps_nothing_from_being_fetched_ahead() {
    let (site, backup, _) = archived(4);
    let stored = site.stored("store");
    site.lose_and_restore(&backup);
    let gone = site.cluster.dir().join("gone");
    site.configure(&format!("stores: [\"file://{}\", {}]\nat_least: 1\n", gone.display(), site.url("store")));
    let output = site.wal(&["prefetch", &stored[0].to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    until("what follows is fetched", || {
        let names: Vec<String> = site.spooled("ahead").iter().map(name).collect();
        let is_kept = |segment: &SegmentName| {
            names.iter().any(|name| name.starts_with(&segment.to_string()) && !name.ends_with(".part"))
        };
        stored[1..4].iter().all(is_kept)
    });
    let first = site.spooled("ahead").into_iter().find(|path| name(path) == "first").expect("a note");
    assert_eq!(fs::read_to_string(first).unwrap(), "1 60", "the second store is asked first from now on");
    let fetched = site.wal(&["fetch", &stored[0].to_string(), "pg_wal/RECOVERYXLOG"]);
    assert_eq!(fetched.status.code(), Some(0), "{}", words(&fetched));
    let absent = stored.last().unwrap().to_string().replace("00000001000000", "000000010000F0");
    let asked = site.wal(&["fetch", &absent, "pg_wal/RECOVERYXLOG"]);
    assert_eq!(asked.status.code(), Some(126), "an absence is asked of all of them: {}", words(&asked));
}

#[test]
fn a_spool_in_the_data_directory_is_refused_and_costs_no_push() {
    let site = Site::with_backlog(1);
    let inside = site.cluster.pgdata().join("spool");
    let text = format!("store: {}\nprefix: app\nspool: {}\n", site.url("store"), inside.display());
    fs::write(&site.config, text).unwrap();
    let refused = site.wal(&["init"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(words(&refused).contains("inside the data directory"), "{}", words(&refused));
    let waiting = site.waiting();
    let pushed = site.push(waiting[0]);
    assert_eq!((pushed.status.code(), site.stored("store")), (Some(0), waiting[..1].to_vec()), "{}", words(&pushed));
    assert!(words(&pushed).contains("inside the data directory") && !inside.exists(), "{}", words(&pushed));
}

fn fetches_ahead(site: &Site) -> bool {
    let config = site.config.display().to_string();
    fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.get(2) == Some(&&b"prefetch"[..]) && words.contains(&config.as_bytes())
    })
}

#[test]
fn an_archive_that_lacks_truncates_or_alters_a_segment_opens_no_database_however_much_was_fetched_ahead() {
    for damage in ["lacks", "truncates", "alters"] {
        let (site, backup, _) = archived(20);
        let victim = site.stored("store")[15];
        let folder = site.cluster.dir().join("store").join(format!("app/wal/{}/00000001", site.system_id()));
        let object = folder.join(format!("{victim}.zst"));
        site.lose_and_restore(&backup);
        match damage {
            "lacks" => fs::remove_file(&object).unwrap(),
            "truncates" => fs::OpenOptions::new().write(true).open(&object).unwrap().set_len(100).unwrap(),
            _ => flip(&object, 60),
        }
        let _ = site.cluster.try_up();
        while site.cluster.pid().is_some() {
            std::thread::yield_now();
        }
        assert!(site.cluster.log().contains("FATAL:  could not restore file"), "{damage}: {}", site.cluster.log());
        assert!(site.cluster.pgdata().join("recovery.signal").exists(), "{damage}");
    }
}

#[test]
fn what_an_earlier_restore_left_in_the_spool_breaks_no_later_one() {
    let (site, backup, count) = archived(10);
    let segment = site.stored("store")[8];
    // Torn, and foreign, under the very names that will be looked for.
    let spool = site.spool().join(site.system_id().to_string());
    site.lose_and_restore(&backup);
    let archive = {
        let _ = site.wal(&["fetch", &segment.to_string(), "odd"]);
        let names = fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().path());
        names.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("ahead-")).unwrap()
    };
    for (name, content) in [(format!("{segment}.00000000"), &b"torn"[..]), (format!("{segment}.part"), b"half")] {
        fs::write(archive.join(&name), content).unwrap();
        site.cluster.give(&archive.join(&name));
    }
    site.cluster.up();
    site.until("NOT pg_is_in_recovery()");
    assert_eq!(site.cluster.sql("SELECT count(*), sum(i) FROM t"), count);
}

#[test]
fn killed_fetches_end_the_recovery_and_never_open_the_database_early() {
    let (site, backup, count) = archived(30);
    site.lose_and_restore(&backup);
    let mut hits = 0;
    for round in 0..6_u64 {
        begin_to_start(&site);
        // Not waits for anything: they choose the moment of the crash.
        std::thread::sleep(Duration::from_millis(60 * round));
        hits += kill_pushes(&site);
        site.cluster.kill();
    }
    // A recovery that has come to its end fetches no more.
    if hits == 0 {
        hits = hit_a_fetch(&site);
    }
    assert!(hits > 0, "nothing was killed");
    site.up_again();
    site.until("NOT pg_is_in_recovery()");
    assert_eq!(site.cluster.sql("SELECT count(*), sum(i) FROM t"), count);
}

#[test]
fn a_hanging_push_ends_in_time_with_1() {
    let site = Site::with_backlog(1);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    fs::write(site.cluster.dir().join("id"), "some-access-key").unwrap();
    site.cluster.give(&site.cluster.dir().join("id"));
    let store = format!(
        "store: {{ url: \"s3://depot/x\", endpoint: \"http://127.0.0.1:{port}\", region: x, credentials: {{ \
         access_key_id: id, secret_access_key: id }} }}\nsecrets: {{ id: {{ file: id }} }}\ntimeout: 1s\n"
    );
    site.configure(&store);
    let mut child = site.spawn(&["push", &format!("pg_wal/{}", site.waiting()[0])]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    drop(listener);
}

#[test]
fn every_commit_that_pgbench_saw_acknowledged_survives_killed_pushes_fetches_and_servers() {
    let site = Site::with_backlog(0);
    site.cluster.sql(TABLE);
    site.archive_with(&site.push_command());
    let backup = site.base_backup();
    let (mut acknowledged, mut pushes, mut fetches) = (Acknowledged::default(), 0, 0);
    for round in 0..4_u64 {
        let load = Load::start(&site.cluster, round, Pace::Full);
        for moment in 1..5_u64 {
            // Not waits for anything: they choose the moments of the crashes.
            std::thread::sleep(Duration::from_millis(120 + 37 * moment * round));
            pushes += kill_pushes(&site);
        }
        site.cluster.kill();
        pushes += kill_pushes(&site);
        acknowledged.add(load.acknowledged());
        site.up_again();
    }
    if pushes == 0 {
        pushes = hit_a_push(&site);
    }
    site.fill_and_archive();
    let all = site.cluster.sql("SELECT count(*) FROM seen");
    site.lose_and_restore(&backup);
    for moment in 0..3_u64 {
        begin_to_start(&site);
        std::thread::sleep(Duration::from_millis(90 * moment));
        fetches += kill_pushes(&site);
        site.cluster.kill();
    }
    if fetches == 0 {
        fetches = hit_a_fetch(&site);
    }
    assert!(pushes > 0 && fetches > 0, "{pushes} pushes and {fetches} fetches were killed");
    site.up_again();
    site.until("NOT pg_is_in_recovery()");
    assert_eq!(site.cluster.sql("SELECT count(*) FROM seen"), all);
    assert!(acknowledged.total() > 100, "pgbench did something: {acknowledged:?}");
    assert_eq!(acknowledged.differences(&site.cluster.sql(COUNTS)), Vec::<String>::new());
}

/// Runs the program with a spool on a disk of its own that has nothing left, in a namespace of the test.
fn with_full_spool(site: &Site, disk: &str, args: &[&str]) -> Output {
    let spool = site.spool();
    fs::create_dir_all(&spool).unwrap();
    let script = format!(
        "mount -t tmpfs -o {disk},mode=700 none {spool} || exit 90
         dd if=/dev/zero of={spool}/filler bs=4096 count=100 2>/dev/null
         shift; exec {BINARY} wal \"$@\"",
        spool = spool.display()
    );
    let mut command = Command::new("unshare");
    if site.cluster.owner().is_none() {
        command.arg("--map-root-user");
    }
    let (verb, rest) = args.split_first().unwrap();
    command.args(["--mount", "sh", "-c", &script, "sh", "-", verb, "--config"]).arg(&site.config).args(rest);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir(site.cluster.pgdata()).output().unwrap()
}

#[test]
fn a_spool_on_a_full_disk_costs_speed_only_and_a_lack_that_cannot_be_noted_is_no_success() {
    if std::env::var_os("RUNBOOK_TEST_NO_MOUNTS").is_some() {
        return;
    }
    let site = Site::with_backlog(6);
    let waiting = site.waiting();
    let both = format!("stores: [{}, {}]\nat_least: 1\n", site.url("store"), site.url("second"));
    // No page is left, and no name.
    for (disk, segment) in [("size=16k", waiting[0]), ("size=64k,nr_inodes=2", waiting[1])] {
        let output = with_full_spool(&site, disk, &["push", &format!("pg_wal/{segment}")]);
        assert_eq!(output.status.code(), Some(0), "{disk}: {}", words(&output));
        assert!(site.stored("store").contains(&segment), "{disk}");
    }
    let one = waiting[2];
    site.configure(&both);
    let unnoted = with_full_spool(&site, "size=64k,nr_inodes=2", &["push", &format!("pg_wal/{one}")]);
    assert_eq!(unnoted.status.code(), Some(1), "{}", words(&unnoted));
    assert!(!words(&unnoted).is_empty());
    assert!(site.waiting().contains(&one), "the server keeps what was not acknowledged");
    site.configure(&format!("store: {}\n", site.url("store")));
    for disk in ["size=16k", "size=64k,nr_inodes=2"] {
        let fetched = with_full_spool(&site, disk, &["fetch", &waiting[0].to_string(), "fetched"]);
        assert_eq!(fetched.status.code(), Some(0), "{disk}: {}", words(&fetched));
        let segment = fs::read(site.cluster.pgdata().join("fetched")).unwrap();
        assert_eq!(segment, fs::read(site.cluster.pgdata().join(format!("pg_wal/{}", waiting[0]))).unwrap());
    }
}

#[test]
fn a_segment_that_is_safe_is_a_success_though_its_company_hangs_beyond_the_timeout() {
    let site = Site::with_backlog(1);
    let segment = site.waiting()[0];
    site.cluster.stop("fast");
    // Whoever reads it waits for ever.
    let (wal, hangs) = (site.cluster.pgdata().join("pg_wal"), "0000000100000000000000F0");
    assert!(Command::new("mkfifo").arg(wal.join(hangs)).status().unwrap().success());
    fs::write(wal.join(format!("archive_status/{hangs}.ready")), "").unwrap();
    site.cluster.give(&wal.join(hangs));
    site.configure(&format!("store: {}\ntimeout: 3s\n", site.url("store")));
    let output = site.push(segment);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    assert!(site.stored("store").contains(&segment));
}
