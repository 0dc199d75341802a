//! Segments that the archive has although the server that wrote them was never told so.
//!
//! An earlier recovery archived the last segment of that server as far as it went, and was given up; the server was started
//! again and wrote on in it. The archive's copy is held against the server's own before anything is decided by it.

use std::path::PathBuf;

use serde_json::json;

use super::pushing::Pushing;
use super::rescue::{Rescued, Tail};
use crate::action::{ActionError, HostError, ReadFiles};
use crate::actions::postgres::stores::archive::WalArchive;
use crate::catalog::GivenUp;
use crate::pgformat::{SegmentName, SegmentScan, SegmentSize, Timeline, WalFileName};

/// How the server's copy of a segment stands to the archive's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acknowledgement {
    /// The archive has all that the server's copy proves.
    Held,
    /// The server's goes on where the archive's breaks off.
    GoesOn,
    /// The same, and another timeline has gone on from there: the server is one whose place was taken.
    Superseded(Timeline),
    /// They prove different records.
    Apart,
    /// The archive's cannot be read.
    Damaged(String),
}

impl Acknowledgement {
    fn of(segment: SegmentName, size: SegmentSize, (own, archived): (&[u8], &[u8])) -> Self {
        if own == archived {
            return Self::Held;
        }
        let (ours, theirs) = (SegmentScan::of(segment, size, own), SegmentScan::of(segment, size, archived));
        if !SegmentScan::agree((&ours, own), (&theirs, archived)) {
            return Self::Apart;
        }
        match theirs.halt.is_some() && ours.end > theirs.end {
            true => Self::GoesOn,
            false => Self::Held,
        }
    }

    /// What is worth saying where nothing is to be done about it.
    pub(crate) fn remark(&self, segment: SegmentName) -> Option<String> {
        let what = match self {
            Self::Held | Self::GoesOn => return None,
            Self::Superseded(timeline) => format!(
                "is unfinished in the archive, and another timeline has gone on from there ({timeline}): what the old server \
                 wrote in it since is not taken"
            ),
            Self::Apart => {
                "proves other records in the archive than in the old server's `pg_wal`: two servers wrote it, and the \
                 archive's is used"
                    .to_owned()
            }
            Self::Damaged(why) => format!("cannot be read from the archive ({why}), though the old server has it"),
        };
        Some(format!("warning: `{segment}` {what}"))
    }
}

/// Holds each of them against the archive.
///
/// # Errors
/// Fails when a store gives no answer, or the server's own cannot be read.
pub(crate) async fn acknowledgements(
    wal_archive: &WalArchive<'_>,
    tail: &Tail,
    files: &dyn ReadFiles,
) -> Result<Vec<(SegmentName, PathBuf, Acknowledgement)>, ActionError> {
    let mut all = Vec::new();
    if tail.untold.is_empty() {
        return Ok(all);
    }
    let (mut view, size) = (wal_archive.view().await?, wal_archive.size);
    if let Some(GivenUp { timeline, until }) = tail.given_up {
        view.give_up(timeline, until);
    }
    wal_archive.date_given_up(&mut view).await?;
    for (segment, path) in &tail.untold {
        let unread = |error: &HostError| ActionError::retryable("the old WAL cannot be read").because(error);
        let own = files.read(path, size.bytes()).map_err(|error| unread(&error))?;
        let left = view.successor(segment.timeline()).filter(|(_, at)| *at <= segment.end(size));
        let standing = match wal_archive.judge_segment(*segment).await? {
            Err(why) => Acknowledgement::Damaged(why),
            Ok(archived) => match (Acknowledgement::of(*segment, size, (&own, &archived)), left) {
                (Acknowledgement::GoesOn, Some((timeline, _))) => Acknowledgement::Superseded(timeline),
                (standing, _) => standing,
            },
        };
        all.push((*segment, path.clone(), standing));
    }
    Ok(all)
}

impl Pushing<'_> {
    /// Brings what the server wrote on into the archive, in the place of the unfinished copies.
    ///
    /// # Errors
    /// Fails when nothing can be told of a segment, or its copy in the archive does not give way; nothing was touched then.
    pub(crate) async fn catch_up(&self, tail: &Tail) -> Result<(), ActionError> {
        let (reporter, files) = (&self.context.cx.reporter, self.context.cx.host.read_files());
        let wal_archive = self.context.wal_archive(self.marker);
        for (segment, path, standing) in acknowledgements(&wal_archive, tail, files.as_ref()).await? {
            let data = json!({ "segment": segment.to_string() });
            if let Some(remark) = standing.remark(segment) {
                let advice = match standing {
                    Acknowledgement::Superseded(timeline) => format!(
                        "; if timeline {timeline} was abandoned and the old server had taken its place again: `runbook wal \
                         give-up {} --timeline {timeline}`, and recover again",
                        self.context.cluster.name
                    ),
                    Acknowledgement::Held
                    | Acknowledgement::GoesOn
                    | Acknowledgement::Apart
                    | Acknowledgement::Damaged(_) => String::new(),
                };
                reporter.note(format!("{remark}{advice}"), data);
                continue;
            }
            if standing == Acknowledgement::GoesOn {
                let name = WalFileName::Segment(segment);
                let whole = Rescued { name, path, newest_commit: None, oldest_commit: None };
                self.tell_lacking(&self.bring(&[whole]).await?);
                let message = format!(
                    "the archive had only the beginning of `{segment}`, which a recovery that was given up had rescued; now it \
                     has what the server wrote in it since"
                );
                reporter.note(message, data);
            }
        }
        Ok(())
    }
}
