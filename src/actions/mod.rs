//! The actions: this list, one file each.

use crate::action::Registry;

/// Every action the program knows.
#[must_use]
pub fn registry() -> Registry {
    Registry::default()
}
