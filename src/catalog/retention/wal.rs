//! Which archived segments no kept backup can use.
//!
//! A segment stays when it makes a kept backup consistent, when it leads on from one that every point in time
//! is promised from, or when it is younger than the policy says. History files always stay; they are no segments.
//! In a store that gets the WAL of a cluster and none of its backups those of all other stores count, each of them.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::is_future;
use super::{Candidate, ClusterSpan, Elsewhere, Kept, Policy, Survey, WalSegment};
use crate::base::Timestamp;
use crate::language::inventory::Retention;
use crate::pgformat::{SegmentName, SegmentSize, SystemId};

/// What of the WAL goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WalPlan {
    /// Stretches without a gap, by cluster and timeline.
    pub remove: Vec<WalRange>,
    /// Clusters of which nothing goes, and why.
    pub spared: Vec<(SystemId, WalWhy)>,
}

/// Consecutive segments of one timeline that go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalRange {
    /// The cluster.
    pub system_id: SystemId,
    /// The first of them.
    pub first: SegmentName,
    /// The last of them.
    pub last: SegmentName,
    /// How many.
    pub segments: u64,
    /// Their sizes together, as stored.
    pub size_bytes: u64,
    /// Why nothing needs them.
    pub why: String,
}

/// Why nothing of a cluster's WAL goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalWhy {
    /// No backup of it is kept, so nothing says what is needed.
    NoBackup,
    /// A manifest cannot be read, so nothing says what that backup needs.
    DamagedManifest,
    /// Its backups name different sizes of segments, so nothing says where a segment begins.
    SegmentSizes,
    /// Its backups lie in other stores, and what those need cannot be told.
    Elsewhere(String),
}

impl WalWhy {
    /// The reason for people.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::NoBackup => "no backup of this cluster is kept, so nothing says which of its WAL is needed",
            Self::DamagedManifest => "a manifest cannot be read, so nothing says which WAL that backup needs",
            Self::SegmentSizes => "its backups name different sizes of segments, so nothing says where one begins",
            Self::Elsewhere(why) => why,
        }
    }
}

impl WalRange {
    /// Tells whether a segment belongs to it.
    #[must_use]
    pub fn contains(&self, system_id: SystemId, segment: SegmentName) -> bool {
        self.system_id == system_id
            && segment.timeline() == self.first.timeline()
            && (self.first..=self.last).contains(&segment)
    }
}

/// What of the WAL goes. `now` tells which backups are dated in the future: no time is counted from them.
pub(super) fn plan(survey: &Survey, keep: &[Kept], policy: &Policy, now: Timestamp) -> WalPlan {
    let mut plan = WalPlan::default();
    for (system_id, segments) in &survey.wal {
        if !survey.damaged.is_empty() {
            plan.spared.push((*system_id, WalWhy::DamagedManifest));
            continue;
        }
        let kept = of_cluster(*system_id, keep.iter().map(|kept| &kept.backup));
        let judged = match (kept.is_empty(), survey.elsewhere.get(system_id)) {
            (true, Some(elsewhere)) => by_others(*system_id, (segments, elsewhere), (policy, now)),
            (true, None) | (false, _) => by_kept(*system_id, (segments, &kept, segments), (policy, now)),
        };
        match judged {
            Ok(ranges) => plan.remove.extend(ranges),
            Err(why) => plan.spared.push((*system_id, why)),
        }
    }
    plan
}

fn of_cluster<'a>(
    system_id: SystemId,
    backups: impl Iterator<Item = &'a Candidate>,
) -> Vec<(&'a Candidate, ClusterSpan)> {
    let spans = backups.filter_map(|backup| Some((backup, backup.cluster?)));
    spans.filter(|(_, span)| span.system_id == system_id).collect()
}

/// What goes where the backups of the cluster lie in other stores. All of them count: what their own stores will do with
/// them is not known here.
fn by_others(
    system_id: SystemId,
    (segments, elsewhere): (&[WalSegment], &Elsewhere),
    (policy, now): (&Policy, Timestamp),
) -> Result<Vec<WalRange>, WalWhy> {
    let (backups, wal) = match elsewhere {
        Elsewhere::Unknown(why) => return Err(WalWhy::Elsewhere(why.clone())),
        Elsewhere::Known { backups, wal } => (backups, wal),
    };
    if let Some(ahead) = backups.iter().find(|backup| is_future(backup, now)) {
        let why = format!("backup `{}` in another store ended in the future, so the time is in doubt", ahead.id);
        return Err(WalWhy::Elsewhere(why));
    }
    // Which timelines are written, the store that has the latest tells.
    let known = [segments, wal].concat();
    by_kept(system_id, (segments, &of_cluster(system_id, backups.iter()), &known), (policy, now))
}

/// What goes where these backups are kept. `known` are all segments there are, wherever they lie.
fn by_kept(
    system_id: SystemId,
    (segments, kept, known): (&[WalSegment], &[(&Candidate, ClusterSpan)], &[WalSegment]),
    (policy, now): (&Policy, Timestamp),
) -> Result<Vec<WalRange>, WalWhy> {
    let sizes: BTreeSet<u64> = kept.iter().map(|(_, span)| span.segment_size.bytes()).collect();
    match sizes.len() {
        0 => Err(WalWhy::NoBackup),
        1 => Ok(ranges(system_id, segments, &Needs::of(kept, known, (policy, now)))),
        _ => Err(WalWhy::SegmentSizes),
    }
}

/// What the kept backups of one cluster need.
struct Needs {
    /// Each of them, to become consistent.
    spans: Vec<ClusterSpan>,
    /// Those from which every later point in time is promised.
    open: Vec<ClusterSpan>,
    /// Segments archived since then stay in any case.
    young_from: Option<Timestamp>,
    /// The size of a segment.
    segment_size: SegmentSize,
}

impl Needs {
    /// What any environment that keeps one of them needs.
    fn of(kept: &[(&Candidate, ClusterSpan)], segments: &[WalSegment], (policy, now): (&Policy, Timestamp)) -> Self {
        let environments: BTreeSet<Option<&str>> =
            kept.iter().map(|(backup, _)| backup.environment.as_deref()).collect();
        let theirs = environments.into_iter().map(|environment| policy.for_environment(environment));
        let mut needs = Self::under((kept, segments), Some(&policy.own), now);
        for other in theirs.map(|retention| Self::under((kept, segments), retention, now)) {
            needs.open.extend(other.open);
            needs.young_from = [needs.young_from, other.young_from].into_iter().flatten().min();
        }
        needs
    }

    /// What one retention needs; without one, all that leads on from any of them.
    fn under(
        (kept, segments): (&[(&Candidate, ClusterSpan)], &[WalSegment]),
        retention: Option<&Retention>,
        now: Timestamp,
    ) -> Self {
        let spans: Vec<ClusterSpan> = kept.iter().map(|(_, span)| *span).collect();
        let segment_size = spans.first().map_or(SegmentSize::DEFAULT, |span| span.segment_size);
        let within = retention.and_then(|retention| Some((retention, retention.wal.as_ref()?.keep_within?)));
        let dated = kept.iter().filter(|(backup, _)| backup.is_sound() && !is_future(backup, now));
        let newest = dated.map(|(backup, _)| backup.ended_at).max();
        let (Some((retention, age)), Some(newest)) = (within, newest) else {
            return Self { open: spans.clone(), spans, young_from: None, segment_size };
        };
        let from = age.before(newest, retention.zone().as_tz());
        // The window begins inside what the last backup before it leads on from. One below whose end a timeline branched
        // off that is written in the window leads on to nothing of that.
        let written = segments.iter().filter(|one| one.archived_at >= from).map(|one| one.name.timeline()).max();
        let is_left = |span: &ClusterSpan| {
            let leaves = span.timeline.0.saturating_add(1)..=written.map_or(0, |timeline| timeline.0);
            let branch = |one: &WalSegment| leaves.contains(&one.name.timeline().0);
            segments.iter().any(|one| branch(one) && one.name.start(segment_size) < span.stop)
        };
        let bases = kept.iter().filter(|(backup, span)| backup.is_sound() && backup.ended_at <= from && !is_left(span));
        let begin = bases.map(|(backup, _)| backup.ended_at).max();
        let is_open = |backup: &Candidate| begin.is_none_or(|begin| backup.ended_at >= begin);
        let open = kept.iter().filter(|(backup, _)| is_open(backup)).map(|(_, span)| *span).collect();
        Self { spans, open, young_from: Some(from), segment_size }
    }

    /// Tells whether anything that is kept can use a segment. A later timeline may have branched off an earlier one.
    fn use_it(&self, segment: &WalSegment) -> bool {
        let (start, end) = (segment.name.start(self.segment_size), segment.name.end(self.segment_size));
        let timeline = segment.name.timeline();
        let completes = |span: &ClusterSpan| span.timeline == timeline && end > span.start && start < span.stop;
        let leads_on = |span: &ClusterSpan| timeline >= span.timeline && end > span.start;
        self.young_from.is_some_and(|from| segment.archived_at >= from)
            || self.spans.iter().any(completes)
            || self.open.iter().any(leads_on)
            || !segment.name.fits(self.segment_size)
    }
}

fn ranges(system_id: SystemId, segments: &[WalSegment], needs: &Needs) -> Vec<WalRange> {
    let sorted: BTreeMap<SegmentName, &WalSegment> = segments.iter().map(|segment| (segment.name, segment)).collect();
    let first_open = needs.open.iter().map(|span| span.start).min();
    let mut ranges: Vec<WalRange> = Vec::new();
    for (name, segment) in sorted.into_iter().filter(|(_, segment)| !needs.use_it(segment)) {
        match ranges.last_mut().filter(|range| range.last.next(needs.segment_size) == name) {
            Some(range) => {
                range.last = name;
                range.segments += 1;
                range.size_bytes += segment.size_bytes;
            }
            None => {
                let older = needs
                    .spans
                    .iter()
                    .any(|span| span.timeline == name.timeline() && span.stop <= name.start(needs.segment_size));
                let why = match (older, first_open) {
                    (true, Some(open)) => {
                        format!("between kept backups, before {open}, from where every moment is kept")
                    }
                    (_, Some(open)) => format!("before {open}, where the oldest backup that needs later WAL begins"),
                    (_, None) => "no kept backup leads on to it".to_owned(),
                };
                let (first, last, segments, size_bytes) = (name, name, 1, segment.size_bytes);
                ranges.push(WalRange { system_id, first, last, segments, size_bytes, why });
            }
        }
    }
    ranges
}
