//! What an attempt has committed, or may have, for whoever cancels it: the scripts that take it back are not lost with its answer.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::action::ActionError;
use crate::actions::postgres::session::commit::{Commit, ROLLED_BACK};
use crate::event::ErrorClass;

/// The trail of one attempt.
#[derive(Debug, Default)]
pub(super) struct Trail {
    commit: Commit,
    /// The scripts of what was committed, or may have been, in its order.
    scripts: Mutex<Vec<PathBuf>>,
}

impl Trail {
    /// Waits for the commit of what a script takes back.
    ///
    /// # Errors
    /// Fails as the commit does; unless its outcome is unknown there is nothing to take back then.
    pub(super) async fn during(
        &self,
        script: &Path,
        commit: impl Future<Output = Result<(), ActionError>>,
    ) -> Result<(), ActionError> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner).push(script.to_owned());
        let done = self.commit.during(commit).await;
        if done.as_ref().is_err_and(|error| error.info().class != ErrorClass::Unknown) {
            self.scripts.lock().unwrap_or_else(PoisonError::into_inner).pop();
        }
        done
    }

    /// Waits for a script that takes something back itself.
    ///
    /// # Errors
    /// Fails as it does.
    pub(super) async fn back(&self, script: impl Future<Output = Result<(), ActionError>>) -> Result<(), ActionError> {
        self.commit.during(script).await
    }

    /// What a cancelled attempt says.
    pub(super) fn cancelled(&self) -> ActionError {
        let scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        // What came last is taken back first.
        let paths: Vec<String> = scripts.iter().rev().map(|path| format!("`{}`", path.display())).collect();
        let error = match (self.commit.is_open(), paths.is_empty()) {
            (false, false) => ActionError::unknown("cancelled after the work was committed, before that was told"),
            (true, _) | (false, true) => self.commit.cancelled("the work was", ROLLED_BACK),
        };
        match paths.is_empty() {
            true => error,
            false => error.help(format!(
                "what is committed stays: `psql -X -f` of {} takes it back, and refuses rows that were changed since",
                paths.join(", then ")
            )),
        }
    }
}
