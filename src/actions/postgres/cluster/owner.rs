//! The operating-system user of a server, and commands run as that user.

use std::path::Path;

use super::layout::Cluster;
use crate::action::{ActionError, CommandSpec, Files, HostError, ReadFiles, ReadHost};

/// Who owns a cluster's files and runs its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The user to become; `None` when the engine already is that user.
    pub(crate) become_user: Option<String>,
    /// The user's number.
    pub(crate) uid: u32,
    /// The group's number.
    pub(crate) gid: u32,
}

impl Owner {
    /// The numbers of the user and the group.
    pub(crate) fn ids(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    /// Finds the owner: `os_user` of the entry, else the owner of `pgdata`, else of its nearest parent
    /// that does not belong to root, else `postgres`. In a container the owner of `pgdata` alone.
    ///
    /// # Errors
    /// Fails when the user does not exist or the engine may not become that user.
    pub(crate) fn of(cluster: &Cluster, host: &dyn ReadHost) -> Result<Self, ActionError> {
        let files = host.read_files();
        let engine = host.effective_uid();
        if cluster.is_contained() {
            return Self::inside(cluster, host);
        }
        if let Some(name) = &cluster.entry.os_user {
            return Self::named(name, host);
        }
        if engine != 0 {
            let gid = own_gid(files.as_ref(), &cluster.pgdata, engine);
            return Ok(Self { become_user: None, uid: engine, gid });
        }
        // A throw-away instance runs as the server that it stands in for, or stands beside.
        let original = cluster.entry.live.as_ref().unwrap_or(&cluster.entry.pgdata);
        let place = if cluster.is_scratch() { original.as_path() } else { cluster.pgdata.as_path() };
        for parent in place.ancestors() {
            if let Ok(Some(facts)) = files.facts(parent)
                && facts.uid != 0
                && let Some(name) = user_name(files.as_ref(), facts.uid)
            {
                return Ok(Self { become_user: Some(name), uid: facts.uid, gid: facts.gid });
            }
        }
        Self::named("postgres", host)
    }

    /// Makes a folder of this user, where it is missing, and what is missing above it. Other runs use that, too: whoever is killed
    /// before it is this user's leaves one that servers can still pass.
    ///
    /// # Errors
    /// Fails when one of them cannot be made or given to the user.
    pub(crate) fn make_folder(&self, files: &dyn Files, folder: &Path) -> Result<(), HostError> {
        let above = folder.ancestors().skip(1);
        let missing: Vec<&Path> = above.take_while(|path| matches!(files.facts(path), Ok(None))).collect();
        for path in missing.into_iter().rev() {
            files.create_dir(path, 0o711)?;
            files.chown(path, self.uid, self.gid)?;
        }
        files.create_dir(folder, 0o700)?;
        files.chown(folder, self.uid, self.gid)
    }

    /// A user of a container, who has no name on this machine: only the folder tells the number.
    fn inside(cluster: &Cluster, host: &dyn ReadHost) -> Result<Self, ActionError> {
        let place = cluster.pgdata.display();
        let engine = host.effective_uid();
        if engine != 0 {
            let fact = format!("runbook runs as user number {engine}, which cannot write into the volume `{place}`");
            return Err(ActionError::fatal(fact).help("run it as root"));
        }
        let facts = host.read_files().facts(&cluster.pgdata);
        let facts = facts.map_err(|error| ActionError::fatal(format!("cannot look at `{place}`")).because(&error))?;
        match facts {
            Some(facts) if facts.uid != 0 => Ok(Self { become_user: None, uid: facts.uid, gid: facts.gid }),
            Some(_) => Err(ActionError::fatal(format!("`{place}` belongs to root, so the server's user is not known"))
                .help("give it to the user number that the container's server has (`docker compose run --rm --entrypoint id SERVICE -u postgres`)")),
            None => Err(ActionError::fatal(format!("the volume's folder `{place}` is not there"))
                .help("correct `pgdata`; where the volume is lost, `docker compose up --no-start SERVICE` makes it anew")),
        }
    }

    /// The engine's own user.
    pub(crate) fn engine(host: &dyn ReadHost) -> Self {
        Self { become_user: None, uid: host.effective_uid(), gid: rustix::process::getegid().as_raw() }
    }

    fn named(name: &str, host: &dyn ReadHost) -> Result<Self, ActionError> {
        let found = host
            .user(name)
            .map_err(|error| ActionError::fatal(format!("cannot look up the user `{name}`")).because(&error))?;
        let Some((uid, gid)) = found else {
            return Err(ActionError::fatal(format!("the operating-system user `{name}` does not exist"))
                .help("set `os_user` of the database in the inventory"));
        };
        let engine = host.effective_uid();
        if engine == uid {
            return Ok(Self { become_user: None, uid, gid });
        }
        if engine != 0 {
            let fact = format!("the server's user is `{name}`, but runbook runs as user number {engine}");
            return Err(ActionError::fatal(fact).help(format!("run it as `{name}` or as root")));
        }
        Ok(Self { become_user: Some(name.to_owned()), uid, gid })
    }

    /// The user as messages name it.
    pub(crate) fn shown(&self) -> String {
        self.become_user.as_ref().map_or_else(|| format!("number {}", self.uid), |name| format!("`{name}`"))
    }

    /// A program that is to run as this user.
    pub(crate) fn command(&self, program: impl Into<String>) -> CommandSpec {
        let mut spec = CommandSpec::new(program);
        spec.user.clone_from(&self.become_user);
        spec
    }
}

fn own_gid(files: &dyn ReadFiles, pgdata: &Path, uid: u32) -> u32 {
    let owned = pgdata.ancestors().filter_map(|path| files.facts(path).ok().flatten()).find(|facts| facts.uid == uid);
    let own = rustix::process::getegid().as_raw();
    // A folder may have a group that its owner is no member of; only root can give that on.
    let groups = rustix::process::getgroups().unwrap_or_default();
    let may_give = |gid: &u32| *gid == own || groups.iter().any(|group| group.as_raw() == *gid);
    owned.map(|facts| facts.gid).filter(may_give).unwrap_or(own)
}

/// Finds a user's name in `/etc/passwd`.
fn user_name(files: &dyn ReadFiles, uid: u32) -> Option<String> {
    let text = files.read(Path::new("/etc/passwd"), 1 << 20).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let number = uid.to_string();
    lines.find(|fields| fields.get(2).is_some_and(|field| *field == number)).map(|fields| fields[0].to_owned())
}

/// Says when the server's user may not run the program that the server is to fetch WAL with: found out
/// after the swap, it would end the recovery.
pub(crate) async fn barred(program: &Path, owner: &Owner, host: &dyn ReadHost) -> Option<String> {
    let user = owner.become_user.clone()?;
    let tried = host.probe(owner.command(program.to_string_lossy()).args(["--version"])).await;
    let why = match tried {
        Ok(output) if output.success() => return None,
        Ok(output) => format!("it ended with {:?}", output.exit_code.unwrap_or(-1)),
        Err(error) => std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string),
    };
    Some(format!(
        "the server's user `{user}` cannot run `{}`, so the server could fetch no WAL: {why}",
        program.display()
    ))
}
