//! Places in the world, independent of the names that lead to them, and whether two of them meet.
//!
//! Not seen: what another machine shows under the same name, and what a network or pooled file system hides
//! behind a device number of its own.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use super::Identity;
use super::url::Url;
use crate::action::Target;
use crate::language::inventory::{Database, Inventory, Pgbouncer, Service, Via};

/// One place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Path(PathPlace),
    Port {
        host: String,
        port: u16,
    },
    Service {
        host: String,
        unit: String,
    },
    Url(Url),
    /// A database cluster that exists, by what its creation gave it and every copy keeps.
    Cluster {
        system: u64,
    },
}

/// A path, by every identity that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathPlace {
    host: String,
    path: PathBuf,
    /// Each existing folder on the way, from the path upwards, with what follows below it.
    ways: Vec<((u64, u64), PathBuf)>,
    /// The block device that it is.
    device: Option<u64>,
}

/// Whose place it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The drill's.
    Ours,
    /// A protected environment's.
    Theirs,
}

impl Place {
    pub(super) fn path(host: &str, path: &Path, identity: &dyn Identity) -> Self {
        let canonical = identity.canonical(path);
        let way = |folder: &Path| {
            let below = canonical.strip_prefix(folder).unwrap_or(Path::new("")).to_owned();
            Some((identity.device_inode(folder)?, below))
        };
        Self::Path(PathPlace {
            host: host.to_owned(),
            ways: canonical.ancestors().filter_map(way).collect(),
            device: identity.block_device(&canonical),
            path: canonical,
        })
    }

    /// Tells whether it is a path below a resolved folder.
    pub(super) fn is_below(&self, folder: &Path) -> bool {
        matches!(self, Self::Path(place) if place.path.starts_with(folder))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(place) => write!(f, "`{}`", place.path.display()),
            Self::Port { host, port } if host == "local" => write!(f, "port {port}"),
            Self::Port { host, port } => write!(f, "`{host}:{port}`"),
            Self::Service { unit, .. } => write!(f, "`{}`", unit.replace('\0', " ")),
            Self::Url(url) => write!(f, "`{url}`"),
            Self::Cluster { system } => write!(f, "system id {system}"),
        }
    }
}

/// Tells why two places meet: one equals, contains or lies inside the other. Sharing a file system is no match.
pub(super) fn meeting(mine: &Place, theirs: &Place, identity: &dyn Identity) -> Option<&'static str> {
    match (mine, theirs) {
        (Place::Path(mine), Place::Path(theirs)) if mine.host == theirs.host => paths(mine, theirs, identity),
        (Place::Url(mine), Place::Url(theirs)) => mine.meets(theirs).then_some("one lies inside the other"),
        (Place::Port { .. }, Place::Port { .. }) => (mine == theirs).then_some("it is the same port"),
        (Place::Service { .. }, Place::Service { .. }) => (mine == theirs).then_some("it is the same service"),
        (Place::Cluster { .. }, Place::Cluster { .. }) => {
            (mine == theirs).then_some("the cluster that is there already is the same one, or a copy of it")
        }
        (
            Place::Path(_) | Place::Port { .. } | Place::Service { .. } | Place::Url(_) | Place::Cluster { .. },
            Place::Path(_) | Place::Port { .. } | Place::Service { .. } | Place::Url(_) | Place::Cluster { .. },
        ) => None,
    }
}

fn paths(mine: &PathPlace, theirs: &PathPlace, identity: &dyn Identity) -> Option<&'static str> {
    if nested(&mine.path, &theirs.path) {
        return Some("one is or contains the other");
    }
    let met = |(folder, below): &((u64, u64), PathBuf)| {
        theirs.ways.iter().any(|(other, rest)| folder == other && nested(below, rest))
    };
    if mine.ways.iter().any(met) {
        return Some("one is or contains the other under another name, by device and inode");
    }
    devices(mine, theirs, identity).then_some("one is on the block device that the other is")
}

fn nested(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Whether one is a block device that the other, or the file system of the other, is made of.
fn devices(mine: &PathPlace, theirs: &PathPlace, identity: &dyn Identity) -> bool {
    let carries = |device: &PathPlace, other: &PathPlace| {
        let carried = other.device.or_else(|| other.ways.first().map(|((device, _), _)| *device));
        matches!((device.device, carried), (Some(device), Some(carried)) if identity.made_of(carried).contains(&device))
    };
    carries(mine, theirs) || carries(theirs, mine)
}

/// Every place that a target stands for.
pub(super) fn places(target: &Target, role: Role, inventory: &Inventory, identity: &dyn Identity) -> Vec<Place> {
    match target {
        Target::Path { host, path } => vec![Place::path(host, path, identity)],
        Target::Port { host, port } => vec![Place::Port { host: host.clone(), port: *port }],
        Target::Url { prefix } => vec![url(prefix, identity)],
        Target::Database { name } => {
            inventory.databases.get(name).map(|entry| database(entry, role, identity)).unwrap_or_default()
        }
        Target::Service { name } => inventory.services.get(name).map(|entry| service(name, entry)).unwrap_or_default(),
        Target::Store { name, prefix } => inventory
            .stores
            .get(name)
            .map(|entry| vec![url(&format!("{}/{prefix}", entry.plain_url()), identity)])
            .unwrap_or_default(),
    }
}

/// A folder of this machine is known by its path, anything else by its URL.
fn url(text: &str, identity: &dyn Identity) -> Place {
    match text.strip_prefix("file://") {
        Some(path) => Place::path("local", Path::new(path.strip_prefix("localhost").unwrap_or(path)), identity),
        None => Place::Url(Url::of(text)),
    }
}

/// A service is its unit, or each of the commands that change it.
fn service(name: &str, entry: &Service) -> Vec<Place> {
    let place = |unit: String| Place::Service { host: entry.host.clone(), unit };
    match (&entry.systemd, &entry.command, &entry.pgbouncer) {
        (Some(name), _, _) => vec![place(unit(name))],
        (None, None, Some(pooler)) => {
            let port = if pooler.port == 0 { Pgbouncer::PORT } else { pooler.port };
            match &pooler.socket {
                Some(folder) => vec![place(format!("pgbouncer:{}:{port}", folder.display()))],
                None => vec![Place::Port { host: entry.host.clone(), port }],
            }
        }
        (None, Some(commands), _) => {
            [&commands.start, &commands.stop].into_iter().flat_map(|argv| commanded(argv)).map(place).collect()
        }
        (None, None, None) => vec![place(name.to_owned())],
    }
}

/// What a command changes: the units it names when it is `systemctl`, else whatever that very command changes.
fn commanded(argv: &[String]) -> Vec<String> {
    let program = argv.first().map(|program| Path::new(program).file_name().unwrap_or_default());
    let words: BTreeSet<&String> = argv.iter().skip(2).filter(|word| !word.starts_with('-')).collect();
    if program.is_some_and(|program| program == "systemctl") && !words.is_empty() {
        return words.into_iter().map(|word| unit(word)).collect();
    }
    vec![argv.join("\0")]
}

/// The unit's full name: `x` and `x.service` are one.
fn unit(name: &str) -> String {
    const KINDS: [&str; 6] = [".service", ".socket", ".target", ".timer", ".slice", ".scope"];
    if KINDS.iter().any(|kind| name.ends_with(kind)) { name.to_owned() } else { format!("{name}.service") }
}

fn database(entry: &Database, role: Role, identity: &dyn Identity) -> Vec<Place> {
    let mut places = ports(entry, role, identity);
    if let Some(name) = kept_by(&entry.via) {
        places.push(Place::Service { host: entry.host.clone(), unit: name });
    }
    if let Some(folder) = &entry.socket {
        places.push(Place::path(&entry.host, &folder.join(format!(".s.PGSQL.{}", entry.port)), identity));
    }
    if !entry.is_managed() {
        // One that only its container knows is known by that.
        let data = Some(&entry.pgdata).filter(|data| data.is_absolute());
        places.extend(data.map(|data| Place::path(&entry.host, data, identity)));
        places.extend(identity.system_id(&entry.pgdata).map(|system| Place::Cluster { system }));
    }
    places
}

/// The unit, or the service of a compose project, that keeps a server.
fn kept_by(via: &Via) -> Option<String> {
    match via {
        Via::Systemd(name) => Some(unit(name)),
        Via::PgCtlcluster(cluster) => Some(format!("postgresql@{}-{}.service", cluster.version, cluster.name)),
        Via::Compose(compose) => {
            let project = compose.project.as_deref().unwrap_or_default();
            Some(format!("compose:{}:{project}:{}", compose.file.display(), compose.service))
        }
        Via::PgCtl(_) | Via::Managed(_) => None,
    }
}

/// The ports that a server listens on, on every host that its address leads to.
fn ports(entry: &Database, role: Role, identity: &dyn Identity) -> Vec<Place> {
    let mut hosts = entry.address.as_ref().map(|address| identity.hosts(address)).unwrap_or_default();
    // A server that is reached by its socket usually listens on its port, too.
    let listens = entry.socket.is_none() || role == Role::Theirs;
    if listens && (!entry.is_managed() || entry.address.is_none()) {
        hosts.insert(entry.host.clone());
    }
    hosts.into_iter().map(|host| Place::Port { host, port: entry.port }).collect()
}
