//! The names a restore works with, and what it found when it began.
//!
//! What a database is, its number says: it stays the same when the database is renamed. The numbers found at the
//! beginning are written down durably before anything changes, so that an attempt after a crash knows how far the one
//! before it came.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::action::{ActionError, HostError, RunContext};
use crate::actions::postgres::session::connect::Session;
use crate::actions::postgres::session::sessions::number;
use crate::base::RunId;
use crate::catalog::DatabaseState;

/// Names are cut by the server beyond this.
const NAME_BYTES: usize = 63;

/// The names of one restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seat {
    /// The name in the end.
    pub(crate) name: String,
    /// The name while it is restored.
    pub(crate) fresh: String,
    /// The name of what was there before.
    pub(crate) old: String,
}

impl Seat {
    /// The names for a database in a run.
    pub(crate) fn of(name: &str, run: &RunId) -> Self {
        Self {
            name: name.to_owned(),
            fresh: suffixed(name, &format!("_runbook_{run}")),
            old: suffixed(name, &format!("_old_{run}")),
        }
    }
}

/// Whether a database has the name under which a restore keeps what it has replaced.
pub fn is_old(dbname: &str) -> bool {
    ends_in_run(dbname, "_old_")
}

/// Whether a database has the name under which a restore loads what is to replace another.
pub fn is_fresh(dbname: &str) -> bool {
    ends_in_run(dbname, "_runbook_")
}

fn ends_in_run(dbname: &str, mark: &str) -> bool {
    let dated = |run: &str| run.bytes().take_while(u8::is_ascii_digit).count() == 8;
    dbname.rsplit_once(mark).is_some_and(|(_, run)| dated(run) && run.parse::<RunId>().is_ok())
}

/// A name with a suffix that is never cut.
pub(crate) fn suffixed(name: &str, suffix: &str) -> String {
    let mut end = name.len().min(NAME_BYTES.saturating_sub(suffix.len()));
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &name[..end])
}

/// What a restore found when it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    /// The number of the database that had the name; `None` when there was none.
    before: Option<u32>,
    /// The number of the database that was restored and verified; `None` until then.
    #[serde(default)]
    verified: Option<u32>,
    /// What the database had that a dump does not say, where it is dropped before the new one is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<DatabaseState>,
}

/// How far earlier attempts of the same step came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing that counts.
    Nothing,
    /// The new database is restored and verified, and has not its name yet.
    Verified,
    /// It has its name.
    Done,
}

impl Begun {
    fn path(cx: &RunContext) -> PathBuf {
        let name: String = cx.step.to_string().chars().map(|c| if c == '/' { '.' } else { c }).collect();
        cx.about.scratch.join(format!("restore-{name}.json"))
    }

    /// Reads what an earlier attempt of this step wrote, else writes down what is there now.
    pub(super) async fn read_or_write(
        session: &mut Session,
        seat: &Seat,
        cx: &RunContext,
    ) -> Result<Self, ActionError> {
        let (files, path) = (cx.host.files(), Self::path(cx));
        if files.facts(&path).map_err(|error| unkept(&error))?.is_some() {
            let text = files.read(&path, 4 << 20).map_err(|error| unkept(&error))?;
            return serde_json::from_slice(&text)
                .map_err(|error| ActionError::fatal(format!("`{}` makes no sense", path.display())).because(&error));
        }
        if number(session, &seat.fresh).await?.is_some() {
            let fact = format!("there is a database `{}` already: another step of this run made it", seat.fresh);
            return Err(ActionError::fatal(fact).help("give this step another `dbname`, or drop that one first"));
        }
        let begun = Self { before: number(session, &seat.name).await?, verified: None, state: None };
        begun.write(cx)?;
        Ok(begun)
    }

    fn write(&self, cx: &RunContext) -> Result<(), ActionError> {
        let (files, path) = (cx.host.files(), Self::path(cx));
        let text = serde_json::to_vec(self)
            .map_err(|error| ActionError::fatal("the restore cannot be noted").because(&error))?;
        let write = || {
            if files.facts(&cx.about.scratch)?.is_none() {
                files.create_dir(&cx.about.scratch, 0o755)?;
            }
            files.replace(&path, &text, 0o600)
        };
        write().map_err(|error: HostError| unkept(&error))
    }

    /// Whether there was a database of the name.
    pub(super) fn had_name(&self) -> bool {
        self.before.is_some()
    }

    /// What an earlier attempt noted that the database had.
    pub(super) fn state(&self) -> Option<&DatabaseState> {
        self.state.as_ref()
    }

    /// Notes what the database has that a dump does not say: when it is dropped, nothing else tells it.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub(super) fn keep(&mut self, state: &DatabaseState, cx: &RunContext) -> Result<(), ActionError> {
        self.state = Some(state.clone());
        self.write(cx)
    }

    /// Notes that the new database is restored and verified.
    pub(super) async fn verified(
        &mut self,
        session: &mut Session,
        seat: &Seat,
        cx: &RunContext,
    ) -> Result<(), ActionError> {
        self.verified = number(session, &seat.fresh).await?;
        self.write(cx)
    }

    /// Judges by the numbers how far earlier attempts came.
    pub(super) async fn stage(&self, session: &mut Session, seat: &Seat) -> Result<Stage, ActionError> {
        let Some(verified) = self.verified else { return Ok(Stage::Nothing) };
        if number(session, &seat.name).await? == Some(verified) {
            return Ok(Stage::Done);
        }
        let fresh = number(session, &seat.fresh).await?;
        Ok(if fresh == Some(verified) { Stage::Verified } else { Stage::Nothing })
    }

    /// Refuses to go on when somebody else put another database under the name meanwhile.
    pub(super) async fn unchanged(&self, session: &mut Session, seat: &Seat) -> Result<(), ActionError> {
        let now = number(session, &seat.name).await?;
        if now == self.before || now.is_none() {
            return Ok(());
        }
        let fact = format!("database `{}` is another one than when the restore began", seat.name);
        Err(ActionError::fatal(fact).help("somebody else made it meanwhile: look at it, then start a new run"))
    }
}

fn unkept(error: &HostError) -> ActionError {
    ActionError::retryable("what the restore found cannot be noted").because(error)
}

#[cfg(test)]
mod tests {
    use super::{Seat, is_fresh, is_old};

    #[test]
    fn long_names_keep_their_suffix() {
        let run = "20260128-143002-3fa9c1".parse().expect("run");
        let seat = Seat::of("orders", &run);
        assert_eq!(seat.fresh, "orders_runbook_20260128-143002-3fa9c1");
        assert_eq!(seat.old, "orders_old_20260128-143002-3fa9c1");
        assert!(is_old(&seat.old) && !is_old(&seat.fresh) && !is_old("orders_old_data"));
        assert!(is_fresh(&seat.fresh) && !is_fresh(&seat.old) && !is_fresh("orders_runbook_data"));
        let long = Seat::of(&"ä".repeat(31), &run);
        assert!(long.fresh.len() <= 63 && long.fresh.ends_with("3fa9c1"), "{}", long.fresh);
    }
}
