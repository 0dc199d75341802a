//! The actions that runbooks can use: this list, one file each.

mod assert;
mod exec;
mod http;
mod notify;
mod patience;
mod process;
mod service;
mod shell;
mod wait;
pub mod postgres;

use crate::action::Registry;

/// Every action the program knows.
#[must_use]
pub fn registry() -> Registry {
    Registry::default()
        .with(assert::Assert)
        .with(exec::Exec)
        .with(http::Check)
        .with(notify::Command)
        .with(service::Start)
        .with(service::Status)
        .with(service::Stop)
        .with(shell::Shell)
        .with(wait::Wait)
        .with(postgres::Check)
        .with(postgres::Query)
        .with(postgres::Stop)
}
