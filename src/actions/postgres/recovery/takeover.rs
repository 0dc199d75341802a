//! Goes on with the recovery of an earlier run whose staged backup lies in its place already.
//!
//! `--from` hands the step of a new run what the earlier one had staged. Where that run swapped it in and failed later, nothing
//! has to be restored again: its server is followed to the end, and what the run did not come to is proven.

use serde_json::json;

use super::completion::Completion;
use super::recover::RecoverOutput;
use crate::action::{ActionError, ReadFiles, StagedHandle};
use crate::actions::postgres::cluster::layout::Cluster;
use crate::actions::postgres::restore::context::RecoveryContext;
use crate::actions::postgres::restore::freezing;
use crate::actions::postgres::restore::marker::Marker;
use crate::actions::postgres::restore::recovery_target::RecoveryTarget;
use crate::actions::postgres::stores::target::Goal;
use crate::base::RunId;

/// The unfinished recovery in a cluster's place that a run may go on with: its own, or the one that what it was handed was
/// staged for.
///
/// # Errors
/// Fails when the marker of that recovery makes no sense.
pub(crate) fn unfinished(
    cluster: &Cluster,
    (run, staged): (&RunId, Option<&StagedHandle>),
    files: &dyn ReadFiles,
) -> Result<Option<Marker>, ActionError> {
    let Some(marker) = Marker::read(files, &cluster.pgdata)? else { return Ok(None) };
    let place = cluster.staged(files, &marker.run);
    let is_swapped_in = || matches!(files.facts(&place), Ok(None));
    let is_ours = marker.run == *run || staged.is_some_and(|handle| handle.dir == place && is_swapped_in());
    Ok(is_ours.then_some(marker))
}

/// Ends the recovery that an earlier run began.
///
/// # Errors
/// Fails when that recovery was asked for another target, timeline or ending; and as [`Completion::complete`].
pub(crate) async fn go_on(
    context: &RecoveryContext<'_>,
    marker: Marker,
    recovery_target: &RecoveryTarget,
) -> Result<RecoverOutput, ActionError> {
    if let Some(what) = other(&marker, recovery_target) {
        let fact = format!("the recovery that run `{}` left has another {what}", marker.run);
        return Err(ActionError::fatal(fact).help("leave `--from` out: the backup is staged and recovered anew then"));
    }
    // Who began it may have said that it is given up; and it may take hours from here.
    freezing::begin(context.cluster, context.cx).await;
    let message = format!("the recovery of run `{}` goes on: nothing is restored again", marker.run);
    context.cx.reporter.note(message, json!({ "run": marker.run }));
    Completion { context, marker }.complete(recovery_target).await
}

/// What an earlier run asked of its recovery and is asked otherwise now, in words. A timeline that is named now and is
/// the one it follows is no other one.
pub(super) fn other(marker: &Marker, recovery_target: &RecoveryTarget) -> Option<&'static str> {
    let Some(asked) = &marker.asked else {
        return (marker.to_target != (recovery_target.goal != Goal::Newest)).then_some("target");
    };
    let followed = marker.course.map(|course| course.timeline);
    let is_followed = recovery_target.timeline == asked.timeline
        || recovery_target.timeline.is_some() && recovery_target.timeline == followed;
    let is_ending = asked.ending.is_none_or(|ending| ending == recovery_target.ending);
    match (asked.goal == recovery_target.goal && asked.edge == recovery_target.edge, is_followed, is_ending) {
        (false, _, _) => Some("target"),
        (true, false, _) => Some("timeline"),
        (true, true, false) => Some("`action` at its end"),
        (true, true, true) => None,
    }
}
