//! What stays of a data directory that a restore takes apart where there is no room for two: `pg_wal`, `pg_control`, the
//! links of its tablespaces and the files of its top folder, among them its configuration.
//!
//! `PG_VERSION` goes first, and a note says what happened: no server starts from what is left, whenever the restore was
//! cut off, and any later recovery still finds the WAL that was never archived.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::marker;
use super::shape::Shape;
use super::swap::VERSION;
use crate::action::{ActionError, DirEntry, FileKind, Files, HostError, ReadFiles};
use crate::actions::postgres::cluster::enclosed;
use crate::actions::postgres::cluster::ha_manager::Fact;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::placement::is_foreign;
use crate::base::RunId;
use crate::pgformat::ControlFile;
use crate::store;

/// The note in a data directory that was taken apart.
const NOTE: &str = "runbook-unusable.txt";

/// A data directory that is taken apart.
#[derive(Debug, Clone)]
pub(crate) struct DismantledDirectory {
    pgdata: PathBuf,
    run: RunId,
    /// Tablespaces: their link and the folder it leads to.
    tablespaces: Vec<(PathBuf, PathBuf)>,
}

/// A folder or file that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    /// Where it is.
    path: PathBuf,
    /// Its path in the data directory.
    own: PathBuf,
}

/// Whether a data directory was taken apart.
pub(crate) fn is_one(files: &dyn ReadFiles, pgdata: &Path) -> bool {
    matches!(files.facts(&pgdata.join(NOTE)), Ok(Some(_)))
}

/// Whether it was this run that took it apart.
pub(crate) fn is_of(files: &dyn ReadFiles, pgdata: &Path, run: &RunId) -> bool {
    let note = files.read(&pgdata.join(NOTE), 4096).unwrap_or_default();
    String::from_utf8_lossy(&note).starts_with(&begins(run))
}

/// How the note begins.
fn begins(run: &RunId) -> String {
    format!("Run {run} takes this data directory apart")
}

/// The bytes of files and folders on each device. No link is followed.
pub(crate) fn bytes_below(open: Vec<PathBuf>, files: &dyn ReadFiles) -> Vec<(u64, u64)> {
    bytes_while(open, files, || true).0
}

/// The same as long as `goes_on` says so, and whether that was to the end.
pub(crate) fn bytes_while(
    mut open: Vec<PathBuf>,
    files: &dyn ReadFiles,
    goes_on: impl Fn() -> bool,
) -> (Vec<(u64, u64)>, bool) {
    let mut found: Vec<(u64, u64)> = Vec::new();
    while let Some(path) = open.pop() {
        if !goes_on() {
            return (found, false);
        }
        // What is removed while we look is no gain.
        let Ok(Some(facts)) = files.facts(&path) else { continue };
        if facts.kind == FileKind::Directory {
            let names = files.list(&path).unwrap_or_default().into_iter().map(|entry| path.join(entry.name));
            open.extend(names);
            continue;
        }
        match found.iter_mut().find(|(device, _)| *device == facts.device) {
            Some((_, bytes)) => *bytes += facts.size_bytes,
            None => found.push((facts.device, facts.size_bytes)),
        }
    }
    (found, true)
}

impl DismantledDirectory {
    /// Looks at the data directory of a cluster.
    ///
    /// # Errors
    /// Fails when it cannot be looked at.
    pub(crate) fn of(cluster: &Cluster, files: &dyn ReadFiles, run: &RunId) -> Result<Self, ActionError> {
        let links = marker::links(files, &cluster.pgdata, run).map_err(|error| unseen(&error))?;
        let tablespaces = links.into_iter().filter(|(link, _)| link.starts_with("pg_tblspc")).collect();
        Ok(Self { pgdata: cluster.pgdata.clone(), run: run.clone(), tablespaces })
    }

    /// Whether nothing of it can go.
    ///
    /// # Errors
    /// Fails when it cannot be looked at.
    pub(crate) fn is_empty(&self, files: &dyn ReadFiles) -> Result<bool, ActionError> {
        Ok(self.parts(files).map_err(|error| unseen(&error))?.is_empty())
    }

    /// The bytes that are gained on each device when it is taken apart.
    ///
    /// # Errors
    /// Fails when it cannot be looked at.
    pub(crate) fn gain(&self, files: &dyn ReadFiles) -> Result<Vec<(u64, u64)>, ActionError> {
        let parts = self.parts(files).map_err(|error| unseen(&error))?;
        let in_another = |part: &Part| parts.iter().any(|one| one != part && part.path.starts_with(&one.path));
        let apart = parts.iter().filter(|part| !in_another(part)).map(|part| part.path.clone());
        Ok(bytes_below(apart.collect(), files))
    }

    /// Says which store lies in what would go, whosever it is, and the way out: its backups would go too.
    ///
    /// # Errors
    /// Fails when it cannot be looked at.
    pub(crate) fn store_within(&self, files: &dyn ReadFiles) -> Result<Option<Fact>, ActionError> {
        let parts = self.parts(files).map_err(|error| unseen(&error))?;
        let folders = parts.into_iter().map(|part| part.path).collect();
        let found = marked(folders, files).map_err(|error| unseen(&error))?;
        Ok(found.map(|folder| Fact {
            what: format!(
                "`{}` is a store (`{}`) and lies in the data that would be given up: it would go too, with all it holds",
                folder.display(),
                store::MARKER
            ),
            help: format!(
                "{}, name that as the store's `url`, and restore then; where it is only a copy that a backup brought, and the \
                 store lies elsewhere, remove that folder. Nothing was touched",
                enclosed::way_out(&folder)
            ),
        }))
    }

    /// Removes everything that can go. Blocking.
    ///
    /// # Errors
    /// Fails when something cannot be removed; the same call goes on from there.
    pub(crate) fn empty(&self, files: &dyn Files) -> Result<(), HostError> {
        self.mark(files)?;
        for part in self.parts(files)? {
            remove(files, &part.path)?;
        }
        files.sync(&self.pgdata)
    }

    /// Moves everything that can go to where the backup is restored. Blocking.
    ///
    /// # Errors
    /// Fails when something cannot be moved; the same call goes on from there.
    pub(crate) fn empty_into(&self, shape: &Shape, files: &dyn Files) -> Result<(), HostError> {
        self.mark(files)?;
        let owner = files.facts(&self.pgdata)?.map(|facts| (facts.uid, facts.gid));
        for part in self.parts(files)? {
            let Some(to) = shape.place_of(&part.own) else { continue };
            if let Some(parent) = to.parent().filter(|parent| !matches!(files.facts(parent), Ok(Some(_)))) {
                files.create_dir(parent, 0o700)?;
                if let Some((uid, gid)) = owner {
                    files.chown(parent, uid, gid)?;
                }
            }
            if files.facts(&to)?.is_none() {
                match files.rename(&part.path, &to) {
                    // It is restored to another disk, which nothing moves to: there it is written anew.
                    Err(HostError::File { source, .. }) if source.kind() == ErrorKind::CrossesDevices => {
                        remove(files, &part.path)?;
                    }
                    moved => moved?,
                }
            }
        }
        files.sync(&self.pgdata)
    }

    /// What happened, in words.
    pub(crate) fn words(&self) -> String {
        let place = self.pgdata.display();
        format!("the old data in `{place}` is given up; its WAL, `pg_control` and configuration stay there")
    }

    /// Makes it a folder in which no server starts.
    fn mark(&self, files: &dyn Files) -> Result<(), HostError> {
        let text = format!(
            "{} to restore a backup over it. No server can start here any more.\n\
             What is left, `pg_wal` above all, may hold transactions that no backup has: keep it, and go on with\n\
             `runbook resume {}`, or restore a backup again.\n",
            begins(&self.run),
            self.run
        );
        let note = self.pgdata.join(NOTE);
        files.replace(&note, text.as_bytes(), 0o600)?;
        if let Some(facts) = files.facts(&self.pgdata)? {
            files.chown(&note, facts.uid, facts.gid)?;
        }
        let version = self.pgdata.join(VERSION);
        if files.facts(&version)?.is_some() {
            files.remove_file(&version)?;
        }
        files.sync(&self.pgdata)
    }

    fn parts(&self, files: &dyn ReadFiles) -> Result<Vec<Part>, HostError> {
        let mut parts = Vec::new();
        if files.facts(&self.pgdata)?.is_some_and(|facts| facts.kind == FileKind::Directory) {
            for entry in files.list(&self.pgdata)?.into_iter().filter(goes) {
                parts.extend(self.below(Path::new(&entry.name), files)?);
            }
        }
        for (link, folder) in &self.tablespaces {
            if files.facts(folder)?.is_none() {
                continue;
            }
            let entries = files.list(folder)?;
            // A location may serve clusters of several versions, each in a folder of its own.
            let own = entries.into_iter().filter(|entry| entry.name.to_string_lossy().starts_with("PG_"));
            parts.extend(own.map(|entry| Part { path: folder.join(&entry.name), own: link.join(&entry.name) }));
        }
        // One that lies in the data directory leaves it before its folder goes.
        parts.sort_by_key(|part| !part.own.starts_with("pg_tblspc"));
        Ok(parts)
    }

    /// A folder of the top; of the one with `pg_control` everything but that.
    fn below(&self, own: &Path, files: &dyn ReadFiles) -> Result<Vec<Part>, HostError> {
        let control = Path::new(ControlFile::PATH);
        let part = |own: PathBuf| Part { path: self.pgdata.join(&own), own };
        if control.parent() != Some(own) {
            return Ok(vec![part(own.to_owned())]);
        }
        let names = files.list(&self.pgdata.join(own))?.into_iter().map(|entry| own.join(entry.name));
        Ok(names.filter(|name| name != control).map(part).collect())
    }
}

fn remove(files: &dyn Files, path: &Path) -> Result<(), HostError> {
    match files.facts(path)?.map(|facts| facts.kind) {
        Some(FileKind::Directory) => files.remove_tree(path),
        Some(FileKind::File | FileKind::Symlink | FileKind::Other) => files.remove_file(path),
        None => Ok(()),
    }
}

/// Folders go, but for the WAL and the links of tablespaces; files of the top folder are few and stay.
fn goes(entry: &DirEntry) -> bool {
    let stays = [OsStr::new("pg_wal"), OsStr::new("pg_tblspc")];
    entry.facts.kind == FileKind::Directory && !is_foreign(&entry.name) && !stays.contains(&entry.name.as_os_str())
}

/// The first folder that is marked as a store. No link is followed.
fn marked(mut open: Vec<PathBuf>, files: &dyn ReadFiles) -> Result<Option<PathBuf>, HostError> {
    while let Some(path) = open.pop() {
        if files.facts(&path)?.is_none_or(|facts| facts.kind != FileKind::Directory) {
            continue;
        }
        let listed = files.list(&path);
        // A live server removes folders while we look.
        if listed.is_err() && files.facts(&path)?.is_none() {
            continue;
        }
        for entry in listed? {
            if entry.name == store::MARKER {
                return Ok(Some(path));
            }
            if entry.facts.kind == FileKind::Directory {
                open.push(path.join(entry.name));
            }
        }
    }
    Ok(None)
}

fn unseen(error: &HostError) -> ActionError {
    ActionError::retryable("the old data cannot be looked at").because(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::allow_attributes, reason = "tests")]
    use std::fs;

    use super::super::marker::Link;
    use super::*;
    use crate::action::DatabaseRef;
    use crate::host::local_files;
    use crate::language::inventory::{Database, Inventory};

    #[test]
    fn what_is_left_has_its_wal_and_its_control_file_but_starts_no_server() {
        let home = tempfile::tempdir().unwrap();
        let (pgdata, space) = (home.path().join("main"), home.path().join("space"));
        for folder in ["base/1", "global", "pg_wal", "pg_tblspc", "pg_xact"] {
            fs::create_dir_all(pgdata.join(folder)).unwrap();
        }
        for folder in ["PG_15_1", "PG_14_1", "other"] {
            fs::create_dir_all(space.join(folder)).unwrap();
        }
        std::os::unix::fs::symlink(&space, pgdata.join("pg_tblspc/7")).unwrap();
        for file in ["PG_VERSION", "base/1/2", "global/pg_control", "global/1", "pg_wal/000", "postgresql.conf"] {
            fs::write(pgdata.join(file), "x").unwrap();
        }
        let entry = Database { pgdata: pgdata.clone(), ..Database::default() };
        let inventory = Inventory { databases: [("main".to_owned(), entry)].into(), ..Inventory::default() };
        let cluster = Cluster::of(&DatabaseRef("main".into()), &inventory, home.path()).unwrap();
        let files = local_files();
        let dismantled =
            DismantledDirectory::of(&cluster, files.as_ref(), &"20260128-143002-3fa9c1".parse().unwrap()).unwrap();
        assert_eq!(dismantled.gain(files.as_ref()).unwrap().iter().map(|(_, bytes)| bytes).sum::<u64>(), 2);
        let store = |path: &Path| {
            fs::create_dir_all(path).unwrap();
            fs::write(path.join(store::MARKER), "").unwrap();
            let found = dismantled.store_within(files.as_ref()).unwrap().map(|fact| fact.what);
            fs::remove_dir_all(path).unwrap();
            found
        };
        let inside = pgdata.join("backups/nightly");
        assert!(store(&inside).unwrap().contains(&format!("`{}` is a store", inside.display())));
        assert_eq!(store(&space.join("other/backups")), None, "what stays is nobody's concern");
        assert_eq!(dismantled.store_within(files.as_ref()).unwrap(), None);
        fs::remove_dir(pgdata.join("backups")).unwrap();
        fs::create_dir_all(space.join("other")).unwrap();
        dismantled.empty(files.as_ref()).unwrap();
        let is_of = |run: &str| is_of(files.as_ref(), &pgdata, &run.parse().unwrap());
        assert!(is_of("20260128-143002-3fa9c1") && !is_of("20260128-143002-3fa9c2"));
        assert!(is_one(files.as_ref(), &pgdata) && dismantled.is_empty(files.as_ref()).unwrap());
        let there = |path: &str| pgdata.join(path).exists();
        assert!(there("pg_wal/000") && there("global/pg_control") && there("postgresql.conf"));
        assert!(pgdata.join("pg_tblspc/7").is_symlink() && space.join("other").exists());
        assert!(!there("PG_VERSION") && !there("base") && !there("pg_xact") && !there("global/1"));
        dismantled.empty(files.as_ref()).unwrap();
    }

    #[test]
    fn tablespaces_move_with_what_lies_around_them_but_before_it_and_count_once() {
        let home = tempfile::tempdir().unwrap();
        let (pgdata, staged) = (home.path().join("main"), home.path().join("staged"));
        let (inner, space) = (pgdata.join("inner"), home.path().join("space"));
        for folder in [&inner.join("PG_15_1"), &pgdata.join("pg_tblspc"), &staged, &space] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(inner.join("PG_15_1/1"), "x").unwrap();
        std::os::unix::fs::symlink(&inner, pgdata.join("pg_tblspc/7")).unwrap();
        let run: RunId = "20260128-143002-3fa9c1".parse().unwrap();
        let tablespaces = vec![("pg_tblspc/7".into(), inner)];
        let dismantled = DismantledDirectory { pgdata: pgdata.clone(), run, tablespaces };
        let files = local_files();
        assert_eq!(dismantled.gain(files.as_ref()).unwrap().iter().map(|(_, bytes)| bytes).sum::<u64>(), 1);
        let link =
            Link { link: "pg_tblspc/7".into(), live: home.path().join("live"), staged: space.clone(), named: None };
        let shape = Shape { dir: staged.clone(), links: vec![link] };
        dismantled.empty_into(&shape, files.as_ref()).unwrap();
        assert!(space.join("PG_15_1/1").exists() && staged.join("inner").exists() && !pgdata.join("inner").exists());
    }
}
