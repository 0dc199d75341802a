//! What an attempt has committed, or may have, for whoever cancels it: the scripts that take it back are not lost with its answer.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::action::ActionError;
use crate::action::by_hand::command_line;
use crate::actions::postgres::cluster::by_hand::psql;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::session::commit::{ROLLED_BACK, waiting};
use crate::event::ErrorClass;

/// The trail of one attempt.
#[derive(Debug)]
pub(super) struct Trail {
    /// How `psql` gets to the database, to be typed.
    psql: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What is going on now and may end in a commit that nobody hears of.
    doing: Option<Doing>,
    /// The scripts that take back what was committed, or may have been, in its order.
    scripts: Vec<PathBuf>,
    /// How many scripts of an earlier application were carried out, each in its own transaction, and of how many.
    taken_back: (usize, usize),
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
    /// Nothing was done yet in that database.
    pub(super) fn of(cluster: &Cluster, dbname: &str) -> Self {
        Self { psql: psql(cluster, dbname), state: Mutex::default() }
    }

    /// A script of so many has taken its changes back, and that is committed.
    pub(super) fn took_back(&self, count: usize, of: usize) {
        self.state().taken_back = (count, of);
    }

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
        let commands =
            state.scripts.iter().rev().map(|path| {
                format!("`{} -X {}`", self.psql, command_line(["-f".to_owned(), path.display().to_string()]))
            });
        let commands: Vec<String> = commands.collect();
        let error = match (state.doing, commands.as_slice(), state.taken_back) {
            (Some(doing), _, (0, _)) => ActionError::unknown(doing.words()),
            (Some(doing), _, (done, all)) => {
                ActionError::unknown(format!("{}; before that {}", doing.words(), taken_back(done, all)))
            }
            (None, [], (0, _)) => return ActionError::cancelled(ROLLED_BACK),
            (None, [], (done, all)) => ActionError::unknown(format!("cancelled after {}", taken_back(done, all))),
            (None, _, _) => ActionError::unknown("cancelled after work was committed, and before that was told"),
        };
        match commands.as_slice() {
            [] => error,
            commands => error.help(format!(
                "what is committed stays: {} takes it back, and refuses rows that were changed since",
                commands.join(", then ")
            )),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn taken_back(done: usize, all: usize) -> String {
    format!("{done} of {all} scripts had taken their changes back, which is committed")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use std::path::Path;
    use std::sync::Mutex;

    use super::{Doing, Trail};
    use crate::action::ActionError;
    use crate::event::ErrorClass;

    #[tokio::test]
    async fn what_may_be_committed_is_unknown_with_its_scripts_and_what_failed_is_none_of_it() {
        let trail = trail();
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
        let help = said().help.unwrap();
        assert!(
            help.contains("`psql -h /run/pg -d shop -X -f /b`, then `psql -h /run/pg -d shop -X -f /a` takes"),
            "{help}"
        );
    }

    #[tokio::test]
    async fn between_two_scripts_what_the_first_took_back_is_committed_and_said() {
        let trail = trail();
        let said = || trail.cancelled().into_info();
        trail.during((Doing::TakingBack, None), async { Ok(()) }).await.unwrap();
        trail.took_back(1, 2);
        assert_eq!(said().class, ErrorClass::Unknown);
        assert!(said().message.contains("after 1 of 2 scripts had taken their changes back"), "{}", said().message);
        tokio::select! {
            biased;
            _ = trail.during((Doing::TakingBack, None), std::future::pending()) => {}
            () = async {} => {}
        }
        assert!(said().message.contains("nothing of it; before that 1 of 2 scripts"), "{}", said().message);
    }

    fn trail() -> Trail {
        Trail { psql: "psql -h /run/pg -d shop".to_owned(), state: Mutex::default() }
    }
}
