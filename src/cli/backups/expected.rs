//! The backups that the inventory expects, held against what the stores and pgBackRest have: for monitoring and `status`.

use std::collections::{BTreeMap, BTreeSet};

use super::open_store::of_catalog;
use super::stanza::{self, Stanzas};
use crate::action::{ReadStore, StoreError};
use crate::base::{Timestamp, clock};
use crate::catalog::health::{Figures, Finding, Health, Level, Observed, Room, Sample, judge};
use crate::catalog::survey::{self, WalObject, candidate};
use crate::catalog::{Backup, BackupList, KIND_POSTGRES_BASE};
use crate::cli::site::Site;
use crate::cli::{Failure, wiring};
use crate::language::inventory::{ExpectedBackup, PgBackRest};

/// What is expected of a site's backups.
pub struct Expectations<'a> {
    /// The site.
    pub site: &'a Site,
    /// Only these stores are looked into; all when empty.
    pub stores: &'a [String],
    /// Restores that were proven and that no store knows of yet, by the backup's id, and when.
    pub believed: BTreeMap<&'a str, Timestamp>,
}

/// What a store has of one prefix.
struct Holding {
    list: BackupList,
    wal: Vec<WalObject>,
    room: Option<Room>,
}

impl Expectations<'_> {
    /// Judges every expected backup, or those of one source. A store that gives no answer is a finding.
    ///
    /// # Errors
    /// Fails when the program cannot find itself.
    pub fn judged(&self, source: Option<&str>) -> Result<Vec<Health>, Failure> {
        let inventory = &self.site.inventory;
        let mut all = Vec::new();
        for (name, expected) in &inventory.backups {
            if source.is_some_and(|wanted| wanted != expected.source) {
                continue;
            }
            if expected.kind == PgBackRest::KIND {
                all.extend(self.stanza((name, expected))?);
                continue;
            }
            let Some((store, prefix)) = inventory.place_of(expected) else {
                all.push(unknown((name, expected), String::new(), "nothing says in which store it lies"));
                continue;
            };
            if !self.stores.is_empty() && !self.stores.contains(&store) {
                continue;
            }
            if !inventory.stores.contains_key(&store) {
                all.push(unknown((name, expected), store, "its store is not in this environment's inventory"));
                continue;
            }
            all.push(self.shelved((name, expected), (&store, &prefix)));
        }
        Ok(all)
    }

    /// Judges what a store has.
    fn shelved(&self, (name, expected): (&str, &ExpectedBackup), (store, prefix): (&str, &str)) -> Health {
        let now = clock::now();
        match self.observe((store, prefix), expected, now) {
            Ok(seen) => {
                let schedule = self.site.inventory.schedule_of(expected);
                Health { store: store.to_owned(), ..judge((name, expected), schedule.as_ref(), &seen, now) }
            }
            Err(why) => unknown((name, expected), store.to_owned(), &why),
        }
    }

    /// Judges what pgBackRest has. It is asked only where no store was named.
    fn stanza(&self, (name, expected): (&str, &ExpectedBackup)) -> Result<Option<Health>, Failure> {
        if !self.stores.is_empty() {
            return Ok(None);
        }
        let stanzas = Stanzas::of(self.site, |database| database == expected.source)?;
        if let Some(unreached) = stanzas.unreached.into_iter().next() {
            return Ok(Some(unknown((name, expected), unreached.store, &unreached.why)));
        }
        let Some((_, standing)) = stanzas.known.into_iter().next() else {
            return Ok(Some(unknown(
                (name, expected),
                String::new(),
                "its database has no stanza in this environment",
            )));
        };
        let store = format!("{}:{}", PgBackRest::KIND, standing.stanza);
        let newest_wal_at = match stanza::newest_wal_at(self.site, expected, &standing) {
            Ok(newest_wal_at) => newest_wal_at,
            Err(failure) => return Ok(Some(unknown((name, expected), store, &failure.in_full()))),
        };
        let (now, seen) = (clock::now(), stanza::observed(expected, &standing, newest_wal_at));
        let schedule = self.site.inventory.schedule_of(expected);
        // Nothing is noted beside backups that are not ours: `check` says so of an inventory that asks for it.
        let judged = ExpectedBackup { max_proof_age: None, max_verification_age: None, ..expected.clone() };
        Ok(Some(Health { store, ..judge((name, &judged), schedule.as_ref(), &seen, now) }))
    }

    fn observe(
        &self,
        (store, prefix): (&str, &str),
        expected: &ExpectedBackup,
        now: Timestamp,
    ) -> Result<Observed, String> {
        let list = self.site.listed(store, prefix)?;
        let reader = self.site.read_store(store).map_err(|failure| failure.in_full())?;
        let holding = wiring::block_on(async {
            let wal = survey::wal(&*reader, prefix).await.map_err(|error| of_catalog(&error))?;
            let room = room(reader.as_ref()).await.map_err(|error| error.to_string())?;
            Ok(Holding { list, wal, room })
        });
        let holding = holding.map_err(|failure| failure.in_full()).and_then(|found: Result<Holding, String>| found)?;
        let seen = self.observed(expected, &holding, now);
        self.archives((store, prefix), expected, seen).map_err(|failure| failure.in_full())
    }

    fn observed(&self, expected: &ExpectedBackup, found: &Holding, now: Timestamp) -> Observed {
        let is_such = |backup: &&Backup| {
            let manifest = &backup.manifest;
            manifest.source == expected.source
                && manifest.kind == expected.kind
                && (expected.tier.is_none() || manifest.tier == expected.tier)
        };
        let dumps = found.list.backups.iter().filter(is_such).filter_map(|backup| backup.manifest.dump.as_ref());
        let whole: BTreeSet<&str> = dumps.filter(|dump| !dump.partial).map(|dump| dump.dbname.as_str()).collect();
        // Where whole ones are taken, one of a part beside them is none of the same size, nor what is waited for.
        let counts = |backup: &&Backup| {
            backup.manifest.dump.as_ref().is_none_or(|dump| !dump.partial || !whole.contains(dump.dbname.as_str()))
        };
        let fits = |backup: &&Backup| is_such(backup) && counts(backup);
        let sample = |backup: &Backup| {
            let one = candidate(backup, now);
            let believed = self.believed.get(one.id.as_str()).copied();
            Sample {
                is_sound: one.is_sound() && found.list.rests_whole(backup),
                is_held: one.standing.hold.is_some(),
                proven_at: one.standing.proven_at.max(believed),
                failed_at: backup.attested.last_failed.as_ref().map(|proof| proof.at),
                verified_at: one.standing.verified_at,
                id: one.id,
                dbname: backup.manifest.dump.as_ref().map(|dump| dump.dbname.clone()),
                ended_at: one.ended_at,
                size_bytes: one.size_bytes,
            }
        };
        Observed {
            samples: found.list.backups.iter().filter(fits).map(sample).collect(),
            unreadable: found.list.damaged.len() as u64,
            newest_wal_at: newest(&found.wal),
            wal_stores: Vec::new(),
            room: found.room,
        }
    }

    /// Looks into the other stores that the source's WAL is archived into: what one of them has can be recovered.
    fn archives(
        &self,
        (own, prefix): (&str, &str),
        expected: &ExpectedBackup,
        seen: Observed,
    ) -> Result<Observed, Failure> {
        let rests_on_wal = expected.kind == KIND_POSTGRES_BASE || expected.max_wal_age.is_some();
        let entry = self.site.inventory.databases.get(&expected.source).filter(|_| rests_on_wal);
        let entry = entry.filter(|entry| entry.prefix.as_deref().unwrap_or(&expected.source) == prefix);
        let Some(entry) = entry.filter(|entry| entry.store.as_deref() == Some(own)) else { return Ok(seen) };
        let mut wal_stores = vec![(own.to_owned(), Ok(seen.newest_wal_at))];
        for name in entry.archives().filter(|name| *name != own) {
            let store = self.site.read_store(name)?;
            let listed = wiring::block_on(async { survey::wal(&*store, prefix).await })?;
            wal_stores.push((name.to_owned(), listed.map(|wal| newest(&wal)).map_err(|error| of_catalog(&error))));
        }
        if wal_stores.len() == 1 {
            return Ok(seen);
        }
        let newest_wal_at = wal_stores.iter().filter_map(|(_, newest)| newest.as_ref().ok().copied().flatten()).max();
        Ok(Observed { newest_wal_at, wal_stores, ..seen })
    }
}

async fn room(store: &dyn ReadStore) -> Result<Option<Room>, StoreError> {
    let capacity = store.capacity().await?;
    Ok(capacity.map(|capacity| Room { free_bytes: capacity.free_bytes, total_bytes: capacity.total_bytes }))
}

fn newest(wal: &[WalObject]) -> Option<Timestamp> {
    wal.iter().map(|object| object.segment.archived_at).max()
}

fn unknown((name, expected): (&str, &ExpectedBackup), store: String, why: &str) -> Health {
    Health {
        name: name.to_owned(),
        source: expected.source.clone(),
        kind: expected.kind.clone(),
        store,
        level: Level::Unknown,
        findings: vec![Finding { level: Level::Unknown, message: why.to_owned() }],
        figures: Figures::default(),
    }
}
