//! Which copy of a WAL file counts where several stores have one: the rule for whoever reads more than a server asks for.
//!
//! A recovery that was given up archives the last segment as far as it had been written, and the server that went on archives
//! the whole one, perhaps into one store only. So the first copy counts that does not break off; where all do, the one that
//! goes furthest, unless a store failed that may have more. What is delivered to a server in recovery is judged by the same
//! rule in `fetch`, which can also ask what follows.

use std::io::{self, Write};

use super::WalError;
use super::fetch::graver;
use super::packed::{Loaded, Plainly, Source, load, read_into};
use crate::action::StoreError;
use crate::pgformat::{Lsn, SegmentWalk, WalFileName, WalWalker};

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
    let (mut failure, mut cut): (Option<WalError>, Option<(Option<Lsn>, usize)>) = (None, None);
    for (place, source) in sources.iter().enumerate() {
        match read_into(source, name, &make).await {
            Ok(read) => match read.length() {
                Length::Whole => return Ok(read.to),
                Length::BreaksOff(end) if cut.as_ref().is_none_or(|(known, _)| *known < end) => {
                    cut = Some((end, place));
                }
                Length::BreaksOff(_) => {}
            },
            Err(error) => failure = Some(graver_or_absent(failure, error)),
        }
    }
    match (cut, failure) {
        // Each is written to the same place, so it is read once more.
        (Some((_, place)), failure) if failure.as_ref().is_none_or(lacks) => {
            Ok(read_into(&sources[place], name, &make).await?.to)
        }
        (_, failure) => Err(failure.unwrap_or_else(no_store)),
    }
}

/// Loads one file from the first of several archives of a cluster that has it, to be given to [`unpack_first`]: so the next
/// one can be on its way while one is unpacked.
///
/// # Errors
/// Fails as [`read_first`].
pub async fn load_first<'a>(sources: &[Source<'a>], name: WalFileName) -> Result<Loaded<'a>, WalError> {
    let mut failure = None;
    for source in sources {
        match load(source, name).await {
            Ok(loaded) => return Ok(loaded),
            Err(error) => failure = Some(graver_or_absent(failure, error)),
        }
    }
    Err(failure.unwrap_or_else(no_store))
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

/// Which failure of two archives counts: that one lacks the file says less than anything else.
fn graver_or_absent(first: Option<WalError>, second: WalError) -> WalError {
    match first {
        Some(first) if lacks(&second) => first,
        first => graver(first.filter(|first| !lacks(first)), second),
    }
}

fn lacks(error: &WalError) -> bool {
    matches!(error, WalError::Store(StoreError::NotFound { .. }))
}

fn no_store() -> WalError {
    WalError::Usage("there is no store to read from".to_owned())
}
