//! A production cluster that the real pgBackRest backs up, and somebody who runs runbooks over it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};

use super::cli::{Cli, Ran};
use super::postgres::Cluster;
use super::program::need;

/// The cluster, its stanza, and its inventory.
pub struct Guarded {
    pub cluster: Cluster,
    pub cli: Cli,
}

impl Guarded {
    /// Starts a cluster that archives into the stanza `main`, with a thousand rows and no backup yet.
    pub fn new() -> Self {
        let site = Self::unmade("");
        assert!(site.pgbackrest(&["stanza-create"]).status.success());
        site
    }

    /// The same without the stanza, and with further options of the repository.
    pub fn unmade(options: &str) -> Self {
        need("pgbackrest", "pgbackrest");
        let cluster = Cluster::create(&[("archive_mode", "on")], &[]);
        let site = Self { cluster, cli: Cli::new() };
        for folder in ["repo", "log", "lock"] {
            site.cluster.folder(folder);
        }
        let dir = site.cluster.dir();
        site.write(&format!(
            "[global]\nrepo1-path={dir}/repo\nlock-path={dir}/lock\nlog-path={dir}/log\nrepo1-retention-full=9\ncompress-level=1\n{options}\
             archive-timeout=30\n[main]\npg1-path={pgdata}\npg1-port={port}\npg1-socket-path={socket}\npg1-user=postgres\n",
            dir = dir.display(),
            pgdata = site.cluster.pgdata().display(),
            port = site.cluster.port(),
            socket = site.cluster.socket_dir().display(),
        ));
        let command = format!("pgbackrest --config={} --stanza=main archive-push %p", site.config().display());
        site.cluster.configure(&[("archive_command", &command)]);
        site.cluster.up();
        site.inventory("main");
        site.cluster.sql("CREATE TABLE t(n int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)");
        site
    }

    /// Writes the inventory, with a stanza of one's choice.
    pub fn inventory(&self, stanza: &str) {
        let cluster = &self.cluster;
        let text = format!(
            "version: 1\ndatabases:\n  main: {{ pgdata: {}, port: {}, socket: {}, bin: {},\n    pgbackrest: {{ stanza: {stanza}, config: {} }},\n    \
             checks: [ {{ name: rows, sql: SELECT count(*) FROM t, expect: '> 0' }} ] }}\n\
             backups:\n  any: {{ source: main, kind: pgbackrest, max_age: 1h }}\n  full: {{ source: main, kind: pgbackrest, tier: full, max_age: 8d }}\n\
             environments:\n  production: {{ protected: true, default: true }}\n  drill: {{ databases: {{ main: {{ scratch: true }} }} }}\n",
            cluster.pgdata().display(),
            cluster.port(),
            cluster.socket_dir().display(),
            cluster.bin().display(),
            self.config().display(),
        );
        self.cli.file("inventory.yaml", &text);
    }

    /// pgBackRest's configuration file.
    pub fn config(&self) -> PathBuf {
        self.cluster.dir().join("pgbackrest.conf")
    }

    fn write(&self, text: &str) {
        fs::write(self.config(), text).unwrap();
        self.cluster.give(&self.config());
    }

    /// Runs pgBackRest itself as the server's user.
    pub fn pgbackrest(&self, args: &[&str]) -> Output {
        let mut command = Command::new("pgbackrest");
        command.arg(format!("--config={}", self.config().display())).arg("--stanza=main").args(args);
        let output = self.as_owner(&mut command).output().expect("pgbackrest");
        assert!(output.status.code().is_some(), "pgbackrest {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Types a line into a shell as the server's user.
    pub fn types(&self, line: &str) -> ExitStatus {
        self.as_owner(Command::new("sh").arg("-c").arg(line)).status().expect("sh")
    }

    fn as_owner<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        use std::os::unix::process::CommandExt as _;
        if let Some((uid, gid)) = self.cluster.owner() {
            command.uid(uid).gid(gid);
        }
        command.current_dir("/").stdin(Stdio::null())
    }

    /// Runs a runbook of steps over the production.
    pub fn does(&self, steps: &str) -> Ran {
        self.cli.file("runbook.yaml", &format!("version: 1\nname: one\nsteps:\n{steps}"));
        let _ = fs::remove_dir_all(self.cli.state());
        self.cli.run(&["run", "runbook.yaml", "--confirm", "production"])
    }

    /// Takes a backup of a type.
    pub fn backs_up(&self, kind: &str) {
        let step = format!("  - {{ id: backup, uses: pgbackrest.backup, with: {{ database: main, type: {kind} }} }}\n");
        self.does(&step).ends(0);
    }

    /// Stops the server if it runs and restores.
    pub fn restores(&self, with: &str) -> Ran {
        self.does(&format!(
            "  - {{ id: stop, uses: postgres.stop, with: {{ database: main, if_running: true }} }}\n  \
             - {{ id: restore, uses: pgbackrest.restore, with: {{ database: main{with} }} }}\n"
        ))
    }

    /// Waits until everything written so far is in the repository.
    pub fn archives(&self) {
        let output = self.pgbackrest(&["check"]);
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), self.cluster.log());
    }

    /// The rows of the table: how many, and the greatest.
    pub fn rows(&self) -> String {
        self.cluster.sql("SELECT count(*) || ' ' || max(n) FROM t")
    }

    /// The server's own time.
    pub fn now(&self) -> String {
        self.cluster.sql(
            "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM pg_sleep(0.01)",
        )
    }

    /// The files of the archived segments, oldest first.
    pub fn segments(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.cluster.dir().join("repo/archive/main")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else if name.len() > 40 && name.contains('-') && !name.contains("partial") {
                    found.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }

    /// Folders that a restore left beside the data directory.
    pub fn beside(&self) -> Vec<String> {
        let entries = fs::read_dir(self.cluster.dir()).unwrap().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.contains(".runbook-"))
            .collect();
        names.sort();
        names
    }
}
