#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
use super::*;
use crate::base::Timestamp;
use crate::pgformat::Lsn;

fn at(text: &str) -> Timestamp {
    format!("2026-01-28T{text}:00Z").parse().unwrap()
}

fn lsn(segment: u64) -> Lsn {
    Lsn(segment << 24)
}

#[test]
fn a_goal_empties_every_other_target() {
    let settings = Goal::Lsn(lsn(3)).settings(Some(Timeline(1)));
    let value = |name: &str| settings.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    assert_eq!(value("recovery_target_lsn"), Some("0/3000000"));
    assert_eq!(value("recovery_target_time"), Some(""));
    assert_eq!(value("recovery_target_timeline"), Some("1"));
    let last_target = settings.iter().rfind(|(name, _)| TARGETS.contains(&name.as_str()));
    assert_eq!(last_target.map(|(name, _)| name.as_str()), Some("recovery_target_lsn"));
}

#[test]
fn a_time_is_written_in_utc_with_its_offset() {
    let settings = Goal::Time(at("12:00")).settings(Some(Timeline(1)));
    assert!(settings.contains(&("recovery_target_time".into(), "2026-01-28 12:00:00.000000+00".into())));
}
