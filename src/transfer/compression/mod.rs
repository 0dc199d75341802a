//! Compression: every block by itself, on all cores; each is a whole frame or member, so the usual programs read
//! the object as one.

mod gzip;
mod lz4;
pub(super) mod zstd;

use std::io::{self, BufRead};
use std::sync::Arc;

use super::TransferError;
use super::broken::Broken;
use super::flow::Outflow;
use super::lanes::MakeWork;
use super::meter::Meter;
use crate::action::Compressed;
use crate::language::inventory::{Compression, CompressionFormat};

/// The size of the blocks that are compressed each by itself: small enough for the caches of a core, and pages of a database
/// become no larger by it.
pub(super) const CHUNK_BYTES: usize = 1 << 20;

/// How a store's settings compress; nothing said is zstd.
pub(super) fn chosen(settings: Option<&Compression>) -> Result<Option<Compressed>, TransferError> {
    let asked = settings.cloned().unwrap_or_default();
    let (levels, usual) = match asked.format {
        CompressionFormat::Zstd => (Some(1..=19), Some(3)),
        CompressionFormat::Gzip => (Some(1..=9), Some(6)),
        CompressionFormat::Lz4 | CompressionFormat::None => (None, None),
    };
    let level = match (asked.level, levels) {
        (Some(level), Some(levels)) if !levels.contains(&level) => {
            let (least, most) = levels.into_inner();
            let what = format!("the level {level} of `{}` is not from {least} to {most}", word(asked.format));
            return Err(TransferError::Settings(what));
        }
        (Some(level), None) => {
            let what = format!("`{}` has no level {level}: it has no levels", word(asked.format));
            return Err(TransferError::Settings(what));
        }
        (level, _) => level.or(usual),
    };
    Ok((asked.format != CompressionFormat::None).then_some(Compressed { format: asked.format, level }))
}

/// The format as it is written in an inventory.
pub(super) fn word(format: CompressionFormat) -> &'static str {
    match format {
        CompressionFormat::Zstd => "zstd",
        CompressionFormat::Gzip => "gzip",
        CompressionFormat::Lz4 => "lz4",
        CompressionFormat::None => "none",
    }
}

/// What is appended to the name of an object.
pub(super) fn suffix(format: CompressionFormat) -> &'static str {
    match format {
        CompressionFormat::Zstd => ".zst",
        CompressionFormat::Gzip => ".gz",
        CompressionFormat::Lz4 => ".lz4",
        CompressionFormat::None => "",
    }
}

/// What the workers do to a block; `None` where there is nothing to do.
pub(super) fn compress(to: &Compressed) -> Option<MakeWork> {
    match to.format {
        CompressionFormat::Zstd => Some(zstd::compress(to.level.unwrap_or(3))),
        CompressionFormat::Gzip => Some(gzip::compress(to.level.unwrap_or(6))),
        CompressionFormat::Lz4 => Some(lz4::compress()),
        CompressionFormat::None => None,
    }
}

/// Decompresses a stream to its end.
pub(super) fn decompress(
    format: CompressionFormat,
    from: &mut (impl BufRead + Send),
    (out, meter): (&mut Outflow, &Arc<Meter>),
) -> io::Result<()> {
    let result = match format {
        CompressionFormat::Zstd => zstd::decompress(from, out, meter),
        CompressionFormat::Gzip => gzip::decompress(from, out),
        CompressionFormat::Lz4 => lz4::decompress(from, out),
        CompressionFormat::None => io::copy(from, out).map(drop),
    };
    result.map_err(|error| Broken::undecided(format!("it is no sound {}: {error}", word(format))).into())
}
