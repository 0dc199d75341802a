//! Follows the rows of the catalogs that name databases, schemas and relations: what a transaction dropped had a name.
//!
//! A row is known from the record that wrote it, or from its page, which WAL has as a whole at the first change after a
//! checkpoint: where WAL is read from the checkpoint before a drop on, the names are there. Records are given in order.
//! Nothing here reads.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::pgformat::{
    Catalog, CatalogChange, CatalogPlace, CatalogRow, Major, Outcome, RelationRow, TransactionEnd, WalRecord,
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
}

/// What a transaction did to relations.
#[derive(Debug, Clone, Default)]
pub(super) struct Ended {
    /// Those whose rows it deleted or replaced, as they were before; of one with several such rows in their order.
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
    written: BTreeMap<u32, Vec<CatalogPlace>>,
    /// What they deleted or replaced.
    ended: BTreeMap<u32, Vec<(CatalogPlace, CatalogRow)>>,
    major: Option<Major>,
}

impl CatalogRows {
    /// Takes the next record.
    pub(super) fn see(&mut self, record: &WalRecord<'_>) {
        let Some(change) = CatalogChange::of(record) else { return };
        self.major = Some(record.major());
        self.rows.extend(change.seen);
        let old = change.ended.and_then(|place| Some((place, self.rows.get(&place)?.clone())));
        if let Some(written) = change.written {
            match written.row(old.as_ref().map(|(_, row)| row)) {
                Some(row) => drop(self.rows.insert(written.place, row)),
                None => drop(self.rows.remove(&written.place)),
            }
        }
        if let Some(made) = change.made {
            self.written.entry(record.xid).or_default().push(made);
        }
        if let Some(old) = old {
            self.ended.entry(record.xid).or_default().push(old);
        }
    }

    /// The name of a database whose row a transaction has deleted.
    pub(super) fn database(&self, xid: u32, oid: u32) -> Option<String> {
        let ended = self.ended.get(&xid)?.iter().filter(|(place, _)| place.catalog == Catalog::Databases);
        ended.map(|(_, row)| row).find(|row| row.oid() == Some(oid)).and_then(CatalogRow::name)
    }

    /// Takes what a transaction, and those inside it, did to relations.
    pub(super) fn end(&mut self, end: &TransactionEnd) -> Ended {
        let all = || std::iter::once(&end.xid).chain(&end.subtransactions);
        let written: Vec<CatalogPlace> = all().filter_map(|xid| self.written.remove(xid)).flatten().collect();
        let ended: Vec<(CatalogPlace, CatalogRow)> = all().filter_map(|xid| self.ended.remove(xid)).flatten().collect();
        if end.outcome == Outcome::Aborted {
            written.iter().for_each(|place| drop(self.rows.remove(place)));
            return Ended::default();
        }
        let relations = || ended.iter().filter(|(place, _)| place.catalog == Catalog::Relations);
        let key = |place: &CatalogPlace, row: &CatalogRow| Some((place.database, row.oid()?));
        let before = relations().filter(|(place, _)| !written.contains(place));
        let before: BTreeSet<(u32, u32)> = before.filter_map(|(place, row)| key(place, row)).collect();
        let (mut named, all) = (Vec::new(), self.named(&ended));
        let mut passing = BTreeMap::new();
        for one in all {
            let key = (one.database, one.oid);
            match before.contains(&key) {
                true => named.push(one),
                // What rewrites a table leaves the old file with it: its own one is the first.
                false => drop(passing.entry(key).or_insert(one.file)),
            }
        }
        for (place, row) in &ended {
            // The place may have another row by now.
            if self.rows.get(place) == Some(row) {
                self.rows.remove(place);
            }
        }
        Ended { named, passing }
    }

    fn named(&self, ended: &[(CatalogPlace, CatalogRow)]) -> Vec<NamedRelation> {
        let Some(major) = self.major else { return Vec::new() };
        let of_catalog = |catalog| ended.iter().filter(move |(place, _)| place.catalog == catalog);
        let relations: Vec<(u32, RelationRow)> = of_catalog(Catalog::Relations)
            .filter_map(|(place, row)| Some((place.database, row.relation(major)?)))
            .collect();
        let owners = |catalog| -> BTreeMap<(u32, u32), u32> {
            of_catalog(catalog).filter_map(|(place, row)| Some(((place.database, row.oid()?), row.owner()?))).collect()
        };
        let (indexed, parents) = (owners(Catalog::Indexes), owners(Catalog::Parents));
        let toasts: BTreeMap<(u32, u32), u32> = relations
            .iter()
            .filter(|(_, row)| row.toast != 0)
            .map(|(database, row)| ((*database, row.toast), row.oid))
            .collect();
        let name = |(database, row): (u32, RelationRow)| {
            let key = (database, row.oid);
            let parent = || parents.get(&key).filter(|_| row.is_partition);
            NamedRelation {
                database,
                schema: self.schema((database, row.schema), ended),
                of: indexed.get(&key).or_else(|| toasts.get(&key)).or_else(parent).copied(),
                oid: row.oid,
                file: row.file,
                schema_oid: row.schema,
                name: row.name,
                kind: row.kind,
            }
        };
        relations.into_iter().map(name).collect()
    }

    /// The name of a schema: as it was dropped along, else as its row is.
    fn schema(&self, (database, oid): (u32, u32), ended: &[(CatalogPlace, CatalogRow)]) -> Option<String> {
        let is_it = |place: &CatalogPlace, row: &CatalogRow| {
            (place.catalog, place.database) == (Catalog::Schemas, database) && row.oid() == Some(oid)
        };
        match ended.iter().find(|(place, row)| is_it(place, row)) {
            Some((_, row)) => row.name(),
            None => self.name((Catalog::Schemas, database), oid),
        }
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
