//! What a person types in place of a base backup, with PostgreSQL's own programs.

use super::base_backup::{BaseBackupParams, Checkpoint};
use crate::action::PlanContext;
use crate::action::by_hand::{command_line, remark};
use crate::actions::postgres::cluster::by_hand::connection;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::store::by_hand::location;

/// Takes a backup that `restore_base` and a person can both use.
pub(crate) fn lines(params: &BaseBackupParams, cx: &PlanContext<'_>) -> Option<Vec<String>> {
    let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).ok()?;
    let (store, prefix) = cluster.archive().ok()?;
    let mut words = vec!["pg_basebackup".to_owned()];
    words.extend(connection(&cluster));
    let checkpoint = match params.checkpoint {
        Checkpoint::Fast => "fast",
        Checkpoint::Spread => "spread",
    };
    words.extend(
        ["-D", "‹new folder›", "-F", "tar", "-X", "stream", "-c", checkpoint, "--manifest-checksums=SHA256", "-P"]
            .map(str::to_owned),
    );
    if params.incremental {
        words.push("--incremental=‹backup_manifest of the backup it is to rest on›".to_owned());
    }
    words.extend(params.max_rate.iter().flat_map(|rate| ["--max-rate".to_owned(), format!("{}k", rate.0 / 1024)]));
    let target = location(cx.inventory, store, &format!("{prefix}/by-hand/‹date›/"));
    Some(vec![
        remark("choose an empty folder with room for the whole database"),
        command_line(words),
        remark(&format!("copy base.tar, every OID.tar, pg_wal.tar and backup_manifest to {target}")),
        remark("a backup made by hand is not found by `backup.find`: write down where it lies"),
    ])
}
