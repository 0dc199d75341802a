//! What durability costs: the journal against the bare writes it cannot do without.
//!
//! `cargo bench --bench journal -- [FOLDER]`; the folder decides which disk is measured.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runbook::base::{Attempt, Digest, EventSeq, RunId, clock};
use runbook::event::{Actor, EventKind, FORMAT, RunHeader};
use runbook::journal::chain::Chain;
use runbook::journal::reader::scan;
use runbook::journal::{FileJournal, MemoryJournal};
use runbook::port::Journal;
use serde_json::json;

/// Rounds of one batch.
const ROUNDS: u32 = 200;
/// Batches of each kind, taken in turn so that a busy moment of the disk hits all kinds.
const BATCHES: usize = 15;

fn main() {
    let folder =
        std::env::args().skip(1).find(|arg| !arg.starts_with("--")).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(&folder).expect("the folder is writable");
    let build = if cfg!(debug_assertions) { "debug build: no figure to quote" } else { "release build" };
    println!("journal, {build}, {BATCHES} batches of {ROUNDS} rounds in {}", folder.display());
    println!("a round = the end of a step and the start of the next: 2 events, 1 write, 1 fdatasync");

    let mut journal = FileJournal::create(dir.path(), run(), Digest::of(b"plan")).expect("creates");
    let mut memory = MemoryJournal::new(run(), Digest::of(b"plan"));
    let mut bare = OpenOptions::new().append(true).create(true).open(dir.path().join("bare")).expect("creates");
    journal.append(clock::now(), vec![started()]).expect("appends");
    memory.append(clock::now(), vec![started()]).expect("appends");
    let (mut with_journal, mut with_bare, mut with_memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..BATCHES {
        let before = (journal.bytes(), journal.syncs());
        with_journal.push(timed(|| rounds(&mut journal)));
        let line = vec![b'x'; usize::try_from((journal.bytes() - before.0) / u64::from(ROUNDS)).expect("fits")];
        assert_eq!(journal.syncs() - before.1, u64::from(ROUNDS), "one sync per round");
        with_bare.push(timed(|| write_bare(&mut bare, &line)));
        with_memory.push(timed(|| rounds(&mut memory)));
    }
    let total = ROUNDS * u32::try_from(BATCHES).expect("fits");
    print_rounds("bare write + fdatasync of as many bytes", with_bare);
    print_rounds("journal: append + sync", with_journal);
    print_rounds("its share without the disk: link, hash, read back", with_memory);
    println!("{:>10.1} bytes per event", journal.bytes() as f64 / f64::from(total * 2));
    print_reading(dir.path());
}

fn rounds(journal: &mut impl Journal) {
    for number in 0..ROUNDS {
        let step = format!("step_{number}").parse().expect("an id");
        let next = format!("step_{}", number + 1).parse().expect("an id");
        let output = json!({ "exit_code": 0, "stdout": "ok" });
        let kinds = vec![
            EventKind::StepSucceeded { step, attempt: Attempt(1), output, elapsed_ms: 12 },
            EventKind::AttemptStarted { step: next, attempt: Attempt(1), key: format!("{}/{number}", run()) },
        ];
        journal.append(clock::now(), kinds).expect("appends");
        journal.sync().expect("syncs");
    }
}

fn write_bare(file: &mut File, line: &[u8]) {
    for _ in 0..ROUNDS {
        file.write_all(line).and_then(|()| file.sync_data()).expect("writes");
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = clock::monotonic();
    work();
    start.elapsed()
}

fn print_rounds(what: &str, mut batches: Vec<Duration>) {
    batches.sort();
    let micros = |batch: &Duration| batch.as_secs_f64() * 1e6 / f64::from(ROUNDS);
    let (median, fastest) = (micros(&batches[batches.len() / 2]), micros(&batches[0]));
    println!("{median:>10.1} µs per round (fastest batch {fastest:.1}), {:>8.0} rounds/s  {what}", 1e6 / median);
}

fn print_reading(dir: &Path) {
    let bytes = std::fs::read(dir.join("journal.jsonl")).expect("reads");
    let mut events = EventSeq(0);
    let taken = timed(|| events = scan(&bytes, Chain::start(run(), Digest::of(b"plan"))).expect("holds").chain.seq());
    let (seconds, count) = (taken.as_secs_f64(), events.0 as f64);
    let mebibytes = bytes.len() as f64 / f64::from(1 << 20);
    println!("{:>10.1} µs per event, {:.0} MiB/s  read and verify", seconds * 1e6 / count, mebibytes / seconds);
}

fn run() -> RunId {
    "20260128-143002-3fa9c1".parse().expect("a run id")
}

fn started() -> EventKind {
    EventKind::RunStarted(Box::new(RunHeader {
        format: FORMAT,
        name: "bench".to_owned(),
        mode: runbook::action::Mode::Real,
        environment: "bench".to_owned(),
        actor: Actor { name: "bench".to_owned(), from: String::new() },
        pid: 1,
        host: "bench".to_owned(),
        version: "0".to_owned(),
        plan: Digest::of(b"plan"),
        incident_at: None,
        locks: None,
        origin: None,
    }))
}
