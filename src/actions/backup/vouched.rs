//! The store as the inventory trusts it: proofs that none of its signers has signed do not count.

use crate::action::{ActionError, ReadStore};
use crate::catalog::attest::Vouched;
use crate::language::inventory::Inventory;

/// Shows a store with the proofs that count.
///
/// # Errors
/// Fails when a signer of the inventory makes no sense.
pub(in crate::actions) fn vouched<'a>(
    store: &'a dyn ReadStore,
    inventory: &Inventory,
) -> Result<Vouched<'a>, ActionError> {
    Vouched::of(store, &inventory.audit.proof_signers)
        .map_err(|error| ActionError::fatal("`audit.proof_signers` of the inventory makes no sense").because(&error))
}
