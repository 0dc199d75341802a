//! What `wal fetch` makes of a segment that one of two stores has only the beginning of, lacks, or lies about.

use std::fs;
use std::path::PathBuf;

use runbook::pgformat::{SegmentName, SegmentSize};

use crate::wal_ahead::Site;

const STORES: [&str; 2] = ["store", "second"];

/// A cluster that is stopped; two stores have all of its finished segments.
struct Archive {
    site: Site,
    segments: Vec<SegmentName>,
}

impl Archive {
    fn new(rows: u32) -> Self {
        let site = Site::with_backlog(rows);
        let archive = Self { segments: site.waiting(), site };
        archive.over(&["second"]);
        assert_eq!(archive.site.wal(&["init"]).status.code(), Some(0));
        for store in STORES {
            archive.over(&[store]);
            for segment in &archive.segments {
                archive.push(&format!("pg_wal/{segment}"));
            }
        }
        archive.over(&STORES);
        archive.site.cluster.stop("immediate");
        archive
    }

    /// Pushes and fetches go to these stores from now on.
    fn over(&self, stores: &[&str]) {
        let urls: Vec<String> = stores.iter().map(|store| self.site.url(store)).collect();
        let text = format!("stores: [{}]\nprefix: app\nretry_for: 0s\n", urls.join(", "));
        fs::write(&self.site.config, text).unwrap();
        self.site.cluster.give(&self.site.config);
    }

    #[track_caller]
    fn push(&self, path: &str) {
        let pushed = self.site.wal(&["push", path]);
        assert_eq!(pushed.status.code(), Some(0), "{}", String::from_utf8_lossy(&pushed.stderr));
    }

    fn local(&self, segment: SegmentName) -> Vec<u8> {
        fs::read(self.site.cluster.pgdata().join(format!("pg_wal/{segment}"))).unwrap()
    }

    /// The code of a fetch, and what it delivered.
    fn fetch(&self, segment: SegmentName) -> (Option<i32>, Option<Vec<u8>>) {
        let target = self.site.cluster.pgdata().join("RECOVERYXLOG");
        let _none_before = fs::remove_file(&target);
        let code = self.site.wal(&["fetch", &segment.to_string(), "RECOVERYXLOG"]).status.code();
        (code, fs::read(&target).ok())
    }

    /// Stores other content under a segment's name.
    fn store(&self, store: &str, segment: SegmentName, content: &[u8]) {
        let _one_there = fs::remove_file(self.site.object(store, segment));
        let path = self.site.cluster.folder("data/odd").join(segment.to_string());
        fs::write(&path, content).unwrap();
        self.site.cluster.give(&path);
        self.over(&[store]);
        self.push(&format!("odd/{segment}"));
        self.over(&STORES);
    }

    fn root(&self, store: &str) -> PathBuf {
        self.site.cluster.dir().join(store)
    }
}

/// The half of what was written into a segment, and all of it but the record that ends it.
fn beginnings(whole: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let written = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let cut = |at: usize| [&whole[..at], &vec![0; whole.len() - at]].concat();
    (cut(written / 2), cut(written - 8))
}

fn flip(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    bytes[60] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_beginning_of_a_segment_is_no_end_of_the_wal_while_another_store_fails_or_has_more() {
    let archive = Archive::new(4);
    let last = *archive.segments.last().unwrap();
    let whole = archive.local(last);
    let (half, more) = beginnings(&whole);
    archive.store("store", last, &half);
    assert!(archive.fetch(last) == (Some(0), Some(whole.clone())), "the other store has it whole");
    let (second, away) = (archive.root("second"), archive.root("away"));
    fs::rename(&second, &away).unwrap();
    assert_eq!(archive.fetch(last), (Some(126), None), "the other store gives no answer");
    let signal = archive.site.cluster.pgdata().join("standby.signal");
    fs::write(&signal, "").unwrap();
    assert_eq!(archive.fetch(last), (Some(1), None), "a standby asks again");
    fs::remove_file(&signal).unwrap();
    fs::rename(&away, &second).unwrap();
    let object = archive.site.object("second", last);
    flip(&object);
    assert_eq!(archive.fetch(last), (Some(126), None), "the other store's copy is damaged");
    flip(&object);
    assert!(archive.fetch(last) == (Some(0), Some(whole)), "it is whole again");
    fs::remove_file(&object).unwrap();
    assert!(archive.fetch(last) == (Some(0), Some(half)), "nobody has more of it");
    archive.store("second", last, &more);
    assert!(archive.fetch(last) == (Some(0), Some(more)), "the longest beginning, whichever store has it");
    let mut later = archive.local(last);
    let (size, next) = (SegmentSize::new(1 << 20).unwrap(), last.next(SegmentSize::new(1 << 20).unwrap()));
    later[8..16].copy_from_slice(&next.start(size).0.to_le_bytes());
    archive.store("second", next, &later);
    assert_eq!(archive.fetch(last), (Some(126), None), "a later segment proves that there is more");
}

#[test]
fn whichever_segment_a_store_lacks_cuts_or_alters_comes_from_the_other_and_from_none_if_both_do() {
    let archive = Archive::new(6);
    let (last, aside) = (*archive.segments.last().unwrap(), archive.site.cluster.dir().join("aside"));
    let damages: [(&str, &[&str]); 3] = [("first", &STORES[..1]), ("second", &STORES[1..]), ("both", &STORES)];
    for segment in &archive.segments {
        let whole = archive.local(*segment);
        for (kind, (which, stores)) in
            ["lacks", "cuts", "alters"].into_iter().flat_map(|kind| damages.map(|one| (kind, one)))
        {
            let objects: Vec<PathBuf> = stores.iter().map(|store| archive.site.object(store, *segment)).collect();
            let before: Vec<Vec<u8>> = objects.iter().map(|object| fs::read(object).unwrap()).collect();
            for object in &objects {
                match kind {
                    "lacks" => fs::rename(object, &aside).unwrap(),
                    "cuts" => fs::OpenOptions::new().write(true).open(object).unwrap().set_len(100).unwrap(),
                    _ => flip(object),
                }
            }
            let expected = match (which, kind) {
                ("both", "lacks") if *segment == last => (Some(1), None),
                ("both", _) => (Some(126), None),
                (_, _) => (Some(0), Some(whole.clone())),
            };
            let fetched = archive.fetch(*segment);
            assert!(fetched == expected, "{segment} {kind} {which}: {:?}", fetched.0);
            for (object, bytes) in objects.iter().zip(before) {
                fs::write(object, bytes).unwrap();
                archive.site.cluster.give(object);
            }
        }
        assert_eq!(archive.fetch(*segment).0, Some(0), "{segment} is whole again");
    }
}
