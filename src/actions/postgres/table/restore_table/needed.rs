//! What tables that are gone are made of and the live database lacks: schemas, types, functions. All of it is told at once,
//! while the copy is open that knows it.

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
 needed AS (SELECT d.refclassid AS class, d.refobjid AS oid FROM parts p JOIN pg_depend d ON d.classid = p.class AND d.objid = p.oid \
   AND d.deptype IN ('n', 'a', 'i') AND (d.refclassid <> 'pg_class'::regclass) \
  UNION SELECT CASE WHEN own THEN d.classid ELSE d.refclassid END, CASE WHEN own THEN d.objid ELSE d.refobjid END \
   FROM needed n JOIN (SELECT *, false AS own FROM pg_depend UNION ALL SELECT *, true FROM pg_depend) d \
   ON NOT own AND d.classid = n.class AND d.objid = n.oid AND d.deptype IN ('n', 'i', 'e') \
    OR own AND n.class = 'pg_type'::regclass AND d.refclassid = n.class AND d.refobjid = n.oid AND (d.deptype = 'a' \
     OR d.deptype = 'i' AND d.classid = 'pg_class'::regclass)), \
 named AS (SELECT DISTINCT n.class, n.oid, CASE n.class \
   WHEN 'pg_namespace'::regclass THEN 'schema' WHEN 'pg_extension'::regclass THEN 'extension' \
   WHEN 'pg_language'::regclass THEN 'language' WHEN 'pg_collation'::regclass THEN 'collation' \
   WHEN 'pg_type'::regclass THEN 'type' WHEN 'pg_proc'::regclass THEN 'function' \
   WHEN 'pg_operator'::regclass THEN 'operator' END AS kind FROM needed n \
  WHERE NOT EXISTS (SELECT 1 FROM parts p WHERE p.class = n.class AND p.oid = n.oid)) \
 SELECT kind, coalesce((SELECT nspname::text FROM pg_namespace WHERE n.class = 'pg_namespace'::regclass AND pg_namespace.oid = n.oid), \
   (SELECT extname::text FROM pg_extension WHERE n.class = 'pg_extension'::regclass AND pg_extension.oid = n.oid), \
   (SELECT lanname::text FROM pg_language WHERE n.class = 'pg_language'::regclass AND pg_language.oid = n.oid), \
   (SELECT collname::text FROM pg_collation WHERE n.class = 'pg_collation'::regclass AND pg_collation.oid = n.oid), \
   (SELECT typname::text FROM pg_type WHERE n.class = 'pg_type'::regclass AND pg_type.oid = n.oid), \
   (SELECT proname::text FROM pg_proc WHERE n.class = 'pg_proc'::regclass AND pg_proc.oid = n.oid), \
   (SELECT oprname::text FROM pg_operator WHERE n.class = 'pg_operator'::regclass AND pg_operator.oid = n.oid)), \
  (pg_identify_object(n.class, n.oid, 0)).identity FROM named n WHERE kind IS NOT NULL \
  AND NOT EXISTS (SELECT 1 FROM pg_type t WHERE n.class = 'pg_type'::regclass AND t.typarray = n.oid) \
  AND NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.classid = n.class AND e.objid = n.oid AND e.deptype = 'e') \
 ORDER BY array_position(ARRAY['schema', 'extension', 'language', 'collation', 'type', 'function', 'operator'], kind), 3";

/// The file in the attempt's folder that has the definitions.
const DEFINITIONS: &str = "needed.sql";

/// What the live database lacks, for people, in the order of their kinds: `type shop.pos`.
///
/// # Errors
/// Fails as a server says.
pub(super) async fn lacking(
    tables: &[Shape],
    (copy, live): (&mut Session, &mut Session),
) -> Result<Vec<String>, ActionError> {
    let oids: Vec<String> = tables.iter().map(|table| table.oid.to_string()).collect();
    let needed = copy.query(&NEEDED.replace('$', &oids.join(","))).await?;
    let mut lacking = Vec::new();
    for row in 0..needed.rows.len() {
        let [Some(kind), Some(name), Some(identity)] = [0, 1, 2].map(|column| needed.at(row, column)) else { continue };
        let Some((catalog, column)) = catalog_of(kind) else { continue };
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM {catalog} x WHERE x.{column} = {} \
             AND (pg_identify_object('{catalog}'::regclass, x.oid, 0)).identity = {})",
            literal(name),
            literal(identity)
        );
        if live.value(&sql).await? != "t" {
            lacking.push(format!("{kind} `{identity}`"));
        }
    }
    Ok(lacking)
}

/// The catalog of a kind, and the column that has the name.
fn catalog_of(kind: &str) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        "schema" => ("pg_namespace", "nspname"),
        "extension" => ("pg_extension", "extname"),
        "language" => ("pg_language", "lanname"),
        "collation" => ("pg_collation", "collname"),
        "type" => ("pg_type", "typname"),
        "function" => ("pg_proc", "proname"),
        "operator" => ("pg_operator", "oprname"),
        _ => return None,
    })
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
