//! A recovery that waits goes on to a later target: the server is stopped, told the new one, and started again.
//!
//! Nothing is restored anew. Replay cannot go back: for an earlier target the backup is staged once more.

use super::completion::Completion;
use super::outside_writes;
use super::recover::RecoverOutput;
use super::replay_plan::{self, ReplayPlan};
use super::rescue::Tail;
use super::takeover;
use super::wal_source::{self, UnarchivedWal};
use crate::action::{ActionError, Files, InstanceHandle, Waits};
use crate::actions::postgres::cluster::live;
use crate::actions::postgres::cluster::pg_control::cannot;
use crate::actions::postgres::cluster::settings;
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::fetching::{self, Fetching};
use crate::actions::postgres::restore::marker::{Marker, Waiting};
use crate::actions::postgres::restore::recovery_target::{self, RecoveryTarget};
use crate::actions::postgres::stores::target::Goal;

/// Finds the recovery of this run that waits.
///
/// # Errors
/// Fails when the instance is none of this run, or is open already.
pub(crate) fn waiting(
    context: &RecoveryContext<'_>,
    instance: &InstanceHandle,
) -> Result<(Marker, Waiting), ActionError> {
    let files = context.cx.host.files();
    let marker = Marker::read(files.as_ref(), &context.cluster.pgdata)?;
    let run = instance.run.as_ref().unwrap_or(&context.cx.about.run);
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
    context: &RecoveryContext<'_>,
    recovery_target: &RecoveryTarget,
    instance: &InstanceHandle,
) -> Result<RecoverOutput, ActionError> {
    let files = context.cx.host.files();
    let (marker, waiting) = waiting(context, instance)?;
    let followed = marker.course.map(|course| course.timeline);
    let recovery_target =
        &RecoveryTarget { timeline: recovery_target.timeline.or(followed), ..recovery_target.clone() };
    // Opened on this way already, and not proven: replay does not begin again.
    if marker.has_opened() || marker.given_up.is_some() {
        if let Some(what) = takeover::other(&marker, recovery_target).filter(|_| marker.has_opened()) {
            let place = instance.pgdata.display();
            let fact =
                format!("the instance in `{place}` was asked for another {what} and has opened: promotion is final");
            return Err(ActionError::fatal(fact).help("for another target the backup is staged once more"));
        }
        return Completion { context, marker }.complete(recovery_target).await;
    }
    if waiting.waits == Waits::Standby {
        return Err(
            ActionError::fatal("a standby follows the archive by itself").help("promote it with `postgres.promote`")
        );
    }
    later(&recovery_target.goal, &waiting)?;
    let (embedded, tail) = (marker.embedded(), Tail::default());
    let folders = wal_source::folders(&marker, &context.cluster.pgdata);
    let aside = UnarchivedWal { embedded: &embedded, folders: &folders, tail: &tail, files: files.as_ref() };
    let wal_archive = context.wal_archive(&marker);
    let plan = replay_plan::settled(context, &marker, aside, recovery_target).await?;
    let through = match context.cluster.is_scratch() {
        true => outside_writes::refuse(plan.passage(&wal_archive, aside), &marker).await?,
        false => None,
    };
    for note in &plan.notes {
        context.cx.reporter.note(note.clone(), serde_json::json!({ "timeline": plan.course.timeline.0 }));
    }
    if !live::signs(context.cluster, files.as_ref()).await?.is_empty() {
        context.server(files.as_ref())?.stop(context.cx.host.as_ref()).await?;
    }
    let (to_target, wal_location) = (plan.goal != Goal::Newest, context.location.clone());
    let (course, by_landmark) = (Some(plan.course), recovery_target.is_by_landmark());
    let asked = Some(recovery_target.asked());
    let marker = Marker { course, to_target, asked, by_landmark, wal_location, ..marker };
    tell(context, recovery_target, &plan, files.as_ref())?;
    let fetching = Fetching::of(context, marker.system_id)?.through(through);
    fetching.write(files.as_ref(), &context.cluster.pgdata, &context.owner).map_err(|error| cannot(&error))?;
    marker.write(files.as_ref(), &context.cluster.pgdata, &context.owner)?;
    Completion { context, marker }.complete(recovery_target).await
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
    passed.map_or(Ok(()), |reached| Err(recovery_target::passed(goal, &reached)))
}

/// Writes the new target into the stopped data directory.
fn tell(
    context: &RecoveryContext<'_>,
    recovery_target: &RecoveryTarget,
    plan: &ReplayPlan,
    files: &dyn Files,
) -> Result<(), ActionError> {
    let pgdata = &context.cluster.pgdata;
    let recovery_target = RecoveryTarget { goal: plan.goal.clone(), ..recovery_target.clone() };
    let auto = pgdata.join(settings::FILE);
    let text = files.read(&auto, 1 << 24).map_err(|error| cannot(&error))?;
    let mut lines = vec![("restore_command".to_owned(), fetching::restore_command(&context.program))];
    lines.extend(recovery_target.settings(plan.timeline));
    let text = settings::within_block(&settings::text_of(&text), &lines);
    context.write(files, &auto, &text).map_err(|error| cannot(&error))?;
    let signal = recovery_target.signal(&plan.goal);
    context.write(files, &pgdata.join(signal), "").map_err(|error| cannot(&error))?;
    recovery_target::remove_other_signal(files, pgdata, signal).map_err(|error| cannot(&error))
}
