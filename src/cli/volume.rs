//! Data directories that the inventory leaves to containers: asked for before a plan is bound, which then holds them.

use super::{Exit, Failure, site, wiring};
use crate::actions::postgres::data_of;
use crate::language::inventory::{Inventory, Via};

/// Fills in what containers tell of their servers' data directories.
///
/// # Errors
/// Fails when docker does not answer, or a container does not tell (exit 4).
pub fn found(mut inventory: Inventory) -> Result<Inventory, Failure> {
    for (name, entry) in &mut inventory.databases {
        let Via::Compose(compose) = &entry.via else { continue };
        if entry.scratch || !entry.pgdata.as_os_str().is_empty() {
            continue;
        }
        let host = site::machine()?;
        entry.pgdata = wiring::block_on(data_of(compose, host.as_ref()))?.map_err(|error| {
            let fact = format!("the data directory of `{name}` is not known: {error}");
            let failure = Failure::new(Exit::Refused, fact);
            match error.info().help.clone() {
                Some(help) => failure.help(help),
                None => failure,
            }
        })?;
    }
    Ok(inventory)
}
