//! What a person types in place of the restore of tables, with PostgreSQL's own programs.

use super::{RestoreTableMode, RestoreTableParams};
use crate::action::PlanContext;
use crate::action::by_hand::{command_line, remark};
use crate::actions::postgres::cluster::by_hand::connection;
use crate::actions::postgres::cluster::layout::Cluster;

/// Looks at tables of a copy, and brings them back by hand.
pub(super) fn lines(params: &RestoreTableParams, cx: &PlanContext<'_>) -> Option<Vec<String>> {
    let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).ok()?;
    let dbname = params.dbname.as_ref().unwrap_or(&cluster.dbname).as_str();
    let psql = |rest: &[&str]| {
        let mut words = vec!["psql".to_owned()];
        words.extend(connection(&cluster));
        words.extend(["-d", dbname, "-X", "-v", "ON_ERROR_STOP=1"].map(str::to_owned));
        words.extend(rest.iter().map(|word| (*word).to_owned()));
        command_line(words)
    };
    let mut lines = Vec::new();
    match params.mode {
        RestoreTableMode::Revert => {
            lines.push(remark("the scripts lie in the folder of the step that applied, below `attempts` of its run"));
            lines.push(psql(&["-f", "‹undo-rows.sql›"]));
            lines.push(psql(&["-f", "‹undo-tables.sql›"]));
            return Some(lines);
        }
        RestoreTableMode::Compare | RestoreTableMode::Apply => {}
    }
    for table in &params.tables {
        let dump = ["pg_dump", "-h", "‹socket of the copy›", "-d", dbname, "-f", "tables.sql", "-t", table.as_str()];
        lines.push(command_line(dump));
    }
    lines.push(remark("what inherits from a table is in no dump of it: it wants a `-t` of its own"));
    lines.push(remark("a table that is gone comes back whole with it, in one transaction:"));
    lines.push(psql(&["--single-transaction", "-f", "tables.sql"]));
    lines.push(remark(
        "for one that is there: change its schema in tables.sql to a new one, read it, compare by primary key with EXCEPT, and INSERT … ON CONFLICT DO NOTHING",
    ));
    lines.push(remark("then foreign keys of other tables that the drop took along, and setval() of its sequences"));
    Some(lines)
}
