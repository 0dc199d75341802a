//! Where an object of a store lies, for a person.

use crate::language::inventory::Inventory;

/// The path of an object of a store on a file system, else its URL.
pub(in crate::actions) fn location(inventory: &Inventory, store: &str, key: &str) -> String {
    let url = inventory.stores.get(store).map_or_else(|| format!("‹store {store}›"), |entry| entry.url.clone());
    let root = url.strip_prefix("file://").unwrap_or(&url).trim_end_matches('/').to_owned();
    format!("{root}/{key}")
}

/// Whether the objects of a store are files here.
pub(super) fn is_files(inventory: &Inventory, store: &str) -> bool {
    inventory.stores.get(store).is_some_and(|entry| entry.url.starts_with("file://"))
}

/// The folder of a place.
pub(super) fn folder(place: &str) -> &str {
    place.rsplit_once('/').map_or(place, |(folder, _)| folder)
}
