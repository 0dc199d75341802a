//! Finds what people look for in WAL: the transaction that dropped or changed something, and the last moment before.
//!
//! Records are given in order; what the changes of a transaction came to is told when it ends. Nothing here reads.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::catalog_rows::{CatalogRows, NamedRelation};
use super::database_drop::DatabaseDrops;
use super::relfilenode::RelfilenodeHistory;
use crate::base::Timestamp;
use crate::pgformat::{
    DroppedRelation, Landmark, Lsn, Outcome, RelationFile, RowChange, RowVerb, TransactionEnd, WalRecord,
};

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Relations and databases that ceased to be, and tables that were truncated or rewritten.
    Drops,
    /// What happened to relations.
    Relations(Relations),
    /// The end of a transaction.
    Transaction(u32),
    /// A restore point.
    RestorePoint(String),
}

/// Relations that are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relations {
    /// Numbers of files, or identities in `pg_class`.
    pub numbers: BTreeSet<u32>,
    /// Their database, zero for what all share: databases made from one template use the same numbers. `None` for any.
    pub database: Option<u32>,
}

impl Relations {
    /// Tells whether some of them may lie in a database.
    pub(super) fn may_be_in(&self, database: u32) -> bool {
        self.database.is_none_or(|own| own == database)
    }

    fn has_file(&self, file: &RelationFile) -> bool {
        self.may_be_in(file.database) && self.numbers.contains(&file.file)
    }

    fn has(&self, relation: &DroppedRelation) -> bool {
        self.may_be_in(relation.database) && self.numbers.contains(&relation.oid)
    }
}

/// What was found to have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// Relations were dropped.
    Dropped,
    /// Relations got new files: truncated or rewritten. Before PostgreSQL 15 they may have been dropped.
    Replaced,
    /// A database was dropped.
    DatabaseDropped,
    /// Rows were changed.
    Changed,
    /// A transaction ended.
    Ended,
    /// A restore point was made.
    Marked,
}

/// Changed rows of the relations that are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Rows {
    /// Added.
    pub inserted: u64,
    /// Changed.
    pub updated: u64,
    /// Removed.
    pub deleted: u64,
}

/// Something that was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sighting {
    /// What happened.
    pub what: Happened,
    /// The transaction; `None` for what belongs to none.
    pub xid: Option<u32>,
    /// Whether the transaction counts.
    pub committed: bool,
    /// Where the record begins that made it happen.
    pub lsn: Lsn,
    /// The last record before it: a recovery to this position, included, ends just before it happened. Of a database
    /// that was dropped the last one before it was marked invalid: from there on it cannot be had any more.
    pub before: Lsn,
    /// When, by the primary's clock.
    pub at: Option<Timestamp>,
    /// The relations that were dropped, where the WAL tells.
    pub dropped: Vec<DroppedRelation>,
    /// The files that were removed.
    pub files: Vec<RelationFile>,
    /// Those relations whose rows in `pg_class` the WAL that was read has, as they were; only where drops or relations are looked for.
    pub relations: Vec<NamedRelation>,
    /// The database that was dropped.
    pub database: Option<u32>,
    /// Its name at that moment, where the WAL that was read tells; not quoted.
    pub database_name: Option<String>,
    /// The rows that were changed.
    pub rows: Rows,
    /// The name of the restore point.
    pub name: Option<String>,
}

/// The state of a search.
#[derive(Debug, Clone)]
pub struct ChangeSearch {
    wanted: Wanted,
    open: BTreeMap<u32, Rows>,
    relfilenodes: RelfilenodeHistory,
    database_drops: DatabaseDrops,
    catalog_rows: CatalogRows,
    /// What was found so far, in order.
    pub found: Vec<Sighting>,
}

impl ChangeSearch {
    /// Begins a search.
    #[must_use]
    pub fn of(wanted: Wanted) -> Self {
        Self {
            wanted,
            open: BTreeMap::new(),
            relfilenodes: RelfilenodeHistory::default(),
            database_drops: DatabaseDrops::default(),
            catalog_rows: CatalogRows::default(),
            found: Vec::new(),
        }
    }

    /// Takes the next record.
    pub fn see(&mut self, record: &WalRecord<'_>) {
        let doomed = self.database_drops.of(record.xid).map(|database_drop| database_drop.before);
        self.database_drops.see(record);
        if let Some(mut end) = TransactionEnd::of(record) {
            let rows = self.close(&end);
            self.relfilenodes.end(&end);
            let ended = self.catalog_rows.end(&end);
            ended.seen_by_others(&mut end);
            if let Some(what) = self.judge(&end, rows) {
                self.ended((what, ended.named), (&end, doomed.unwrap_or(record.prev)), rows);
            }
            return;
        }
        if matches!(self.wanted, Wanted::Drops | Wanted::Relations(_)) {
            self.catalog_rows.see(record);
        }
        match Landmark::of(record) {
            Some(Landmark::RestorePoint { name, at }) => self.marked(record, name, at),
            Some(Landmark::DatabaseDropped { oid }) => self.database(record, oid),
            Some(Landmark::Checkpoint { .. } | Landmark::Promotion { .. }) | None => self.change(record),
        }
    }

    /// The files that relations had before, where what was seen tells that those that are looked for took the place of
    /// others: what happened to them is found by a search that begins anew.
    #[must_use]
    pub fn earlier_files(&self) -> BTreeSet<u32> {
        match &self.wanted {
            Wanted::Relations(relations) => self.relfilenodes.before(relations),
            Wanted::Drops | Wanted::Transaction(_) | Wanted::RestorePoint(_) => BTreeSet::new(),
        }
    }

    /// Counts the rows of a change to what is looked for.
    fn change(&mut self, record: &WalRecord<'_>) {
        let Wanted::Relations(relations) = &self.wanted else { return };
        self.relfilenodes.see(record);
        let Some(change) = RowChange::of(record) else { return };
        let touches = record.files().is_ok_and(|files| files.iter().any(|file| relations.has_file(file)));
        if !touches {
            return;
        }
        let rows = self.open.entry(record.xid).or_default();
        match change.verb {
            RowVerb::Insert => rows.inserted += change.rows,
            RowVerb::Update => rows.updated += change.rows,
            RowVerb::Delete => rows.deleted += change.rows,
            RowVerb::Truncate => {}
        }
    }

    /// Takes what a transaction and those inside it did.
    fn close(&mut self, end: &TransactionEnd) -> Rows {
        let all = std::iter::once(&end.xid).chain(&end.subtransactions);
        all.filter_map(|xid| self.open.remove(xid)).fold(Rows::default(), |sum, rows| Rows {
            inserted: sum.inserted + rows.inserted,
            updated: sum.updated + rows.updated,
            deleted: sum.deleted + rows.deleted,
        })
    }

    fn judge(&self, end: &TransactionEnd, rows: Rows) -> Option<Happened> {
        let dropped = end.dropped.as_deref().unwrap_or_default();
        match &self.wanted {
            Wanted::Transaction(xid) => {
                (end.xid == *xid || end.subtransactions.contains(xid)).then_some(Happened::Ended)
            }
            Wanted::RestorePoint(_) => None,
            Wanted::Drops | Wanted::Relations(_) if end.outcome == Outcome::Aborted => None,
            Wanted::Drops if !dropped.is_empty() => Some(Happened::Dropped),
            Wanted::Drops => (!end.dropped_files.is_empty()).then_some(Happened::Replaced),
            Wanted::Relations(relations) => {
                if dropped.iter().any(|relation| relations.has(relation)) {
                    Some(Happened::Dropped)
                } else if end.dropped_files.iter().any(|file| relations.has_file(file)) {
                    Some(Happened::Replaced)
                } else {
                    (rows != Rows::default()).then_some(Happened::Changed)
                }
            }
        }
    }

    fn ended(
        &mut self,
        (what, mut relations): (Happened, Vec<NamedRelation>),
        (end, before): (&TransactionEnd, Lsn),
        rows: Rows,
    ) {
        // Rows are replaced for other reasons as well.
        let dropped: BTreeSet<(u32, u32)> = end.dropped.iter().flatten().map(|one| (one.database, one.oid)).collect();
        let lost: BTreeSet<(u32, u32)> = end.dropped_files.iter().map(|one| (one.database, one.file)).collect();
        let is_dropped = |one: &NamedRelation| dropped.contains(&(one.database, one.oid));
        let has_lost = |one: &NamedRelation| one.file != 0 && lost.contains(&(one.database, one.file));
        relations.retain(|one| is_dropped(one) || has_lost(one));
        // Of several rows of one relation the first is what others saw, and what a recovery to just before it has.
        let mut told = BTreeSet::new();
        relations.retain(|one| told.insert((one.database, one.oid)));
        self.found.push(Sighting {
            xid: Some(end.xid),
            committed: end.outcome == Outcome::Committed,
            lsn: end.lsn,
            at: Some(end.at),
            dropped: end.dropped.clone().unwrap_or_default(),
            files: end.dropped_files.clone(),
            relations,
            database: None,
            database_name: None,
            name: None,
            what,
            before,
            rows,
        });
    }

    fn marked(&mut self, record: &WalRecord<'_>, name: String, at: Timestamp) {
        if self.wanted == Wanted::RestorePoint(name.clone()) {
            self.found.push(Sighting { at: Some(at), name: Some(name), ..bare(Happened::Marked, record) });
        }
    }

    /// The files of a database are gone with this very record, before its transaction commits.
    fn database(&mut self, record: &WalRecord<'_>, oid: u32) {
        if self.wanted == Wanted::Drops {
            let xid = Some(record.xid).filter(|xid| *xid != 0);
            let before = self.database_drops.of(record.xid).map_or(record.prev, |database_drop| database_drop.before);
            let database_name = self.catalog_rows.database(record.xid, oid);
            let database = Some(oid);
            self.found.push(Sighting {
                xid,
                before,
                database,
                database_name,
                ..bare(Happened::DatabaseDropped, record)
            });
        }
    }
}

fn bare(what: Happened, record: &WalRecord<'_>) -> Sighting {
    Sighting {
        what,
        xid: None,
        committed: true,
        lsn: record.lsn,
        before: record.prev,
        at: None,
        dropped: Vec::new(),
        files: Vec::new(),
        relations: Vec::new(),
        database: None,
        database_name: None,
        rows: Rows::default(),
        name: None,
    }
}
