//! What records do to the rows of the catalogs that name databases, schemas and relations (`htup_details.h`,
//! `heapam_xlog.h`, `pg_class.h` of PostgreSQL 13 to 18).
//!
//! The commit of a drop has numbers only. The names are in the rows that it deleted: WAL has each row when it is written,
//! and its whole page at the first change after a checkpoint.

use super::fields::{u16_at, u32_at};
use super::record::{RM_XLOG, WalRecord};
use super::touched_page::{PageImage, TouchedPage};
use super::transaction::RelationFile;
use super::version::{Change, Major};

const RM_HEAP2: u8 = 9;
const RM_HEAP: u8 = 10;
const OPERATION: u8 = 0x70;
const INSERT: u8 = 0x00;
const DELETE: u8 = 0x10;
const UPDATE: u8 = 0x20;
const HOT_UPDATE: u8 = 0x40;
const PREFIX_FROM_OLD: u8 = 1 << 5;
const SUFFIX_FROM_OLD: u8 = 1 << 6;

/// The tablespace `pg_global`.
const GLOBAL: u32 = 1664;
const PAGE_HEADER_BYTES: usize = 24;
const PAGE_LOWER_AT: usize = 12;
const ITEM_BYTES: usize = 4;
const ITEM_NORMAL: u32 = 1;
/// The header of a row without what only rows with NULLs have, and what a record keeps of it.
const ROW_HEADER_BYTES: usize = 23;
const KEPT_HEADER_BYTES: usize = 5;
const INFOMASK_AT: usize = 20;
const HEADER_LENGTH_AT: usize = 22;
const XMIN_COMMITTED: u16 = 0x0100;
const XMIN_INVALID: u16 = 0x0200;
const XMAX_COMMITTED: u16 = 0x0400;
const XMAX_LOCK_ONLY: u16 = 0x0080;
/// As much of a row as is kept: what is read of it stands in front.
const KEPT_BYTES: usize = 136;
/// The length of a name, with the zeros behind it.
const NAME_BYTES: usize = 64;

/// A catalog whose rows are read. Found by the number of its file, which it has until somebody rewrites it (`VACUUM FULL`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Catalog {
    /// `pg_class`.
    Relations,
    /// `pg_index`.
    Indexes,
    /// `pg_inherits`.
    Parents,
    /// `pg_namespace`.
    Schemas,
    /// `pg_database`.
    Databases,
}

/// Where a row of a catalog lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CatalogPlace {
    /// The catalog.
    pub catalog: Catalog,
    /// Its database; zero for what all share.
    pub database: u32,
    block: u32,
    item: u16,
}

/// The front of a row of a catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogRow {
    front: Vec<u8>,
    /// The bytes of the whole row.
    length: usize,
}

/// A row that a record writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenRow {
    /// Where it lies.
    pub place: CatalogPlace,
    /// As many bytes as it has of the row that it replaces, in front and behind.
    shared: (usize, usize),
    bytes: Vec<u8>,
}

/// What a record does to rows of a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CatalogChange {
    /// The rows of pages that it has as a whole, as they are after it; those it deletes among them.
    pub seen: Vec<(CatalogPlace, CatalogRow)>,
    /// The row that it deletes or replaces.
    pub ended: Option<CatalogPlace>,
    /// Where it writes a row.
    pub made: Option<CatalogPlace>,
    /// The row that it writes, where it is not on such a page.
    pub written: Option<WrittenRow>,
}

/// What a row of `pg_class` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationRow {
    /// Its identity.
    pub oid: u32,
    /// Its name, not quoted.
    pub name: String,
    /// The identity of its schema.
    pub schema: u32,
    /// The number of its file; zero for what has none.
    pub file: u32,
    /// Its TOAST table; zero where it has none.
    pub toast: u32,
    /// `relkind`: `r` a table, `i` an index.
    pub kind: char,
    /// Whether it is a partition.
    pub is_partition: bool,
}

impl Catalog {
    fn of(file: &RelationFile) -> Option<Self> {
        match (file.tablespace, file.database, file.file) {
            (GLOBAL, 0, 1262) => Some(Self::Databases),
            (_, 0, _) => None,
            (_, _, 1259) => Some(Self::Relations),
            (_, _, 2610) => Some(Self::Indexes),
            (_, _, 2611) => Some(Self::Parents),
            (_, _, 2615) => Some(Self::Schemas),
            _ => None,
        }
    }
}

impl CatalogPlace {
    /// The least place of a catalog.
    #[must_use]
    pub fn first(catalog: Catalog, database: u32) -> Self {
        Self { catalog, database, block: 0, item: 0 }
    }

    fn of(page: &TouchedPage<'_>) -> Option<Self> {
        let catalog = Catalog::of(&page.file).filter(|_| page.is_main)?;
        Some(Self { catalog, database: page.file.database, block: page.number, item: 0 })
    }
}

impl CatalogChange {
    /// Reads what a record does; `None` for one that touches no such catalog, and for one that makes no sense.
    #[must_use]
    pub fn of(record: &WalRecord<'_>) -> Option<Self> {
        if !matches!(record.rmid, RM_HEAP | RM_HEAP2 | RM_XLOG) {
            return None;
        }
        let pages = TouchedPage::all(record);
        let places: Vec<Option<CatalogPlace>> = pages.iter().map(CatalogPlace::of).collect();
        if places.iter().all(Option::is_none) {
            return None;
        }
        let mut change = Self::default();
        for (page, place) in pages.iter().zip(&places) {
            if let (Some(place), Some(image)) = (place, &page.image) {
                change.seen.extend(rows(*place, image));
            }
        }
        if record.rmid == RM_HEAP {
            change.rows(record, (&pages, &places));
        }
        Some(change)
    }

    fn rows(&mut self, record: &WalRecord<'_>, (pages, places): (&[TouchedPage<'_>], &[Option<CatalogPlace>])) {
        let Ok(main) = record.main_data() else { return };
        let item = |at: usize| u16_at(main, at);
        let Some(place) = places.first().copied().flatten() else { return };
        let at_item = |place: CatalogPlace, item: u16| CatalogPlace { item, ..place };
        let whole = pages[0].image.is_some();
        match record.info & OPERATION {
            INSERT => {
                self.made = item(0).map(|item| at_item(place, item));
                let made = self.made.filter(|_| !whole);
                self.written = made.and_then(|made| WrittenRow::of(made, pages[0].data, (0, 0)));
            }
            DELETE => self.ended = item(4).map(|item| at_item(place, item)),
            UPDATE | HOT_UPDATE => {
                let old = places.get(1).copied().flatten().unwrap_or(place);
                self.ended = item(4).map(|item| at_item(old, item));
                let flags = main.get(7).copied().unwrap_or_default();
                self.made = item(12).map(|item| at_item(place, item));
                let made = self.made.filter(|_| !whole);
                self.written = made.and_then(|made| updated(made, pages[0].data, flags));
            }
            _ => {}
        }
    }
}

/// Reads the row that an update writes: what it shares with the old one, in front and behind, is not there.
fn updated(place: CatalogPlace, data: &[u8], flags: u8) -> Option<WrittenRow> {
    let (mut at, mut shared) = (0, (0, 0));
    if flags & PREFIX_FROM_OLD != 0 {
        shared.0 = usize::from(u16_at(data, at)?);
        at += 2;
    }
    if flags & SUFFIX_FROM_OLD != 0 {
        shared.1 = usize::from(u16_at(data, at)?);
        at += 2;
    }
    WrittenRow::of(place, data.get(at..)?, shared)
}

/// The rows of a page that live, as far as the page itself tells.
fn rows(place: CatalogPlace, image: &PageImage<'_>) -> Vec<(CatalogPlace, CatalogRow)> {
    let Some(page) = image.page() else { return Vec::new() };
    let lower = usize::from(u16_at(&page, PAGE_LOWER_AT).unwrap_or_default());
    let items = lower.saturating_sub(PAGE_HEADER_BYTES) / ITEM_BYTES;
    let row = |index: usize| {
        let told = u32_at(&page, PAGE_HEADER_BYTES + index * ITEM_BYTES)?;
        let (at, length) = (usize::try_from(told & 0x7FFF).ok()?, usize::try_from(told >> 17).ok()?);
        let row = page.get(at..at + length).filter(|_| told >> 15 & 3 == ITEM_NORMAL)?;
        let mask = u16_at(row, INFOMASK_AT)?;
        let never = mask & (XMIN_COMMITTED | XMIN_INVALID) == XMIN_INVALID;
        let gone = mask & XMAX_COMMITTED != 0 && mask & XMAX_LOCK_ONLY == 0;
        let data = row.get(usize::from(*row.get(HEADER_LENGTH_AT)?)..).filter(|_| !never && !gone)?;
        let item = u16::try_from(index + 1).ok()?;
        Some((CatalogPlace { item, ..place }, CatalogRow::of(data)))
    };
    (0..items).filter_map(row).collect()
}

impl WrittenRow {
    fn of(place: CatalogPlace, data: &[u8], shared: (usize, usize)) -> Option<Self> {
        let header_length = usize::from(*data.get(KEPT_HEADER_BYTES - 1)?);
        let from = KEPT_HEADER_BYTES + header_length.checked_sub(ROW_HEADER_BYTES)?;
        Some(Self { place, shared, bytes: data.get(from..)?.to_vec() })
    }

    /// The row, in the place of the `old` one; `None` where that would have to be known.
    #[must_use]
    pub fn row(&self, old: Option<&CatalogRow>) -> Option<CatalogRow> {
        let (before, behind) = self.shared;
        if before + behind == 0 {
            return Some(CatalogRow::of(&self.bytes));
        }
        let old = old?;
        let mut front = old.front.get(..before.min(old.front.len()))?.to_vec();
        // What is shared beyond what is kept of the old one is beyond what is kept of this one.
        if before <= old.front.len() {
            front.extend_from_slice(&self.bytes);
            let from = old.length.checked_sub(behind)?;
            front.extend_from_slice(old.front.get(from..).unwrap_or_default());
        }
        front.truncate(KEPT_BYTES);
        Some(CatalogRow { front, length: before + self.bytes.len() + behind })
    }
}

impl CatalogRow {
    fn of(data: &[u8]) -> Self {
        Self { front: data[..data.len().min(KEPT_BYTES)].to_vec(), length: data.len() }
    }

    /// What the row is of: in all of these catalogs the first column.
    #[must_use]
    pub fn oid(&self) -> Option<u32> {
        u32_at(&self.front, 0)
    }

    /// The name in a row of `pg_class`, `pg_namespace` or `pg_database`, not quoted.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let name = self.front.get(4..4 + NAME_BYTES)?.split(|byte| *byte == 0).next()?;
        (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
    }

    /// The table in a row of `pg_index`, or the parent in one of `pg_inherits`.
    #[must_use]
    pub fn owner(&self) -> Option<u32> {
        u32_at(&self.front, 4)
    }

    /// What a row of `pg_class` says.
    #[must_use]
    pub fn relation(&self, major: Major) -> Option<RelationRow> {
        let more = if major.has(Change::FrozenPages) { 4 } else { 0 };
        Some(RelationRow {
            oid: self.oid()?,
            name: self.name()?,
            schema: u32_at(&self.front, 68)?,
            file: u32_at(&self.front, 88)?,
            toast: u32_at(&self.front, 108 + more)?,
            kind: char::from(*self.front.get(115 + more)?),
            is_partition: *self.front.get(127 + more)? != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;

    /// A row of `pg_class` as version 15 has it, with what follows the part that is read.
    fn row(name: &str) -> Vec<u8> {
        let mut row = vec![0; 172];
        row[..4].copy_from_slice(&16_385_u32.to_le_bytes());
        row[4..4 + name.len()].copy_from_slice(name.as_bytes());
        row[68..72].copy_from_slice(&2200_u32.to_le_bytes());
        row[88..92].copy_from_slice(&16_390_u32.to_le_bytes());
        row[108..112].copy_from_slice(&16_388_u32.to_le_bytes());
        row[115] = b'r';
        row
    }

    #[test]
    fn a_row_that_was_renamed_is_read_from_the_old_one_and_what_is_new() {
        let old = CatalogRow::of(&row("users"));
        let place = CatalogPlace::first(Catalog::Relations, 5);
        let new = row("users_old");
        // What is left out: `users` with the number in front of it, and all behind the new part of the name.
        let kept = [vec![0, 0, 0, 0, 24], vec![0], new[9..13].to_vec()].concat();
        let data = [9_u16.to_le_bytes().to_vec(), 159_u16.to_le_bytes().to_vec(), kept].concat();
        let written = updated(place, &data, PREFIX_FROM_OLD | SUFFIX_FROM_OLD).unwrap();
        assert_eq!(written.row(None), None, "nobody knows the old one");
        let read = written.row(Some(&old)).unwrap();
        assert_eq!(read, CatalogRow::of(&new));
        let relation = read.relation(Major::of_text("15").unwrap()).unwrap();
        assert_eq!((relation.oid, relation.name.as_str(), relation.schema), (16_385, "users_old", 2200));
        assert_eq!((relation.file, relation.toast, relation.kind), (16_390, 16_388, 'r'));
    }

    #[test]
    fn a_row_that_changed_behind_its_name_keeps_it() {
        let old = CatalogRow::of(&row("users"));
        let place = CatalogPlace::first(Catalog::Relations, 5);
        let data = [150_u16.to_le_bytes().to_vec(), vec![0, 0, 0, 0, 24, 0], vec![7; 30]].concat();
        let read = updated(place, &data, PREFIX_FROM_OLD).unwrap().row(Some(&old)).unwrap();
        assert_eq!(read.name().as_deref(), Some("users"));
        assert_eq!(read.length, 180);
    }

    #[test]
    fn only_catalogs_are_told_by_their_files() {
        let file = |tablespace, database, file| Catalog::of(&RelationFile { tablespace, database, file });
        assert_eq!(file(1663, 5, 1259), Some(Catalog::Relations));
        assert_eq!(file(1664, 0, 1262), Some(Catalog::Databases));
        assert_eq!((file(1663, 5, 1262), file(1663, 5, 16_385), file(1664, 0, 1259)), (None, None, None));
    }
}
