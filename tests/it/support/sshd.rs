//! A real `sshd` of the current user on a free port, with keys of its own, gone when it is dropped.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use runbook::language::inventory::SshAccess;

use super::cli::until;
use super::postgres::free_port;

/// The server.
pub struct Sshd {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

/// Finds the program; it wants to be called by its whole path.
fn program() -> PathBuf {
    ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd", "/opt/homebrew/sbin/sshd"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .expect(
            "`sshd` is missing: run `.ci/setup ssh`; `cargo nextest run -E 'not test(sftp)'` leaves these tests out",
        )
}

fn keygen(path: &Path) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path);
    assert!(command.status().expect("ssh-keygen").success());
}

impl Sshd {
    /// Starts a server that offers SFTP.
    pub fn start() -> Self {
        Self::with("Subsystem sftp internal-sftp")
    }

    /// Starts a server with further lines of configuration.
    pub fn with(lines: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        // `sshd` refuses keys in folders that others may write.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("permissions");
        let at = |name: &str| dir.path().join(name);
        keygen(&at("host"));
        keygen(&at("user"));
        keygen(&at("stranger"));
        fs::copy(at("user.pub"), at("authorized")).expect("a copy");
        let port = free_port();
        let host = fs::read_to_string(at("host.pub")).expect("the host's key");
        let stranger = fs::read_to_string(at("stranger.pub")).expect("another key");
        fs::write(at("known"), format!("[127.0.0.1]:{port} {host}")).expect("known hosts");
        fs::write(at("mistaken"), format!("[127.0.0.1]:{port} {stranger}")).expect("known hosts");
        fs::write(at("empty"), "").expect("known hosts");
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nStrictModes no\nPermitRootLogin yes\n\
             MaxStartups 200\nLogLevel ERROR\n{lines}\n",
            at("host").display(),
            at("authorized").display()
        );
        fs::write(at("config"), config).expect("a configuration");
        // Root's server separates privileges in a folder that packages make at boot.
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").expect("a folder");
        }
        let mut command = Command::new(program());
        command.args(["-D", "-e", "-f"]).arg(at("config"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(at("log")).expect("a log"));
        let child = command.spawn().expect("sshd starts");
        let server = Self { child, dir, port };
        until("sshd answers", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    /// The URL of a folder on it.
    pub fn url(&self, path: &Path) -> String {
        let user = Command::new("id").arg("-un").output().expect("a user").stdout;
        format!("sftp://{}@127.0.0.1:{}{}", String::from_utf8_lossy(&user).trim(), self.port, path.display())
    }

    /// How a client that is known reaches it.
    pub fn access(&self) -> SshAccess {
        self.access_with("user", "known")
    }

    /// How a client with that key and those known hosts reaches it.
    pub fn access_with(&self, key: &str, known: &str) -> SshAccess {
        let at = |name: &str| Some(self.dir.path().join(name));
        // Nothing of the user's own configuration takes part.
        SshAccess { config: Some("/dev/null".into()), identity: at(key), known_hosts: at(known) }
    }

    /// Ends the server and every connection to it.
    pub fn stop(&mut self) {
        for child in children_of(self.child.id()) {
            let _ = Command::new("kill").arg("-9").arg(child.to_string()).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends every connection; the server stays.
    pub fn cut(&self) {
        for child in children_of(self.child.id()) {
            let _ = Command::new("kill").arg("-9").arg(child.to_string()).status();
        }
    }
}

/// The processes that a process has started.
fn children_of(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let direct: Vec<u32> =
        fs::read_to_string(path).unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    direct.iter().flat_map(|pid| children_of(*pid).into_iter().chain([*pid])).collect()
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}
