//! pgbench at work on a cluster, and the commits that its clients saw acknowledged.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use super::cli::until;
use super::postgres::Cluster;

/// The table that the clients fill.
pub const TABLE: &str = "CREATE TABLE seen (round int, client int, pad text)";
/// What [`Acknowledged::differences`] is held against.
pub const COUNTS: &str = "SELECT round, client, count(*) FROM seen GROUP BY 1, 2 ORDER BY 1, 2";
/// The clients of one load.
const CLIENTS: &str = "4";

/// How much is written.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// All that the machine can, up to about half a gigabyte of WAL: no test fills a disk.
    Full,
    /// About two megabytes of WAL a second.
    Steady,
}

/// pgbench at work: its clients log each commit when the server has acknowledged it.
pub struct Load {
    pgbench: Child,
    log: PathBuf,
    round: u64,
}

impl Load {
    /// Starts it; its rows say which round they are of.
    pub fn start(cluster: &Cluster, round: u64, pace: Pace) -> Self {
        let dir = cluster.folder("load");
        let script = dir.join("script.sql");
        fs::write(&script, "INSERT INTO seen VALUES (:round, :client_id, repeat('x', 1500));\n").unwrap();
        let log = dir.join(format!("round{round}"));
        let mut pgbench = cluster.command("pgbench");
        pgbench.args(["-n", "-c", CLIENTS, "-U", "postgres", "-l"]).arg("-D").arg(format!("round={round}"));
        match pace {
            Pace::Full => pgbench.args(["-t", "60000"]),
            Pace::Steady => pgbench.args(["-T", "600", "--rate=1000"]),
        };
        pgbench.arg("-f").arg(&script).arg(format!("--log-prefix={}", log.display()));
        pgbench.arg("-h").arg(cluster.socket_dir()).arg("-p").arg(cluster.port().to_string()).arg("postgres");
        let pgbench = pgbench.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("pgbench");
        Self { pgbench, log, round }
    }

    /// Waits until it is well under way.
    pub fn is_under_way(&self, cluster: &Cluster) {
        let rows = format!("SELECT count(*) > 50 FROM seen WHERE round = {}", self.round);
        until("pgbench writes", || cluster.sql(&rows) == "t");
    }

    /// Ends its sessions, the server stays; gives what was acknowledged until then.
    pub fn end(mut self, cluster: &Cluster) -> Acknowledged {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'pgbench'";
        // Sessions that were not there yet come later.
        until("pgbench ends with its sessions", || {
            cluster.sql(end);
            self.pgbench.try_wait().unwrap().is_some()
        });
        self.acknowledged()
    }

    /// Waits for its end, which comes with the server's, and counts the commits that each client saw acknowledged.
    pub fn acknowledged(mut self) -> Acknowledged {
        self.pgbench.wait().unwrap();
        let log = PathBuf::from(format!("{}.{}", self.log.display(), self.pgbench.id()));
        let mut clients = Acknowledged::default();
        for line in fs::read_to_string(log).unwrap_or_default().lines() {
            let client = line.split(' ').next().unwrap().to_owned();
            *clients.0.entry((self.round, client)).or_default() += 1;
        }
        clients
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ended = self.pgbench.kill();
        let _reaped = self.pgbench.wait();
    }
}

/// How many commits each client of each round saw acknowledged.
#[derive(Debug, Default, Clone)]
pub struct Acknowledged(BTreeMap<(u64, String), usize>);

impl Acknowledged {
    /// Takes those of another load in.
    pub fn add(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// Where a server's answer to [`COUNTS`] differs from what its clients saw. One commit more may be there of each
    /// client: its answer was lost on the way.
    pub fn differences(&self, answer: &str) -> Vec<String> {
        let mut there: BTreeMap<(u64, String), usize> = BTreeMap::new();
        for line in answer.lines() {
            let fields: Vec<&str> = line.split('|').collect();
            there.insert((fields[0].parse().unwrap(), fields[1].to_owned()), fields[2].parse().unwrap());
        }
        let there = |key: &(u64, String)| there.get(key).copied().unwrap_or_default();
        let wrong = self.0.iter().filter(|(key, count)| !(**count..=**count + 1).contains(&there(key)));
        wrong.map(|(key, count)| format!("{key:?}: {count} acknowledged, {} there", there(key))).collect()
    }
}
