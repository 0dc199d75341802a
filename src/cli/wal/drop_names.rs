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
        let family = Family::of(sighting);
        let mut tops: Vec<&NamedRelation> = sighting.relations.iter().filter(|one| family.is_top(one)).collect();
        tops.sort_by_key(|one| (rank(one.kind), one.database, one.oid));
        let (tops, kept): (Vec<&NamedRelation>, Vec<&NamedRelation>) =
            tops.into_iter().partition(|one| by_file || family.is_dropped(one));
        let named = tops.into_iter().map(|one| {
            let parts = family.parts(one);
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
            let unsure = if one.is_seen_row { "" } else { "; it may have had another name before that transaction" };
            format!("{} {name} ({}{with}{unsure}){of}", kind(one.kind), number(one))
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
        let by_file = sighting.what == Happened::Replaced;
        let known: BTreeSet<(u32, u32)> =
            sighting.relations.iter().map(|one| (one.database, if by_file { one.file } else { one.oid })).collect();
        let numbers: Vec<(u32, u32)> = match by_file {
            true => sighting.files.iter().map(|one| (one.database, one.file)).collect(),
            false => sighting.dropped.iter().map(|one| (one.database, one.oid)).collect(),
        };
        let numbers: Vec<(u32, u32)> = numbers.into_iter().filter(|one| !known.contains(one)).collect();
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

    /// Whether the WAL that was read has not the rows of all that was dropped or got new files, as others saw them.
    pub(super) fn lacks(sighting: &Sighting) -> bool {
        match sighting.what {
            Happened::Dropped | Happened::Replaced => {
                sighting.relations.iter().any(|one| !one.is_seen_row) || !Self::default().unnamed(sighting).is_empty()
            }
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
        let family = Family::of(sighting);
        let tables: Vec<&NamedRelation> = sighting
            .relations
            .iter()
            .filter(|one| matches!(one.kind, 'r' | 'p') && family.is_dropped(one) && family.is_top(one))
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
        let named: BTreeSet<(u32, u32)> = sighting.relations.iter().map(key).collect();
        for one in sighting.dropped.iter().filter(|one| !named.contains(&(one.database, one.oid))) {
            all.entry(one.database).or_default().relations.insert(one.oid);
        }
    }
    all
}

/// How the relations of a sighting belong together: it may have tens of thousands.
struct Family<'a> {
    named: BTreeSet<(u32, u32)>,
    dropped: BTreeSet<(u32, u32)>,
    parts: BTreeMap<(u32, u32), Vec<&'a NamedRelation>>,
}

impl<'a> Family<'a> {
    fn of(sighting: &'a Sighting) -> Self {
        let mut parts: BTreeMap<(u32, u32), Vec<&NamedRelation>> = BTreeMap::new();
        for one in &sighting.relations {
            if let Some(of) = one.of {
                parts.entry((one.database, of)).or_default().push(one);
            }
        }
        Self {
            named: sighting.relations.iter().map(key).collect(),
            dropped: sighting.dropped.iter().map(|one| (one.database, one.oid)).collect(),
            parts,
        }
    }

    /// Whether a relation ceased to be; the others got new files.
    fn is_dropped(&self, one: &NamedRelation) -> bool {
        self.dropped.contains(&key(one))
    }

    /// Whether a relation is told by itself: all but those that belong to one that is told.
    fn is_top(&self, one: &NamedRelation) -> bool {
        !one.of.is_some_and(|of| self.named.contains(&(one.database, of)))
    }

    /// What belongs to a relation.
    fn parts(&self, top: &NamedRelation) -> &[&'a NamedRelation] {
        self.parts.get(&key(top)).map_or(&[], Vec::as_slice)
    }
}

fn key(one: &NamedRelation) -> (u32, u32) {
    (one.database, one.oid)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]
    use super::*;
    use crate::pgformat::{DroppedRelation, Lsn};
    use crate::wal::change_search::Rows;

    const DATABASE: u32 = 5;

    fn relation((oid, kind, of): (u32, char, Option<u32>), name: String) -> NamedRelation {
        NamedRelation {
            database: DATABASE,
            oid,
            file: oid,
            schema_oid: PUBLIC.0,
            schema: None,
            name,
            kind,
            of,
            is_seen_row: true,
        }
    }

    fn dropped(relations: Vec<NamedRelation>) -> Sighting {
        Sighting {
            what: Happened::Dropped,
            xid: Some(800),
            committed: true,
            lsn: Lsn(2),
            before: Lsn(1),
            at: None,
            dropped: relations.iter().map(|one| DroppedRelation { database: DATABASE, oid: one.oid }).collect(),
            files: Vec::new(),
            relations,
            database: None,
            database_name: None,
            rows: Rows::default(),
            name: None,
        }
    }

    #[test]
    fn ten_thousand_tables_that_were_dropped_at_once_are_told_each_with_what_belongs_to_it() {
        const TABLES: u32 = 10_000;
        let family = |table: u32| {
            let oid = 20_000 + 4 * table;
            [
                relation((oid, 'r', None), format!("t{table}")),
                relation((oid + 1, 't', Some(oid)), format!("pg_toast_{oid}")),
                relation((oid + 2, 'i', Some(oid + 1)), format!("pg_toast_{oid}_index")),
                relation((oid + 3, 'i', Some(oid)), format!("t{table}_pkey")),
            ]
        };
        let sighting = dropped((0..TABLES).flat_map(family).collect());
        let mut names = DropNames::default();
        names.databases.insert(DATABASE, "shop".to_owned());
        let words = names.relations(&sighting);
        let all: Vec<&str> = words.split(", table ").collect();
        assert_eq!(all.len(), TABLES as usize, "{}", &words[..400]);
        assert_eq!(all[1], "public.t1 (20004, with its index, its TOAST table)");
        let (dbname, tables) = names.tables(&sighting).unwrap();
        assert_eq!((dbname, tables.split(',').count()), ("shop", TABLES as usize));
        assert!(!DropNames::lacks(&sighting));
        let rowless = Sighting { relations: Vec::new(), ..sighting };
        assert!(DropNames::lacks(&rowless));
        assert_eq!(names.relations(&rowless).split(", ").count(), 4 * TABLES as usize);
    }

    #[test]
    fn a_name_that_the_transaction_itself_may_have_given_is_said_to_be_that() {
        let own = NamedRelation { is_seen_row: false, ..relation((20_000, 'r', None), "t_old".to_owned()) };
        let sighting = dropped(vec![own]);
        assert!(DropNames::lacks(&sighting), "the row that others saw is looked for");
        let words = DropNames::default().relations(&sighting);
        assert_eq!(words, "table public.t_old (20000; it may have had another name before that transaction)");
    }
}
