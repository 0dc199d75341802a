//! What lies below a prefix and is not in the catalog yet.

use std::collections::BTreeSet;

use super::super::shelf::of_catalog;
use super::Args;
use crate::actions::backup::foreign::Survey;
use crate::catalog::{Catalog, CatalogError};
use crate::cli::site::Site;
use crate::cli::{Exit, Failure};

/// What was found.
pub(super) type Found = Survey;

/// Sorts what lies below the prefix, without what backups of the catalog consist of, wherever their manifests lie.
pub(super) async fn find(args: &Args, site: &Site) -> Result<Found, Failure> {
    let store = site.read_store(&args.store)?;
    let failed = |error: CatalogError| {
        Failure::new(Exit::Failed, format!("store `{}` gives no answer: {}", args.store, of_catalog(&error)))
    };
    let known = Catalog::of(&*store).everything().await.map_err(failed)?;
    let objects = known.backups.iter().flat_map(|backup| &backup.manifest.objects);
    let known: BTreeSet<&str> = objects.filter_map(|object| object.key.as_deref()).collect();
    let mut listed = store.list(&format!("{}/", args.prefix)).await.map_err(|error| failed(error.into()))?;
    // What lies in the folder of a backup, or in the archive of a cluster, is a part of it, whatever its name.
    let folders: Vec<String> = listed
        .iter()
        .filter_map(|facts| {
            let key = facts.key.as_str();
            key.strip_suffix("manifest.json").or_else(|| key.strip_suffix("cluster").filter(|it| it.ends_with("wal/")))
        })
        .map(str::to_owned)
        .collect();
    listed.retain(|facts| {
        let key = facts.key.as_str();
        !known.contains(key) && !folders.iter().any(|folder| key.starts_with(folder.as_str()))
    });
    Ok(Survey::of(&listed))
}
