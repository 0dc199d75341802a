//! What lies below a prefix and is not in the catalog yet.

use std::collections::BTreeSet;

use super::super::open_store::of_catalog;
use super::Args;
use crate::actions::backup::foreign::{LeftOut, Survey};
use crate::catalog::{
    Catalog, CatalogError, KIND_FILES, KIND_POSTGRES_BASE, KIND_POSTGRES_DUMP, KIND_POSTGRES_SNAPSHOT, family,
};
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
    let catalog = Catalog::of(&*store).everything().await.map_err(failed)?;
    let places: BTreeSet<String> = catalog.backups.iter().map(|backup| backup.place().folder()).collect();
    let objects = catalog.backups.iter().flat_map(|backup| &backup.manifest.objects);
    let known: BTreeSet<&str> = objects.filter_map(|object| object.key.as_deref()).collect();
    let mut listed = store.list(&format!("{}/", args.prefix)).await.map_err(|error| failed(error.into()))?;
    // What lies in the folder of a backup, or in the archive of a cluster, is a part of it, whatever its name.
    let folders: Vec<String> = listed
        .iter()
        .filter_map(|facts| {
            let key = facts.key.as_str();
            let of_backup = key.strip_suffix("/manifest.json").filter(|folder| is_backup(folder, &places));
            of_backup.or_else(|| key.strip_suffix("/cluster").filter(|it| *it == "wal" || it.ends_with("/wal")))
        })
        .map(|folder| format!("{folder}/"))
        .collect();
    listed.retain(|facts| {
        let key = facts.key.as_str();
        !known.contains(key) && !folders.iter().any(|folder| key.starts_with(folder.as_str()))
    });
    let mut found = Survey::of(&listed);
    let is_left = |key: &str| {
        let folder = key.strip_suffix("manifest.json");
        folder.is_some_and(|folder| folders.iter().any(|left| left == folder))
    };
    found.left_out.extend(catalog.damaged.iter().filter(|damaged| is_left(damaged.key.as_str())).map(|damaged| {
        let why = format!("its folder is that of a backup whose manifest cannot be used: {}", damaged.why);
        LeftOut { key: damaged.key.to_string(), why }
    }));
    Ok(found)
}

/// Whether a folder with a `manifest.json` is a backup of a catalog: one that is known, or one that lies where catalogs put
/// them, with or without a tier. Other programs have files of that name too.
fn is_backup(folder: &str, places: &BTreeSet<String>) -> bool {
    let families = [KIND_POSTGRES_BASE, KIND_POSTGRES_DUMP, KIND_POSTGRES_SNAPSHOT, KIND_FILES].map(family);
    let mut above = folder.rsplit('/').skip(1).take(2);
    places.contains(folder) || above.any(|part| families.iter().any(|family| family == part))
}
