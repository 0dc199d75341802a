//! A hole of an archive that nothing closes before a recovery is due: neither the old server's own WAL nor an earlier step.

use crate::action::by_hand::command_line;
use crate::action::{CheckContext, Machine};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::catalog::recovery::{Fault, Refusal};
use crate::pgformat::SegmentName;
use crate::wal::outlook::Impossible;

/// Actions that bring no WAL into any archive. Whatever stands before a recovery besides them may bring what lacks: a copy
/// from another store, older versions of objects, a program, a person.
const BRING_NOTHING: [&str; 16] = [
    "approval",
    "assert",
    "backup.find",
    "backup.verify",
    "http.check",
    "notify.command",
    "notify.webhook",
    "pgbackrest.check",
    "pgbackrest.info",
    "postgres.check",
    "postgres.restore_base",
    "postgres.stop",
    "postgres.terminate_connections",
    "service.start",
    "service.status",
    "service.stop",
];

/// Where segments may be that no store of the archive has.
pub(crate) const ELSEWHERE: &str = "bring the segment back; where another program archived it, name that place (`-p wal_store=STORE`, `-p wal_folder=FOLDER`)";

/// Whether what stands against a recovery is a hole that stays one: segments that are in no store of it, though the old
/// server's own WAL was counted with them.
pub(crate) fn is_certain(why: &Refusal, cx: &CheckContext) -> bool {
    let Refusal::Hole { hole, .. } = why else { return false };
    let is_absent = match hole.fault {
        Fault::Missing | Fault::OnlyIn { .. } => true,
        // Another copy may be whole, or read well the next time.
        Fault::WrongSize { .. } | Fault::Damaged(_) => false,
    };
    let comes = cx.actions_before.iter().any(|action| !BRING_NOTHING.contains(&action.as_str()));
    is_absent && !comes && cx.foreseen.machine() == Machine::AsItIs
}

/// The first segment of a hole.
pub(crate) fn first(why: &Refusal) -> Option<SegmentName> {
    match why {
        Refusal::Hole { hole, .. } => Some(hole.first),
        _ => None,
    }
}

/// What leads on: the segments, wherever they are, or a recovery to the last position before the hole.
pub(crate) fn ways_out(why: &Impossible, cluster: &Cluster, cx: &CheckContext) -> String {
    let Some((timeline, lsn)) = why.before_hole else { return ELSEWHERE.to_owned() };
    let params =
        [format!("database={}", cluster.name), format!("recover_to_lsn={lsn}"), format!("timeline={timeline}")];
    let params = params.iter().map(String::as_str).chain(["incident_at=now"]).flat_map(|param| ["-p", param]);
    let environment = &cx.about.environment;
    let is_protected = cx.about.inventory.environments.get(environment).is_some_and(|entry| entry.protected);
    let confirm = [("--confirm", environment.as_str())].into_iter().filter(|_| is_protected);
    let words = ["runbook", "run", "pitr", "-e", environment.as_str()].into_iter().chain(params);
    let command = command_line(words.chain(confirm.flat_map(|(option, word)| [option, word])));
    format!("{ELSEWHERE}; or give up what was committed behind the hole: `{command}`")
}
