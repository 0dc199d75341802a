//! What a person types in place of a recovery, with PostgreSQL's own programs.

use super::recover::{Landmark, RecoverParams, TargetSpec};
use crate::action::PlanContext;
use crate::action::by_hand::{quoted, remark};
use crate::actions::postgres::cluster::by_hand::{as_owner, by_hand_folder, sql};
use crate::actions::postgres::cluster::container;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::restore::recovery_target::Ending;

/// Swaps the restored data in and replays the archive.
pub(crate) fn lines(params: &RecoverParams, cx: &PlanContext<'_>) -> Option<Vec<String>> {
    let cluster = Cluster::of(&params.database, cx.inventory, cx.scratch).ok()?;
    cluster.archive().ok()?;
    let pgdata = cluster.pgdata.display().to_string();
    let action = match params.action.unwrap_or_default() {
        Ending::Promote => "promote",
        Ending::Pause | Ending::Standby => "pause",
    };
    let mut settings = vec![format!("recovery_target_action = '{action}'")];
    settings.extend(target(&params.target));
    if cluster.is_contained() {
        let here = Cluster { socket: Some(by_hand_folder(&cluster).into()), ..cluster.clone() };
        let wait = wait(&here, params.action.unwrap_or_default());
        return Some(container::by_hand::recover(&cluster, &settings, wait));
    }
    let line =
        |setting: &String| format!("echo {} >> {}", quoted(setting), quoted(&format!("{pgdata}/postgresql.auto.conf")));
    let mut lines = vec![remark("the server must be stopped; keep the old data until the new one is proved")];
    lines.push(as_owner(&cluster, &["mv", "-n", &pgdata, &format!("{pgdata}.old")]));
    lines.push(remark("WAL that the archive does not have yet lies in the old pg_wal: copy it into the new one"));
    lines.push(as_owner(&cluster, &["mv", "-n", &format!("{}/data", by_hand_folder(&cluster)), &pgdata]));
    lines.extend(settings.iter().map(line));
    lines.push(remark(
        "the script has set `restore_command` there, and `archive_mode = off`: remove both lines in the end",
    ));
    lines.push(cluster.service_manager().start_by_hand(&cluster));
    lines.extend(wait(&cluster, params.action.unwrap_or_default()));
    Some(lines)
}

fn wait(cluster: &Cluster, ending: Ending) -> Vec<String> {
    let ask = |statement: &str| sql(cluster, &cluster.dbname, statement);
    match ending {
        Ending::Promote => vec![remark("wait until this says `f`:"), ask("SELECT pg_is_in_recovery()")],
        Ending::Pause => vec![
            remark("wait until this says `t`; then look at the data:"),
            ask("SELECT pg_is_wal_replay_paused()"),
            remark("to open it for good:"),
            ask("SELECT pg_promote()"),
        ],
        Ending::Standby => vec![
            remark("it was started with `recovery.signal`: rename that to `standby.signal` before the start"),
            ask("SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()"),
        ],
    }
}

/// The settings that tell a server the target.
pub(crate) fn target(target: &TargetSpec) -> Vec<String> {
    let mut settings = Vec::new();
    if target.landmark == Some(Landmark::Immediate) {
        settings.push("recovery_target = 'immediate'".to_owned());
    }
    if target.inclusive == Some(false) {
        settings.push("recovery_target_inclusive = 'off'".to_owned());
    }
    settings.extend(target.time.iter().map(|at| format!("recovery_target_time = '{at}'")));
    settings.extend(target.lsn.iter().map(|lsn| format!("recovery_target_lsn = '{lsn}'")));
    settings.extend(target.name.iter().map(|name| format!("recovery_target_name = '{name}'")));
    settings.extend(target.xid.iter().map(|xid| format!("recovery_target_xid = '{xid}'")));
    settings.extend(target.timeline.iter().map(|timeline| format!("recovery_target_timeline = '{timeline}'")));
    settings
}
