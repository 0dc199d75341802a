//! PostgreSQL's formats, held against a real cluster and PostgreSQL's own programs.

use std::collections::BTreeMap;
use std::fs;

use runbook::pgformat::{
    BackupLabel, BackupManifest, Change, ControlFile, FileVerifier, Halt, Landmark, Lsn, Outcome, RowChange, RowVerb,
    SegmentHeader, SegmentName, SegmentScan, SegmentSize, SegmentWalk, Timeline, TimelineHistory, TransactionEnd,
    WalWalker, Walked,
};

use crate::support::postgres::Cluster;

/// What `pg_controldata` prints, by label.
fn controldata(cluster: &Cluster) -> BTreeMap<String, String> {
    let text = cluster.output("pg_controldata", &[cluster.pgdata().to_str().unwrap()]);
    let pair = |line: &str| line.split_once(':').map(|(key, value)| (key.to_owned(), value.trim().to_owned()));
    text.lines().filter_map(pair).collect()
}

fn control(cluster: &Cluster) -> ControlFile {
    ControlFile::parse(&fs::read(cluster.pgdata().join(ControlFile::PATH)).unwrap()).expect("pg_control")
}

#[test]
fn pg_control_is_read_as_pg_controldata_reads_it() {
    let cluster = Cluster::start(&[("max_connections", "37"), ("max_locks_per_transaction", "71")]);
    cluster.sql("CHECKPOINT");
    cluster.stop("fast");
    let (theirs, ours) = (controldata(&cluster), control(&cluster));
    let is = |key: &str, value: String| assert_eq!(theirs[key], value, "{key}");
    is("Database system identifier", ours.system_id.to_string());
    is("pg_control version number", ours.control_version.to_string());
    is("Catalog version number", ours.catalog_version.to_string());
    is("Latest checkpoint location", ours.checkpoint.to_string());
    is("Latest checkpoint's REDO location", ours.redo.to_string());
    is("Latest checkpoint's TimeLineID", ours.timeline.to_string());
    is("Minimum recovery ending location", ours.min_recovery_point.to_string());
    is("Backup start location", ours.backup_start.to_string());
    is("Backup end location", ours.backup_end.to_string());
    is("max_connections setting", ours.limits.max_connections.to_string());
    is("max_worker_processes setting", ours.limits.max_worker_processes.to_string());
    is("max_wal_senders setting", ours.limits.max_wal_senders.to_string());
    is("max_prepared_xacts setting", ours.limits.max_prepared_transactions.to_string());
    is("max_locks_per_xact setting", ours.limits.max_locks_per_transaction.to_string());
    is("Bytes per WAL segment", ours.segment_size.bytes().to_string());
    is("Data page checksum version", ours.data_checksum_version.to_string());
    is("Database cluster state", "shut down".to_owned());
    assert!(ours.state.is_clean());
    let checkpoint_at = ours.checkpoint_at.strftime("%a %b %e %H:%M:%S %Y").to_string();
    let mut command = cluster.command("pg_controldata");
    let utc = command.env("TZ", "UTC").arg(cluster.pgdata()).output().unwrap();
    assert!(String::from_utf8_lossy(&utc.stdout).contains(&checkpoint_at), "{checkpoint_at}");
}

#[test]
fn a_flipped_bit_in_pg_control_is_found() {
    let cluster = Cluster::create(&[], &[]);
    let mut bytes = fs::read(cluster.pgdata().join(ControlFile::PATH)).unwrap();
    for at in [0, 40, 180, 228, 252, 287] {
        bytes[at] ^= 0x10;
        assert!(ControlFile::parse(&bytes).is_err(), "byte {at}");
        bytes[at] ^= 0x10;
    }
    assert!(ControlFile::parse(&bytes).is_ok());
    assert!(ControlFile::parse(&bytes[..200]).is_err());
}

/// Walks every segment from `first` on, as far as it goes.
fn walk(cluster: &Cluster, first: SegmentName, size: SegmentSize) -> (Vec<Lsn>, Option<Lsn>, Option<Halt>, usize) {
    let mut walker = WalWalker::new(size);
    let (mut starts, mut commits, mut name) = (Vec::new(), 0, first);
    loop {
        let Ok(bytes) = fs::read(cluster.pgdata().join("pg_wal").join(name.to_string())) else {
            return (starts, walker.end(), None, commits);
        };
        let walked = walker.segment(name, &bytes, &mut |record| {
            starts.push(record.lsn);
            record.main_data().expect("main data");
            commits += usize::from(record.committed_at().is_some());
        });
        match walked {
            Walked::ToTheEnd => name = name.next(size),
            Walked::Halted(halt) => return (starts, walker.end(), Some(halt), commits),
        }
    }
}

#[test]
fn records_are_walked_as_pg_waldump_walks_them() {
    let cluster = Cluster::create(&[("wal_compression", "on"), ("wal_keep_size", "512MB")], &["--wal-segsize=1"]);
    cluster.up();
    let size = control(&cluster).segment_size;
    let first: SegmentName = cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())").parse().unwrap();
    cluster.sql("CREATE TABLE t AS SELECT i, repeat(md5(i::text), 20) AS x FROM generate_series(1, 4000) i");
    cluster.sql("CHECKPOINT");
    cluster.sql("UPDATE t SET x = x || 'y' WHERE i % 3 = 0");
    cluster.sql("SELECT pg_switch_wal()");
    cluster.sql("BEGIN; SAVEPOINT a; INSERT INTO t VALUES (0, repeat('z', 900000)); COMMIT");
    let before = control_time();
    cluster.sql("INSERT INTO t VALUES (-1, 'last')");
    cluster.stop("immediate");
    let (starts, end, halt, commits) = walk(&cluster, first, size);
    let start = starts[0].to_string();
    let mut command = cluster.command("pg_waldump");
    let output = command.arg("-s").arg(&start).arg("-p").arg(cluster.pgdata().join("pg_wal")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let theirs: Vec<Lsn> =
        text.lines().filter_map(|line| line.split_once("lsn: ")?.1.split_once(',')?.0.parse().ok()).collect();
    assert!(theirs.len() > 5000, "only {} records", theirs.len());
    assert_eq!(starts, theirs);
    assert_eq!(commits, text.lines().filter(|line| line.contains("desc: COMMIT")).count());
    assert!(end > starts.last().copied());
    assert!(halt.is_some());
    let last = SegmentName::holding(Timeline(1), *starts.last().unwrap(), size);
    let bytes = fs::read(cluster.pgdata().join("pg_wal").join(last.to_string())).unwrap();
    let scan = SegmentScan::of(last, size, &bytes);
    assert_eq!(Some(scan.end), end);
    assert!(scan.newest_commit.is_some_and(|at| at >= before && at <= control_time()), "{scan:?}");
}

#[test]
fn a_segment_that_comes_in_pieces_is_walked_as_one_that_is_whole() {
    let cluster = Cluster::create(&[("wal_keep_size", "512MB")], &["--wal-segsize=1"]);
    cluster.up();
    let size = control(&cluster).segment_size;
    let mut name: SegmentName = cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())").parse().unwrap();
    cluster.sql("CREATE TABLE t AS SELECT i, repeat(md5(i::text), 20) AS x FROM generate_series(1, 4000) i");
    cluster.sql("CREATE TABLE big AS SELECT repeat('z', 2500000) AS x; SELECT pg_switch_wal()");
    cluster.sql("INSERT INTO t VALUES (-1, 'last')");
    cluster.stop("immediate");
    let (mut whole, mut pieces) = (WalWalker::new(size), WalWalker::new(size));
    let mut segments = 0;
    while let Ok(bytes) = fs::read(cluster.pgdata().join("pg_wal").join(name.to_string())) {
        // Of bytes, of pages, of more than a segment, and one that is cut short.
        for piece in [1000, 8192, 8193, 300_000, 1 << 21] {
            for cut in [bytes.len(), bytes.len() - 1, 100_000] {
                let (mut seen, mut expected) = (Vec::new(), Vec::new());
                let mut one = whole.clone();
                let walked = one.segment(name, &bytes[..cut], &mut |record| expected.push((record.lsn, record.end)));
                let mut walk = SegmentWalk::new(pieces.clone(), name);
                bytes[..cut]
                    .chunks(piece)
                    .for_each(|part| walk.take(part, &mut |record| seen.push((record.lsn, record.end))));
                let halt = walk.halt();
                let (other, theirs) = walk.finish();
                assert_eq!((seen, &theirs, other.end()), (expected, &walked, one.end()), "{name} by {piece} to {cut}");
                match theirs {
                    Walked::ToTheEnd => assert_eq!(halt, None),
                    Walked::Halted(theirs) => assert_eq!(halt, Some((other.end(), theirs))),
                }
            }
        }
        whole.segment(name, &bytes, &mut |_| {});
        let mut walk = SegmentWalk::new(pieces, name);
        walk.take(&bytes, &mut |_| {});
        (pieces, _) = walk.finish();
        (name, segments) = (name.next(size), segments + 1);
    }
    assert!(segments > 4, "a record goes over several segments: {segments}");
}

fn control_time() -> runbook::base::Timestamp {
    runbook::base::clock::now()
}

#[test]
fn a_flipped_bit_ends_the_valid_wal_before_it() {
    let cluster = Cluster::start(&[]);
    let first: SegmentName = cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())").parse().unwrap();
    cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i");
    cluster.stop("fast");
    let control = control(&cluster);
    let mut bytes = fs::read(cluster.pgdata().join("pg_wal").join(first.to_string())).unwrap();
    let whole = SegmentScan::of(first, control.segment_size, &bytes);
    assert!(whole.end > control.checkpoint);
    let at = usize::try_from(control.checkpoint.0 % control.segment_size.bytes()).unwrap() + 30;
    bytes[at] ^= 1;
    let cut = SegmentScan::of(first, control.segment_size, &bytes);
    assert_eq!((cut.end, cut.records), (control.checkpoint, whole.records - 1));
    bytes[0] ^= 1;
    assert!(SegmentHeader::parse(&bytes).is_err());
}

#[test]
fn a_segment_is_known_by_its_header() {
    let cluster = Cluster::start(&[]);
    let name: SegmentName = cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())").parse().unwrap();
    let bytes = fs::read(cluster.pgdata().join("pg_wal").join(name.to_string())).unwrap();
    let (header, control) = (SegmentHeader::parse(&bytes).expect("header"), control(&cluster));
    assert_eq!((header.system_id, header.segment_size), (control.system_id, control.segment_size));
    assert_eq!(header.check(name, bytes.len() as u64), Ok(()));
    assert!(header.check(name.next(header.segment_size), bytes.len() as u64).is_err());
    assert!(header.check(name, bytes.len() as u64 - 1).is_err());
    assert_eq!(header.check(name.on(Timeline(2)), bytes.len() as u64), Ok(()));
}

#[test]
fn a_base_backup_verifies_against_its_manifest() {
    let cluster = Cluster::start(&[]);
    cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i");
    let port = cluster.port().to_string();
    for checksums in ["CRC32C", "SHA256", "SHA512", "SHA224", "SHA384", "NONE"] {
        let target = cluster.dir().join(format!("backup-{checksums}"));
        let (socket, manifest) = (cluster.socket_dir(), format!("--manifest-checksums={checksums}"));
        let arguments = ["-U", "postgres", "-p", &port, "-c", "fast", "-h", socket.to_str().unwrap(), &manifest, "-D"];
        cluster.output("pg_basebackup", &[&arguments[..], &[target.to_str().unwrap()]].concat());
        let text = fs::read(target.join("backup_manifest")).unwrap();
        let manifest = BackupManifest::parse(&text).expect("manifest");
        assert!(manifest.files.len() > 900);
        for (path, entry) in &manifest.files {
            let mut verifier = FileVerifier::new(entry);
            verifier.update(&fs::read(target.join(std::str::from_utf8(path).unwrap())).unwrap());
            assert_eq!(verifier.finish(), Ok(()), "{}", String::from_utf8_lossy(path));
        }
        let label = BackupLabel::parse(&fs::read_to_string(target.join("backup_label")).unwrap()).expect("label");
        assert_eq!(label.start, manifest.wal_ranges[0].start);
        assert_eq!(label.start_timeline, Some(manifest.wal_ranges[0].timeline));
        let mut damaged = text.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        assert!(BackupManifest::parse(&damaged).is_err());
    }
}

#[test]
fn a_promotion_leaves_a_history_that_is_understood() {
    let cluster = Cluster::start(&[]);
    cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i");
    cluster.stop("fast");
    let before = control(&cluster);
    let signal = cluster.pgdata().join("standby.signal");
    fs::write(&signal, "").unwrap();
    cluster.give(&signal);
    cluster.up();
    cluster.sql("SELECT pg_promote(true, 60)");
    cluster.sql("CHECKPOINT");
    let text = fs::read_to_string(cluster.pgdata().join("pg_wal/00000002.history")).unwrap();
    let history = TimelineHistory::parse(Timeline(2), &text).expect("history");
    let (parent, switch) = history.parent().unwrap();
    assert_eq!(parent, Timeline(1));
    assert!(switch > before.checkpoint);
    assert_eq!(control(&cluster).timeline, Timeline(2));
    let name = SegmentName::holding(Timeline(2), switch, before.segment_size);
    let bytes = fs::read(cluster.pgdata().join("pg_wal").join(name.to_string())).unwrap();
    let header = SegmentHeader::parse(&bytes).expect("header");
    assert_eq!(header.check(name, bytes.len() as u64), Ok(()));
    assert!(SegmentScan::of(name, before.segment_size, &bytes).end > switch);
}

#[test]
fn no_damage_makes_a_reader_panic() {
    let cluster = Cluster::create(&[], &["--wal-segsize=1"]);
    cluster.up();
    let name: SegmentName = cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())").parse().unwrap();
    cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 3000) AS i");
    cluster.stop("fast");
    let size = control(&cluster).segment_size;
    let bytes = fs::read(cluster.pgdata().join("pg_wal").join(name.to_string())).unwrap();
    let whole = SegmentScan::of(name, size, &bytes);
    let end = usize::try_from(whole.end.0 - name.start(size).0).unwrap();
    for (round, at) in (0..end).step_by(499).enumerate() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (round % 8);
        let scan = SegmentScan::of(name, size, &damaged);
        assert!(scan.end <= whole.end, "byte {at}");
    }
    for length in (0..bytes.len()).step_by(40_009) {
        assert!(SegmentScan::of(name, size, &bytes[..length]).halt.is_some());
    }
    let control = fs::read(cluster.pgdata().join(ControlFile::PATH)).unwrap();
    for length in 0..292 {
        assert!(ControlFile::parse(&control[..length]).is_err(), "{length} bytes");
    }
}

/// The records that `pg_waldump` shows, by position: its line, and what it describes.
fn dumped(cluster: &Cluster, start: Lsn) -> BTreeMap<Lsn, String> {
    let mut command = cluster.command("pg_waldump");
    command.env("TZ", "UTC").arg("-s").arg(start.to_string()).arg("-p").arg(cluster.pgdata().join("pg_wal"));
    let output = command.output().unwrap();
    let lsn = |line: &str| line.split_once("lsn: ")?.1.split_once(',')?.0.parse().ok();
    String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| Some((lsn(line)?, line.to_owned()))).collect()
}

#[test]
fn ends_of_transactions_and_landmarks_are_read_as_pg_waldump_reads_them() {
    let cluster = Cluster::create(&[("max_prepared_transactions", "4"), ("wal_keep_size", "512MB")], &[]);
    cluster.up();
    let first: SegmentName = cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())").parse().unwrap();
    cluster.sql("CREATE TABLE a(n int PRIMARY KEY, x text); CREATE TABLE b AS SELECT generate_series(1, 5000) AS n");
    cluster.sql("BEGIN; INSERT INTO a VALUES (1, 'x'); SAVEPOINT s; INSERT INTO a VALUES (2, 'y'); RELEASE s; COMMIT");
    cluster.sql("BEGIN; CREATE TABLE never(n int); ROLLBACK");
    cluster.sql("BEGIN; INSERT INTO a VALUES (3, 'z'); PREPARE TRANSACTION 'yes'");
    cluster.sql("BEGIN; INSERT INTO a VALUES (4, 'z'); PREPARE TRANSACTION 'no'");
    cluster.sql("COMMIT PREPARED 'yes'");
    cluster.sql("ROLLBACK PREPARED 'no'");
    cluster.sql("TRUNCATE b");
    cluster.sql("SELECT pg_create_restore_point('before the drop')");
    let oid: u32 = cluster.sql("SELECT 'a'::regclass::oid").parse().unwrap();
    cluster.sql("DELETE FROM a WHERE n = 1");
    cluster.sql("DROP TABLE a, b");
    cluster.sql("CREATE DATABASE short_lived");
    let database: u32 = cluster.sql("SELECT oid FROM pg_database WHERE datname = 'short_lived'").parse().unwrap();
    cluster.sql("DROP DATABASE short_lived");
    cluster.stop("immediate");
    let size = control(&cluster).segment_size;
    let (mut walker, mut ends, mut marks, mut changes) = (WalWalker::new(size), Vec::new(), Vec::new(), Vec::new());
    let mut name = first;
    while let Ok(bytes) = fs::read(cluster.pgdata().join("pg_wal").join(name.to_string())) {
        let walked = walker.segment(name, &bytes, &mut |record| {
            ends.extend(TransactionEnd::of(record));
            marks.extend(Landmark::of(record));
            changes.extend(RowChange::of(record));
        });
        if walked != Walked::ToTheEnd {
            break;
        }
        name = name.next(size);
    }
    let lines = dumped(&cluster, walker.first().unwrap());
    let is_end = |line: &&String| line.contains("desc: COMMIT") || line.contains("desc: ABORT");
    assert_eq!(ends.len(), lines.values().filter(is_end).count());
    for end in &ends {
        let line = &lines[&end.lsn];
        let word = if end.outcome == Outcome::Committed { "desc: COMMIT" } else { "desc: ABORT" };
        assert!(line.contains(word), "{end:?}\n{line}");
        assert!(line.contains(&end.at.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string()), "{end:?}\n{line}");
        let own = [format!("tx: {:10}", end.xid), format!("PREPARED {}:", end.xid)];
        let named =
            line.replace("tx:", "tx: ").contains(&format!(" {},", end.xid)) || own.iter().any(|own| line.contains(own));
        assert!(named, "{end:?}\n{line}");
        for file in &end.dropped_files {
            assert!(line.contains(&format!("base/{}/{}", file.database, file.file)), "{end:?}\n{line}");
        }
        assert_eq!(line.matches("base/").count(), end.dropped_files.len(), "{end:?}\n{line}");
        for relation in end.dropped.iter().flatten() {
            assert!(line.contains(&format!("2/{}/{}", relation.database, relation.oid)), "{end:?}\n{line}");
        }
        for sub in &end.subtransactions {
            assert!(line.split_once("subxacts:").is_some_and(|(_, rest)| rest.contains(&sub.to_string())), "{line}");
        }
    }
    assert!(
        ends.iter().any(|end| !end.subtransactions.is_empty())
            && ends.iter().any(|end| end.outcome == Outcome::Aborted)
    );
    if control(&cluster).has(Change::DroppedStatistics) {
        let drops = ends.iter().filter(|end| end.dropped.iter().flatten().any(|relation| relation.oid == oid));
        assert_eq!(drops.count(), 1, "only the DROP names it, though TRUNCATE removed a file as well");
    }
    let point = marks.iter().find_map(|mark| match mark {
        Landmark::RestorePoint { name, at } => Some((name.clone(), *at)),
        Landmark::Checkpoint { .. } | Landmark::Promotion { .. } | Landmark::DatabaseDropped { .. } => None,
    });
    assert_eq!(point.map(|(name, _)| name).as_deref(), Some("before the drop"));
    assert!(marks.contains(&Landmark::DatabaseDropped { oid: database }), "{marks:?}");
    assert!(changes.contains(&RowChange { verb: RowVerb::Delete, rows: 1 }));
    let added: u64 = changes.iter().filter(|change| change.verb == RowVerb::Insert).map(|change| change.rows).sum();
    assert!(added >= 5000, "{added} rows were seen to be inserted");
}
