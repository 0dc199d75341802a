//! A replay that is paused where nobody told it to: for settings that are too small, or by somebody else.

use serde_json::json;

use super::super::paused_at::{self, PausedAt};
use super::super::replay::{Arrival, Told};
use super::Completion;
use crate::action::{ActionError, Waits};
use crate::actions::postgres::cluster::server::Server;
use crate::actions::postgres::restore::recovery_target::{Ending, RecoveryTarget};
use crate::event::Progress;
use crate::pgformat::Lsn;

impl Completion<'_> {
    /// Replay is paused for settings that are too small, and stay so.
    pub(super) fn unraised(&self, server: &Server<'_>, arrival: &Arrival, words: &str) -> ActionError {
        let at = arrival.replayed.map_or_else(String::new, |at| format!(" at {at}"));
        let fact = format!("replay is paused{at}: the WAL needs a setting that this server has lower: {words}");
        let help = "what its command line sets no file can raise: raise it there (`options`), and run the step again";
        ActionError::fatal(fact).process(None, server.log_tail(self.context.cx.host.read_files().as_ref())).help(help)
    }

    /// Whether replay is paused before its end: by somebody else then, who may have it go on. `known` is where it was
    /// found to be.
    pub(super) async fn is_early(
        &self,
        arrival: &Arrival,
        recovery_target: &RecoveryTarget,
        known: &mut Option<Lsn>,
    ) -> Result<bool, ActionError> {
        let (Some(Waits::Paused), Some(at)) = (arrival.waits, arrival.replayed) else { return Ok(false) };
        let course = self.course();
        let is_before = match (recovery_target.ending, self.told()) {
            (Ending::Promote | Ending::Standby, _) => true,
            (Ending::Pause, Told::Nothing | Told::Promotion) => course.floor.is_some_and(|floor| at < floor),
            (Ending::Pause, Told::Target) if *known == Some(at) => true,
            (Ending::Pause, Told::Target) => {
                let asked = self.marker.asked.clone().unwrap_or_else(|| recovery_target.asked());
                let mut session = self.session().await?;
                match paused_at::look((self.context, &self.marker), (&asked, course.timeline), at, &mut session).await?
                {
                    PausedAt::Target => false,
                    PausedAt::Before => true,
                    PausedAt::Unknown(why) => {
                        let message = format!(
                            "warning: replay is paused at {at}; whether it is there for its target is not known: {why}"
                        );
                        self.context.cx.reporter.note(message, json!({ "lsn": at }));
                        false
                    }
                }
            }
        };
        if is_before {
            let text = format!(
                "replay is paused at {at}, before its target, by somebody else: `SELECT pg_wal_replay_resume()` has it go on"
            );
            if *known != Some(at) {
                self.context.cx.reporter.note(format!("warning: {text}"), json!({ "lsn": at }));
            }
            self.context.cx.reporter.progress(Progress::Doing { text });
            *known = Some(at);
        }
        Ok(is_before)
    }
}
