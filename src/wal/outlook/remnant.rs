//! WAL that the archive does not have and the server still does: what a recovery rescues first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::super::UnarchivedSegments;
use super::ClusterView;
use crate::action::ReadFiles;
use crate::base::Timestamp;
use crate::catalog::GivenUp;
use crate::catalog::recovery::{Archive, Branch, Goal, LastCommit};
use crate::pgformat::{Commit, Lsn, SegmentHeader, SegmentName, SystemId, Timeline};

/// What only the server has.
pub struct Remnant {
    /// Its cluster.
    pub system_id: SystemId,
    /// Its segments beyond the archive, each with its file.
    pub segments: BTreeMap<SegmentName, PathBuf>,
    /// Those of them of which the archive has the beginning: a recovery that was given up had rescued it.
    pub begun: BTreeSet<SegmentName>,
    /// Timelines whose history only it has.
    pub branches: BTreeMap<Timeline, Branch>,
    /// The timeline that an unfinished recovery opened too early, whose data directory the server's is.
    pub given_up: Option<GivenUp>,
    /// The newest commit in each of the segments that hold one.
    pub newest: BTreeMap<SegmentName, LastCommit>,
    /// Where what it had flushed cannot be read any more.
    pub tear: Option<Tear>,
    /// What reads them.
    pub files: Arc<dyn ReadFiles>,
}

/// Where the server's own WAL breaks off although it had gone on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tear {
    /// What is lost, in words.
    pub words: String,
    /// Up to where it is proven.
    pub proven: Lsn,
    /// The last segment that was begun.
    pub latest: SegmentName,
}

impl Tear {
    /// Says that a recovery to a goal will be refused for it, where replay would end there for want of more.
    pub(super) fn note(
        &self,
        (asked, told): (&Goal, &Goal),
        (archive, followed): (&Archive, Timeline),
    ) -> Option<String> {
        let counts = archive.path(followed).holds(self.latest) && !archive.holds(self.latest);
        let reached = matches!(asked, Goal::Lsn(lsn) if *lsn <= self.proven);
        (counts && *told == Goal::Newest && !reached).then(|| {
            let Self { words, proven, .. } = self;
            format!("{words}; as things stand, the recovery will be refused: it leads to `{proven}` at most")
        })
    }
}

/// What of it the archive does not have.
#[derive(Clone, Copy)]
pub(super) struct BeyondArchive<'a> {
    /// What only the server has; `None` where that is nothing.
    pub(super) remnant: Option<&'a Remnant>,
    /// What the archive has.
    pub(super) archive: &'a Archive,
}

impl UnarchivedSegments for BeyondArchive<'_> {
    fn has(&self, name: SegmentName) -> bool {
        self.remnant.is_some_and(|remnant| remnant.goes_beyond(self.archive, name))
    }

    fn read(&self, name: SegmentName) -> Option<Vec<u8>> {
        self.remnant?.segment(name)
    }
}

impl Remnant {
    /// Tells whether it has more of a segment than the archive.
    pub(super) fn goes_beyond(&self, archive: &Archive, name: SegmentName) -> bool {
        self.segments.contains_key(&name) && (self.begun.contains(&name) || !archive.holds(name))
    }

    /// Counts it as what replay will find beside the archive.
    pub(super) fn join(&self, cluster: &mut ClusterView) {
        if cluster.system_id != self.system_id {
            return;
        }
        cluster.archive.aside.extend(self.segments.keys());
        for (timeline, branch) in &self.branches {
            cluster.archive.branches.entry(*timeline).or_insert_with(|| branch.clone());
        }
        if let Some(GivenUp { timeline, until }) = self.given_up {
            cluster.archive.give_up(timeline, until);
        }
    }

    /// Adds its newest commits to what is known of each timeline's end.
    pub(super) fn seen_by(&self, cluster: &mut ClusterView) {
        if cluster.system_id != self.system_id {
            return;
        }
        for (name, commit) in &self.newest {
            cluster.archive.saw(name.timeline(), *commit);
        }
    }

    /// Adds when its timelines were last written to.
    pub(super) fn lives_in(&self, cluster: &mut ClusterView) {
        if cluster.system_id == self.system_id {
            for (name, commit) in &self.newest {
                cluster.archive.wrote(name.timeline(), commit.at);
            }
        }
    }

    /// The later of a commit of the archive and the newest of its own on a path.
    pub(super) fn newest_commit(&self, archived: Option<Commit>, path: &[SegmentName]) -> Option<Timestamp> {
        let own = path.iter().filter_map(|name| self.newest.get(name)).map(|commit| commit.at).max();
        own.max(archived.map(|commit| commit.at))
    }

    /// Reads one of its segments; `None` for what is not there any more, or is another one by now.
    pub(super) fn segment(&self, name: SegmentName) -> Option<Vec<u8>> {
        let bytes = self.files.read(self.segments.get(&name)?, 1 << 30).ok()?;
        let header = SegmentHeader::parse(&bytes).ok()?;
        let is_it = header.system_id == self.system_id && header.check(name, bytes.len() as u64).is_ok();
        is_it.then_some(bytes)
    }
}
