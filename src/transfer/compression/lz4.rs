//! LZ4 frames: a frame per block, with its checksum. `lz4 -d` reads frames one after another, and so does this.

use std::io::{self, BufRead, Read, Write};

use bytes::Bytes;
use lz4_flex::frame::{BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::super::flow::{BLOCK_BYTES, Outflow};
use super::super::lanes::{MakeWork, Work};

pub(super) fn compress() -> MakeWork {
    Box::new(|| {
        let work: Work = Box::new(|block| {
            let info = FrameInfo::new()
                .content_size(Some(block.len() as u64))
                .content_checksum(true)
                .block_size(BlockSize::Max1MB);
            let mut frame = FrameEncoder::with_frame_info(info, Vec::with_capacity(block.len() / 2));
            frame.write_all(block)?;
            frame.finish().map(Bytes::from).map_err(io::Error::other)
        });
        Ok(work)
    })
}

pub(super) fn decompress(from: &mut impl BufRead, out: &mut Outflow) -> io::Result<()> {
    if from.fill_buf()?.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut buffer = vec![0; BLOCK_BYTES];
    let mut frames = FrameDecoder::new(from);
    loop {
        let count = frames.read(&mut buffer)?;
        out.write_all(&buffer[..count])?;
        // Nothing read is the end of a frame; another may follow.
        if count == 0 && frames.get_mut().fill_buf()?.is_empty() {
            return Ok(());
        }
    }
}
