//! Fetches ahead of a server in recovery, in a process of its own beside it.
//!
//! It is started by a fetch that delivered a segment, or before the server is, follows the position that the server asks for, and ends by
//! itself: when nothing was asked for a while, when the server is gone or has opened, when the spool is removed or
//! full, and at the end of the archive. What it meets there is no answer to anybody: the server's own question is
//! asked again.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::fetch::seek;
use super::packed::Source;
use super::prefetch_cache::PrefetchCache;
use super::staged_file::StagedFile;
use super::{Config, WalError};
use crate::base::clock::monotonic;
use crate::pgformat::{SegmentName, SegmentSize, WalFileName};

/// Segments under way at a time, as far as their bytes allow it.
const LANES: u64 = 3;
const LANES_BYTES: u64 = 48 << 20;
/// How long nothing may be asked for before it ends.
const IDLE: Duration = Duration::from_secs(10);
/// How long it stays where the archive ends.
const AT_THE_END: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Starts the process, unless one is at work or nobody would need it.
pub(super) fn start(config: &Path, prefetch_cache: &PrefetchCache, pgdata: &Path) {
    let is_at_work = !matches!(prefetch_cache.lock(), Ok(Some(_)));
    if !is_at_work && is_to_recover(pgdata) && is_alive(pgdata) {
        spawn(config);
    }
}

/// Starts the process for a server that is about to start and will ask for the segment after `before` first.
///
/// # Errors
/// Fails when the spool cannot be used.
pub(super) fn start_before(config: &Path, prefetch_cache: &PrefetchCache, before: SegmentName) -> std::io::Result<()> {
    prefetch_cache.ask(before)?;
    spawn(config);
    Ok(())
}

/// It is told nothing but the configuration, and has nothing of ours but that: no pipe of the server stays open because
/// of it.
fn spawn(config: &Path) {
    let Ok(program) = std::env::current_exe() else { return };
    #[expect(clippy::disallowed_methods, reason = "the one process of this room: it must outlive this one")]
    let mut command = Command::new(program);
    command.args(["wal", "prefetch", "--config"]).arg(config);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // The C library keeps what a thread has freed in a pool of that thread: with few pools the memory stays small.
    command.env("MALLOC_ARENA_MAX", "2");
    // Without it everything is fetched when it is asked for.
    let _ = command.spawn();
}

/// What tells a server to recover from an archive, or to stay a standby; gone when it has opened.
const SIGNALS: [&str; 3] = ["recovery.signal", "standby.signal", "recovery.conf"];

/// Tells whether a server is to recover in a data directory.
fn is_to_recover(pgdata: &Path) -> bool {
    SIGNALS.iter().any(|signal| pgdata.join(signal).exists())
}

/// Tells whether a server runs in a data directory.
fn is_alive(pgdata: &Path) -> bool {
    let text = std::fs::read_to_string(pgdata.join("postmaster.pid")).unwrap_or_default();
    let pid = text.lines().next().and_then(|line| line.trim().parse().ok()).and_then(rustix::process::Pid::from_raw);
    // Another user's process is one that lives, too.
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// Follows the server until there is nothing to do.
///
/// # Errors
/// Fails when the spool does. Nobody is told.
pub(super) async fn follow(
    sources: &[Source<'_>],
    prefetch_cache: &PrefetchCache,
    (config, pgdata, size): (&Config, &Path, SegmentSize),
) -> Result<(), WalError> {
    let at = |source| WalError::File { operation: "use the spool in", path: pgdata.to_owned(), source };
    let lanes = usize::try_from((LANES_BYTES / size.bytes()).clamp(1, LANES)).unwrap_or(1);
    let preferred = &prefetch_cache.preferred();
    let mut under_way = FuturesUnordered::new();
    let (mut position, mut failed): (Option<SegmentName>, BTreeSet<SegmentName>) = (None, BTreeSet::new());
    let mut moved = monotonic();
    let mut busy: BTreeSet<SegmentName> = BTreeSet::new();
    let (mut begun, after) = (false, if prefetch_cache.is_beside(pgdata) { After::Synced } else { After::Written });
    // One that has not begun yet is waited for, as one is that asks for nothing; one that is gone is not.
    while is_to_recover(pgdata) && (is_alive(pgdata) || !begun) {
        begun = begun || is_alive(pgdata);
        let asked = prefetch_cache.asked().map_err(at)?;
        if asked != position {
            (position, moved) = (asked, monotonic());
            failed.clear();
            position.iter().for_each(|position| prefetch_cache.pass(*position));
        }
        let there: BTreeSet<SegmentName> = prefetch_cache.segments().map_err(at)?.into_iter().collect();
        let next = position.and_then(|position| {
            let given = |one: &SegmentName| !config.withholds(WalFileName::Segment(*one));
            let wanted = ahead_of(position, size, prefetch_cache.limit)
                .take_while(given)
                .find(|one| !there.contains(one) && !busy.contains(one));
            // Behind one that is not to be had nothing is of use.
            wanted.filter(|one| failed.first().is_none_or(|first| one < first))
        });
        match next.filter(|_| under_way.len() < lanes && prefetch_cache.has_room(size)) {
            Some(segment) => {
                prefetch_cache.begin(segment).map_err(at)?;
                busy.insert(segment);
                let stores = (sources, preferred);
                let found = async move { seek(stores, segment, &|| prefetch_cache.staged_file(segment)).await };
                under_way.push(async move { (segment, laid_down(found.await, after).await) });
                continue;
            }
            None if under_way.is_empty() => {
                let patience = if failed.is_empty() { IDLE } else { AT_THE_END };
                if moved.elapsed() > patience {
                    return Ok(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            None => {
                // A look now and then: the server may be gone, or have passed by.
                let Ok(Some((segment, found))) = tokio::time::timeout(LOOK_EVERY * 10, under_way.next()).await else {
                    continue;
                };
                busy.remove(&segment);
                match found {
                    Ok(Some(staged_file)) if is_wanted(segment, position) => {
                        prefetch_cache.keep(segment, staged_file)?
                    }
                    // The server has passed it by, and where it was written to was tidied up.
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => {
                        prefetch_cache.give_up(segment);
                        failed.insert(segment);
                    }
                }
            }
        }
    }
    Ok(())
}

/// When a segment that was fetched ahead is ready to be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// When the disk has it: a server syncs each segment that it is given before it reads on (`durable_rename`), and waits the
    /// less the more of it is done.
    Synced,
    /// When it is written: the server is given a copy.
    Written,
}

async fn laid_down(found: Result<Option<StagedFile>, WalError>, after: After) -> Result<Option<StagedFile>, WalError> {
    let staged_file = match (found?, after) {
        (Some(staged_file), After::Synced) => staged_file,
        (found, After::Synced | After::Written) => return Ok(found),
    };
    let syncing = tokio::task::spawn_blocking(move || staged_file.sync().map(|()| staged_file));
    syncing.await.map_err(|error| WalError::Usage(format!("a sync broke off: {error}")))?.map(Some)
}

/// Tells whether the server, which asked for `position` last, may still ask for a segment.
fn is_wanted(segment: SegmentName, position: Option<SegmentName>) -> bool {
    position.is_some_and(|position| segment >= position && segment.timeline() == position.timeline())
}

/// The segments that the server will ask for next.
fn ahead_of(position: SegmentName, size: SegmentSize, count: usize) -> impl Iterator<Item = SegmentName> {
    std::iter::successors(Some(position.next(size)), move |segment| Some(segment.next(size))).take(count)
}
