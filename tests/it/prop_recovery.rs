//! The model of what can be recovered, held against one that tries everything.

use std::collections::BTreeSet;

use proptest::prelude::*;
use runbook::base::Timestamp;
use runbook::catalog::recovery::{Archive, Base, BaseBackup, Branch, Edge, Goal, Seen, Segment, lanes};
use runbook::pgformat::{Lsn, SegmentName, SegmentSize, SystemId, Timeline, TimelineHistory};

/// Segments of a megabyte, numbered from 1.
const LAST: u64 = 8;

fn size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

fn at(number: u64, offset: u64) -> Lsn {
    Lsn(number * size().bytes() + offset)
}

/// A timeline: its parent, and where it left it.
#[derive(Debug, Clone)]
struct Told {
    parent: usize,
    fork: Lsn,
}

#[derive(Debug, Clone)]
struct World {
    /// Timeline `n + 2` is the `n`th of them; 1 is the root.
    children: Vec<Told>,
    stored: BTreeSet<(u32, u64)>,
    bases: Vec<(Base, bool)>,
}

impl World {
    /// Ancestors of a timeline with where each was left, oldest first.
    fn ancestors(&self, timeline: u32) -> Vec<(u32, Lsn)> {
        let Some(told) = usize::try_from(timeline).ok().and_then(|t| t.checked_sub(2)).map(|n| &self.children[n])
        else {
            return Vec::new();
        };
        let parent = u32::try_from(told.parent).unwrap() + 1;
        let mut all = self.ancestors(parent);
        all.push((parent, told.fork));
        all
    }

    fn timelines(&self) -> impl Iterator<Item = u32> {
        1..=u32::try_from(self.children.len()).unwrap() + 1
    }

    fn fork(&self, timeline: u32) -> Lsn {
        self.ancestors(timeline).last().map(|(_, fork)| *fork).unwrap_or_default()
    }

    /// Whose copy of a segment a server on the way to `timeline` reads.
    fn copy(&self, timeline: u32, number: u64) -> u32 {
        let mut own = timeline;
        for (ancestor, fork) in self.ancestors(timeline).iter().rev() {
            if number >= fork.0 / size().bytes() {
                return own;
            }
            own = *ancestor;
        }
        own
    }

    fn leads(&self, base: &Base, timeline: u32) -> bool {
        base.timeline.0 == timeline
            || self.ancestors(timeline).iter().any(|(one, fork)| *one == base.timeline.0 && base.stop <= *fork)
    }

    /// Whether `lsn` of `timeline` can be had with a backup: tries every timeline that shares it.
    fn can(&self, (base, embeds): &(Base, bool), timeline: u32, lsn: Lsn) -> bool {
        let shares = |one: &u32| {
            *one == timeline || self.ancestors(*one).iter().any(|(parent, fork)| *parent == timeline && lsn <= *fork)
        };
        let first = base.start.0 / size().bytes();
        let there = |by: u32, number: u64| {
            let copy = self.copy(by, number);
            let inside = *embeds && copy == base.timeline.0 && number <= (base.stop.0 - 1) / size().bytes();
            inside || self.stored.contains(&(copy, number))
        };
        self.leads(base, timeline)
            && base.stop <= lsn
            && self.timelines().filter(shares).any(|by| (first..=(lsn.0 - 1) / size().bytes()).all(|n| there(by, n)))
    }

    fn archive(&self) -> Archive {
        let mut archive = Archive::empty(size());
        for (timeline, number) in &self.stored {
            let name = SegmentName::new(Timeline(*timeline), *number, size());
            archive.segments.insert(name, Segment::whole(size().bytes()));
        }
        for timeline in self.timelines().skip(1) {
            let lines: Vec<String> =
                self.ancestors(timeline).iter().map(|(one, fork)| format!("{one}\t{fork}\tx\n")).collect();
            let history = TimelineHistory::parse(Timeline(timeline), &lines.concat()).unwrap();
            archive.branches.insert(Timeline(timeline), Branch { history, created_at: Timestamp::UNIX_EPOCH });
            archive.promoted.insert(Timeline(timeline), Timestamp::UNIX_EPOCH);
        }
        archive
    }

    fn backups(&self) -> Vec<BaseBackup> {
        let numbers = |base: &Base| base.start.0 / size().bytes()..=(base.stop.0 - 1) / size().bytes();
        let backup = |(index, (base, embeds)): (usize, &(Base, bool))| BaseBackup {
            kind: "postgres.base".to_owned(),
            tablespaces: Vec::new(),
            id: index.to_string(),
            system_id: SystemId(1),
            base: *base,
            embedded: match embeds {
                true => numbers(base).map(|number| SegmentName::new(base.timeline, number, size())).collect(),
                false => BTreeSet::new(),
            },
            chain: vec![index.to_string()],
            stored_bytes: 0,
            plain_bytes: 0,
            fault: None,
        };
        self.bases.iter().enumerate().map(backup).collect()
    }

    /// Every position at which something may change, and one inside each segment.
    fn probes(&self) -> BTreeSet<Lsn> {
        let forks = self.children.iter().flat_map(|told| [told.fork, Lsn(told.fork.0 + 1), Lsn(told.fork.0 - 1)]);
        let stops = self.bases.iter().flat_map(|(base, _)| [base.stop, Lsn(base.stop.0 - 1)]);
        let segments = (1..=LAST + 1).flat_map(|number| [at(number, 0), at(number, 1), at(number, 700_000)]);
        forks.chain(stops).chain(segments).collect()
    }
}

fn world() -> impl Strategy<Value = World> {
    let child = (any::<prop::sample::Index>(), 2..LAST, prop::bool::ANY);
    let base = (any::<prop::sample::Index>(), 1..LAST, 0..2_u64, prop::bool::ANY);
    let stored = prop::collection::vec(prop::bool::weighted(0.85), 4 * 8);
    (prop::collection::vec(child, 0..4), stored, prop::collection::vec(base, 1..4)).prop_map(
        |(children, mask, bases)| {
            let mut world = World { children: Vec::new(), stored: BTreeSet::new(), bases: Vec::new() };
            for (index, (parent, number, inside)) in children.into_iter().enumerate() {
                let parent = parent.index(index + 1);
                let begin = world.fork(u32::try_from(parent).unwrap() + 1);
                let fork = at(number, if inside { 0x8000 } else { 0 });
                world.children.push(Told { parent, fork: fork.max(begin) });
            }
            let timelines: Vec<u32> = world.timelines().collect();
            for timeline in &timelines {
                for number in (world.fork(*timeline).0 / size().bytes()).max(1)..=LAST {
                    let index = (usize::try_from(*timeline).unwrap() - 1) * 8 + usize::try_from(number - 1).unwrap();
                    if mask[index] {
                        world.stored.insert((*timeline, number));
                    }
                }
            }
            for (timeline, number, more, embeds) in bases {
                let timeline = timelines[timeline.index(timelines.len())];
                let start = at(number, 0x28).max(Lsn(world.fork(timeline).0 + 0x28));
                let stop = Lsn(start.0 + more * size().bytes() + 0x100);
                let base = Base { timeline: Timeline(timeline), start, stop, ended_at: Timestamp::UNIX_EPOCH };
                world.bases.push((base, embeds));
            }
            world
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn the_intervals_of_every_timeline_are_what_trying_everything_finds(world in world()) {
        let lanes = lanes(&world.archive(), &world.backups());
        for lane in &lanes {
            let timeline = lane.timeline.0;
            for lsn in world.probes().into_iter().filter(|lsn| *lsn > world.fork(timeline)) {
                let found = lane.intervals.iter().any(|interval| interval.contains(lsn));
                let truth = world.bases.iter().any(|base| world.can(base, timeline, lsn));
                prop_assert_eq!(found, truth, "timeline {} at {}: {:#?}", timeline, lsn, lane);
                let in_gap = lane.gaps.iter().any(|gap| gap.from < lsn && lsn < gap.to);
                prop_assert!(!(in_gap && truth), "a gap at {} that is none: {:#?}", lsn, lane);
            }
            for pair in lane.intervals.windows(2) {
                prop_assert!(pair[0].to < pair[1].from);
                let between = |gap: &runbook::catalog::recovery::Gap| gap.from == pair[0].to && gap.to == pair[1].from;
                prop_assert!(lane.gaps.iter().any(between), "no gap told: {:#?}", lane);
            }
        }
    }

    #[test]
    fn a_way_to_a_position_is_found_exactly_when_there_is_one(world in world()) {
        let archive = world.archive();
        for (backup, base) in world.backups().iter().zip(&world.bases) {
            let with_own = archive.with(backup);
            let archive = with_own.as_ref().unwrap_or(&archive);
            for timeline in world.timelines().filter(|one| world.leads(&base.0, *one)) {
                for lsn in world.probes().into_iter().filter(|lsn| *lsn > world.fork(timeline)) {
                    let goal = Goal::Lsn(lsn);
                    let way = archive.way(&goal, base.0, Some(Timeline(timeline)));
                    let settled = way.clone().and_then(|way| way.settle(&goal, Edge::Included, Seen::default()));
                    let truth = world.can(base, timeline, lsn);
                    prop_assert_eq!(settled.is_ok(), truth, "timeline {} to {}: {:?} {:?}", timeline, lsn, way, settled);
                }
            }
        }
    }

    #[test]
    fn a_goal_behind_the_end_of_a_timeline_that_is_named_gives_all_of_it_and_nothing_of_another(world in world()) {
        let archive = world.archive();
        for (backup, base) in world.backups().iter().zip(&world.bases) {
            let with_own = archive.with(backup);
            let archive = with_own.as_ref().unwrap_or(&archive);
            for timeline in world.timelines().filter(|one| world.leads(&base.0, *one)) {
                for goal in [Goal::Time(Timestamp::MAX), Goal::Newest] {
                    let way = archive.way(&goal, base.0, Some(Timeline(timeline)));
                    let Ok((way, settled)) = way.and_then(|way| way.settle(&goal, Edge::Included, Seen::default()).map(|it| (way, it)))
                    else {
                        continue;
                    };
                    let end = settled.end.unwrap();
                    let had = |lsn: &Lsn| *lsn > world.fork(timeline) && world.can(base, timeline, *lsn);
                    let furthest = world.probes().into_iter().filter(had).max();
                    prop_assert!(furthest <= Some(end), "{:?} of {} can be had, told is {}", furthest, timeline, end);
                    let shared = |(one, fork): &(u32, Lsn)| *one == timeline && end <= *fork;
                    let is_its_own = way.followed.0 == timeline || world.ancestors(way.followed.0).iter().any(shared);
                    prop_assert!(is_its_own, "{:?} goes on behind the fork: {:?}", way, settled);
                }
            }
        }
    }
}
