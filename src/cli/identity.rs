//! What stands behind a path on this machine, for the guard of drills.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::{IpAddr, ToSocketAddrs as _, UdpSocket};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use crate::language::inventory::is_loopback;
use crate::pgformat::ControlFile;
use crate::plan::guard::Identity;

/// Links followed before a path is taken for a circle, as the kernel counts.
const MOST_LINKS: usize = 40;

/// Resolves paths and network addresses on this machine. An address is looked up once.
#[derive(Debug, Default)]
pub struct ThisMachine {
    hosts: RefCell<BTreeMap<String, BTreeSet<String>>>,
}

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

    fn block_device(&self, path: &Path) -> Option<u64> {
        std::fs::metadata(path).ok().filter(|facts| facts.file_type().is_block_device()).map(|facts| facts.rdev())
    }

    /// As the kernel tells it below `/sys/dev/block`.
    fn made_of(&self, device: u64) -> BTreeSet<u64> {
        let (mut found, mut ahead) = (BTreeSet::new(), vec![device]);
        while let Some(next) = ahead.pop() {
            if found.insert(next) {
                ahead.extend(next_below(next));
            }
        }
        found
    }

    fn hosts(&self, address: &str) -> BTreeSet<String> {
        self.hosts.borrow_mut().entry(address.to_owned()).or_insert_with(|| looked_up(address)).clone()
    }

    fn system_id(&self, pgdata: &Path) -> Option<u64> {
        let bytes = std::fs::read(pgdata.join("global/pg_control")).ok()?;
        ControlFile::parse(&bytes).ok().map(|control| control.system_id.0)
    }
}

/// The address itself, and the numbers behind it where the resolver knows any.
fn looked_up(address: &str) -> BTreeSet<String> {
    let bare = address.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    let numbers: Vec<IpAddr> =
        (bare.as_str(), 0).to_socket_addrs().map(|found| found.map(|one| one.ip()).collect()).unwrap_or_default();
    // An address that a socket can be bound to is one of this machine's own.
    let own = is_loopback(&bare) || numbers.iter().any(|number| UdpSocket::bind((*number, 0)).is_ok());
    let names = numbers.iter().map(ToString::to_string).chain([bare]);
    names.chain(own.then(|| "local".to_owned())).collect()
}

/// The disk of a partition, and the devices that a mapped one maps.
fn next_below(device: u64) -> Vec<u64> {
    let entry = format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let Ok(entry) = Path::new(&entry).canonicalize() else { return Vec::new() };
    let disk = entry.join("partition").exists().then(|| entry.parent().map(Path::to_owned)).flatten();
    let slaves = std::fs::read_dir(entry.join("slaves")).into_iter().flatten().flatten().map(|slave| slave.path());
    disk.into_iter().chain(slaves).filter_map(|folder| number(&folder.join("dev"))).collect()
}

/// A device number as `8:1`.
fn number(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
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
            assert_eq!(ThisMachine::default().canonical(&root.join(written)), root.join(meant), "{written}");
        }
    }

    #[test]
    fn an_address_leads_to_its_numbers_and_to_this_machine() {
        let machine = ThisMachine::default();
        assert!(machine.hosts("LocalHost").contains("local"));
        assert!(machine.hosts("127.0.0.1").contains("local"));
        let nowhere = machine.hosts("db.invalid");
        assert_eq!(nowhere.into_iter().collect::<Vec<_>>(), ["db.invalid"]);
        assert!(!machine.hosts("192.0.2.1").contains("local"), "a number that is nobody's");
    }

    #[test]
    fn a_circle_of_links_ends() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert!(ThisMachine::default().canonical(&folder.path().join("a/x")).ends_with("x"));
    }
}
