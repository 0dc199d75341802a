//! A real Docker engine with everything of its own below a temporary folder, gone when it is dropped; and an image made
//! of this machine's own PostgreSQL.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::cli::until;
use super::postgres::server_bin;
use super::program::need;

/// The image's name.
pub const IMAGE: &str = "runbook-test-postgres";
/// The user that the image's server runs as; the host needs no such user.
pub const UID: u32 = 70_070;

/// What the image has besides PostgreSQL.
const PROGRAMS: [&str; 10] = [
    "/bin/sh",
    "/bin/cat",
    "/bin/chmod",
    "/bin/chown",
    "/bin/cp",
    "/bin/ls",
    "/bin/mkdir",
    "/bin/mv",
    "/bin/rm",
    "/usr/bin/id",
];

/// The engine.
pub struct Docker {
    engine: Child,
    dir: tempfile::TempDir,
}

impl Docker {
    /// Starts an engine that touches no network of the machine, and imports the image.
    pub fn start() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "an engine wants root; leave its tests out: -E 'not test(compose)'"
        );
        for program in ["dockerd", "docker", "docker-compose"] {
            need(program, "docker");
        }
        let dir = tempfile::Builder::new().prefix("rbd").tempdir_in("/tmp").expect("a temporary directory");
        let at = |name: &str| dir.path().join(name);
        let log = fs::File::create(at("log")).expect("a log");
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(at("data")).arg("--exec-root").arg(at("exec")).arg("-p").arg(at("pid"));
        command.arg("-H").arg(format!("unix://{}", at("sock").display()));
        command.args([
            "--iptables=false",
            "--ip6tables=false",
            "--bridge=none",
            "--storage-driver=vfs",
            "--shutdown-timeout=5",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let engine = command.spawn().expect("dockerd");
        let docker = Self { engine, dir };
        until("the engine answers", || docker.docker(&["version"]).status.success());
        docker.import();
        docker
    }

    /// What `DOCKER_HOST` must say.
    pub fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("sock").display())
    }

    /// Runs `docker`.
    pub fn docker(&self, args: &[&str]) -> Output {
        Command::new("docker").env("DOCKER_HOST", self.host()).args(args).stdin(Stdio::null()).output().expect("docker")
    }

    /// The engine's time.
    pub fn moment(&self) -> String {
        let output = self.docker(&["info", "-f", "{{.SystemTime}}"]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The containers that were made since.
    pub fn made_since(&self, since: &str) -> String {
        let until = self.moment();
        let words =
            ["events", "--since", since, "--until", &until, "--filter", "type=container", "--filter", "event=create"];
        String::from_utf8_lossy(&self.docker(&words).stdout).trim().to_owned()
    }

    /// Runs `docker-compose` in a folder.
    #[track_caller]
    pub fn compose(&self, folder: &Path, args: &[&str]) {
        let mut command = Command::new("docker-compose");
        command.env("DOCKER_HOST", self.host()).current_dir(folder).args(args).stdin(Stdio::null());
        let output = command.output().expect("docker-compose");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "docker-compose {args:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
    }

    fn import(&self) {
        let root = self.dir.path().join("root");
        furnish(&root);
        let mut tar =
            Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).stdout(Stdio::piped()).spawn().expect("tar");
        let mut import = Command::new("docker");
        let change = format!("USER {UID}");
        import.env("DOCKER_HOST", self.host()).args(["import", "--change", &change, "-", IMAGE]);
        let output = import.stdin(tar.stdout.take().expect("its output")).output().expect("docker");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(tar.wait().expect("tar ended").success(), "the root file system cannot be read");
        fs::remove_dir_all(root).expect("removed");
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let running = self.docker(&["ps", "-q"]);
        for id in String::from_utf8_lossy(&running.stdout).split_whitespace() {
            let _gone = self.docker(&["rm", "-f", id]);
        }
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.engine.id()).unwrap_or_default()) {
            let _told = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ended = self.engine.wait();
        // The engine leaves the mount of the host's own network namespace behind.
        let mount = self.dir.path().join("exec/netns/default");
        let _gone = Command::new("umount").arg(mount).stderr(Stdio::null()).status();
    }
}

/// A root file system with PostgreSQL and what it links to.
fn furnish(root: &Path) {
    let bin = server_bin();
    let home = bin.parent().expect("the folder of the version");
    let version = home.file_name().expect("a version");
    for folder in ["tmp", "dev", "proc", "sys", "etc", "var/lib/postgresql/data"] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("chmod");
    for folder in ["var/lib/postgresql", "var/lib/postgresql/data"] {
        std::os::unix::fs::chown(root.join(folder), Some(UID), Some(UID)).expect("chown");
    }
    fs::write(root.join("etc/passwd"), format!("root:x:0:0::/:/bin/sh\npostgres:x:{UID}:{UID}::/tmp:/bin/sh\n"))
        .expect("passwd");
    let mut own: Vec<PathBuf> = PROGRAMS.iter().map(PathBuf::from).collect();
    for folder in ["bin", "lib"] {
        let entries = fs::read_dir(home.join(folder)).expect("a folder").flatten().map(|entry| entry.path());
        own.extend(entries.filter(|path| path.is_file()));
    }
    // A test mounts our own program, as people do.
    let ours = PathBuf::from(env!("CARGO_BIN_EXE_runbook"));
    let libraries: BTreeSet<PathBuf> = own.iter().chain([&ours]).flat_map(|path| linked(path)).collect();
    for path in own.iter().chain(&libraries) {
        copy(path, root);
    }
    let share = Path::new("/usr/share/postgresql").join(version);
    for folder in [share.as_path(), Path::new("/usr/share/zoneinfo")] {
        let to = root.join(folder.strip_prefix("/").expect("absolute"));
        fs::create_dir_all(to.parent().expect("a parent")).expect("a folder");
        let copied = Command::new("cp").arg("-a").arg(folder).arg(&to).status().expect("cp");
        assert!(copied.success(), "{}", folder.display());
    }
}

fn linked(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

fn copy(path: &Path, root: &Path) {
    let to = root.join(path.strip_prefix("/").expect("absolute"));
    fs::create_dir_all(to.parent().expect("a parent")).expect("a folder");
    fs::copy(path, &to).expect("a copy");
}
