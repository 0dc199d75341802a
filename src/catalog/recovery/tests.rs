#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
use std::collections::BTreeSet;

use super::*;
use crate::base::Timestamp;
use crate::pgformat::{Lsn, SegmentName, SegmentSize, SystemId, Timeline, TimelineHistory};

fn at(text: &str) -> Timestamp {
    format!("2026-01-28T{text}:00Z").parse().unwrap()
}

fn lsn(segment: u64) -> Lsn {
    Lsn(segment << 24)
}

fn base() -> Base {
    Base { timeline: Timeline(1), start: lsn(2), stop: Lsn(lsn(2).0 + 256), ended_at: at("10:00") }
}

fn branch(timeline: u32, history: &str, created: &str) -> (Timeline, Branch) {
    let history = TimelineHistory::parse(Timeline(timeline), history).unwrap();
    (Timeline(timeline), Branch { history, created_at: at(created) })
}

fn last(segment: u64, text: &str) -> LastCommit {
    LastCommit { at: at(text), lsn: lsn(segment) }
}

fn archive(branches: Vec<(Timeline, Branch)>, segments: &[(u32, u64)]) -> Archive {
    let size = SegmentSize::DEFAULT;
    let mut archive = Archive::empty(size);
    archive.branches = branches.into_iter().collect();
    archive.promoted = archive.branches.iter().map(|(timeline, branch)| (*timeline, branch.created_at)).collect();
    for (timeline, number) in segments {
        archive.segments.insert(SegmentName::new(Timeline(*timeline), *number, size), Segment::whole(size.bytes()));
    }
    archive
}

#[test]
fn a_second_attempt_with_a_later_target_stays_on_the_timeline_that_was_live() {
    let archive = archive(vec![branch(2, "1\t0/5000000\tpast", "15:00")], &[(1, 2), (1, 5), (2, 5)]);
    let chosen = archive.timeline(&Goal::Time(at("12:00")), base(), None).unwrap();
    assert_eq!(chosen, Some(Timeline(1)));
    assert_eq!(archive.timeline(&Goal::Time(at("16:00")), base(), None).unwrap(), Some(Timeline(2)));
}

#[test]
fn two_siblings_that_contain_the_target_are_refused_and_listed() {
    let branches = vec![branch(2, "1\t0/5000000\ta", "11:00"), branch(3, "1\t0/6000000\tb", "12:00")];
    let archive = archive(branches, &[(1, 2)]);
    let error = archive.timeline(&Goal::Time(at("13:00")), base(), None).unwrap_err();
    assert!(error.to_string().contains("`2`") && error.to_string().contains("`3`"), "{error}");
    assert_eq!(archive.timeline(&Goal::Time(at("13:00")), base(), Some(Timeline(3))).unwrap(), Some(Timeline(3)));
}

#[test]
fn without_a_target_the_server_follows_the_latest_timeline() {
    let archive = archive(vec![branch(2, "1\t0/5000000\ta", "11:00")], &[(1, 2)]);
    assert_eq!(archive.timeline(&Goal::Newest, base(), None).unwrap(), None);
    assert_eq!(archive.latest(base()), Timeline(2));
}

#[test]
fn a_timeline_that_was_given_up_leads_nowhere_until_somebody_goes_on_with_it() {
    let mut archive = archive(vec![branch(2, "1\t0/5000000\ta", "11:00")], &[(1, 2), (1, 5), (1, 6), (2, 5)]);
    archive.give_up(Timeline(2), Lsn(0x600_0100));
    assert_eq!((archive.latest(base()), archive.leading(base())), (Timeline(1), vec![Timeline(1)]));
    assert_eq!(archive.timeline(&Goal::Newest, base(), None).unwrap(), Some(Timeline(1)), "the server must be told");
    assert_eq!(archive.timeline(&Goal::Time(at("12:00")), base(), None).unwrap(), Some(Timeline(1)));
    assert_eq!(archive.timeline(&Goal::Newest, base(), Some(Timeline(2))).unwrap(), Some(Timeline(2)));
    let mut one_commit = archive.clone();
    one_commit.saw(Timeline(2), LastCommit { at: at("12:00"), lsn: Lsn(0x600_0200) });
    assert_eq!(one_commit.latest(base()), Timeline(2), "its server was started again");
    archive.segments.insert(SegmentName::new(Timeline(2), 7, SegmentSize::DEFAULT), Segment::whole(1));
    assert_eq!(archive.latest(base()), Timeline(2));
}

#[test]
fn a_timeline_that_was_given_up_has_left_no_other_one_until_somebody_goes_on_with_it() {
    let mut archive = archive(vec![branch(2, "1\t0/5000000\ta", "11:00")], &[(1, 2), (1, 5), (2, 5)]);
    assert_eq!(archive.successor(Timeline(1)), Some((Timeline(2), Lsn(0x500_0000))));
    archive.give_up(Timeline(2), Lsn(0x600_0100));
    assert_eq!(archive.successor(Timeline(1)), None);
    let mut recovered = archive.clone();
    recovered.branches.extend([branch(3, "1\t0/6000000\tb", "12:00")]);
    assert_eq!(recovered.successor(Timeline(1)), Some((Timeline(3), Lsn(0x600_0000))));
    archive.segments.insert(SegmentName::new(Timeline(2), 7, SegmentSize::DEFAULT), Segment::whole(1));
    assert_eq!(archive.successor(Timeline(1)), Some((Timeline(2), Lsn(0x500_0000))));
}

#[test]
fn the_newest_timeline_is_not_followed_where_another_one_has_newer_commits() {
    let mut archive = archive(vec![branch(2, "1\t0/5000000\ta", "11:00")], &[(1, 2), (1, 5), (1, 6), (2, 5)]);
    let newest = |archive: &Archive| archive.timeline(&Goal::Newest, base(), None);
    archive.saw(Timeline(2), last(5, "11:30"));
    archive.saw(Timeline(1), last(5, "11:29"));
    assert_eq!(newest(&archive).unwrap(), None, "what was left is older");
    archive.saw(Timeline(1), last(6, "11:31"));
    let refused = newest(&archive).unwrap_err();
    assert!(matches!(refused, Refusal::Outlived { timeline: Timeline(1), .. }), "{refused}");
    assert!(refused.to_string().contains("but timeline `1` has commits that are not in it, up to"), "{refused}");
    assert_eq!(archive.timeline(&Goal::Newest, base(), Some(Timeline(2))).unwrap(), Some(Timeline(2)));
    archive.newest.insert(Timeline(1), last(4, "11:59"));
    assert_eq!(newest(&archive).unwrap(), None, "it lies before the fork: a clock stepped back");
    // A backup of a timeline that was left, by a server that nobody uses any more.
    archive.newest.insert(Timeline(1), last(6, "11:05"));
    let late = Base { start: lsn(6), stop: Lsn(lsn(6).0 + 256), ended_at: at("11:10"), ..base() };
    let refused = archive.timeline(&Goal::Newest, late, None).unwrap_err();
    assert!(matches!(refused, Refusal::Outlived { timeline: Timeline(2), .. }), "{refused}");
}

#[test]
fn a_timeline_that_nobody_could_read_counts_where_it_may_be_the_one_that_is_meant() {
    let mut archive = archive(vec![branch(2, "1\t0/5000000\ta", "11:00")], &[(1, 2), (1, 5), (2, 5), (2, 9)]);
    let late = Base { timeline: Timeline(2), start: lsn(8), stop: Lsn(lsn(8).0 + 256), ended_at: at("11:10") };
    let unread = |n| Unread { until: lsn(n), why: "no key".to_owned() };
    archive.could_not_read((Timeline(1), Part::End), unread(6));
    archive.could_not_read((Timeline(2), Part::Promotion), unread(5));
    for goal in [Goal::Newest, Goal::Time(at("12:00"))] {
        assert!(archive.timeline(&goal, late, None).is_ok(), "what began before the backup was left by then");
        let refused = archive.timeline(&goal, base(), None).unwrap_err();
        assert!(matches!(refused, Refusal::Unread { timeline: Timeline(2), .. }), "{refused}");
        assert_eq!(archive.timeline(&goal, base(), Some(Timeline(1))).unwrap(), Some(Timeline(1)));
    }
    assert_eq!(
        archive.unknown_beside(late, Timeline(2)),
        ["whether timeline 1 has newer commits is not known: no key"]
    );
    archive.could_not_read((Timeline(2), Part::End), unread(10));
    assert!(archive.timeline(&Goal::Newest, late, None).is_err(), "its own end is what is wanted");
    // Who looks for every backup at once reads back to before the newest one, where nothing was committed since.
    archive.unread.insert((Timeline(2), Part::End), unread(8));
    assert_eq!(archive.timeline(&Goal::Newest, late, None).unwrap(), None);
    assert!(archive.timeline(&Goal::Newest, base(), None).is_err(), "the older one leads there");
}

#[test]
fn a_backup_of_a_timeline_that_was_left_leads_neither_to_now_nor_to_a_moment_after_that() {
    // A recovery from the first backup went back behind the second one, which is the newest that there is.
    let mut archive = archive(vec![branch(2, "1\t0/5000000\ta", "11:00")], &[(1, 2), (1, 5), (1, 6), (2, 5), (2, 6)]);
    let second = Base { start: lsn(6), stop: Lsn(lsn(6).0 + 256), ended_at: at("10:30"), ..base() };
    archive.saw(Timeline(1), last(6, "10:45"));
    let to = |archive: &Archive, base, time: &str| archive.timeline(&Goal::Time(at(time)), base, None);
    for refused in [to(&archive, second, "11:30"), archive.timeline(&Goal::Newest, second, None)] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, Refusal::Left { timeline: Timeline(1), .. }), "{refused}");
        assert!(refused.to_string().contains("2026-01-28T10:45:00Z, and timeline `2` (left 1"), "{refused}");
    }
    assert_eq!(to(&archive, base(), "11:30").unwrap(), Some(Timeline(2)), "the first one leads there");
    assert_eq!(to(&archive, second, "10:40").unwrap(), Some(Timeline(1)), "it was live then");
    assert_eq!(archive.timeline(&Goal::Newest, second, Some(Timeline(1))).unwrap(), Some(Timeline(1)), "it was named");
    // Signs of life behind the promotion: a commit, one that only the server has, a backup.
    let mut went_on = archive.clone();
    went_on.saw(Timeline(1), last(6, "11:10"));
    assert_eq!(to(&went_on, second, "11:30").unwrap(), Some(Timeline(1)));
    let mut unarchived = archive.clone();
    unarchived.wrote(Timeline(1), at("11:10"));
    assert_eq!(to(&unarchived, second, "11:30").unwrap(), Some(Timeline(1)));
    assert_eq!(to(&archive, Base { ended_at: at("11:05"), ..second }, "11:30").unwrap(), Some(Timeline(1)));
    // And nobody takes one that was given up for the live one.
    archive.give_up(Timeline(2), Lsn(0x700_0000));
    assert_eq!(to(&archive, second, "11:30").unwrap(), Some(Timeline(1)));
}

#[test]
fn a_timeline_that_the_server_would_not_find_is_told() {
    let late = Base { start: lsn(6), stop: Lsn(lsn(6).0 + 256), ended_at: at("12:00"), ..base() };
    let archive = archive(vec![branch(2, "1\t0/5000000\ta", "11:00")], &[(1, 6), (2, 5)]);
    assert_eq!(archive.timeline(&Goal::Newest, late, None).unwrap(), Some(Timeline(1)), "`latest` would be 2");
}

#[test]
fn a_timeline_that_left_before_the_backup_ended_does_not_lead_from_it() {
    let archive = archive(vec![branch(2, "1\t0/1000000\ta", "09:00")], &[(1, 2)]);
    assert!(archive.timeline(&Goal::Newest, base(), Some(Timeline(2))).is_err());
    assert_eq!(archive.latest(base()), Timeline(1));
}

#[test]
fn a_target_before_the_end_of_the_backup_is_refused() {
    let archive = archive(vec![], &[]);
    assert!(archive.reachable(&Goal::Time(at("09:59")), base()).is_err());
    assert!(archive.reachable(&Goal::Lsn(lsn(2)), base()).is_err());
    assert!(archive.reachable(&Goal::Time(at("10:00")), base()).is_ok());
}

#[test]
fn the_reach_crosses_the_fork_and_names_the_first_hole() {
    let history = "1\t0/4000100\ta";
    let whole = archive(vec![branch(2, history, "11:00")], &[(1, 2), (1, 3), (2, 4), (2, 5)]);
    assert_eq!(whole.reach(Timeline(2), base()).hole, None);
    let torn = archive(vec![branch(2, history, "11:00")], &[(1, 2), (2, 4), (2, 5)]);
    let reach = torn.reach(Timeline(2), base());
    assert_eq!(reach.hole.unwrap().first.to_string(), "000000010000000000000003");
    assert_eq!(reach.last.unwrap().to_string(), "000000010000000000000002");
}

#[test]
fn a_position_that_two_timelines_contain_is_refused_and_one_before_the_fork_is_not() {
    let branches = vec![branch(2, "1\t0/4000100\ta", "11:00")];
    let archive = archive(branches, &[(1, 2), (1, 3), (1, 4), (1, 5), (2, 4), (2, 5)]);
    let on = |lsn: Lsn| archive.timeline(&Goal::Lsn(lsn), base(), None);
    assert_eq!(on(Lsn(0x3FF_0000)).unwrap(), Some(Timeline(1)));
    let error = on(Lsn(0x500_1000)).unwrap_err();
    assert!(matches!(&error, Refusal::Several(list) if list.len() == 2), "{error}");
}

#[test]
fn a_timeline_that_went_on_after_it_was_left_is_one_of_several() {
    let mut archive = archive(vec![branch(2, "1\t0/4000100\ta", "11:00")], &[(1, 2), (1, 3), (1, 4), (2, 4)]);
    let at_noon = |archive: &Archive| archive.timeline(&Goal::Time(at("12:00")), base(), None);
    assert_eq!(at_noon(&archive).unwrap(), Some(Timeline(2)));
    archive.saw(Timeline(1), last(5, "11:30"));
    assert_eq!(at_noon(&archive).unwrap(), Some(Timeline(2)), "it was left before");
    archive.saw(Timeline(1), last(5, "12:30"));
    assert!(matches!(at_noon(&archive), Err(Refusal::Several(_))), "two servers wrote at noon");
}

#[test]
fn the_end_of_a_timeline_that_failed_over_is_read_from_its_childs_copy() {
    // The old primary died inside segment 4: only the promoted server finished its copy.
    let archive = archive(vec![branch(2, "1\t0/4800000\ta", "11:00")], &[(1, 2), (1, 3), (2, 4), (2, 5)]);
    let way = archive.way(&Goal::Time(at("10:59")), base(), None).unwrap();
    assert_eq!((way.followed, way.told), (Timeline(2), Some(Timeline(2))));
    let way = archive.way(&Goal::Lsn(Lsn(0x470_0000)), base(), None).unwrap();
    assert_eq!(way.followed, Timeline(2));
    let lanes = lanes(&archive, &[backup("a", None)]);
    assert_eq!(lanes[0].intervals[0].to, Lsn(0x480_0000), "{lanes:#?}");
    assert!(lanes[0].gaps.is_empty() && lanes[1].gaps.is_empty(), "{lanes:#?}");
}

#[test]
fn the_end_of_a_timeline_that_was_named_is_not_lost_where_only_a_child_has_a_copy_of_it() {
    let (fork, one) = (Lsn(0x480_0000), Some(Timeline(1)));
    let mut archive = archive(vec![branch(2, "1\t0/4800000\ta", "11:00")], &[(1, 2), (1, 3), (2, 4), (2, 5)]);
    let seen = Seen { newest_commit: Some(at("10:30")), last_record: None };
    for goal in [Goal::Time(at("11:00")), Goal::Time(at("12:00")), Goal::Newest] {
        let way = archive.way(&goal, base(), one).unwrap();
        let settled = way.settle(&goal, Edge::Included, seen).unwrap();
        assert_eq!((settled.goal, settled.told), (Goal::Lsn(fork), Some(Timeline(2))), "{goal:?}");
        assert!(way.path.iter().any(|name| name.to_string() == "000000020000000000000004"));
    }
    // A commit of that very time lies before the fork.
    let goal = Goal::Time(at("11:00"));
    let last = Seen { newest_commit: Some(at("11:00")), last_record: None };
    let settled = archive.way(&goal, base(), one).unwrap().settle(&goal, Edge::Excluded, last).unwrap();
    assert_eq!((settled.goal, settled.told), (goal, Some(Timeline(2))));
    // An object's time is no promotion: the copy may hold commits of the other timeline before the target.
    archive.promoted.clear();
    let goal = Goal::Time(at("10:59"));
    let way = archive.way(&goal, base(), one).unwrap();
    assert_eq!(way.followed, Timeline(1));
    assert_eq!(
        way.settle(&goal, Edge::Included, seen),
        Err(Refusal::Unclear { followed: Timeline(1), child: Timeline(2) })
    );
    let later = Seen { newest_commit: Some(at("11:30")), last_record: None };
    assert!(way.settle(&goal, Edge::Included, later).is_ok(), "it stops before that end");
}

#[test]
fn what_one_of_two_stores_has_is_there_and_a_timeline_told_twice_is_refused() {
    let branches = || vec![branch(2, "1\t0/4000100\ta", "11:00")];
    let mut one = archive(branches(), &[(1, 2), (2, 5)]);
    one.segments.insert(
        SegmentName::new(Timeline(1), 3, SegmentSize::DEFAULT),
        Segment { stored_bytes: 7, condition: Condition::WrongSize },
    );
    assert!(one.reach(Timeline(2), base()).hole.is_some());
    one.join(archive(branches(), &[(1, 3), (2, 4), (2, 6)])).unwrap();
    let reach = one.reach(Timeline(2), base());
    assert_eq!((reach.hole, reach.last.unwrap().to_string()), (None, "000000020000000000000006".to_owned()));
    let other = archive(vec![branch(2, "1\t0/3000100\tb", "11:00")], &[]);
    assert_eq!(one.join(other), Err(Timeline(2)));
}

#[test]
fn a_goal_behind_the_end_of_a_complete_archive_becomes_its_end_and_behind_a_hole_is_refused() {
    let whole = archive(Vec::new(), &[(1, 2), (1, 3)]);
    let goal = Goal::Time(at("12:00"));
    let seen = Seen { newest_commit: Some(at("11:00")), last_record: None };
    let settled = whole.way(&goal, base(), None).unwrap().settle(&goal, Edge::Included, seen).unwrap();
    assert_eq!((settled.goal, settled.told), (Goal::Newest, Some(Timeline(1))));
    assert!(settled.note.unwrap().contains("recovering to its end"));
    let last = Goal::Time(at("11:00"));
    let told = |edge| whole.way(&last, base(), None).unwrap().settle(&last, edge, seen).unwrap().goal;
    assert_eq!(
        (told(Edge::Included), told(Edge::Excluded)),
        (Goal::Newest, last.clone()),
        "it is the last commit itself"
    );
    let torn = archive(Vec::new(), &[(1, 2), (1, 4)]);
    assert!(matches!(
        torn.way(&goal, base(), None).unwrap().settle(&goal, Edge::Included, seen),
        Err(Refusal::Hole { .. })
    ));
    let earlier = Seen { newest_commit: Some(at("12:30")), last_record: None };
    assert!(
        torn.way(&goal, base(), None).unwrap().settle(&goal, Edge::Included, earlier).is_ok(),
        "it lies before the hole"
    );
}

#[test]
fn a_position_behind_the_last_record_of_a_complete_archive_becomes_its_end() {
    let archive = archive(Vec::new(), &[(1, 2), (1, 3)]);
    let goal = Goal::Lsn(Lsn(0x3F0_0000));
    let way = archive.way(&goal, base(), None).unwrap();
    let at_record = |last: u64| {
        way.settle(&goal, Edge::Included, Seen { newest_commit: None, last_record: Some(Lsn(last)) }).unwrap()
    };
    assert_eq!(at_record(0x3F0_0000).goal, goal);
    assert_eq!(at_record(0x380_0000).goal, Goal::Newest);
    let behind = Goal::Lsn(Lsn(0x700_0000));
    let refused = archive.way(&behind, base(), None).unwrap().settle(&behind, Edge::Included, Seen::default());
    assert!(matches!(refused, Err(Refusal::BehindEnd { .. })));
}

#[test]
fn every_gap_tells_its_reason() {
    let mut archive = archive(Vec::new(), &[(1, 2), (1, 3), (1, 4), (1, 5), (1, 8)]);
    let name = |number| SegmentName::new(Timeline(1), number, SegmentSize::DEFAULT);
    archive.segments.insert(name(4), Segment { stored_bytes: 9, condition: Condition::WrongSize });
    archive.segments.insert(name(5), Segment { stored_bytes: 9, condition: Condition::Damaged("a bit".into()) });
    let mut second = backup("b", None);
    second.base = Base { start: lsn(7), stop: Lsn(lsn(7).0 + 256), ended_at: at("11:00"), ..base() };
    second.embedded = [name(7)].into();
    let lanes = lanes(&archive, &[backup("a", None), second]);
    let [gap] = lanes[0].gaps.as_slice() else { panic!("{lanes:#?}") };
    let faults: Vec<String> = gap.holes.iter().map(ToString::to_string).collect();
    assert!(faults[0].contains("wrong size") && faults[1].contains("damaged: a bit"), "{faults:?}");
    assert!(faults[2].contains("missing") && faults[3].contains("only inside backup `b`"), "{faults:?}");
    assert_eq!(lanes[0].intervals.len(), 2, "the second backup becomes consistent with its own WAL: {lanes:#?}");
}

#[test]
fn what_no_kept_backup_can_use_is_no_gap() {
    // Retention kept the backup on timeline 3 and removed what only older ones led into.
    let branches = vec![branch(2, "1\t0/4800000\ta", "11:00"), branch(3, "1\t0/4800000\ta\n2\t0/6800000\tb", "12:00")];
    let archive = archive(branches, &[(3, 6), (3, 7), (3, 8)]);
    let mut kept = backup("a", None);
    kept.base = Base { timeline: Timeline(3), start: lsn(7), stop: Lsn(lsn(7).0 + 256), ended_at: at("13:00") };
    let gaps: Vec<Gap> = lanes(&archive, &[kept]).into_iter().flat_map(|lane| lane.gaps).collect();
    assert!(gaps.iter().all(|gap| gap.holes.is_empty()), "{gaps:#?}");
    let lost = lanes(&archive, &[backup("a", None)]).into_iter().flat_map(|lane| lane.gaps);
    assert!(lost.flat_map(|gap| gap.holes).next().is_some(), "a backup that leads through it misses it");
}

fn backup(id: &str, fault: Option<&str>) -> BaseBackup {
    BaseBackup {
        id: id.to_owned(),
        kind: "postgres.base".to_owned(),
        system_id: SystemId(1),
        base: base(),
        embedded: BTreeSet::new(),
        chain: vec![id.to_owned()],
        stored_bytes: 1,
        plain_bytes: 1,
        tablespaces: Vec::new(),
        fault: fault.map(str::to_owned),
    }
}

#[test]
fn the_newest_backup_that_leads_to_the_goal_is_chosen_and_the_others_say_why_not() {
    let archive = archive(Vec::new(), &[(1, 2), (1, 3), (1, 4)]);
    let mut later = backup("later", None);
    later.base.ended_at = at("13:00");
    let mut broken = backup("broken", Some("an object is missing"));
    broken.base.ended_at = at("11:00");
    let backups = [backup("first", None), broken, later];
    let (choices, passed_over) = choose(&archive, &backups, &Goal::Time(at("12:00")), None);
    assert_eq!(choices.iter().map(|choice| choice.backup.id.as_str()).collect::<Vec<_>>(), ["first"]);
    let why: Vec<String> = passed_over.iter().map(|one| one.why.to_string()).collect();
    assert!(why[0].contains("before the end of the backup") && why[1].contains("an object is missing"), "{why:?}");
}
