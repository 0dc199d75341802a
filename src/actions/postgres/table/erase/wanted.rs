//! What the ledger wants of one database: its lines, gathered by table, column and treatment.

use std::collections::{BTreeMap, BTreeSet};

use crate::action::{ActionError, ErasureContent, ErasureKey, Secrets, Treatment};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::base::Timestamp;

/// The keys of an inventory entry, by their ids.
pub(super) struct Keys(BTreeMap<String, ErasureKey>);

/// Lines that are carried out by one look at a table.
pub(super) struct Group {
    /// The database within the server.
    pub(super) dbname: String,
    /// The table, as the ledger writes it.
    pub(super) table: String,
    /// The column.
    pub(super) column: String,
    /// What is done to the rows.
    pub(super) treatment: Treatment,
    /// The line of each subject, below its key.
    subjects: BTreeMap<String, (ErasureKey, BTreeMap<String, u64>)>,
    /// Lines whose key is not among the keys, with its id.
    unkeyed: Vec<(u64, String)>,
    /// Lines that are older than the data: whoever stands in it came back after they were forgotten.
    back: BTreeSet<u64>,
}

/// Which lines are wanted.
pub(super) struct Scope<'a> {
    /// The database.
    pub(super) cluster: &'a Cluster,
    /// Only this one within the server.
    pub(super) dbname: Option<&'a str>,
    /// Only some tables, which the server knows.
    pub(super) is_of_some: bool,
    /// The moment of the data, less what clocks may be apart; unknown: every line counts.
    pub(super) as_of: Option<Timestamp>,
}

impl Keys {
    /// Takes the keys that an entry names.
    ///
    /// # Errors
    /// Fails when a secret cannot be had or could be guessed.
    pub(super) fn of(names: &[String], secrets: &dyn Secrets) -> Result<Self, ActionError> {
        let mut keys = BTreeMap::new();
        for name in names {
            let key = ErasureKey::new(&secrets.get(name)?).map_err(|error| {
                ActionError::fatal(format!("`{name}` cannot be a key of the ledger")).because(&error)
            })?;
            keys.insert(key.id(), key);
        }
        Ok(Self(keys))
    }
}

impl Group {
    /// Tells which line a value is the subject of.
    pub(super) fn line(&self, value: &str) -> Option<u64> {
        self.subjects.values().find_map(|(key, lines)| lines.get(&key.subject(value)).copied())
    }

    /// Tells whether the rows of a line stay: the data is newer than the line.
    pub(super) fn is_back(&self, line: u64) -> bool {
        self.back.contains(&line)
    }

    /// Gives the subject of a line.
    pub(super) fn subject(&self, line: u64) -> Option<&str> {
        let mut all = self.subjects.values().flat_map(|(_, lines)| lines);
        all.find(|(_, n)| **n == line).map(|(subject, _)| subject.as_str())
    }

    /// Makes sure that every line can be read.
    ///
    /// # Errors
    /// Fails for a line whose key is not among the keys.
    pub(super) fn keyed(&self) -> Result<(), ActionError> {
        let Some((line, key_id)) = self.unkeyed.first() else { return Ok(()) };
        let fact = format!("line {line} of the erasure ledger was hashed with the key `{key_id}`");
        Err(ActionError::fatal(fact)
            .help("name the secret that holds it under `erasure.keys` of the database; nothing was erased"))
    }

    /// The lines, in order.
    pub(super) fn lines(&self) -> Vec<u64> {
        let mut lines: Vec<u64> = self.subjects.values().flat_map(|(_, lines)| lines.values().copied()).collect();
        lines.extend(self.unkeyed.iter().map(|(line, _)| line));
        lines.sort_unstable();
        lines
    }
}

/// Gathers the lines about a database; those of one database within the server stand together.
///
/// # Errors
/// Fails for a line whose key is not among the keys. Where only some tables count that is told by [`Group::keyed`] of theirs.
pub(super) fn gathered(content: &ErasureContent, scope: &Scope<'_>, keys: &Keys) -> Result<Vec<Group>, ActionError> {
    let mut groups: BTreeMap<(String, Treatment, String, String), Group> = BTreeMap::new();
    for line in content.in_force() {
        let forget = &line.forget;
        let within = forget.dbname.as_ref().unwrap_or(&scope.cluster.dbname);
        let other = forget.database != scope.cluster.name || scope.dbname.is_some_and(|only| only != within);
        if other {
            continue;
        }
        let place = (within.clone(), forget.treatment.clone(), forget.table.clone(), forget.column.clone());
        let group = groups.entry(place).or_insert_with(|| Group {
            dbname: within.clone(),
            table: forget.table.clone(),
            column: forget.column.clone(),
            treatment: forget.treatment.clone(),
            subjects: BTreeMap::new(),
            unkeyed: Vec::new(),
            back: BTreeSet::new(),
        });
        let Some(key) = keys.0.get(&forget.key_id) else {
            group.unkeyed.push((line.n, forget.key_id.clone()));
            continue;
        };
        if scope.as_of.is_some_and(|as_of| line.at < as_of) {
            group.back.insert(line.n);
        }
        let of_key = group.subjects.entry(forget.key_id.clone()).or_insert_with(|| (key.clone(), BTreeMap::new()));
        of_key.1.entry(forget.subject.clone()).or_insert(line.n);
    }
    if !scope.is_of_some {
        groups.values().try_for_each(Group::keyed)?;
    }
    Ok(groups.into_values().collect())
}
