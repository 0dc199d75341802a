//! Which copy of a WAL file counts where several stores have one: one rule for whoever reads WAL.
//!
//! A recovery that was given up archives the last segment as far as it had been written, and the server that went on archives
//! the whole one, perhaps into one store only. So the first copy counts that does not break off; where all do, the one that
//! goes furthest, unless a store failed that may have more. A copy that is damaged, or that no key here opens, has no more
//! where what was noted with it says so: it was stored with the very same content, or as a beginning that ends no later.
//! What is delivered to a server in recovery is held against what follows as well, in `fetch`.

use std::cmp::Reverse;
use std::io::{self, Write};

use super::WalError;
use super::packed::{Loaded, Plainly, Source, load, plain_sha256, read_into};
use super::unfinished::Unfinished;
use crate::action::StoreError;
use crate::base::Digest;
use crate::catalog::wal_objects;
use crate::pgformat::{Lsn, SegmentWalk, WalFileName, WalWalker};

/// What the stores that were asked for one file had to say, each by its place among them. One that lacks it need not be told.
#[derive(Default)]
pub(super) struct Heard {
    /// The copy that goes furthest of those that break off.
    cut: Option<(Option<Lsn>, usize)>,
    failures: Vec<(usize, WalError)>,
}

impl Heard {
    /// A store has a copy whose records end before it does.
    pub(super) fn breaks_off(&mut self, place: usize, end: Option<Lsn>) {
        if self.cut.is_none_or(|(longest, _)| longest < end) {
            self.cut = Some((end, place));
        }
    }

    /// A store gave nothing.
    pub(super) fn failed(&mut self, place: usize, error: WalError) {
        self.failures.push((place, error));
    }

    /// Gives the store whose copy counts where none leads to its end; `None` where no store has any.
    ///
    /// # Errors
    /// Fails with the gravest failure where no copy came, and where the store that failed may have more than came. It tells
    /// of every store that failed.
    pub(super) async fn longest(self, sources: &[Source<'_>], name: WalFileName) -> Result<Option<usize>, WalError> {
        let Some((end, place)) = self.cut else {
            return gravest(sources, self.failures).map_or(Ok(None), Err);
        };
        let mut standing = Vec::new();
        let mut plain = None;
        for (failed, error) in self.failures {
            if lacks(&error) {
                continue;
            }
            if plain.is_none() {
                plain = Some(load(&sources[place], name).await?.plain_sha256());
            }
            if !has_no_more(&sources[failed], name, (end, plain.flatten())).await {
                standing.push((failed, error));
            }
        }
        gravest(sources, standing).map_or(Ok(Some(place)), Err)
    }
}

/// Tells whether what a store has of a file, which cannot be read there, is no more than a copy whose records end at `end`: by
/// what was noted when it was stored. What cannot be told is no.
async fn has_no_more(source: &Source<'_>, name: WalFileName, (end, plain): (Option<Lsn>, Option<Digest>)) -> bool {
    let (WalFileName::Segment(segment), Some(size)) = (name, source.identity.segment_size) else { return false };
    let Ok(objects) = wal_objects(source.store, source.prefix, source.identity.system_id, name).await else {
        return false;
    };
    let reached = end.map(|end| end.0.saturating_sub(segment.start(size).0));
    for key in &objects {
        let Ok(facts) = source.store.head(key).await else { return false };
        let is_same = plain.is_some() && plain_sha256(&facts) == plain;
        let is_beginning = Unfinished::told(&facts).zip(reached).is_some_and(|(told, reached)| told.ends_by(reached));
        if !is_same && !is_beginning {
            return false;
        }
    }
    !objects.is_empty()
}

/// How much a failure of one of several stores counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gravity {
    /// The store lacks the file.
    Lack,
    /// What it has is of no use.
    Fault,
    /// What it has may be whole: no key here opens it.
    NoKey,
    /// It may pass: the file may be there.
    Passing,
}

impl Gravity {
    fn of(error: &WalError) -> Self {
        if error.is_passing() {
            Self::Passing
        } else if error.is_of_key() {
            Self::NoKey
        } else if matches!(error, WalError::Store(StoreError::NotFound { .. })) {
            Self::Lack
        } else {
            Self::Fault
        }
    }
}

/// Which of several stores' failures counts, the first of the gravest; it tells of the others as well. `None` without any.
pub(super) fn gravest(sources: &[Source<'_>], mut failures: Vec<(usize, WalError)>) -> Option<WalError> {
    let graver = |(at, (_, error)): &(usize, &(usize, WalError))| (Gravity::of(error), Reverse(*at));
    let first = failures.iter().enumerate().max_by_key(graver).map(|(at, _)| at)?;
    let (place, error) = failures.remove(first);
    if failures.is_empty() && sources.len() < 2 {
        return Some(error);
    }
    let shown = |place: usize| sources.get(place).map_or_else(String::new, |source| source.store.name().to_owned());
    let others = failures.iter().map(|(place, error)| format!("; store `{}`: {error}", shown(*place)));
    Some(error.beside(&format!("(store `{}`{})", shown(place), others.collect::<String>())))
}

/// Something that takes plain bytes, and the walk through the records in them.
struct Watched<W> {
    to: W,
    walk: Option<Box<SegmentWalk>>,
}

/// How far the records of a copy lead.
enum Length {
    /// To its end, as far as anybody can tell.
    Whole,
    /// To here at most.
    BreaksOff(Option<Lsn>),
}

impl<W> Watched<W> {
    /// Watches over a segment of a known size. Where only one store is asked, nothing is to be chosen.
    fn of(to: W, sources: &[Source<'_>], name: WalFileName) -> Self {
        let size = sources.first().filter(|_| sources.len() > 1).and_then(|source| source.identity.segment_size);
        let walk = match (name, size) {
            (WalFileName::Segment(segment), Some(size)) => {
                Some(Box::new(SegmentWalk::new(WalWalker::new(size), segment)))
            }
            (WalFileName::Segment(_), None)
            | (WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. }, _) => None,
        };
        Self { to, walk }
    }

    fn length(&self) -> Length {
        match self.walk.as_ref().and_then(|walk| walk.halt()) {
            None => Length::Whole,
            Some((end, _)) => Length::BreaksOff(end),
        }
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        if let Some(walk) = &mut self.walk {
            walk.take(&bytes[..count], &mut |_| {});
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Reads one file from whichever of several archives of a cluster has the copy that counts.
///
/// # Errors
/// Fails with [`StoreError::NotFound`] when none of them has it, and with what one of them failed with when no other one
/// has it whole: it may be there.
pub async fn read_first(sources: &[Source<'_>], name: WalFileName) -> Result<Vec<u8>, WalError> {
    // A buffer that grows would be copied, and twice as large in the end.
    read_first_into(sources, name, &|size| Ok(Vec::with_capacity(usize::try_from(size).unwrap_or_default()))).await
}

/// Reads one file as [`read_first`] does, into what is made for so many bytes: anew for every archive that is tried.
///
/// # Errors
/// Fails as [`read_first`], and when nothing can be made or written.
pub async fn read_first_into<W: Plainly>(
    sources: &[Source<'_>],
    name: WalFileName,
    make: &(dyn Fn(u64) -> Result<W, WalError> + Sync),
) -> Result<W, WalError> {
    let make = |size| Ok(Watched::of(make(size)?, sources, name));
    let mut heard = Heard::default();
    for (place, source) in sources.iter().enumerate() {
        match read_into(source, name, &make).await {
            Ok(read) => match read.length() {
                Length::Whole => return Ok(read.to),
                Length::BreaksOff(end) => heard.breaks_off(place, end),
            },
            Err(error) => heard.failed(place, error),
        }
    }
    // Each is written to the same place, so it is read once more.
    let place = heard.longest(sources, name).await?.ok_or_else(no_store)?;
    Ok(read_into(&sources[place], name, &make).await?.to)
}

/// Loads one file from the first of several archives of a cluster that has it, to be given to [`unpack_first`]: so the next
/// one can be on its way while one is unpacked.
///
/// # Errors
/// Fails as [`read_first`].
pub async fn load_first<'a>(sources: &[Source<'a>], name: WalFileName) -> Result<Loaded<'a>, WalError> {
    let mut failures = Vec::new();
    for (place, source) in sources.iter().enumerate() {
        match load(source, name).await {
            Ok(loaded) => return Ok(loaded),
            Err(error) => failures.push((place, error)),
        }
    }
    Err(gravest(sources, failures).unwrap_or_else(no_store))
}

/// Gives the plain bytes of a loaded file to what is made for them. One that turns out to be damaged, or breaks off, is read
/// from all archives again, and then something new is made.
///
/// # Errors
/// Fails as [`read_first_into`].
pub async fn unpack_first<W: Plainly>(
    sources: &[Source<'_>],
    loaded: Loaded<'_>,
    make: &(dyn Fn(u64) -> Result<W, WalError> + Sync),
) -> Result<W, WalError> {
    let name = loaded.name();
    let watched = |size| Ok(Watched::of(make(size)?, sources, name));
    match loaded.unpack(&watched).await {
        Ok(read) if matches!(read.length(), Length::Whole) => Ok(read.to),
        Ok(_) | Err(_) => read_first_into(sources, name, make).await,
    }
}

/// What a store that lacks a file says of it. What proves it there all the same is held against how far a copy goes.
fn lacks(error: &WalError) -> bool {
    matches!(error, WalError::Store(StoreError::NotFound { .. }) | WalError::Required { .. })
}

fn no_store() -> WalError {
    WalError::Usage("there is no store to read from".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::TransferError;

    #[test]
    fn a_store_that_gives_no_answer_counts_most_and_one_that_lacks_the_file_least() {
        let name: WalFileName = "000000010000000000000006".parse().expect("a name");
        let damaged = || WalError::Damaged { name, what: "its SHA-256 differs".to_owned() };
        let locked = || -> WalError {
            TransferError::WrongKey { object: "6.age".to_owned(), what: "no key fits".to_owned() }.into()
        };
        let silent = || -> WalError {
            let source = std::io::Error::other("503");
            StoreError::Unavailable { store: "b".to_owned(), what: "it is busy".to_owned(), source }.into()
        };
        let absent = || -> WalError { StoreError::NotFound { store: "a".to_owned(), key: "6".to_owned() }.into() };
        let of = |failures: Vec<WalError>| gravest(&[], failures.into_iter().enumerate().collect());
        assert!(of(vec![damaged(), silent()]).is_some_and(|error| error.is_passing()), "it may be there: asked again");
        assert!(of(vec![silent(), damaged()]).is_some_and(|error| error.is_passing()));
        let told = of(vec![absent(), damaged(), locked()]).expect("a failure");
        assert!(told.is_of_key(), "a key that is found opens it: {told}");
        assert!(told.to_string().contains("its SHA-256 differs"), "{told}");
        assert!(of(vec![absent(), damaged()]).is_some_and(|error| error.is_fault() && !error.is_passing()));
        assert!(of(Vec::new()).is_none());
    }
}
