//! What the inventory's retention promises, in numbers of days.

use crate::language::inventory::Inventory;

/// How long backups are kept at most while new ones are made, and how many whatever their age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Promise {
    /// `None`: without an end.
    pub(super) longest_days: Option<u32>,
    /// At least so many, whatever their age.
    pub(super) floor: u32,
}

/// What is promised of the backups of an inventory: nothing is said of retention, so everything is kept for ever.
pub(super) fn of(_: &Inventory) -> Promise {
    Promise { longest_days: None, floor: 1 }
}
