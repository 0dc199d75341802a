//! Whether a restore could forget whom it must: the erasure ledger, as `postgres.erase` reads it.

use serde::Serialize;

use super::site::Site;
use super::{attest, wiring};
use crate::action::ActionError;
use crate::actions::postgres::table::erase::ledger;
use crate::catalog::health::Level;
use crate::event::ErrorClass;
use crate::journal::erasure::ErasureLedger;

/// Why a restore of a database would be refused: nobody can tell whom it must forget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unforgotten {
    /// How bad that is: unknown where a store gives no answer.
    pub level: Level,
    /// What is so.
    pub why: String,
    /// What to do about it.
    pub help: String,
}

impl Unforgotten {
    /// One line for people.
    pub fn told(&self) -> String {
        let Self { why, help, .. } = self;
        let fact = format!("restores are refused, since they could forget nobody: {why}");
        if help.is_empty() { fact } else { format!("{fact}: {help}") }
    }
}

/// Reads the erasure ledger as a restore of a database does; `None` where it holds, and where the entry has no `erasure`.
pub fn fault(name: &str, site: &Site) -> Option<Unforgotten> {
    site.inventory.databases.get(name)?.erasure.as_ref()?;
    let unknown = |why: String| Unforgotten { level: Level::Unknown, why, help: String::new() };
    let store = match site.inventory.audit.ship.as_ref().map(|store| site.read_store(store)).transpose() {
        Ok(store) => store,
        Err(failure) => {
            return Some(Unforgotten { help: failure.help.unwrap_or_default(), ..unknown(failure.message) });
        }
    };
    let erasures = match wiring::state_root() {
        Ok(root) => ErasureLedger::below(&root),
        Err(failure) => return Some(unknown(failure.message)),
    };
    let shipped = store.as_deref();
    match wiring::block_on(async { ledger::read(&erasures, shipped).await }) {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(told(&error)),
        Err(failure) => Some(unknown(failure.message)),
    }
}

fn told(error: &ActionError) -> Unforgotten {
    let info = error.info();
    let level = match info.class {
        ErrorClass::Retryable | ErrorClass::Cancelled | ErrorClass::Timeout | ErrorClass::Unknown => Level::Unknown,
        ErrorClass::Fatal => Level::Critical,
    };
    Unforgotten { level, why: attest::chain(error), help: info.help.clone().unwrap_or_default() }
}
