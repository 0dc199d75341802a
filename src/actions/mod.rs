//! The actions that runbooks can use: this list, one file each.

pub mod postgres;

use crate::action::Registry;

/// Every action the program knows.
#[must_use]
pub fn registry() -> Registry {
    Registry::default()
        .with(postgres::BaseBackup)
        .with(postgres::Check)
        .with(postgres::Query)
        .with(postgres::Recover::default())
        .with(postgres::RestoreBase)
        .with(postgres::Stop)
}
