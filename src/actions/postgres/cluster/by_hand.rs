//! What a person types in place of the actions on a server, with PostgreSQL's own programs: what they share.

use super::layout::Cluster;
use super::server::Programs;
use crate::action::by_hand::{as_user, command_line, remark};

/// The folder that the backup's own script fills: beside the data, for a container where its user of this machine can.
pub(crate) fn by_hand_folder(cluster: &Cluster) -> String {
    match cluster.is_contained() {
        true => format!("/var/tmp/{}.by-hand", cluster.name),
        false => format!("{}.by-hand", cluster.pgdata.display()),
    }
}

/// What a person expects of the statement that follows.
pub(crate) fn expected(name: &str, expect: Option<&str>) -> String {
    remark(&format!("{name}: {}", expect.map_or("at least one row".to_owned(), |expect| format!("expected {expect}"))))
}

/// A statement in a database of the server.
pub(crate) fn sql(cluster: &Cluster, dbname: &str, statement: &str) -> String {
    let mut words = vec!["psql".to_owned()];
    words.extend(connection(cluster));
    words.extend(["-d", dbname, "-Atc", statement].map(str::to_owned));
    command_line(words)
}

/// A session with one of its databases.
pub(crate) fn psql(cluster: &Cluster, dbname: &str) -> String {
    let words = std::iter::once("psql".to_owned()).chain(connection(cluster));
    command_line(words.chain(["-d".to_owned(), dbname.to_owned()]))
}

/// How a program of PostgreSQL connects.
pub(crate) fn connection(cluster: &Cluster) -> Vec<String> {
    let mut words = Vec::new();
    let host = cluster.socket.as_ref().map(|folder| folder.display().to_string());
    let host = host.or_else(|| cluster.entry.address.clone());
    words.extend(host.into_iter().flat_map(|host| ["-h".to_owned(), host]));
    words.extend(["-p".to_owned(), cluster.port.to_string(), "-U".to_owned(), cluster.user.clone()]);
    words
}

/// A command as the server's user.
pub(crate) fn as_owner(cluster: &Cluster, words: &[&str]) -> String {
    let owner = cluster.entry.os_user.clone().unwrap_or_else(|| "postgres".to_owned());
    let programs = Programs::of_any_version(cluster);
    let (program, rest) = words.split_first().unwrap_or((&"true", &[]));
    let own = if program.starts_with("pg_") { programs.path(program) } else { (*program).to_owned() };
    as_user(&owner, std::iter::once(own.as_str()).chain(rest.iter().copied()))
}
