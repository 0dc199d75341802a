//! What tables that are gone are made of and the live database lacks: schemas, types, functions. All of it is told at once,
//! while the copy is open that knows it.

use std::collections::{BTreeMap, BTreeSet};

use super::shape::Shape;
use crate::action::{ActionError, RunContext};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::name::literal;
use crate::actions::postgres::session::client::{self, Client};
use crate::actions::postgres::session::connect::Session;

/// Everything that the tables, their partitions, the views on them and what belongs to these (columns, defaults, keys, triggers,
/// rules, indexes) refer to, and what that refers to, other relations left out. `pg_depend` knows nothing of what the server itself brings.
const NEEDED: &str = "WITH RECURSIVE tables AS (SELECT unnest(ARRAY[$]::oid[]) AS oid \
  UNION SELECT p.relid::oid FROM tables t, pg_partition_tree(t.oid) p), \
 family AS (SELECT oid FROM tables UNION SELECT r.ev_class FROM family f \
  JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = f.oid AND d.classid = 'pg_rewrite'::regclass \
  JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')), \
 parts AS (SELECT 'pg_class'::regclass::oid AS class, oid FROM family \
  UNION SELECT d.classid, d.objid FROM parts p JOIN pg_depend d ON d.refclassid = p.class AND d.refobjid = p.oid \
   AND d.deptype IN ('a', 'i')), \
 roots AS (SELECT d.refclassid AS class, d.refobjid AS oid FROM parts p JOIN pg_depend d ON d.classid = p.class AND d.objid = p.oid \
   AND d.deptype IN ('n', 'a', 'i') AND (d.refclassid <> 'pg_class'::regclass)), \
 needed AS (SELECT class, oid FROM roots UNION SELECT CASE WHEN own THEN d.classid ELSE d.refclassid END, \
   CASE WHEN own THEN d.objid ELSE d.refobjid END FROM needed n JOIN # ), \
 edges AS (SELECT class, oid, 0::oid AS from_class, 0::oid AS from_oid FROM roots UNION SELECT CASE WHEN own THEN d.classid ELSE d.refclassid END, \
   CASE WHEN own THEN d.objid ELSE d.refobjid END, n.class, n.oid FROM needed n JOIN # ), \
 named AS (SELECT n.*, CASE WHEN EXISTS (SELECT 1 FROM parts p WHERE p.class = n.class AND p.oid = n.oid) \
    OR EXISTS (SELECT 1 FROM pg_type t WHERE n.class = 'pg_type'::regclass AND t.typarray = n.oid) \
    OR EXISTS (SELECT 1 FROM pg_depend e WHERE e.classid = n.class AND e.objid = n.oid AND e.deptype = 'e') THEN NULL \
   ELSE CASE n.class \
   WHEN 'pg_namespace'::regclass THEN 'schema' WHEN 'pg_extension'::regclass THEN 'extension' \
   WHEN 'pg_language'::regclass THEN 'language' WHEN 'pg_collation'::regclass THEN 'collation' \
   WHEN 'pg_type'::regclass THEN 'type' WHEN 'pg_proc'::regclass THEN 'function' \
   WHEN 'pg_operator'::regclass THEN 'operator' END END AS kind FROM edges n) \
 SELECT n.class::text || '.' || n.oid, n.from_class::text || '.' || n.from_oid, kind, \
  coalesce((SELECT nspname::text FROM pg_namespace WHERE n.class = 'pg_namespace'::regclass AND pg_namespace.oid = n.oid), \
   (SELECT extname::text FROM pg_extension WHERE n.class = 'pg_extension'::regclass AND pg_extension.oid = n.oid), \
   (SELECT lanname::text FROM pg_language WHERE n.class = 'pg_language'::regclass AND pg_language.oid = n.oid), \
   (SELECT collname::text FROM pg_collation WHERE n.class = 'pg_collation'::regclass AND pg_collation.oid = n.oid), \
   (SELECT typname::text FROM pg_type WHERE n.class = 'pg_type'::regclass AND pg_type.oid = n.oid), \
   (SELECT proname::text FROM pg_proc WHERE n.class = 'pg_proc'::regclass AND pg_proc.oid = n.oid), \
   (SELECT oprname::text FROM pg_operator WHERE n.class = 'pg_operator'::regclass AND pg_operator.oid = n.oid)), \
  CASE WHEN kind IS NOT NULL THEN (pg_identify_object(n.class, n.oid, 0)).identity END FROM named n";

/// One thing that needs another.
const STEP: &str = "(SELECT *, false AS own FROM pg_depend UNION ALL SELECT *, true FROM pg_depend) d \
   ON NOT own AND d.classid = n.class AND d.objid = n.oid AND d.deptype IN ('n', 'i', 'e') \
    OR own AND n.class = 'pg_type'::regclass AND d.refclassid = n.class AND d.refobjid = n.oid AND (d.deptype = 'a' \
     OR d.deptype = 'i' AND d.classid = 'pg_class'::regclass)";

/// The root of all.
const TABLES: &str = "0.0";

/// The file in the attempt's folder that has the definitions.
const DEFINITIONS: &str = "needed.sql";

/// Something that is needed.
struct Needed {
    kind: &'static str,
    catalog: &'static str,
    column: &'static str,
    name: String,
    identity: String,
}

/// What the live database lacks, for people, in the order of their kinds: `type shop.pos`. What is there already is whole,
/// whatever it was made of when the copy was: nothing is asked behind it.
///
/// # Errors
/// Fails as a server says.
pub(super) async fn lacking(
    tables: &[Shape],
    (copy, live): (&mut Session, &mut Session),
) -> Result<Vec<String>, ActionError> {
    let oids: Vec<String> = tables.iter().map(|table| table.oid.to_string()).collect();
    let found = copy.query(&NEEDED.replace('$', &oids.join(",")).replace('#', STEP)).await?;
    let (mut named, mut behind) = (BTreeMap::new(), BTreeMap::<String, Vec<String>>::new());
    for row in 0..found.rows.len() {
        let [Some(object), Some(from)] = [0, 1].map(|column| found.at(row, column)) else { continue };
        behind.entry(from.to_owned()).or_default().push(object.to_owned());
        let [kind, name, identity] = [2, 3, 4].map(|column| found.at(row, column));
        if let (Some((kind, catalog, column)), Some(name), Some(identity)) = (kind.and_then(catalog_of), name, identity)
        {
            let needed = Needed { kind, catalog, column, name: name.to_owned(), identity: identity.to_owned() };
            named.insert(object.to_owned(), needed);
        }
    }
    let (mut lacking, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut open = vec![TABLES.to_owned()];
    while let Some(object) = open.pop() {
        if let Some(needed) = named.get(&object) {
            if needed.is_in(live).await? {
                continue;
            }
            let rank = KINDS.iter().position(|(kind, _, _)| *kind == needed.kind);
            lacking.insert((rank, format!("{} `{}`", needed.kind, needed.identity)));
        }
        let next = behind.get(&object).into_iter().flatten();
        open.extend(next.filter(|next| seen.insert((*next).clone())).cloned());
    }
    Ok(lacking.into_iter().map(|(_, told)| told).collect())
}

impl Needed {
    async fn is_in(&self, live: &mut Session) -> Result<bool, ActionError> {
        let Self { catalog, column, name, identity, .. } = self;
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM {catalog} x WHERE x.{column} = {} \
             AND (pg_identify_object('{catalog}'::regclass, x.oid, 0)).identity = {})",
            literal(name),
            literal(identity)
        );
        Ok(live.value(&sql).await? == "t")
    }
}

/// The kinds in the order in which they are told, each with its catalog and the column that has the name.
const KINDS: [(&str, &str, &str); 7] = [
    ("schema", "pg_namespace", "nspname"),
    ("extension", "pg_extension", "extname"),
    ("language", "pg_language", "lanname"),
    ("collation", "pg_collation", "collname"),
    ("type", "pg_type", "typname"),
    ("function", "pg_proc", "proname"),
    ("operator", "pg_operator", "oprname"),
];

fn catalog_of(kind: &str) -> Option<(&'static str, &'static str, &'static str)> {
    KINDS.into_iter().find(|(known, _, _)| *known == kind)
}

/// Says what is lacking and how it is made: the copy's definitions of all but its relations are written beside the attempt.
pub(super) async fn told(
    lacking: &[String],
    (copy, dbname): (&Cluster, &str),
    major: &str,
    cx: &RunContext,
) -> (String, String) {
    let fact = format!("the live database lacks what the tables that are gone are made of: {}", lacking.join(", "));
    let path = cx.attempt_dir.join(DEFINITIONS);
    let written = async {
        let client = Client::of(copy, major, (cx.host.as_read(), cx.about.secrets.as_ref()))?;
        let spec = client.command("pg_dump", dbname)?.args(["--no-password", "--schema-only", "--section=pre-data"]);
        let spec = spec.args(["--exclude-table=*.*".to_owned(), format!("--file={}", path.display())]);
        client::run(cx.host.as_ref(), spec).await
    };
    let order = "make all of it first, then run this again";
    let help = match written.await {
        Ok(_) => format!(
            "{order}: `{}` has the definitions of all schemas, types and functions that the copy has, in the order in which they are \
             made, with their owners and rights; take out those that are named",
            path.display()
        ),
        Err(_) => order.to_owned(),
    };
    (fact, help)
}
