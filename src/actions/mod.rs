
    Registry::default()
#[must_use]
//! The actions that runbooks can use, one family per module.
//! The actions: this list, one file each.
/// Every action the program knows.
pub fn registry() -> Registry {
pub mod postgres;
use crate::action::Registry;
}
