//! Data directories that the inventory leaves to containers: asked for before a plan is bound, which then holds them.

use super::{Exit, Failure, site, wiring};
use crate::action::ActionError;
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
        entry.pgdata = wiring::block_on(data_of(compose, host.as_ref()))?.map_err(|error| untold(name, &error))?;
    }
    Ok(inventory)
}

/// The same for commands that only look: what no container tells stays unsaid.
#[must_use]
pub fn sought(inventory: Inventory) -> Inventory {
    found(inventory.clone()).unwrap_or(inventory)
}

fn untold(name: &str, error: &ActionError) -> Failure {
    let info = error.info();
    let mut failure = Failure::new(Exit::Refused, format!("the data directory of `{name}` is not known"));
    failure.causes = std::iter::once(&info.message).chain(&info.causes).chain(&info.output_tail).cloned().collect();
    let own = "start docker, or write `pgdata` into the database's entry".to_owned();
    failure.help(info.help.clone().unwrap_or(own))
}
