//! What proves a run to others once it has ended: the signed head, and a copy in another place.
//!
//! None of it changes how the run ended: what fails is said, and can be made up for later.

use std::path::{Path, PathBuf};

use super::invoke;
use super::screen::Face;
use super::{Exit, Failure, wiring};
use crate::event::Event;
use crate::journal::ship::{Shipped, Shipper};
use crate::journal::{AllowedSigners, Head, RunDir, Runs, SignKey, SignatureError};
use crate::language::inventory::{AuditSettings, StoreEntry};
use crate::plan::BoundPlan;
use crate::store::Opening;

/// Names the private key that signs: the environment's, else the inventory's.
pub fn key_path(settings: &AuditSettings) -> Option<PathBuf> {
    let own = wiring::environment_variable("RUNBOOK_SIGN_KEY").filter(|path| !path.is_empty());
    own.map(PathBuf::from).or_else(|| settings.sign_key.clone())
}

/// Signs and ships a run that has ended with this event, where that is configured.
pub fn prove(runs: &Runs, dir: &RunDir, plan: &BoundPlan, last: &Event) {
    if let Some(path) = key_path(&plan.inventory.audit) {
        let signed = SignKey::open(&path).map_err(|error| (error.help(), chain(&error)));
        let signed = signed.and_then(|key| {
            let help = wiring::state_help();
            Head::sign(dir, last, &runs.ledger(), &key).map_err(|error| (help, chain(&error)))
        });
        if let Err((help, what)) = signed {
            tell!("warning: the run is not signed: {what}");
            tell!("  help: {help}; then `runbook resume {}` signs it", dir.id());
        }
    }
    let Some(name) = &plan.inventory.audit.ship else { return };
    let shipped = match plan.inventory.stores.get(name) {
        Some(entry) => invoke::vault(&plan.inventory, Face::Json)
            .map_err(|failure| failure.message)
            .and_then(|vault| ship(runs, &Opening::new(entry, name, vault), vec![dir.id().clone()])),
        None => Err(format!("there is no store `{name}` in this environment")),
    };
    match shipped {
        Ok(shipped) => shipped.differing.iter().for_each(|what| tell!("warning: {what}")),
        Err(what) => {
            tell!("warning: the run is not copied to `{name}`: {what}");
            tell!("  help: `runbook audit ship` copies it, into a place that is no store yet too");
        }
    }
}

/// Ships runs and the ledger into a store; gives what went wrong as one text.
pub fn ship(runs: &Runs, place: &Opening<'_>, ids: Vec<crate::base::RunId>) -> Result<Shipped, String> {
    let store = place.open().map_err(|error| chain(&error))?;
    let shipping = async { Shipper::new(runs, &*store).ship(&ids).await };
    wiring::block_on(shipping).map_err(|failure| failure.message)?.map_err(|error| chain(&error))
}

/// What a store of a run's environment is opened with.
pub fn opening<'a>(plan: &BoundPlan, name: &'a str, entry: &'a StoreEntry) -> Result<Opening<'a>, String> {
    let vault = invoke::vault(&plan.inventory, Face::Json).map_err(|failure| failure.message)?;
    Ok(Opening::new(entry, name, vault))
}

/// Reads the allowed signers that the command line names.
pub fn signers(path: Option<&Path>) -> Result<Option<AllowedSigners>, Failure> {
    path.map(AllowedSigners::open).transpose().map_err(|error| key_failure(&error))
}

/// Turns an error of a key or of allowed signers into an exit.
pub fn key_failure(error: &SignatureError) -> Failure {
    Failure::new(Exit::Usage, chain(error)).help(error.help())
}

/// An error in one line, with what caused it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let told = cause.to_string();
        if !text.ends_with(&told) {
            text = format!("{text}: {told}");
        }
        next = cause.source();
    }
    text
}
