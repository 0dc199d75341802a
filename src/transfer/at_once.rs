//! Small objects, packed and unpacked whole in memory: for some megabytes the threads, channels and fresh blocks of a
//! journey cost more than the work itself.
//!
//! The bytes are those of a journey: frames of zstd, each with its size and a checksum. What only a journey knows
//! (encryption, other formats, frames that another program made) is left to it.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use zstd::bulk::Decompressor;
use zstd::zstd_safe::compress_bound;

use super::broken::Broken;
use super::compression::zstd::{MOST_CHUNK_BYTES, compressor, damaged, frames};
use super::lanes::workers;
use super::unpacking::compare;
use super::{Encoding, Packed, Packing, Plain};
use crate::action::Compressed;
use crate::base::Digest;
use crate::base::digest::Hasher;
use crate::language::inventory::CompressionFormat;

const DEFAULT_LEVEL: i32 = 3;
/// Blocks between the thread that decompresses and the one that digests and writes.
const BLOCKS: usize = 2;

/// How many threads of this process pack at this moment: several objects share the cores, one has them all.
static PACKING: AtomicUsize = AtomicUsize::new(0);

/// Packs and unpacks whole objects as one way of packing says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtOnce {
    level: i32,
}

impl AtOnce {
    /// For new objects; `None` when only a journey can make them.
    #[must_use]
    pub fn packing(packing: &Packing) -> Option<Self> {
        Self::of(packing.encoding())
    }

    /// For objects that were made in this way; `None` when only a journey can read them.
    #[must_use]
    pub fn of(encoding: &Encoding) -> Option<Self> {
        match (&encoding.compression, &encoding.encryption) {
            (Some(Compressed { format: CompressionFormat::Zstd, level }), None) => {
                Some(Self { level: level.unwrap_or(DEFAULT_LEVEL) })
            }
            (Some(_) | None, _) => None,
        }
    }

    /// Packs a body; gives the stored bytes and what they are. Blocking; as many threads as there are idle cores.
    ///
    /// # Errors
    /// Fails when the body cannot be read.
    pub fn pack(self, body: &mut (dyn Read + Send)) -> io::Result<(Vec<u8>, Packed)> {
        let source = Mutex::new(Source { body, plain: Hasher::default(), size_bytes: 0, next: 0, ended: false });
        let crew = Crew::gather();
        let mut made = std::thread::scope(|scope| {
            let beside = |_| std::thread::Builder::new().spawn_scoped(scope, || self.work(&source)).ok();
            // Without a thread it takes longer.
            let others: Vec<_> = (1..crew.0).filter_map(beside).collect();
            let mut made = self.work(&source)?;
            for other in others {
                made.extend(other.join().map_err(|_| io::Error::other("a thread that packs panicked"))??);
            }
            Ok::<_, io::Error>(made)
        })?;
        made.sort_unstable_by_key(|(number, _)| *number);
        let mut stored = Vec::with_capacity(made.iter().map(|(_, frame)| frame.len()).sum());
        made.iter().for_each(|(_, frame)| stored.extend_from_slice(frame));
        let source = source.into_inner().unwrap_or_else(PoisonError::into_inner);
        let plain = Plain { size_bytes: source.size_bytes, sha256: Some(source.plain.finish()) };
        let packed = Packed { plain, stored_size_bytes: stored.len() as u64, stored_sha256: Digest::of(&stored) };
        Ok((stored, packed))
    }

    /// Takes one block after the other, beside others who do, and compresses them.
    fn work(self, source: &Mutex<Source<'_>>) -> io::Result<Vec<(usize, Box<[u8]>)>> {
        let mut compressor = compressor(self.level)?;
        let (mut block, mut frame) = (Vec::new(), Vec::with_capacity(compress_bound(MOST_CHUNK_BYTES)));
        let mut made = Vec::new();
        loop {
            let taken = source.lock().unwrap_or_else(PoisonError::into_inner).take(&mut block)?;
            let Some(number) = taken else { return Ok(made) };
            compressor.compress_to_buffer(&block, &mut frame)?;
            made.push((number, frame.as_slice().into()));
        }
    }

    /// Writes the plain bytes of an object whose stored bytes are proven, and proves them too; `None` when only a journey
    /// can read it, and then nothing is written. What is written before the end is not proven. Blocking.
    ///
    /// # Errors
    /// Fails when the object is damaged, and when it cannot be written; `TransferError::of_reading` tells them apart.
    #[must_use]
    pub fn unpack(self, stored: &[u8], plain: Plain, to: &mut dyn Write) -> Option<io::Result<()>> {
        let frames = frames(stored).filter(|frames| !frames.is_empty())?;
        Some(std::thread::scope(|scope| {
            let (full, blocks) = sync_channel(BLOCKS);
            let (back, empty) = sync_channel(BLOCKS);
            for _ in 0..BLOCKS {
                // The channel has room for them.
                let _ = back.send(Vec::new());
            }
            std::thread::Builder::new().spawn_scoped(scope, move || decompress(&frames, &full, &empty))?;
            write(&blocks, &back, (plain, to))
        }))
    }
}

/// A body that is read block by block, each digested in its turn.
struct Source<'a> {
    body: &'a mut (dyn Read + Send),
    plain: Hasher,
    size_bytes: u64,
    next: usize,
    ended: bool,
}

impl Source<'_> {
    /// Reads the next block; gives its number, and `None` after the last one. An empty body has one, which is empty.
    fn take(&mut self, block: &mut Vec<u8>) -> io::Result<Option<usize>> {
        if self.ended {
            return Ok(None);
        }
        // Whoever comes after a failure finds the end.
        self.ended = true;
        block.resize(MOST_CHUNK_BYTES, 0);
        let filled = fill(self.body, block)?;
        block.truncate(filled);
        self.ended = block.len() < MOST_CHUNK_BYTES;
        if block.is_empty() && self.next > 0 {
            return Ok(None);
        }
        self.plain.update(block);
        self.size_bytes += block.len() as u64;
        self.next += 1;
        Ok(Some(self.next - 1))
    }
}

/// Reads until the buffer is full or the body ends.
fn fill(body: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match body.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// So many threads that pack one object.
struct Crew(usize);

impl Crew {
    /// Takes the cores that nobody of this process packs on, and one in any case.
    fn gather() -> Self {
        let idle = workers().saturating_sub(PACKING.load(Ordering::Relaxed)).max(1);
        PACKING.fetch_add(idle, Ordering::Relaxed);
        Self(idle)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        PACKING.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Decompresses the frames into blocks that come back empty. Ends when nobody takes them any more.
fn decompress(frames: &[(&[u8], usize)], full: &SyncSender<io::Result<Vec<u8>>>, empty: &Receiver<Vec<u8>>) {
    let mut decompressor = match Decompressor::new() {
        Ok(decompressor) => decompressor,
        Err(error) => {
            // Who waits is told, or is gone.
            let _ = full.send(Err(error));
            return;
        }
    };
    for (frame, size_bytes) in frames {
        let Ok(mut block) = empty.recv() else { return };
        block.clear();
        block.reserve(*size_bytes);
        let done = decompressor.decompress_to_buffer(frame, &mut block).map_err(damaged);
        let failed = done.is_err();
        if full.send(done.map(|_| block)).is_err() || failed {
            return;
        }
    }
}

/// Digests and writes the blocks and compares them in the end with what they should be.
fn write(
    blocks: &Receiver<io::Result<Vec<u8>>>,
    back: &SyncSender<Vec<u8>>,
    (expected, to): (Plain, &mut dyn Write),
) -> io::Result<()> {
    let (mut hasher, mut size_bytes) = (Hasher::default(), 0);
    while let Ok(block) = blocks.recv() {
        let block = block.map_err(decided)?;
        size_bytes += block.len() as u64;
        if size_bytes > expected.size_bytes {
            let what = format!("it unpacks to more than the {} bytes it should", expected.size_bytes);
            return Err(Broken::damaged(what).into());
        }
        hasher.update(&block);
        to.write_all(&block)?;
        // After the last frame nobody wants it.
        let _ = back.send(block);
    }
    let found = Plain { size_bytes, sha256: Some(hasher.finish()) };
    compare("its plain content", found, expected).map_err(|what| Broken::damaged(what).into())
}

/// Without a key there is no doubt what is wrong.
fn decided(error: io::Error) -> io::Error {
    let what = Broken::of(&error).map(ToString::to_string);
    what.map_or(error, |what| Broken::damaged(what).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::TransferError;
    use super::*;

    const ZSTD: AtOnce = AtOnce { level: DEFAULT_LEVEL };

    fn body(size: usize) -> Vec<u8> {
        (0..size as u64).map(|at| (at.wrapping_mul(at >> 9) >> 3) as u8).collect()
    }

    fn unpack(stored: &[u8], plain: Plain) -> Result<Vec<u8>, TransferError> {
        let mut found = Vec::new();
        let done = ZSTD.unpack(stored, plain, &mut found).unwrap();
        done.map(|()| found).map_err(|error| TransferError::of_reading("o", error))
    }

    #[test]
    fn what_is_packed_at_once_is_read_by_every_zstd_and_comes_back() {
        for size in [0, 1, 4 << 20, (4 << 20) + 1, 17 << 20] {
            let body = body(size);
            let (stored, packed) = ZSTD.pack(&mut body.as_slice()).unwrap();
            assert_eq!(packed.plain, Plain { size_bytes: size as u64, sha256: Some(Digest::of(&body)) });
            assert_eq!((packed.stored_size_bytes, packed.stored_sha256), (stored.len() as u64, Digest::of(&stored)));
            assert_eq!(zstd::decode_all(stored.as_slice()).unwrap(), body, "{size}");
            assert_eq!(unpack(&stored, packed.plain).unwrap(), body, "{size}");
        }
    }

    #[test]
    fn a_body_that_fails_is_no_short_object() {
        struct Fails(u64);
        impl Read for Fails {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(buffer.len() as u64).ok_or_else(|| io::Error::other("on purpose"))?;
                Ok(buffer.len())
            }
        }
        assert_eq!(ZSTD.pack(&mut Fails(9 << 20)).unwrap_err().to_string(), "on purpose");
    }

    #[test]
    fn what_is_flipped_cut_or_other_content_is_damaged() {
        let (body, other) = (body(5 << 20), body(6 << 20));
        let (stored, packed) = ZSTD.pack(&mut body.as_slice()).unwrap();
        let (more, _) = ZSTD.pack(&mut other.as_slice()).unwrap();
        let mut flipped = stored.clone();
        flipped[stored.len() / 3] ^= 1;
        let first = frames(&stored).unwrap()[0].0.len();
        for wrong in [&flipped, &stored[..first].to_vec(), &more] {
            let error = unpack(wrong, packed.plain).unwrap_err();
            assert!(matches!(error, TransferError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn what_another_program_made_is_left_to_a_journey() {
        let streamed = zstd::encode_all(&b"a stream says no size"[..], 3).unwrap();
        let plain = Plain { size_bytes: 21, sha256: None };
        for foreign in [streamed.as_slice(), b"no zstd at all", b""] {
            assert!(ZSTD.unpack(foreign, plain, &mut Vec::new()).is_none());
        }
    }
}
