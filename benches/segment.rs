//! What one segment of WAL costs in processor time beyond being copied: walking its records, whole or as its bytes come, and
//! its digest.
//!
//! `cargo bench --bench segment -- FILE...`: segments of 16 MiB under their own names, as they lie in `pg_wal`.

#[path = "measure/mod.rs"]
#[expect(dead_code, reason = "shared with benchmarks that use more of it")]
mod measure;
#[path = "measure/process.rs"]
#[expect(dead_code, reason = "shared with benchmarks that use more of it")]
mod process;

use std::hint::black_box;
use std::path::Path;

use runbook::base::Digest;
use runbook::pgformat::{SegmentName, SegmentSize, SegmentWalk, WalWalker};

use measure::build;
use process::cpu_seconds;

/// The pieces that a segment is unpacked in.
const PIECE_BYTES: usize = 1 << 20;
/// Processor time is counted in hundredths of a second: everything is done so often.
const ROUNDS: u32 = 10;

fn main() {
    let files: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if files.is_empty() {
        println!("give segments of WAL to walk, as `cargo bench --bench segment -- /path/to/pg_wal/0*`");
        return;
    }
    let read = |path: &String| {
        let name = Path::new(path).file_name().and_then(|name| name.to_str()?.parse::<SegmentName>().ok());
        (name.expect("a segment's name"), std::fs::read(path).expect("can be read"))
    };
    let segments: Vec<(SegmentName, Vec<u8>)> = files.iter().map(read).collect();
    println!("{} segments, {}", segments.len(), build());
    let mut records = 0_u64;
    tell("walked whole", &segments, &mut |name, bytes| {
        WalWalker::new(SegmentSize::DEFAULT).segment(name, bytes, &mut |_| records += 1);
    });
    tell("walked as it comes", &segments, &mut |name, bytes| {
        let mut walk = SegmentWalk::new(WalWalker::new(SegmentSize::DEFAULT), name);
        bytes.chunks(PIECE_BYTES).for_each(|piece| walk.take(piece, &mut |_| {}));
        black_box(walk.halt());
    });
    tell("SHA-256", &segments, &mut |_, bytes| {
        black_box(Digest::of(bytes));
    });
    println!("{} records per segment", records / u64::from(ROUNDS) / segments.len() as u64);
}

/// Prints what a deed costs per segment.
fn tell(what: &str, segments: &[(SegmentName, Vec<u8>)], deed: &mut dyn FnMut(SegmentName, &[u8])) {
    let (before, _) = cpu_seconds();
    for _ in 0..ROUNDS {
        segments.iter().for_each(|(name, bytes)| deed(*name, bytes));
    }
    let seconds = cpu_seconds().0 - before;
    println!("{what:<20} {:6.2} ms of processor", seconds * 1e3 / f64::from(ROUNDS) / segments.len() as f64);
}
