//! Programs and machines that tests cannot do without.

use std::path::PathBuf;

/// Fails with the line that installs it when a program is missing; gives its place.
#[track_caller]
pub fn need(program: &str, setup: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|place| place.is_file());
    found.unwrap_or_else(|| panic!("`{program}` is missing: run `.ci/setup {setup}`"))
}

/// Whether a test is left out because whoever runs it said so by name. Fails where this machine cannot run it and nobody
/// said so: a test that passes without a look proves nothing.
#[track_caller]
pub fn left_out(switch: &str, lack: Option<&str>) -> bool {
    let is_off = std::env::var_os(switch).is_some();
    assert!(is_off || lack.is_none(), "{}; set {switch}=1 to leave this test out", lack.unwrap_or_default());
    is_off
}

/// What a test lacks that must be another user than the owner of what it looks at.
pub fn no_root() -> Option<&'static str> {
    (!rustix::process::geteuid().is_root()).then_some("only root can run a server as another user")
}
