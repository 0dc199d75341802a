//! Gives a written content the object's name: durable before visible, never a clobber by accident.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::claim::Claim;
use super::folder::sync_folder;
use super::known::{self, digest_of};
use crate::store::sidecar::Known;

/// What became of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    /// It is the object now.
    New,
    /// The object had the same content already; it is durable.
    Same,
    /// The object has other content and stays.
    Other,
}

/// Whether an object with other content may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clobber {
    /// It is replaced.
    Replace,
    /// It stays.
    Refuse,
}

/// Publishes what was written to the claim's file as the object at `path`.
pub(super) fn publish(claim: &mut Claim, path: &Path, content: &Known, clobber: Clobber) -> io::Result<Published> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    match (path.try_exists()?, clobber) {
        (true, Clobber::Refuse) => return compare(path, content),
        (true, Clobber::Replace) => return replace(claim, path, content),
        (false, Clobber::Refuse | Clobber::Replace) => {}
    }
    settle(claim, path, content)?;
    match rename_new(claim.temporary(), path) {
        Ok(()) => claim.published(),
        // Somebody wrote the file by hand, without the key's lock.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return compare(path, content),
        Err(error) => return Err(error),
    }
    sync_folder(folder)?;
    Ok(Published::New)
}

/// Makes a content durable and, beside it, what is known of it: a disk writes both in the time of one. Neither is seen
/// before the content has its name, which it gets when both are there.
fn settle(claim: &Claim, path: &Path, content: &Known) -> io::Result<()> {
    std::thread::scope(|scope| {
        let sync = || claim.file().sync_all();
        let beside = std::thread::Builder::new().spawn_scoped(scope, sync);
        known::write(path, vec![content.clone()])?;
        match beside {
            Ok(syncing) => syncing.join().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs panicked"))),
            // Without a thread one comes after the other.
            Err(_) => sync(),
        }
    })
}

/// Renames onto a name that must be free.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        Err(error) => Err(error.into()),
    }
}

/// Compares the object, byte for byte by digest, with the content that was to be stored.
fn compare(path: &Path, content: &Known) -> io::Result<Published> {
    if std::fs::metadata(path)?.len() != content.size_bytes || digest_of(path)? != content.sha256 {
        return Ok(Published::Other);
    }
    std::fs::File::open(path)?.sync_all()?;
    let recorded = known::read(path).ok().flatten();
    if recorded.is_none_or(|recorded| recorded.sha256 != content.sha256) {
        known::write(path, vec![content.clone()])?;
    }
    sync_folder(path.parent().unwrap_or(Path::new("/")))?;
    Ok(Published::Same)
}

fn replace(claim: &mut Claim, path: &Path, content: &Known) -> io::Result<Published> {
    claim.file().sync_all()?;
    let mut both = vec![content.clone()];
    both.extend(known::read(path)?.filter(|old| old.sha256 != content.sha256));
    if both.len() > 1 {
        known::write(path, both)?;
    }
    std::fs::rename(claim.temporary(), path)?;
    claim.published();
    sync_folder(path.parent().unwrap_or(Path::new("/")))?;
    known::write(path, vec![content.clone()])?;
    Ok(Published::New)
}
