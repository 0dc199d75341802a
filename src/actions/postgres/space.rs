//! Whether a restore fits: the data and each tablespace count on the file system they will lie on.

use std::path::PathBuf;

use super::layout::Cluster;
use super::room::Room;
use crate::action::ReadFiles;
use crate::catalog::{Backup, Manifest};

/// What a restore needs on one file system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Need {
    device: u64,
    path: PathBuf,
    bytes: u64,
}

/// What lies side by side while a backup is restored: itself; with increments each of them, and what becomes of them, for
/// which the full one stands.
pub(crate) fn parts(links: &[Backup]) -> Vec<&Manifest> {
    let all = links.iter().map(|link| &link.manifest);
    let whole = links.first().filter(|_| links.len() > 1).map(|link| &link.manifest);
    all.chain(whole).collect()
}

/// Says what does not fit of `manifests`, which are restored side by side, when `gain` comes free on each device before.
pub(crate) fn short(
    files: &dyn ReadFiles,
    cluster: &Cluster,
    manifests: &[&Manifest],
    gain: &[(u64, u64)],
) -> Option<String> {
    let mut needs: Vec<Need> = Vec::new();
    for (manifest, object) in manifests.iter().flat_map(|one| one.objects.iter().map(move |object| (one, object))) {
        let tablespace =
            object.tablespace.and_then(|oid| manifest.postgres.as_ref()?.tablespaces.iter().find(|one| one.oid == oid));
        let place = tablespace.map_or_else(|| cluster.pgdata.clone(), |one| cluster.tablespace(one));
        let above = match Room::of(files, &place) {
            Room::Beside => 1,
            Room::Inside => 0,
        };
        let existing =
            place.ancestors().skip(above).find_map(|path| Some((path.to_owned(), files.facts(path).ok()??.device)));
        let Some((path, device)) = existing else { continue };
        let bytes = object.plain_facts().size_bytes;
        match needs.iter_mut().find(|need| need.device == device) {
            Some(need) => need.bytes += bytes,
            None => needs.push(Need { device, path, bytes }),
        }
    }
    needs.into_iter().find_map(|need| {
        let gained: u64 = gain.iter().filter(|(device, _)| *device == need.device).map(|(_, bytes)| bytes).sum();
        let free = files.space(&need.path).ok()?.free_bytes.saturating_add(gained);
        let with = if gained > 0 { " with the old data gone" } else { "" };
        let fact = format!("`{}` has {free} bytes free{with}, the backup needs {}", need.path.display(), need.bytes);
        (free < need.bytes).then_some(fact)
    })
}
