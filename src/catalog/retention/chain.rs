//! Increments and what they rest on: a chain is kept whole, and is good only as a whole.

use std::collections::BTreeMap;

use super::plan::Reasons;
use super::{Candidate, KeepReason};

/// All backups by id, with what each rests on: of the same source and kind, whatever environment it was taken in.
pub(super) struct Chains<'a> {
    by_id: BTreeMap<&'a str, Vec<&'a Candidate>>,
    length: usize,
}

impl<'a> Chains<'a> {
    pub(super) fn of(all: &[&'a Candidate]) -> Self {
        let mut by_id: BTreeMap<&str, Vec<&Candidate>> = BTreeMap::new();
        for backup in all {
            by_id.entry(&backup.id).or_default().push(backup);
        }
        Self { by_id, length: all.len() }
    }

    /// What an increment may rest on: every backup of that id, whatever its tier and environment.
    fn parents(&self, child: &Candidate) -> impl Iterator<Item = &'a Candidate> {
        let named = child.parent.as_deref().and_then(|parent| self.by_id.get(parent));
        let is_like = move |one: &&Candidate| (&one.source, &one.kind) == (&child.source, &child.kind);
        named.into_iter().flatten().copied().filter(is_like)
    }

    /// What an increment rests on: one of its own environment and tier comes before any other.
    fn parent(&self, child: &Candidate) -> Option<&'a Candidate> {
        let is_near = |one: &&Candidate| (&one.environment, &one.tier) == (&child.environment, &child.tier);
        let is_of_tier = |one: &&Candidate| one.tier == child.tier;
        let mut near = self.parents(child).filter(is_near).chain(self.parents(child).filter(is_of_tier));
        near.next().or_else(|| self.parents(child).next())
    }

    /// Tells whether it can be restored as far as is known: nothing it rests on is damaged or missing.
    pub(super) fn is_good(&self, backup: &Candidate) -> bool {
        let mut link = backup;
        // As many steps as there are backups: a longer way is a circle.
        for _ in 0..=self.length {
            if !link.is_sound() {
                return false;
            }
            if link.parent.is_none() {
                return true;
            }
            match self.parent(link) {
                Some(next) => link = next,
                None => return false,
            }
        }
        false
    }

    /// Counts what it rests on, as far as that is there.
    pub(super) fn depth(&self, backup: &Candidate) -> usize {
        let mut link = backup;
        for depth in 0..self.length {
            match self.parent(link) {
                Some(next) => link = next,
                None => return depth,
            }
        }
        self.length
    }

    /// Keeps everything that a kept one rests on.
    pub(super) fn close(&self, kept: &mut Reasons<'a>) {
        let is_kept = |backup: &&&'a Candidate| kept.contains_key(&backup.key());
        let mut open: Vec<&Candidate> = self.by_id.values().flatten().filter(is_kept).copied().collect();
        while let Some(child) = open.pop() {
            for parent in self.parents(child) {
                let reasons = kept.entry(parent.key()).or_insert_with(|| {
                    open.push(parent);
                    Vec::new()
                });
                let reason = KeepReason::NeededBy(child.id.clone());
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
        }
    }
}
