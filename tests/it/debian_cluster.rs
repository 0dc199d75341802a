//! Clusters as Debian keeps them: made by `pg_createcluster`, their configuration in `/etc/postgresql`, stopped and
//! started by `pg_ctlcluster`. Destroyed and brought back by the shipped procedures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::cli::{Cli, until};
use crate::support::postgres::{free_port, server_bin};
use crate::support::program::{left_out, need};

/// One cluster of this machine's own, gone when it is dropped.
struct Debian {
    version: String,
    name: String,
    port: u16,
    cli: Cli,
}

impl Debian {
    /// Makes and starts one; `None` where it was left out by name: on another system no such tools exist.
    fn start() -> Option<Self> {
        let is_debian = Path::new("/etc/debian_version").exists() && rustix::process::geteuid().is_root();
        let lack = (!is_debian).then_some("`pg_createcluster` is Debian's, and wants root");
        if left_out("RUNBOOK_TEST_NO_DEBIAN", lack) {
            return None;
        }
        need("pg_createcluster", "postgresql");
        let bin = server_bin();
        let version = bin.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let cluster =
            Self { version, name: format!("rbtest{}", std::process::id()), port: free_port(), cli: Cli::new() };
        let port = cluster.port.to_string();
        cluster.tool("pg_createcluster", &["-p", &port, "--start-conf", "manual"], &["--", "-A", "trust", "--no-sync"]);
        let conf = cluster.configuration().join("conf.d/test.conf");
        fs::write(conf, "listen_addresses = '127.0.0.1'\nfsync = off\nshared_buffers = 16MB\nmax_wal_size = 256MB\n")
            .unwrap();
        cluster.tool("pg_ctlcluster", &[], &["start"]);
        cluster.inventory(&cluster.data());
        Some(cluster)
    }

    /// Runs one of Debian's tools on the cluster.
    #[track_caller]
    fn tool(&self, program: &str, before: &[&str], after: &[&str]) {
        let mut command = Command::new(program);
        command.args(before).args([&self.version, &self.name]).args(after).stdin(Stdio::null());
        // Its server keeps the pipes of whoever started it.
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{program} {before:?} {after:?}: {status}");
    }

    fn data(&self) -> PathBuf {
        Path::new("/var/lib/postgresql").join(&self.version).join(&self.name)
    }

    fn configuration(&self) -> PathBuf {
        Path::new("/etc/postgresql").join(&self.version).join(&self.name)
    }

    fn inventory(&self, pgdata: &Path) {
        let store = self.cli.dir().join("store");
        fs::create_dir_all(&store).unwrap();
        std::os::unix::fs::chown(&store, crate::support::postgres::unprivileged().map(|owner| owner.0), None).unwrap();
        self.cli.file(
            "inventory.yaml",
            &format!(
                "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: /var/run/postgresql, store: primary, prefix: main,\n    \
                 via: {{ pg_ctlcluster: {}/{} }}, checks: [ {{ name: rows, sql: SELECT count(*) FROM t, expect: '= 1000' }} ] }}\n\
                 stores: {{ primary: {{ url: \"file://{}\" }} }}\n\
                 environments:\n  production: {{ protected: true, default: true }}\n  \
                 drill: {{ databases: {{ main: {{ scratch: true }} }}, stores: {{ primary: {{ read_only: true }} }} }}\n",
                pgdata.display(),
                self.port,
                self.version,
                self.name,
                store.display(),
            ),
        );
    }

    #[track_caller]
    fn sql(&self, sql: &str) -> String {
        let port = self.port.to_string();
        let mut command = Command::new("psql");
        command.args([
            "-XAtq",
            "-U",
            "postgres",
            "-h",
            "/var/run/postgresql",
            "-p",
            &port,
            "-d",
            "postgres",
            "-c",
            sql,
        ]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Runs a shipped runbook for real.
    fn run(&self, runbook: &str, params: &[&str]) -> crate::support::cli::Ran {
        let mut words = vec!["run", runbook, "-p", "database=main", "--confirm", "production"];
        params.iter().for_each(|param| words.extend(["-p", param]));
        self.cli.run(&words)
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        // Debian's tool leaves a folder in which somebody else has put a file.
        let _gone = fs::remove_file(self.configuration().join("conf.d/test.conf"));
        let mut remove = Command::new("pg_dropcluster");
        let _ended = remove.args(["--stop", &self.version, &self.name]).stdout(Stdio::null()).status();
        let beside = fs::read_dir(self.data().parent().unwrap()).into_iter().flatten().flatten();
        let ours = beside.filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{}.", self.name)));
        ours.for_each(|entry| fs::remove_dir_all(entry.path()).unwrap_or_default());
        let _gone = fs::remove_file(format!("/var/log/postgresql/postgresql-{}-{}.log", self.version, self.name));
    }
}

#[test]
fn a_lost_cluster_of_debians_comes_back_with_its_configuration_where_it_was() {
    let Some(debian) = Debian::start() else { return };
    debian.run("setup-archiving", &["restart=allowed"]).ends(0);
    debian.sql("CREATE TABLE t(n int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 500)");
    debian.run("base-backup", &[]).ends(0);
    debian.sql("INSERT INTO t SELECT generate_series(501, 1000)");
    let segment = debian.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    debian.sql("SELECT pg_switch_wal()");
    let archived = format!("SELECT coalesce(last_archived_wal, '') >= '{segment}' FROM pg_stat_archiver");
    until("all that was written is archived", || debian.sql(&archived) == "t");
    debian.cli.run(&["drill", "full-db-loss", "-p", "database=main"]).ends(0);
    // The server still runs when its files are gone: no pid file tells who it is.
    fs::remove_dir_all(debian.data()).unwrap();
    debian.run("full-db-loss", &["incident_at=now"]).ends(0);
    assert_eq!(debian.sql("SELECT count(*), sum(n) FROM t"), "1000|500500");
    assert_eq!(
        debian.sql("SHOW config_file"),
        debian.configuration().join("postgresql.conf").to_string_lossy(),
        "the server was not started by Debian's tool"
    );
    debian.tool("pg_ctlcluster", &[], &["status"]);
}

#[test]
fn a_configuration_of_another_cluster_is_found_before_anything_stops() {
    let Some(debian) = Debian::start() else { return };
    let other = debian.data().with_file_name("elsewhere");
    debian.inventory(&other);
    debian.cli.file(
        "runbook.yaml",
        "version: 1\nname: start\nsteps:\n  - { id: start, uses: postgres.start, with: { database: main } }\n",
    );
    debian.tool("pg_ctlcluster", &[], &["stop"]);
    debian.cli.run(&["run", "runbook.yaml", "--confirm", "production"]).ends(10).says("is of the data directory");
    debian.inventory(&debian.data());
    debian.cli.run(&["run", "runbook.yaml", "--confirm", "production"]).ends(0);
    assert_eq!(debian.sql("SELECT 1"), "1");
    let by_hand = debian.cli.run(&["print", "runbook.yaml"]).ends(0);
    let line = format!("pg_ctlcluster {} {} start", debian.version, debian.name);
    assert!(by_hand.out.contains(&line), "{}", by_hand.out);
}
