//! Whether the folders of a cluster can be moved, each for itself.
//!
//! A restore takes each of them aside as a whole and puts another one in its place. A folder that lies in another one went
//! along with that, and was neither moved nor put back; so went a file system that is mounted below one: the server would
//! go on in a plain folder, until the next boot mounts the old files over it.

use std::path::{Path, PathBuf};

use super::ha_manager::Fact;
use super::layout::Cluster;
use super::placement::is_foreign;
use crate::action::ReadFiles;
use crate::base::mounts;
use crate::catalog::Tablespace;

/// What a folder of a cluster is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is the data directory.
    Data,
    /// It is what a `pg_wal` that is a link leads to.
    Wal,
    /// It is the place of the tablespace of this name.
    Tablespace(String),
    /// It is what this link in the data directory leads to: a tablespace whose name nobody knows.
    Link(PathBuf),
}

impl Use {
    /// What a link of the data directory leads to.
    pub(crate) fn of_link(link: &Path) -> Self {
        if link == Path::new("pg_wal") { Self::Wal } else { Self::Link(link.to_owned()) }
    }

    fn words(&self) -> String {
        match self {
            Self::Data => "the data directory".to_owned(),
            Self::Wal => "the folder that `pg_wal` is a link to".to_owned(),
            Self::Tablespace(name) => format!("tablespace `{name}`"),
            Self::Link(link) => format!("the tablespace of `{}`", link.display()),
        }
    }
}

/// A folder of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    /// What it is for.
    pub(crate) used: Use,
    /// Where it lies.
    pub(crate) live: PathBuf,
}

impl Folder {
    /// The data directory with the tablespaces of a backup or of a server, where the inventory wants them.
    pub(crate) fn all(cluster: &Cluster, pgdata: &Path, tablespaces: &[Tablespace]) -> Vec<Self> {
        let data = Self { used: Use::Data, live: pgdata.to_owned() };
        let place = |one: &Tablespace| {
            let mapped = cluster.entry.tablespaces.get(&one.name).cloned();
            mapped.unwrap_or_else(|| PathBuf::from(&one.location))
        };
        let spaces = tablespaces.iter().map(|one| Self { used: Use::Tablespace(one.name.clone()), live: place(one) });
        // One within the data directory without a link has no place of its own.
        std::iter::once(data).chain(spaces.filter(|one| one.live.is_absolute())).collect()
    }

    /// Where it lies without any link on the way.
    pub(crate) fn real(&self, files: &dyn ReadFiles) -> PathBuf {
        real(&self.live, files)
    }
}

/// A path without any link on the way.
pub(crate) fn real(path: &Path, files: &dyn ReadFiles) -> PathBuf {
    files.canonical(path).unwrap_or_else(|_| path.to_owned())
}

/// Says why one of the folders cannot be moved by itself, and the way out.
pub(crate) fn obstacle(folders: &[Folder], files: &dyn ReadFiles) -> Option<Fact> {
    nested(folders, files).or_else(|| mounted(folders, files))
}

/// Says which of the folders lies in another one.
pub(crate) fn nested(folders: &[Folder], files: &dyn ReadFiles) -> Option<Fact> {
    let places: Vec<(PathBuf, &Folder)> = folders.iter().map(|one| (one.real(files), one)).collect();
    let inside = |at: usize, (place, _): &(PathBuf, &Folder)| {
        let mut others = places.iter().enumerate().filter(|(other, _)| *other != at);
        others.find(|(_, (outer, _))| place.starts_with(outer)).map(|(_, (_, outer))| *outer)
    };
    let (inner, outer) = places.iter().enumerate().find_map(|(at, one)| Some((one.1, inside(at, one)?)))?;
    let what = format!(
        "{}, `{}`, lies in {}, `{}`: a restore moves each of them as a whole, and cannot move one that goes along with another",
        inner.used.words(),
        inner.live.display(),
        outer.used.words(),
        outer.live.display()
    );
    let named = [inner, outer].into_iter().find_map(|one| match &one.used {
        Use::Tablespace(name) => Some(name),
        Use::Data | Use::Wal | Use::Link(_) => None,
    });
    let help = match (named, &inner.used) {
        (Some(name), _) => format!(
            "give the tablespace a place outside of it, in the database's entry of the inventory: `tablespaces: {{ {name}: /PATH }}`: \
             there it is restored; what lies at its old place stays as it is, with the old data"
        ),
        (None, Use::Wal) => "stop the server, move that folder out of there, and make `pg_wal` a link to its new place".to_owned(),
        (None, Use::Data | Use::Tablespace(_) | Use::Link(_)) => {
            "restore a backup that has this tablespace, and give it another place: `tablespaces: { NAME: /PATH }` in the database's \
             entry of the inventory"
                .to_owned()
        }
    };
    Some(Fact { what, help })
}

/// Says which file system is mounted below one of the folders.
pub(crate) fn mounted(folders: &[Folder], files: &dyn ReadFiles) -> Option<Fact> {
    let list = files.read(Path::new(mounts::LIST), 16 << 20).ok()?;
    mounted_by(&list, folders, files)
}

fn mounted_by(list: &[u8], folders: &[Folder], files: &dyn ReadFiles) -> Option<Fact> {
    let places: Vec<PathBuf> = mounts::places(list).collect();
    let below = |folder: &Folder| {
        let real = folder.real(files);
        let is_below = |place: &&PathBuf| {
            let first = place.strip_prefix(&real).ok().and_then(|own| own.iter().next());
            // What another mount hides is listed too.
            first.is_some_and(|first| !is_foreign(first)) && matches!(files.facts(place), Ok(Some(_)))
        };
        places.iter().find(is_below).map(|place| (folder.clone(), real.clone(), place.clone()))
    };
    let (folder, real, place) = folders.iter().find_map(below)?;
    let what = format!(
        "a file system is mounted at `{}`, in {}, `{}`: a restore would take it along with the old data and leave a plain folder there",
        place.display(),
        folder.used.words(),
        folder.live.display()
    );
    let (at, over) = (place.display(), folder.live.display());
    let help = match place.strip_prefix(&real) == Ok(Path::new("pg_wal")) {
        true => format!(
            "stop the server, unmount it and mount it outside of the data directory, for good (`/etc/fstab`); then \
             `rmdir {at}` and `ln -s /ITS/NEW/PLACE {at}`: a linked `pg_wal` is restored to where it leads"
        ),
        false => format!(
            "stop the server and unmount it (`umount {at}`): the restore puts its files onto the disk of `{over}`; mount again \
             afterwards only what holds no data, as the server's log"
        ),
    };
    Some(Fact { what, help })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::allow_attributes, reason = "tests")]
    use std::fs;

    use super::*;
    use crate::host::local_files;

    fn folder(used: Use, live: &Path) -> Folder {
        Folder { used, live: live.to_owned() }
    }

    #[test]
    fn a_folder_in_another_one_is_found_whatever_leads_there_and_what_can_be_mapped_is_named() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::create_dir_all(at("data/inner")).unwrap();
        fs::create_dir_all(at("data-2")).unwrap();
        std::os::unix::fs::symlink(at("data"), at("other")).unwrap();
        let files = local_files();
        let said = |folders: &[Folder]| nested(folders, files.as_ref());
        let data = folder(Use::Data, &at("data"));
        let space = |place: &str| folder(Use::Tablespace("space".into()), &at(place));
        assert_eq!(said(&[data.clone(), space("data-2")]), None);
        // Also where it is not there yet.
        for place in ["data/inner", "other/inner", "other/none/deep", "data"] {
            let fact = said(&[data.clone(), space(place)]).unwrap();
            assert!(fact.help.contains("`tablespaces: { space: /PATH }`"), "{place}: {fact:?}");
        }
        let fact = said(&[folder(Use::Data, &at("data/inner")), space("data")]).unwrap();
        assert!(fact.what.starts_with("the data directory") && fact.help.contains("{ space: "), "{fact:?}");
        let fact = said(&[data.clone(), folder(Use::Wal, &at("data/inner"))]).unwrap();
        assert!(fact.help.contains("make `pg_wal` a link"), "{fact:?}");
        assert!(said(&[folder(Use::of_link(Path::new("pg_tblspc/7")), &at("")), data]).is_some());
    }

    #[test]
    fn what_is_mounted_below_a_folder_is_found_and_neither_itself_nor_what_we_keep_there() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let (data, kept) = (home.join("data"), home.join("data/pgsql_tmp.runbook-old-1/log"));
        fs::create_dir_all(data.join("pg_wal")).unwrap();
        fs::create_dir_all(data.join("log")).unwrap();
        fs::create_dir_all(&kept).unwrap();
        let files = local_files();
        let said = |places: &[&Path]| {
            let line = |place: &&Path| format!("22 1 8:1 / {} rw - ext4 /dev/a rw\n", place.display());
            let list: String = places.iter().map(line).collect();
            mounted_by(list.as_bytes(), &[folder(Use::Data, &data)], files.as_ref())
        };
        assert_eq!(said(&[Path::new("/"), &home, &data, &kept, &data.join("gone")]), None);
        assert!(said(&[&data.join("pg_wal")]).unwrap().help.contains("ln -s"));
        let fact = said(&[&data, &data.join("log")]).unwrap();
        assert!(fact.what.contains("data/log`") && fact.help.contains("umount"), "{fact:?}");
    }
}
