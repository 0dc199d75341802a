//! Delivers one WAL file to a server in recovery.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::absence::{Absence, Archive};
use super::packed::{Source, read_into};
use super::preference::{Heard, gravest};
use super::preferred_store::PreferredStore;
use super::rescue::{later_rescued, read_rescued};
use super::staged_file::{StagedFile, deliver};
use super::{Identity, WalError};
use crate::action::StoreError;
use crate::base::clock::monotonic;
use crate::catalog::recovery::Requirement;
use crate::pgformat::{SegmentName, SegmentSize, WalFileName};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long each of several stores is waited for, turn by turn. One that hangs keeps nobody from what the others have; one
/// that is only slow gets more time where no other one has the file.
const TURNS: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(4 * 60), Duration::from_secs(16 * 60)];
/// Segments that are as many times as large get as many times as long.
const LARGE_BYTES: u64 = 256 << 20;

/// How a fetch ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delivery {
    /// From the archive, verified.
    Archive,
    /// From a rescue folder, verified.
    Rescue(PathBuf),
    /// The file does not exist and nothing says that it should.
    Absent,
}

/// What one look into the archive gave.
enum Look {
    Found(StagedFile),
    Absent,
}

/// Delivers `name` to `target`: whole and verified, or not at all. Of several places the first that has it whole counts, and
/// it is absent only when it is absent in all of them. A segment that breaks off is delivered only when every place was
/// looked into and none proves more: to the server it is the end of the WAL.
///
/// `rescue` are folders with WAL outside the archive; `patience` is how long failures that may pass are tried again.
///
/// # Errors
/// Fails for everything but a proven absence.
pub(super) async fn fetch_file(
    (sources, preferred): (&[Source<'_>], &PreferredStore),
    rescue: &[PathBuf],
    (name, target): (WalFileName, &Path),
    patience: Duration,
) -> Result<Delivery, WalError> {
    let Some(identity) = sources.first().map(|source| source.identity) else {
        return Err(WalError::Usage("there is no store to fetch from".to_owned()));
    };
    // What a rescue folder has whole need not be waited for.
    let is_at_hand = |error: &WalError| {
        let rescued = || read_rescued(rescue, name, &identity);
        matches!(error, WalError::Overdue { .. }) && matches!(rescued(), Ok(Some(found)) if found.is_whole())
    };
    match look_patiently((sources, preferred), (name, target), (patience, &is_at_hand)).await {
        Ok(Look::Found(staged_file)) => {
            staged_file.settle(target)?;
            Ok(Delivery::Archive)
        }
        Ok(Look::Absent) => match name {
            WalFileName::Segment(segment) => beyond_the_archive(rescue, &identity, segment, target),
            WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. } => {
                Ok(Delivery::Absent)
            }
        },
        Err(error) => match read_rescued(rescue, name, &identity) {
            // An unfinished segment would look like the end of the WAL, which it is not known to be.
            Ok(Some(found)) if found.is_whole() => {
                deliver(&found.bytes, target)?;
                Ok(Delivery::Rescue(found.path))
            }
            Ok(Some(_) | None) | Err(_) => Err(error),
        },
    }
}

/// Delivers a segment after the end of the archive from the rescued tail, whose own end is not the end of
/// the WAL either as long as something later was rescued.
fn beyond_the_archive(
    rescue: &[PathBuf],
    identity: &Identity,
    segment: SegmentName,
    target: &Path,
) -> Result<Delivery, WalError> {
    let name = WalFileName::Segment(segment);
    let found = read_rescued(rescue, name, identity)?;
    let later = later_rescued(rescue, segment, identity)?;
    match (found, later) {
        (Some(found), later) if later.is_none() || found.is_whole() => {
            deliver(&found.bytes, target).map(|()| Delivery::Rescue(found.path))
        }
        (Some(_), later) => {
            let later = later.map(|later| later.to_string()).unwrap_or_default();
            Err(WalError::Required { name, why: format!("it breaks off where it was rescued, and `{later}` follows") })
        }
        (None, Some(later)) => {
            Err(WalError::Required { name, why: format!("the later segment `{later}` was rescued") })
        }
        (None, None) => Ok(Delivery::Absent),
    }
}

async fn look_patiently(
    stores: (&[Source<'_>], &PreferredStore),
    wanted: (WalFileName, &Path),
    (patience, is_at_hand): (Duration, &(dyn Fn(&WalError) -> bool + Sync)),
) -> Result<Look, WalError> {
    let begin = monotonic();
    let mut pause = FIRST_PAUSE;
    loop {
        match look_everywhere(stores, wanted).await {
            Err(error) if error.is_passing() && begin.elapsed() + pause <= patience && !is_at_hand(&error) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            other => return other,
        }
    }
}

async fn look_everywhere(
    stores: (&[Source<'_>], &PreferredStore),
    wanted: (WalFileName, &Path),
) -> Result<Look, WalError> {
    look_in_turns(stores, wanted, &TURNS).await
}

async fn look_in_turns(
    (sources, preferred): (&[Source<'_>], &PreferredStore),
    wanted: (WalFileName, &Path),
    turns: &[Duration],
) -> Result<Look, WalError> {
    let (mut heard, begun) = (Heard::default(), monotonic());
    let mut asked: Vec<usize> = preferred.order(sources.len()).collect();
    for turn in turns {
        let mut silent = Vec::new();
        for place in asked {
            let waited = begun.elapsed();
            let Some(looked) = in_time(sources, place, (*turn, look(&sources[place], wanted))).await else {
                silent.push(place);
                continue;
            };
            match looked {
                Ok(Look::Found(staged_file)) => match staged_file.breaks_off() {
                    // It may be the last of its timeline, or the beginning of one that another store has more of.
                    Some(off) if sources.len() > 1 => heard.breaks_off(place, off.end),
                    Some(_) | None => {
                        preferred.gave(place, waited);
                        return Ok(Look::Found(staged_file));
                    }
                },
                Ok(Look::Absent) => {}
                Err(error) => heard.failed(place, error),
            }
        }
        asked = silent;
    }
    asked.into_iter().for_each(|place| heard.failed(place, unanswered(&sources[place], wanted.0)));
    match heard.longest(sources, wanted.0).await? {
        None => Ok(Look::Absent),
        Some(place) => look_at_the_end(sources, place, wanted).await,
    }
}

/// Waits for one of several stores no longer than its time; for the only one there is as long as it takes, since nobody else
/// has what is asked for. `None`: it is over.
async fn in_time<T>(
    sources: &[Source<'_>],
    place: usize,
    (turn, asked): (Duration, impl Future<Output = T>),
) -> Option<T> {
    if sources.len() < 2 {
        return Some(asked.await);
    }
    let size_bytes = sources[place].identity.segment_size.map_or(0, SegmentSize::bytes);
    let times = u32::try_from(size_bytes / LARGE_BYTES).unwrap_or_default() + 1;
    tokio::time::timeout(turn * times, asked).await.ok()
}

fn unanswered(source: &Source<'_>, name: WalFileName) -> WalError {
    let (store, what) =
        (source.store.name().to_owned(), format!("it does not answer, or is too slow to give `{name}`"));
    StoreError::Unavailable { store, what, source: std::io::ErrorKind::TimedOut.into() }.into()
}

/// Gives the copy that goes furthest of those that all break off, where no store proves that there is more of the segment.
async fn look_at_the_end(sources: &[Source<'_>], place: usize, wanted: (WalFileName, &Path)) -> Result<Look, WalError> {
    // Each is written to the same place, so it is read once more.
    let found = look(&sources[place], wanted).await?;
    if let Look::Found(staged_file) = &found {
        for source in sources {
            leads_on(source, wanted.0, staged_file).await?;
        }
    }
    Ok(found)
}

/// Reads a segment that the server has not asked for yet to where it is made, verified, from the first store that has it
/// whole. `None` says nothing of whether it should be there.
pub(super) async fn seek(
    (sources, preferred): (&[Source<'_>], &PreferredStore),
    segment: SegmentName,
    make: &(dyn Fn() -> Result<StagedFile, WalError> + Sync),
) -> Result<Option<StagedFile>, WalError> {
    let name = WalFileName::Segment(segment);
    let (mut failures, begun) = (Vec::new(), monotonic());
    for place in preferred.order(sources.len()) {
        let waited = begun.elapsed();
        match in_time(sources, place, (TURNS[0], read_whole(&sources[place], name, make))).await {
            Some(Ok(staged_file)) => {
                preferred.gave(place, waited);
                return Ok(Some(staged_file));
            }
            Some(Err(WalError::Store(StoreError::NotFound { .. }))) => {}
            Some(Err(error)) => failures.push((place, error)),
            None => failures.push((place, unanswered(&sources[place], name))),
        }
    }
    gravest(sources, failures).map_or(Ok(None), Err)
}

/// Reads a segment from one store. One that breaks off may be the last of its timeline: it is left to the server's own
/// question.
async fn read_whole(
    source: &Source<'_>,
    name: WalFileName,
    make: &(dyn Fn() -> Result<StagedFile, WalError> + Sync),
) -> Result<StagedFile, WalError> {
    let staged_file = read_into(source, name, &|_| Ok(make()?.walked(name, &source.identity))).await?;
    staged_file.verify(name, &source.identity)?;
    match staged_file.breaks_off() {
        None => Ok(staged_file),
        Some(off) => Err(WalError::Damaged { name, what: off.to_string() }),
    }
}

/// Refuses a segment whose records break off though something in the archive proves that there was more of it: the server
/// would take that for the end of the WAL, and open.
async fn leads_on(source: &Source<'_>, name: WalFileName, staged_file: &StagedFile) -> Result<(), WalError> {
    let (Some(off), WalFileName::Segment(segment), Some(size)) =
        (staged_file.breaks_off(), name, source.identity.segment_size)
    else {
        return Ok(());
    };
    let archive = Archive::read(source.store, source.prefix, &source.identity, segment.timeline()).await?;
    match archive.judge_end(segment, off.end, size) {
        Absence::End => Ok(()),
        Absence::Hole(why) => Err(WalError::Damaged { name, what: format!("{off}, though {why}") }),
    }
}

/// What later WAL proves may still come; what a fork or a backup needs was there before them.
fn lacking(name: WalFileName, why: Requirement) -> WalError {
    match why {
        Requirement::Later(_) | Requirement::LaterPartial(_) => WalError::Overdue { name, why, beside: String::new() },
        Requirement::Fork { .. } | Requirement::Backup(_) => WalError::Required { name, why: why.to_string() },
    }
}

async fn look(source: &Source<'_>, (name, target): (WalFileName, &Path)) -> Result<Look, WalError> {
    let identity = &source.identity;
    match read_into(source, name, &|_| Ok(StagedFile::beside(target)?.walked(name, identity))).await {
        Ok(staged_file) => {
            let proven = staged_file.verify(name, identity);
            proven.map_err(|error| WalError::Damaged { name, what: error.to_string() })?;
            leads_on(source, name, &staged_file).await?;
            Ok(Look::Found(staged_file))
        }
        Err(WalError::Store(StoreError::NotFound { key, .. })) => {
            // Said once is not enough: the listing must agree, and nothing later may be there.
            let archive = Archive::read(source.store, source.prefix, identity, name.timeline()).await?;
            if archive.lists(name) {
                let store = source.store.name().to_owned();
                let what = format!("`{key}` appeared meanwhile");
                let source = std::io::Error::other("it was not there a moment ago");
                return Err(StoreError::Unavailable { store, what, source }.into());
            }
            let size =
                identity.segment_size.ok_or_else(|| WalError::Unidentified(PathBuf::from("global/pg_control")))?;
            match archive.judge_file(name, size) {
                Absence::End => Ok(Look::Absent),
                Absence::Hole(why) => Err(lacking(name, why)),
            }
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::action::{BoxFuture, ByteStream, GetOptions, ObjectFacts, ObjectKey, ReadStore};
    use crate::base::{Digest, Timestamp};
    use crate::catalog::packed_wal_key;
    use crate::pgformat::SystemId;
    use crate::wal::packed::Keys;

    const HISTORY: &[u8] = b"1\t0/3000000\tno recovery target specified\n";
    /// A store with one object or none, which answers after a while or never.
    struct Slow {
        name: &'static str,
        object: Option<ObjectKey>,
        answers_after: Duration,
    }

    impl Slow {
        fn answer<T: Send + 'static>(&self, answer: Result<T, StoreError>) -> BoxFuture<'_, Result<T, StoreError>> {
            Box::pin(async move {
                tokio::time::sleep(self.answers_after).await;
                answer
            })
        }

        fn has(&self, key: &ObjectKey) -> Result<(), StoreError> {
            let missing = || StoreError::NotFound { store: self.name.to_owned(), key: key.to_string() };
            if self.object.as_ref() == Some(key) { Ok(()) } else { Err(missing()) }
        }

        fn facts(key: &ObjectKey) -> ObjectFacts {
            let metadata = [("sha256".to_owned(), Digest::of(HISTORY).to_string())].into();
            ObjectFacts { metadata, ..ObjectFacts::new(key.clone(), HISTORY.len() as u64, Timestamp::UNIX_EPOCH) }
        }
    }

    impl ReadStore for Slow {
        fn name(&self) -> &str {
            self.name
        }
        fn get_with(&self, key: &ObjectKey, _: GetOptions) -> BoxFuture<'_, Result<ByteStream, StoreError>> {
            self.answer(self.has(key).map(|()| Box::new(HISTORY) as ByteStream))
        }
        fn head(&self, key: &ObjectKey) -> BoxFuture<'_, Result<ObjectFacts, StoreError>> {
            self.answer(self.has(key).map(|()| Self::facts(key)))
        }
        fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<ObjectFacts>, StoreError>> {
            let object = self.object.iter().filter(|key| key.as_str().starts_with(prefix));
            self.answer(Ok(object.map(Self::facts).collect()))
        }
    }

    /// Asks a store that answers after a while, and one that answers at once; each has the file or lacks it.
    async fn asked(
        answers_after: Duration,
        (first_has, second_has): (bool, bool),
        turns: [u64; 2],
    ) -> Result<Look, WalError> {
        let identity = Identity { system_id: SystemId(7), segment_size: Some(SegmentSize::DEFAULT) };
        let name: WalFileName = "00000002.history".parse().unwrap();
        let key = packed_wal_key("main", identity.system_id, name, "").unwrap();
        let stores = [
            Slow { name: "nas", object: first_has.then(|| key.clone()), answers_after },
            Slow { name: "s3", object: second_has.then(|| key.clone()), answers_after: Duration::ZERO },
        ];
        let sources = stores.each_ref().map(|store| Source { store, prefix: "main", identity, keys: Keys::none() });
        let home = tempfile::tempdir().unwrap();
        let turns = turns.map(Duration::from_millis);
        look_in_turns((&sources, &PreferredStore::default()), (name, &home.path().join("to")), &turns).await
    }

    #[tokio::test]
    async fn a_store_that_hangs_keeps_no_recovery_from_what_another_one_has() {
        let never = Duration::from_secs(3600);
        assert!(matches!(asked(never, (true, true), [500, 1000]).await, Ok(Look::Found(_))));
        let told = asked(never, (true, false), [500, 1000]).await.err().unwrap();
        assert!(told.is_passing() && told.to_string().contains("nas"), "it may have it: {told}");
    }

    #[tokio::test]
    async fn a_store_that_is_only_slow_gives_what_no_other_one_has() {
        let found = asked(Duration::from_millis(150), (true, false), [200, 30_000]).await;
        assert!(matches!(found, Ok(Look::Found(_))), "{:?}", found.err());
    }
}
