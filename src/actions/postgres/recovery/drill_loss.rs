//! What a drill would have lost: the live server's WAL that nobody has archived yet tells it.
//!
//! The archive of a database on which nobody works ends at its last commit, however long ago that was. Only the server
//! itself can say that nothing came after it. A drill has that server at hand, and reads its `pg_wal` without touching it.

use std::collections::BTreeSet;

use super::rescue::{Rescued, Tail, tail_of};
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::marker::{Marker, Remains};
use crate::base::Timestamp;
use crate::pgformat::{SegmentName, SegmentSize, WalFileName};

/// Asks the live server's `pg_wal` what lies beyond `last`, the last segment that the archive gives. `None`: it cannot
/// be read, or does not lead on from there, so it tells nothing.
pub(crate) async fn remains(
    context: &RecoveryContext<'_>,
    marker: &Marker,
    last: Option<SegmentName>,
) -> Option<Remains> {
    let last = last?;
    let folder = context.cluster.entry.live.as_ref()?.join("pg_wal");
    let archived: BTreeSet<WalFileName> = context.wal_archive(marker).names().await.ok()?.into_keys().collect();
    let (files, size) = (context.cx.host.read_files(), marker.segment_size);
    let tail = tail_of((marker.system_id, size), archived, (files, folder)).await.ok()?.ok()?;
    told(&tail, (last, size), context.cx.about.incident_at)
}

fn told(tail: &Tail, (last, size): (SegmentName, SegmentSize), incident_at: Timestamp) -> Option<Remains> {
    let number = |file: &Rescued| match file.name {
        WalFileName::Segment(name) if name.timeline() == last.timeline() => Some(name.number(size)),
        WalFileName::Segment(_)
        | WalFileName::PartialSegment(_)
        | WalFileName::History(_)
        | WalFileName::BackupHistory { .. } => None,
    };
    let end = last.number(size);
    let beyond: Vec<&Rescued> = tail.files.iter().filter(|file| number(file).is_some_and(|at| at > end)).collect();
    if beyond.iter().filter_map(|file| number(file)).min() != Some(end + 1) {
        return None;
    }
    let oldest = beyond.iter().filter_map(|file| file.oldest_commit).min();
    Some(oldest.filter(|at| *at <= incident_at).map_or(Remains::Nothing, Remains::Since))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;
    use crate::catalog::recovery::LastCommit;
    use crate::pgformat::Lsn;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn tail(files: &[(&str, Option<&str>)]) -> Tail {
        let file = |(name, commit): &(&str, Option<&str>)| Rescued {
            name: name.parse().unwrap(),
            path: name.into(),
            newest_commit: commit.map(at).map(|at| LastCommit { at, lsn: Lsn::ZERO }),
            oldest_commit: commit.map(at),
        };
        Tail { files: files.iter().map(file).collect(), ..Tail::default() }
    }

    fn judged(files: &[(&str, Option<&str>)]) -> Option<Remains> {
        let last: SegmentName = "000000010000000000000004".parse().unwrap();
        told(&tail(files), (last, SegmentSize::new(16 << 20).unwrap()), at("2026-01-28T14:30:00Z"))
    }

    #[test]
    fn wal_without_a_commit_before_the_incident_is_no_loss() {
        assert_eq!(judged(&[("000000010000000000000005", None)]), Some(Remains::Nothing));
        let later = [("000000010000000000000005", Some("2026-01-28T14:30:01Z"))];
        assert_eq!(judged(&later), Some(Remains::Nothing));
        let lost = [("000000010000000000000005", None), ("000000010000000000000006", Some("2026-01-28T14:29:00Z"))];
        assert_eq!(judged(&lost), Some(Remains::Since(at("2026-01-28T14:29:00Z"))));
    }

    #[test]
    fn wal_that_does_not_lead_on_from_the_archive_tells_nothing() {
        assert_eq!(judged(&[]), None);
        assert_eq!(judged(&[("000000010000000000000006", None)]), None);
        assert_eq!(judged(&[("000000020000000000000005", None)]), None);
        let known = [("000000010000000000000004", Some("2026-01-28T14:00:00Z")), ("000000010000000000000005", None)];
        assert_eq!(judged(&known), Some(Remains::Nothing));
    }
}
