//! The backups that the stores of a database have, or pgBackRest, in a few figures.

use std::collections::{BTreeMap, BTreeSet};

use super::gather::{Beside, Newest, Proven, Restorable};
use super::readable::{self, Locked};
use crate::actions::pgbackrest;
use crate::actions::postgres::is_kept_old;
use crate::base::Timestamp;
use crate::catalog::attest::Verdict;
use crate::catalog::{Backup, KIND_POSTGRES_BASE, KIND_POSTGRES_DUMP, KIND_POSTGRES_SNAPSHOT};
use crate::cli::shelf::Shelf;
use crate::cli::site::{self, Site};
use crate::cli::wiring;

/// The backups of a database in a few figures.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) newest: Option<Newest>,
    pub(super) count: usize,
    /// How many of them are not sound.
    pub(super) unsound: usize,
    /// What a restore would take, where the newest is not sound.
    pub(super) restorable: Option<Restorable>,
    pub(super) proof: Option<Proven>,
    ids: BTreeSet<String>,
    pub(super) locked: Option<Locked>,
    /// Why the own store tells nothing; empty when it does.
    pub(super) fault: String,
    /// The store that tells this in its place.
    pub(super) told_by: Option<String>,
    pub(super) beside: Vec<Beside>,
    /// The newest volume snapshot that is sound.
    pub(super) snapshot: Option<Newest>,
    /// Of each database that whole dumps name, when the newest of them was begun.
    pub(super) dumped: BTreeMap<String, Timestamp>,
    /// The same, also of dumps that do not say which environment they are of; `None` where a store tells nothing.
    pub(super) perhaps_dumped: Option<BTreeMap<String, Timestamp>>,
}

impl Kept {
    /// What lies in the database's own store of the kind that its recovery needs; where that tells nothing, in the other one
    /// that has the newest.
    pub(super) fn ours(name: &str, kind: &str, site: &Site) -> Self {
        let shelves = site.shelves(name);
        let Some(own) = shelves.first() else {
            return Self { fault: "the inventory gives it no `store`".to_owned(), ..Self::default() };
        };
        let fault = own.backups.as_ref().err().cloned().unwrap_or_default();
        let newest_at = |shelf: &&Shelf| sound(shelf, kind).map(|backup| backup.manifest.stopped_at).max();
        let others = || shelves.iter().filter(|shelf| newest_at(shelf).is_some());
        let told = if fault.is_empty() { Some(own) } else { others().max_by_key(newest_at) };
        let kept = told.map(|shelf| Self::of(shelf, kind)).unwrap_or_default();
        let is_sound = kept.newest.as_ref().is_none_or(|newest| newest.sound);
        let restorable = told.filter(|_| !is_sound).and_then(|told| kept.restorable(told, (&shelves, kind)));
        // Another store's copy may be read.
        let sole = told.filter(|_| shelves.len() == 1);
        let locked = sole.and_then(|shelf| readable::locked(&newest_first(shelf, kind), &shelf.store, site));
        let is_told = |shelf: &&Shelf| told.is_some_and(|told| told.store == shelf.store);
        let rest = shelves.iter().skip(1).filter(|shelf| !is_told(shelf));
        let beside = rest.map(|shelf| kept.beside(shelf, kind)).collect();
        let told_by = told.filter(|told| told.store != own.store).map(|told| told.store.clone());
        let snapshots =
            shelves.iter().flat_map(|shelf| shelf.sound(KIND_POSTGRES_SNAPSHOT).map(move |one| (one, shelf)));
        let snapshot = snapshots.max_by_key(|(one, _)| one.manifest.stopped_at).map(|(one, shelf)| newest(one, shelf));
        let is_here = |of: Option<&str>| of == Some(site.environment.as_str());
        let dumped = dumped(&shelves, is_here);
        // Where a dump does not say it, it may be of here.
        let perhaps_dumped = self::dumped(&shelves, |of| of.is_none() || is_here(of));
        let is_whole = shelves.iter().all(|shelf| shelf.backups.is_ok());
        let perhaps_dumped = is_whole.then_some(perhaps_dumped);
        Self { locked, fault, told_by, beside, dumped, perhaps_dumped, restorable, snapshot, ..kept }
    }

    /// What pgBackRest lists.
    pub(super) fn theirs(name: &str, site: &Site) -> Self {
        of_stanza(name, site).unwrap_or_else(|fault| Self { fault, ..Self::default() })
    }

    fn of(shelf: &Shelf, kind: &str) -> Self {
        let found = newest_first(shelf, kind);
        Self {
            newest: found.first().map(|backup| newest(backup, shelf)),
            count: found.len(),
            unsound: found.iter().filter(|backup| !shelf.is_sound(backup)).count(),
            proof: found.iter().filter_map(proof).max_by_key(|proof| proof.at),
            ids: found.into_iter().map(|backup| backup.manifest.id).collect(),
            ..Self::default()
        }
    }

    /// The newest of these that is sound somewhere: of base backups a restore takes another store's copy for a damaged one.
    fn restorable(&self, told: &Shelf, (shelves, kind): (&[Shelf], &str)) -> Option<Restorable> {
        let is_read = |shelf: &&Shelf| shelf.store == told.store || kind == KIND_POSTGRES_BASE;
        let copies = shelves.iter().filter(is_read).flat_map(|shelf| sound(shelf, kind).map(move |one| (one, shelf)));
        let known = copies.filter(|(one, _)| self.ids.contains(&one.manifest.id));
        let is_its_own = |shelf: &Shelf| shelf.store == told.store;
        let best = known.max_by_key(|(one, shelf)| (one.manifest.stopped_at, is_its_own(shelf)))?;
        let store = Some(best.1.store.clone()).filter(|_| !is_its_own(best.1));
        Some(Restorable { backup: newest(best.0, best.1), store })
    }

    /// What another store has beside this.
    fn beside(&self, shelf: &Shelf, kind: &str) -> Beside {
        let other = Self::of(shelf, kind);
        let known = self.newest.as_ref().map(|newest| newest.ended_at);
        let newest_sound = sound(shelf, kind).max_by_key(|backup| backup.manifest.stopped_at);
        let is_newer = |one: &Backup| known < Some(one.manifest.stopped_at) && !self.ids.contains(&one.manifest.id);
        Beside {
            store: shelf.store.clone(),
            fault: shelf.backups.as_ref().err().cloned().unwrap_or_default(),
            is_ahead: newest_sound.is_some_and(is_newer),
            // What it is ahead by is what can be restored from it.
            backup: newest_sound.filter(|one| is_newer(one)).map(|one| newest(one, shelf)).or(other.newest),
            backups: other.count,
        }
    }

    /// Takes the newest proof that only the history of runs knows, where it is newer and its backup is one of these and
    /// still there: what was proven of another, or of a dump, is no word on them.
    pub(super) fn believe(&mut self, proofs: BTreeMap<String, Proven>) {
        let known = self.proof.as_ref().map(|known| known.at);
        let newer = |one: &Proven| self.ids.contains(&one.backup) && known.is_none_or(|known| one.at > known);
        let newest = proofs.into_values().filter(newer).max_by_key(|one| one.at);
        self.proof = newest.or_else(|| self.proof.take());
    }
}

/// Of each database that whole dumps of an environment name, when the newest was begun. What a restore has put aside is no database
/// that is missed.
fn dumped(shelves: &[Shelf], is_its: impl Fn(Option<&str>) -> bool) -> BTreeMap<String, Timestamp> {
    let mut newest = BTreeMap::new();
    for backup in shelves.iter().flat_map(|shelf| sound(shelf, KIND_POSTGRES_DUMP)) {
        let Some(dump) = backup.manifest.dump.as_ref().filter(|dump| !dump.partial) else { continue };
        if is_its(backup.manifest.environment.as_deref()) {
            let known = newest.entry(dump.dbname.clone()).or_insert(backup.manifest.started_at);
            *known = backup.manifest.started_at.max(*known);
        }
    }
    newest
}

/// What a store has of a kind and nothing is known against; no dump of what a restore has put aside.
fn sound<'a>(shelf: &'a Shelf, kind: &'a str) -> impl Iterator<Item = &'a Backup> {
    shelf.sound(kind).filter(|backup| !is_of_kept(backup))
}

/// Whether it is a dump of what a restore has put aside, which is no backup of the database that has its place.
fn is_of_kept(backup: &Backup) -> bool {
    backup.manifest.dump.as_ref().is_some_and(|dump| is_kept_old(&dump.dbname))
}

fn of_stanza(name: &str, site: &Site) -> Result<Kept, String> {
    let host = site::machine().map_err(|failure| failure.in_full())?;
    let looked = wiring::block_on(pgbackrest::look(name, &site.inventory, host.as_ref()))
        .map_err(|failure| failure.in_full())?;
    let standing = looked.map_err(|error| error.to_string())?;
    if let Some(why) = standing.fault() {
        return Err(format!("stanza `{}`: {why}", standing.stanza));
    }
    let newest = standing.backups.iter().max_by_key(|backup| backup.stopped_at);
    let newest = newest.map(|backup| Newest {
        id: backup.id.clone(),
        ended_at: backup.stopped_at,
        size_bytes: backup.size_bytes,
        sound: backup.fault.is_none(),
    });
    Ok(Kept { newest, count: standing.backups.len(), ..Kept::default() })
}

/// The backups of a kind that a store has, newest first.
fn newest_first(shelf: &Shelf, kind: &str) -> Vec<Backup> {
    let mut found: Vec<Backup> = shelf.of_kind(kind).filter(|backup| !is_of_kept(backup)).cloned().collect();
    found.sort_by_key(|backup| std::cmp::Reverse(backup.manifest.stopped_at));
    found
}

fn newest(backup: &Backup, shelf: &Shelf) -> Newest {
    Newest {
        id: backup.manifest.id.clone(),
        ended_at: backup.manifest.stopped_at,
        size_bytes: backup.manifest.size_bytes(),
        sound: shelf.is_sound(backup),
    }
}

fn proof(backup: &Backup) -> Option<Proven> {
    // A failed one is told only where none passed after it.
    let proof = backup.attested.last_failed.as_ref().or(backup.attested.last_proof.as_ref())?;
    Some(Proven {
        backup: backup.manifest.id.clone(),
        at: proof.at,
        passed: proof.verdict == Verdict::Passed,
        took_ms: proof.took_ms,
        run: proof.run.clone(),
        unkept: None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{Kept, Proven};
    use crate::base::Timestamp;

    fn proven(backup: &str, second: i64, passed: bool) -> (String, Proven) {
        let at = Timestamp::from_second(second).expect("a time");
        let run = format!("run-{second}");
        (backup.to_owned(), Proven { backup: backup.to_owned(), at, passed, took_ms: 1, run, unkept: None })
    }

    #[test]
    fn what_was_proven_of_a_dump_hides_no_word_on_a_base_backup() {
        let kept = || Kept { ids: BTreeSet::from(["base".to_owned(), "older".to_owned()]), ..Kept::default() };
        for passed in [true, false] {
            let proofs = [proven("base", 20, passed), proven("older", 10, true), proven("dump", 30, true)];
            let mut kept = kept();
            kept.believe(BTreeMap::from(proofs));
            let told = kept.proof.expect("a proof");
            assert_eq!((told.backup.as_str(), told.passed), ("base", passed));
        }
        let mut later = Kept { proof: Some(proven("older", 40, true).1), ..kept() };
        later.believe(BTreeMap::from([proven("base", 20, false)]));
        assert_eq!(later.proof.expect("a proof").backup, "older", "what the store tells is newer");
    }
}
