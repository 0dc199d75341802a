//! The folders in which a cluster's data lies: what a restore moves, replaces or removes as a whole.
//!
//! Nothing that must outlive the data may lie in one of them, by whatever path: a store above all.

use std::path::{Path, PathBuf};

use crate::action::{FileKind, ReadFiles};

/// What links of a data directory lead out of it: its WAL, and every tablespace.
const WAL: &str = "pg_wal";
const TABLESPACES: &str = "pg_tblspc";

/// What a folder is, whatever it is called: device and inode.
type Identity = (u64, u64);

/// The data directory of a cluster, and what its links lead to.
#[derive(Debug, Clone, Default)]
pub(crate) struct DataFolders {
    folders: Vec<Folder>,
}

#[derive(Debug, Clone)]
struct Folder {
    /// As it is called.
    named: PathBuf,
    /// Where that leads.
    real: PathBuf,
    identity: Option<Identity>,
}

impl DataFolders {
    /// Looks at a data directory. What of it cannot be looked at has no links.
    pub(crate) fn of(pgdata: &Path, files: &dyn ReadFiles) -> Self {
        let listed = files.list(&pgdata.join(TABLESPACES)).unwrap_or_default();
        let tablespaces = listed.into_iter().map(|entry| pgdata.join(TABLESPACES).join(entry.name));
        let is_link = |path: &PathBuf| matches!(files.facts(path), Ok(Some(facts)) if facts.kind == FileKind::Symlink);
        let links: Vec<PathBuf> = std::iter::once(pgdata.join(WAL)).chain(tablespaces).filter(is_link).collect();
        let targets = links.iter().filter_map(|link| files.canonical(link).ok());
        targets.fold(Self::default().and(pgdata, files), |all, target| all.and(&target, files))
    }

    /// The same with another place of the data: of a tablespace that is to be restored there.
    pub(crate) fn and(mut self, place: &Path, files: &dyn ReadFiles) -> Self {
        // Every path begins with an empty one.
        if !place.as_os_str().is_empty() {
            let real = files.canonical(place).unwrap_or_else(|_| place.to_owned());
            let identity = identity(files, &real);
            self.folders.push(Folder { named: place.to_owned(), real, identity });
        }
        self
    }

    /// The folder of the data that a path, made or not, lies in or is.
    pub(crate) fn around(&self, path: &Path, files: &dyn ReadFiles) -> Option<&Path> {
        let real = files.canonical(path).unwrap_or_else(|_| path.to_owned());
        // A bind mount gives a folder a second name, which no path tells.
        let above: Vec<Identity> = real.ancestors().filter_map(|one| identity(files, one)).collect();
        let lies_in = |folder: &&Folder| {
            path.starts_with(&folder.named)
                || real.starts_with(&folder.real)
                || folder.identity.is_some_and(|identity| above.contains(&identity))
        };
        self.folders.iter().find(lies_in).map(|folder| folder.named.as_path())
    }
}

/// Follows a link.
fn identity(files: &dyn ReadFiles, path: &Path) -> Option<Identity> {
    let facts = files.facts(&path.join(".")).ok().flatten()?;
    Some((facts.device, facts.inode))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::local_files;

    #[test]
    fn a_path_lies_in_the_data_by_its_name_by_a_link_and_in_a_tablespace_made_or_not() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().canonicalize().unwrap();
        let (pgdata, space, wal) = (root.join("pg"), root.join("space"), root.join("wal"));
        for folder in [&pgdata.join(TABLESPACES), &space, &wal, &root.join("srv")] {
            fs::create_dir_all(folder).unwrap();
        }
        symlink(&space, pgdata.join("pg_tblspc/7")).unwrap();
        symlink(&wal, pgdata.join(WAL)).unwrap();
        symlink(&pgdata, root.join("link")).unwrap();
        symlink(root.join("srv"), pgdata.join("out")).unwrap();
        let files = local_files();
        let data = DataFolders::of(&pgdata, files.as_ref());
        let around = |path: &Path| data.around(path, files.as_ref()).map(Path::to_owned);
        for path in ["pg", "pg/backups", "link/backups", "link/a/b/c", "pg/out/backups"] {
            assert_eq!(around(&root.join(path)), Some(pgdata.clone()), "{path}");
        }
        assert_eq!(around(&root.join("space/backups")), Some(space.clone()));
        assert_eq!(around(&root.join("wal/backups")), Some(wal.clone()));
        for path in ["pg.backups", "srv/backups", "backups", ""] {
            assert_eq!(around(&root.join(path)), None, "{path}");
        }
        let more = data.clone().and(&root.join("srv"), files.as_ref());
        assert!(more.around(&root.join("srv/backups"), files.as_ref()).is_some());
        assert!(DataFolders::of(Path::new(""), files.as_ref()).around(&root, files.as_ref()).is_none());
    }
}
