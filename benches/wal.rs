//! What PostgreSQL's own archiver and its own recovery make of the commands that archive and fetch WAL: ours with and
//! without a spool, `cp`, and pgBackRest where it is installed.
//!
//! `cargo bench --bench wal -- [--segments N] [--turns N]`; needs PostgreSQL's programs. The S3 server (s3s-fs) runs in
//! this process, without TLS; pgBackRest, which wants TLS, gets a folder.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a benchmark starts the programs it compares")]

#[path = "measure/mod.rs"]
#[expect(dead_code, reason = "shared with benchmarks that use more of it")]
mod measure;
#[path = "../tests/it/support/postgres.rs"]
mod postgres;
#[path = "../tests/it/support/s3.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod s3;

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use runbook::base::clock;

use measure::{RUNBOOK, Times, build};
use postgres::Cluster;
use s3::S3;

/// How long one case may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A way to archive WAL and to fetch it back.
struct Case {
    name: &'static str,
    push: String,
    fetch: String,
    /// What it keeps: emptied before each turn.
    keeps: Vec<PathBuf>,
    /// What readies it after that.
    ready: Vec<Vec<String>>,
    archived: Times,
    replayed: Times,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |flag: &str, usual: usize| {
        let at = args.iter().position(|arg| arg == flag);
        at.and_then(|at| args.get(at + 1)).and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    let (segments, turns) = (number("--segments", 40), number("--turns", 3));
    let settings = [
        ("archive_mode", "on"),
        ("archive_command", "false"),
        ("wal_keep_size", "16GB"),
        ("max_wal_size", "16GB"),
        ("checkpoint_timeout", "1h"),
        ("fsync", "on"),
    ];
    let source = Cluster::start(&settings);
    let backup = prepare(&source, segments);
    let server = S3::start();
    let mut cases = cases(&source, &server);
    println!("wal, {}, {segments} full segments of pgbench, {turns} turns each, median", build());
    for _ in 0..turns {
        for case in &mut cases {
            archive(&source, case);
            replay(&source, &backup, case);
        }
    }
    println!("{:34} {:>12} {:>12} {:>14}", "", "ms/segment", "segments/s", "replay seg/s");
    for case in &cases {
        let (archived, replayed) = (case.archived.median_ms(), case.replayed.median_ms());
        let count = f64::from(u32::try_from(segments).unwrap());
        println!(
            "{:34} {:>12.1} {:>12.1} {:>14.1}",
            case.name,
            archived / count,
            count / archived * 1e3,
            count / replayed * 1e3
        );
    }
}

/// A base backup, and after it as many full segments that wait.
fn prepare(source: &Cluster, segments: usize) -> PathBuf {
    let socket = source.socket_dir().display().to_string();
    let port = source.port().to_string();
    let to = ["-U", "postgres", "-h", socket.as_str(), "-p", port.as_str()];
    source.output("pgbench", &[&to[..], &["-i", "-q", "-s", "5", "postgres"]].concat());
    let backup = source.dir().join("backup");
    let place = backup.display().to_string();
    source.output("pg_basebackup", &[&to[..], &["-c", "fast", "-X", "none", "-D", place.as_str()]].concat());
    while waiting(source) < segments {
        source.output("pgbench", &[&to[..], &["-n", "-c", "2", "-t", "4000", "postgres"]].concat());
    }
    source.sql("SELECT pg_switch_wal()");
    backup
}

fn cases(source: &Cluster, server: &S3) -> Vec<Case> {
    let dir = source.dir();
    let config = |name: &str, store: &str, more: &str| {
        let path = dir.join(format!("{name}.yaml"));
        let text =
            format!("store: {store}\nprefix: {name}\nsecrets: {{ id: {{ file: id }}, key: {{ file: key }} }}\n{more}");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    for (name, value) in [("id", s3::KEY_ID), ("key", s3::KEY)] {
        fs::write(dir.join(name), value).unwrap();
    }
    let local = format!("\"file://{}\"", source.folder("local").display());
    let bucket = serde_json::to_string(&server.entry()).unwrap();
    let spool = source.folder("spool");
    let spooled = format!("spool: {}\n", spool.display());
    let ours = |name: &'static str, key: &str, store: &str, more: &str, keeps: &[&Path]| {
        let config = config(key, store, more);
        Case {
            name,
            push: format!("{RUNBOOK} wal push --config {config} %p"),
            fetch: format!("{RUNBOOK} wal fetch --config {config} %f %p"),
            keeps: keeps.iter().map(|path| (*path).to_owned()).collect(),
            ready: vec![["wal", "init", "--config", &config].iter().map(|word| (*word).to_owned()).collect()],
            archived: Times::new(),
            replayed: Times::new(),
        }
    };
    let (folder, depot) = (dir.join("local"), server.folder().join(s3::BUCKET).join("below"));
    let copied = source.folder("copied");
    let mut cases = vec![
        Case {
            name: "cp to a folder, no sync",
            push: format!("cp %p {}/%f", copied.display()),
            fetch: format!("cp {}/%f %p", copied.display()),
            keeps: vec![copied],
            ready: Vec::new(),
            archived: Times::new(),
            replayed: Times::new(),
        },
        ours("ours, folder, one at a time", "plain", &local, "ahead: 0\n", &[&folder]),
        ours("ours, folder, with a spool", "spooled", &local, &spooled, &[&folder, &spool]),
        ours("ours, S3, one at a time", "s3plain", &bucket, "ahead: 0\n", &[&depot]),
        ours("ours, S3, with a spool", "s3spooled", &bucket, &spooled, &[&depot, &spool]),
    ];
    if Command::new("pgbackrest").arg("version").stdout(Stdio::null()).status().is_ok_and(|ended| ended.success()) {
        cases.extend(
            [("sync", "pgBackRest, folder, sync, zst"), ("async", "pgBackRest, folder, async, zst, 2")]
                .map(|(kind, name)| peer(source, kind, name)),
        );
    } else {
        println!("`pgbackrest` is not installed");
    }
    cases
}

fn peer(source: &Cluster, kind: &str, name: &'static str) -> Case {
    let dir = source.folder(&format!("pgbackrest-{kind}"));
    let (config, repo, spool) = (dir.join("conf"), dir.join("repo"), dir.join("spool"));
    let more = if kind == "async" { "archive-async=y\nprocess-max=2\n" } else { "" };
    let text = format!(
        "[global]\nrepo1-path={}\nspool-path={}\nlog-path={}\nlock-path={}\nlog-level-file=off\ncompress-type=zst\n\
         log-level-console=off\n{more}[main]\npg1-path={}\npg1-port={}\npg1-socket-path={}\npg1-user=postgres\n",
        repo.display(),
        spool.display(),
        dir.display(),
        dir.join("lock").display(),
        source.pgdata().display(),
        source.port(),
        source.socket_dir().display()
    );
    fs::write(&config, text).unwrap();
    let words = format!("pgbackrest --config={} --stanza=main", config.display());
    let ready = format!("{words} stanza-create").split(' ').map(str::to_owned).collect();
    Case {
        name,
        push: format!("{words} archive-push %p"),
        fetch: format!("{words} archive-get %f %p"),
        keeps: vec![repo, spool],
        ready: vec![ready],
        archived: Times::new(),
        replayed: Times::new(),
    }
}

/// Counts the segments that wait to be archived.
fn waiting(source: &Cluster) -> usize {
    let status = fs::read_dir(source.pgdata().join("pg_wal/archive_status")).unwrap();
    status.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "ready")).count()
}

/// Lets the server archive every segment once more, into an empty place.
fn archive(source: &Cluster, case: &mut Case) {
    for folder in &case.keeps {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).unwrap();
        source.give(folder);
    }
    for words in &case.ready {
        let mut command = if words[0] == "wal" { Command::new(RUNBOOK) } else { Command::new(&words[0]) };
        command.args(if words[0] == "wal" { &words[..] } else { &words[1..] }).current_dir(source.pgdata());
        if let Some((uid, gid)) = source.owner() {
            command.uid(uid).gid(gid);
        }
        assert!(command.stdout(Stdio::null()).status().unwrap().success(), "{words:?}");
    }
    source.sql("ALTER SYSTEM SET archive_command = 'false'");
    source.sql("SELECT pg_reload_conf()");
    let status = source.pgdata().join("pg_wal/archive_status");
    for entry in fs::read_dir(&status).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "done") {
            fs::rename(&path, path.with_extension("ready")).unwrap();
        }
    }
    source.sql(&format!("ALTER SYSTEM SET archive_command = '{}'", case.push));
    let began = clock::monotonic();
    source.sql("SELECT pg_reload_conf()");
    while waiting(source) > 0 {
        assert!(began.elapsed() < PATIENCE, "{}: {}", case.name, source.log());
        std::thread::sleep(Duration::from_millis(2));
    }
    case.archived.add(began.elapsed());
}

/// Lets a new server replay everything.
fn replay(source: &Cluster, backup: &Path, case: &mut Case) {
    let target = Cluster::create(&[], &[]);
    fs::remove_dir_all(target.pgdata()).unwrap();
    let copied = Command::new("cp").args(["-a", backup.to_str().unwrap(), target.pgdata().to_str().unwrap()]).status();
    assert!(copied.unwrap().success());
    let port = target.port().to_string();
    let socket = target.socket_dir().display().to_string();
    target.configure(&[
        ("port", port.as_str()),
        ("unix_socket_directories", socket.as_str()),
        ("archive_mode", "off"),
        ("restore_command", case.fetch.as_str()),
        ("shared_buffers", "128MB"),
    ]);
    let signal = target.pgdata().join("recovery.signal");
    fs::write(&signal, "").unwrap();
    target.give(&signal);
    assert!(source.pid().is_some());
    let began = clock::monotonic();
    target.up();
    while target.sql("SELECT pg_is_in_recovery()") == "t" {
        assert!(began.elapsed() < PATIENCE, "{}: {}", case.name, target.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    case.replayed.add(began.elapsed());
    target.stop("immediate");
}
