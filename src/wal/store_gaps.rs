//! What each of several stores lacks of a cluster's WAL, by what lies there: no note is needed to know it.

use std::collections::{BTreeMap, BTreeSet};

use super::packed::Source;
use crate::base::Timestamp;
use crate::catalog::{CatalogError, wal_file_of};
use crate::pgformat::{SegmentName, WalFileName};

/// What one store lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The store, by its number.
    pub store: usize,
    /// The files that others have, oldest first.
    pub files: Vec<LackedFile>,
}

/// A file that a store lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LackedFile {
    /// Its name.
    pub name: WalFileName,
    /// When the first of the others got it, by that store's clock.
    pub archived_at: Timestamp,
}

/// How far back a store must have what others have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// From its own oldest segment on: what lies before may have been pruned there, or it joined later.
    Own,
    /// From a segment on, and from its own oldest one on.
    Segment(SegmentName),
    /// Everything.
    Ever,
}

/// Lists what each store lacks that another one has, files that were archived after `before` left out: they may be on
/// their way. A store that lacks nothing is not told.
///
/// # Errors
/// Fails when a store gives no answer.
pub async fn lacks(stores: &[Source<'_>], since: Since, before: Timestamp) -> Result<Vec<Lack>, CatalogError> {
    let mut held: Vec<BTreeSet<WalFileName>> = Vec::new();
    let mut all: BTreeMap<WalFileName, Timestamp> = BTreeMap::new();
    for source in stores {
        let folder = format!("{}/wal/{}/", source.prefix, source.identity.system_id);
        let mut here = BTreeSet::new();
        for facts in source.store.list(&folder).await? {
            let object = facts.key.as_str().rsplit('/').next().unwrap_or_default();
            let Some((name, _)) = wal_file_of(object) else { continue };
            here.insert(name);
            let first = all.entry(name).or_insert(facts.modified_at);
            *first = facts.modified_at.min(*first);
        }
        held.push(here);
    }
    let told = all.into_iter().filter(|(_, at)| *at <= before);
    let told: Vec<LackedFile> = told.map(|(name, archived_at)| LackedFile { name, archived_at }).collect();
    let lack = |(store, here): (usize, &BTreeSet<WalFileName>)| {
        let from = match since {
            Since::Own => oldest(here),
            Since::Segment(segment) => oldest(here).max(Some(position(WalFileName::Segment(segment)))),
            Since::Ever => None,
        };
        let leads_on = |name: WalFileName| from.as_ref().is_none_or(|from| *from <= position(name));
        let wanted = |file: &&LackedFile| !here.contains(&file.name) && leads_on(file.name);
        Lack { store, files: told.iter().filter(wanted).copied().collect() }
    };
    let lacks = held.iter().enumerate().map(lack);
    Ok(lacks.filter(|lack| !lack.files.is_empty()).collect())
}

/// Where in the WAL a file lies, whatever its timeline: the rest of a segment's name. A history belongs everywhere.
fn position(name: WalFileName) -> String {
    let within = |segment: SegmentName| segment.to_string().split_off(8);
    match name {
        WalFileName::Segment(segment)
        | WalFileName::PartialSegment(segment)
        | WalFileName::BackupHistory { segment, .. } => within(segment),
        WalFileName::History(_) => "g".to_owned(),
    }
}

fn oldest(here: &BTreeSet<WalFileName>) -> Option<String> {
    let is_segment = |name: &&WalFileName| match name {
        WalFileName::Segment(_) => true,
        WalFileName::PartialSegment(_) | WalFileName::History(_) | WalFileName::BackupHistory { .. } => false,
    };
    here.iter().filter(is_segment).map(|name| position(*name)).min()
}
