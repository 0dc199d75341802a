//! SIGKILL of the engine in the middle of a real recovery: `resume` brings every row back, once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use runbook::language::inventory::StoreEntry;
use runbook::pgformat::{SegmentSize, SystemId, Timeline, TimelineHistory};
use serde_json::Value;

use crate::support::cli::{Cli, Ran};
use crate::support::crash::postmasters;
use crate::support::dice::Dice;
use crate::support::recovery::Site;

/// Rounds with random moments.
const RANDOM: u32 = 3;

/// When the engine is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// The staged folder appears.
    Staging,
    /// The staged folder is complete.
    Staged,
    /// A segment of the old `pg_wal` reached the archive.
    Rescued,
    /// The recovery's settings are written.
    Settled,
    /// The old data directory moved aside.
    Aside,
    /// The new data directory is in place.
    Swapped,
    /// The server is being started.
    Started,
    /// The server made its new timeline.
    Promoted,
    /// The recovery's settings are being removed.
    Cleaned,
    /// The recovery is proven, and its step not yet written down.
    Proven,
    /// The server waits at its target.
    Waiting,
    /// So long after the start of the program.
    After(u64),
}

/// Where the cluster's files lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// All in the data directory.
    Plain,
    /// `pg_wal` and a tablespace lie outside.
    Linked,
}

/// Which shipped runbook recovers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Road {
    /// In one step.
    Loss,
    /// With a look in between.
    Look,
}

impl Road {
    fn args(self) -> Vec<String> {
        let runbook = match self {
            Self::Loss => concat!(env!("CARGO_MANIFEST_DIR"), "/runbooks/postgres/full-db-loss.yaml"),
            Self::Look => concat!(env!("CARGO_MANIFEST_DIR"), "/runbooks/postgres/pitr.yaml"),
        };
        ["run", runbook, "--inventory", "inventory.yaml", "-p", "database=main", "-p", "incident_at=1m ago"]
            .map(str::to_owned)
            .into()
    }

    /// The step that opens the database.
    fn opens(self) -> &'static str {
        match self {
            Self::Loss => "recover",
            Self::Look => "open",
        }
    }
}

/// A cluster that died with a tail that was never archived, and a copy of everything as it was then.
struct Scene {
    site: Site,
    start: runbook::pgformat::Lsn,
    archived: usize,
    places: Vec<&'static str>,
    road: Road,
}

impl Scene {
    async fn new(layout: Layout) -> Self {
        let site = Site::new();
        let mut places = vec!["data", "store"];
        let mut space = String::new();
        if layout == Layout::Linked {
            site.cluster.stop("fast");
            let (own, outside) = (site.cluster.pgdata().join("pg_wal"), site.cluster.dir().join("wal"));
            fs::rename(&own, &outside).unwrap();
            std::os::unix::fs::symlink(&outside, &own).unwrap();
            site.cluster.give(&own);
            site.cluster.up();
            let folder = site.cluster.folder("space");
            site.cluster.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", folder.display()));
            space = " TABLESPACE space".to_owned();
            places.extend(["wal", "space"]);
        }
        site.cluster.sql(&format!("CREATE TABLE t(n int PRIMARY KEY){space}"));
        site.cluster.sql("INSERT INTO t SELECT generate_series(1, 1000)");
        let backup = site.run().base_backup().await;
        site.cluster.sql("INSERT INTO t SELECT generate_series(1001, 2000)");
        site.archive();
        site.cluster.sql("INSERT INTO t SELECT generate_series(2001, 3000)");
        site.cluster.kill();
        let start = backup.start_lsn.parse().unwrap();
        let scene = Self { start, archived: site.stored().len(), site, places, road: Road::Loss };
        for name in &scene.places {
            copy(&scene.place(name), &scene.place(&format!("{name}.copy")));
        }
        scene
    }

    fn place(&self, name: &str) -> PathBuf {
        self.site.cluster.dir().join(name)
    }

    /// Puts everything back as it was after the disaster.
    fn again(&self) {
        if !postmasters(self.site.cluster.dir()).is_empty() {
            self.site.cluster.stop("immediate");
        }
        for name in &self.places {
            for folder in self.beside(&format!("{name}.runbook-")) {
                fs::remove_dir_all(folder).unwrap();
            }
            fs::remove_dir_all(self.place(name)).unwrap();
            copy(&self.place(&format!("{name}.copy")), &self.place(name));
        }
    }

    fn cli(&self) -> Cli {
        let cluster = &self.site.cluster;
        let cli = Cli::new();
        let text = format!(
            "version: 1\ndatabases:\n  main:\n    pgdata: {}\n    socket: {}\n    port: {}\n    store: primary\n    bin: {}\n    \
             checks:\n      - {{ name: rows, sql: \"SELECT count(*) FROM t\", expect: \"> 0\" }}\nstores:\n  primary: {{ url: \"file://{}\" }}\n",
            cluster.pgdata().display(),
            cluster.socket_dir().display(),
            cluster.port(),
            cluster.bin().display(),
            self.place("store").display()
        );
        cli.file("inventory.yaml", &text);
        cli
    }

    fn beside(&self, prefix: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.site.cluster.dir()).unwrap().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path())
            .collect()
    }

    fn reached(&self, moment: Moment, since: Instant) -> bool {
        let data = self.site.cluster.pgdata();
        let staged = self.beside("data.runbook-staged-");
        let in_staged = |name: &str| staged.iter().any(|folder| folder.join(name).exists());
        let swapped = || staged.is_empty() && data.join("runbook-restore.json").exists();
        match moment {
            Moment::Staging => !staged.is_empty(),
            Moment::Staged => in_staged("runbook-restore.json"),
            Moment::Rescued => self.site.stored().len() > self.archived,
            Moment::Settled => in_staged("recovery.signal") || in_staged("standby.signal"),
            Moment::Aside => !self.beside("data.runbook-old-").is_empty(),
            Moment::Swapped => swapped(),
            Moment::Started => swapped() && data.join("postmaster.pid").exists(),
            Moment::Promoted => swapped() && data.join("pg_wal/00000002.history").exists(),
            Moment::Cleaned => swapped() && !data.join("runbook-fetch.json").exists(),
            Moment::Proven => {
                data.join("PG_VERSION").exists()
                    && !self.beside("data.runbook-old-").is_empty()
                    && staged.is_empty()
                    && !data.join("runbook-restore.json").exists()
            }
            Moment::Waiting => {
                let marker = fs::read_to_string(data.join("runbook-restore.json")).unwrap_or_default();
                swapped() && marker.contains("\"reached\"")
            }
            Moment::After(millis) => since.elapsed() >= Duration::from_millis(millis),
        }
    }

    /// Runs or resumes, and kills at a moment; tells whether the program was hit alive.
    fn hit(&self, cli: &Cli, moment: Moment) -> bool {
        let begin = Instant::now();
        let mut program = match cli.runs().is_empty() {
            true => cli.spawn(&self.road.args()),
            false => cli.spawn(&["resume", "last"]),
        };
        while program.lives() && !self.reached(moment, begin) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{moment:?} never came: {}", program.said());
            std::thread::sleep(Duration::from_millis(1));
        }
        program.kill()
    }

    /// Lets the run end; a step that asks is told to run again.
    fn finish(&self, cli: &Cli) -> Ran {
        if cli.runs().is_empty() {
            return cli.run(&self.road.args());
        }
        let ran = cli.run(&["resume", "last"]);
        match ran.code {
            Some(13) => cli.run(&["resume", "last", "--rerun", self.road.opens()]),
            _ => ran,
        }
    }

    fn prove(&self, cli: &Cli, rows: &str) {
        let cluster = &self.site.cluster;
        assert_eq!(cluster.sql("SELECT count(*), min(n), max(n) FROM t"), rows);
        assert_eq!(cluster.sql("SELECT timeline_id FROM pg_control_checkpoint()"), "2");
        for name in &self.places {
            assert_eq!(self.beside(&format!("{name}.runbook-staged-")), Vec::<PathBuf>::new());
            let kept = self.beside(&format!("{name}.runbook-old-"));
            assert_eq!(kept.len(), usize::from(*name != "store"), "{kept:?}");
        }
        let data = cluster.pgdata();
        for name in ["runbook-restore.json", "runbook-fetch.json", "recovery.signal", "backup_label"] {
            assert!(!data.join(name).exists(), "`{name}` is left");
        }
        assert_eq!(
            fs::metadata(data.join("postgresql.auto.conf")).map(owner).unwrap(),
            fs::metadata(&data).map(owner).unwrap()
        );
        assert_eq!(postmasters(cluster.dir()).len(), 1, "servers: {:?}", postmasters(cluster.dir()));
        cluster.sql("INSERT INTO t VALUES (0)");
        self.site.archive();
        self.whole();
        cli.run(&["audit", "verify", "all"]).ends(0);
    }

    /// The archive leads from the backup over the fork onto the new timeline.
    fn whole(&self) {
        let data = self.site.cluster.pgdata();
        let text = fs::read_to_string(data.join("pg_wal/00000002.history")).unwrap();
        let history = TimelineHistory::parse(Timeline(2), &text).unwrap();
        let system: u64 = self.site.cluster.sql("SELECT system_identifier FROM pg_control_system()").parse().unwrap();
        let entry = StoreEntry {
            url: format!("file://{}", self.place("store").display()),
            read_only: true,
            ..StoreEntry::default()
        };
        let store = runbook::store::Opening::plain(&entry, "primary").open_read().unwrap();
        let archive = ("main", SystemId(system), SegmentSize::DEFAULT);
        let looking = runbook::wal::contiguity(store.as_ref(), archive, &history, self.start, None);
        let found =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(looking).unwrap();
        assert!(found.is_whole() && found.last.timeline() == Timeline(2), "{found:?}");
    }
}

fn owner(facts: fs::Metadata) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt as _;
    (facts.uid(), facts.gid())
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn output(cli: &Cli, road: Road) -> Value {
    let shown = cli.shown();
    let step = shown["steps"].as_array().unwrap().iter().find(|step| step["id"] == road.opens()).unwrap().clone();
    step["output"].clone()
}

/// Kills at each moment, lets `resume` end the run, and proves what came of it; gives how often it hit.
fn round(scene: &Scene, moments: &[Moment]) -> u32 {
    scene.again();
    let cli = scene.cli();
    let mut live = 0;
    for moment in moments {
        let hit = scene.hit(&cli, *moment);
        println!("{moment:?}: {}", if hit { "hit" } else { "it had ended" });
        live += u32::from(hit);
    }
    let ran = scene.finish(&cli);
    assert_eq!(ran.code, Some(0), "after {moments:?}: {ran:?}\n{:#?}", cli.journal());
    let kept = scene.beside("data.runbook-old-").pop().unwrap();
    let wal = if scene.places.contains(&"wal") { "wal.copy" } else { "data.copy/pg_wal" };
    assert_eq!(names(&kept.join("pg_wal")), names(&scene.place(wal)), "the old data is kept whole");
    scene.prove(&cli, "3000|1|3000");
    assert_eq!(output(&cli, scene.road)["loss"]["coverage"], "to_last_flushed", "{moments:?}");
    live
}

/// How long a whole run takes here, in milliseconds: machines differ by a factor of ten.
fn length(scene: &Scene) -> u64 {
    scene.again();
    let cli = scene.cli();
    let begin = Instant::now();
    cli.run(&scene.road.args()).ends(0);
    u64::try_from(begin.elapsed().as_millis()).unwrap().max(1)
}

/// A few moments after the start of the program, in the range that a whole run takes.
fn thrown(dice: &mut Dice, length: u64) -> Vec<Moment> {
    (0..=dice.below(3)).map(|_| Moment::After(dice.below(length))).collect()
}

fn scene(layout: Layout) -> Scene {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(Scene::new(layout))
}

#[test]
fn an_engine_killed_anywhere_in_a_recovery_leaves_nothing_that_resume_does_not_finish() {
    use Moment::{After, Aside, Cleaned, Promoted, Proven, Rescued, Settled, Staged, Staging, Started, Swapped};
    let scene = scene(Layout::Plain);
    let rounds: [&[Moment]; 3] = [
        &[Staging, Settled, Swapped, Promoted, Proven],
        &[Staged, Aside, Started, Cleaned],
        &[Rescued, After(90), Started, After(60)],
    ];
    let mut live: u32 = rounds.iter().map(|moments| round(&scene, moments)).sum();
    let (mut dice, length) = (Dice(7), length(&scene));
    for _ in 0..RANDOM {
        live += round(&scene, &thrown(&mut dice, length));
    }
    assert!(live >= 12, "only {live} kills hit a live program");
}

#[test]
fn a_cluster_with_folders_outside_its_data_directory_survives_the_same() {
    use Moment::{Aside, Promoted, Rescued, Started, Swapped};
    let scene = scene(Layout::Linked);
    let mut live = round(&scene, &[Aside, Aside, Started]) + round(&scene, &[Rescued, Aside, Swapped, Promoted]);
    let (mut dice, length) = (Dice(11), length(&scene));
    for _ in 0..RANDOM {
        live += round(&scene, &thrown(&mut dice, length));
    }
    assert!(live >= 8, "only {live} kills hit a live program");
}

#[test]
fn a_recovery_that_looks_first_survives_the_same() {
    use Moment::{Promoted, Settled, Started, Swapped, Waiting};
    let mut scene = scene(Layout::Plain);
    scene.road = Road::Look;
    let mut live = round(&scene, &[Settled, Swapped, Waiting, Promoted]) + round(&scene, &[Started, Waiting, Waiting]);
    let (mut dice, length) = (Dice(13), length(&scene));
    for _ in 0..RANDOM {
        live += round(&scene, &thrown(&mut dice, length));
    }
    assert!(live >= 5, "only {live} kills hit a live program");
}
