//! Whether an entry of the inventory and the server that answers are about one and the same cluster.
//!
//! A wrong `pgdata`, `port` or `socket` is not noticed by itself: some server answers, or none does, and either is
//! believed. So the entry is held against every witness there is: what the server says of itself, the control file of
//! the data directory, the `postmaster.pid` in it, and the lock file beside the socket, which names the data directory of
//! whoever listens there (`CreateLockFile` in the server's `miscinit.c`). A witness that cannot be asked says nothing.

use std::path::{Path, PathBuf};

use super::connect::Session;
use super::maintenance_db::MaintenanceDb;
use crate::action::{ActionError, DatabaseRef, ReadFiles, ReadHost, Secrets};
use crate::actions::postgres::cluster::ha_manager::Fact;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::live::{self, PidFile};
use crate::actions::postgres::cluster::pg_control;
use crate::actions::postgres::cluster::service_manager::Runs;
use crate::language::inventory::{Inventory, is_loopback};

/// More servers than these are not listed.
const SHOWN: usize = 3;

/// Names what contradicts the entry of a database; nothing for one that is thrown away at the end of its run, and for
/// a managed one, whose place is not here.
///
/// # Errors
/// Fails when the inventory has no such database.
pub(crate) async fn contradictions(
    database: &str,
    inventory: &Inventory,
    (host, secrets): (&dyn ReadHost, &dyn Secrets),
) -> Result<Vec<Fact>, ActionError> {
    let cluster = Cluster::of(&DatabaseRef(database.to_owned()), inventory, Path::new("/"))?;
    if cluster.is_scratch() || cluster.is_managed() {
        return Ok(Vec::new());
    }
    let files = host.read_files();
    let claim = Claim { cluster: &cluster, files: files.as_ref() };
    let session = match MaintenanceDb::own(&cluster, secrets) {
        Ok(maintenance_db) => maintenance_db.open().await.ok(),
        Err(_) => None,
    };
    let mut found: Vec<Fact> = Vec::new();
    if let Some(mut session) = session {
        found.extend(claim.against_server(&mut session).await);
    }
    if cluster.service_manager().runs() == Runs::Here {
        if found.is_empty() {
            found.extend(claim.against_socket().await);
        }
        found.extend(claim.against_pid_file().await);
    }
    Ok(found)
}

/// Says when the server of a data directory listens at another place than the entry of its database names.
pub(crate) async fn listens_elsewhere(cluster: &Cluster, files: &dyn ReadFiles) -> Option<Fact> {
    let is_here = cluster.service_manager().runs() == Runs::Here && !cluster.is_scratch() && !cluster.is_managed();
    match is_here {
        true => Claim { cluster, files }.against_pid_file().await,
        false => None,
    }
}

/// Tells of servers of this machine that no entry names, where the one of `database` does not run: an entry that is wrong
/// in everything contradicts nobody.
///
/// # Errors
/// Fails when the inventory has no such database.
pub(crate) fn strangers(
    database: &str,
    inventory: &Inventory,
    files: &dyn ReadFiles,
) -> Result<Option<Fact>, ActionError> {
    let cluster = Cluster::of(&DatabaseRef(database.to_owned()), inventory, Path::new("/"))?;
    let is_here = cluster.service_manager().runs() == Runs::Here && !cluster.is_managed();
    if cluster.is_scratch() || !is_here || !live::processes(&cluster.pgdata, files).is_empty() {
        return Ok(None);
    }
    let real = |path: &Path| files.canonical(path).unwrap_or_else(|_| path.to_owned());
    let named: Vec<PathBuf> = inventory.databases.values().map(|entry| real(&entry.pgdata)).collect();
    // Servers that are thrown away work in their run's own scratch folder.
    let is_thrown_away = |folder: &Path| folder.components().any(|part| part.as_os_str() == "scratch");
    let mut unnamed = live::data_directories(files);
    unnamed.retain(|folder| !named.contains(&real(folder)) && !is_thrown_away(folder));
    if unnamed.is_empty() {
        return Ok(None);
    }
    let more = unnamed.len().saturating_sub(SHOWN);
    let shown: Vec<String> = unnamed.iter().take(SHOWN).map(|folder| format!("`{}`", folder.display())).collect();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Ok(Some(Fact {
        what: format!("servers that no entry names work in {}{more}", shown.join(", ")),
        help: format!("when one of them is `{database}`, its `pgdata`, `port` and `socket` in the inventory are wrong"),
    }))
}

/// What an entry says, and where it can be looked at.
struct Claim<'a> {
    cluster: &'a Cluster,
    files: &'a dyn ReadFiles,
}

impl Claim<'_> {
    /// Holds it against what the server that answers says of itself.
    async fn against_server(&self, session: &mut Session) -> Option<Fact> {
        let Cluster { name, pgdata, .. } = self.cluster;
        // Either may be hidden from a role without privileges; then the other witnesses count.
        let told = "SELECT system_identifier FROM pg_control_system()";
        let theirs = session.value(told).await.ok().and_then(|text| text.parse::<u64>().ok());
        let ours = pg_control::control(self.files, pgdata).ok().map(|control| control.system_id.0);
        let told = "SELECT setting FROM pg_settings WHERE name = 'data_directory'";
        let folder = session.value(told).await.ok().map(PathBuf::from);
        let shown = match &folder {
            Some(folder) => format!(", from `{}`", folder.display()),
            None => String::new(),
        };
        if let (Some(theirs), Some(ours)) = (theirs, ours)
            && theirs != ours
        {
            let what = format!(
                "the server that answers for `{name}` ({}) is cluster {theirs}{shown}, but `pgdata: {}` holds cluster {ours}",
                self.place(),
                pgdata.display()
            );
            return Some(stranger(what));
        }
        let folder = folder.filter(|folder| self.is_local() && !self.is_ours(folder))?;
        // The very same server may see its folder by another name, in a mount namespace of its own.
        if theirs.is_some() && theirs == ours && !live::processes(pgdata, self.files).is_empty() {
            return None;
        }
        let what = format!(
            "the server that answers for `{name}` ({}) works in `{}`, but the inventory says `pgdata: {}`",
            self.place(),
            folder.display(),
            pgdata.display()
        );
        Some(stranger(what))
    }

    /// Holds it against the lock file of the socket, which also a server leaves that lets nobody in.
    async fn against_socket(&self) -> Option<Fact> {
        let folder = self.cluster.socket.as_ref()?;
        let socket = live::socket_path(folder, self.cluster.port);
        let lock = self.files.read(&socket.with_file_name(lock_name(self.cluster.port)), 4096).ok()?;
        let lock = PidFile::parse(&String::from_utf8_lossy(&lock))?;
        let theirs = lock.pgdata.filter(|folder| !self.is_ours(folder))?;
        if !live::exists(lock.pid, self.files) || !live::accepts_socket(&socket, self.files).await {
            return None;
        }
        let what = format!(
            "the server on `{}` (process {}) works in `{}`, but the inventory says `pgdata: {}` for `{}`",
            socket.display(),
            lock.pid,
            theirs.display(),
            self.cluster.pgdata.display(),
            self.cluster.name
        );
        Some(stranger(what))
    }

    /// Holds it against where the server of the data directory listens.
    async fn against_pid_file(&self) -> Option<Fact> {
        let Cluster { name, pgdata, port, .. } = self.cluster;
        let file = PidFile::read(self.files, pgdata)?;
        live::named(file.pid, &live::processes(pgdata, self.files), self.files)?;
        let server = format!("the server of `{}` (process {})", pgdata.display(), file.pid);
        if let Some(theirs) = file.port.filter(|theirs| theirs != port) {
            let what = format!("{server} listens on port {theirs}, but the inventory says `port: {port}` for `{name}`");
            return Some(fact(what, "`port`"));
        }
        // It may have several, and opens one after the other.
        let (theirs, ours) = (file.socket.filter(|_| file.is_up)?, self.cluster.socket.as_ref()?);
        let reached = live::accepts_socket(&live::socket_path(ours, *port), self.files).await;
        // It may have several sockets, and names the first. One that comes up or goes down has none yet, or no more.
        if reached || !live::accepts_socket(&live::socket_path(&theirs, *port), self.files).await {
            return None;
        }
        let what = format!(
            "{server} has its socket in `{}`, but the inventory says `socket: {}` for `{name}`",
            theirs.display(),
            ours.display()
        );
        Some(fact(what, "`socket`"))
    }

    /// Whether sessions end on this machine, in a server whose folders can be looked at.
    fn is_local(&self) -> bool {
        let here = self.cluster.entry.address.as_deref().is_none_or(is_loopback);
        self.cluster.service_manager().runs() == Runs::Here && (here || self.cluster.socket.is_some())
    }

    fn is_ours(&self, folder: &Path) -> bool {
        folder == self.cluster.pgdata || self.real(folder) == self.real(&self.cluster.pgdata)
    }

    /// The path without links. Of a folder that is gone, that of the one it lay in tells.
    fn real(&self, path: &Path) -> PathBuf {
        let canonical = |path: &Path| self.files.canonical(path).ok();
        let lay_in = || Some(canonical(path.parent()?)?.join(path.file_name()?));
        canonical(path).or_else(lay_in).unwrap_or_else(|| path.to_owned())
    }

    /// Where sessions go.
    fn place(&self) -> String {
        let Cluster { socket, port, entry, .. } = self.cluster;
        match socket {
            Some(folder) => format!("`{}`", live::socket_path(folder, *port).display()),
            None => format!("`{}:{port}`", entry.address.as_deref().unwrap_or("localhost")),
        }
    }
}

fn lock_name(port: u16) -> String {
    format!(".s.PGSQL.{port}.lock")
}

/// Some other server has the place of the entry's.
fn stranger(what: String) -> Fact {
    let mut fact = fact(what, "`pgdata`, or `port` and `socket`,");
    fact.help.push_str("; when the entry is right, stop the other server: it has this one's port");
    fact
}

fn fact(what: String, wrong: &str) -> Fact {
    Fact {
        what,
        help: format!(
            "correct {wrong} of the database in the inventory; `runbook doctor --servers` tells when it is right"
        ),
    }
}
