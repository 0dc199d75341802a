//! Links in a data directory: PostgreSQL leaves them out of a base backup, and without some of them (`postgresql.conf`,
//! `pg_hba.conf`, `server.key`) no server starts.
//!
//! What they lead to lies beside the backup under their path in the data directory; a restore puts it there as a plain file.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::delivery::{Arrivals, Delivery, Item};
use super::outside::LIMIT_BYTES;
use crate::action::{FileFacts, FileKind, HostError, ReadFiles, RunContext};
use crate::actions::postgres::cluster::container::ServerHost;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::catalog::{ManifestObject, ObjectRole};

/// The links that a server left out of a backup, all by their paths below the data directory.
pub(crate) struct Linked<'a> {
    /// What it left out.
    pub(crate) left_out: &'a [PathBuf],
    /// The files there that it reads as its configuration.
    pub(crate) configuration: &'a [PathBuf],
}

/// Why something is not brought into a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unbrought {
    /// It is no file that could be lost: a folder, a socket.
    NoFile(&'static str),
    /// It is one, or may be one, and cannot be read.
    Unread(String),
}

impl Linked<'_> {
    /// Stores what they lead to beside the backup; gives what is missing in it. Nothing of that spoils the backup.
    pub(crate) async fn bring(
        &self,
        delivery: &Delivery<'_>,
        arrivals: &mut Arrivals,
        (cluster, cx): (&Cluster, &RunContext),
    ) -> Vec<PathBuf> {
        let wanted = self.wanted();
        if wanted.is_empty() {
            return Vec::new();
        }
        let files = cx.host.read_files();
        let server_host = ServerHost::seen(cluster, cx.host.as_read()).await.ok().flatten();
        let mut missing = Vec::new();
        for own in wanted {
            let shown = own.display();
            let is_link = self.left_out.contains(own);
            let message = match content((own, is_link), (cluster, server_host.as_ref()), files.as_ref()) {
                Ok(bytes) => {
                    let item = Item::new(ManifestObject::linked_name(own), ObjectRole::Config);
                    delivery.bring_small(&item, &Bytes::from(bytes), arrivals).await;
                    format!(
                        "`{shown}` is reached through a link in the data directory, which PostgreSQL leaves out: its content is in the \
                         backup as well, and comes back as a plain file"
                    )
                }
                Err(Unbrought::NoFile(what)) => {
                    format!("`{shown}` of the data directory is {what}: it is in no backup")
                }
                Err(Unbrought::Unread(why)) => {
                    missing.push(own.clone());
                    format!(
                        "warning: `{shown}` is reached through a link in the data directory, which PostgreSQL leaves out, and its \
                         content is not in the backup: {why}; let runbook's own user on the server's machine read it, or put a plain \
                         file in the place of the link"
                    )
                }
            };
            cx.reporter.note(message, serde_json::json!({ "path": own }));
        }
        missing
    }

    /// What was left out, and the configuration that is reached through a linked folder.
    fn wanted(&self) -> Vec<&PathBuf> {
        let below = |own: &&PathBuf| self.left_out.iter().any(|left| own.starts_with(left) && *own != left);
        let mut wanted: Vec<&PathBuf> = self.left_out.iter().chain(self.configuration.iter().filter(below)).collect();
        wanted.sort();
        wanted.dedup();
        wanted
    }
}

/// Whether the user who owns a data directory may open a file: whoever is that user may put any link there, and what root
/// reads through one would come to them in the next restore.
pub(crate) fn is_readable_by(pgdata: &FileFacts, file: &Path, files: &dyn ReadFiles) -> Result<bool, HostError> {
    let may = |facts: &FileFacts, bit: u32| {
        facts.mode & bit != 0
            || facts.uid == pgdata.uid && facts.mode & (bit << 6) != 0
            || facts.gid == pgdata.gid && facts.mode & (bit << 3) != 0
    };
    const READ: u32 = 0o4;
    const ENTER: u32 = 0o1;
    for folder in file.ancestors().skip(1) {
        if !files.facts(folder)?.is_some_and(|facts| may(&facts, ENTER)) {
            return Ok(false);
        }
    }
    Ok(files.facts(file)?.is_some_and(|facts| may(&facts, READ)))
}

/// Reads what a link of the data directory leads to, or a file that is reached through one.
fn content(
    (own, is_link): (&Path, bool),
    (cluster, server_host): (&Cluster, Option<&ServerHost>),
    files: &dyn ReadFiles,
) -> Result<Vec<u8>, Unbrought> {
    let unread = |error: &HostError| {
        let why = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        Unbrought::Unread(why)
    };
    let place = cluster.pgdata.join(own);
    let there = if place.is_absolute() { files.facts(&place).map_err(|error| unread(&error))? } else { None };
    let Some(there) = there else {
        return Err(Unbrought::Unread("the server's data directory is not on this machine".to_owned()));
    };
    if is_link && matches!(there.kind, FileKind::File | FileKind::Directory) {
        return Err(Unbrought::Unread("the data directory here is not the server's".to_owned()));
    }
    if there.kind == FileKind::Other {
        return Err(Unbrought::NoFile("no file but a socket or the like"));
    }
    let pgdata = files.facts(&files.canonical(&cluster.pgdata).map_err(|error| unread(&error))?);
    let Some(pgdata) = pgdata.map_err(|error| unread(&error))? else {
        return Err(Unbrought::Unread("the server's data directory is not on this machine".to_owned()));
    };
    let of_server = |target: &Path| is_readable_by(&pgdata, target, files).map_err(|error| unread(&error));
    let target = match cluster.is_contained() {
        false => files.canonical(&place).map_err(|error| unread(&error))?,
        // A path in a container is not this machine's.
        true => {
            let link = files.read_link(&place).map_err(|error| unread(&error))?;
            let folder = place.parent().unwrap_or(&place);
            let mapped = if link.is_relative() {
                Some(folder.join(link))
            } else {
                server_host.and_then(|server_host| server_host.outside(&link))
            };
            mapped.ok_or_else(|| Unbrought::Unread("it is in the container only".to_owned()))?
        }
    };
    match files.facts(&target).map_err(|error| unread(&error))?.map(|facts| facts.kind) {
        Some(FileKind::File) if !of_server(&target)? => {
            Err(Unbrought::Unread(format!("the server's own user may not read `{}`", target.display())))
        }
        Some(FileKind::File) => files.read(&target, LIMIT_BYTES).map_err(|error| unread(&error)),
        Some(FileKind::Directory) => Err(Unbrought::NoFile("a link to a folder")),
        Some(FileKind::Other) => Err(Unbrought::NoFile("a link to what is no file")),
        Some(FileKind::Symlink) | None => {
            Err(Unbrought::Unread(format!("it leads to `{}`, where no file is", target.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever is the server's user may link anything into its data directory, and runbook may be root.
    #[test]
    fn what_the_servers_user_may_not_open_is_not_read_for_it() {
        let home = tempfile::tempdir().expect("a folder");
        let (file, shut) = (home.path().join("file"), home.path().join("shut"));
        std::fs::create_dir(&shut).expect("a folder");
        let files = crate::host::local_files();
        for path in [&file, &shut.join("open")] {
            files.replace(path, b"secret", 0o600).expect("written");
        }
        let mode = |path: &Path, mode: u32| {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("a mode");
        };
        let own = files.facts(home.path()).expect("facts").expect("there");
        let other = FileFacts { uid: own.uid + 4711, gid: own.gid + 4711, ..own.clone() };
        let may = |server: &FileFacts, path: &Path| is_readable_by(server, path, files.as_ref()).expect("facts");
        for (folder, path, owner, anybody) in
            [(0o755, 0o600, true, false), (0o755, 0o644, true, true), (0o700, 0o644, true, false)]
        {
            mode(home.path(), folder);
            mode(&file, path);
            assert_eq!((may(&own, &file), may(&other, &file)), (owner, anybody), "{folder:o} {path:o}");
        }
        mode(home.path(), 0o755);
        mode(&file, 0o640);
        assert!(may(&FileFacts { gid: own.gid, ..other.clone() }, &file) && !may(&other, &file), "its group");
        mode(&shut.join("open"), 0o644);
        mode(&shut, 0o700);
        assert!(!may(&other, &shut.join("open")) && may(&own, &shut.join("open")), "a folder on the way");
    }

    #[test]
    fn configuration_behind_a_linked_folder_is_wanted_as_well() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let (left_out, configuration) =
            (paths(&["pg_hba.conf", "conf.d"]), paths(&["postgresql.conf", "pg_hba.conf", "conf.d/own.conf"]));
        let linked = Linked { left_out: &left_out, configuration: &configuration };
        let expected = paths(&["conf.d", "conf.d/own.conf", "pg_hba.conf"]);
        assert_eq!(linked.wanted().into_iter().cloned().collect::<Vec<_>>(), expected);
    }
}
