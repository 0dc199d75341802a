//! Whether a transaction is being committed, for whoever is cancelled meanwhile.
//!
//! A server that was asked to commit does so whether or not somebody still waits for its answer. Where commits wait for a
//! standby (`synchronous_standby_names`) it has committed already when the waiting begins, and a session that goes away takes
//! nothing back (manual, "Synchronous Replication").

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::action::ActionError;

/// What is said where nothing was being committed.
pub(crate) const ROLLED_BACK: &str = "cancelled; what was not committed, the server rolls back";

/// The commit of some work.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    is_open: AtomicBool,
}

impl Commit {
    /// Waits for a commit, which is open as long as that takes, and also when nobody waits any more.
    pub(crate) async fn during<T>(&self, commit: impl Future<Output = T>) -> T {
        self.is_open.store(true, Ordering::SeqCst);
        let done = commit.await;
        self.is_open.store(false, Ordering::SeqCst);
        done
    }

    /// What a cancelled attempt says: of unknown outcome while `what` (`the statement was`) is being committed, else `otherwise`.
    pub(crate) fn cancelled(&self, what: &str, otherwise: &str) -> ActionError {
        match self.is_open.load(Ordering::SeqCst) {
            true => ActionError::unknown(waiting(what)),
            false => ActionError::cancelled(otherwise),
        }
    }
}

/// What is not known of work (`the statement was`) whose commit nobody waited for any longer.
pub(crate) fn waiting(what: &str) -> String {
    format!("cancelled while {what} being committed: it may be committed; where commits wait for a standby it is")
}
