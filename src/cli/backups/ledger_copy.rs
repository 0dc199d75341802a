//! The copy of the erasure ledger in the store of `audit.ship`: brought in before the one here is read or added to.

use super::super::site::Site;
use super::super::{Exit, Failure, attest, wiring};
use crate::action::{ErasureFork, closed_part, joined, shipped_chains, whole_of};
use crate::journal::erasure::{ErasureError, ErasureLedger};

/// What is done about lines that each of two ledgers has alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// It is refused.
    Refuse,
    /// What only the other has is added to the one here.
    Join,
}

/// Brings what was shipped into the ledger here; gives how many lines came. Without `audit.ship` none does.
///
/// # Errors
/// Fails when both went on by themselves, unless they are joined; when the store gives no answer and nothing is here.
pub fn bring_in(site: &Site, ledger: &ErasureLedger, forked: Forked) -> Result<u64, Failure> {
    let Some(name) = &site.inventory.audit.ship else { return Ok(0) };
    let here = closed_part(&ledger.bytes().map_err(|error| failed(&error))?);
    let store = site.read_store(name)?;
    let chains = match wiring::block_on(async { shipped_chains(&*store).await })? {
        Ok(chains) => chains,
        Err(error) if here.is_empty() => {
            return Err(Failure::new(Exit::Journal, format!("no erasure ledger is here, and that of `{name}` cannot be read"))
                .because(&error)
                .help("a line that is added now would contradict those that were shipped; `runbook audit ship` makes a new place a store"));
        }
        Err(error) => {
            tell!("warning: what was shipped to `{name}` cannot be read: {}", attest::chain(&error));
            return Ok(0);
        }
    };
    let all: Vec<Vec<u8>> = std::iter::once(here.clone()).chain(chains.clone()).collect();
    let next = match (whole_of(&all), forked) {
        (Ok(whole), Forked::Refuse | Forked::Join) if whole.starts_with(&here) => whole,
        (Err(fork), Forked::Refuse) => {
            return Err(Failure::new(Exit::Journal, fork.to_string()).help(ErasureFork::HELP));
        }
        (Ok(_), Forked::Refuse | Forked::Join) | (Err(_), Forked::Join) => joined(&here, &chains)
            .map_err(|error| Failure::new(Exit::Journal, "the ledgers cannot be joined").because(&error))?,
    };
    let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    if next.len() > here.len() {
        // A new machine has no state folder yet.
        wiring::runs()?;
        ledger.go_on(&next).map_err(|error| failed(&error))?;
    }
    Ok(count(&next).saturating_sub(count(&here)))
}

/// Ships the ledger at once, and says it when that cannot be.
pub fn send(site: &Site) -> Result<(), Failure> {
    let Some(name) = &site.inventory.audit.ship else {
        tell!(
            "warning: the ledger is on this machine alone: without `audit.ship` a restore on another one knows nothing of it"
        );
        return Ok(());
    };
    let history = wiring::runs()?;
    match attest::ship(&history, &site.opening(name, site.store_entry(name)?), Vec::new()) {
        Ok(shipped) => shipped.differing.iter().for_each(|what| tell!("warning: {what}")),
        Err(what) => {
            tell!("warning: the line is not in `{name}` yet: {what}");
            tell!("  help: `runbook audit ship` brings it there, and so does the end of the next run");
        }
    }
    Ok(())
}

/// What is wrong with the ledger here.
pub fn failed(error: &ErasureError) -> Failure {
    let (exit, help) = match error {
        ErasureError::File { .. } => (Exit::Journal, wiring::state_help()),
        ErasureError::Broken { .. } => {
            (Exit::Journal, "bring the copy back that was shipped or exported; nothing was added".to_owned())
        }
    };
    Failure::new(exit, error.to_string()).help(help)
}
