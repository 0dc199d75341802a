//! SIGKILL of servers that are at work: under load with a push in flight, and in the middle of a replay.
//!
//! Every kill here hits by construction: who is to die is held first, and found at its work.

use std::fs;
use std::path::PathBuf;

use runbook::pgformat::{ClusterState, ControlFile};
use rustix::process::{Pid, Signal};

use crate::support::cli::{Live, Ran, until};
use crate::support::crash::{Dies, Held, HeldReplay};
use crate::support::dice::Dice;
use crate::support::load::{Acknowledged, COUNTS, Load, Pace, TABLE};
use crate::support::production::Production;

/// Kills under load, each with a load of its own.
const ROUNDS: u64 = 4;
const LOSS: [&str; 8] =
    ["run", "full-db-loss", "-p", "database=main", "-p", "incident_at=1m ago", "--confirm", "production"];
const NONE: [String; 0] = [];

/// A production that clients fill.
struct Scene {
    production: Production,
    dice: Dice,
    acknowledged: Acknowledged,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let production = Production::new();
        production.site.cluster.sql(TABLE);
        Self { production, dice: Dice::seeded(seed), acknowledged: Acknowledged::default() }
    }

    fn place(&self) -> PathBuf {
        self.production.site.cluster.dir().to_owned()
    }

    /// Waits for nothing: the dice choose the moment.
    fn pause(&mut self, at_most: u64) {
        std::thread::sleep(std::time::Duration::from_millis(self.dice.below(at_most)));
    }

    /// Holds the first push that is at work.
    fn held_push(&self) -> Held {
        let (place, mut held) = (self.place(), None);
        until("a push is at work", || {
            held = Held::push(&place);
            held.is_some()
        });
        held.unwrap()
    }

    /// Holds the server of a recovery in the middle of its replay.
    fn held_replay(&self, live: &mut Live) -> HeldReplay {
        let (place, mut held) = (self.place(), None);
        until("the server of the recovery replays", || {
            assert!(live.lives(), "it ended before: {}", live.said());
            held = HeldReplay::catch(&place);
            held.is_some()
        });
        held.unwrap()
    }

    /// Kills the postmaster, or a session of a client, which takes all others with it; and lets the server come back.
    fn kills_server(&mut self, session: Session, push: Held) {
        let fate = self.dice.below(2);
        let settle = |push: Held| if fate == 0 { push.release() } else { drop(push) };
        let cluster = &self.production.site.cluster;
        let logged = cluster.log().len();
        match session {
            Session::None => {
                cluster.kill();
                let bytes = fs::read(cluster.pgdata().join(ControlFile::PATH)).unwrap();
                assert_eq!(ControlFile::parse(&bytes).unwrap().state, ClusterState::InProduction);
                // Its archiver waits for the push, and no server starts beside it.
                settle(push);
                until("the server starts again", || cluster.try_up().status.success());
            }
            Session::OfAClient => {
                let pid = cluster.sql("SELECT min(pid) FROM pg_stat_activity WHERE application_name = 'pgbench'");
                let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
                rustix::process::kill_process(pid, Signal::KILL).expect("the session was there");
                let died = || cluster.log()[logged..].contains("all server processes terminated; reinitializing");
                until("the server noticed", died);
                until("the server is there again", || cluster.try_sql("SELECT 1").status.success());
                // Meanwhile the server may push the same segment anew.
                settle(push);
            }
        }
        let said = &cluster.log()[logged..];
        assert!(said.contains("database system was not properly shut down"), "the kill hit: {said}");
    }

    /// Demands that all that was acknowledged is there.
    #[track_caller]
    fn all_is_there(&self) {
        assert_eq!(self.acknowledged.differences(&self.production.site.cluster.sql(COUNTS)), NONE);
    }

    /// Loses the machine, and demands that the archive alone brings back every row.
    fn comes_back_from_the_archive_alone(&self) {
        let cluster = &self.production.site.cluster;
        self.production.site.archive();
        let all = cluster.sql(COUNTS);
        cluster.kill();
        fs::remove_dir_all(cluster.pgdata()).unwrap();
        self.ends_well(self.production.cli.run(&LOSS));
        assert_eq!(cluster.sql(COUNTS), all);
        self.all_is_there();
    }

    #[track_caller]
    fn ends_well(&self, ran: Ran) {
        assert!(matches!(ran.code, Some(0 | 5)), "{ran:?}\n{}", self.production.site.cluster.log());
    }
}

/// Which session is killed.
#[derive(Debug, Clone, Copy)]
enum Session {
    /// The postmaster itself is.
    None,
    /// One of a client that writes.
    OfAClient,
}

#[test]
fn a_server_or_a_session_killed_under_load_while_a_push_works_loses_nothing_that_was_acknowledged() {
    let mut scene = Scene::new(31);
    for round in 0..ROUNDS {
        let session = if round % 2 == 0 { Session::None } else { Session::OfAClient };
        let load = Load::start(&scene.production.site.cluster, round, Pace::Full);
        load.is_under_way(&scene.production.site.cluster);
        scene.pause(300);
        let push = scene.held_push();
        scene.kills_server(session, push);
        scene.acknowledged.add(load.acknowledged());
        scene.all_is_there();
    }
    assert!(scene.acknowledged.total() > 200, "pgbench did something: {:?}", scene.acknowledged);
    scene.comes_back_from_the_archive_alone();
}

/// Has clients write, some of it not archived, and the server die.
fn lost(scene: &mut Scene, round: u64) {
    let cluster = &scene.production.site.cluster;
    let load = Load::start(cluster, round, Pace::Full);
    load.is_under_way(cluster);
    drop(scene.held_push());
    scene.production.site.cluster.kill();
    scene.acknowledged.add(load.acknowledged());
}

#[test]
fn a_recovery_whose_server_and_engine_are_killed_in_the_middle_of_replay_is_brought_to_its_end_by_resume() {
    let mut scene = Scene::new(32);
    for (round, who) in [(0, Dies::Postmaster), (1, Dies::Startup)] {
        lost(&mut scene, round);
        let mut live = scene.production.cli.spawn(&LOSS);
        let held = scene.held_replay(&mut live);
        assert!(live.kill(), "the engine was at work");
        held.kill(who);
        // And once more in the middle of what goes on.
        let mut live = scene.production.cli.spawn(&["resume", "last", "--rerun", "recover"]);
        let held = scene.held_replay(&mut live);
        assert!(live.kill(), "the engine was at work");
        held.kill(who);
        scene.ends_well(scene.production.cli.run(&["resume", "last", "--rerun", "recover"]));
        scene.all_is_there();
    }
    scene.comes_back_from_the_archive_alone();
}

#[test]
fn a_server_killed_in_the_middle_of_replay_fails_its_recovery_and_the_next_one_has_every_row() {
    let mut scene = Scene::new(33);
    for (round, who) in [(0, Dies::Startup), (1, Dies::Postmaster)] {
        lost(&mut scene, round);
        let mut live = scene.production.cli.spawn(&LOSS);
        let held = scene.held_replay(&mut live);
        held.kill(who);
        let failed = live.wait().ends(10);
        assert!(failed.err.contains("the server ended during recovery"), "{}", failed.err);
        scene.ends_well(scene.production.cli.run(&LOSS));
        scene.all_is_there();
    }
    scene.comes_back_from_the_archive_alone();
}
