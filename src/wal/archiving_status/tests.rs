#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
use std::time::Duration;

use super::*;
use crate::base::Timestamp;
use crate::catalog::ArchiveSettings;
use crate::catalog::health::Level;
use crate::pgformat::{Lsn, SegmentName, SegmentSize, SystemId, Timeline, WalFileName};
use crate::wal::Otherwise;

fn at(text: &str) -> Timestamp {
    format!("2026-01-28T{text}Z").parse().unwrap()
}

fn segment(number: u64) -> SegmentName {
    SegmentName::new(Timeline(1), number, SegmentSize::DEFAULT)
}

fn ready(number: u64, since: &str) -> Ready {
    Ready { name: WalFileName::Segment(segment(number)), since: at(since) }
}

fn server() -> ServerSide {
    let archiving = ArchiveSettings { mode: "on".into(), command: "x %p".into(), ..ArchiveSettings::default() };
    ServerSide {
        system_id: SystemId(7),
        segment_size: SegmentSize::DEFAULT,
        timeline: Timeline(1),
        position: Lsn(5 << 24 | 0x100),
        in_recovery: false,
        archiving,
        counters: Counters { archived: 4, last_archived_at: Some(at("10:00:00")), ..Counters::default() },
        ready: Vec::new(),
        wal_files: 8,
        wal_bytes: 8 << 24,
        room: Some(Room { free_bytes: 50 << 30, total_bytes: 100 << 30 }),
        now: at("15:00:00"),
    }
}

fn seen(server: ServerSide) -> Observed {
    Observed {
        archived_to: Some(server.archived_to(Some(segment(4)))),
        server: Ok(server),
        silent: Vec::new(),
        unseen: None,
        system_id: Some(SystemId(7)),
        last_archived: Some(segment(4)),
        waiting: Waiting::Nothing,
        lost: None,
        lacking: Ok(Lacking::default()),
        compared: Ok(std::collections::BTreeMap::new()),
        timelines: vec![Timeline(1)],
        gaps_now: Vec::new(),
        gaps_before: Vec::new(),
        full: Vec::new(),
        log: None,
        rpo: Some(Duration::from_secs(900)),
    }
}

fn words(standing: &ArchivingStatus) -> String {
    standing.findings.iter().map(|finding| finding.message.clone()).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_server_whose_archiving_fails_is_told_although_its_store_gives_no_answer() {
    let failing = ServerSide {
        counters: Counters { failed: 3, last_failed_at: Some(at("14:00:00")), ..Counters::default() },
        ready: vec![ready(4, "13:00:00")],
        ..server()
    };
    let standing = judge("orders", &Observed::unseen("it is not mounted".to_owned(), Ok(failing)));
    assert_eq!(standing.level, Level::Critical);
    let said = words(&standing);
    assert!(said.contains("gives no answer: it is not mounted") && said.contains("archiving fails"), "{said}");
    assert!(said.contains("setup-archiving -p database=orders") && !said.contains("ever archived under"), "{said}");
}

#[test]
fn a_quiet_night_is_fine_however_old_the_last_segment_is() {
    let standing = judge("orders", &seen(server()));
    assert_eq!((standing.level, standing.figures.lag_s), (Level::Ok, Some(0)), "{}", words(&standing));
    assert_eq!(standing.figures.lag_bytes, Some(0x100));
}

#[test]
fn a_commit_that_waits_longer_than_the_rpo_is_critical() {
    let late = |at| judge("orders", &Observed { waiting: Waiting::Since(at), ..seen(server()) });
    assert_eq!(late(at("14:50:00")).level, Level::Ok);
    assert_eq!(late(at("14:47:00")).level, Level::Warning);
    assert_eq!(late(at("14:44:00")).level, Level::Critical);
}

#[test]
fn a_failure_that_the_server_does_not_count_is_found_by_what_waits() {
    let hidden = ServerSide { ready: vec![ready(5, "14:30:00")], ..server() };
    let standing = judge("orders", &seen(hidden));
    assert_eq!(standing.level, Level::Critical);
    assert!(words(&standing).contains("exits above 125"), "{}", words(&standing));
    let moving = Counters { last_archived_at: Some(at("14:59:00")), ..server().counters };
    let busy = ServerSide { ready: vec![ready(5, "14:30:00")], counters: moving, ..server() };
    assert_eq!(judge("orders", &seen(busy)).level, Level::Warning);
    let just_now = ServerSide { ready: vec![ready(5, "14:59:30")], ..server() };
    assert_eq!(judge("orders", &seen(just_now)).level, Level::Ok);
}

#[test]
fn what_waits_counts_although_later_segments_are_stored() {
    let server = ServerSide { ready: vec![ready(3, "14:59:00")], ..server() };
    assert_eq!(server.archived_to(Some(segment(4))), segment(3).start(SegmentSize::DEFAULT));
    assert_eq!(server.archived_to(None), segment(3).start(SegmentSize::DEFAULT));
}

#[test]
fn a_library_beside_a_command_is_told_and_no_archiving_is_critical() {
    let with = |mode: &str, command: &str, library: &str| {
        let archiving = ArchiveSettings {
            mode: mode.into(),
            command: command.into(),
            library: library.into(),
            ..ArchiveSettings::default()
        };
        judge("orders", &seen(ServerSide { archiving, ..server() }))
    };
    assert!(words(&with("on", "x %p", "basic_archive")).contains("overrides"));
    assert_eq!(with("on", "", "basic_archive").level, Level::Ok);
    assert_eq!(with("on", "(disabled)", "").level, Level::Critical);
    assert_eq!(with("off", "x %p", "").level, Level::Critical);
}

#[test]
fn a_segment_that_was_only_said_to_be_archived_is_critical() {
    let standing = judge("orders", &Observed { lost: Some(segment(4)), ..seen(server()) });
    assert_eq!(standing.level, Level::Critical);
}

#[test]
fn another_cluster_another_timeline_and_a_hole_are_critical_and_an_older_hole_a_warning() {
    let level = |change: fn(&mut Observed)| {
        let mut observed = seen(server());
        change(&mut observed);
        judge("orders", &observed).level
    };
    assert_eq!(level(|seen| seen.system_id = Some(SystemId(8))), Level::Critical);
    assert_eq!(level(|seen| seen.timelines.push(Timeline(2))), Level::Critical);
    assert_eq!(level(|seen| seen.gaps_now.push("x".into())), Level::Critical);
    assert_eq!(level(|seen| seen.gaps_before.push("x".into())), Level::Warning);
    assert_eq!(level(|seen| seen.server = Err("refused".into())), Level::Unknown);
}

#[test]
fn a_file_system_that_fills_up_is_told_before_the_server_stops() {
    let level = |free_bytes: u64, waits: bool| {
        let room = Some(Room { free_bytes, total_bytes: 100 << 30 });
        let ready = if waits { vec![ready(5, "14:59:30")] } else { Vec::new() };
        judge("orders", &seen(ServerSide { room, ready, ..server() })).level
    };
    assert_eq!(level(4 << 30, false), Level::Ok);
    assert_eq!(level(4 << 30, true), Level::Warning);
    assert_eq!(level(500 << 20, false), Level::Warning);
    assert_eq!(level(100 << 20, false), Level::Critical);
}

#[test]
fn a_store_that_lacks_files_or_that_no_recovery_looks_into_is_a_warning() {
    let owed = [("file:///b".to_owned(), 3)].into();
    let (unnamed, unfed) = (vec!["file:///c".to_owned()], vec!["file:///d".to_owned()]);
    let lacking = Ok(Lacking { owed, unnamed, unfed, ..Lacking::default() });
    let standing = judge("orders", &Observed { lacking, ..seen(server()) });
    assert_eq!((standing.level, standing.findings.len()), (Level::Warning, 3));
    assert!(
        words(&standing).contains("`file:///b` lacks at least 3 files") && words(&standing).contains("`wal_stores`")
    );
    let unknown = judge("orders", &Observed { lacking: Err("not ours to read".to_owned()), ..seen(server()) });
    assert_eq!((unknown.level, unknown.figures.owed), (Level::Ok, None), "who may not look is told no lie");
}

#[test]
fn a_failure_is_none_any_more_where_the_archive_has_what_failed_and_the_server_wants_nothing() {
    let failed = |number: u64, waits: Vec<Ready>| {
        let last_failed = Some(segment(number).to_string());
        let counters = Counters { failed: 3, last_failed, last_failed_at: Some(at("14:00:00")), ..server().counters };
        judge("orders", &seen(ServerSide { counters, ready: waits, ..server() }))
    };
    assert_eq!(failed(4, Vec::new()).level, Level::Ok, "it was archived while the server was shut down");
    assert!(words(&failed(4, vec![ready(4, "14:59:00")])).contains("archiving fails"));
    assert!(words(&failed(5, Vec::new())).contains("archiving fails"), "the archive does not have it");
    assert!(words(&failed(5, Vec::new())).contains("the server's log tells why"));
    let counters = Counters {
        failed: 3,
        last_failed: Some(segment(5).to_string()),
        last_failed_at: Some(at("14:00:00")),
        ..server().counters
    };
    let refused = Some("store `offsite` (file:///b): Permission denied".to_owned());
    let told = Observed {
        lacking: Ok(Lacking { refused, ..Lacking::default() }),
        log: Some("`/srv/pg/log/now.log`".to_owned()),
        ..seen(ServerSide { counters, ..server() })
    };
    let told = words(&judge("orders", &told));
    assert!(told.contains("the push says: store `offsite` (file:///b): Permission denied"), "{told}");
    assert!(told.contains("log, `/srv/pg/log/now.log`,") && !told.contains("setup-archiving"), "{told}");
}

#[test]
fn a_store_without_room_is_told_as_what_makes_archiving_fail() {
    let counters = Counters {
        failed: 3,
        last_failed: Some(segment(5).to_string()),
        last_failed_at: Some(at("14:00:00")),
        ..server().counters
    };
    let full = vec![("primary".to_owned(), 2_800_000)];
    let said = words(&judge("orders", &Observed { full, ..seen(ServerSide { counters, ..server() }) }));
    assert!(said.contains("store `primary` is full, 2.7 MiB free") && !said.contains("setup-archiving"), "{said}");
}

#[test]
fn a_server_that_archives_with_what_the_inventory_said_before_is_told_first() {
    let keys = vec!["the server encrypts its WAL for another key than the inventory's, in `file:///b`".to_owned()];
    let with = |otherwise| Ok(Lacking { otherwise, ..Lacking::default() });
    let rotated = with(Otherwise { keys, ..Otherwise::default() });
    let told = judge("orders", &Observed { lacking: rotated, ..seen(server()) });
    assert_eq!((told.level, told.findings.len()), (Level::Warning, 1));
    assert!(words(&told).contains("another key") && words(&told).contains("run setup-archiving -p database=orders"));
    let renamed = with(Otherwise { prefix: Some("dd".to_owned()), ..Otherwise::default() });
    let told = judge("orders", &Observed { lacking: renamed, system_id: None, ..seen(server()) });
    assert_eq!(told.level, Level::Critical);
    assert!(told.findings[0].message.contains("archives under the prefix `dd`"), "{}", words(&told));
    assert!(told.findings[0].message.contains("put `prefix: dd` into it"), "{}", words(&told));
}

#[test]
fn what_the_stores_tell_of_themselves_counts_whether_or_not_the_notes_of_the_archiver_can_be_read() {
    let uneven = |count| [("file:///b".to_owned(), count)].into();
    let noted = |count| Ok(Lacking { owed: uneven(count), ..Lacking::default() });
    let judged = |lacking, compared| judge("orders", &Observed { lacking, compared, ..seen(server()) });
    let secret = || Err("not ours to read".to_owned());
    let told = judged(secret(), Ok(uneven(500)));
    assert_eq!((told.level, told.figures.owed.clone()), (Level::Warning, Some(uneven(500))));
    assert!(words(&told).contains("`file:///b` lacks at least 500 files"), "{}", words(&told));
    let both = judged(noted(3), Ok(uneven(500)));
    assert_eq!((both.findings.len(), both.figures.owed), (1, Some(uneven(500))));
    assert_eq!(judged(noted(3), Ok(uneven(2))).figures.owed, Some(uneven(3)));
    for lacking in [secret(), noted(3)] {
        let failed = judged(lacking, Err("403".to_owned()));
        assert!(words(&failed).contains("cannot be compared: 403"), "{}", words(&failed));
        assert_eq!(failed.level, Level::Unknown);
    }
    assert_eq!(judged(noted(3), Err("403".to_owned())).figures.owed, Some(uneven(3)), "what was known is kept");
}
