//! Why a goal cannot be reached.

use super::goal::without_epoch;
use super::{Goal, Hole};
use crate::base::Timestamp;
use crate::pgformat::{Lsn, SegmentName, Timeline};

/// Why a goal cannot be reached from a backup. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The goal lies before the backup's end: the server would open without a word at a later state.
    #[error("the target {goal} lies before the end of the backup at {end}")]
    BeforeBackup {
        /// The goal.
        goal: Goal,
        /// The end, as the goal counts.
        end: String,
    },
    /// The wanted timeline does not lead on from the backup.
    #[error("timeline {wanted} is not in the archive, or left timeline {from} before the backup's end")]
    NoWay {
        /// The timeline that was asked for.
        wanted: Timeline,
        /// The backup's.
        from: Timeline,
    },
    /// A timeline has WAL in the archive, and nothing tells where it began.
    #[error(
        "timeline {timeline} has WAL in the archive but no history file: without `{}`, which tells where it began, no older backup \
         leads there",
        .timeline.history_file()
    )]
    HistoryLost {
        /// The timeline.
        timeline: Timeline,
    },
    /// More than one timeline contains the goal.
    #[error("several timelines contain the target: {}", .0.join(", "))]
    Several(Vec<String>),
    /// The newest timeline ends before another one does that it left, or that left it: two servers wrote, and the promotion
    /// of the newer may have been a mistake.
    #[error(
        "timeline `{followed}` is the newest and leads to {reached} at least, but timeline {left} has commits that are not in it, up to {newest}"
    )]
    Outlived {
        /// The newest timeline.
        followed: Timeline,
        /// Its newest commit, or the end of the backup where none was read: it leads there at least.
        reached: Timestamp,
        /// The other one.
        timeline: Timeline,
        /// The other one, in words.
        left: String,
        /// Its newest commit.
        newest: Timestamp,
    },
    /// The timeline of the backup was left by then: the one that was live does not go on from it.
    #[error(
        "nothing was written on timeline `{timeline}` after {until}, and timeline {by}, which does not lead on from this backup, \
         was promoted later, at {promoted}"
    )]
    Left {
        /// The backup's.
        timeline: Timeline,
        /// The last sign of life on it.
        until: Timestamp,
        /// The other one, in words.
        by: String,
        /// When that was promoted.
        promoted: Timestamp,
    },
    /// A timeline that the backup is of, or that began after it, cannot be read: it may be the one that is meant.
    #[error("whether timeline {timeline} has newer commits is not known: {why}")]
    Unread {
        /// The timeline.
        timeline: Timeline,
        /// Why nothing of it is known.
        why: String,
    },
    /// Segments cannot be had before the goal is reached.
    #[error("the archive has a hole: {hole}, though later WAL exists; it leads to {}", told(.last.as_ref()))]
    Hole {
        /// The hole.
        hole: Hole,
        /// The last segment before it; `None` when it begins with the backup's first.
        last: Option<SegmentName>,
    },
    /// The end of a timeline is in a child's copy alone, and nothing tells whether the child's own commits lie before
    /// the goal.
    #[error(
        "the archive has the end of timeline {followed} only inside timeline {child}, and does not tell when {child} was promoted"
    )]
    Unclear {
        /// The timeline that the goal is on.
        followed: Timeline,
        /// The one with the copy.
        child: Timeline,
    },
    /// The archive ends before the goal.
    #[error("the target `{lsn}` lies behind the end of the archive at {}", .end.map_or_else(|| "nowhere".to_owned(), |end| end.to_string()))]
    BehindEnd {
        /// The goal.
        lsn: Lsn,
        /// Where the archive ends.
        end: Option<Lsn>,
    },
    /// The backup cannot be restored.
    #[error("backup `{id}` cannot be restored: {why}")]
    Backup {
        /// The backup.
        id: String,
        /// Why.
        why: String,
    },
    /// The goal lies inside the drop of a database: its files are gone before the drop's transaction ends, whatever becomes
    /// of that.
    #[error(
        "the target {goal} lies inside the drop of database {}{}{}: what is replayed until there removes it, before that ends; \
         its last position is `{before}` of timeline {timeline}",
        .name.as_ref().map(|name| format!("`{name}`, ")).unwrap_or_default(),
        .database.map_or_else(|| "of an unknown number".to_owned(), |oid| oid.to_string()),
        .xid.map(|xid| format!(" by transaction {xid}")).unwrap_or_default()
    )]
    HalfDropped {
        /// The goal.
        goal: Goal,
        /// The database's number, where the WAL up to the goal tells it.
        database: Option<u32>,
        /// Its name, where the WAL that was read tells it; not quoted.
        name: Option<String>,
        /// The transaction; `None` where the goal lies before its first own record.
        xid: Option<u32>,
        /// The last record before its removal begins: a recovery to this position, included, has it whole.
        before: Lsn,
        /// The timeline that is followed.
        timeline: Timeline,
    },
    /// The transaction's end is no commit.
    #[error("transaction {0} was rolled back: there is no such commit")]
    RolledBack(u64),
    /// The transaction is one inside another, as a savepoint makes it; the server stops at the other's end only.
    #[error(
        "transaction {xid} is a part of transaction {of} and has no commit of its own: recover to {of} (`--xid {of}` of \
         `runbook pitr`, `recover_to_xid` of a procedure)"
    )]
    PartOf {
        /// The transaction.
        xid: u64,
        /// The one that it ended with.
        of: u32,
    },
    /// No WAL contains it, from the first backup on that could be begun with.
    #[error("no WAL that a recovery could replay contains {0}")]
    NotFound(Goal),
    /// There is no backup to begin with.
    #[error("no base backup leads to {0}")]
    NoBackup(Goal),
}

fn told(last: Option<&SegmentName>) -> String {
    last.map_or_else(|| "nothing".to_owned(), |last| format!("`{last}`"))
}

impl Refusal {
    /// Why the end of a transaction is no place to recover to: `xid` was asked for, with its epoch or without, and the record that
    /// ends it is of transaction `of`. `None` where that is a commit of its own.
    #[must_use]
    pub fn of_end(xid: u64, of: u32, committed: bool) -> Option<Self> {
        match committed {
            false => Some(Self::RolledBack(xid)),
            true => (of != without_epoch(xid)).then_some(Self::PartOf { xid, of }),
        }
    }

    /// What to do next.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::BeforeBackup { .. } => {
                Some("choose a backup that ended before the target (`backup.find` with `before`)")
            }
            Self::Several(_) => Some("say which one with `timeline`"),
            Self::Outlived { .. } => Some(
                "find out which of the two servers counts, and say its timeline: `runbook restore DATABASE --timeline NUMBER`, \
                 `-p timeline=NUMBER` of a procedure; `runbook backups map` shows what each holds",
            ),
            Self::Left { .. } => Some(
                "leave the backup to be chosen, or say the timeline that counts: `runbook restore DATABASE --timeline NUMBER`, \
                 `-p timeline=NUMBER` of a procedure; `runbook backups map` shows what each holds",
            ),
            Self::Unread { .. } => Some(
                "bring its key: `earlier` below `encryption` of the store names keys that are only read with; or say the timeline \
                 that counts: `runbook restore DATABASE --timeline NUMBER`, `-p timeline=NUMBER` of a procedure",
            ),
            Self::Hole { .. } => Some("bring the segment back, or recover to a target before the hole"),
            Self::Unclear { .. } => {
                Some("recover to the position at which it was left, or bring its last segment back")
            }
            Self::HistoryLost { .. } => Some(
                "it lies in `pg_wal` of every server of that timeline, also in data that was kept, and of its standbys: archive it by \
                 `runbook wal push` there; to do without what was committed on it, say an older timeline: `--timeline NUMBER`, \
                 `-p timeline=NUMBER` of a procedure",
            ),
            Self::NoWay { .. } => Some("`runbook backups map` shows which timelines lead on from which backup"),
            Self::BehindEnd { .. } => Some(
                "have the server finish its segment and archive it (`SELECT pg_switch_wal()`); recovering to the newest \
                     instead also replays all that came after",
            ),
            Self::HalfDropped { .. } => Some(
                "give that position, included, to have the database: `--lsn` of `runbook pitr`, `recover_to_lsn` of a \
                 procedure; to be rid of it, a target behind the end of the drop, or none: `runbook wal search --drops` shows it",
            ),
            Self::RolledBack(_) => {
                Some("none of its changes is in any state: give another transaction, a time or a position")
            }
            Self::PartOf { .. } => Some("all that it changed counts from that commit on"),
            Self::NotFound(_) => {
                Some("`runbook wal search` finds transactions and restore points; or give a time or a position")
            }
            Self::Backup { .. } | Self::NoBackup(_) => Some("`runbook backups map` shows what can be recovered"),
        }
    }
}
