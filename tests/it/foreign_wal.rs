//! WAL that `cp` archived, used where it lies: folders that scripts filled and that are only read, a cluster that is lost
//! for good, and everything that may be wrong with such a folder.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::cli::{Cli, Ran, listing, until};
use crate::support::postgres::Cluster;

/// How the scripts of a cluster archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    Plain,
    Gzip,
}

/// A cluster that scripts back up into folders, and an inventory that may only read them.
struct Old {
    cluster: Cluster,
    cli: Cli,
}

impl Old {
    fn start(habit: Habit) -> Self {
        let cluster = Cluster::create(&[], &["--wal-segsize=1"]);
        let wal = cluster.folder("old/wal");
        cluster.folder("old/base");
        let command = match habit {
            Habit::Plain => format!("cp %p {}/%f", wal.display()),
            Habit::Gzip => format!("gzip -c %p > {}/%f.gz", wal.display()),
        };
        cluster.configure(&[("archive_mode", "on"), ("archive_command", &command)]);
        cluster.up();
        cluster.sql("CREATE TABLE t(n int PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())");
        let old = Self { cluster, cli: Cli::new() };
        let inventory = format!(
            "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: {}, bin: {}, store: old, prefix: main }}\n\
             stores: {{ old: {{ url: 'file://{}', read_only: true }} }}\n\
             environments:\n  production: {{ protected: true, default: true }}\n  \
             drill: {{ databases: {{ main: {{ scratch: true }} }} }}\n",
            old.cluster.pgdata().display(),
            old.cluster.port(),
            old.cluster.socket_dir().display(),
            old.cluster.bin().display(),
            old.folder("").display(),
        );
        old.cli.file("inventory.yaml", &inventory);
        old
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.cluster.dir().join("old").join(name)
    }

    /// As a script of cron does it.
    fn base_backup(&self) {
        let target = format!("--pgdata={}", self.folder("base/20260128_143002").display());
        let (host, port) =
            (format!("--host={}", self.cluster.socket_dir().display()), format!("--port={}", self.cluster.port()));
        let args = ["--format=tar", "--gzip", "--checkpoint=fast", "--username=postgres", &target, &host, &port];
        self.cluster.output("pg_basebackup", &args);
    }

    /// Adds rows in segments of their own and returns the segment of the last.
    fn fill(&self, rows: std::ops::Range<u32>) -> String {
        let mut name = String::new();
        for row in rows {
            // Rows that together are longer than a segment: records cross from one into the next.
            self.cluster.sql(&format!("INSERT INTO t VALUES ({row})"));
            self.cluster.sql("CREATE TABLE IF NOT EXISTS filler(x text)");
            self.cluster.sql("INSERT INTO filler SELECT repeat(md5(i::text), 60) FROM generate_series(1, 700) i");
            name = self.cluster.sql("SELECT pg_walfile_name(pg_switch_wal())");
        }
        let archived = format!("SELECT coalesce(last_archived_wal, '') >= '{name}' FROM pg_stat_archiver");
        until("the segment is archived", || self.cluster.sql(&archived) == "t");
        name
    }

    fn rows(&self) -> String {
        self.cluster.sql("SELECT string_agg(n::text, ' ' ORDER BY n) FROM t")
    }

    /// Nothing is left of the server but what the scripts made.
    fn lose(&self) {
        self.cluster.kill();
        fs::remove_dir_all(self.cluster.pgdata()).unwrap();
    }

    /// Recovers by the two locations alone.
    fn recover(&self, mode: &[&str], target: &str) -> Ran {
        self.cli.file("loss.yaml", &LOSS.replace("TARGET", target));
        self.cli.run(&[mode, &["loss.yaml"]].concat())
    }

    fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder("wal")).unwrap().map(|entry| entry.unwrap().path());
        let is_segment =
            |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().trim_end_matches(".gz").len() == 24;
        let mut found: Vec<PathBuf> = entries.filter(is_segment).collect();
        found.sort();
        found
    }
}

const LOSS: &str = "version: 1
name: from-scripts
phases: [ { id: restore, name: Restore } ]
steps:
  - id: choose
    phase: restore
    uses: backup.find
    with: { database: main, location: { store: old, prefix: base, layout: base_backups } }
  - id: stage
    phase: restore
    uses: postgres.restore_base
    with: { database: main, backup: '{{ steps.choose.backup }}' }
  - id: recover
    phase: restore
    uses: postgres.recover
    with: { database: main, staged: '{{ steps.stage.staged }}', wal_location: { store: old, prefix: wal }TARGET }
  - id: look
    phase: restore
    uses: postgres.query
    with: { database: main, instance: '{{ steps.recover.instance }}', sql: \"SELECT string_agg(n::text, ' ' ORDER BY n) AS rows FROM t\" }
";

const REAL: [&str; 3] = ["run", "--confirm", "production"];

#[test]
fn a_cluster_that_only_scripts_backed_up_comes_back_from_their_folders_to_its_newest_archived_row() {
    let old = Old::start(Habit::Plain);
    old.base_backup();
    old.fill(0..4);
    let (rows, before) = (old.rows(), listing(&old.folder("")));
    old.lose();
    let ran = old.recover(&REAL, "").ends(0);
    assert!(ran.err.contains("unproven") || ran.out.contains("unproven"), "{ran:?}");
    assert_eq!(old.rows(), rows);
    // Its own archive_command goes on in that folder; nothing that lay there was touched.
    let after = listing(&old.folder(""));
    let changed: Vec<&String> = before.iter().filter(|line| line.contains(" 100") && !after.contains(line)).collect();
    assert_eq!(changed, Vec::<&String>::new());
    assert!(
        old.segments().iter().any(|path| path.to_string_lossy().contains("/00000002")),
        "a new timeline is archived"
    );
}

#[test]
fn a_compressed_folder_leads_to_a_point_in_time_and_no_row_further() {
    let old = Old::start(Habit::Gzip);
    old.base_backup();
    old.fill(0..3);
    let at =
        old.cluster.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    let rows = old.rows();
    old.fill(3..6);
    old.lose();
    old.recover(&REAL, &format!(", target_time: '{at}'")).ends(0);
    assert_eq!(old.rows(), rows);
    // A second recovery finds the timeline that the first one left, in the same folder.
    old.lose();
    old.recover(&["drill"], ", timeline: 1").ends(0);
    assert!(old.cli.shown().to_string().contains("0 1 2 3 4 5"));
}

#[test]
fn what_is_wrong_with_a_foreign_folder_is_found_before_a_server_opens_without_it() {
    let old = Old::start(Habit::Plain);
    old.base_backup();
    old.fill(0..5);
    let other = Old::start(Habit::Plain);
    other.fill(0..8);
    old.lose();
    let segments = old.segments();
    let victim = &segments[segments.len() - 4];
    let whole = fs::read(victim).unwrap();
    let theirs = fs::read(other.folder("wal").join(victim.file_name().unwrap())).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    // Behind the page's header: the record that begins in the segment before goes on there.
    let continued =
        segments.iter().skip(2).find(|path| fs::read(path).unwrap()[2] & 1 == 1).expect("a crossing record");
    let mut crossed = fs::read(continued).unwrap();
    crossed[100] ^= 1;
    let cases: [(&str, &Path, Option<Vec<u8>>); 5] = [
        ("lacking", victim, None),
        ("cut short", victim, Some(whole[..whole.len() / 2].to_vec())),
        ("of another cluster", victim, Some(theirs)),
        ("with a flipped bit", victim, Some(flipped(300_000))),
        ("with a flipped bit in a record that crosses", continued, Some(crossed)),
    ];
    for (what, path, content) in cases {
        let right = fs::read(path).unwrap();
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        let ran = old.recover(&["drill"], "");
        assert!(ran.code != Some(0), "{what}: {ran:?}");
        assert_ne!(old.cli.status("recover"), "succeeded", "{what}: {ran:?}");
        assert_ne!(old.cli.status("look"), "succeeded", "{what}: nothing is opened: {ran:?}");
        let verified = old.cli.run(&["wal", "verify", "main", "--wal-location", "old/wal", "--digests"]);
        verified.ends(10);
        fs::write(path, right).unwrap();
    }
    old.recover(&["drill"], "").ends(0);
    assert!(old.cli.shown().to_string().contains("0 1 2 3 4"));
}

/// Runs `wal fetch` as a server does, in the place of a data directory.
fn fetch(old: &Old, name: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runbook"));
    let config = old.cluster.dir().join("fetch.yaml");
    command.args(["wal", "fetch", "--config"]).arg(&config).args([name, "fetched"]);
    command.env_clear().current_dir(old.cluster.pgdata()).stdin(Stdio::null());
    if let Some((uid, gid)) = old.cluster.owner() {
        command.uid(uid).gid(gid);
    }
    command.output().unwrap()
}

#[test]
fn fetch_by_itself_calls_absent_only_what_a_folder_that_was_listed_does_not_name() {
    let old = Old::start(Habit::Plain);
    let last = old.fill(0..3);
    let config = old.cluster.dir().join("fetch.yaml");
    let location = |folder: &str| {
        let text = format!("location: {{ store: 'file://{folder}', prefix: wal }}\nretry_for: 0s\n");
        fs::write(&config, text).unwrap();
        old.cluster.give(&config);
    };
    let code = |name: &str| {
        let _ = fs::remove_file(old.cluster.pgdata().join("fetched"));
        let output = fetch(&old, name);
        let code = output.status.code().unwrap();
        assert_eq!(old.cluster.pgdata().join("fetched").exists(), code == 0, "{name}: {output:?}");
        code
    };
    location(&old.folder("").display().to_string());
    let beyond = format!("{}{:08X}", &last[..16], u32::from_str_radix(&last[16..], 16).unwrap() + 1);
    assert_eq!((code(&last), code(&beyond), code("00000002.history")), (0, 1, 1));
    // A hole is no end.
    let segments = old.segments();
    let middle = &segments[segments.len() - 2];
    let name = middle.file_name().unwrap().to_str().unwrap().to_owned();
    let bytes = fs::read(middle).unwrap();
    fs::remove_file(middle).unwrap();
    assert_eq!(code(&name), 126);
    fs::write(middle, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(code(&name), 126);
    fs::write(middle, &bytes).unwrap();
    assert_eq!(code(&name), 0);
    // A folder that is not there, or where no WAL lies, says nothing of what is absent.
    location("/nowhere/at/all");
    assert_eq!((code(&last), code(&beyond), code("00000002.history")), (126, 126, 126));
    let empty = old.cluster.folder("empty");
    fs::create_dir(empty.join("wal")).unwrap();
    location(&empty.display().to_string());
    assert_eq!((code(&beyond), code("00000002.history")), (126, 126));
    // And nothing is ever pushed there.
    let mut push = Command::new(env!("CARGO_BIN_EXE_runbook"));
    push.args(["wal", "push", "--config"]).arg(&config).arg(format!("pg_wal/{last}")).current_dir(old.cluster.pgdata());
    let said = push.output().unwrap();
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&said.stderr).contains("only read"), "{said:?}");
}
