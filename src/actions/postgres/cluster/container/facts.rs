//! What `docker inspect` tells of a server's container.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The container of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    /// Its number.
    pub(crate) id: String,
    /// Whether programs can be run in it.
    pub(crate) state: State,
    /// The server's own command line; its first word is its program.
    pub(crate) server: Vec<String>,
    /// What of this machine is mounted where inside.
    mounts: Vec<Mount>,
    /// The data directory as its command or its environment names it, inside; `None` where neither does.
    pgdata: Option<PathBuf>,
}

/// What a container that was listed with a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Inspected {
    /// The service itself.
    Service(Box<Container>),
    /// One that lives as long as a program that somebody runs in it (`docker compose run`); its label says so.
    OneOff,
}

/// The label of such a one.
const ONE_OFF: &str = "/Config/Labels/com.docker.compose.oneoff";

impl Inspected {
    /// Reads the answer of `docker inspect` to one container; `None` when it is none.
    pub(crate) fn read(answer: &[u8]) -> Option<Self> {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        let told = answer.as_array()?.first()?;
        let label = told.pointer(ONE_OFF).and_then(Value::as_str);
        match label.is_some_and(|label| label.eq_ignore_ascii_case("true")) {
            true => Some(Self::OneOff),
            false => Container::of(told).map(|container| Self::Service(Box::new(container))),
        }
    }
}

/// Whether a container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It does.
    Runs,
    /// It is there and does not.
    Stands,
}

/// A folder or file inside a container that is not of its image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// Where it lies on this machine; empty for what lies in memory.
    source: PathBuf,
    destination: PathBuf,
}

impl Container {
    fn of(told: &Value) -> Option<Self> {
        let words = |pointer: &str| -> Vec<String> {
            let list = told.pointer(pointer).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let mounts = told.pointer("/Mounts").and_then(Value::as_array).into_iter().flatten();
        let mount = |mount: &Value| {
            let path = |name: &str| mount.get(name).and_then(Value::as_str).map(PathBuf::from);
            Some(Mount { source: path("Source").unwrap_or_default(), destination: path("Destination")? })
        };
        let runs = told.pointer("/State/Status").and_then(Value::as_str) == Some("running");
        let server = server(&words("/Config/Cmd"));
        let environment = words("/Config/Env");
        let named = environment.iter().find_map(|line| line.strip_prefix("PGDATA=")).filter(|path| !path.is_empty());
        Some(Self {
            id: told.get("Id")?.as_str()?.to_owned(),
            state: if runs { State::Runs } else { State::Stands },
            pgdata: data_directory(&server).or_else(|| named.map(PathBuf::from)),
            mounts: mounts.filter_map(mount).collect(),
            server,
        })
    }

    /// The data directory on this machine, where the container names one that is mounted.
    pub(crate) fn data(&self) -> Option<PathBuf> {
        self.outside(self.pgdata.as_deref()?)
    }

    /// The data directory inside, where the container names one.
    pub(crate) fn named(&self) -> Option<&Path> {
        self.pgdata.as_deref()
    }

    /// Where a path of this machine is inside; `None` where the container does not have it.
    pub(crate) fn inside(&self, path: &Path) -> Option<PathBuf> {
        let here = |mount: &&Mount| mount.source.is_absolute() && path.starts_with(&mount.source);
        let fits = self.mounts.iter().filter(here);
        let mount = fits.max_by_key(|mount| mount.source.components().count())?;
        Some(joined(&mount.destination, path.strip_prefix(&mount.source).ok()?))
    }

    /// Where a path of the container lies on this machine; `None` for what is the image's own.
    pub(crate) fn outside(&self, path: &Path) -> Option<PathBuf> {
        let fits = self.mounts.iter().filter(|mount| path.starts_with(&mount.destination));
        let mount = fits.max_by_key(|mount| mount.destination.components().count())?;
        mount.source.is_absolute().then_some(())?;
        Some(joined(&mount.source, path.strip_prefix(&mount.destination).ok()?))
    }
}

/// Without a slash at the end, which would make it another path to compare with.
fn joined(folder: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { folder.to_owned() } else { folder.join(rest) }
}

/// The server's command line: images of PostgreSQL's take words without a program, or none at all, as its own.
fn server(words: &[String]) -> Vec<String> {
    let own = words.first().is_none_or(|first| first.starts_with('-'));
    own.then(|| "postgres".to_owned()).into_iter().chain(words.iter().cloned()).collect()
}

/// What the command line says of the data directory: a setting beats `-D`, as in the server.
fn data_directory(words: &[String]) -> Option<PathBuf> {
    let (mut by_option, mut by_setting) = (None, None);
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let setting = match word {
            "-D" => {
                by_option = words.next().or(by_option);
                continue;
            }
            "-c" => words.next().unwrap_or_default(),
            other => other.strip_prefix("--").or_else(|| other.strip_prefix("-c")).unwrap_or_default(),
        };
        if let Some((name, value)) = setting.split_once('=')
            && name.replace('-', "_") == "data_directory"
        {
            by_setting = Some(value);
        } else if let Some(joined) = word.strip_prefix("-D").filter(|rest| rest.starts_with('/')) {
            by_option = Some(joined);
        }
    }
    by_setting.or(by_option).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use serde_json::json;

    use super::*;

    fn told(command: &Value, environment: &Value) -> Container {
        let told = json!([{
            "Id": "f00d",
            "State": { "Status": "running" },
            "Config": { "Cmd": command, "Env": environment },
            "Mounts": [
                { "Type": "volume", "Name": "shop_data", "Source": "/var/lib/docker/volumes/shop_data/_data", "Destination": "/var/lib/postgresql/data" },
                { "Type": "bind", "Source": "/srv/shop/runbook-wal", "Destination": "/etc/runbook" },
                { "Type": "tmpfs", "Source": "", "Destination": "/tmp" },
            ],
        }]);
        Container::of(&told[0]).unwrap()
    }

    #[test]
    fn a_container_that_somebody_runs_a_program_in_is_not_the_servers() {
        let labelled = |label: &str| {
            let labels = json!({ "com.docker.compose.service": "db", "com.docker.compose.oneoff": label });
            let told = json!([{ "Id": "f00d", "Config": { "Labels": labels, "Cmd": ["bash"] } }]);
            Inspected::read(told.to_string().as_bytes()).unwrap()
        };
        assert_eq!(labelled("True"), Inspected::OneOff);
        assert!(matches!(labelled("False"), Inspected::Service(_)));
        assert!(Inspected::read(b"[]").is_none() && Inspected::read(b"docker?").is_none());
    }

    #[test]
    fn a_path_has_one_place_inside_and_one_outside() {
        let container = told(&json!(["postgres"]), &json!(["PATH=/bin", "PGDATA=/var/lib/postgresql/data"]));
        let volume = Path::new("/var/lib/docker/volumes/shop_data/_data");
        assert_eq!(container.data().as_deref(), Some(volume));
        let staged = Path::new("pgsql_tmp.runbook-staged-x");
        let inside = Path::new("/var/lib/postgresql/data").join(staged);
        assert_eq!(container.inside(&volume.join(staged)), Some(inside.clone()));
        assert_eq!(container.outside(&inside), Some(volume.join(staged)));
        assert_eq!(
            container.inside(Path::new("/srv/shop/runbook-wal/wal.yaml")).unwrap(),
            Path::new("/etc/runbook/wal.yaml")
        );
        assert_eq!(container.inside(Path::new("/srv/shop/runbook-walrus")), None);
        assert_eq!(container.outside(Path::new("/usr/lib/postgresql")), None);
        assert_eq!(container.outside(Path::new("/tmp/x")), None, "it lies in memory");
        assert_eq!(container.state, State::Runs);
    }

    #[test]
    fn the_command_line_names_the_data_directory_before_the_environment_does() {
        let environment = json!(["PGDATA=/one"]);
        let named = |command: Value| told(&command, &environment).named().map(Path::to_owned).unwrap();
        assert_eq!(named(json!(["postgres", "-c", "port=1"])), Path::new("/one"));
        assert_eq!(named(json!(["postgres", "-D", "/two"])), Path::new("/two"));
        assert_eq!(named(json!(["postgres", "-D/two", "-c", "data_directory=/three"])), Path::new("/three"));
        assert_eq!(named(json!(["-c", "fsync=off", "--data-directory=/four"])), Path::new("/four"));
        assert_eq!(told(&json!(null), &json!([])).named(), None);
    }

    #[test]
    fn words_without_a_program_are_the_servers() {
        assert_eq!(told(&json!(["-c", "port=1"]), &json!([])).server, ["postgres", "-c", "port=1"]);
        assert_eq!(told(&json!([]), &json!([])).server, ["postgres"]);
        assert_eq!(told(&json!(["/usr/bin/postgres"]), &json!([])).server, ["/usr/bin/postgres"]);
    }
}
