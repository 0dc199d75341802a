//! Programs that tests cannot do without.

/// Fails with the line that installs it when a program is missing.
#[track_caller]
pub fn need(program: &str, setup: &str) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    assert!(there, "`{program}` is missing: run `.ci/setup {setup}`");
}
