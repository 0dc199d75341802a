//! What a server is told of a recovery's goal, and what becomes of it there (facts 2.3.2, 2.3.3, 2.3.6).

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::{ActionError, Files, HostError};
use crate::actions::postgres::cluster::settings::{RECOVERY_SIGNAL, STANDBY_SIGNAL, TARGETS};
use crate::actions::postgres::stores::target::Goal;
pub(crate) use crate::catalog::recovery::Edge;
use crate::pgformat::Timeline;

/// What becomes of the server when replay has reached the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It opens on a new timeline. Final.
    #[default]
    Promote,
    /// It waits and can be read: for a look, before it is promoted or goes on to a later target.
    Pause,
    /// It stays a standby that goes on with the archive.
    Standby,
}

/// Where a recovery is to end, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecoveryTarget {
    /// Where.
    pub(crate) goal: Goal,
    /// Whether with what happened there.
    pub(crate) edge: Edge,
    /// What becomes of the server.
    pub(crate) ending: Ending,
    /// The timeline that was asked for.
    pub(crate) timeline: Option<Timeline>,
}

/// Where a person wants a recovery to end, whatever the server is told in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AskedTarget {
    /// Where.
    pub(crate) goal: Goal,
    /// Whether with what happened there.
    pub(crate) edge: Edge,
    /// What is to become of the server; `None` as an earlier version wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ending: Option<Ending>,
    /// The timeline, where one was asked for; also `None` as an earlier version wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeline: Option<Timeline>,
}

impl RecoveryTarget {
    /// The server's settings for this target along `timeline`; every other target is emptied, so that one of an
    /// earlier restore cannot contradict. The goal comes after them: an empty target behind it counts as a second.
    pub(crate) fn settings(&self, timeline: Option<Timeline>) -> Vec<(String, String)> {
        let own = told(&self.goal);
        let others = TARGETS.iter().filter(|name| own.as_ref().is_none_or(|(own, _)| own != *name));
        let mut all: Vec<(String, String)> = others.map(|name| ((*name).to_owned(), String::new())).collect();
        all.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let inclusive = match self.edge {
            Edge::Included => "on",
            Edge::Excluded => "off",
        };
        all.push(("recovery_target_inclusive".to_owned(), inclusive.to_owned()));
        let action = match self.ending {
            Ending::Promote => "promote",
            Ending::Pause | Ending::Standby => "pause",
        };
        all.push(("recovery_target_action".to_owned(), action.to_owned()));
        let timeline = timeline.map_or_else(|| "latest".to_owned(), |timeline| timeline.0.to_string());
        all.push(("recovery_target_timeline".to_owned(), timeline));
        all.extend(self.unconnected().map(|name| (name.to_owned(), String::new())));
        all
    }

    /// What is emptied of a connection to another server that a backup brought along (`pg_basebackup -R`): WAL comes from
    /// the archive alone. Only who asks for a standby may want that connection.
    fn unconnected(&self) -> impl Iterator<Item = &'static str> + use<> {
        let emptied = match self.ending {
            Ending::Standby => &[][..],
            Ending::Promote | Ending::Pause => &["primary_conninfo", "primary_slot_name"][..],
        };
        emptied.iter().copied()
    }

    /// What of it was asked for.
    pub(crate) fn asked(&self) -> AskedTarget {
        AskedTarget { goal: self.goal.clone(), edge: self.edge, ending: Some(self.ending), timeline: self.timeline }
    }

    /// Whether it ends at a place that is no time: only what is reached there tells how much was given up.
    pub(crate) fn is_by_landmark(&self) -> bool {
        match self.goal {
            Goal::Immediate | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) => true,
            Goal::Newest | Goal::Time(_) => false,
        }
    }

    /// The file that the server is started with. Without a target a recovery would end, and open, at the end of the
    /// archive: what is to wait there is a standby.
    pub(crate) fn signal(&self, goal: &Goal) -> &'static str {
        match (self.ending, goal) {
            (Ending::Promote, _) => RECOVERY_SIGNAL,
            (Ending::Pause, Goal::Newest) | (Ending::Standby, _) => STANDBY_SIGNAL,
            (Ending::Pause, Goal::Time(_) | Goal::Lsn(_) | Goal::Name(_) | Goal::Xid(_) | Goal::Immediate) => {
                RECOVERY_SIGNAL
            }
        }
    }
}

/// Removes the signal file that says another thing than `wanted`.
///
/// # Errors
/// Fails when the file cannot be removed.
pub(crate) fn remove_other_signal(files: &dyn Files, pgdata: &Path, wanted: &str) -> Result<(), HostError> {
    for name in [RECOVERY_SIGNAL, STANDBY_SIGNAL].into_iter().filter(|name| *name != wanted) {
        let path = pgdata.join(name);
        if files.facts(&path)?.is_some() {
            files.remove_file(&path)?;
        }
    }
    Ok(())
}

/// The one setting that tells the server a goal; none for the end of the archive.
fn told(goal: &Goal) -> Option<(&'static str, String)> {
    match goal {
        Goal::Newest => None,
        Goal::Immediate => Some(("recovery_target", "immediate".to_owned())),
        Goal::Time(at) => Some(("recovery_target_time", at.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string())),
        Goal::Lsn(lsn) => Some(("recovery_target_lsn", lsn.to_string())),
        Goal::Name(name) => Some(("recovery_target_name", name.clone())),
        Goal::Xid(xid) => Some(("recovery_target_xid", xid.to_string())),
    }
}

/// A goal in words.
pub(crate) fn words(goal: &Goal) -> String {
    match goal {
        Goal::Newest => "the end of the archive".to_owned(),
        Goal::Immediate => "the end of the backup".to_owned(),
        Goal::Time(at) => at.to_string(),
        Goal::Lsn(lsn) => lsn.to_string(),
        Goal::Name(name) => format!("the restore point `{name}`"),
        Goal::Xid(xid) => format!("transaction {xid}"),
    }
}

/// Refuses a goal that replay has passed: it stands at `reached`.
pub(crate) fn passed(goal: &Goal, reached: &str) -> ActionError {
    let fact = format!("replay is at {reached} already, behind {}, and cannot go back", words(goal));
    ActionError::fatal(fact).help(
        "stage the backup again with `postgres.restore_base` and recover that to the earlier target, in this same run",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::pgformat::Lsn;

    fn recovery_target(goal: Goal) -> RecoveryTarget {
        RecoveryTarget { goal, edge: Edge::Included, ending: Ending::Promote, timeline: None }
    }

    #[test]
    fn a_goal_empties_every_other_target() {
        let settings = recovery_target(Goal::Lsn(Lsn(3 << 24))).settings(Some(Timeline(1)));
        let value = |name: &str| settings.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
        assert_eq!(value("recovery_target_lsn"), Some("0/3000000"));
        assert_eq!(value("recovery_target_time"), Some(""));
        assert_eq!(value("recovery_target_timeline"), Some("1"));
        let last_target = settings.iter().rfind(|(name, _)| TARGETS.contains(&name.as_str()));
        assert_eq!(last_target.map(|(name, _)| name.as_str()), Some("recovery_target_lsn"));
    }

    #[test]
    fn a_time_is_written_in_utc_with_its_offset() {
        let at: Timestamp = "2026-01-28T12:00:00Z".parse().expect("a time");
        let settings = recovery_target(Goal::Time(at)).settings(Some(Timeline(1)));
        assert!(settings.contains(&("recovery_target_time".into(), "2026-01-28 12:00:00.000000+00".into())));
    }

    #[test]
    fn what_waits_at_the_end_of_the_archive_is_a_standby_and_at_a_target_it_pauses() {
        let looks = |goal: Goal| RecoveryTarget { ending: Ending::Pause, ..recovery_target(goal) };
        assert_eq!(looks(Goal::Newest).signal(&Goal::Newest), STANDBY_SIGNAL);
        assert_eq!(looks(Goal::Immediate).signal(&Goal::Immediate), RECOVERY_SIGNAL);
        assert_eq!(recovery_target(Goal::Newest).signal(&Goal::Newest), RECOVERY_SIGNAL);
        let settings = RecoveryTarget { edge: Edge::Excluded, ..looks(Goal::Xid(7)) }.settings(Some(Timeline(1)));
        let wanted =
            [("recovery_target_action", "pause"), ("recovery_target_inclusive", "off"), ("recovery_target_xid", "7")];
        for (name, value) in wanted {
            assert!(settings.contains(&(name.to_owned(), value.to_owned())), "{settings:?}");
        }
    }

    #[test]
    fn only_a_standby_may_follow_another_server() {
        let connects = |ending| {
            let settings = RecoveryTarget { ending, ..recovery_target(Goal::Newest) }.settings(None);
            !settings.contains(&("primary_conninfo".to_owned(), String::new()))
        };
        assert_eq!([Ending::Promote, Ending::Pause, Ending::Standby].map(connects), [false, false, true]);
    }
}
