//! Follows the rows of the catalogs that name databases, schemas and relations: what a transaction dropped had a name.
//!
//! A row is known from the record that wrote it, or from its page, which WAL has as a whole at the first change after a
//! checkpoint: where WAL is read from the checkpoint before a drop on, the names are there. Records are given in order.
//! Nothing here reads.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::pgformat::{
    Catalog, CatalogChange, CatalogPlace, CatalogRow, Lsn, Major, Outcome, RelationRow, TransactionEnd, WalRecord,
};

/// A relation that was dropped, or whose file was replaced, as its row in `pg_class` was at that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedRelation {
    /// Its database.
    pub database: u32,
    /// Its identity in `pg_class`.
    pub oid: u32,
    /// The number of its file; zero for what has none.
    pub file: u32,
    /// The identity of its schema.
    pub schema_oid: u32,
    /// The name of its schema, where WAL tells; not quoted.
    pub schema: Option<String>,
    /// Its name, not quoted.
    pub name: String,
    /// `relkind`, as `pg_class` has it: `r` a table, `i` an index, `S` a sequence, `t` a TOAST table.
    pub kind: char,
    /// The table that it belongs to: of an index, of a TOAST table, of a partition.
    pub of: Option<u32>,
    /// Whether this is the row that others saw. Where WAL that was read does not have that one, it is the first that the
    /// transaction itself wrote in its place, maybe with another name.
    pub is_seen_row: bool,
}

/// What a transaction did to relations.
#[derive(Debug, Clone, Default)]
pub(super) struct Ended {
    /// Those whose rows it deleted or replaced; of one with several such rows in their order: the first is what others saw.
    pub(super) named: Vec<NamedRelation>,
    /// Those that it made itself and dropped again, by database and identity, with the file that they were made with: what
    /// rewrites a table makes such a one for a while (`VACUUM FULL`, `REFRESH MATERIALIZED VIEW`).
    passing: BTreeMap<(u32, u32), u32>,
}

impl Ended {
    /// Leaves out of what ended what nobody but the transaction itself has ever seen.
    pub(super) fn seen_by_others(&self, end: &mut TransactionEnd) {
        end.dropped.iter_mut().for_each(|all| all.retain(|one| !self.passing.contains_key(&(one.database, one.oid))));
        let own: BTreeSet<(u32, u32)> = self.passing.iter().map(|((database, _), file)| (*database, *file)).collect();
        end.dropped_files.retain(|one| !own.contains(&(one.database, one.file)));
    }
}

/// The rows that are known.
#[derive(Debug, Clone, Default)]
pub(super) struct CatalogRows {
    rows: BTreeMap<CatalogPlace, CatalogRow>,
    /// What transactions wrote that have not ended.
    written: BTreeMap<u32, Vec<Made>>,
    /// What they deleted or replaced.
    ended: BTreeMap<u32, Vec<EndedRow>>,
    major: Option<Major>,
}

/// A row that a transaction deleted or replaced.
#[derive(Debug, Clone)]
struct EndedRow {
    lsn: Lsn,
    place: CatalogPlace,
    row: CatalogRow,
}

impl EndedRow {
    fn key(&self) -> Option<(u32, u32)> {
        Some((self.place.database, self.row.oid()?))
    }
}

/// A row that a transaction wrote.
#[derive(Debug, Clone, Copy)]
struct Made {
    place: CatalogPlace,
    /// Where the row lay that it replaced; `None` of one that was new.
    replaced: Option<CatalogPlace>,
}

/// The places of the rows that a transaction itself began and then replaced. What was there before is not among them, however
/// often the transaction replaced it: whether the first of these rows is known makes no difference.
fn begun(written: &[Made]) -> BTreeSet<CatalogPlace> {
    let next: BTreeMap<CatalogPlace, CatalogPlace> =
        written.iter().filter_map(|made| Some((made.replaced?, made.place))).collect();
    let mut begun = BTreeSet::new();
    for first in written.iter().filter(|made| made.replaced.is_none()) {
        let mut at = Some(first.place);
        while let Some(place) = at.filter(|place| begun.insert(*place)) {
            at = next.get(&place).copied();
        }
    }
    begun
}

impl CatalogRows {
    /// Takes the next record.
    pub(super) fn see(&mut self, record: &WalRecord<'_>) {
        let Some(change) = CatalogChange::of(record) else { return };
        self.major = Some(record.major());
        self.rows.extend(change.seen);
        let lsn = record.lsn;
        let old = change.ended.and_then(|place| Some(EndedRow { lsn, place, row: self.rows.get(&place)?.clone() }));
        if let Some(written) = change.written {
            match written.row(old.as_ref().map(|old| &old.row)) {
                Some(row) => drop(self.rows.insert(written.place, row)),
                None => drop(self.rows.remove(&written.place)),
            }
        }
        if let Some(place) = change.made {
            self.written.entry(record.xid).or_default().push(Made { place, replaced: change.ended });
        }
        if let Some(old) = old {
            self.ended.entry(record.xid).or_default().push(old);
        }
    }

    /// The name of a database whose row a transaction has deleted.
    pub(super) fn database(&self, xid: u32, oid: u32) -> Option<String> {
        let ended = self.ended.get(&xid)?.iter().filter(|old| old.place.catalog == Catalog::Databases);
        ended.map(|old| &old.row).find(|row| row.oid() == Some(oid)).and_then(CatalogRow::name)
    }

    /// Takes what a transaction, and those inside it, did to relations.
    pub(super) fn end(&mut self, end: &TransactionEnd) -> Ended {
        let all = || std::iter::once(&end.xid).chain(&end.subtransactions);
        let written: Vec<Made> = all().filter_map(|xid| self.written.remove(xid)).flatten().collect();
        let mut ended: Vec<EndedRow> = all().filter_map(|xid| self.ended.remove(xid)).flatten().collect();
        if end.outcome == Outcome::Aborted {
            written.iter().for_each(|made| drop(self.rows.remove(&made.place)));
            return Ended::default();
        }
        // What transactions inside it did comes between.
        ended.sort_by_key(|old| old.lsn);
        let begun = begun(&written);
        let relations = ended.iter().filter(|old| old.place.catalog == Catalog::Relations);
        let before: BTreeSet<(u32, u32)> =
            relations.filter(|old| !begun.contains(&old.place)).filter_map(EndedRow::key).collect();
        let written: BTreeSet<CatalogPlace> = written.iter().map(|made| made.place).collect();
        let (mut named, mut passing) = (Vec::new(), BTreeMap::new());
        for one in self.named(&ended, &written) {
            let key = (one.database, one.oid);
            match before.contains(&key) {
                true => named.push(one),
                // What rewrites a table leaves the old file with it: its own one is the first.
                false => drop(passing.entry(key).or_insert(one.file)),
            }
        }
        for old in &ended {
            // The place may have another row by now.
            if self.rows.get(&old.place) == Some(&old.row) {
                self.rows.remove(&old.place);
            }
        }
        Ended { named, passing }
    }

    fn named(&self, ended: &[EndedRow], written: &BTreeSet<CatalogPlace>) -> Vec<NamedRelation> {
        let Some(major) = self.major else { return Vec::new() };
        let of_catalog = |catalog| ended.iter().filter(move |old| old.place.catalog == catalog);
        let relations: Vec<(CatalogPlace, RelationRow)> =
            of_catalog(Catalog::Relations).filter_map(|old| Some((old.place, old.row.relation(major)?))).collect();
        let owners = |catalog| -> BTreeMap<(u32, u32), u32> {
            of_catalog(catalog).filter_map(|old| Some((old.key()?, old.row.owner()?))).collect()
        };
        let (indexed, parents) = (owners(Catalog::Indexes), owners(Catalog::Parents));
        let toasts: BTreeMap<(u32, u32), u32> = relations
            .iter()
            .filter(|(_, row)| row.toast != 0)
            .map(|(place, row)| ((place.database, row.toast), row.oid))
            .collect();
        let schemas = self.schemas(&relations, ended);
        let name = |(place, row): (CatalogPlace, RelationRow)| {
            let (database, key) = (place.database, (place.database, row.oid));
            let parent = || parents.get(&key).filter(|_| row.is_partition);
            NamedRelation {
                database,
                schema: schemas.get(&(database, row.schema)).cloned().flatten(),
                of: indexed.get(&key).or_else(|| toasts.get(&key)).or_else(parent).copied(),
                oid: row.oid,
                file: row.file,
                schema_oid: row.schema,
                name: row.name,
                kind: row.kind,
                is_seen_row: !written.contains(&place),
            }
        };
        relations.into_iter().map(name).collect()
    }

    /// The names of the schemas of relations: as they were dropped along, else as their rows are.
    fn schemas(
        &self,
        relations: &[(CatalogPlace, RelationRow)],
        ended: &[EndedRow],
    ) -> BTreeMap<(u32, u32), Option<String>> {
        let mut names: BTreeMap<(u32, u32), Option<String>> = BTreeMap::new();
        for old in ended.iter().filter(|old| old.place.catalog == Catalog::Schemas) {
            if let Some(key) = old.key() {
                names.entry(key).or_insert_with(|| old.row.name());
            }
        }
        for (CatalogPlace { database, .. }, row) in relations {
            let known = || self.name((Catalog::Schemas, *database), row.schema);
            names.entry((*database, row.schema)).or_insert_with(known);
        }
        names
    }

    /// The name of a database whose row is known, also while its drop is under way.
    pub(super) fn database_name(&self, oid: u32) -> Option<String> {
        self.name((Catalog::Databases, 0), oid)
    }

    /// The name of what has a number in a catalog, where all its rows that are known say the same.
    fn name(&self, (catalog, database): (Catalog, u32), oid: u32) -> Option<String> {
        let known = self.rows.range(CatalogPlace::first(catalog, database)..);
        let mut names: Vec<String> = known
            .take_while(|(place, _)| (place.catalog, place.database) == (catalog, database))
            .filter(|(_, row)| row.oid() == Some(oid))
            .filter_map(|(_, row)| row.name())
            .collect();
        names.sort();
        names.dedup();
        names.pop().filter(|_| names.is_empty())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;
    use crate::base::Timestamp;
    use crate::pgformat::fixture::{Touched, parsed, record};
    use crate::pgformat::{DroppedRelation, RelationFile};

    const HEAP: u8 = 10;
    const INSERT: u8 = 0x00;
    const DELETE: u8 = 0x10;
    const UPDATE: u8 = 0x20;
    const XID: u32 = 800;
    const DATABASE: u32 = 5;

    /// Where a row lies: its page, and which it is there.
    type At = (u32, u16);

    fn on(number: u32, data: Vec<u8>) -> Touched {
        let file = RelationFile { tablespace: 1663, database: DATABASE, file: 1259 };
        Touched { file, number, image: None, data }
    }

    /// A row of `pg_class` of version 15, as a record has it; the number of the file is ten more than its own.
    fn row(oid: u32, name: &str) -> Vec<u8> {
        let mut row = vec![0; 172];
        row[..4].copy_from_slice(&oid.to_le_bytes());
        row[4..4 + name.len()].copy_from_slice(name.as_bytes());
        row[68..72].copy_from_slice(&2200_u32.to_le_bytes());
        row[88..92].copy_from_slice(&(oid + 10).to_le_bytes());
        row[115] = b'r';
        [vec![0, 0, 0, 0, 24, 0], row].concat()
    }

    fn insert((page, item): At, row: Vec<u8>) -> Vec<u8> {
        record((HEAP, INSERT, XID), &[on(page, row)], &[item.to_le_bytes(), [0; 2]].concat())
    }

    fn delete((page, item): At) -> Vec<u8> {
        record(
            (HEAP, DELETE, XID),
            &[on(page, Vec::new())],
            &[vec![0; 4], item.to_le_bytes().to_vec(), vec![0; 2]].concat(),
        )
    }

    /// The new row lies on another page: the record has it whole.
    fn update((old_page, old): At, (page, item): At, row: Vec<u8>) -> Vec<u8> {
        let main = [vec![0; 4], old.to_le_bytes().to_vec(), vec![0; 6], item.to_le_bytes().to_vec()].concat();
        record((HEAP, UPDATE, XID), &[on(page, row), on(old_page, Vec::new())], &main)
    }

    /// What a transaction that does all this, and drops a relation, is told to have named, and what is left of what it dropped.
    fn told(records: &[Vec<u8>], oid: u32) -> (Vec<String>, TransactionEnd) {
        let mut rows = CatalogRows::default();
        for (bytes, at) in records.iter().zip((0x0100_0028..).step_by(0x1000)) {
            rows.see(&parsed(bytes, at));
        }
        let mut end = committed(oid);
        let ended = rows.end(&end);
        ended.seen_by_others(&mut end);
        (ended.named.into_iter().map(|one| one.name).collect(), end)
    }

    fn committed(oid: u32) -> TransactionEnd {
        TransactionEnd {
            lsn: Lsn(0x0200_0000),
            end: Lsn(0x0200_0100),
            outcome: Outcome::Committed,
            xid: XID,
            at: Timestamp::UNIX_EPOCH,
            subtransactions: Vec::new(),
            dropped_files: vec![RelationFile { tablespace: 1663, database: DATABASE, file: oid + 10 }],
            dropped: Some(vec![DroppedRelation { database: DATABASE, oid }]),
        }
    }

    #[test]
    fn a_table_whose_row_was_replaced_before_it_was_dropped_stays_dropped_where_its_first_row_is_not_known() {
        let (oid, names) = (16_385, |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        // A constraint that goes first, or a name that is given first: the row moves to another page.
        let once = [update((3, 7), (9, 1), row(oid, "t")), delete((9, 1))];
        let (named, end) = told(&once, oid);
        assert_eq!((named, end.dropped.unwrap().len(), end.dropped_files.len()), (names(&["t"]), 1, 1));
        let twice =
            [update((3, 7), (9, 1), row(oid, "t")), update((9, 1), (10, 4), row(oid, "t_old")), delete((10, 4))];
        let (named, end) = told(&twice, oid);
        assert_eq!((named, end.dropped.unwrap().len(), end.dropped_files.len()), (names(&["t", "t_old"]), 1, 1));
        let unknown = [delete((3, 7))];
        let (named, end) = told(&unknown, oid);
        assert_eq!((named, end.dropped.unwrap().len(), end.dropped_files.len()), (names(&[]), 1, 1));
    }

    #[test]
    fn of_several_rows_the_first_is_what_others_saw_where_it_is_known() {
        let (oid, mut rows) = (16_385, CatalogRows::default());
        let seen =
            |named: &Ended| named.named.iter().map(|one| (one.name.clone(), one.is_seen_row)).collect::<Vec<_>>();
        let earlier = insert((3, 7), row(oid, "t"));
        rows.see(&parsed(&earlier, 0x0100_0028));
        rows.end(&committed(oid));
        let renamed = update((3, 7), (9, 1), row(oid, "t_old"));
        rows.see(&parsed(&renamed, 0x0100_1028));
        let gone = delete((9, 1));
        rows.see(&parsed(&gone, 0x0100_2028));
        let named = seen(&rows.end(&committed(oid)));
        assert_eq!(named, [("t".to_owned(), true), ("t_old".to_owned(), false)]);
    }

    #[test]
    fn ten_thousand_tables_whose_rows_were_replaced_and_deleted_are_all_told() {
        const TABLES: u16 = 10_000;
        let (mut rows, mut at) = (CatalogRows::default(), 0x0100_0028);
        let mut see = |record: Vec<u8>| {
            rows.see(&parsed(&record, at));
            at += 0x1000;
        };
        for item in 0..TABLES {
            let oid = 20_000 + u32::from(item);
            see(update((3, item), (9, item), row(oid, "t")));
            see(delete((9, item)));
        }
        let mut end = committed(20_000);
        let ended = rows.end(&end);
        ended.seen_by_others(&mut end);
        assert_eq!((ended.named.len(), end.dropped.unwrap().len()), (TABLES.into(), 1));
    }

    #[test]
    fn a_table_that_a_transaction_made_itself_is_no_drop_however_often_its_row_was_replaced() {
        let oid = 16_385;
        let made = [
            insert((3, 7), row(oid, "t")),
            update((3, 7), (9, 1), row(oid, "t")),
            update((9, 1), (10, 4), row(oid, "t_new")),
            delete((10, 4)),
        ];
        let (named, end) = told(&made, oid);
        assert_eq!((named.len(), end.dropped.unwrap().len(), end.dropped_files.len()), (0, 0, 0));
        // Another one is none of its business.
        let (_, end) = told(&made, 16_999);
        assert_eq!((end.dropped.unwrap().len(), end.dropped_files.len()), (1, 1));
    }
}
