//! Segments that the archive has although the server that wrote them was never told so.
//!
//! An earlier recovery archived the last segment of that server as far as it went, and was given up; the server was started
//! again and wrote on in it. The archive's copy is held against the server's own before anything is decided by it.

use serde_json::json;

use super::hands::Hands;
use super::pushing::Pushing;
use super::rescue::{Rescued, Tail};
use crate::action::{ActionError, HostError};
use crate::pgformat::{SegmentName, SegmentScan, SegmentSize, WalFileName};

/// How the server's copy of a segment stands to the archive's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The archive has all that the server's copy proves.
    Held,
    /// The server's goes on where the archive's breaks off.
    GoesOn,
    /// They prove different records.
    Apart,
}

impl Standing {
    fn of(segment: SegmentName, size: SegmentSize, (own, archived): (&[u8], &[u8])) -> Self {
        if own == archived {
            return Self::Held;
        }
        let (ours, theirs) = (SegmentScan::of(segment, size, own), SegmentScan::of(segment, size, archived));
        let shared = ours.end.min(theirs.end).0.saturating_sub(ours.start.0);
        let shared = usize::try_from(shared).unwrap_or(usize::MAX);
        match (own.get(..shared), archived.get(..shared)) {
            (Some(own), Some(archived)) if own == archived => match theirs.halt.is_some() && ours.end > theirs.end {
                true => Self::GoesOn,
                false => Self::Held,
            },
            _ => Self::Apart,
        }
    }
}

impl Pushing<'_> {
    /// Brings what the server wrote on into the archive, in the place of the unfinished copies.
    ///
    /// # Errors
    /// Fails when a segment cannot be read, or its copy in the archive does not give way; nothing was touched then.
    pub(crate) async fn catch_up(&self, tail: &Tail) -> Result<(), ActionError> {
        let Hands { cx, .. } = self.hands;
        let size = self.marker.segment_size;
        for (segment, path) in &tail.untold {
            let unread = |error: &HostError| ActionError::retryable("the old WAL cannot be read").because(error);
            let own = cx.host.read_files().read(path, size.bytes()).map_err(|error| unread(&error))?;
            let archived = self.hands.shelf(self.marker).segment(*segment).await?;
            match Standing::of(*segment, size, (&own, &archived)) {
                Standing::Held => {}
                Standing::GoesOn => {
                    let name = WalFileName::Segment(*segment);
                    let whole = Rescued { name, path: path.clone(), newest_commit: None, oldest_commit: None };
                    let tail = Tail { files: vec![whole], ..Tail::default() };
                    self.bring(&tail).await?;
                    let message = format!(
                        "the archive had only the beginning of `{segment}`, which a recovery that was given up had rescued; \
                         now it has what the server wrote in it since"
                    );
                    cx.reporter.note(message, json!({ "segment": segment.to_string() }));
                }
                Standing::Apart => {
                    let message = format!(
                        "warning: `{segment}` of the archive and of the old server prove different records: the archive's is \
                         used; two servers wrote it"
                    );
                    cx.reporter.note(message, json!({ "segment": segment.to_string() }));
                }
            }
        }
        Ok(())
    }
}
