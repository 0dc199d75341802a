//! gzip (RFC 1952): a member per block. `gzip -d` reads members one after another, and so does this.

use std::io::{self, BufRead, Write};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::super::flow::Outflow;
use super::super::lanes::{MakeWork, Work};

pub(super) fn compress(level: i32) -> MakeWork {
    let level = flate2::Compression::new(u32::try_from(level).unwrap_or(6));
    Box::new(move || {
        let work: Work = Box::new(move |block| {
            let mut member = GzEncoder::new(Vec::with_capacity(block.len() / 2), level);
            member.write_all(block)?;
            member.finish().map(Bytes::from)
        });
        Ok(work)
    })
}

pub(super) fn decompress(from: &mut impl BufRead, out: &mut Outflow) -> io::Result<()> {
    io::copy(&mut MultiGzDecoder::new(from), out).map(drop)
}
