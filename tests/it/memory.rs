//! What is freed is given back to the system.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::fs;

/// The memory of this process that is no file's, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Blocks like those that carry data, with something small and lasting between them.
#[test]
fn large_blocks_are_given_back_although_small_ones_live_on_between_them() {
    runbook_malloc::bound();
    let block = || vec![1_u8; 3 << 19];
    // Without a bound the C library learns from the first one to keep its like.
    drop(block());
    let before = resident();
    let (blocks, lasting): (Vec<_>, Vec<_>) = (0..64).map(|_| (block(), Box::new([1_u8; 512]))).unzip();
    let most = resident();
    drop(blocks);
    let (most, kept) = (most.saturating_sub(before), resident().saturating_sub(before));
    assert_eq!(lasting.len(), 64);
    assert!(most > 90_000 && kept < 10_000, "{kept} KiB of {most} are kept");
}
