//! What was attested of a backup since it was made: holds, restore proofs, verifications.
//!
//! ```text
//! <folder>/hold.json                      kept, whatever retention says
//! <folder>/proofs/<time>-<run>.json       restored and checked, with the signature beside it as `.json.sig`
//! <folder>/verified/<time>-<level>.json   its bytes were read and compared
//! ```
//!
//! The manifest itself never changes. Start with [`Attested`], which a listing fills.

mod hold;
mod proof;
mod read;
mod sighting;
mod verified;
mod vouched;

pub use hold::{HoldNote, Lifted, Unheld, hold, unhold};
pub use proof::{Proof, SignedProof, proofs, prove};
pub use read::{Attested, attested};
pub use sighting::Sighting;
pub use verified::{Level, Verdict, Verification, verified};
pub use vouched::Vouched;

pub(super) use proof::NOTE_LIMIT;
pub(super) use read::Beside;

use crate::base::Timestamp;

/// A point in time as a part of a name that sorts: `20260128T143002Z`.
fn stamp(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}
