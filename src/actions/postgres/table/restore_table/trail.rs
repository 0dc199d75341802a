//! What an attempt has committed, or may have, for whoever cancels it: the scripts that take it back are not lost with its answer.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::action::ActionError;
use crate::actions::postgres::session::commit::{ROLLED_BACK, waiting};
use crate::event::ErrorClass;

/// The trail of one attempt.
#[derive(Debug, Default)]
pub(super) struct Trail(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// What is going on now and may end in a commit that nobody hears of.
    doing: Option<Doing>,
    /// The scripts that take back what was committed, or may have been, in its order.
    scripts: Vec<PathBuf>,
}

/// Work that ends in a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// The commit itself.
    Committing,
    /// `psql` makes tables again, in one transaction that it commits by itself.
    Making,
    /// `psql` takes something back, in the same way.
    TakingBack,
}

impl Doing {
    fn words(self) -> String {
        match self {
            Self::Committing => waiting("the work was"),
            Self::Making => {
                "cancelled while `psql` made the tables again in one transaction: they are back whole, or not at all"
                    .to_owned()
            }
            Self::TakingBack => {
                "cancelled while `psql` took changes back in one transaction: all of a script is done, or nothing of it"
                    .to_owned()
            }
        }
    }
}

impl Trail {
    /// Waits for work; `script` is what takes it back.
    ///
    /// # Errors
    /// Fails as the work does; unless its outcome is unknown there is nothing to take back then.
    pub(super) async fn during(
        &self,
        (doing, script): (Doing, Option<&Path>),
        work: impl Future<Output = Result<(), ActionError>>,
    ) -> Result<(), ActionError> {
        {
            let mut state = self.state();
            state.doing = Some(doing);
            state.scripts.extend(script.map(Path::to_owned));
        }
        let done = work.await;
        let mut state = self.state();
        state.doing = None;
        if script.is_some() && done.as_ref().is_err_and(|error| error.info().class != ErrorClass::Unknown) {
            state.scripts.pop();
        }
        done
    }

    /// What a cancelled attempt says.
    pub(super) fn cancelled(&self) -> ActionError {
        let state = self.state();
        // What came last is taken back first.
        let paths: Vec<String> = state.scripts.iter().rev().map(|path| format!("`{}`", path.display())).collect();
        let error = match (state.doing, paths.as_slice()) {
            (None, []) => return ActionError::cancelled(ROLLED_BACK),
            (Some(doing), _) => ActionError::unknown(doing.words()),
            (None, _) => ActionError::unknown("cancelled after work was committed, and before that was told"),
        };
        match paths.as_slice() {
            [] => error,
            paths => error.help(format!(
                "what is committed stays: `psql -X -f` of {} takes it back, and refuses rows that were changed since",
                paths.join(", then ")
            )),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use std::path::Path;

    use super::{Doing, Trail};
    use crate::action::ActionError;
    use crate::event::ErrorClass;

    #[tokio::test]
    async fn what_may_be_committed_is_unknown_with_its_scripts_and_what_failed_is_none_of_it() {
        let trail = Trail::default();
        let said = || trail.cancelled().into_info();
        assert_eq!((said().class, said().help), (ErrorClass::Cancelled, None));
        let failed = async { Err(ActionError::fatal("refused")) };
        trail.during((Doing::Making, Some(Path::new("/a"))), failed).await.unwrap_err();
        assert_eq!(said().class, ErrorClass::Cancelled);
        trail.during((Doing::Making, Some(Path::new("/a"))), async { Ok(()) }).await.unwrap();
        assert_eq!((said().class, said().message.contains("after work was committed")), (ErrorClass::Unknown, true));
        tokio::select! {
            biased;
            _ = trail.during((Doing::Committing, Some(Path::new("/b"))), std::future::pending()) => {}
            () = async {} => {}
        }
        assert!(said().message.contains("where commits wait for a standby it is"), "{}", said().message);
        assert!(said().help.unwrap().contains("of `/b`, then `/a` takes it back"));
    }
}
