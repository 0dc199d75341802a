//! Finds a live server of a cluster by every sign there is (facts 2.10.6).
//!
//! A pid file may be deleted, name a recycled process, or belong to another pid namespace. So the
//! pid file, the processes that work inside the data directory, the socket and the port are all
//! looked at, and one sign is enough.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::layout::Cluster;
use crate::action::{ActionError, FileKind, Files, HostError, ReadFiles};

/// How many looks it takes at most until it is clear whether a server runs.
const SETTLES: u32 = 50;

/// One sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The pid file names a process that lives and works in the data directory.
    PidFile(u32),
    /// These processes have the data directory, maybe deleted meanwhile, as working folder.
    Processes(Vec<u32>),
    /// Somebody accepts on the socket.
    Socket(PathBuf),
    /// Somebody accepts on the TCP port.
    Port(u16),
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PidFile(pid) => write!(f, "`postmaster.pid` names the live process {pid}"),
            Self::Processes(pids) => {
                let list: Vec<String> = pids.iter().take(5).map(ToString::to_string).collect();
                write!(f, "{} processes work in the data directory ({})", pids.len(), list.join(", "))
            }
            Self::Socket(path) => write!(f, "a server answers on `{}`", path.display()),
            Self::Port(port) => write!(f, "a server answers on port {port}"),
        }
    }
}

/// What the server wrote into `postmaster.pid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PidFile {
    /// The postmaster.
    pub(crate) pid: u32,
    /// Its data directory, as it was told it.
    pub(crate) pgdata: Option<PathBuf>,
    /// Its port.
    pub(crate) port: Option<u16>,
    /// The folder of its first socket.
    pub(crate) socket: Option<PathBuf>,
    /// Whether it tells its status, which a postmaster does once it has opened every socket.
    pub(crate) is_up: bool,
}

impl PidFile {
    /// Reads the file of a data directory; `None` when there is none or it is not one.
    pub(crate) fn read(files: &dyn ReadFiles, pgdata: &Path) -> Option<Self> {
        let bytes = files.read(&pgdata.join("postmaster.pid"), 64 * 1024).ok()?;
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    /// Reads the text of such a file, or of the lock file of a socket, which has the same lines.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let pid = lines.first()?.trim_start_matches('-').parse().ok()?;
        let pgdata = lines.get(1).filter(|line| !line.is_empty()).map(PathBuf::from);
        let port = lines.get(3).and_then(|line| line.parse().ok());
        let socket = lines.get(4).filter(|line| !line.is_empty()).map(PathBuf::from);
        let is_up = lines.get(7).is_some_and(|line| !line.is_empty());
        Some(Self { pid, pgdata, port, socket, is_up })
    }
}

/// Looks for every sign of life. A managed server shows none.
///
/// # Errors
/// Fails when the data directory cannot be looked at.
pub(crate) async fn signs(cluster: &Cluster, files: &dyn ReadFiles) -> Result<Vec<Sign>, ActionError> {
    if cluster.is_managed() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let inside = processes(&cluster.pgdata, files);
    let pid_file = PidFile::read(files, &cluster.pgdata);
    if let Some(pid) = pid_file.as_ref().and_then(|file| named(file.pid, &inside, files)) {
        found.push(Sign::PidFile(pid));
    }
    if !inside.is_empty() {
        found.push(Sign::Processes(inside));
    }
    let mut sockets: Vec<PathBuf> = Vec::new();
    sockets.extend(cluster.socket.as_ref().map(|folder| socket_path(folder, cluster.port)));
    if let Some(PidFile { socket: Some(folder), port: Some(port), .. }) = &pid_file {
        sockets.push(socket_path(folder, *port));
    }
    sockets.dedup();
    for socket in sockets {
        if accepts_socket(&socket, files).await {
            found.push(Sign::Socket(socket));
        }
    }
    if !cluster.is_scratch() && accepts_port(cluster.port).await {
        found.push(Sign::Port(cluster.port));
    }
    Ok(found)
}

/// Refuses when a server lives.
///
/// # Errors
/// Fails with every sign when there is one.
pub(crate) async fn refuse(cluster: &Cluster, files: &dyn ReadFiles) -> Result<(), ActionError> {
    let found = signs(cluster, files).await?;
    if found.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = found.iter().map(ToString::to_string).collect();
    let fact = format!("the server of database `{}` is alive: {}", cluster.name, list.join("; "));
    Err(ActionError::fatal(fact).help("stop it first, for example with `postgres.stop`; nothing was touched"))
}

/// The socket of a port in a folder.
pub(crate) fn socket_path(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}

/// Lists the processes that have `pgdata` as working folder, by inode and by name.
///
/// A server that lost its data directory to `rm -rf` still shows the name with ` (deleted)`.
pub(crate) fn processes(pgdata: &Path, files: &dyn ReadFiles) -> Vec<u32> {
    let canonical = files.canonical(pgdata).unwrap_or_else(|_| pgdata.to_owned());
    let own = files.facts(&canonical).ok().flatten().filter(|facts| facts.kind == FileKind::Directory);
    let deleted = format!("{} (deleted)", canonical.display());
    let Ok(entries) = files.list(Path::new("/proc")) else { return Vec::new() };
    let pids = entries.iter().filter_map(|entry| entry.name.to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let cwd = PathBuf::from(format!("/proc/{pid}/cwd"));
        let Ok(target) = files.read_link(&cwd) else { return false };
        if target == canonical || target.as_os_str() == deleted.as_str() {
            return is_server(*pid, files);
        }
        let Some(own) = &own else { return false };
        let there = files.facts(&cwd.join(".")).ok().flatten();
        there.is_some_and(|facts| (facts.device, facts.inode) == (own.device, own.inode)) && is_server(*pid, files)
    })
    .collect()
}

/// Lists every server that runs here: one process of each data directory, and that directory as its own mounts name it.
pub(crate) fn servers(files: &dyn ReadFiles) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = files.list(Path::new("/proc")) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for pid in entries.iter().filter_map(|entry| entry.name.to_str()?.parse::<u32>().ok()) {
        let cwd = PathBuf::from(format!("/proc/{pid}/cwd"));
        let Ok(place) = files.read_link(&cwd) else { continue };
        let holds_data = || matches!(files.facts(&cwd.join("PG_VERSION")), Ok(Some(_)));
        let identity = |pid: u32| {
            let facts = files.facts(Path::new(&format!("/proc/{pid}/cwd/."))).ok().flatten();
            facts.map(|facts| (facts.device, facts.inode))
        };
        let known = |(other, named): &(u32, PathBuf)| *named == place && identity(*other) == identity(pid);
        if !found.iter().any(known) && is_server(pid, files) && holds_data() {
            found.push((pid, place));
        }
    }
    found
}

/// The data directories that servers of this machine work in, links followed.
pub(crate) fn data_directories(files: &dyn ReadFiles) -> Vec<PathBuf> {
    let Ok(entries) = files.list(Path::new("/proc")) else { return Vec::new() };
    let pids = entries.iter().filter_map(|entry| entry.name.to_str()?.parse::<u32>().ok());
    let folders = pids.filter(|pid| is_server(*pid, files)).filter_map(|pid| {
        let folder = files.read_link(&PathBuf::from(format!("/proc/{pid}/cwd"))).ok()?;
        PidFile::read(files, &folder).map(|_| folder)
    });
    let mut folders: Vec<PathBuf> = folders.collect();
    folders.sort();
    folders.dedup();
    folders
}

/// Tells whether a cluster's own server runs, once that is clear: a server that was just started may have
/// no pid file yet, and what is left of one that died goes within moments.
pub(crate) async fn settled(cluster: &Cluster, files: &dyn ReadFiles) -> bool {
    for _ in 0..SETTLES {
        let inside = processes(&cluster.pgdata, files);
        if inside.is_empty() {
            return false;
        }
        if PidFile::read(files, &cluster.pgdata).is_some_and(|file| named(file.pid, &inside, files).is_some()) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

/// Gives the process of `inside` that a pid file names; one in a container has another number there.
pub(crate) fn named(pid: u32, inside: &[u32], files: &dyn ReadFiles) -> Option<u32> {
    let own = inside.iter().find(|one| **one == pid);
    own.or_else(|| inside.iter().find(|one| innermost(**one, files) == Some(pid))).copied()
}

/// The number that a process has in the innermost of its namespaces (`proc_pid_status(5)`).
fn innermost(pid: u32, files: &dyn ReadFiles) -> Option<u32> {
    let status = files.read(Path::new(&format!("/proc/{pid}/status")), 16 << 10).ok()?;
    let status = String::from_utf8_lossy(&status).into_owned();
    status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().next_back()?.parse().ok()
}

/// Tells whether a process is there and not a zombie.
pub(crate) fn exists(pid: u32, files: &dyn ReadFiles) -> bool {
    let Ok(stat) = files.read(Path::new(&format!("/proc/{pid}/stat")), 4096) else { return false };
    let stat = String::from_utf8_lossy(&stat).into_owned();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Removes the locks of a server that was killed and never reaped: as a zombie it can hold nothing, yet the next server
/// would refuse to start. Where processes outlived it the data directory's stays, and any other lock does: the server
/// judges it itself.
///
/// # Errors
/// Fails when such a lock cannot be removed.
pub(crate) fn clear_zombie_lock(cluster: &Cluster, files: &dyn Files) -> Result<(), HostError> {
    let own = cluster.pgdata.join("postmaster.pid");
    if is_of_a_zombie(&own, files)? && processes(&cluster.pgdata, files).is_empty() {
        files.remove_file(&own)?;
    }
    let Some(folder) = &cluster.socket else { return Ok(()) };
    let socket = socket_path(folder, cluster.port);
    let lock = folder.join(format!(".s.PGSQL.{}.lock", cluster.port));
    if !is_of_a_zombie(&lock, files)? {
        return Ok(());
    }
    files.remove_file(&lock)?;
    match files.facts(&socket)? {
        Some(_) => files.remove_file(&socket),
        None => Ok(()),
    }
}

fn is_of_a_zombie(lock: &Path, files: &dyn Files) -> Result<bool, HostError> {
    let bytes = files.read(lock, 64 * 1024).ok();
    let Some(PidFile { pid, .. }) = bytes.and_then(|bytes| PidFile::parse(&String::from_utf8_lossy(&bytes))) else {
        return Ok(false);
    };
    let listed = files.facts(Path::new(&format!("/proc/{pid}")))?.is_some();
    Ok(listed && !exists(pid, files))
}

/// A person's shell inside the folder is no server.
fn is_server(pid: u32, files: &dyn ReadFiles) -> bool {
    let name = files.read(Path::new(&format!("/proc/{pid}/comm")), 4096).unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    let name = name.trim();
    name.is_empty() || name.starts_with("postgres") || name.starts_with("postmaster")
}

/// Tells whether somebody accepts on a socket.
pub(crate) async fn accepts_socket(path: &Path, files: &dyn ReadFiles) -> bool {
    if !matches!(files.facts(path), Ok(Some(_))) {
        return false;
    }
    let connect = tokio::net::UnixStream::connect(path);
    matches!(tokio::time::timeout(Duration::from_secs(2), connect).await, Ok(Ok(_)))
}

async fn accepts_port(port: u16) -> bool {
    let connect = tokio::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port));
    matches!(tokio::time::timeout(Duration::from_secs(2), connect).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;

    #[test]
    fn a_pid_file_gives_pid_port_and_socket_folder() {
        let text = "4711\n/data/main\n1769610602\n5433\n/run/pg\nlocalhost\n 12345 0\nready   \n";
        let file = PidFile::parse(text).unwrap();
        let (pgdata, socket) = (Some("/data/main".into()), Some("/run/pg".into()));
        let told = PidFile { pid: 4711, pgdata, port: Some(5433), socket, is_up: true };
        assert_eq!(file, told);
        let starting = PidFile::parse("4711\n/data/main\n1769610602\n5433\n/run/pg\n").unwrap();
        assert!(!starting.is_up && starting.socket.is_some(), "more sockets may follow");
    }

    #[test]
    fn an_empty_pid_file_names_nobody() {
        assert_eq!(PidFile::parse(""), None);
        assert_eq!(PidFile::parse("rubbish\n"), None);
    }
}
