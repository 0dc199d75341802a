//! A disk that is full at every page and every name in turn, and one that is read-only: the program fails and says so,
//! nothing half has a name, nothing hidden is left; once there is room, the same runbook ends well.
//!
//! The disks are small file systems in memory, mounted in a namespace of the test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use runbook::action::PutOptions;
use runbook::language::inventory::StoreEntry;
use runbook::pgformat::{ControlFile, SegmentName, SegmentSize};

use crate::support::cli::Cli;
use crate::support::place::{body, key, leftovers, noise};
use crate::support::postgres::Cluster;

const BINARY: &str = env!("CARGO_BIN_EXE_runbook");
/// More than a few pages and not many.
const SIZE: usize = 30_000;

/// How a disk is short.
#[derive(Debug, Clone, Copy)]
enum Disk {
    Pages(u32),
    Names(u32),
    ReadOnly,
}

impl Disk {
    fn options(self) -> String {
        match self {
            Self::Pages(pages) => format!("size={}k", pages * 4),
            Self::Names(names) => format!("size=64m,nr_inodes={names}"),
            Self::ReadOnly => "size=64m".to_owned(),
        }
    }

    fn before_the_first_run(self) -> &'static str {
        match self {
            Self::Pages(_) | Self::Names(_) => "true",
            Self::ReadOnly => "mount -o remount,ro \"$DISK\"",
        }
    }

    fn words(self) -> [&'static str; 2] {
        match self {
            Self::Pages(_) | Self::Names(_) => ["no space is left", "No space left on device"],
            Self::ReadOnly => ["Read-only file system", "read-only"],
        }
    }
}

/// What a command did on a short disk and, after that, on a large one.
struct Shown {
    cli: Cli,
    first: Ended,
    second: Ended,
}

struct Ended {
    code: i32,
    said: String,
    /// What was on the disk.
    disk: PathBuf,
}

/// Mounts a disk at `work/disk`, runs the program, makes room, and runs it again.
fn ordeal(cli: Cli, disk: Disk, [first, again]: [&str; 2]) -> Shown {
    let place = cli.path("disk");
    fs::create_dir_all(&place).unwrap();
    fs::create_dir_all(cli.path("seen")).unwrap();
    let script = format!(
        "mount -t tmpfs -o {options} none \"$DISK\" || exit 90
         printf '{{}}\\n' > \"$DISK/.rb-store\" || exit 91
         {before} || exit 92
         {BINARY} {first} > seen/first.said 2>&1; echo $? > seen/first.code
         cp -a \"$DISK\" seen/first || exit 93
         mount -o remount,rw,size=64m,nr_inodes=10000 \"$DISK\" || exit 94
         {BINARY} {again} > seen/second.said 2>&1; echo $? > seen/second.code
         cp -a \"$DISK\" seen/second || exit 95",
        options = disk.options(),
        before = disk.before_the_first_run(),
    );
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &script]);
    cli.surround(&mut command);
    let output = command.env("DISK", &place).output().expect("`unshare` of util-linux");
    assert!(
        output.status.success(),
        "{:?}: {}; set RUNBOOK_TEST_NO_MOUNTS=1 where a test may mount nothing in a namespace of its own",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let ended = |name: &str| Ended {
        code: cli.read(&format!("seen/{name}.code")).trim().parse().unwrap(),
        said: cli.read(&format!("seen/{name}.said")),
        disk: cli.path(&format!("seen/{name}")),
    };
    let (first, second) = (ended("first"), ended("second"));
    Shown { cli, first, second }
}

/// Shortens the disk page by page and name by name, from almost nothing until the command ends well, and makes it
/// read-only. `judge` looks at the disk: at each moment, and whether everything must be there.
fn every_way(least: usize, commands: [&str; 2], cli: impl Fn() -> Cli, judge: impl Fn(&Cli, &Path, bool)) {
    if std::env::var_os("RUNBOOK_TEST_NO_MOUNTS").is_some() {
        return;
    }
    let mut failures = 0;
    let mut fails = |disk: Disk| {
        let shown = ordeal(cli(), disk, commands);
        let Shown { cli, first, second } = &shown;
        // What ended well may refuse to be done twice.
        let made_good = second.code == 0 || first.code == 0;
        assert!(made_good, "{disk:?}, with room: {}\n---\n{}", second.said, first.said);
        judge(cli, &second.disk, true);
        judge(cli, &first.disk, first.code == 0);
        assert_eq!(leftovers(&first.disk), Vec::<String>::new(), "{disk:?}: hidden");
        assert_eq!(leftovers(&second.disk), Vec::<String>::new(), "{disk:?}: hidden, with room");
        if first.code != 0 {
            failures += 1;
            let says = disk.words().iter().any(|words| first.said.contains(words));
            assert!(says, "{disk:?}: {}", first.said);
        }
        first.code != 0
    };
    assert!(fails(Disk::ReadOnly));
    assert!((2..200).any(|pages| !fails(Disk::Pages(pages))), "it never ends well");
    assert!((3..60).any(|names| !fails(Disk::Names(names))), "it never ends well");
    println!("{failures} failures");
    assert!(failures >= least, "only {failures} failures");
}

/// A user with one store on the disk and one beside it.
fn user(step: &str) -> Cli {
    let cli = Cli::new();
    fs::create_dir(cli.path("beside")).unwrap();
    fs::write(cli.path("beside/.rb-store"), "{}\n").unwrap();
    let plain = "compression: { format: none }";
    let store = |name: &str| format!("{name}: {{ url: \"file://{}\", {plain} }}", cli.path(name).display());
    cli.file("inventory.yaml", &format!("version: 1\nstores:\n  {}\n  {}\n", store("disk"), store("beside")));
    let step = step.replace("WORK", &cli.path("").display().to_string().trim_end_matches('/').replace('\\', ""));
    cli.file("runbook.yaml", &format!("version: 1\nname: fill\nsteps:\n  - {{ id: fill, {step} }}\n"));
    fs::write(cli.path("content"), noise(1, SIZE)).unwrap();
    cli
}

const RUN: [&str; 2] = ["run runbook.yaml"; 2];

/// A file is whole or not there.
fn whole(path: &Path, must: bool) {
    match fs::read(path) {
        Ok(bytes) => assert!(bytes == noise(1, SIZE), "{} has {} other bytes", path.display(), bytes.len()),
        Err(error) => assert!(!must, "{}: {error}", path.display()),
    }
}

#[test]
fn a_put_onto_a_full_disk_leaves_nothing_and_is_made_good() {
    let step = "uses: store.put, with: { store: disk, key: d/object, path: WORK/content }";
    every_way(9, RUN, || user(step), |_, disk, must| whole(&disk.join("d/object"), must));
}

#[test]
fn a_get_onto_a_full_disk_leaves_nothing_and_is_made_good() {
    let with_object = || {
        let cli = user("uses: store.get, with: { store: beside, key: d/object, path: WORK/disk/back }");
        put(&cli.path("beside"), "d/object", noise(1, SIZE));
        cli
    };
    every_way(8, RUN, with_object, |_, disk, must| {
        whole(&disk.join("back"), must);
        let names: Vec<_> = fs::read_dir(disk).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), if disk.join("back").exists() { 2 } else { 1 }, "{names:?}");
    });
}

#[test]
fn a_backup_onto_a_full_disk_is_no_backup_and_is_made_good() {
    let step = "uses: backup.create, with: { source: media, paths: [ WORK/content ], stores: [ disk ] }";
    every_way(
        15,
        RUN,
        || user(step),
        |_, disk, must| {
            let folder = disk.join("media/files");
            let backups: Vec<PathBuf> =
                fs::read_dir(folder).into_iter().flatten().map(|one| one.unwrap().path()).collect();
            let made: Vec<_> = backups.iter().filter(|folder| folder.join("manifest.json").exists()).collect();
            assert!(!must || !made.is_empty(), "{backups:?}");
            for folder in made {
                whole(&folder.join("content"), true);
            }
        },
    );
}

#[test]
fn an_archive_extracted_onto_a_full_disk_leaves_nothing_and_is_made_good() {
    let with_archive = || {
        let cli = user("uses: archive.extract, with: { from: { path: WORK/archive.tar }, to: WORK/disk/out }");
        let mut tar = tar::Builder::new(fs::File::create(cli.path("archive.tar")).unwrap());
        for name in ["a/one", "a/b/two"] {
            tar.append_path_with_name(cli.path("content"), name).unwrap();
        }
        tar.finish().unwrap();
        cli
    };
    every_way(16, RUN, with_archive, |_, disk, must| {
        let there = disk.join("out").exists();
        assert!(there || !must);
        for name in ["out/a/one", "out/a/b/two"] {
            whole(&disk.join(name), there);
        }
        let names: Vec<_> = fs::read_dir(disk).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), if there { 2 } else { 1 }, "{names:?}");
    });
}

#[test]
fn a_segment_pushed_onto_a_full_disk_leaves_nothing_and_is_made_good() {
    let cluster = Cluster::create(&[], &["--wal-segsize=1"]);
    let control = fs::read(cluster.pgdata().join(ControlFile::PATH)).unwrap();
    let parsed = ControlFile::parse(&control).unwrap();
    let name = SegmentName::holding(parsed.timeline, parsed.checkpoint, SegmentSize::new(1 << 20).unwrap()).to_string();
    let (system, segment) = (parsed.system_id, fs::read(cluster.pgdata().join("pg_wal").join(&name)).unwrap());
    let with_segment = || {
        let cli = user("uses: note, with: { text: unused }");
        let path = cli.path("pg").join(ControlFile::PATH);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &control).unwrap();
        fs::write(cli.path("pg/segment").with_file_name(&name), &segment).unwrap();
        let (disk, pgdata) = (cli.path("disk"), cli.path("pg"));
        let store = format!("{{ url: \"file://{}\", compression: {{ format: zstd }} }}", disk.display());
        cli.file("wal.yaml", &format!("store: {store}\nprefix: app\npgdata: {}\n", pgdata.display()));
        cli
    };
    let push = format!("wal push --config wal.yaml {name}");
    every_way(6, [&push, &push], with_segment, |_, disk, must| {
        let object = disk.join(format!("app/wal/{system}/00000001/{name}.zst"));
        assert!(object.exists() || !must, "{}", object.display());
        if object.exists() {
            let stored = zstd::decode_all(fs::File::open(object).unwrap()).unwrap();
            assert!(stored == segment);
        }
    });
}

#[test]
fn doctor_tells_a_full_store_from_one_that_forbids() {
    if std::env::var_os("RUNBOOK_TEST_NO_MOUNTS").is_some() {
        return;
    }
    let doctor = "doctor --store disk";
    let Shown { first, second, .. } =
        ordeal(user("uses: note, with: { text: unused }"), Disk::Pages(2500), [doctor, doctor]);
    let told = first.said.contains("large upload")
        && first.said.contains("the store is full")
        && first.said.contains("MiB free of");
    assert!(told && !first.said.contains("s3:AbortMultipartUpload"), "{}", first.said);
    assert!(!second.said.contains("the store is full"), "{}", second.said);
}

fn put(root: &Path, name: &str, bytes: Vec<u8>) {
    let entry = StoreEntry { url: format!("file://{}", root.display()), ..StoreEntry::default() };
    let store = runbook::store::Opening::plain(&entry, "beside").open().unwrap();
    let put = async { store.put(&key(name), body(bytes), PutOptions::default()).await };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(put).unwrap();
}
