//! Sorts what lies below a prefix. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::name::{bare, dated_dump, file};
use super::{ForeignBase, ForeignDump, WalFolder};
use crate::action::ObjectFacts;
use crate::wal::foreign_wal_file;

/// A backup that another program made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// A dump of one database.
    Dump(ForeignDump),
    /// A base backup of a cluster.
    Base(ForeignBase),
}

/// Something that is no backup, or none that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its key.
    pub key: String,
    /// Why it is left out.
    pub why: String,
}

/// Everything that lies below a prefix: nothing is passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// What can be described.
    pub backups: Vec<Foreign>,
    /// Folders with WAL.
    pub wal: Vec<WalFolder>,
    /// The rest.
    pub left_out: Vec<LeftOut>,
}

impl Foreign {
    /// Where it lies: an object, or a folder with a `/` at the end.
    #[must_use]
    pub fn place(&self) -> &str {
        match self {
            Self::Dump(dump) => dump.key.as_str(),
            Self::Base(base) => &base.folder,
        }
    }
}

impl Survey {
    /// Sorts objects.
    #[must_use]
    pub fn of(listed: &[ObjectFacts]) -> Self {
        let mut folders: BTreeMap<&str, Vec<&ObjectFacts>> = BTreeMap::new();
        for facts in listed {
            let key = facts.key.as_str();
            folders.entry(&key[..key.len() - file(key).len()]).or_default().push(facts);
        }
        let mut survey = Self::default();
        for (folder, objects) in folders {
            survey.folder(folder, &objects);
        }
        survey
    }

    fn folder(&mut self, folder: &str, objects: &[&ObjectFacts]) {
        if objects.iter().any(|facts| bare(file(facts.key.as_str())) == "base.tar") {
            return self.base(folder, objects);
        }
        let (mut wal, mut others) = (Vec::new(), Vec::new());
        for facts in objects {
            match foreign_wal_file(file(facts.key.as_str())) {
                Some((name, _)) => wal.push(((*facts).clone(), name)),
                None => others.push(*facts),
            }
        }
        if !wal.is_empty() {
            self.wal.push(WalFolder { folder: folder.to_owned(), files: wal });
        }
        for facts in others {
            match dated_dump(file(facts.key.as_str())) {
                Ok((name, taken_at)) => {
                    let (key, size_bytes) = (facts.key.clone(), facts.size_bytes);
                    self.backups.push(Foreign::Dump(ForeignDump { key, size_bytes, name, taken_at }));
                }
                Err(why) => self.leave_out(facts, &why),
            }
        }
    }

    fn base(&mut self, folder: &str, objects: &[&ObjectFacts]) {
        let (parts, others): (Vec<&ObjectFacts>, Vec<&ObjectFacts>) =
            objects.iter().copied().partition(|facts| ForeignBase::is_part(bare(file(facts.key.as_str()))));
        for facts in others {
            self.leave_out(facts, "it is no part of the base backup in its folder");
        }
        let manifest = parts.iter().find(|facts| bare(file(facts.key.as_str())) == "backup_manifest");
        let Some(ended_by) = manifest.map(|facts| facts.modified_at) else {
            let why = "its folder has no `backup_manifest`, so nothing proves the base backup whole (pg_basebackup \
                       writes one since version 13)";
            return parts.into_iter().for_each(|facts| self.leave_out(facts, why));
        };
        let parts = parts.into_iter().cloned().collect();
        self.backups.push(Foreign::Base(ForeignBase { folder: folder.to_owned(), parts, ended_by }));
    }

    fn leave_out(&mut self, facts: &ObjectFacts, why: &str) {
        self.left_out.push(LeftOut { key: facts.key.to_string(), why: why.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::{Foreign, Survey};
    use crate::action::ObjectFacts;
    use crate::base::Timestamp;

    fn survey(keys: &[&str]) -> Survey {
        let facts = |key: &&str| ObjectFacts::new(key.parse().expect("key"), 1, Timestamp::UNIX_EPOCH);
        Survey::of(&keys.iter().map(facts).collect::<Vec<_>>())
    }

    #[test]
    fn every_object_is_a_backup_wal_or_left_out_with_a_reason() {
        let found = survey(&[
            "a/20260128/base.tar.gz",
            "a/20260128/pg_wal.tar.gz",
            "a/20260128/16385.tar.gz",
            "a/20260128/backup_manifest",
            "a/20260128/notes.txt",
            "a/20260129/base.tar",
            "a/wal/000000010000000000000002",
            "a/wal/000000010000000000000003.gz",
            "a/wal/00000002.history",
            "a/orders_20260128_143002.sql.gz",
            "a/orders.sql",
        ]);
        let [Foreign::Dump(dump), Foreign::Base(base)] = found.backups.as_slice() else { panic!("{found:?}") };
        assert_eq!((dump.name.as_str(), base.folder.as_str(), base.parts.len()), ("orders", "a/20260128/", 4));
        assert_eq!((found.wal.len(), found.wal[0].files.len()), (1, 3));
        let left: Vec<&str> = found.left_out.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(left, ["a/orders.sql", "a/20260128/notes.txt", "a/20260129/base.tar"]);
        assert!(found.left_out[2].why.contains("backup_manifest"));
    }
}
