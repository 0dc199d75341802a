//! A store that is a folder of the server's machine: it must be there, and be the server's user's to write into.

use std::path::{Path, PathBuf};

use crate::action::by_hand::command_line;
use crate::action::{CommandSpec, Files, HostError, ReadFiles, ReadHost};
use crate::actions::postgres::cluster::owner::Owner;
use crate::language::inventory::{StoreEntry, StoreLocation};

/// Who may enter it: the server's user alone.
const MODE: u32 = 0o700;

/// The folders among stores.
pub(super) fn among<'a>(stores: impl IntoIterator<Item = &'a StoreEntry>) -> Vec<PathBuf> {
    let folder = |entry: &StoreEntry| match entry.url.parse::<StoreLocation>().ok()? {
        StoreLocation::Folder(folder) => Some(folder),
        StoreLocation::S3(_) | StoreLocation::Google(_) | StoreLocation::Azure(_) | StoreLocation::Sftp(_) => None,
    };
    stores.into_iter().filter_map(folder).collect()
}

/// Makes the folders that are missing, for the server's user alone. Only the last part of a path is made: where more is
/// missing, a disk may not be mounted.
///
/// # Errors
/// Fails when one cannot be made.
pub(super) fn make(folders: &[PathBuf], owner: &Owner, files: &dyn Files) -> Result<(), HostError> {
    for folder in folders {
        if files.facts(folder)?.is_some() || !has_place(folder, files) {
            continue;
        }
        files.create_dir(folder, MODE)?;
        files.chown(folder, owner.uid, owner.gid)?;
    }
    Ok(())
}

fn has_place(folder: &Path, files: &dyn ReadFiles) -> bool {
    folder.parent().is_some_and(|parent| matches!(files.facts(parent), Ok(Some(_))))
}

/// Says which folder the server's user could not archive into, with the command that mends it.
pub(super) async fn unusable(folders: &[PathBuf], owner: &Owner, host: &dyn ReadHost) -> Option<(String, String)> {
    let files = host.read_files();
    for folder in folders {
        let shown = folder.display();
        let who = owner.become_user.clone().unwrap_or_else(|| owner.uid.to_string());
        let gid = owner.gid.to_string();
        let made = command_line(["install", "-d", "-o", &who, "-g", &gid, "-m", "0700", &folder.to_string_lossy()]);
        let there = matches!(files.facts(folder), Ok(Some(_)));
        let fact = match there {
            true if may_write(folder, owner, host).await => continue,
            true => format!("the server's user {} may not write into `{shown}`", owner.shown()),
            false if has_place(folder, files.as_ref()) && may_make(folder, owner, host).await => continue,
            false => format!("the store's folder `{shown}` is not there, nor made here"),
        };
        return Some((fact, format!("where its disk is mounted, make it for that user: `{made}`")));
    }
    None
}

/// Root makes it for the server's user; anybody else only where that user may.
async fn may_make(folder: &Path, owner: &Owner, host: &dyn ReadHost) -> bool {
    match folder.parent() {
        Some(parent) if host.effective_uid() != 0 => may_write(parent, owner, host).await,
        Some(_) => true,
        None => false,
    }
}

/// A host that cannot try it says nothing against it.
async fn may_write(folder: &Path, owner: &Owner, host: &dyn ReadHost) -> bool {
    let path = folder.to_string_lossy().into_owned();
    let spec: CommandSpec = owner.command("test").args(["-w".to_owned(), path.clone(), "-a".into(), "-x".into(), path]);
    host.probe(spec).await.map_or(true, |output| output.exit_code != Some(1))
}
