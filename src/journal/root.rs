//! Which folder holds the history of all runs. Pure: the caller reads the environment.

use std::path::{Path, PathBuf};

/// The machine-wide state root: root and postgres share one history and its locks.
pub const SYSTEM_ROOT: &str = "/var/lib/runbook";

/// What the choice depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFacts {
    /// `$RUNBOOK_STATE`.
    pub explicit: Option<PathBuf>,
    /// Whether [`SYSTEM_ROOT`] can be used.
    pub system: SystemRoot,
    /// `$XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `$HOME`.
    pub home: Option<PathBuf>,
}

/// Whether the machine-wide state root can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemRoot {
    /// It is writable, or missing and creatable because we are root.
    Usable,
    /// It is neither.
    Unusable,
}

/// There is no folder for the history of runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// `$RUNBOOK_STATE` depends on the current folder.
    #[error("`$RUNBOOK_STATE` is `{}`, which is not an absolute path", .0.display())]
    Relative(PathBuf),
    /// Nothing names a place.
    #[error(
        "no folder for the history of runs: `{SYSTEM_ROOT}` is not writable, and neither `$XDG_STATE_HOME` nor `$HOME` is set"
    )]
    Nowhere,
}

/// Chooses the state root: `$RUNBOOK_STATE`, else [`SYSTEM_ROOT`] when usable, else the XDG state folder.
///
/// An empty variable counts as unset; a relative `$XDG_STATE_HOME` is ignored, as its specification says.
///
/// # Errors
/// Fails when the explicit choice is relative, or nothing names a place.
pub fn choose_root(facts: &RootFacts) -> Result<PathBuf, RootError> {
    if let Some(explicit) = facts.explicit.as_ref().filter(|path| !path.as_os_str().is_empty()) {
        return if explicit.is_absolute() { Ok(explicit.clone()) } else { Err(RootError::Relative(explicit.clone())) };
    }
    if facts.system == SystemRoot::Usable {
        return Ok(PathBuf::from(SYSTEM_ROOT));
    }
    let absolute = |path: &Option<PathBuf>| path.clone().filter(|path| path.is_absolute());
    let base = absolute(&facts.xdg_state_home).or_else(|| absolute(&facts.home).map(|home| home.join(".local/state")));
    base.map(|base| base.join("runbook")).ok_or(RootError::Nowhere)
}

/// Looks whether [`SYSTEM_ROOT`] can be used by this process.
#[must_use]
pub fn probe_system_root() -> SystemRoot {
    let path = Path::new(SYSTEM_ROOT);
    let writable = rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    let creatable = || rustix::process::geteuid().is_root() && !path.exists();
    if writable.is_ok() || creatable() { SystemRoot::Usable } else { SystemRoot::Unusable }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{RootError, RootFacts, SystemRoot, choose_root};

    fn facts(explicit: Option<&str>, system: SystemRoot, xdg: Option<&str>) -> RootFacts {
        RootFacts {
            explicit: explicit.map(PathBuf::from),
            system,
            xdg_state_home: xdg.map(PathBuf::from),
            home: Some(PathBuf::from("/home/ada")),
        }
    }

    #[test]
    fn the_explicit_root_wins_then_the_machine_then_the_user() {
        for (facts, root) in [
            (facts(Some("/srv/state"), SystemRoot::Usable, None), "/srv/state"),
            (facts(Some(""), SystemRoot::Usable, Some("/x")), "/var/lib/runbook"),
            (facts(None, SystemRoot::Unusable, Some("/x")), "/x/runbook"),
            (facts(None, SystemRoot::Unusable, Some("relative")), "/home/ada/.local/state/runbook"),
        ] {
            assert_eq!(choose_root(&facts), Ok(PathBuf::from(root)), "{facts:?}");
        }
    }

    #[test]
    fn a_relative_explicit_root_and_no_root_at_all_are_refused() {
        let relative = facts(Some("state"), SystemRoot::Usable, None);
        assert_eq!(choose_root(&relative), Err(RootError::Relative(PathBuf::from("state"))));
        let nowhere = RootFacts { home: None, ..facts(None, SystemRoot::Unusable, None) };
        assert_eq!(choose_root(&nowhere), Err(RootError::Nowhere));
    }
}
