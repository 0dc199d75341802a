//! A compose project with one PostgreSQL server, and somebody who operates it.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

use runbook::store::Opening;

use super::cli::{Cli, Ran, until};
use super::docker::{Docker, IMAGE, UID};
use super::postgres::{free_port, server_bin, unprivileged};
use super::recovery::Depot;

/// What the service has of this machine besides its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounted {
    /// Nothing.
    Data,
    /// `runbook`, and the folder for what it needs.
    Runbook,
}

/// A project with one server, and somebody who operates it.
pub struct Project {
    pub docker: Docker,
    pub cli: Cli,
    pub port: u16,
}

const INITDB: [&str; 10] =
    ["-A", "trust", "-U", "postgres", "--locale=C", "--data-checksums", "--no-sync", "--wal-segsize=1", "-D", DATA];
/// The data directory inside.
const DATA: &str = "/var/lib/postgresql/data";

impl Project {
    /// Makes the project with an empty cluster that does not run; its backups go into a folder of this machine.
    pub fn new() -> Self {
        let project = Self::with(Mounted::Data, "");
        let store = project.cli.dir().join("store");
        fs::create_dir_all(&store).unwrap();
        // What a drill's server fetches is read by its own user.
        chown(&store, unprivileged().map(|owner| owner.0), None).unwrap();
        project.inventory(&Depot { root: store, ..Depot::default() });
        project
    }

    /// The same with backups and WAL in `depot`, which the container reaches as this machine does.
    pub fn over(depot: &Depot, mounted: Mounted) -> Self {
        Self::configured(depot, mounted, "")
    }

    /// The same with further words of the server's command line: `, -c, fsync=off`.
    pub fn configured(depot: &Depot, mounted: Mounted, words: &str) -> Self {
        let project = Self::with(mounted, words);
        project.inventory(depot);
        project
    }

    fn with(mounted: Mounted, words: &str) -> Self {
        let docker = Docker::start();
        let cli = Cli::new().var("DOCKER_HOST", &docker.host());
        let project = Self { docker, cli, port: free_port() };
        project.describe(mounted, words);
        let initdb = server_bin().join("initdb").to_string_lossy().into_owned();
        let words = ["-p", "shop", "run", "--rm", "-T", "--no-deps", "db", &initdb];
        project.docker.compose(&project.cli.path(""), &[&words[..], &INITDB].concat());
        project
    }

    /// Writes the compose file.
    pub fn describe(&self, mounted: Mounted, words: &str) {
        let mut volumes = format!("'data:{DATA}'");
        if mounted == Mounted::Runbook {
            let folder = self.cli.path("runbook-wal");
            fs::create_dir_all(&folder).unwrap();
            volumes += &format!(
                ", '{}:/usr/local/bin/runbook:ro', '{}:/etc/runbook', '/etc/ssl/certs:/etc/ssl/certs:ro'",
                env!("CARGO_BIN_EXE_runbook"),
                folder.display()
            );
        }
        self.cli.file(
            "compose.yaml",
            &format!(
                "version: '2.4'\nservices:\n  db:\n    image: {IMAGE}\n    network_mode: host\n    stop_signal: SIGINT\n    \
                 command: [{bin}/postgres, -D, {DATA}, -c, listen_addresses=127.0.0.1, -c, port={}, \
                 -c, unix_socket_directories=/tmp, -c, fsync=off, -c, shared_buffers=16MB{words}]\n    \
                 volumes: [{volumes}]\nvolumes: {{ data: {{}} }}\n",
                self.port,
                bin = server_bin().display(),
            ),
        );
    }

    /// Where the volume lies on this machine.
    pub fn volume(&self) -> PathBuf {
        let output = self.docker.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", "shop_data"]);
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    }

    fn inventory(&self, depot: &Depot) {
        let (pgdata, bin) = (self.volume(), server_bin());
        self.inventory_with(depot, &format!("pgdata: {}, bin: {}, ", pgdata.display(), bin.display()));
    }

    /// Writes an inventory that says another thing of the data directory and of the programs, or nothing.
    pub fn inventory_with(&self, depot: &Depot, members: &str) {
        let mut entry = depot.entry.clone();
        if entry.url.is_empty() {
            entry.url = format!("file://{}", depot.root.display());
        }
        Opening::new(&entry, "primary", Arc::new(depot.secrets.clone())).initialize().unwrap();
        let secret = |(name, value): (&String, &String)| {
            let path = self.cli.file(&format!("secret.{name}"), value);
            format!("{name}: {{ file: {} }}", path.display())
        };
        let secrets: Vec<String> = depot.secrets.0.iter().map(secret).collect();
        self.cli.file(
            "inventory.yaml",
            &format!(
                "version: 1\ndatabases:\n  main: {{ {members}address: localhost, port: {}, store: primary, prefix: main,\n    \
                 via: {{ compose: {{ file: {}, project: shop, service: db }} }} }}\n\
                 stores: {{ primary: {} }}\nsecrets: {{ {} }}\nenvironments:\n  production: {{ protected: true, default: true }}\n  \
                 drill: {{ databases: {{ main: {{ scratch: true }} }}, stores: {{ primary: {{ read_only: true }} }} }}\n",
                self.port,
                self.cli.path("compose.yaml").display(),
                serde_json::to_string(&entry).unwrap(),
                secrets.join(", "),
            ),
        );
    }

    /// Runs one step on the database; `with` is what follows `database: main`.
    pub fn step(&self, action: &str, with: &str) -> Ran {
        self.steps(&[&format!("id: x, uses: postgres.{action}, with: {{ database: main{with} }}")])
    }

    /// The words that run a shipped runbook for real.
    pub fn words<'a>(runbook: &'a str, params: &[&'a str]) -> Vec<&'a str> {
        let mut words = vec!["run", runbook, "-p", "database=main", "--confirm", "production"];
        params.iter().for_each(|param| words.extend(["-p", param]));
        words
    }

    pub fn run(&self, runbook: &str, params: &[&str]) -> Ran {
        self.cli.run(&Self::words(runbook, params))
    }

    /// A client program of PostgreSQL's on this machine.
    #[track_caller]
    pub fn client(&self, program: &str, args: &[&str]) -> Output {
        let mut command = Command::new(server_bin().join(program));
        command.args(["-U", "postgres", "-h", "127.0.0.1", "-p", &self.port.to_string()]).args(args);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    #[track_caller]
    pub fn sql(&self, dbname: &str, sql: &str) -> String {
        let output = self.client("psql", &["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", dbname, "-c", sql]);
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Runs a runbook of these steps for real; each is what stands between its braces.
    pub fn steps(&self, steps: &[&str]) -> Ran {
        let steps: Vec<String> = steps.iter().map(|step| format!("  - {{ {step} }}\n")).collect();
        self.cli.file("steps.yaml", &format!("version: 1\nname: x\nsteps:\n{}", steps.concat()));
        self.cli.run(&["run", "steps.yaml", "--confirm", "production"])
    }

    /// Finishes a segment and waits until it is archived.
    #[track_caller]
    pub fn archive(&self) {
        let segment = self.sql("postgres", "SELECT pg_walfile_name(pg_current_wal_insert_lsn())");
        self.sql("postgres", "SELECT txid_current()");
        self.sql("postgres", "SELECT pg_switch_wal()");
        let archived = format!("SELECT coalesce(last_archived_wal, '') >= '{segment}' FROM pg_stat_archiver");
        until("all that was written is archived", || self.sql("postgres", &archived) == "t");
    }

    /// How many containers run.
    pub fn containers(&self) -> usize {
        let output = self.docker.docker(&["ps", "-q"]);
        String::from_utf8_lossy(&output.stdout).lines().count()
    }

    /// The container and everything in its volume go.
    pub fn lose(&self) {
        self.docker.compose(&self.cli.path(""), &["-p", "shop", "rm", "-s", "-f", "db"]);
        for entry in fs::read_dir(self.volume()).unwrap().flatten() {
            let path = entry.path();
            let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            gone.unwrap();
        }
    }

    /// Files of the volume that the container's user could not own.
    pub fn foreign_files(&self) -> Vec<String> {
        let find = Command::new("find").arg(self.volume()).args(["!", "-uid", &UID.to_string()]).output().unwrap();
        String::from_utf8_lossy(&find.stdout).lines().map(str::to_owned).collect()
    }
}
