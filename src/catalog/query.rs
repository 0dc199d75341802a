//! Chooses a backup.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attest::Level;
use super::key::{family, family_prefix};
use super::{Backup, BackupList, CatalogError, KIND_POSTGRES_DUMP, Manifest, list};
use crate::action::ReadStore;
use crate::base::{Digest, Timestamp};

/// Whether a restore of it must have been proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proven {
    /// Of those that fit, only proven ones are chosen from, if there are any.
    Prefer,
    /// Only proven ones fit.
    Require,
    /// It does not matter.
    #[default]
    Ignore,
}

/// Which of those that fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pick {
    /// The one that ended last.
    #[default]
    Latest,
    /// The one that ended first.
    Oldest,
    /// Any; the same seed chooses the same one for as long as it fits.
    Random {
        /// The seed.
        seed: String,
    },
}

/// What a backup must be. The default takes every one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// What it was taken of.
    pub source: Option<String>,
    /// Its kind.
    pub kind: Option<String>,
    /// Its tier.
    pub tier: Option<String>,
    /// Its id.
    pub id: Option<String>,
    /// It is a dump of this database within its server. One that another program made and that is named by its `id` says
    /// nothing of that, and may be.
    pub dbname: Option<String>,
    /// It ended before this.
    pub before: Option<Timestamp>,
    /// Its newest verification passed, at least at this level.
    pub verified: Option<Level>,
    /// Whether a restore of it must have been proven.
    pub proven: Proven,
    /// Which of those that fit.
    pub pick: Pick,
}

impl Query {
    /// Tells whether a backup is what is wanted, whole or not.
    fn is_wanted(&self, backup: &Backup) -> bool {
        let manifest = &backup.manifest;
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        let attested = &backup.attested;
        is(&self.source, Some(&manifest.source))
            && is(&self.kind, Some(&manifest.kind))
            && is(&self.id, Some(&manifest.id))
            && is(&self.tier, manifest.tier.as_deref())
            && self.may_be_of_database(manifest)
            && self.before.is_none_or(|before| manifest.stopped_at < before)
            && self.verified.is_none_or(|level| attested.last_verified.as_ref().is_some_and(|note| note.holds(level)))
    }

    /// Whether it is of the database within its server that is wanted. What another program dumped does not say what it is of:
    /// it is taken only where it is named.
    fn may_be_of_database(&self, manifest: &Manifest) -> bool {
        match (&self.dbname, &manifest.dump) {
            (None, _) => true,
            (Some(wanted), Some(dump)) => *wanted == dump.dbname,
            (Some(_), None) => self.id.is_some() && manifest.kind == KIND_POSTGRES_DUMP,
        }
    }

    /// How many would fit if they said which database they are of.
    fn untold(&self, list: &BackupList) -> usize {
        let any = Self { dbname: None, ..self.clone() };
        let of_any = list.backups.iter().filter(|backup| any.is_wanted(backup));
        let is_untold = |manifest: &Manifest| manifest.kind == KIND_POSTGRES_DUMP && manifest.dump.is_none();
        of_any.filter(|backup| self.dbname.is_some() && is_untold(&backup.manifest)).count()
    }

    /// Lists the ids of those that are as wanted and newer than the newest whole one, `chosen`, but damaged or not
    /// whole. Taking an older backup in their place may lose data: it is never done without a word.
    #[must_use]
    pub fn passed_over(&self, list: &BackupList, chosen: &Backup) -> Vec<String> {
        let newer = |backup: &&Backup| backup.manifest.stopped_at > chosen.manifest.stopped_at;
        let torn = |backup: &&Backup| !is_sound(backup) || !rests_whole(backup, &list.backups);
        match self.pick {
            Pick::Latest if self.id.is_none() => {
                let found = list.backups.iter().filter(|one| self.is_wanted(one)).filter(newer).filter(torn);
                found.map(|backup| backup.manifest.id.clone()).collect()
            }
            Pick::Latest | Pick::Oldest | Pick::Random { .. } => Vec::new(),
        }
    }

    /// Lists the keys of manifests that cannot be read and may be of a backup that is wanted: nothing tells how old it is.
    fn unreadable(&self, list: &BackupList, prefix: &str) -> Vec<String> {
        let below = self.kind.as_deref().map(|kind| family_prefix(prefix, &family(kind)));
        let may_be = |key: &&str| below.as_deref().is_none_or(|below| key.starts_with(below));
        match self.pick {
            Pick::Latest if self.id.is_none() => {
                list.damaged.iter().map(|one| one.key.as_str()).filter(may_be).map(str::to_owned).collect()
            }
            Pick::Latest | Pick::Oldest | Pick::Random { .. } => Vec::new(),
        }
    }

    /// Chooses from a list.
    #[must_use]
    pub fn choose(&self, list: BackupList) -> Option<Backup> {
        let mut fitting = self.fitting(list);
        match &self.pick {
            Pick::Latest => fitting.pop(),
            Pick::Oldest => fitting.into_iter().next(),
            Pick::Random { seed } => {
                let lot = |backup: &Backup| Digest::of(format!("{seed} {}", backup.place().folder()).as_bytes());
                fitting.into_iter().min_by_key(|backup| lot(backup).to_string())
            }
        }
    }

    /// Gives those of a list that it may choose from, oldest first.
    #[must_use]
    pub fn fitting(&self, list: BackupList) -> Vec<Backup> {
        let torn: BTreeSet<Digest> = match self.id {
            Some(_) => BTreeSet::new(),
            None => list.backups.iter().filter(|one| !rests_whole(one, &list.backups)).map(|one| one.digest).collect(),
        };
        // One that is known to be damaged or not whole is taken only when it is named.
        let fits = |backup: &Backup| {
            self.is_wanted(backup) && (self.id.is_some() || is_sound(backup)) && !torn.contains(&backup.digest)
        };
        let mut fitting: Vec<Backup> = list.backups.into_iter().filter(fits).collect();
        let any_proven = fitting.iter().any(|backup| backup.attested.is_proven());
        match self.proven {
            Proven::Require => fitting.retain(|backup| backup.attested.is_proven()),
            Proven::Prefer if any_proven => fitting.retain(|backup| backup.attested.is_proven()),
            Proven::Prefer | Proven::Ignore => {}
        }
        // What an increment's copy rests on is listed beside the own copy of it, which comes first.
        let mut seen = BTreeSet::new();
        fitting.retain(|backup| seen.insert(backup.place()));
        fitting
    }

    /// Says in words what was wanted.
    #[must_use]
    pub fn wanted(&self) -> String {
        let mut words = Vec::new();
        words.extend(self.id.as_ref().map(|id| format!("`{id}`")));
        words.extend(self.source.as_ref().map(|source| format!("of `{source}`")));
        words.extend(self.kind.as_ref().map(|kind| format!("of kind `{kind}`")));
        words.extend(self.tier.as_ref().map(|tier| format!("of tier `{tier}`")));
        words.extend(self.dbname.as_ref().map(|dbname| format!("of its database `{dbname}`")));
        words.extend(self.before.map(|before| format!("that ended before {before}")));
        words.extend(self.verified.map(|level| format!("that was verified (`{}`)", level.as_str())));
        if self.proven == Proven::Require {
            words.push("with a proven restore".to_owned());
        }
        if words.is_empty() { "at all".to_owned() } else { words.join(" ") }
    }
}

/// Tells whether nothing is known to be wrong with a backup itself.
pub(super) fn is_sound(backup: &Backup) -> bool {
    !backup.attested.is_damaged() && backup.missing.is_empty()
}

/// Tells whether everything an increment rests on is there, and not known to be damaged.
pub(super) fn rests_whole(backup: &Backup, all: &[Backup]) -> bool {
    let mut link = backup;
    // As many steps as there are backups: a longer way is a circle.
    for _ in all {
        let Some(parent) = &link.manifest.parent else { return true };
        // A restore reads the links of one store.
        let of_it = |other: &&Backup| {
            other.manifest.id == *parent
                && other.manifest.source == backup.manifest.source
                && other.store == backup.store
        };
        match all.iter().find(of_it) {
            Some(next) if next.missing.is_empty() && !next.attested.is_damaged() => link = next,
            Some(_) | None => return false,
        }
    }
    false
}

/// Finds a backup under a prefix.
///
/// # Errors
/// Fails when there is none that fits, and when the store fails.
pub async fn find(store: &dyn ReadStore, prefix: &str, query: &Query) -> Result<Backup, CatalogError> {
    find_among(list(store, prefix).await?, prefix, query).map(|(backup, _)| backup)
}

/// Finds a backup among those of a prefix, and tells the ids of the newer ones that [`Query::passed_over`] names, with the
/// keys of manifests that cannot be read.
///
/// # Errors
/// Fails when there is none that fits.
pub fn find_among(list: BackupList, prefix: &str, query: &Query) -> Result<(Backup, Vec<String>), CatalogError> {
    let Some(chosen) = query.choose(list.clone()) else {
        let wanted = match query.untold(&list) {
            0 => query.wanted(),
            count => format!(
                "{} ({count} imported do not say which database they are of: name one by its id)",
                query.wanted()
            ),
        };
        return Err(CatalogError::NoBackup(match list.damaged.len() {
            0 => wanted,
            count => format!("{wanted} ({count} with a damaged manifest were left out)"),
        }));
    };
    let mut passed_over = query.passed_over(&list, &chosen);
    passed_over.extend(query.unreadable(&list, prefix));
    Ok((chosen, passed_over))
}
