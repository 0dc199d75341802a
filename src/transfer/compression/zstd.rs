//! Zstandard (RFC 8878): a frame per block, with its size and checksum. `zstd -d` reads frames one after another.
//!
//! Frames that say a small size are decompressed side by side; from the first other one on (an object that
//! another program has made) the rest is read as one stream.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, compress_bound, find_frame_compressed_size, get_frame_content_size};

use super::super::broken::Broken;
use super::super::flow::Outflow;
use super::super::lanes::{Lanes, MakeWork, Work};
use super::super::meter::{Meter, Stage};
use crate::base::pool::Pool;

/// The largest block that is compressed by itself.
const MOST_CHUNK_BYTES: usize = 4 << 20;
/// The longest header of a frame: magic number, descriptor, window, dictionary, content size.
const MOST_HEADER_BYTES: usize = 18;

/// What compresses blocks into frames that have a checksum.
pub(in crate::transfer) fn compressor(level: i32) -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(level)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    Ok(compressor)
}

pub(super) fn compress(level: i32) -> MakeWork {
    Box::new(move || {
        let (mut compressor, mut frame) = (compressor(level)?, Vec::new());
        let work: Work = Box::new(move |block| {
            frame.clear();
            frame.reserve_exact(compress_bound(block.len()));
            compressor.compress_to_buffer(block, &mut frame)?;
            // A frame is much smaller than what had to be at hand for it.
            Ok(Bytes::copy_from_slice(&frame))
        });
        Ok(work)
    })
}

fn decompress_frames() -> MakeWork {
    let pool = Pool::default();
    Box::new(move || {
        let (mut decompressor, pool) = (Decompressor::new()?, pool.clone());
        let work: Work = Box::new(move |frame| {
            let mut block = pool.take(content_bytes(frame).unwrap_or(MOST_CHUNK_BYTES));
            decompressor.decompress_to_buffer(frame, &mut block).map_err(damaged)?;
            Ok(pool.lend(block))
        });
        Ok(work)
    })
}

/// Cuts an object into its frames, each with the size of its content; `None` when one of them says none or a large one.
pub(in crate::transfer) fn frames(mut object: &[u8]) -> Option<Vec<(&[u8], usize)>> {
    let mut frames = Vec::new();
    while !object.is_empty() {
        let size_bytes = content_bytes(object)?;
        let (frame, rest) = object.split_at_checked(find_frame_compressed_size(object).ok()?)?;
        frames.push((frame, size_bytes));
        object = rest;
    }
    Some(frames)
}

pub(in crate::transfer) fn damaged(error: io::Error) -> io::Error {
    Broken::undecided(format!("it is no sound zstd: {error}")).into()
}

/// What the frame's header says of its content; nothing when it says nothing, or more than a block may have.
fn content_bytes(frame: &[u8]) -> Option<usize> {
    let size_bytes = usize::try_from(get_frame_content_size(frame).ok()??).ok()?;
    (size_bytes <= MOST_CHUNK_BYTES).then_some(size_bytes)
}

pub(super) fn decompress(from: &mut (impl BufRead + Send), out: &mut Outflow, meter: &Arc<Meter>) -> io::Result<()> {
    let mut lanes = Lanes::new(decompress_frames(), (Arc::clone(meter), Stage::Decompress));
    let (mut buffer, mut any) = (BytesMut::new(), false);
    loop {
        while buffer.len() < MOST_HEADER_BYTES && more(from, &mut buffer)? {}
        if buffer.is_empty() {
            return if any { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let Some(frame) = frame(from, &mut buffer)? else { break };
        lanes.submit(frame, out)?;
        any = true;
    }
    let rest = buffer.freeze();
    let mut stream = zstd::stream::read::Decoder::with_buffer(io::Cursor::new(rest).chain(from))?;
    io::copy(&mut stream, out).map(drop)
}

/// Cuts the next frame off; nothing when it is none of the small ones.
fn frame(from: &mut impl BufRead, buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
    if content_bytes(buffer).is_none() {
        return Ok(None);
    }
    loop {
        if let Ok(count) = find_frame_compressed_size(buffer) {
            return Ok(Some(buffer.split_to(count).freeze()));
        }
        if buffer.len() > compress_bound(MOST_CHUNK_BYTES) || !more(from, buffer)? {
            return Ok(None);
        }
    }
}

/// Appends what is there; says whether there was anything.
fn more(from: &mut impl BufRead, buffer: &mut BytesMut) -> io::Result<bool> {
    let block = from.fill_buf()?;
    let count = block.len();
    buffer.extend_from_slice(block);
    from.consume(count);
    Ok(count > 0)
}
