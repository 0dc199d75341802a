//! What stands behind a path on this machine, for the guard of drills.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use crate::plan::guard::Identity;

/// Links followed before a path is taken for a circle, as the kernel counts.
const MOST_LINKS: usize = 40;

/// Resolves paths on this machine.
pub struct ThisMachine;

impl Identity for ThisMachine {
    /// Follows every link, also one whose target does not exist yet; `..` and relative paths are resolved too,
    /// so that no way of writing a path hides where it leads.
    fn canonical(&self, path: &Path) -> PathBuf {
        let mut ahead: Vec<OsString> = Vec::new();
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        push_ahead(&mut ahead, &absolute);
        let mut real = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            if part == ".." {
                real.pop();
                continue;
            }
            let next = real.join(&part);
            match std::fs::read_link(&next) {
                Ok(target) if links < MOST_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        real = PathBuf::from("/");
                    }
                    push_ahead(&mut ahead, &target);
                }
                Ok(_) | Err(_) => real = next,
            }
        }
        real
    }

    fn device_inode(&self, path: &Path) -> Option<(u64, u64)> {
        std::fs::metadata(path).ok().map(|facts| (facts.dev(), facts.ino()))
    }
}

/// Puts the parts of a path on top of what is still to be walked, the first one uppermost.
fn push_ahead(ahead: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    ahead.extend(parts);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::symlink;

    use super::{Identity as _, ThisMachine};

    #[test]
    fn links_and_dots_are_followed_also_where_nothing_exists_yet() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("data/pg")).unwrap();
        symlink(root.join("data/pg"), root.join("whole")).unwrap();
        symlink("data/pg/not-yet", root.join("dangling")).unwrap();
        for (written, meant) in [
            ("whole/base", "data/pg/base"),
            ("dangling", "data/pg/not-yet"),
            ("dangling/x", "data/pg/not-yet/x"),
            ("nowhere/../data/pg", "data/pg"),
            ("whole/../pg/x", "data/pg/x"),
            ("plain", "plain"),
        ] {
            assert_eq!(ThisMachine.canonical(&root.join(written)), root.join(meant), "{written}");
        }
    }

    #[test]
    fn a_circle_of_links_ends() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert!(ThisMachine.canonical(&folder.path().join("a/x")).ends_with("x"));
    }
}
