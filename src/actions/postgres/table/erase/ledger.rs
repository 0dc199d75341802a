//! The whole erasure ledger: what the state folder has, and what was shipped.
//!
//! A restore often runs on another machine than the one that kept the ledger, so neither place is believed alone: one
//! must hold all of the other. A ledger that is nowhere is no empty one, since then nothing would be forgotten, in silence:
//! only a store that has other records of runs says that nobody had to be.

use crate::action::{
    ActionError, ErasureContent, ErasureFork, Erasures, ReadStore, closed_part, shipped_chains, whole_of,
};

/// Where the store of `audit.ship` has everything that is shipped.
const RECORDS: &str = "runbook-audit/";

/// Reads the ledger of the state folder and, where runs are shipped, what the store has of it.
///
/// # Errors
/// Retryable when the store gives no answer; fatal when there is no ledger, when the two differ, or when a line does
/// not hold.
pub(crate) async fn read(
    erasures: &dyn Erasures,
    shipped: Option<&dyn ReadStore>,
) -> Result<ErasureContent, ActionError> {
    let mut all = vec![closed_part(&erasures.bytes()?)];
    if let Some(store) = shipped {
        all.extend(shipped_chains(store).await?);
    }
    let whole = whole_of(&all).map_err(|fork| {
        ActionError::fatal(fork.to_string()).help(format!("{}; nothing was erased", ErasureFork::HELP))
    })?;
    if whole.is_empty() && !is_used(shipped).await? {
        let (fact, help) = match shipped {
            Some(store) => (
                format!("there is no erasure ledger, neither in the state folder nor in store `{}`", store.name()),
                "have `runbook audit ship` fill the store: one with runs and no line says so",
            ),
            None => (
                "there is no erasure ledger in the state folder, and no store to ask".to_owned(),
                "write `audit: { ship: STORE }` into the inventory and have `runbook audit ship` fill that store: one with \
                 runs and no line says so",
            ),
        };
        return Err(ActionError::fatal(fact).help(format!(
            "if somebody had to be forgotten, put the exported ledger into the state folder as `erasure.jsonl`; if nobody had to, {help}"
        )));
    }
    let content = ErasureContent::scan(&whole);
    match content.problems.first() {
        None => Ok(content),
        Some((line, what)) => {
            Err(ActionError::fatal(format!("line {line} of the erasure ledger does not hold: {what}"))
                .help("bring back the copy that was shipped or exported; nothing was erased"))
        }
    }
}

/// Tells whether a store has records of runs: then a line of the ledger would be there, too.
async fn is_used(shipped: Option<&dyn ReadStore>) -> Result<bool, ActionError> {
    let Some(store) = shipped else { return Ok(false) };
    let listed = store.list(RECORDS).await;
    let listed =
        listed.map_err(|error| ActionError::retryable("the store of `audit.ship` cannot be read").because(&error))?;
    Ok(!listed.is_empty())
}
