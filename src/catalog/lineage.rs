//! What an increment rests on.

use super::{Backup, Catalog, CatalogError};
use crate::action::ReadStore;

/// Gives a backup with everything it rests on: the full one first, itself last.
///
/// # Errors
/// Fails when a link is not there or lacks objects, when they lead in a circle, and when the store gives no answer. What
/// was attested of a link is not read.
pub async fn lineage(store: &dyn ReadStore, backup: &Backup) -> Result<Vec<Backup>, CatalogError> {
    let mut links = vec![backup.clone()];
    if backup.manifest.parent.is_none() {
        return Ok(links);
    }
    let torn = |what: String| CatalogError::Torn { id: backup.manifest.id.clone(), what };
    let list = Catalog::of(store).manifests(&backup.prefix, &backup.manifest.kind).await?;
    let mut next = backup.manifest.parent.clone();
    while let Some(parent) = next {
        if links.iter().any(|link| link.manifest.id == parent) {
            return Err(torn(format!("what it rests on leads in a circle over `{parent}`")));
        }
        let mut same = list.backups.iter().filter(|one| one.manifest.source == backup.manifest.source);
        let Some(link) = same.find(|one| one.manifest.id == parent) else {
            return Err(torn(format!("it rests on `{parent}`, which is not there")));
        };
        let missing = link.missing_objects(store).await?;
        if !missing.is_empty() {
            return Err(torn(format!("it rests on `{parent}`, which lacks {}", missing.join(", "))));
        }
        next = link.manifest.parent.clone();
        links.push(link.clone());
    }
    links.reverse();
    Ok(links)
}
