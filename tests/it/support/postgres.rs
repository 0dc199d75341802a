//! A real PostgreSQL cluster in a temporary directory, gone when it is dropped.

#![allow(dead_code, reason = "each topic uses a part")]

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// One cluster with its data directory, socket, log and port.
pub struct Cluster {
    dir: tempfile::TempDir,
    bin: PathBuf,
    owner: Option<(u32, u32)>,
    port: u16,
}

/// The user and group that servers run as: nobody may run one as root.
pub fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let entry = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(entry("postgres").or_else(|| entry("nobody")).expect("a user `postgres` or `nobody`"))
}

/// The folder of the server programs of another major version, which `.ci/setup postgresqls` installs.
pub fn programs_of(major: u32) -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_runbook")).ancestors().nth(2).expect("the build folder");
    let bin = target.join(format!("postgresql/{major}/bin"));
    assert!(bin.join("initdb").exists(), "PostgreSQL {major} is missing: run `.ci/setup postgresqls`");
    bin
}

/// Finds the folder of the server programs: of the major version in `RUNBOOK_TEST_POSTGRESQL`, else the newest that
/// the system has.
pub fn server_bin() -> PathBuf {
    if let Some(major) = std::env::var("RUNBOOK_TEST_POSTGRESQL").ok().and_then(|text| text.parse().ok()) {
        return programs_of(major);
    }
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    found.sort();
    if let Some((_, bin)) = found.pop() {
        return bin;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .find(|dir| dir.join("initdb").exists() && dir.join("postgres").exists())
        .expect("PostgreSQL's server programs are missing: apt-get install postgresql (Debian, Ubuntu)")
}

/// Finds a port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address").port()
}

impl Cluster {
    /// Makes and starts a cluster with further settings.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let cluster = Self::create(settings, &[]);
        cluster.up();
        cluster
    }

    /// Makes a cluster with further settings and arguments of `initdb`, and does not start it.
    pub fn create(settings: &[(&str, &str)], initdb: &[&str]) -> Self {
        Self::create_by(server_bin(), settings, initdb)
    }

    /// The same by the programs in the folder `bin`.
    pub fn create_by(bin: PathBuf, settings: &[(&str, &str)], initdb: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("rb").tempdir_in("/tmp").expect("a temporary directory");
        let owner = unprivileged();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).expect("chown");
        }
        let cluster = Self { dir, bin, owner, port: free_port() };
        let mut command = cluster.command("initdb");
        command.args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C", "-D"]);
        run(command.arg(cluster.pgdata()).args(initdb));
        let text = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\n\
             shared_buffers = 16MB\nmax_wal_size = 256MB\nlog_line_prefix = '%m [%p] '\n",
            cluster.port,
            cluster.socket_dir().display()
        );
        cluster.append(&text);
        cluster.configure(settings);
        cluster
    }

    /// Makes and starts a standby that streams from this cluster.
    pub fn standby(&self) -> Self {
        let dir = tempfile::Builder::new().prefix("rb").tempdir_in("/tmp").expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        if let Some((uid, gid)) = self.owner {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).expect("chown");
        }
        let standby = Self { dir, bin: self.bin.clone(), owner: self.owner, port: free_port() };
        let mut copy = standby.command("pg_basebackup");
        copy.args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-U", "postgres", "-h"]).arg(self.socket_dir());
        run(copy.arg("-p").arg(self.port.to_string()).arg("-D").arg(standby.pgdata()));
        let (port, socket) = (standby.port.to_string(), standby.socket_dir());
        standby.configure(&[
            ("port", &port),
            ("unix_socket_directories", &socket.to_string_lossy()),
            ("archive_mode", "off"),
        ]);
        standby.up();
        standby
    }

    /// Adds settings to the configuration file; they count from the next start or reload.
    pub fn configure(&self, settings: &[(&str, &str)]) {
        let line = |(name, value): &(&str, &str)| format!("{name} = '{}'\n", value.replace('\'', "''"));
        self.append(&settings.iter().map(line).collect::<String>());
    }

    /// Moves `pg_hba.conf` out of the data directory, as Debian has it, and restarts; gives its place.
    pub fn with_outside_hba(&self) -> PathBuf {
        let place = self.folder("etc").join("pg_hba.conf");
        fs::copy(self.pgdata().join("pg_hba.conf"), &place).expect("pg_hba.conf");
        self.give(&place);
        self.configure(&[("hba_file", &place.display().to_string())]);
        self.stop("fast");
        self.up();
        place
    }

    fn append(&self, text: &str) {
        let path = self.pgdata().join("postgresql.conf");
        let conf = fs::read_to_string(&path).expect("postgresql.conf");
        fs::write(&path, conf + text).expect("postgresql.conf");
    }

    /// Starts the server and waits until it answers, or until a standby accepts connections.
    pub fn up(&self) {
        let output = self.try_up();
        assert!(output.status.success(), "the server does not start:\n{}", self.log());
    }

    /// Tries to start the server.
    pub fn try_up(&self) -> Output {
        let mut command = self.command("pg_ctl");
        command.args(["-w", "-t", "60", "-D"]).arg(self.pgdata()).arg("-l").arg(self.log_file()).arg("start");
        command.stdout(Stdio::null()).stderr(Stdio::null()).output().expect("pg_ctl")
    }

    /// Stops the server: `smart`, `fast` or `immediate`.
    pub fn stop(&self, mode: &str) {
        run(self.command("pg_ctl").args(["-w", "-m", mode, "-D"]).arg(self.pgdata()).arg("stop"));
    }

    /// Kills the server process as a crash would.
    pub fn kill(&self) {
        if let Some(pid) = self.pid() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            while rustix::process::test_kill_process(pid).is_ok() && !is_zombie(pid) {
                std::thread::yield_now();
            }
        }
    }

    /// The server's process, by its pid file.
    pub fn pid(&self) -> Option<rustix::process::Pid> {
        let text = fs::read_to_string(self.pgdata().join("postmaster.pid")).ok()?;
        rustix::process::Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
    }

    /// Runs SQL and returns unaligned rows without headers.
    pub fn sql(&self, sql: &str) -> String {
        let output = self.try_sql(sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Tries to run SQL.
    pub fn try_sql(&self, sql: &str) -> Output {
        self.client("postgres", sql).output().expect("psql")
    }

    /// Runs SQL in another database.
    pub fn sql_in(&self, dbname: &str, sql: &str) -> String {
        run(&mut self.client(dbname, sql)).trim_end().to_owned()
    }

    /// A client that runs SQL in a database.
    pub fn client(&self, dbname: &str, sql: &str) -> Command {
        let mut command = self.command("psql");
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", dbname, "-h"]);
        command.arg(self.socket_dir()).arg("-p").arg(self.port.to_string()).arg("-c").arg(sql);
        command
    }

    /// A command of the server's version that runs as the server's user.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.env("LC_ALL", "C").current_dir(self.dir.path()).stdin(Stdio::null());
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Runs a program of the server's version and returns what it prints.
    pub fn output(&self, program: &str, args: &[&str]) -> String {
        run(self.command(program).args(args))
    }

    /// The data directory.
    pub fn pgdata(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A folder beside the data directory, created and owned by the server's user.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).expect("a folder");
        self.give(&path);
        path
    }

    /// Gives a file to the server's user.
    pub fn give(&self, path: &Path) {
        if let Some((uid, gid)) = self.owner {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("chown");
        }
    }

    /// The folder of everything.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The folder of the server programs.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The folder of the socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The user the server runs as, when tests run as root.
    pub fn owner(&self) -> Option<(u32, u32)> {
        self.owner
    }

    /// What the server wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.pid().is_some() {
            let mut command = self.command("pg_ctl");
            command.args(["-w", "-m", "immediate", "-D"]).arg(self.pgdata()).arg("stop");
            let stopped = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            if !stopped.is_ok_and(|status| status.success()) {
                self.kill();
            }
        }
        // What the server called (a `wal push`, a `wal fetch` and what it fetches ahead) may outlive it by a
        // moment and write while the folder is removed.
        let until = Instant::now() + Duration::from_secs(10);
        while self.dir.path().exists() && Instant::now() < until {
            match fs::remove_dir_all(self.dir.path()) {
                Err(error) if error.kind() == ErrorKind::ResourceBusy => break,
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// Runs a command that must succeed.
fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn is_zombie(pid: rustix::process::Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

/// Tells who owns a path.
pub fn owner_of(path: &Path) -> (u32, u32) {
    let meta = fs::metadata(path).expect("metadata");
    (meta.uid(), meta.gid())
}
