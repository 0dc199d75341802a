//! What a person types to prove the same.

use super::params::{CheckBody, CheckItem, CheckParams};
use super::planned::own;
use crate::action::PlanContext;
use crate::action::by_hand::{command_line, remark};
use crate::actions::postgres::cluster::by_hand::{connection, expected, sql};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::cluster::name::{ident, literal};

/// Asks which foreign keys and indexes there are to be proved; a person works through the answer.
const INVALID_INDEXES: &str = "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid";
const FOREIGN_KEYS: &str =
    "SELECT conrelid::regclass, confrelid::regclass, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f'";

/// Proves what a database promises.
pub(in super::super) fn lines(params: &CheckParams, cx: &PlanContext<'_>) -> Option<Vec<String>> {
    let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).ok()?;
    let mut lines = Vec::new();
    for item in &params.checks {
        match item {
            CheckItem::Set(_) | CheckItem::Of(_) => {
                for check in own(item, &cluster.entry) {
                    let dbname = check.dbname.as_ref().unwrap_or(&cluster.dbname);
                    lines.push(expected(&check.name, check.expect.as_deref()));
                    lines.push(sql(&cluster, dbname, &check.sql));
                }
            }
            CheckItem::One(body) => one(body, &cluster, &mut lines),
        }
    }
    Some(lines)
}

fn one(body: &CheckBody, cluster: &Cluster, lines: &mut Vec<String>) {
    let dbname = body.dbname.as_ref().unwrap_or(&cluster.dbname);
    if let Some(statement) = &body.sql {
        lines.push(expected(&body.name, body.expect.as_deref()));
        lines.push(sql(cluster, dbname, statement));
    }
    if body.foreign_keys.is_some() {
        lines.push(remark(&format!(
            "{}: no row of a foreign key is without its parent; the keys to look at:",
            body.name
        )));
        lines.push(sql(cluster, dbname, FOREIGN_KEYS));
    }
    if body.indexes.is_some() {
        lines.push(remark(&format!("{}: no index is invalid, so this gives no row:", body.name)));
        lines.push(sql(cluster, dbname, INVALID_INDEXES));
        let mut words = vec!["pg_amcheck".to_owned()];
        words.extend(connection(cluster));
        words.extend([dbname.clone()]);
        lines.push(command_line(words));
    }
    content(body, (cluster, dbname), lines);
    condition(body, (cluster, dbname), lines);
}

/// What the tables hold.
fn content(body: &CheckBody, (cluster, dbname): (&Cluster, &str), lines: &mut Vec<String>) {
    for table in body.tables.iter().flatten() {
        lines.push(remark(&format!("{}: the table is there:", body.name)));
        lines.push(sql(cluster, dbname, &format!("SELECT {}::regclass", literal(table))));
    }
    for (table, expect) in body.rows.iter().flatten() {
        lines.push(expected(&body.name, Some(expect)));
        lines.push(sql(cluster, dbname, &format!("SELECT count(*) FROM {table}")));
    }
    if let Some(newest) = &body.newest {
        lines.push(remark(&format!("{}: not older than {} at the incident:", body.name, newest.within)));
        lines.push(sql(cluster, dbname, &format!("SELECT max({}) FROM {}", ident(&newest.column), newest.table)));
    }
    if body.facts.is_some() {
        lines.push(remark(&format!(
            "{}: the rows of each table are those in `facts` of the backup's manifest or proof",
            body.name
        )));
    }
    if let Some(wanted) = &body.schema_fingerprint {
        let words = format!(
            "{}: `runbook` finds the schema {}; by hand, compare with a dump of the schema:",
            body.name, wanted.equals
        );
        lines.push(remark(&words));
        let mut words = vec!["pg_dump".to_owned(), "--schema-only".to_owned()];
        words.extend(connection(cluster));
        words.extend(["-d".to_owned(), dbname.to_owned()]);
        lines.push(command_line(words));
    }
    if let Some(smoke) = &body.smoke {
        lines.push(remark(&format!(
            "{}: ends with 0, with PGHOST, PGPORT, PGUSER and PGDATABASE of the server:",
            body.name
        )));
        lines.push(command_line(smoke.command.iter().map(String::as_str)));
    }
}

/// What must hold beside keys and indexes.
fn condition(body: &CheckBody, (cluster, dbname): (&Cluster, &str), lines: &mut Vec<String>) {
    if body.sequences.is_some() {
        lines.push(remark(&format!(
            "{}: `last_value` of each is not below the highest value of its column:",
            body.name
        )));
        lines.push(sql(cluster, dbname, "SELECT schemaname, sequencename, last_value FROM pg_sequences"));
    }
    if body.extensions.is_some() {
        lines.push(remark(&format!("{}: this gives no row:", body.name)));
        lines.push(sql(
            cluster,
            dbname,
            "SELECT extname FROM pg_extension WHERE extname NOT IN (SELECT name FROM pg_available_extensions)",
        ));
    }
    if body.collations.is_some() {
        lines.push(remark(&format!("{}: both columns are the same:", body.name)));
        lines.push(sql(cluster, dbname, "SELECT collname, collversion, pg_collation_actual_version(oid) FROM pg_collation WHERE collversion IS NOT NULL"));
    }
}
