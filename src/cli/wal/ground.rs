//! The WAL that a search walks: the part that was asked for, and what is before it where names are lacking.

use std::collections::{BTreeMap, BTreeSet};

use super::pg_wal::PgWal;
use super::status::chain as with_causes;
use crate::base::Timestamp;
use crate::catalog::recovery::Edge;
use crate::cli::recoverable::{ClusterView, LookError, Recoverable};
use crate::pgformat::{Lsn, SegmentName, Timeline};
use crate::wal::change_search::{Sighting, Wanted};
use crate::wal::outlook::Hunt;

/// How much WAL is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// What can hold commits between the two times.
    Window,
    /// All behind it as well: which file a relation had then is told by how it got those that followed.
    ToTheEnd,
}

impl Extent {
    /// The segments of a path that are walked, where `window` is the part that was asked for.
    pub(super) fn of<'a>(self, path: &'a [SegmentName], window: &'a [SegmentName]) -> &'a [SegmentName] {
        let begin = path.iter().position(|name| window.first() == Some(name));
        match (self, begin) {
            (Self::ToTheEnd, Some(begin)) => &path[begin..],
            (Self::Window, _) | (Self::ToTheEnd, None) => window,
        }
    }
}

/// The WAL that is walked.
pub(super) struct Ground<'a> {
    pub(super) found: &'a Recoverable,
    pub(super) cluster: &'a ClusterView,
    pub(super) path: &'a [SegmentName],
    pub(super) timeline: Timeline,
    /// The server, where what only it has is walked too.
    pub(super) live: Option<&'a mut PgWal>,
}

impl<'a> Ground<'a> {
    /// Searches, and once more where relations turn out to have had other files before. Notes what is worth knowing of it.
    pub(super) async fn hunt(&mut self, wanted: Wanted) -> Result<(Hunt, Vec<String>), LookError> {
        let (hunt, notes) = self.walk(wanted.clone()).await?;
        let earlier = hunt.earlier_files();
        let (Wanted::Relations(mut relations), false) = (wanted, earlier.is_empty()) else { return Ok((hunt, notes)) };
        let followed = followed_back(&earlier);
        relations.numbers.extend(earlier);
        let (again, notes) = self.walk(Wanted::Relations(relations)).await?;
        Ok((again, std::iter::once(followed).chain(notes).collect()))
    }

    /// Searches once more from further back, where the rows of what was dropped may lie: what was found, by its position. Where
    /// some of that cannot be read, from behind it on, with a note: what was found already stays found.
    pub(super) async fn earlier(
        &mut self,
        path: &'a [SegmentName],
        (wanted, between): (Wanted, Option<(Timestamp, Timestamp)>),
    ) -> (BTreeMap<Lsn, Sighting>, Option<String>) {
        let (walked, whole) = (self.path, before(path, self.path));
        let ahead = whole.len() - walked.len();
        if ahead == 0 {
            return (BTreeMap::new(), None);
        }
        let by_lsn = |hunt: Hunt| -> BTreeMap<Lsn, Sighting> {
            hunt.found(between).into_iter().map(|one| (one.lsn, one)).collect()
        };
        self.path = whole;
        let why = match self.hunt(wanted.clone()).await {
            Ok((hunt, _)) => return (by_lsn(hunt), None),
            Err(error) => error,
        };
        let begin = self.first_readable(&whole[..ahead]).await;
        self.path = &whole[begin..];
        let hunt = if begin < ahead { self.hunt(wanted).await.ok().map(|(hunt, _)| hunt) } else { None };
        let from = if hunt.is_some() { begin } else { ahead };
        let not_looked = |first: &SegmentName| {
            format!("names were not looked for in the WAL before `{first}`: {}", with_causes(&why))
        };
        (hunt.map(by_lsn).unwrap_or_default(), whole.get(from).filter(|_| from > 0).map(not_looked))
    }

    /// Behind how many of some segments those that are left can all be read.
    async fn first_readable(&self, segments: &[SegmentName]) -> usize {
        let mut begin = segments.len();
        while begin > 0 {
            let mut hunt = Hunt::of(Wanted::Drops, self.cluster.archive.size);
            if hunt.along((self.found, self.cluster), &segments[begin - 1..begin]).await.is_err() {
                break;
            }
            begin -= 1;
        }
        begin
    }

    async fn walk(&mut self, wanted: Wanted) -> Result<(Hunt, Vec<String>), LookError> {
        let mut hunt = Hunt::of(wanted, self.cluster.archive.size);
        hunt.along((self.found, self.cluster), self.path).await?;
        let beyond = match &mut self.live {
            Some(live) => live.hunt(&mut hunt, self.timeline).await,
            None => Ok(()),
        };
        let unread = |why| format!("what only the server has was not searched: {why}");
        Ok((hunt, beyond.err().map(unread).into_iter().collect()))
    }
}

/// The segments that were walked, and those before them that may have the rows of what was dropped: as many as a server
/// with the default of `max_wal_size` writes between two checkpoints of segments of 16 MiB.
fn before<'a>(path: &'a [SegmentName], walked: &[SegmentName]) -> &'a [SegmentName] {
    const SEGMENTS: usize = 64;
    let begin = path.iter().position(|name| walked.first() == Some(name)).unwrap_or_default();
    &path[begin.saturating_sub(SEGMENTS)..begin + walked.len()]
}

fn followed_back(earlier: &BTreeSet<u32>) -> String {
    let files = earlier.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "it got a new file by TRUNCATE or a rewrite: what was removed with its earlier ones was searched too ({files}); that \
         may hold rows of its TOAST table, and of tables that were truncated or rewritten in the same transaction"
    )
}

/// The segments that can hold commits between two times.
pub(super) async fn narrow<'a>(
    found: &Recoverable,
    cluster: &ClusterView,
    path: &'a [SegmentName],
    between: Option<(Timestamp, Timestamp)>,
) -> Result<&'a [SegmentName], LookError> {
    let Some((from, to)) = between else { return Ok(path) };
    let commit_times = found.commit_times(cluster.system_id, cluster.archive.size);
    let index = |name: SegmentName| path.iter().position(|one| *one == name);
    // A clock may step back, and a transaction begins before it commits: a little more on both sides.
    let first = commit_times.stop_for(path, (from, Edge::Included)).await?.and_then(|stop| index(stop.segment));
    let Some(first) = first else { return Ok(&path[path.len().saturating_sub(2)..]) };
    let last = commit_times.stop_for(path, (to, Edge::Included)).await?.and_then(|stop| index(stop.segment));
    Ok(&path[first.saturating_sub(2)..=last.map_or(path.len() - 1, |last| (last + 1).min(path.len() - 1))])
}
