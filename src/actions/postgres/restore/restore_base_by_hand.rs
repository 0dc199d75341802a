//! What a person types in place of the restore of a base backup, with PostgreSQL's own programs.

use super::existing::Existing;
use super::restore_base::RestoreBaseParams;
use crate::action::PlanContext;
use crate::action::by_hand::remark;
use crate::actions::postgres::cluster::by_hand::{as_owner, by_hand_folder};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::store::by_hand::location;
use crate::catalog::BackupPlace;

/// Unpacks a backup beside the live data.
pub(crate) fn lines(params: &RestoreBaseParams, cx: &PlanContext<'_>) -> Option<Vec<String>> {
    let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).ok()?;
    let (store, prefix) = cluster.archive().ok()?;
    let folder = match params.backup.known() {
        Some(backup) => BackupPlace::new(prefix, (&backup.kind, backup.tier.as_deref()), &backup.id).folder(),
        None => format!("{prefix}/base/{}", params.backup.shown(|backup| backup.id.clone())),
    };
    let from = location(cx.inventory, store, &folder);
    let archive = location(cx.inventory, store, &format!("{prefix}/wal/‹system id›"));
    let staged = by_hand_folder(&cluster);
    let live = match params.existing.on(&cluster) {
        Existing::KeepBeside => format!("the live data in {} is not touched here", cluster.pgdata.display()),
        Existing::Delta | Existing::Replace => format!(
            "verify the whole backup first (`sha256sum -c SHA256SUMS`); then stop the server and move {}/pg_wal and {}/global/pg_control to a safe place before anything in {} is removed",
            cluster.pgdata.display(),
            cluster.pgdata.display(),
            cluster.pgdata.display()
        ),
    };
    Some(vec![
        remark(&live),
        remark("where the store is no folder of this machine, copy the backup's folder and the WAL to a disk first"),
        remark(
            "encrypted ones also want `--identity FILE` or `--password-file FILE`; RESTORE.md beside it says all in words",
        ),
        as_owner(&cluster, &["sh", &format!("{from}/restore.sh"), &staged, "--wal", &archive]),
    ])
}
