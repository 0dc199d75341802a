//! Follows how databases are dropped: from where on one is lost, and whether its drop has ended.
//!
//! A drop is not undone by leaving out its commit. Before that the database is marked invalid in place, and its files are
//! removed by a record of their own; replay carries out both when it comes by (`dropdb` in `dbcommands.c`; the mark since
//! the minor releases of August 2023). Records are given in order. Nothing here reads.

use std::collections::{BTreeMap, BTreeSet};

use crate::pgformat::{Census, Landmark, Lsn, Overwritten, RowPlace, SharedRow, TransactionEnd, WalRecord};

/// The drop of a database that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DatabaseDrop {
    /// The database's number, where it was told already.
    pub(super) database: Option<u32>,
    /// The transaction, where it has written already.
    pub(super) xid: Option<u32>,
    /// The last record before the first one that cannot be left out any more.
    pub(super) before: Lsn,
}

/// The drops that are under way.
#[derive(Debug, Clone, Default)]
pub(super) struct DatabaseDrops {
    /// Rows of databases that were overwritten in place, as the mark of a drop or in a way that was not told.
    marks: BTreeMap<RowPlace, DatabaseDrop>,
    open: BTreeMap<u32, DatabaseDrop>,
    /// Who deleted a shared row: moving a database, or failing to make one, removes files as well, and no row.
    deleters: BTreeSet<u32>,
    /// Who runs that ran when it was first told; `None` before.
    running: Option<BTreeSet<u32>>,
    /// Who ended before that.
    ended: BTreeSet<u32>,
}

impl DatabaseDrops {
    /// Takes the next record.
    pub(super) fn see(&mut self, record: &WalRecord<'_>) {
        if let Some(end) = TransactionEnd::of(record) {
            std::iter::once(end.xid).chain(end.subtransactions).for_each(|xid| self.end(xid));
            return;
        }
        match SharedRow::of(record) {
            Some(SharedRow::InPlace(place, written)) => self.overwritten((place, written), record.prev),
            Some(SharedRow::Deleted(place)) => self.deleted(place, record.xid),
            None => {}
        }
        if let Some(Landmark::DatabaseDropped { oid }) = Landmark::of(record)
            && self.deleters.contains(&record.xid)
        {
            let (xid, before) = (Some(record.xid), record.prev);
            let begun = self.open.entry(record.xid).or_insert(DatabaseDrop { database: None, xid, before });
            begun.database = Some(oid);
        }
        match Census::of(record) {
            Some(Census::Nobody) => *self = Self { running: Some(BTreeSet::new()), ..Self::default() },
            Some(Census::These(running)) if self.running.is_none() => {
                self.running = Some(running.difference(&self.ended).copied().collect());
            }
            Some(Census::These(_)) | None => {}
        }
    }

    /// The drop that a transaction carries out.
    pub(super) fn of(&self, xid: u32) -> Option<DatabaseDrop> {
        self.open.get(&xid).copied()
    }

    /// The first drop that has begun and not ended.
    pub(super) fn first(&self) -> Option<DatabaseDrop> {
        let marked = self.marks.values().filter(|mark| mark.database.is_some());
        self.open.values().chain(marked).min_by_key(|one| one.before).copied()
    }

    /// Whether a transaction may run that began before the first record that was seen.
    pub(super) fn is_unsettled(&self) -> bool {
        self.running.as_ref().is_none_or(|running| !running.is_empty())
    }

    fn overwritten(&mut self, (place, written): (RowPlace, Overwritten), before: Lsn) {
        let database = match written {
            Overwritten::Invalid(oid) => Some(oid),
            Overwritten::Untold => None,
            Overwritten::Valid => {
                self.marks.remove(&place);
                return;
            }
        };
        self.marks.insert(place, DatabaseDrop { database, xid: None, before });
    }

    fn deleted(&mut self, place: RowPlace, xid: u32) {
        self.deleters.insert(xid);
        if let Some(mark) = self.marks.remove(&place) {
            self.open.insert(xid, DatabaseDrop { xid: Some(xid), ..mark });
        }
    }

    fn end(&mut self, xid: u32) {
        self.open.remove(&xid);
        self.deleters.remove(&xid);
        match &mut self.running {
            Some(running) => drop(running.remove(&xid)),
            None => drop(self.ended.insert(xid)),
        }
    }
}
