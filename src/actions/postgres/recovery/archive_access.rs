//! Whether the server's user may read an archive that is a folder: found out before anything is restored.

use std::path::{Path, PathBuf};

use crate::action::{ActionError, CheckContext, CommandSpec, ReadHost};
use crate::actions::postgres::cluster::ha_manager::Fact;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::owner::Owner;
use crate::language::inventory::StoreLocation;

/// Says which folder of the archive the server's user is kept out of, and what to do. A container sees its own mounts, which
/// are tried there; a folder that is not there yet is told by others.
///
/// # Errors
/// Fails when the server's user does not exist or cannot be become, and when the database has no store.
pub(crate) async fn refused(cluster: &Cluster, cx: &CheckContext) -> Result<Option<Fact>, ActionError> {
    if cluster.is_contained() {
        return Ok(None);
    }
    let owner = Owner::of(cluster, cx.host.as_ref())?;
    let Some(user) = &owner.become_user else { return Ok(None) };
    let (own, prefix) = cluster.archive()?;
    let files = cx.host.read_files();
    for name in std::iter::once(own).chain(cluster.further()) {
        let Some(entry) = cx.about.inventory.stores.get(name) else { continue };
        let Ok(StoreLocation::Folder(root)) = entry.url.parse::<StoreLocation>() else { continue };
        let there = |folder: &PathBuf| matches!(files.facts(folder), Ok(Some(_)));
        let Some(folder) = [root.join(prefix).join("wal"), root].into_iter().find(there) else { continue };
        if may_read(&folder, &owner, cx.host.as_ref()).await {
            continue;
        }
        return Ok(Some(Fact {
            what: format!(
                "the server's user `{user}` may not read `{}` of store `{name}`, so the server could fetch no WAL",
                folder.display()
            ),
            help: format!(
                "let `{user}` read it; or where another user runs the database's server, say so with `os_user` in its entry \
                 (default: who owns `pgdata`)"
            ),
        }));
    }
    Ok(None)
}

/// A host that cannot try it says nothing against it.
async fn may_read(folder: &Path, owner: &Owner, host: &dyn ReadHost) -> bool {
    let path = folder.to_string_lossy().into_owned();
    let spec: CommandSpec = owner.command("test").args(["-r".to_owned(), path.clone(), "-a".into(), "-x".into(), path]);
    host.probe(spec).await.map_or(true, |output| output.exit_code != Some(1))
}
