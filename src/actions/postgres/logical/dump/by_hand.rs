//! What a person types in place of a dump, with PostgreSQL's own programs.

use super::{AllDatabases, DatabaseNames, DumpParams};
use crate::action::PlanContext;
use crate::action::by_hand::{command_line, remark};
use crate::actions::postgres::cluster::by_hand::connection;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::store::by_hand::location;

/// Dumps databases as `postgres.restore_dump` and a person can both use them.
pub(super) fn lines(params: &DumpParams, cx: &PlanContext<'_>) -> Option<Vec<String>> {
    let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).ok()?;
    let (store, prefix) = cluster.archive().ok()?;
    let names = match &params.dbnames {
        None => vec![cluster.dbname.clone()],
        Some(DatabaseNames::Named(names)) => names.clone(),
        Some(DatabaseNames::Set(AllDatabases::All)) => vec!["‹each database›".to_owned()],
    };
    let mut lines = Vec::new();
    for name in names {
        let mut words = vec!["pg_dump".to_owned()];
        words.extend(connection(&cluster));
        words.extend(["-d", &name, "-F", "custom", "-f", "‹new folder›/database.dump"].map(str::to_owned));
        lines.push(command_line(words));
    }
    let mut words = vec!["pg_dumpall".to_owned()];
    words.extend(connection(&cluster));
    words.extend(["--globals-only", "-f", "‹new folder›/globals.sql"].map(str::to_owned));
    lines.push(command_line(words));
    lines.push(command_line(["pg_restore", "--list", "‹new folder›/database.dump"]));
    let target = location(cx.inventory, store, &format!("{prefix}/by-hand/‹date›/"));
    lines.push(remark(&format!("only if all of them ended well: copy the folder to {target}")));
    lines.push(remark("a backup made by hand is not found by `backup.find`: write down where it lies"));
    Some(lines)
}
