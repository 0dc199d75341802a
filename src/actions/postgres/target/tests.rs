#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
use super::*;

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

fn archive(branches: Vec<(Timeline, Branch)>, segments: &[(u32, u64)]) -> Archive {
    let size = SegmentSize::DEFAULT;
    let segments = segments.iter().map(|(timeline, number)| SegmentName::new(Timeline(*timeline), *number, size));
    Archive { size, branches: branches.into_iter().collect(), segments: segments.collect() }
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
    assert_eq!(reach.hole.unwrap().to_string(), "000000010000000000000003");
    assert_eq!(reach.last.unwrap().to_string(), "000000010000000000000002");
}
