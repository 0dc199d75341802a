//! Which backup a goal is best reached from.

use super::{Archive, BaseBackup, Goal, Refusal, Way};
use crate::pgformat::Timeline;

/// A backup from which a goal can be reached, as far as positions tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The backup.
    pub backup: &'a BaseBackup,
    /// The way from it, its own embedded WAL counted.
    pub way: Way,
}

/// A backup that was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// Its id.
    pub id: String,
    /// Why.
    pub why: Refusal,
}

/// Finds the backups from which a goal can be reached, the newest first: it leaves the least to replay.
///
/// A later backup is passed over for an earlier one only when it cannot be restored, is not consistent, lies behind
/// the goal, or does not lead there. Those passed over come with their reason, newest first as well.
#[must_use]
pub fn choose<'a>(
    archive: &Archive,
    backups: &'a [BaseBackup],
    goal: &Goal,
    wanted: Option<Timeline>,
) -> (Vec<Choice<'a>>, Vec<PassedOver>) {
    let (mut choices, mut passed_over) = (Vec::new(), Vec::new());
    let mut newest_first: Vec<&BaseBackup> = backups.iter().collect();
    newest_first.sort_by(|a, b| (b.base.ended_at, &b.id).cmp(&(a.base.ended_at, &a.id)));
    for backup in newest_first {
        match way(archive, backup, goal, wanted) {
            Ok(way) => choices.push(Choice { backup, way }),
            Err(why) => passed_over.push(PassedOver { id: backup.id.clone(), why }),
        }
    }
    (choices, passed_over)
}

fn way(archive: &Archive, backup: &BaseBackup, goal: &Goal, wanted: Option<Timeline>) -> Result<Way, Refusal> {
    if let Some(why) = &backup.fault {
        return Err(Refusal::Backup { id: backup.id.clone(), why: why.clone() });
    }
    let with_own = archive.with(backup);
    with_own.as_ref().unwrap_or(archive).way(goal, backup.base, wanted)
}

impl Archive {
    /// The archive together with the WAL inside a backup; `None` when that adds nothing.
    #[must_use]
    pub fn with(&self, backup: &BaseBackup) -> Option<Self> {
        let lacks = |name: &&crate::pgformat::SegmentName| self.fault(**name).is_some();
        let more: Vec<_> = backup.embedded.iter().filter(lacks).copied().collect();
        (!more.is_empty()).then(|| {
            let mut archive = self.clone();
            archive.aside.extend(more);
            archive
        })
    }
}
