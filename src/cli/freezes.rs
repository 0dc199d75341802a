//! Freezes that lie in the stores of a database, held against the history of runs here.
//!
//! Nothing is pruned there, and no unattended backup is taken, whatever became of the run. It may be a run of another machine,
//! another user or another state folder: then it may still work on this very data, though nothing here knows of it.

use serde::Serialize;

use super::again::Again;
use super::runs::outcome_words;
use super::site::Site;
use super::{Failure, undone, wiring};
use crate::base::{RunId, Timestamp};
use crate::catalog::freeze::{Freeze, frozen};
use crate::event::Outcome;
use crate::journal::Runs;
use crate::state::RunState;

/// A recovery that has frozen a database's backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Frozen {
    /// Its run.
    pub run: String,
    /// The machine it ran on, where its note says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The environment that it is in.
    pub environment: String,
    /// Since when.
    pub since: Timestamp,
    /// The stores that its note lies in.
    pub stores: Vec<String>,
    /// Whether the history of runs here has it.
    pub known_here: bool,
    /// How it ended, as far as that is known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Whether an undo of it brings the server back that it stopped, and lifts the freeze.
    #[serde(skip)]
    pub is_undone_whole: bool,
}

/// Lists the freezes of a database. A store that gives no answer is told elsewhere.
///
/// # Errors
/// Fails when nothing can be waited for.
pub fn of(name: &str, site: &Site, runs: Option<&Runs>) -> Result<Vec<Frozen>, Failure> {
    let Some(entry) = site.inventory.databases.get(name).filter(|entry| !entry.scratch) else { return Ok(Vec::new()) };
    let prefix = entry.prefix.as_deref().unwrap_or(name);
    let mut found: Vec<Frozen> = Vec::new();
    for store in entry.keeping() {
        let Ok(opened) = site.read_store(store) else { continue };
        let Ok(freezes) = wiring::block_on(async { frozen(&*opened, prefix).await })? else { continue };
        for freeze in freezes {
            match found.iter_mut().find(|known| known.run == freeze.note.run) {
                Some(known) => known.stores.push(store.to_owned()),
                None => found.push(Frozen::by(freeze, runs)),
            }
        }
    }
    Ok(found)
}

impl Frozen {
    fn by(freeze: Freeze, runs: Option<&Runs>) -> Self {
        let Freeze { note, store, .. } = freeze;
        let dir = runs.zip(note.run.parse::<RunId>().ok()).map(|(runs, id)| runs.dir(&id));
        let plan = dir.as_ref().and_then(|dir| dir.plan().ok()).map(|(plan, _)| plan);
        let state = dir.and_then(|dir| RunState::fold(&dir.read().ok()?.events).ok());
        let known = plan.as_ref().zip(state.as_ref());
        Self {
            run: note.run,
            host: note.host,
            environment: note.environment,
            since: note.since,
            stores: vec![store],
            known_here: plan.is_some(),
            outcome: state.as_ref().and_then(|state| state.finished.as_ref()).map(|(outcome, ..)| *outcome),
            is_undone_whole: known.is_some_and(|(plan, state)| undone::gives_back(plan, state)),
        }
    }

    /// The run, and where it ran.
    fn who(&self) -> String {
        let host = self.host.as_ref().map(|host| format!(" on `{host}`"));
        format!("run {}{}", self.run, host.unwrap_or_default())
    }

    /// What is frozen, and by which run.
    #[must_use]
    pub fn told(&self, since: &str) -> String {
        let stores: Vec<String> = self.stores.iter().map(|store| format!("`{store}`")).collect();
        let unknown = if self.known_here { "" } else { "; that run is not known here" };
        format!(
            "{} {since}: prune, unattended backups and lifecycle changes are frozen in {}{unknown}",
            self.who(),
            stores.join(", ")
        )
    }

    /// What is so, and what ends it.
    #[must_use]
    pub fn advice(&self, database: &str, again: &Again) -> String {
        let Self { run, since, .. } = self;
        let lift = |reason: &str| {
            let (database, reason) = (format!("database={database}"), format!("reason={reason}"));
            again.change(["run", "lift-freeze", "-p", &database, "-p", &reason])
        };
        if !self.known_here {
            return format!(
                "{} has begun a recovery of this database at {since} that nobody said is over, and is not known here: it is another \
                 machine's, another user's or another state folder's, and may still work on this data. Look there first: `runbook show \
                 {run}`; start, restore and remove nothing before that; once it is over: {}",
                self.who(),
                lift("that recovery is over")
            );
        }
        if self.outcome.is_none() {
            return format!(
                "whether {} is over cannot be read here; look first: `runbook show {run}`; once it is over: {}",
                self.who(),
                lift("that recovery is over")
            );
        }
        let undo = match self.is_undone_whole {
            true => format!(
                "{} leaves the old server on its own data and lifts the freeze; or, once no other try needs the old backups: ",
                again.confirmed(["undo", run])
            ),
            false => "once no other try needs the old backups: ".to_owned(),
        };
        format!(
            "run {run} is over ({}), and nothing is pruned and no unattended backup is taken since {since}: {undo}{}",
            outcome_words(self.outcome),
            lift("the recovery was given up")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Frozen;
    use crate::cli::again::Again;
    use crate::event::Outcome;

    fn frozen() -> Frozen {
        Frozen {
            run: "20260128-143002-3fa9c1".to_owned(),
            host: Some("db1".to_owned()),
            environment: "production".to_owned(),
            since: "2026-01-28T14:30:02Z".parse().expect("a time"),
            stores: vec!["vault".to_owned(), "offsite".to_owned()],
            known_here: true,
            outcome: Some(Outcome::Cancelled),
            is_undone_whole: true,
        }
    }

    #[test]
    fn a_freeze_of_a_run_that_is_over_names_what_lifts_it() {
        let told = frozen().advice("orders", &Again::default());
        assert!(told.contains("runbook undo 20260128-143002-3fa9c1") && told.contains("run lift-freeze"), "{told}");
        let no_undo = Frozen { is_undone_whole: false, ..frozen() }.advice("orders", &Again::default());
        assert!(!no_undo.contains("runbook undo") && no_undo.contains("-p database=orders"), "{no_undo}");
    }

    #[test]
    fn a_run_whose_end_cannot_be_read_is_not_called_over() {
        let unread = Frozen { outcome: None, is_undone_whole: false, ..frozen() }.advice("orders", &Again::default());
        assert!(unread.starts_with("whether run 2026") && !unread.contains("is over ("), "{unread}");
    }

    #[test]
    fn a_run_that_is_not_known_here_is_never_called_over() {
        let unknown = Frozen { known_here: false, outcome: None, is_undone_whole: false, ..frozen() };
        let told = unknown.advice("orders", &Again::default());
        assert!(
            told.contains("on `db1`") && told.contains("is not known here") && !told.contains("is over ("),
            "{told}"
        );
        let line = unknown.told("5m ago");
        assert!(line.contains("frozen in `vault`, `offsite`; that run is not known here"), "{line}");
    }
}
