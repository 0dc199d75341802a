//! The list of host kinds.

use std::sync::Arc;

use super::{AttemptBinding, HostSettings, LocalHost};
use crate::action::{Host, ReadHost};

/// No host of this name can be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no host `{0}` is known; only `local` is")]
pub struct UnknownHost(String);

enum Kind {
    Local,
}

/// An entry without a host means the engine's own.
fn kind(name: &str) -> Result<Kind, UnknownHost> {
    match name {
        "" | "local" => Ok(Kind::Local),
        other => Err(UnknownHost(other.to_owned())),
    }
}

/// Opens a host for reading.
///
/// # Errors
/// Fails when no host has this name.
pub fn reader(name: &str, settings: &HostSettings) -> Result<Arc<dyn ReadHost>, UnknownHost> {
    match kind(name)? {
        Kind::Local => Ok(LocalHost::reader(settings)),
    }
}

/// Opens a host for one attempt.
///
/// # Errors
/// Fails when no host has this name.
pub fn bind(name: &str, settings: &HostSettings, attempt: AttemptBinding) -> Result<Arc<dyn Host>, UnknownHost> {
    match kind(name)? {
        Kind::Local => Ok(LocalHost::bind(settings, attempt)),
    }
}
