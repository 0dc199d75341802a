//! Every backup of a prefix or of a whole store.

use std::collections::{BTreeMap, BTreeSet};

use super::attest::{Beside, NOTE_LIMIT};
use super::body::read_manifest;
use super::index::Index;
use super::key::{MANIFEST, family, family_prefix};
use super::query::rests_whole;
use super::together::together;
use super::{Backup, CatalogError, read_small};
use crate::action::{ObjectFacts, ObjectKey, ReadStore};

/// The largest manifest that is read.
const MANIFEST_LIMIT: u64 = 64 << 20;

/// How many manifests are read at once.
const WIDTH: usize = 16;

/// Families whose folders hold nothing but backups: listed in one go.
const FAMILIES: [&str; 3] = ["base", "dump", "files"];

/// How deep backups are looked for.
const DEPTH: usize = 8;

/// A folder that looks like a backup and is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedBackup {
    /// The key of its manifest.
    pub key: ObjectKey,
    /// What is wrong.
    pub why: String,
}

/// What a prefix holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BackupList {
    /// Backups with a valid manifest, by the end of each, oldest first.
    pub backups: Vec<Backup>,
    /// Manifests that cannot be used.
    pub damaged: Vec<DamagedBackup>,
}

/// The backups of one store.
#[derive(Clone, Copy)]
pub struct Catalog<'a> {
    store: &'a dyn ReadStore,
    index: Option<&'a Index>,
}

/// What is read beside the manifests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Notes {
    Read,
    Left,
}

/// Lists the backups of every kind under a prefix, with what was attested of them. Folders without a
/// manifest are no backups and not shown.
///
/// # Errors
/// Fails when the store does; a damaged manifest is no failure but listed as such.
pub async fn list(store: &dyn ReadStore, prefix: &str) -> Result<BackupList, CatalogError> {
    Catalog::of(store).list(prefix).await
}

impl BackupList {
    /// Tells whether everything an increment rests on is there, and not known to be damaged; a backup that is no
    /// increment rests on nothing.
    #[must_use]
    pub fn rests_whole(&self, backup: &Backup) -> bool {
        rests_whole(backup, &self.backups)
    }
}

impl<'a> Catalog<'a> {
    /// The catalog of a store.
    #[must_use]
    pub fn of(store: &'a dyn ReadStore) -> Self {
        Self { store, index: None }
    }

    /// Reads again only what changed since.
    #[must_use]
    pub fn with_index(self, index: &'a Index) -> Self {
        Self { index: Some(index), ..self }
    }

    /// Lists the backups of every kind under a prefix.
    ///
    /// # Errors
    /// Fails as [`list`].
    pub async fn list(&self, prefix: &str) -> Result<BackupList, CatalogError> {
        let level = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let mut found = self.read(&level, self.gather(&level).await?, Notes::Read).await?;
        found.backups.retain(|backup| backup.prefix == prefix);
        Ok(found)
    }

    /// Lists the backups of every kind and prefix.
    ///
    /// # Errors
    /// Fails as [`list`].
    pub async fn everything(&self) -> Result<BackupList, CatalogError> {
        self.read("", self.gather("").await?, Notes::Read).await
    }

    /// Lists the backups of one kind under a prefix by their manifests alone: nothing else can make it fail.
    ///
    /// # Errors
    /// Fails as [`list`].
    pub async fn manifests(&self, prefix: &str, kind: &str) -> Result<BackupList, CatalogError> {
        let level = family_prefix(prefix, &family(kind));
        let mut found = self.read(&level, self.store.list(&level).await?, Notes::Left).await?;
        found.backups.retain(|backup| backup.prefix == prefix && backup.manifest.kind == kind);
        Ok(found)
    }

    /// Lists what may belong to backups, level by level; WAL archives can be huge and are left out.
    async fn gather(&self, level: &str) -> Result<Vec<ObjectFacts>, CatalogError> {
        let mut found = Vec::new();
        let mut levels = vec![(level.to_owned(), 0)];
        while let Some((level, depth)) = levels.pop() {
            let here = self.store.browse(&level).await?;
            let is_backup = here.objects.iter().any(|facts| facts.key.as_str() == format!("{level}{MANIFEST}"));
            if is_backup {
                found.extend(self.store.list(&level).await?);
                continue;
            }
            for folder in here.folders {
                match folder[level.len()..].trim_end_matches('/') {
                    "wal" => {}
                    name if FAMILIES.contains(&name) => found.extend(self.store.list(&folder).await?),
                    _ if depth < DEPTH => levels.push((folder, depth + 1)),
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    async fn read(&self, level: &str, listed: Vec<ObjectFacts>, notes: Notes) -> Result<BackupList, CatalogError> {
        let listed: BTreeMap<&str, &ObjectFacts> = listed.iter().map(|facts| (facts.key.as_str(), facts)).collect();
        let mut manifests: Vec<(&str, &ObjectFacts)> = Vec::new();
        for (key, facts) in &listed {
            let Some(folder) = key.strip_suffix(MANIFEST).filter(|folder| folder.ends_with('/')) else { continue };
            // An object of a backup may have any name, a manifest's too.
            if !manifests.iter().rev().take(DEPTH).any(|(outer, _)| folder.starts_with(outer)) {
                manifests.push((folder, facts));
            }
        }
        let reads = manifests.iter().map(|(folder, facts)| self.one((folder, facts), &listed, notes)).collect();
        let mut found = BackupList::default();
        for read in together(reads, WIDTH).await {
            match read? {
                Ok(backup) => found.backups.push(backup),
                Err(damaged) => found.damaged.push(damaged),
            }
        }
        if let Some(index) = self.index {
            index.forget_others(level, &listed.keys().copied().collect::<BTreeSet<&str>>());
        }
        let age = |backup: &Backup| (backup.manifest.stopped_at, backup.manifest.id.clone());
        found.backups.sort_by_cached_key(age);
        Ok(found)
    }

    async fn one(
        &self,
        (folder, facts): (&str, &ObjectFacts),
        listed: &BTreeMap<&str, &ObjectFacts>,
        notes: Notes,
    ) -> Result<Result<Backup, DamagedBackup>, CatalogError> {
        let read = match self.manifest(facts).await {
            Ok(text) => Backup::of(self.store.name(), &facts.key, &text),
            Err(error) => Err(error),
        };
        let mut backup = match read {
            Ok(backup) => backup,
            Err(CatalogError::Damaged { what, .. }) => {
                return Ok(Err(DamagedBackup { key: facts.key.clone(), why: what }));
            }
            Err(error) => return Err(error),
        };
        backup.missing = backup.lacks(|key| listed.get(key.as_str()).map(|facts| facts.size_bytes));
        if notes == Notes::Read {
            let below = listed.range(folder..).map(|(_, facts)| *facts);
            let below = below.take_while(|facts| facts.key.as_str().starts_with(folder));
            let beside = Beside::of(folder, below);
            backup.attested = beside.read(backup.digest, *self).await?;
        }
        Ok(Ok(backup))
    }

    async fn manifest(&self, facts: &ObjectFacts) -> Result<Vec<u8>, CatalogError> {
        if let Some(text) = self.index.and_then(|index| index.get(facts)) {
            return Ok(text);
        }
        let text = read_manifest(self.store, &facts.key, MANIFEST_LIMIT).await?;
        if let Some(index) = self.index {
            index.keep(facts, &text);
        }
        Ok(text)
    }

    /// Reads a small object that has no digest of its own.
    pub(super) async fn note(&self, facts: &ObjectFacts) -> Result<Vec<u8>, CatalogError> {
        if let Some(text) = self.index.and_then(|index| index.get(facts)) {
            return Ok(text);
        }
        let text = read_small(self.store, &facts.key, NOTE_LIMIT).await?;
        if let Some(index) = self.index {
            index.keep(facts, &text);
        }
        Ok(text)
    }
}
