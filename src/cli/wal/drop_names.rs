//! The names of what `wal search` found by its numbers: from the rows that WAL has, else from the live server.

use std::collections::{BTreeMap, BTreeSet};

use super::pg_wal::PgWal;
use super::search::Place;
use crate::actions::postgres::cluster::name;
use crate::actions::postgres::stores::archiver::Archiver;
use crate::cli::site::Site;
use crate::pgformat::SystemId;
use crate::wal::catalog_rows::NamedRelation;
use crate::wal::change_search::{Happened, Sighting};

/// The schema that every database begins with, and its name there.
const PUBLIC: (u32, &str) = (2200, "public");

/// What the live server calls the numbers of a search.
#[derive(Debug, Default)]
pub(super) struct DropNames {
    databases: BTreeMap<u32, String>,
    /// Databases that were dropped, by the names that they had then.
    dropped: BTreeMap<u32, String>,
    /// By database and number.
    schemas: BTreeMap<(u32, u32), String>,
    /// Relations that have the number now, which says nothing of what had it before.
    now: BTreeMap<(u32, u32), String>,
}

/// How many relations of a kind belong to a table, in words.
fn along(count: usize, one: &str, many: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(one.to_owned()),
        _ => Some(format!("{count} {many}")),
    }
}

impl DropNames {
    /// Asks the live server, where it is the one whose WAL was searched. What it does not tell stays a number.
    pub(super) async fn of(
        (site, database): (&Site, &str),
        (live, system_id): (&mut PgWal, SystemId),
        found: &[(Sighting, Place)],
    ) -> Self {
        let mut names = Self::default();
        let dropped = found.iter().filter_map(|(one, _)| Some((one.database?, one.database_name.clone()?)));
        names.dropped = dropped.collect();
        let is_it = live.server.as_ref().is_ok_and(|server| server.system_id == system_id);
        let Some(archiver) = live.archiver().filter(|_| is_it) else { return names };
        names.databases.extend(archiver.databases().await.unwrap_or_default());
        for (oid, numbers) in wanted(found) {
            let Some(dbname) = names.databases.get(&oid) else { continue };
            let inside = Archiver::inside(database, dbname, (&site.inventory, &*site.vault)).await;
            let Ok(mut archiver) = inside else { continue };
            let (schemas, relations): (Vec<u32>, Vec<u32>) =
                (numbers.schemas.into_iter().collect(), numbers.relations.into_iter().collect());
            let told = archiver.schemas(&schemas).await.unwrap_or_default();
            names.schemas.extend(told.into_iter().map(|(schema, name)| ((oid, schema), name)));
            let told = archiver.names(&relations).await.unwrap_or_default();
            names.now.extend(told.into_iter().map(|(relation, name)| ((oid, relation), name)));
        }
        names
    }

    /// A database, in words.
    pub(super) fn database(&self, oid: u32, told: Option<&str>) -> String {
        let known = self.databases.get(&oid).or_else(|| self.dropped.get(&oid));
        match told.or(known.map(String::as_str)) {
            Some(name) => format!("`{name}` ({oid})"),
            None => oid.to_string(),
        }
    }

    /// The schema of a relation, where it is known.
    pub(super) fn schema<'a>(&'a self, relation: &'a NamedRelation) -> Option<&'a str> {
        let live = || self.schemas.get(&(relation.database, relation.schema_oid)).map(String::as_str);
        let first = || (relation.schema_oid == PUBLIC.0).then_some(PUBLIC.1);
        relation.schema.as_deref().or_else(live).or_else(first)
    }

    /// The name of a relation as SQL wants it, with its schema; `None` where the schema is not known.
    pub(super) fn qualified(&self, relation: &NamedRelation) -> Option<String> {
        Some(format!("{}.{}", ident(self.schema(relation)?), ident(&relation.name)))
    }

    /// What was dropped, or got new files, in words: by name, tables first and with what belongs to them; then by number.
    pub(super) fn relations(&self, sighting: &Sighting) -> String {
        let by_file = sighting.what == Happened::Replaced;
        let number = |one: &NamedRelation| if by_file { one.file } else { one.oid };
        let mut tops: Vec<&NamedRelation> = sighting.relations.iter().filter(|one| is_top(one, sighting)).collect();
        tops.sort_by_key(|one| (rank(one.kind), one.database, one.oid));
        let (tops, kept): (Vec<&NamedRelation>, Vec<&NamedRelation>) =
            tops.into_iter().partition(|one| by_file || is_dropped(one, sighting));
        let named = tops.into_iter().map(|one| {
            let parts: Vec<&NamedRelation> = parts(one, sighting).collect();
            let of_kind = |kinds: &str| parts.iter().filter(|part| kinds.contains(part.kind)).count();
            let indexes = along(of_kind("iI"), "its index", "indexes");
            let toast = along(of_kind("t"), "its TOAST table", "TOAST tables");
            let partitions = along(of_kind("rpf"), "a partition", "partitions");
            let with = [partitions, indexes, toast].into_iter().flatten().collect::<Vec<_>>().join(", ");
            let with = if with.is_empty() { with } else { format!(", with {with}") };
            let name = self.qualified(one).unwrap_or_else(|| {
                format!("{} in a schema whose name no source knows ({})", ident(&one.name), one.schema_oid)
            });
            let of = one.of.map(|table| format!(" of {table}")).unwrap_or_default();
            format!("{} {name} ({}{with}){of}", kind(one.kind), number(one))
        });
        let all = named.chain(self.unnamed(sighting)).collect::<Vec<_>>().join(", ");
        let kept: Vec<String> = kept.into_iter().filter_map(|one| self.qualified(one)).collect();
        match kept.is_empty() {
            true => all,
            false => format!("{all}; and removed files of {} by TRUNCATE or a rewrite", kept.join(", ")),
        }
    }

    /// Those whose rows WAL has not.
    fn unnamed(&self, sighting: &Sighting) -> Vec<String> {
        let known = |database: u32, number: u32, file: bool| {
            let is_it =
                |one: &&NamedRelation| one.database == database && number == if file { one.file } else { one.oid };
            sighting.relations.iter().any(|one| is_it(&one))
        };
        let numbers: Vec<(u32, u32)> = match sighting.what {
            Happened::Replaced => {
                let files = sighting.files.iter().filter(|one| !known(one.database, one.file, true));
                files.map(|one| (one.database, one.file)).collect()
            }
            Happened::Dropped | Happened::DatabaseDropped | Happened::Changed | Happened::Ended | Happened::Marked => {
                let dropped = sighting.dropped.iter().filter(|one| !known(one.database, one.oid, false));
                dropped.map(|one| (one.database, one.oid)).collect()
            }
        };
        let live = |one: &(u32, u32)| self.now.get(one).filter(|_| sighting.what == Happened::Dropped);
        let mut words: Vec<String> = numbers
            .iter()
            .filter_map(|one| Some(format!("{} (the live server has {} by that number now)", one.1, live(one)?)))
            .collect();
        let nameless: Vec<String> =
            numbers.iter().filter(|one| live(one).is_none()).map(|(_, number)| number.to_string()).collect();
        match nameless.as_slice() {
            [] => {}
            [one] => words.push(format!("{one} (no source knows its name)")),
            many => words.push(format!("{} (no source knows their names)", many.join(", "))),
        }
        words
    }

    /// Whether the WAL that was read has not the rows of all that was dropped or got new files.
    pub(super) fn lacks(sighting: &Sighting) -> bool {
        match sighting.what {
            Happened::Dropped | Happened::Replaced => !Self::default().unnamed(sighting).is_empty(),
            Happened::DatabaseDropped => sighting.database_name.is_none(),
            Happened::Changed | Happened::Ended | Happened::Marked => false,
        }
    }

    /// Why some have no names, where there are such.
    pub(super) fn note(&self, found: &[(Sighting, Place)]) -> Option<String> {
        found.iter().any(|(one, _)| Self::lacks(one) && !self.unnamed(one).is_empty()).then(|| {
            "names are read from the rows of `pg_class` in the WAL that was searched, which has them from the checkpoint before a \
             drop on: an earlier beginning of `--between` may tell more of them. Those of a database whose `pg_class` was \
             rewritten (`VACUUM FULL`) are not found"
                .to_owned()
        })
    }

    /// The tables that a transaction dropped, as `tables` of a procedure wants them, with their database's name.
    pub(super) fn tables(&self, sighting: &Sighting) -> Option<(&str, String)> {
        let tables: Vec<&NamedRelation> = sighting
            .relations
            .iter()
            .filter(|one| matches!(one.kind, 'r' | 'p') && is_dropped(one, sighting) && is_top(one, sighting))
            .filter(|one| self.schema(one).is_none_or(|schema| !schema.starts_with("pg_temp")))
            .collect();
        // Back it comes into a database that is there.
        let dbname = self.databases.get(&tables.first()?.database)?;
        let names = tables.iter().map(|one| self.qualified(one)).collect::<Option<Vec<_>>>()?;
        Some((dbname, names.join(",")))
    }
}

/// What is asked of one database.
#[derive(Debug, Default)]
struct Numbers {
    schemas: BTreeSet<u32>,
    relations: BTreeSet<u32>,
}

fn wanted(found: &[(Sighting, Place)]) -> BTreeMap<u32, Numbers> {
    let mut all: BTreeMap<u32, Numbers> = BTreeMap::new();
    for (sighting, _) in found {
        for one in sighting.relations.iter().filter(|one| one.schema.is_none()) {
            all.entry(one.database).or_default().schemas.insert(one.schema_oid);
        }
        let has_row = |oid: u32| sighting.relations.iter().any(|one| one.oid == oid);
        for one in sighting.dropped.iter().filter(|one| !has_row(one.oid)) {
            all.entry(one.database).or_default().relations.insert(one.oid);
        }
    }
    all
}

/// Whether a relation ceased to be; the others got new files.
fn is_dropped(one: &NamedRelation, sighting: &Sighting) -> bool {
    sighting.dropped.iter().any(|of| (of.database, of.oid) == (one.database, one.oid))
}

/// Whether a relation is told by itself: all but those that belong to one that is told.
fn is_top(one: &NamedRelation, sighting: &Sighting) -> bool {
    !one.of.is_some_and(|of| sighting.relations.iter().any(|other| (other.database, other.oid) == (one.database, of)))
}

fn parts<'a>(top: &'a NamedRelation, sighting: &'a Sighting) -> impl Iterator<Item = &'a NamedRelation> {
    sighting.relations.iter().filter(move |one| one.database == top.database && one.of == Some(top.oid))
}

/// An identifier as SQL wants it, quoted only where it must be.
fn ident(word: &str) -> String {
    let is_plain = word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && word.starts_with(|c: char| !c.is_ascii_digit());
    if is_plain { word.to_owned() } else { name::ident(word) }
}

fn kind(kind: char) -> &'static str {
    match kind {
        'r' => "table",
        'p' => "partitioned table",
        'm' => "materialized view",
        'v' => "view",
        'f' => "foreign table",
        'S' => "sequence",
        'i' => "index",
        'I' => "partitioned index",
        't' => "TOAST table",
        'c' => "composite type",
        _ => "relation",
    }
}

fn rank(kind: char) -> u8 {
    match kind {
        'r' | 'p' => 0,
        'm' | 'v' | 'f' => 1,
        'S' => 2,
        _ => 3,
    }
}
