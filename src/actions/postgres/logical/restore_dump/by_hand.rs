//! What a person types in place of the restore of a dump, with PostgreSQL's own programs.

use super::RestoreDumpParams;
use crate::action::PlanContext;
use crate::action::by_hand::{command_line, remark};
use crate::actions::postgres::cluster::by_hand::{connection, sql};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::store::by_hand::location;
use crate::catalog::BackupPlace;

/// Restores a dump beside and renames it.
pub(super) fn lines(params: &RestoreDumpParams, cx: &PlanContext<'_>) -> Option<Vec<String>> {
    let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).ok()?;
    let (store, prefix) = cluster.archive().ok()?;
    let folder = match params.backup.known() {
        Some(backup) => BackupPlace::new(prefix, (&backup.kind, backup.tier.as_deref()), &backup.id).folder(),
        None => format!("{prefix}/dump/{}", params.backup.shown(|backup| backup.id.clone())),
    };
    let name = params.dbname.clone().unwrap_or_else(|| "‹database›".to_owned());
    let fresh = format!("{name}_restored");
    let maintenance = |statement: &str| sql(&cluster, "postgres", statement);
    let mut load = vec!["pg_restore".to_owned()];
    load.extend(connection(&cluster));
    load.extend(["-d", &fresh, "--exit-on-error", "‹new folder›/database.dump"].map(str::to_owned));
    Some(vec![
        remark(&format!("fetch {} first", location(cx.inventory, store, &folder))),
        command_line(["sh", "restore.sh", "‹new folder›"]),
        remark(
            "make the roles of globals.sql that the server lacks; manifest.json has owner, locale, rights and settings",
        ),
        maintenance(&format!("CREATE DATABASE \"{fresh}\" TEMPLATE template0 OWNER ‹owner›")),
        command_line(load),
        remark("look at it, compare it with the facts in manifest.json; then, with nobody connected to either:"),
        maintenance(&format!(
            "BEGIN; ALTER DATABASE \"{name}\" RENAME TO \"{name}_old\"; ALTER DATABASE \"{fresh}\" RENAME TO \"{name}\"; COMMIT"
        )),
    ])
}
