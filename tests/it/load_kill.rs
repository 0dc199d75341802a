//! Crashes under load: whoever dies in a recovery, a drill or beside a copy, and whenever, no acknowledged commit is lost.
//! Whether the dice hit a server in its short replay is luck; `server_kill` holds one there first.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::cli::{Cli, Live, listing, processes_of, until};
use crate::support::crash::{Dies, HeldReplay, kill_wal};
use crate::support::dice::Dice;
use crate::support::load::{Acknowledged, COUNTS, Load, Pace, TABLE};
use crate::support::postgres::Cluster;
use crate::support::production::Production;

/// Disasters in a row, each with its load.
const ROUNDS: u64 = 2;
/// Crashes of one procedure.
const CRASHES: u32 = 7;
/// How often a procedure is begun or resumed until something is wrong with it.
const TRIES: u32 = 30;
const NONE: [String; 0] = [];

/// A procedure that is carried through, whoever dies meanwhile.
struct Course {
    /// How a run of it is started.
    begin: Vec<String>,
    /// Below this folder its servers and their fetches work.
    place: PathBuf,
    /// The step that starts a server, and asks whether to run again when it was cut off.
    serving: &'static str,
    /// How often somebody is killed.
    crashes: u32,
    /// How many servers must die in the middle of their replay.
    replays: u32,
    /// The run that goes on; `None` before the first one, and after one that failed.
    run: Option<String>,
}

impl Course {
    fn new(begin: &[&str], place: &Path, serving: &'static str) -> Self {
        let begin = begin.iter().map(|word| (*word).to_owned()).collect();
        Self { begin, place: place.to_owned(), serving, crashes: CRASHES, replays: 1, run: None }
    }

    fn quiet(self) -> Self {
        Self { crashes: 0, replays: 0, ..self }
    }
}

/// A production with clients at work, and somebody who kills.
struct Scene {
    production: Production,
    dice: Dice,
    acknowledged: Acknowledged,
    /// How many crashes took somebody: the engine, pushes or fetches, a server.
    taken: [u32; 3],
}

impl Scene {
    fn new(seed: u64) -> Self {
        let production = Production::new();
        production.site.cluster.sql(TABLE);
        Self { production, dice: Dice::seeded(seed), acknowledged: Acknowledged::default(), taken: [0; 3] }
    }

    fn cli(&self) -> &Cli {
        &self.production.cli
    }

    fn cluster(&self) -> &Cluster {
        &self.production.site.cluster
    }

    fn base_backup(&self) {
        self.cli().run(&["run", "base-backup", "-p", "database=main", "--confirm", "production"]).ends(0);
    }

    /// Waits for nothing: the dice choose the moment of a crash.
    fn pause(&mut self, at_most: u64) {
        std::thread::sleep(Duration::from_millis(self.dice.below(at_most)));
    }

    /// Lines of all journals.
    fn events(&self) -> usize {
        let journals = self.cli().runs().into_iter().map(|run| run.join("journal.jsonl"));
        journals.map(|path| fs::read_to_string(path).unwrap_or_default().lines().count()).sum()
    }

    /// Whether the newest run is at a step.
    fn is_at(&self, step: &str) -> bool {
        let events = self.cli().events(self.cli().runs().len().saturating_sub(1));
        let last = events.iter().rev().find(|event| event["type"] == "attempt_started");
        last.is_some_and(|event| event["step"] == step)
    }

    /// Kills whoever the dice say at moments that they say, until the program has ended; gives its code, none when it was
    /// killed itself.
    fn struck(&mut self, mut live: Live, course: &mut Course) -> Option<i32> {
        if course.crashes == CRASHES {
            // The first one never misses, however fast the machine is.
            until("it is at its work", || !live.lives() || self.is_at(course.serving));
            if live.lives() {
                course.crashes -= 1;
                self.took(0, usize::from(live.kill()));
                return None;
            }
        }
        while live.lives() && course.crashes > 0 {
            let seen = self.events() + usize::try_from(self.dice.below(5)).unwrap();
            until("something happens", || !live.lives() || self.events() >= seen);
            self.pause(120);
            let place = course.place.clone();
            let hit = match self.dice.below(5) {
                _ if !live.lives() => break,
                _ if course.replays > 0 && self.is_at(course.serving) => self.strikes_replay(&mut live, course),
                0 => self.took(1, caught(&mut live, &place)),
                1 | 2 if self.is_at(course.serving) => self.strikes_replay(&mut live, course),
                _ => {
                    course.crashes -= 1;
                    // One that ended just now says its code again when it is resumed.
                    self.took(0, usize::from(live.kill()));
                    return None;
                }
            };
            course.crashes -= u32::from(hit);
        }
        while live.lives() {
            if course.replays > 0 && self.is_at(course.serving) {
                self.strikes_replay(&mut live, course);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        live.wait().code
    }

    /// Waits for the server of a recovery, holds it as it replays, and kills it; tells whether there was one.
    fn strikes_replay(&mut self, live: &mut Live, course: &mut Course) -> bool {
        let who = if self.dice.below(2) == 0 { Dies::Postmaster } else { Dies::Startup };
        while live.lives() && self.is_at(course.serving) {
            if let Some(held) = HeldReplay::catch(&course.place) {
                held.kill(who);
                course.replays = course.replays.saturating_sub(1);
                return self.took(2, 1);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }

    fn took(&mut self, whom: usize, count: usize) -> bool {
        self.taken[whom] += u32::from(count > 0);
        count > 0
    }

    /// Carries a procedure through with crashes: what lost its engine is resumed, what failed is run anew. Gives the code
    /// of the run that ended, or that waits for a person.
    fn carry(&mut self, mut course: Course, on_failure: impl Fn(&Self)) -> i32 {
        let mut rerun = false;
        for _ in 0..TRIES {
            let had = self.cli().runs().len();
            let mut args = course.begin.clone();
            if let Some(run) = &course.run {
                args = vec!["resume".to_owned(), run.clone()];
                args.extend(rerun.then(|| ["--rerun", course.serving].map(ToOwned::to_owned)).into_iter().flatten());
            }
            let live = self.cli().spawn(&args);
            rerun = false;
            let code = self.struck(live, &mut course);
            println!("{args:?}: {code:?}, {:?} so far", self.taken);
            let runs = self.cli().runs();
            if let Some(new) = runs.last().filter(|_| runs.len() > had) {
                course.run = Some(new.file_name().unwrap().to_string_lossy().into_owned());
            }
            match code {
                None => {}
                Some(13) if !self.has_succeeded(course.serving) => rerun = true,
                Some(code @ (0 | 5 | 13)) => return code,
                Some(10 | 11) => {
                    on_failure(self);
                    course.run = None;
                }
                Some(other) => panic!("exit {other} of {args:?}: {:#?}", self.said()),
            }
        }
        panic!("{TRIES} tries were too few: {:#?}", self.said())
    }

    fn has_succeeded(&self, step: &str) -> bool {
        self.cli().status(step) == "succeeded"
    }

    /// What was said by the last program, and what happened in the last run.
    fn said(&self) -> Vec<String> {
        let mut files: Vec<PathBuf> =
            fs::read_dir(self.cli().dir().join("said")).unwrap().flatten().map(|e| e.path()).collect();
        files.sort_by_key(|path| path.metadata().and_then(|facts| facts.modified()).unwrap());
        let last = files.iter().rev().take(2).map(|path| fs::read_to_string(path).unwrap());
        let events = self.cli().events(self.cli().runs().len().saturating_sub(1)).into_iter();
        events.map(|event| event.to_string()).chain(last).collect()
    }

    /// Demands that all that was acknowledged is in the answer of a server.
    #[track_caller]
    fn is_all_in(&self, answer: &str) {
        assert_eq!(self.acknowledged.differences(answer), NONE);
    }

    /// Demands that nothing runs or lies about of what runs had created, and that each of them knows it.
    #[track_caller]
    fn nothing_is_left(&self) {
        let cli = self.cli();
        assert_eq!(listing(&cli.state().join("scratch")), NONE);
        until("who fetched ahead goes with its instance", || processes_of(cli.dir()).is_empty());
        cli.run(&["leases"]).ends(0).says("no leases");
        cli.run(&["audit", "verify", "all"]).ends(0);
    }

    /// What a drill or a copy may not change while clients write.
    fn untouched(&self) -> Vec<String> {
        let mut facts = self.production.server_facts();
        facts.extend(listing(&self.cluster().dir().join("store/main/base")));
        facts
    }

    /// Has clients write, and a base backup taken of it that holds all of that; the inventory's checks demand it.
    fn with_history(&mut self) {
        let load = Load::start(self.cluster(), 0, Pace::Full);
        load.is_under_way(self.cluster());
        self.pause(1500);
        self.acknowledged.add(load.end(self.cluster()));
        assert!(self.acknowledged.total() > 20, "few were acknowledged: {:?}", self.acknowledged);
        let rows = self.cluster().sql("SELECT count(*) FROM seen WHERE round = 0");
        let more = format!(
            "expect: '= 1000' }}, {{ name: seen, sql: SELECT count(*) FROM seen WHERE round = 0, expect: '= {rows}' }}"
        );
        let text = self.cli().read("inventory.yaml").replace("expect: '= 1000' }", &more);
        self.cli().file("inventory.yaml", &text);
        self.base_backup();
        fs::remove_dir_all(self.cli().state()).unwrap();
    }
}

/// Waits for pushes or fetches to kill, not for long, and tells how many it killed.
fn caught(live: &mut Live, place: &Path) -> usize {
    let begin = Instant::now();
    while live.lives() && begin.elapsed() < Duration::from_millis(300) {
        match kill_wal(place) {
            0 => std::thread::sleep(Duration::from_millis(2)),
            several => return several,
        }
    }
    0
}

#[test]
fn what_was_acknowledged_before_a_crash_is_back_though_everybody_was_killed_in_the_recovery_too() {
    let mut scene = Scene::new(22);
    let place = scene.cluster().dir().to_owned();
    let loss = ["run", "full-db-loss", "-p", "database=main", "-p", "incident_at=1m ago", "--confirm", "production"];
    for round in 0..ROUNDS {
        let load = Load::start(scene.cluster(), round, Pace::Full);
        scene.base_backup();
        for _ in 0..3 {
            scene.pause(400);
            kill_wal(&place);
        }
        scene.cluster().kill();
        kill_wal(&place);
        scene.acknowledged.add(load.acknowledged());
        let code = scene.carry(Course::new(&loss, &place, "recover"), |_| {});
        assert!(matches!(code, 0 | 5), "{code}: {:#?}", scene.said());
        scene.is_all_in(&scene.cluster().sql(COUNTS));
    }
    assert!(scene.taken[0] >= 4, "{} kills hit a live engine", scene.taken[0]);
    assert!(scene.acknowledged.total() > 100, "pgbench did something: {:?}", scene.acknowledged);
    // And the archive alone leads over every timeline that the crashes made.
    scene.production.site.archive();
    let all = scene.cluster().sql(COUNTS);
    scene.cluster().kill();
    fs::remove_dir_all(scene.cluster().pgdata()).unwrap();
    let first = first_backup(&scene);
    let from_first = [&loss[..], &["-p", &first]].concat();
    assert_eq!(scene.carry(Course::new(&from_first, &place, "recover").quiet(), |_| {}), 0);
    assert_eq!(scene.cluster().sql(COUNTS), all);
    scene.is_all_in(&all);
    scene.cli().run(&["audit", "verify", "all"]).ends(0);
}

/// The oldest base backup, as a parameter.
fn first_backup(scene: &Scene) -> String {
    let backups = fs::read_dir(scene.cluster().dir().join("store/main/base")).unwrap().flatten();
    let names: BTreeSet<String> = backups.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    format!("backup={}", names.first().unwrap())
}

#[test]
fn drills_in_which_everybody_is_killed_bring_all_that_was_acknowledged_and_leave_a_busy_production_alone() {
    let mut scene = Scene::new(23);
    scene.with_history();
    let load = Load::start(scene.cluster(), 1, Pace::Steady);
    load.is_under_way(scene.cluster());
    let (before, place) = (scene.untouched(), scene.cli().dir().to_owned());
    for name in ["restore-test", "quarterly-drill"] {
        let course = Course::new(&["drill", name, "-p", "database=main"], &place, "recover");
        // The inventory's checks count what was acknowledged.
        assert_eq!(scene.carry(course, Scene::nothing_is_left), 0, "{name}");
        scene.nothing_is_left();
        assert_eq!(scene.untouched(), before, "{name}");
    }
    assert!(scene.taken[0] >= 4, "{} kills hit a live engine", scene.taken[0]);
    left_for_dead(&mut scene);
    assert_eq!(scene.untouched(), before);
    let acknowledged = load.end(scene.cluster());
    scene.acknowledged.add(acknowledged);
    scene.is_all_in(&scene.cluster().sql(COUNTS));
}

/// A drill that nobody resumes is in no other drill's way, and `reap` removes what it left.
fn left_for_dead(scene: &mut Scene) {
    let drill = ["drill", "quarterly-drill", "-p", "database=main"];
    fs::remove_dir_all(scene.cli().state()).unwrap();
    let live = scene.cli().spawn(&drill);
    until("it recovers", || scene.is_at("recover"));
    scene.pause(300);
    assert!(live.kill());
    let dead = scene.cli().id();
    scene.cli().run(&drill).ends(0);
    scene.cli().run(&["reap", &dead, "--yes"]).ends(0);
    let left = listing(&scene.cli().state().join("scratch"));
    assert!(left.len() == 1 && left[0].contains(&dead), "the folder of a run that may still be resumed: {left:#?}");
    scene.cli().run(&["resume", &dead]).ends(10);
    scene.nothing_is_left();
}

#[test]
fn a_copy_beside_a_busy_production_has_all_that_was_acknowledged_though_everybody_was_killed_as_it_was_made() {
    let mut scene = Scene::new(24);
    scene.with_history();
    let load = Load::start(scene.cluster(), 1, Pace::Steady);
    load.is_under_way(scene.cluster());
    let (before, place) = (scene.untouched(), scene.cli().dir().to_owned());
    let copy = ["run", "side-copy", "-p", "database=main", "--confirm", "production"];
    assert_eq!(scene.carry(Course::new(&copy, &place, "copy"), Scene::nothing_is_left), 13);
    assert!(scene.taken[0] > 0, "no kill hit a live engine");
    scene.is_all_in(&asked(&scene));
    let run = scene.cli().runs().pop().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    scene.cli().run(&["approve", &run]).ends(0);
    let end = Course { run: Some(run), ..Course::new(&copy, &place, "copy") };
    assert_eq!(scene.carry(end, |scene| panic!("{:#?}", scene.said())), 0);
    scene.nothing_is_left();
    assert_eq!(scene.untouched(), before);
    let acknowledged = load.end(scene.cluster());
    scene.acknowledged.add(acknowledged);
    scene.is_all_in(&scene.cluster().sql(COUNTS));
}

/// What the copy of the newest run answers.
fn asked(scene: &Scene) -> String {
    let shown = scene.cli().shown();
    let steps = shown["steps"].as_array().unwrap();
    let instance = &steps.iter().find(|step| step["id"] == "copy").unwrap()["output"]["instance"];
    let mut psql = scene.cluster().command("psql");
    psql.args(["-XAtq", "-U", "postgres", "-d", "postgres", "-c", COUNTS, "-h"]);
    psql.arg(instance["socket"].as_str().unwrap()).arg("-p").arg(Value::to_string(&instance["port"]));
    let output = psql.output().unwrap();
    assert!(output.status.success(), "{instance}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
