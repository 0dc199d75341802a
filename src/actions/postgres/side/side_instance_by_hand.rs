//! What a person types in place of a side instance, with PostgreSQL's own programs.

use super::side_instance::SideInstanceParams;
use crate::action::PlanContext;
use crate::action::by_hand::{quoted, remark};
use crate::actions::postgres::backup::outside::ConfigFiles;
use crate::actions::postgres::cluster::by_hand::{as_owner, by_hand_folder, sql};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::recovery::recover::Landmark;
use crate::actions::postgres::recovery::recover_by_hand::target;
use crate::actions::postgres::restore::existing::Existing;
use crate::actions::postgres::restore::restore_base::RestoreBaseParams;
use crate::actions::postgres::restore::restore_base_by_hand;

/// Restores a backup into a folder of its own and opens it on a socket there.
pub(crate) fn lines(params: &SideInstanceParams, cx: &PlanContext<'_>) -> Option<Vec<String>> {
    let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).ok()?;
    let (database, backup) = (params.database.clone(), params.backup.clone());
    let restore =
        RestoreBaseParams { database, backup, config_files: ConfigFiles::Leave, existing: Existing::KeepBeside };
    let mut lines = restore_base_by_hand::lines(&restore, cx)?;
    if params.target.landmark != Some(Landmark::Immediate) && !cluster.is_scratch() {
        lines.push(remark("what the live server committed last is in the archive only when its segment is finished"));
        lines.push(sql(&cluster, &cluster.dbname, "SELECT pg_switch_wal()"));
    }
    let folder = format!("{}/data", by_hand_folder(&cluster));
    let line =
        |setting: &String| format!("echo {} >> {}", quoted(setting), quoted(&format!("{folder}/postgresql.auto.conf")));
    lines.push(remark("nothing of the copy may reach out, so its settings stand on the command line too"));
    lines.extend(
        std::iter::once("recovery_target_action = 'promote'".to_owned())
            .chain(target(&params.target))
            .map(|setting| line(&setting)),
    );
    let options = format!(
        "-c archive_mode=off -c archive_command= -c external_pid_file= -c listen_addresses= -c unix_socket_directories={folder} \
         -c max_logical_replication_workers=0 -c primary_conninfo= -c shared_preload_libraries= -c ssl=off"
    );
    lines.push(as_owner(&cluster, &["pg_ctl", "start", "-w", "-D", &folder, "-o", &options]));
    lines.push(remark(&format!(
        "ask it with `psql -h {folder}`; in the end `pg_ctl stop -m immediate -D {folder}` and remove the folder"
    )));
    Some(lines)
}
