//! A recovery that waits goes on to a later target: the server is stopped, told the new one, and started again.
//!
//! Nothing is restored anew. Replay cannot go back: for an earlier target the backup is staged once more.

use super::course::{self, Plan};
use super::intrusion;
use super::landing::Landing;
use super::recover::RecoverOutput;
use super::rescue::Tail;
use super::supply::{self, Aside};
use crate::action::{ActionError, Files, InstanceHandle, Waits};
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::cluster::pg_control::cannot;
use crate::actions::postgres::cluster::settings;
use crate::actions::postgres::restore::aim::{self, Aim};
use crate::actions::postgres::restore::fetching::{self, Fetching};
use crate::actions::postgres::restore::hands::Hands;
use crate::actions::postgres::restore::marker::{Marker, Waiting};
use crate::actions::postgres::stores::target::Goal;

/// Finds the recovery of this run that waits.
///
/// # Errors
/// Fails when the instance is none of this run, or is open already.
pub(crate) fn waiting(hands: &Hands<'_>, instance: &InstanceHandle) -> Result<(Marker, Waiting), ActionError> {
    let files = hands.cx.host.files();
    let marker = Marker::read(files.as_ref(), &hands.cluster.pgdata)?;
    let run = instance.run.as_ref().unwrap_or(&hands.cx.about.run);
    let marker = marker.filter(|marker| marker.run == *run);
    let waits = marker.and_then(|marker| marker.waits.map(|waits| (marker, waits)));
    waits.ok_or_else(|| {
        let fact = format!("the instance in `{}` does not wait in a recovery of this run", instance.pgdata.display());
        ActionError::fatal(fact)
            .help("only what `postgres.recover` left with `action: pause` can go on; promotion is final")
    })
}

/// Takes a waiting recovery on to a later target.
///
/// # Errors
/// Fails when the target is not a later one that the archive has; the server waits as before then. Fails as the
/// replay does after that.
pub(crate) async fn advance(
    hands: &Hands<'_>,
    aim: &Aim,
    instance: &InstanceHandle,
) -> Result<RecoverOutput, ActionError> {
    let files = hands.cx.host.files();
    let (marker, waiting) = waiting(hands, instance)?;
    if waiting.waits == Waits::Standby {
        return Err(
            ActionError::fatal("a standby follows the archive by itself").help("promote it with `postgres.promote`")
        );
    }
    later(&aim.goal, &waiting)?;
    let (embedded, tail) = (marker.embedded(), Tail::default());
    let folders = supply::folders(&marker, &hands.cluster.pgdata);
    let aside = Aside { embedded: &embedded, folders: &folders, tail: &tail, files: files.as_ref() };
    let followed = marker.course.map(|course| course.timeline);
    let aim = &Aim { timeline: aim.timeline.or(followed), ..aim.clone() };
    let shelf = hands.shelf(&marker);
    let plan = course::settled(hands, &marker, aside, aim).await?;
    let through = match hands.cluster.is_scratch() {
        true => intrusion::refuse(plan.passage(&shelf, aside), &marker).await?,
        false => None,
    };
    if let Some(note) = &plan.note {
        hands.cx.reporter.note(note.clone(), serde_json::json!({ "timeline": plan.course.timeline.0 }));
    }
    if !live::signs(hands.cluster, files.as_ref()).await?.is_empty() {
        hands.server(files.as_ref())?.stop(hands.cx.host.as_ref()).await?;
    }
    let (to_target, wal_location) = (plan.goal != Goal::Newest, hands.location.clone());
    let (course, by_landmark) = (Some(plan.course), aim.is_by_landmark());
    let asked = Some(aim.asked());
    let marker = Marker { course, to_target, asked, by_landmark, wal_location, ..marker };
    tell(hands, aim, &plan, files.as_ref())?;
    let fetching = Fetching::of(hands, marker.system_id)?.through(through);
    fetching.write(files.as_ref(), &hands.cluster.pgdata, &hands.owner).map_err(|error| cannot(&error))?;
    marker.write(files.as_ref(), &hands.cluster.pgdata, &hands.owner)?;
    Landing { hands, marker }.land(aim).await
}

/// Refuses a target that replay has passed. Where a transaction or a restore point lies, only the WAL tells: those are
/// judged where they are looked for, as the course is decided.
fn later(goal: &Goal, waiting: &Waiting) -> Result<(), ActionError> {
    let passed = match goal {
        Goal::Time(at) => waiting.newest_commit.filter(|newest| newest > at).map(|newest| newest.to_string()),
        Goal::Lsn(lsn) => (*lsn < waiting.reached).then(|| waiting.reached.to_string()),
        Goal::Immediate => Some(waiting.reached.to_string()),
        Goal::Newest | Goal::Name(_) | Goal::Xid(_) => None,
    };
    passed.map_or(Ok(()), |reached| Err(aim::passed(goal, &reached)))
}

/// Writes the new target into the stopped data directory.
fn tell(hands: &Hands<'_>, aim: &Aim, plan: &Plan, files: &dyn Files) -> Result<(), ActionError> {
    let pgdata = &hands.cluster.pgdata;
    let aim = Aim { goal: plan.goal.clone(), ..aim.clone() };
    let auto = pgdata.join(settings::FILE);
    let text = files.read(&auto, 1 << 24).map_err(|error| cannot(&error))?;
    let mut lines = vec![("restore_command".to_owned(), fetching::restore_command(&hands.program))];
    lines.extend(aim.settings(plan.timeline));
    let text = settings::within_block(&String::from_utf8_lossy(&text), &lines);
    hands.write(files, &auto, &text).map_err(|error| cannot(&error))?;
    let signal = aim.signal(&plan.goal);
    hands.write(files, &pgdata.join(signal), "").map_err(|error| cannot(&error))?;
    aim::remove_other_signal(files, pgdata, signal).map_err(|error| cannot(&error))
}
