//! The actions that runbooks can use: this list, one file each.

pub mod backup;
pub mod checksum;
pub mod postgres;
pub mod store;

use crate::action::Registry;

/// Every action the program knows.
#[must_use]
pub fn registry() -> Registry {
    Registry::default()
        .with(backup::Find)
        .with(checksum::Verify)
        .with(checksum::Write)
        .with(postgres::Check)
        .with(postgres::Query)
        .with(postgres::Stop)
        .with(store::Delete)
        .with(store::Get)
        .with(store::List)
        .with(store::Put)
}
