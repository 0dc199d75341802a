//! Which files a relation had before: TRUNCATE, VACUUM FULL and an ALTER that rewrites give it new ones.
//!
//! The WAL tells which files a transaction made and which it removed, not which of them took the place of which.

use std::collections::{BTreeMap, BTreeSet};

use super::change_search::Relations;
use crate::pgformat::{Outcome, RelationFile, TransactionEnd, WalRecord, new_file};

/// The files that one transaction made and removed.
#[derive(Debug, Clone)]
struct Succession {
    made: Vec<RelationFile>,
    removed: Vec<RelationFile>,
}

/// Every transaction that was seen to make some files and remove others, in the order of their commits.
#[derive(Debug, Clone, Default)]
pub(super) struct RelfilenodeHistory {
    /// What transactions made that have not ended yet.
    open: BTreeMap<u32, Vec<RelationFile>>,
    all: Vec<Succession>,
}

impl RelfilenodeHistory {
    pub(super) fn see(&mut self, record: &WalRecord<'_>) {
        if let Some(file) = new_file(record) {
            self.open.entry(record.xid).or_default().push(file);
        }
    }

    pub(super) fn end(&mut self, end: &TransactionEnd) {
        let all = std::iter::once(&end.xid).chain(&end.subtransactions);
        let made: Vec<RelationFile> = all.filter_map(|xid| self.open.remove(xid)).flatten().collect();
        if end.outcome == Outcome::Committed && !made.is_empty() && !end.dropped_files.is_empty() {
            self.all.push(Succession { made, removed: end.dropped_files.clone() });
        }
    }

    /// The numbers of the files that may have held the rows before those of `relations` did, back to the first that was
    /// seen.
    pub(super) fn before(&self, relations: &Relations) -> BTreeSet<u32> {
        let mut known = relations.clone();
        for Succession { made, removed } in self.all.iter().rev() {
            for file in made.iter().filter(|file| relations.may_be_in(file.database)) {
                if known.numbers.contains(&file.file) {
                    known
                        .numbers
                        .extend(removed.iter().filter(|old| old.database == file.database).map(|old| old.file));
                }
            }
        }
        known.numbers.difference(&relations.numbers).copied().collect()
    }
}
