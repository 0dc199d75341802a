//! A `pg_wal` on a small disk of its own, whose archive goes away and comes back: whoever watches is told before the server
//! stops, and nothing is dropped.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::cli::{Cli, until};
use crate::support::mount;
use crate::support::postgres::{Cluster, unprivileged};

const BINARY: &str = env!("CARGO_BIN_EXE_runbook");

/// A server that archives through `wal push` into a folder that can be taken away.
struct Site {
    cluster: Cluster,
    cli: Cli,
}

impl Site {
    fn with_wal_on(disk: &Path) -> Self {
        let waldir = disk.join("wal");
        let settings = [("archive_mode", "on"), ("min_wal_size", "5MB"), ("max_wal_size", "8MB")];
        let cluster = Cluster::create(&settings, &["--wal-segsize=1", "-X", &waldir.to_string_lossy()]);
        let (cli, config) = (Cli::new(), cluster.dir().join("wal.yaml"));
        let store = format!("{{ url: \"file://{}\" }}", cluster.folder("store").display());
        fs::write(&config, format!("store: {store}\nprefix: main\nretry_for: 0s\n")).unwrap();
        cluster.give(&config);
        let (pgdata, socket, bin) = (cluster.pgdata(), cluster.socket_dir(), cluster.bin());
        let entry = format!(
            "{{ pgdata: {}, port: {}, socket: {}, bin: {}, store: primary, prefix: main }}",
            pgdata.display(),
            cluster.port(),
            socket.display(),
            bin.display()
        );
        cli.file(
            "inventory.yaml",
            &format!("version: 1\ndatabases: {{ main: {entry} }}\nstores: {{ primary: {store} }}\n"),
        );
        cli.run(&["backups", "init"]).ends(0);
        if let Some((uid, gid)) = unprivileged() {
            let given =
                Command::new("chown").args(["-R", &format!("{uid}:{gid}")]).arg(cluster.dir().join("store")).status();
            assert!(given.unwrap().success());
        }
        let command = format!("{BINARY} wal push --config {} %p", config.display());
        cluster.configure(&[("archive_command", &command)]);
        cluster.up();
        cluster.sql("CREATE TABLE t (i int)");
        Self { cluster, cli }
    }

    /// Fills segments, each with a row.
    fn fill(&self, segments: u32) {
        for _ in 0..segments {
            self.cluster.sql("INSERT INTO t SELECT count(*) FROM t; SELECT pg_switch_wal()");
        }
    }

    /// The finding about the room, with its level.
    fn room(&self) -> Option<Value> {
        let told = self.cli.run(&["wal", "status", "main", "--json"]).json();
        let findings = told[0]["findings"].as_array().unwrap();
        findings.iter().find(|one| one["message"].to_string().contains("free beside `pg_wal`")).cloned()
    }

    fn waiting(&self) -> String {
        self.cluster.sql("SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'")
    }
}

#[test]
fn a_pg_wal_that_fills_up_is_an_alarm_before_the_server_stops_and_loses_nothing() {
    if !mount::mine("wal_room::a_pg_wal_that_fills_up_is_an_alarm_before_the_server_stops_and_loses_nothing") {
        return;
    }
    let disk = tempfile::Builder::new().prefix("rb").tempdir_in("/tmp").unwrap();
    let _mount = mount::sized(disk.path(), "110m");
    if let Some((uid, gid)) = unprivileged() {
        chown(disk.path(), Some(uid), Some(gid)).unwrap();
    }
    let site = Site::with_wal_on(disk.path());
    site.fill(2);
    until("all is archived", || site.waiting() == "0");
    assert_eq!(site.room(), None, "there is room");

    let (store, away) = (site.cluster.dir().join("store"), site.cluster.dir().join("away"));
    fs::rename(&store, &away).unwrap();
    site.fill(55);
    assert_eq!(site.room().unwrap()["level"], "warning");
    site.fill(5);
    until("the archiver tells it", || site.cluster.log().contains("ALARM: "));
    site.fill(36);
    assert_eq!(site.room().unwrap()["level"], "critical");
    until("it is told as critical", || site.cluster.log().contains("ALARM, CRITICAL: "));
    assert!(site.waiting().parse::<u32>().unwrap() >= 90, "nothing was dropped: {}", site.waiting());

    fs::rename(&away, &store).unwrap();
    site.fill(1);
    until("half is archived", || site.waiting().parse::<u32>().unwrap() < 50);
    until("all is archived", || site.waiting() == "0");
    site.cluster.sql("CHECKPOINT");
    until("the server lets it go", || site.room().is_none());
    assert_eq!(site.cluster.sql("SELECT count(*) FROM t"), "99");
    site.cli.run(&["wal", "verify", "main"]).ends(0);
}
