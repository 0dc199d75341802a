//! Random bytes of the operating system.

use ssh_key::rand_core::{OsRng, RngCore};

/// Random bytes for a salt.
pub(super) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng.fill_bytes(&mut bytes);
    bytes
}
