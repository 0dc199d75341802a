//! The pages that a record touches: what it says of each, and the image of a page where it has one (`xlogrecord.h` of
//! PostgreSQL 13 to 18).

use super::data_page::DATA_PAGE_BYTES;
use super::fields::{u16_at, u32_at};
use super::record::{RECORD_HEADER_BYTES, WalRecord};
use super::transaction::{RelationFile, relation_file};
use super::version::{Change, Major};

const HAS_IMAGE: u8 = 0x10;
const SAME_RELATION: u8 = 0x80;
const FORK: u8 = 0x0F;
const HAS_HOLE: u8 = 0x01;
/// The last id that is a page's; those behind it head other parts of a record.
const LAST_PAGE_ID: u8 = 32;

/// A page of a relation's rows that a record touches.
#[derive(Debug)]
pub(super) struct TouchedPage<'a> {
    /// The file.
    pub(super) file: RelationFile,
    /// The number of the page.
    pub(super) number: u32,
    /// Whether it is one of the rows, not of the maps beside them.
    pub(super) is_main: bool,
    /// The page as it is after the record, where it was written whole.
    pub(super) image: Option<PageImage<'a>>,
    /// What the record says of it besides; mostly empty where it has an image.
    pub(super) data: &'a [u8],
}

/// A page that was written whole into a record.
#[derive(Debug)]
pub(super) struct PageImage<'a> {
    bytes: &'a [u8],
    hole_at: usize,
    hole_bytes: usize,
    packed: Packed,
}

/// How the image of a page is compressed: `wal_compression`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packed {
    Not,
    Pglz,
    Lz4,
    Zstd,
}

/// What the head of a page says, before its bytes are found behind all heads.
struct Head {
    file: RelationFile,
    number: u32,
    is_main: bool,
    image: Option<ImageHead>,
    data: usize,
}

struct ImageHead {
    length: usize,
    hole_at: usize,
    hole_bytes: usize,
    packed: Packed,
}

impl<'a> TouchedPage<'a> {
    /// Reads which pages a record touches; none of a record that makes no sense.
    pub(super) fn all(record: &WalRecord<'a>) -> Vec<Self> {
        Self::read(record).unwrap_or_default()
    }

    fn read(record: &WalRecord<'a>) -> Option<Vec<Self>> {
        let (bytes, mut at) = (record.raw(), RECORD_HEADER_BYTES);
        let (mut heads, mut all): (Vec<Head>, usize) = (Vec::new(), 0);
        // Where a record has no data of its own, the first page's bytes stand right behind the last head.
        while bytes.len().saturating_sub(at) > all && bytes.get(at).is_some_and(|id| *id <= LAST_PAGE_ID) {
            let (head, length) = head(bytes.get(at..)?, heads.last().map(|last| last.file), record.major())?;
            all += head.data + head.image.as_ref().map_or(0, |image| image.length);
            heads.push(head);
            at += length;
        }
        if heads.is_empty() {
            return Some(Vec::new());
        }
        // Its own data stands behind those of the pages, which end where it begins.
        let mut at = bytes.len().checked_sub(record.main_data().ok()?.len())?.checked_sub(all)?;
        let mut take = |length: usize| {
            let taken = bytes.get(at..at + length);
            at += length;
            taken
        };
        let mut pages = Vec::with_capacity(heads.len());
        for Head { file, number, is_main, image, data } in heads {
            let image = match image {
                Some(ImageHead { length, hole_at, hole_bytes, packed }) => {
                    Some(PageImage { bytes: take(length)?, hole_at, hole_bytes, packed })
                }
                None => None,
            };
            pages.push(Self { file, number, is_main, image, data: take(data)? });
        }
        Some(pages)
    }
}

/// Reads the head of a page, and how long it is.
fn head(bytes: &[u8], before: Option<RelationFile>, major: Major) -> Option<(Head, usize)> {
    let flags = *bytes.get(1)?;
    let data = usize::from(u16_at(bytes, 2)?);
    let mut at = 4;
    let mut image = None;
    if flags & HAS_IMAGE != 0 {
        let (length, hole_at) = (usize::from(u16_at(bytes, at)?), usize::from(u16_at(bytes, at + 2)?));
        let told = *bytes.get(at + 4)?;
        let packed = packed(told, major);
        at += 5;
        let hole_bytes = match (told & HAS_HOLE != 0, packed) {
            (false, _) => 0,
            (true, Packed::Not) => DATA_PAGE_BYTES.checked_sub(length)?,
            (true, Packed::Pglz | Packed::Lz4 | Packed::Zstd) => {
                at += 2;
                usize::from(u16_at(bytes, at - 2)?)
            }
        };
        image = Some(ImageHead { length, hole_at, hole_bytes, packed });
    }
    let file = match flags & SAME_RELATION {
        0 => {
            at += 12;
            relation_file(bytes.get(at - 12..)?)?
        }
        _ => before?,
    };
    Some((Head { file, number: u32_at(bytes, at)?, is_main: flags & FORK == 0, image, data }, at + 4))
}

fn packed(told: u8, major: Major) -> Packed {
    let codes: &[(u8, Packed)] = match major.has(Change::ImageCompression) {
        true => &[(0x04, Packed::Pglz), (0x08, Packed::Lz4), (0x10, Packed::Zstd)],
        false => &[(0x02, Packed::Pglz)],
    };
    codes.iter().find(|(code, _)| told & code != 0).map_or(Packed::Not, |(_, packed)| *packed)
}

impl PageImage<'_> {
    /// The page; `None` when the image makes no sense.
    pub(super) fn page(&self) -> Option<Vec<u8>> {
        let kept = DATA_PAGE_BYTES.checked_sub(self.hole_bytes)?;
        let unpacked = match self.packed {
            Packed::Not => self.bytes.to_vec(),
            Packed::Pglz => pglz(self.bytes, kept)?,
            Packed::Lz4 => lz4_flex::block::decompress(self.bytes, kept).ok()?,
            Packed::Zstd => zstd::bulk::decompress(self.bytes, kept).ok()?,
        };
        if unpacked.len() != kept || self.hole_at > kept {
            return None;
        }
        let (before, behind) = unpacked.split_at(self.hole_at);
        Some([before, &vec![0; self.hole_bytes], behind].concat())
    }
}

/// The server's own compression (`pg_lzcompress.c`): a byte says of eight items whether each is a byte or a copy of some before.
fn pglz(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::with_capacity(length);
    let mut at = 0;
    while at < packed.len() && out.len() < length {
        let control = packed[at];
        at += 1;
        for item in 0..8 {
            if at >= packed.len() || out.len() >= length {
                break;
            }
            if control >> item & 1 == 0 {
                out.push(packed[at]);
                at += 1;
                continue;
            }
            let (first, second) = (usize::from(packed[at]), usize::from(*packed.get(at + 1)?));
            let (mut copied, back) = ((first & 0x0F) + 3, (first & 0xF0) << 4 | second);
            at += 2;
            if copied == 18 {
                copied += usize::from(*packed.get(at)?);
                at += 1;
            }
            let from = out.len().checked_sub(back).filter(|_| back > 0)?;
            // What is copied may overlap what it makes.
            for place in from..from + copied.min(length - out.len()) {
                out.push(out[place]);
            }
        }
    }
    (out.len() == length && at == packed.len()).then_some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::super::fixture::{Touched, parsed, record};
    use super::super::record::RM_XLOG;
    use super::*;

    /// A page as it begins after `high` times 4 GiB of WAL, with line pointers that read as heads of pages would add up to
    /// more than the record has.
    fn page(high: u8) -> Vec<u8> {
        let mut page = vec![0; DATA_PAGE_BYTES];
        page[0] = high;
        page[4..8].copy_from_slice(&0x0100_4000_u32.to_le_bytes());
        page[12..14].copy_from_slice(&1000_u16.to_le_bytes());
        (24..1000).step_by(4).for_each(|at| page[at..at + 4].copy_from_slice(&0x0158_1F00_u32.to_le_bytes()));
        page
    }

    #[test]
    fn a_record_of_nothing_but_whole_pages_is_not_read_on_into_them() {
        const WHOLE_PAGE: u8 = 0xB0;
        const WHOLE_PAGE_FOR_HINT: u8 = 0xA0;
        let file = RelationFile { tablespace: 1663, database: 5, file: 1259 };
        for (info, count) in [(WHOLE_PAGE_FOR_HINT, 1), (WHOLE_PAGE, 1), (WHOLE_PAGE, 3)] {
            for high in [0, 1, 31, 32, 33] {
                let touched = |number| Touched { file, number, image: Some(page(high)), data: Vec::new() };
                let pages: Vec<Touched> = (7..7 + count).map(touched).collect();
                let bytes = record((RM_XLOG, info, 0), &pages, &[]);
                let read = TouchedPage::all(&parsed(&bytes, 0x0100_0028));
                assert_eq!(read.iter().map(|page| page.number).collect::<Vec<_>>(), (7..7 + count).collect::<Vec<_>>());
                for one in read {
                    assert_eq!(one.image.unwrap().page(), Some(page(high)), "{count} pages, high byte {high}");
                    assert_eq!((one.file, one.data), (file, [].as_slice()));
                }
            }
        }
    }

    #[test]
    fn the_pages_of_a_record_with_data_of_its_own_stand_before_it() {
        let file = RelationFile { tablespace: 1663, database: 5, file: 1259 };
        let touched = |number, image, data: &[u8]| Touched { file, number, image, data: data.to_vec() };
        let pages = [touched(1, Some(page(0)), &[]), touched(2, None, b"row")];
        let bytes = record((10, 0x20, 9), &pages, b"own data");
        let read = TouchedPage::all(&parsed(&bytes, 0x0100_0028));
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].image.as_ref().unwrap().page(), Some(page(0)));
        assert_eq!((read[1].number, read[1].image.is_none(), read[1].data), (2, true, b"row".as_slice()));
    }

    #[test]
    fn what_the_server_compressed_is_read_again_and_nothing_else() {
        // Three bytes, then a copy of nine bytes that begins three back, then a byte.
        let packed = [0b0000_1000, b'a', b'b', b'c', 0x06, 0x03, b'!'];
        assert_eq!(pglz(&packed, 13).as_deref(), Some(b"abcabcabcabc!".as_slice()));
        assert_eq!(pglz(&packed, 12), None, "bytes are left");
        assert_eq!(pglz(&packed[..6], 13), None, "too short");
        assert_eq!(pglz(&[0b0000_0001, 0x00, 0x01], 3), None, "nothing is before it");
        // A copy of eighteen and more has its length in a third byte.
        let long = [0b0000_0010, b'x', 0x0F, 0x01, 0x02];
        assert_eq!(pglz(&long, 21).as_deref(), Some([b'x'; 21].as_slice()));
    }
}
