//! Checksums of data pages, as the server computes them (`src/include/storage/checksum_impl.h`): thirty-two FNV-1a
//! sums side by side, folded into sixteen bits together with the block's number.

use super::fields::u16_at;
use super::lsn::Lsn;

/// The size of a data page as every packaged PostgreSQL is built.
pub const DATA_PAGE_BYTES: usize = 8192;
/// The blocks of a relation that lie in one file: 1 GiB.
pub const SEGMENT_BLOCKS: u32 = 131_072;

const SUMS: usize = 32;
const PRIME: u32 = 16_777_619;
const BASES: [u32; SUMS] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];
/// Where the checksum stands in a page, and where the end of its free space.
const CHECKSUM_AT: usize = 8;
const UPPER_AT: usize = 14;

/// What a page says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageVerdict {
    /// Its checksum is right.
    Sound,
    /// It was never written to: it has no checksum.
    New,
    /// It was written to after `since`, so the WAL replaces it and it may be half written.
    Replayed,
    /// Its checksum is wrong.
    Damaged,
}

/// Judges a page of a backup whose replay begins at `since`.
#[must_use]
pub fn judge_page(page: &[u8; DATA_PAGE_BYTES], block: u32, since: Lsn) -> PageVerdict {
    if u16_at(page, UPPER_AT) == Some(0) {
        return PageVerdict::New;
    }
    let half = |at: usize| u64::from(u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]));
    if Lsn(half(0) << 32 | half(4)) >= since {
        return PageVerdict::Replayed;
    }
    if u16_at(page, CHECKSUM_AT) == Some(checksum(page, block)) { PageVerdict::Sound } else { PageVerdict::Damaged }
}

/// Computes the checksum of a page, with its own field taken for zero.
fn checksum(page: &[u8; DATA_PAGE_BYTES], block: u32) -> u16 {
    let mut sums = BASES;
    let mix = |sum: u32, value: u32| {
        let mixed = sum ^ value;
        mixed.wrapping_mul(PRIME) ^ (mixed >> 17)
    };
    for (row, bytes) in page.chunks_exact(4 * SUMS).enumerate() {
        for (column, (sum, word)) in sums.iter_mut().zip(bytes.chunks_exact(4)).enumerate() {
            let mut value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            if row == 0 && column == CHECKSUM_AT / 4 {
                value &= 0xFFFF_0000;
            }
            *sum = mix(*sum, value);
        }
    }
    for _ in 0..2 {
        for sum in &mut sums {
            *sum = mix(*sum, 0);
        }
    }
    let folded = sums.into_iter().fold(block, |all, sum| all ^ sum);
    u16::try_from(folded % 65_535 + 1).unwrap_or(u16::MAX)
}

/// Tells whether a file of a data directory consists of such pages, and which block it begins with.
#[must_use]
pub fn first_block(path: &[u8]) -> Option<u32> {
    let path = std::str::from_utf8(path).ok()?;
    if !["base/", "global/", "pg_tblspc/"].iter().any(|root| path.starts_with(root)) {
        return None;
    }
    let name = path.rsplit('/').next()?;
    let (relation, segment) = name.split_once('.').unwrap_or((name, "0"));
    let (node, fork) = relation.split_once('_').unwrap_or((relation, "main"));
    let is_relation = !node.is_empty() && node.bytes().all(|byte| byte.is_ascii_digit());
    let known = is_relation && ["main", "fsm", "vm", "init"].contains(&fork);
    segment.parse::<u32>().ok()?.checked_mul(SEGMENT_BLOCKS).filter(|_| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> [u8; DATA_PAGE_BYTES] {
        let mut page = [0; DATA_PAGE_BYTES];
        for (at, byte) in page.iter_mut().enumerate() {
            *byte = (at * 31 % 251) as u8;
        }
        page[..8].fill(0);
        let sum = checksum(&page, 7);
        page[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&sum.to_le_bytes());
        page
    }

    #[test]
    fn a_page_is_judged_by_its_checksum_and_its_place() {
        let since = Lsn(1);
        assert_eq!(judge_page(&page(), 7, since), PageVerdict::Sound);
        assert_eq!(judge_page(&page(), 8, since), PageVerdict::Damaged);
        let mut flipped = page();
        flipped[5000] ^= 1;
        assert_eq!(judge_page(&flipped, 7, since), PageVerdict::Damaged);
        assert_eq!(judge_page(&flipped, 7, Lsn(0)), PageVerdict::Replayed);
        assert_eq!(judge_page(&[0; DATA_PAGE_BYTES], 7, since), PageVerdict::New);
    }

    #[test]
    fn relations_are_told_from_other_files_by_their_names() {
        assert_eq!(first_block(b"base/5/16384"), Some(0));
        assert_eq!(first_block(b"base/5/16384_fsm.2"), Some(2 * SEGMENT_BLOCKS));
        assert_eq!(first_block(b"pg_tblspc/16385/PG_15_202209061/5/16390_init"), Some(0));
        for other in ["base/5/pg_filenode.map", "global/pg_control", "pg_xact/0000", "base/5/PG_VERSION", "base/5/1.x"]
        {
            assert_eq!(first_block(other.as_bytes()), None, "{other}");
        }
    }
}
