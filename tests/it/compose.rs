//! Servers in containers, by a real Docker engine: stopped and started by compose, dumped, backed up and restored beside.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use runbook::language::inventory::StoreEntry;
use runbook::store::Opening;

use crate::support::cli::{Cli, Ran};
use crate::support::docker::{Docker, IMAGE, UID};
use crate::support::postgres::{free_port, server_bin, unprivileged};
use crate::support::recovery::Known;

/// A project with one server, and somebody who operates it.
struct Project {
    docker: Docker,
    cli: Cli,
    port: u16,
}

impl Project {
    /// Makes the project with an empty cluster that does not run.
    fn new() -> Self {
        let docker = Docker::start();
        let cli = Cli::new().var("DOCKER_HOST", &docker.host());
        let project = Self { docker, cli, port: free_port() };
        let bin = server_bin();
        project.cli.file(
            "compose.yaml",
            &format!(
                "version: '2.4'\nservices:\n  db:\n    image: {IMAGE}\n    network_mode: host\n    stop_signal: SIGINT\n    \
                 command: [{bin}/postgres, -D, /var/lib/postgresql/data, -c, listen_addresses=127.0.0.1, -c, port={}, \
                 -c, unix_socket_directories=/tmp, -c, fsync=off, -c, shared_buffers=16MB]\n    \
                 volumes: ['data:/var/lib/postgresql/data']\nvolumes: {{ data: {{}} }}\n",
                project.port,
                bin = bin.display(),
            ),
        );
        let initdb = bin.join("initdb").to_string_lossy().into_owned();
        let words = [
            "-p",
            "shop",
            "run",
            "--rm",
            "-T",
            "--no-deps",
            "db",
            &initdb,
            "-A",
            "trust",
            "-U",
            "postgres",
            "--locale=C",
        ];
        let words = [&words[..], &["--no-sync", "-D", "/var/lib/postgresql/data"]].concat();
        project.docker.compose(&project.cli.path(""), &words);
        project.inventory();
        project
    }

    /// Where the volume lies on this machine.
    fn volume(&self) -> PathBuf {
        let output = self.docker.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", "shop_data"]);
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    }

    fn inventory(&self) {
        let store = self.cli.dir().join("store");
        fs::create_dir_all(&store).unwrap();
        // What a drill's server fetches is read by its own user.
        std::os::unix::fs::chown(&store, unprivileged().map(|owner| owner.0), None).unwrap();
        let url = format!("file://{}", store.display());
        let entry = StoreEntry { url, ..StoreEntry::default() };
        Opening::new(&entry, "primary", Arc::new(Known::default())).initialize().unwrap();
        self.cli.file(
            "inventory.yaml",
            &format!(
                "version: 1\ndatabases:\n  main: {{ pgdata: {}, address: localhost, port: {}, bin: {}, store: primary, prefix: main,\n    \
                 via: {{ compose: {{ file: {}, project: shop, service: db }} }} }}\n\
                 stores: {{ primary: {{ url: \"file://{}\" }} }}\nenvironments:\n  production: {{ protected: true, default: true }}\n  \
                 drill: {{ databases: {{ main: {{ scratch: true }} }}, stores: {{ primary: {{ read_only: true }} }} }}\n",
                self.volume().display(),
                self.port,
                server_bin().display(),
                self.cli.path("compose.yaml").display(),
                store.display(),
            ),
        );
    }

    fn power(&self, action: &str) -> Ran {
        let text = format!(
            "version: 1\nname: x\nsteps: [ {{ id: x, uses: postgres.{action}, with: {{ database: main }} }} ]\n"
        );
        self.cli.file("power.yaml", &text);
        self.cli.run(&["run", "power.yaml", "--confirm", "production"])
    }

    fn run(&self, runbook: &str, params: &[&str]) -> Ran {
        let mut words = vec!["run", runbook, "-p", "database=main", "--confirm", "production"];
        params.iter().for_each(|param| words.extend(["-p", param]));
        self.cli.run(&words)
    }

    #[track_caller]
    fn sql(&self, dbname: &str, sql: &str) -> String {
        let mut command = std::process::Command::new(server_bin().join("psql"));
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h", "127.0.0.1", "-d", dbname, "-c", sql]);
        let output = command.args(["-p", &self.port.to_string()]).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn containers(&self) -> usize {
        let output = self.docker.docker(&["ps", "-q"]);
        String::from_utf8_lossy(&output.stdout).lines().count()
    }
}

#[test]
fn a_server_in_a_container_is_started_backed_up_drilled_restored_and_stopped() {
    let project = Project::new();
    project.power("start").ends(0);
    assert_eq!(project.containers(), 1);
    project.power("start").ends(0);
    assert_eq!(project.containers(), 1, "one that runs is left alone");
    project.sql("postgres", "CREATE DATABASE shop");
    project.sql("shop", "CREATE TABLE orders(id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 300)");
    project.run("daily-backup", &[]).ends(0);
    project.run("base-backup", &[]).ends(0);
    project.sql("shop", "DELETE FROM orders WHERE id > 10");
    project.cli.run(&["drill", "restore-test", "-p", "database=main"]).ends(0);
    project.run("restore-dump", &["dbname=shop", "incident_at=now"]).ends(0);
    assert_eq!(project.sql("shop", "SELECT count(*) FROM orders"), "300");
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(project.volume().join("PG_VERSION")).unwrap());
    assert_eq!(owner, UID, "the container's user is none of this machine's");
    project.power("stop").ends(0);
    assert_eq!(project.containers(), 0);
    let control = fs::read(project.volume().join("postmaster.pid"));
    assert!(control.is_err(), "it was stopped, not killed");
    // A container that is gone is made anew over the same volume.
    project.docker.compose(&project.cli.path(""), &["-p", "shop", "rm", "-f", "db"]);
    project.power("start").ends(0);
    assert_eq!(project.sql("shop", "SELECT count(*) FROM orders"), "300");
}

#[test]
fn what_compose_cannot_do_is_said_before_anything_happens() {
    let cli = Cli::new();
    cli.file(
        "inventory.yaml",
        "version: 1\ndatabases:\n  main: { pgdata: /srv/volume, store: primary, via: { compose: { file: /srv/compose.yaml, service: db } } }\n\
         stores: { primary: { url: \"file:///srv/store\" } }\n",
    );
    let refusals: [(&[&str], &str); 2] = [
        (&["full-db-loss", "-p", "incident_at=now"], "put data into its server's data directory"),
        (&["setup-archiving"], "have its server archive WAL"),
    ];
    for (runbook, words) in refusals {
        let ran = cli.run(&[&["run", "-p", "database=main"][..], runbook].concat()).ends(3);
        assert!(ran.err.contains("runs in a container") && ran.err.contains(words), "{}", ran.err);
    }
    cli.file(
        "runbook.yaml",
        "version: 1\nname: x\nsteps: [ { id: x, uses: postgres.stop, with: { database: main } } ]\n",
    );
    let line = "docker compose -f /srv/compose.yaml stop -t 3600 db";
    assert!(cli.run(&["print", "runbook.yaml"]).ends(0).out.contains(line));
    cli.file(
        "inventory.yaml",
        "version: 1\ndatabases: { main: { pgdata: /srv/v, via: { compose: { file: c.yaml, service: db } } } }\n",
    );
    cli.run(&["check", "runbook.yaml"]).ends(3).says("not an absolute path");
}
