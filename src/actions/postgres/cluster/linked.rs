//! A data directory that is a link: its server is at home there, a restore is not.
//!
//! The swap renames what bears the name of the data directory. That would be the link alone: the restored data would lie on the
//! link's own disk for good, and what the link leads to would be kept under no name that tells it.

use std::path::{Path, PathBuf};

use super::ha_manager::Fact;
use super::layout::Cluster;
use crate::action::{FileKind, ReadFiles};

impl Cluster {
    /// Says that its data directory is a link, and what the inventory is to name. What a container holds is the folder itself.
    pub(crate) fn linked(&self, files: &dyn ReadFiles) -> Option<Fact> {
        if self.is_scratch() || self.is_contained() {
            return None;
        }
        let target = target(&self.pgdata, files)?;
        let is_there = matches!(files.facts(&target), Ok(Some(_)));
        let (link, target) = (self.pgdata.display(), target.display());
        let lacks = if is_there { "" } else { ", which is not there: mount its disk first" };
        Some(Fact {
            what: format!(
                "`pgdata` of `{}`, `{link}`, is a link to `{target}`{lacks}: a restore would replace the link by a folder on the \
                 link's own disk",
                self.name
            ),
            help: format!(
                "name the folder itself in the inventory: `pgdata: {target}`; the link stays, and whoever starts the server by it \
                 goes on so"
            ),
        })
    }
}

/// The folder itself that bears a name: where the name is a link, what it leads to, to its end. A restore moves that one,
/// on its own disk, and leaves the link alone.
pub(crate) fn followed(path: &Path, files: &dyn ReadFiles) -> PathBuf {
    let mut place = path.to_owned();
    // One that leads nowhere is followed link by link.
    for _ in 0..MOST_LINKS {
        match target(&place, files) {
            Some(next) if next != place => place = next,
            Some(_) | None => break,
        }
    }
    place
}

/// As many links as Linux follows.
const MOST_LINKS: u8 = 40;

/// Where a link leads, to its end; `None` where `path` is none.
fn target(path: &Path, files: &dyn ReadFiles) -> Option<PathBuf> {
    let facts = files.facts(path).ok().flatten()?;
    if facts.kind != FileKind::Symlink {
        return None;
    }
    if let Ok(place) = files.canonical(path) {
        return Some(place);
    }
    // It leads nowhere now.
    let target = path.parent()?.join(files.read_link(path).ok()?);
    let above = target.parent().and_then(|above| files.canonical(above).ok());
    Some(above.zip(target.file_name()).map_or_else(|| target.clone(), |(above, name)| above.join(name)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::allow_attributes, reason = "tests")]
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::action::DatabaseRef;
    use crate::host::local_files;
    use crate::language::inventory::{Database, Inventory};

    fn said_of(pgdata: &Path) -> Option<Fact> {
        let entry = Database { pgdata: pgdata.to_owned(), ..Database::default() };
        let inventory = Inventory { databases: [("orders".to_owned(), entry)].into(), ..Inventory::default() };
        let cluster = Cluster::of(&DatabaseRef("orders".into()), &inventory, Path::new("/run")).unwrap();
        cluster.linked(local_files().as_ref())
    }

    #[test]
    fn a_linked_data_directory_is_told_with_the_folder_that_the_inventory_is_to_name() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let (disk, place, link) = (home.join("disk"), home.join("disk/main"), home.join("link"));
        fs::create_dir_all(&place).unwrap();
        symlink("disk/main", &link).unwrap();
        let wanted = format!("`pgdata: {}`", place.display());
        assert!(said_of(&link).unwrap().help.contains(&wanted));
        assert!(said_of(&place).is_none() && said_of(&home.join("none")).is_none());
        // A link to a link.
        symlink(&link, home.join("far")).unwrap();
        assert!(said_of(&home.join("far")).unwrap().help.contains(&wanted));
        fs::remove_dir(&place).unwrap();
        let dangling = said_of(&link).unwrap();
        assert!(dangling.help.contains(&wanted) && dangling.what.contains("mount its disk first"), "{dangling:?}");
        fs::remove_dir(&disk).unwrap();
        assert!(said_of(&link).unwrap().help.contains(&wanted), "its disk is not there");
    }

    #[test]
    fn what_links_lead_to_is_the_movable_folder_also_where_it_is_not_there() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let (place, files) = (home.join("disk/space"), local_files());
        fs::create_dir_all(&place).unwrap();
        symlink("disk/space", home.join("near")).unwrap();
        symlink(home.join("near"), home.join("far")).unwrap();
        symlink(home.join("circle"), home.join("circle")).unwrap();
        for _ in 0..2 {
            for name in ["near", "far", "disk/space"] {
                assert_eq!(followed(&home.join(name), files.as_ref()), place, "{name}");
            }
            let _already_gone = fs::remove_dir(&place);
        }
        assert_eq!(followed(&home.join("circle"), files.as_ref()), home.join("circle"));
    }
}
