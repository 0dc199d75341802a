//! An archive that lacks, truncates or falsifies any one of its segments opens no database with missing transactions.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runbook::base::Digest;
use runbook::pgformat::{BackupLabel, ControlFile, Lsn, SegmentName, SegmentSize};

use crate::support::cli::until;
use crate::support::dice::Dice;
use crate::support::lie::Lie;
use crate::support::pgbackrest::Guarded;
use crate::support::postgres::Cluster;

const BINARY: &str = env!("CARGO_BIN_EXE_runbook");
/// Segments that are filled.
const FILLED: usize = 6;
/// The segment, of those, up to whose end one recovers that has a target.
const TARGET: usize = 3;
const TIME: &str = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US+00')";

/// A lost cluster: a base backup without any WAL, and an archive in which every segment holds a commit.
struct Site {
    cluster: Cluster,
    config: PathBuf,
    backup: PathBuf,
    /// The archive, oldest first.
    segments: Vec<PathBuf>,
    /// A moment between the commits of the target's segment and the next one's.
    target: String,
    /// How many rows there are at the target, and in the end.
    rows: [String; 2],
}

impl Site {
    fn new() -> Self {
        let settings = [("archive_mode", "on"), ("autovacuum", "off"), ("wal_recycle", "off")];
        let cluster = Cluster::create(&settings, &["--wal-segsize=1"]);
        let (store, config, backup) =
            (cluster.folder("store"), cluster.dir().join("wal.yaml"), cluster.dir().join("backup"));
        // Plain, so that a forger has nothing to pack.
        let url = format!("{{ url: \"file://{}\", compression: {{ format: none }} }}", store.display());
        fs::write(&config, format!("store: {url}\nprefix: app\nretry_for: 0s\n")).unwrap();
        cluster.give(&config);
        cluster.configure(&[("archive_command", &format!("{BINARY} wal push --config {} %p", config.display()))]);
        let mut site =
            Self { cluster, config, backup, segments: Vec::new(), target: String::new(), rows: Default::default() };
        assert_eq!(site.wal(&["init"]), 0);
        site.cluster.up();
        site.cluster.sql("CREATE TABLE t (n int, pad text)");
        let first = site.base_backup();
        for n in 0..FILLED {
            site.fills(n);
            if n == TARGET {
                site.target = site.cluster.sql(TIME);
                site.rows[0] = site.count();
            }
        }
        site.rows[1] = site.count();
        site.cluster.stop("immediate");
        site.segments = files_below(&store).into_iter().filter(|path| name_of(path) >= Some(first)).collect();
        site
    }

    /// Takes a base backup; gives the segment in which it begins.
    fn base_backup(&self) -> SegmentName {
        let (port, socket) = (self.cluster.port().to_string(), self.cluster.socket_dir());
        let arguments =
            ["-U", "postgres", "-p", &port, "-c", "fast", "-X", "none", "-h", socket.to_str().unwrap(), "-D"];
        self.cluster.output("pg_basebackup", &[&arguments[..], &[self.backup.to_str().unwrap()]].concat());
        let label = fs::read_to_string(self.backup.join("backup_label")).unwrap();
        BackupLabel::parse(&label).unwrap().start_segment
    }

    /// Fills most of a segment with one transaction, and has it archived.
    fn fills(&self, n: usize) {
        self.cluster.sql(&format!("INSERT INTO t SELECT {n}, repeat('x', 1000) FROM generate_series(1, 500)"));
        let name = self.cluster.sql("SELECT pg_walfile_name(pg_switch_wal())");
        let archived = format!("SELECT coalesce(last_archived_wal, '') >= '{name}' FROM pg_stat_archiver");
        until("a segment is archived", || self.cluster.sql(&archived) == "t");
    }

    fn count(&self) -> String {
        self.cluster.sql("SELECT count(*) FROM t")
    }

    /// Runs `runbook wal` as the server does.
    fn wal(&self, args: &[&str]) -> i32 {
        let (verb, rest) = args.split_first().unwrap();
        let mut command = Command::new(BINARY);
        command.arg("wal").arg(verb).arg("--config").arg(&self.config).args(rest);
        command.env_clear().current_dir(self.cluster.pgdata()).stdin(Stdio::null()).stderr(Stdio::null());
        if let Some((uid, gid)) = self.cluster.owner() {
            command.uid(uid).gid(gid);
        }
        command.status().unwrap().code().expect("an exit code, not a signal")
    }

    /// Has the archive lie about a segment while something is done.
    fn lied<T>(&self, index: usize, (lie, digest): (Lie, Digests), deed: impl FnOnce() -> T) -> T {
        let path = &self.segments[index];
        let sidecar = path.with_file_name(format!(".rb-meta-{}", path.file_name().unwrap().to_string_lossy()));
        let (own, noted) = (fs::read(path).unwrap(), fs::read_to_string(&sidecar).unwrap());
        let beside = if index == 0 { 1 } else { index - 1 };
        let neighbour = fs::read(&self.segments[beside]).unwrap();
        match lie.told(&own, &neighbour) {
            None => {
                fs::remove_file(path).unwrap();
                fs::remove_file(&sidecar).unwrap();
            }
            Some(bytes) => {
                let length = |bytes: &[u8]| format!("\"size_bytes\":{}", bytes.len());
                let forged = noted.replace(&Digest::of(&own).to_string(), &Digest::of(&bytes).to_string());
                let forged = forged.replace(&length(&own), &length(&bytes));
                fs::write(path, bytes).unwrap();
                if digest == Digests::Forged {
                    assert_ne!(forged, noted);
                    fs::write(&sidecar, forged).unwrap();
                }
            }
        }
        let done = deed();
        for (path, content) in [(path, own), (&sidecar, noted.into_bytes())] {
            fs::write(path, content).unwrap();
            self.cluster.give(path);
        }
        done
    }

    /// Restores the base backup and lets a server replay the archive; gives the rows of one that opened, none when it did
    /// not.
    fn replayed(&self, goal: &str) -> Option<String> {
        let pgdata = self.cluster.pgdata();
        fs::remove_dir_all(&pgdata).unwrap();
        assert!(Command::new("cp").arg("-a").arg(&self.backup).arg(&pgdata).status().unwrap().success());
        let fetch = format!("{BINARY} wal fetch --config {} %f %p", self.config.display());
        self.cluster.configure(&[("restore_command", &fetch), ("archive_mode", "off")]);
        if !goal.is_empty() {
            let target = [("recovery_target_time", goal), ("recovery_target_action", "promote")];
            self.cluster.configure(&target);
        }
        let signal = pgdata.join("recovery.signal");
        fs::write(&signal, "").unwrap();
        self.cluster.give(&signal);
        let _ = self.cluster.try_up();
        let mut opened = None;
        until("the server opened or ended", || {
            let answer = self.cluster.try_sql("SELECT pg_is_in_recovery()");
            opened = (answer.stdout == b"f\n").then(|| self.count());
            opened.is_some() || self.cluster.pid().is_none()
        });
        match &opened {
            Some(_) => self.cluster.stop("immediate"),
            None => {
                let control = ControlFile::parse(&fs::read(pgdata.join(ControlFile::PATH)).unwrap()).unwrap();
                assert!(control.timeline.0 == 1 && signal.exists(), "{}", self.cluster.log());
            }
        }
        opened
    }
}

/// Whether the digest that the store keeps of a segment lies, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Digests {
    /// It is of the segment that was stored.
    True,
    /// Whoever stored the wrong bytes noted theirs: nothing but the WAL itself tells.
    Forged,
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
            match path.is_dir() {
                true => folders.push(path),
                false if name_of(&path).is_some() => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

fn name_of(path: &Path) -> Option<SegmentName> {
    path.file_name()?.to_str()?.parse().ok()
}

#[test]
fn no_lie_about_any_segment_is_fetched_or_taken_for_the_end() {
    let site = Site::new();
    let last = site.segments.len() - 1;
    assert!(last >= FILLED, "{:?}", site.segments);
    for index in 0..=last {
        let name = name_of(&site.segments[index]).unwrap().to_string();
        let with_digests = |lie| [(lie, Digests::True), (lie, Digests::Forged)];
        for told in Lie::ALL.into_iter().flat_map(with_digests) {
            let code = site.lied(index, told, || site.wal(&["fetch", &name, "pg_wal/RECOVERYXLOG"]));
            // Nothing tells the last one from one that was still being written.
            let expected = match (index == last && told.0.may_be_the_end(), told) {
                (true, (Lie::Lacks, _)) => 1,
                (true, (_, Digests::Forged)) => 0,
                (true | false, _) => 126,
            };
            assert_eq!(code, expected, "{told:?} of {index}");
        }
        assert_eq!(site.wal(&["fetch", &name, "pg_wal/RECOVERYXLOG"]), 0, "{index}");
    }
}

#[test]
fn no_server_opens_over_a_lie_about_any_segment_on_its_way() {
    let site = Site::new();
    let (last, mut dice) = (site.segments.len() - 1, Dice::seeded(41));
    // The backup begins in the first; each of the others was filled.
    let wanted = last - FILLED + 1 + TARGET;
    let shift = usize::try_from(dice.below(6)).unwrap();
    for index in 0..=last {
        let lies = [Lie::ALL[(index + shift) % 6], Lie::ALL[(index + shift + 3) % 6]];
        for (lie, goal, way) in [(lies[0], "", last), (lies[1], site.target.as_str(), wanted)] {
            let opened = site.lied(index, (lie, Digests::Forged), || site.replayed(goal));
            println!("{lie:?} of {index}, towards `{goal}`: {opened:?}");
            if index <= way && !(index == last && lie.may_be_the_end()) {
                assert_eq!(opened, None, "{lie:?} of {index}, towards `{goal}`: {}", site.cluster.log());
            } else if index > way {
                // It may read ahead and end; it never opens with less.
                assert!(opened.is_none_or(|rows| rows == site.rows[0]), "{lie:?} of {index}");
            }
        }
    }
    let expected = [site.rows[1].clone(), site.rows[0].clone()].map(Some);
    assert_eq!(["", &site.target].map(|goal| site.replayed(goal)), expected, "the archive is whole again");
}

#[test]
fn a_segment_below_the_fork_of_a_later_timeline_is_never_called_absent() {
    let site = Site::new();
    let [lost, forked] = [4, 5].map(|index| name_of(&site.segments[index]).unwrap());
    site.segments[4..].iter().for_each(|path| fs::remove_file(path).unwrap());
    let fetch = || site.wal(&["fetch", &lost.to_string(), "pg_wal/RECOVERYXLOG"]);
    assert_eq!(fetch(), 1, "nothing tells that it was ever there");
    let history = site.cluster.pgdata().join("pg_wal/00000002.history");
    let fork = Lsn(forked.start(SegmentSize::new(1 << 20).unwrap()).0 + 0x100);
    fs::write(&history, format!("1\t{fork}\tno recovery target specified\n")).unwrap();
    site.cluster.give(&history);
    assert_eq!(site.wal(&["push", "pg_wal/00000002.history"]), 0);
    assert_eq!(fetch(), 126, "timeline 2 went on from behind it");
}

/// A file of pgBackRest's repository that holds other bytes, under the name that pgBackRest would give them.
fn packed(segment: &Path, bytes: &[u8]) -> PathBuf {
    let plain = segment.with_extension("plain");
    fs::write(&plain, bytes).unwrap();
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).arg(&plain).output().unwrap();
        assert!(output.status.success(), "{program}");
        output.stdout
    };
    let sum = String::from_utf8_lossy(&said("sha1sum", &[])).split(' ').next().unwrap().to_owned();
    let name = format!("{}-{sum}.gz", &segment.file_name().unwrap().to_string_lossy()[..24]);
    let path = segment.with_file_name(name);
    fs::write(&path, said("gzip", &["-1", "-c"])).unwrap();
    fs::remove_file(&plain).unwrap();
    path
}

fn unpacked(segment: &Path) -> Vec<u8> {
    Command::new("gzip").args(["-d", "-c"]).arg(segment).output().unwrap().stdout
}

#[test]
fn no_lie_of_the_repository_of_pgbackrest_about_any_segment_leaves_a_server_open_without_its_rows() {
    let site = Guarded::new();
    site.backs_up("full");
    let before = site.segments();
    for n in 0..3 {
        site.cluster.sql(&format!("INSERT INTO t SELECT {n} + generate_series(2000, 9000, 3)"));
        site.archives();
    }
    let rows = site.rows();
    site.cluster.stop("fast");
    let way: Vec<PathBuf> = site.segments().into_iter().filter(|path| !before.contains(path)).collect();
    let last = way.len() - 1;
    let mut dice = Dice::seeded(42);
    let shift = usize::try_from(dice.below(6)).unwrap();
    for (index, path) in way.iter().enumerate().take(last) {
        for (turn, with) in ["", ", target_time: '2100-01-01T00:00:00Z'"].into_iter().enumerate() {
            let lie = Lie::ALL[(index + shift + 3 * turn) % 6];
            let (own, kept) = (unpacked(path), fs::read(path).unwrap());
            let neighbour = unpacked(if index == 0 { &way[1] } else { &way[index - 1] });
            fs::remove_file(path).unwrap();
            let lying = lie.told(&own, &neighbour).map(|bytes| packed(path, &bytes));
            lying.iter().for_each(|path| site.cluster.give(path));
            // Nothing but the repository leads on.
            fs::remove_dir_all(site.cluster.pgdata()).unwrap();
            let ran = site.restores(with);
            println!("{lie:?} of {index}{with}: {:?}", ran.code);
            assert_eq!(ran.code, Some(10), "{lie:?} of {index}{with}: {}", ran.err);
            assert!(site.cluster.pid().is_none(), "{lie:?} of {index}{with}: a server is left: {}", ran.err);
            lying.iter().for_each(|path| fs::remove_file(path).unwrap());
            fs::write(path, kept).unwrap();
            site.cluster.give(path);
            let left = site.beside().into_iter().map(|name| site.cluster.dir().join(name));
            left.for_each(|folder| fs::remove_dir_all(folder).unwrap());
            fs::create_dir_all(site.cluster.pgdata()).unwrap();
        }
    }
    fs::remove_dir_all(site.cluster.pgdata()).unwrap();
    site.restores("").ends(0);
    assert_eq!(site.rows(), rows);
}
