//! What pgBackRest has of the databases whose entry names a stanza: foreign backups, shown and judged beside our own.

use serde_json::{Value, json};

use super::open_store::Unreached;
use super::row;
use crate::actions::pgbackrest::{Listed, StanzaStatus, look, newest_wal_at as newest_of};
use crate::base::Timestamp;
use crate::base::units::ByteSize;
use crate::catalog::health::{Observed, Sample};
use crate::cli::site::{Site, machine};
use crate::cli::{Exit, Failure, wiring};
use crate::language::inventory::{ExpectedBackup, PgBackRest};
use crate::report::mask_text;

/// The answers of pgBackRest.
#[derive(Default)]
pub struct Stanzas {
    /// By database.
    pub known: Vec<(String, StanzaStatus)>,
    /// Stanzas that gave no answer.
    pub unreached: Vec<Unreached>,
}

impl Stanzas {
    /// Asks pgBackRest for each database that `wanted` accepts.
    ///
    /// # Errors
    /// Fails when the program cannot find itself. A stanza that gives no answer does not hide the others.
    pub fn of(site: &Site, wanted: impl Fn(&str) -> bool) -> Result<Self, Failure> {
        let named = site.inventory.databases.iter().filter(|(name, entry)| entry.pgbackrest.is_some() && wanted(name));
        let names: Vec<&String> = named.map(|(name, _)| name).collect();
        let mut stanzas = Self::default();
        if names.is_empty() {
            return Ok(stanzas);
        }
        let host = machine()?;
        for name in names {
            match wiring::block_on(look(name, &site.inventory, host.as_ref()))? {
                Ok(standing) => match standing.fault() {
                    None => stanzas.known.push((name.clone(), standing)),
                    Some(why) => stanzas.unreached.push(Unreached { store: place(&standing), why }),
                },
                Err(error) => {
                    let help = error.info().help.clone().map(|help| format!("; {help}")).unwrap_or_default();
                    let why = format!("{error}{help}");
                    stanzas.unreached.push(Unreached { store: format!("{}:{name}", PgBackRest::KIND), why });
                }
            }
        }
        Ok(stanzas)
    }

    /// Every backup with its database and its place, newest first.
    pub fn backups(&self) -> Vec<(&str, String, &Listed)> {
        let all = self.known.iter().flat_map(|(name, standing)| {
            standing.backups.iter().map(move |backup| (name.as_str(), place(standing), backup))
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(_, _, backup)| std::cmp::Reverse((backup.stopped_at, backup.id.clone())));
        all
    }
}

fn place(standing: &StanzaStatus) -> String {
    format!("{}:{}", PgBackRest::KIND, standing.stanza)
}

/// A backup as a line of the list.
pub fn line((database, place, backup): &(&str, String, &Listed), now: Timestamp) -> [String; 8] {
    [
        backup.id.clone(),
        (*database).to_owned(),
        PgBackRest::KIND.to_owned(),
        backup.tier.clone(),
        row::age(backup.stopped_at, now),
        ByteSize(backup.size_bytes).to_string(),
        place.clone(),
        backup.fault.clone().map_or_else(|| "foreign".to_owned(), |fault| format!("DAMAGED: {fault}")),
    ]
    .map(|cell| mask_text(&cell))
}

/// A backup for machines.
pub fn document((database, place, backup): &(&str, String, &Listed)) -> Value {
    let mut document = json!(backup);
    document["source"] = json!(database);
    document["kind"] = json!(PgBackRest::KIND);
    document["store"] = json!(place);
    document
}

/// Asks when the newest WAL was stored, where that is judged.
///
/// # Errors
/// Fails when pgBackRest gives no answer.
pub fn newest_wal_at(
    site: &Site,
    expected: &ExpectedBackup,
    standing: &StanzaStatus,
) -> Result<Option<Timestamp>, Failure> {
    if expected.max_wal_age.is_none() {
        return Ok(None);
    }
    let host = machine()?;
    let asked = newest_of((&expected.source, standing), &site.inventory, &host);
    wiring::block_on(asked)?.map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

/// What health sees of an expected backup.
pub fn observed(expected: &ExpectedBackup, standing: &StanzaStatus, newest_wal_at: Option<Timestamp>) -> Observed {
    let fits = |backup: &&Listed| expected.tier.as_ref().is_none_or(|tier| *tier == backup.tier);
    let sample = |backup: &Listed| Sample {
        dbname: None,
        id: backup.id.clone(),
        ended_at: backup.stopped_at,
        // What one adds differs with its type: what a restore writes tells whether it is as large as the ones before.
        size_bytes: backup.plain_bytes,
        is_sound: backup.fault.is_none(),
        is_held: false,
        proven_at: None,
        failed_at: None,
        verified_at: None,
    };
    let samples = standing.backups.iter().filter(fits).map(sample).collect();
    Observed { samples, unreadable: 0, newest_wal_at, wal_stores: Vec::new(), room: None }
}
