//! Records as tests of several rooms make them up, in the layout of PostgreSQL 15.
#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]

use super::lsn::Lsn;
use super::record::WalRecord;
use super::transaction::RelationFile;
use super::version::Major;

const HAS_IMAGE: u8 = 0x10;
const HAS_DATA: u8 = 0x20;
/// Replay brings the image back (`BKPIMAGE_APPLY`).
const APPLIES: u8 = 0x02;
const SHORT_MAIN_DATA: u8 = 255;

/// A page that a record touches.
pub(crate) struct Touched {
    /// Its file.
    pub(crate) file: RelationFile,
    /// Its number.
    pub(crate) number: u32,
    /// The whole page, where it is in the record, without a hole and not compressed.
    pub(crate) image: Option<Vec<u8>>,
    /// What else the record says of it.
    pub(crate) data: Vec<u8>,
}

/// Puts a record together: its resource manager, info bits and transaction, the pages, and its own data.
pub(crate) fn record((rmid, info, xid): (u8, u8, u32), pages: &[Touched], main: &[u8]) -> Vec<u8> {
    let (mut heads, mut bodies) = (Vec::new(), Vec::new());
    for (id, page) in (0_u8..).zip(pages) {
        let image = if page.image.is_some() { HAS_IMAGE } else { 0 };
        let data = if page.data.is_empty() { 0 } else { HAS_DATA };
        heads.extend([id, image | data]);
        heads.extend(u16::try_from(page.data.len()).unwrap().to_le_bytes());
        if let Some(image) = &page.image {
            heads.extend(u16::try_from(image.len()).unwrap().to_le_bytes());
            heads.extend([0, 0, APPLIES]);
            bodies.extend_from_slice(image);
        }
        [page.file.tablespace, page.file.database, page.file.file, page.number]
            .iter()
            .for_each(|number| heads.extend(number.to_le_bytes()));
        bodies.extend_from_slice(&page.data);
    }
    if !main.is_empty() {
        heads.extend([SHORT_MAIN_DATA, u8::try_from(main.len()).unwrap()]);
    }
    let length = u32::try_from(24 + heads.len() + bodies.len() + main.len()).unwrap();
    let mut front = [length.to_le_bytes(), xid.to_le_bytes()].concat();
    front.extend([0_u8; 8]);
    front.extend([info, rmid, 0, 0]);
    let rest = [heads, bodies, main.to_vec()].concat();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&rest), &front);
    [front, crc.to_le_bytes().to_vec(), rest].concat()
}

/// Reads such a record, as one at a position.
pub(crate) fn parsed(bytes: &[u8], lsn: u64) -> WalRecord<'_> {
    let end = Lsn(lsn + bytes.len() as u64);
    WalRecord::parse(bytes, Lsn(lsn), end, Major::of_text("15").unwrap()).unwrap()
}
