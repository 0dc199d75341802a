//! Data directories that the inventory leaves to containers: asked for before a plan is bound, which then holds them.

use super::{Exit, Failure, site, wiring};
use crate::action::{ActionError, Target};
use crate::actions::postgres::cluster::container::data_of;
use crate::language::inventory::{Inventory, Via};
use crate::plan::BoundPlan;

/// Fills in what containers tell of their servers' data directories. One that does not tell it keeps nobody from working
/// with the others; what needs it refuses by itself.
///
/// # Errors
/// Fails when this machine cannot be looked at.
pub fn found(inventory: Inventory) -> Result<Inventory, Failure> {
    let (inventory, untold) = asked(inventory)?;
    for (name, error) in &untold {
        let failure = self::untold(name, error);
        let causes = failure.causes.iter().map(|cause| format!(": {cause}")).collect::<String>();
        tell!("warning: {}{causes}", failure.message);
        failure.help.iter().for_each(|help| tell!("  help: {help}"));
    }
    Ok(inventory)
}

/// The same for commands that only look: what no container tells stays unsaid.
#[must_use]
pub fn sought(inventory: Inventory) -> Inventory {
    asked(inventory.clone()).map_or(inventory, |(found, _)| found)
}

fn asked(mut inventory: Inventory) -> Result<(Inventory, Vec<(String, ActionError)>), Failure> {
    let mut untold = Vec::new();
    for (name, entry) in &mut inventory.databases {
        let Via::Compose(compose) = &entry.via else { continue };
        if entry.scratch || !entry.pgdata.as_os_str().is_empty() {
            continue;
        }
        let host = site::machine()?;
        match wiring::block_on(data_of(compose, host.as_ref()))? {
            Ok(data) => entry.pgdata = data,
            Err(error) => untold.push((name.clone(), error)),
        }
    }
    Ok((inventory, untold))
}

/// Refuses a plan that works on a server whose data directory no container told.
///
/// # Errors
/// Fails with the first such database (exit 4).
pub fn demand(plan: &BoundPlan) -> Result<(), Failure> {
    let targets = plan.steps.iter().flat_map(|step| &step.effects.targets);
    for (_, target) in targets {
        let Target::Database { name } = target else { continue };
        let Some(entry) = plan.inventory.databases.get(name) else { continue };
        let is_told = entry.scratch || !entry.pgdata.as_os_str().is_empty();
        if let (Via::Compose(compose), false) = (&entry.via, is_told) {
            let host = site::machine()?;
            let asked = wiring::block_on(data_of(compose, host.as_ref()))?;
            let error = asked
                .err()
                .unwrap_or_else(|| ActionError::retryable("its container answers only now").help("try again"));
            return Err(untold(name, &error));
        }
    }
    Ok(())
}

fn untold(name: &str, error: &ActionError) -> Failure {
    let info = error.info();
    let mut failure = Failure::new(Exit::Refused, format!("the data directory of `{name}` is not known"));
    failure.causes = std::iter::once(&info.message).chain(&info.causes).chain(&info.output_tail).cloned().collect();
    let own = "start docker, or write `pgdata` into the database's entry".to_owned();
    failure.help(info.help.clone().unwrap_or(own))
}
